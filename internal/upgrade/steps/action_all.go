package steps

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/sleep"
	"holdfast/internal/upgrade/check/faults"
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
		return program.Result{State: program.Failed, Exit: -1, Why: fmt.Sprintf("nothing was begun: the hosts can not be asked for their version: %v", err)}, true
	case known && behind == "":
		program.Say(s.t.Log, "nothing is to be done: all hosts report %s", s.args.To)
		return program.Result{State: program.Done}, true
	}
	said, err := s.a.AllHosts.Active(ctx)
	if err != nil {
		return program.Result{State: program.Failed, Exit: -1, Why: fmt.Sprintf("nothing was begun: %v", err)}, true
	}
	program.Say(s.t.Log, "%s", said)
	return r, false
}

// judge says what became of a program that changes all hosts. Its exit code is not enough:
// such programs end with 0 when they have failed, too.
func (s *actionStep) judge(ctx context.Context, r program.Result, settle time.Duration) program.Result {
	fail := func(format string, args ...any) program.Result {
		r.State, r.Why = program.Failed, "ended with exit code 0, but "+fmt.Sprintf(format, args...)
		return r
	}
	switch r.State {
	case program.Done:
		hit, err := s.knownFault(r)
		switch {
		case err != nil:
			return fail("what it has said can not be read: %v", err)
		case hit != nil:
			return fail("has said %q. %s What to do: %s Then repeat the step; nothing is done twice when all hosts have the new version", hit.Text, hit.Causes[0].Cause, hit.Causes[0].Remedy)
		}
	case program.Unknown: // if all hosts have the version, it was done
		settle = 0
	default:
		return r
	}
	known, behind, err := s.readBack(ctx, settle)
	switch {
	case r.State == program.Unknown:
		if err == nil && known && behind == "" {
			program.Say(s.t.Log, "it was done: all hosts report %s", s.args.To)
			r.State = program.Done
		}
		return r
	case err != nil:
		return fail("the hosts can not be asked for their version: %v", err)
	case known && behind != "":
		return fail("the version %s was not read back: %s. Look at what the program has said, and repeat the step when the cause is gone; or abort the run, and roll back", s.args.To, behind)
	case known:
		program.Say(s.t.Log, "read back: all hosts report %s", s.args.To)
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
		if !sleep.For(ctx, settle/actionLooks) {
			return known, behind, context.Cause(ctx)
		}
	}
}

// knownFault looks for known failures in what a program has said.
func (s *actionStep) knownFault(r program.Result) (*faults.Hit, error) {
	known, err := faults.Builtin()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(r.OutputFile)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it is only read
	hits, err := known.Match(faults.Source{Module: s.args.Module, Phase: string(s.args.Phase)}, f)
	if err != nil || len(hits) == 0 || hits[0].Level != faults.Fail {
		return nil, err
	}
	return &hits[0], nil
}
