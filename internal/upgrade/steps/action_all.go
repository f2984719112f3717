package steps

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/lib/clock"
	"holdfast/internal/upgrade/check/faults"
	"holdfast/internal/upgrade/command"
)

// AllHosts is what an action needs to know of the other hosts when its program changes all
// of them (manifest.AllHosts).
type AllHosts interface {
	// Active says that this host is the active manager, and who says so. The error says
	// that it is not, or that nobody knows.
	Active(ctx context.Context) (said string, err error)
	// Behind names the hosts of a job that do not report a version; "": all report it.
	// Not known: an operator has confirmed that it can not be read.
	Behind(ctx context.Context, job, version string) (known bool, behind string, err error)
}

// How long after such a program the new version is looked for: its last part may still be
// under way on the hosts.
const (
	actionSettle = 5 * time.Second
	actionLooks  = 10 // in this time
)

// before says whether a program that changes all hosts is to be begun. One that has failed
// may have changed all of them.
func (s *actionStep) before(ctx context.Context) (r program.Result, over bool) {
	known, behind, err := s.a.AllHosts.Behind(ctx, s.t.Job, s.args.To)
	switch {
	case err != nil:
		return program.Result{State: program.Failed, Exit: -1,
			Why: fmt.Sprintf("nothing was begun: the hosts can not be asked for their version: %v", err)}, true
	case known && behind == "":
		return s.onceMore(), true
	}
	said, err := s.a.AllHosts.Active(ctx)
	if err != nil {
		return program.Result{State: program.Failed, Exit: -1, Why: fmt.Sprintf("nothing was begun: %v", err)}, true
	}
	program.Say(s.t.Log, "%s", said)
	return r, false
}

// onceMore is what a repetition comes to when all hosts have the version: nothing is begun, and
// what the program has found by itself counts until an operator says that it is mended. Who ran
// it elsewhere has left a report.
func (s *actionStep) onceMore() program.Result {
	r, err := s.step.Begun()
	var hits []faults.Hit
	switch {
	case err != nil:
	case r.State == program.NotDone:
		hits, err = s.newest()
	default:
		hits, err = s.said(r)
	}
	r = program.Result{State: program.Done, OutputFile: r.OutputFile}
	if err != nil {
		hits = append(hits, faults.NotRead(err))
	}
	if why := s.ownCheck(hits); why != "" {
		r.State, r.Exit, r.Why = program.Failed, -1, fmt.Sprintf("nothing was begun: all hosts report %s, and %s", s.args.To, why)
		return r
	}
	program.Say(s.t.Log, "nothing is to be done: all hosts report %s", s.args.To)
	return r
}

// newest reads the last report that the program has left on this host, whoever ran it.
func (s *actionStep) newest() (hits []faults.Hit, err error) {
	file, err := s.known.Newest(faults.Source{Module: s.args.Module, Phase: string(s.args.Phase)})
	if err == nil && file != "" {
		hits, err = s.known.Report(file, time.Time{})
	}
	command.Tell(s.t, hits)
	return hits, err
}

// ownCheck says which fault the program's own check has found, "" for none. It is of
// the hosts, and that these have the version does not disprove it.
func (s *actionStep) ownCheck(hits []faults.Hit) string {
	bad := slices.DeleteFunc(slices.Clone(hits), func(h faults.Hit) bool {
		return h.Level != faults.Fail || h.File == "" && h.ID != faults.MarkedFail && h.ID != faults.Unread
	})
	if len(bad) == 0 {
		return ""
	}
	h, more := bad[0], ""
	if h.File != "" {
		more = " in " + h.File
	}
	if len(bad) > 1 {
		more += fmt.Sprintf(", and %d lines more", len(bad)-1)
	}
	if h.ID == faults.Unread {
		return fmt.Sprintf("the report of its own check can not be read: %s%s. Read it on this host. When it shows "+
			"no fault: holdfast upgrade skip %s --reason WHY. To have it read again: holdfast upgrade retry %s", h.Text,
			more, s.t.Step.ID, s.t.Step.ID)
	}
	return fmt.Sprintf("its own check has found a fault: %q%s. Correct it by hand before any host is rebooted, then: "+
		"holdfast upgrade skip %s --reason WHY", h.Text, more, s.t.Step.ID)
}

// judge says what became of a program that changes all hosts. Its exit code is not enough:
// such programs end with 0 when they have failed, too.
func (s *actionStep) judge(ctx context.Context, r program.Result, settle time.Duration) program.Result {
	fail := func(format string, args ...any) program.Result {
		r.State, r.Why = program.Failed, "ended with exit code 0, but "+fmt.Sprintf(format, args...)
		return r
	}
	var hits []faults.Hit
	switch r.State {
	case program.Done:
		var err error
		if hits, err = s.said(r); err != nil {
			return fail("what it has said can not be read: %v", err)
		}
		for _, h := range hits {
			if h.Level == faults.Fail && s.ownCheck([]faults.Hit{h}) == "" {
				return fail("has said %q. %s What to do: %s Then: holdfast upgrade retry %s; nothing is done twice "+
					"when all hosts have the new version", h.Text, h.Causes[0].Cause, h.Causes[0].Remedy, s.t.Step.ID)
			}
		}
	case program.Unknown: // if all hosts have the version, it was done
		settle = 0
	default:
		return r
	}
	known, behind, err := s.readBack(ctx, settle)
	switch {
	case r.State == program.Unknown:
		if err != nil || !known || behind != "" {
			return r
		}
		program.Say(s.t.Log, "it was done: all hosts report %s", s.args.To)
		r.State = program.Done
		if hits, err = s.said(r); err != nil {
			return fail("what it has said can not be read: %v", err)
		}
	case err != nil:
		return fail("the hosts can not be asked for their version: %v", err)
	case known && behind != "":
		return fail("not all hosts report version %s: %s. Read what the program has said and remove the cause, then: "+
			"holdfast upgrade retry %s. Or abort the run and roll back: holdfast upgrade abort, holdfast "+
			"upgrade rollback", s.args.To, behind, s.t.Step.ID)
	case known:
		program.Say(s.t.Log, "read back: all hosts report %s", s.args.To)
	}
	if why := s.ownCheck(hits); why != "" {
		return fail("%s", why)
	}
	return r
}

// readBack asks the hosts until all have the new version, or the time is over.
func (s *actionStep) readBack(ctx context.Context, settle time.Duration) (known bool, behind string, err error) {
	for end := time.Now().Add(settle); ; {
		known, behind, err = s.a.AllHosts.Behind(ctx, s.t.Job, s.args.To)
		if err == nil && (!known || behind == "") || !time.Now().Before(end) {
			return known, behind, err
		}
		s.t.Note("reads the version of all hosts: "+cmp.Or(behind, fmt.Sprint(err)), -1)
		if !clock.Sleep(ctx, settle/actionLooks) {
			return known, behind, context.Cause(ctx)
		}
	}
}
