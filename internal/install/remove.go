package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// Removed is what an uninstallation has done, by host.
type Removed struct {
	Report
	Gone map[string][]string `json:"gone,omitempty"`
	Left map[string][]string `json:"left,omitempty"` // what stays, with the reason
}

// Uninstall stops the management VM of a cluster, ends the agents, and takes
// everything of ours off the hosts. The image and all else in the shared directory
// stay. A host that can not be reached makes it refuse: what runs there would go
// on without a cluster.
func Uninstall(ctx context.Context, o Options) (res Removed, err error) {
	r := &run{Options: o, targets: append(Members(o.Config), o.Guests...), conns: map[string]Conn{}}
	defer func() { err = errors.Join(err, r.close()) }()
	r.connect(ctx, r.targets, Fail)
	if res.Report = report(r.found); !res.OK {
		return res, ctx.Err()
	}
	if err := r.gather(ctx, r.targets); err != nil {
		return res, err
	}
	j := &judgement{cfg: o.Config, base: o.Base}
	j.cluster(r.sights)
	if r.found = append(r.found, j.out...); !report(r.found).OK {
		res.Report = report(r.found)
		return res, nil
	}
	if err := r.setupElsewhere(ctx); err != nil {
		return res, err
	}
	if o.Begin != nil {
		if err := o.Begin(); err != nil {
			return res, err
		}
	}
	if err := r.stopGuest(ctx); err != nil {
		return res, err
	}
	r.Tell("", "the agents end")
	if err := r.each(r.targets, func(h Host) error { _, err := r.ask(ctx, h, Request{Do: DoStop}); return err }); err != nil {
		return res, fmt.Errorf("end the agents: %w", err)
	}
	return res, r.remove(ctx, &res)
}

// setupElsewhere refuses while a set-up or a recovery of a pair is at work on another host than the last one,
// or was begun there: it would go on, or be run again.
func (r *run) setupElsewhere(ctx context.Context) error {
	if r.Config.Type != config.PairConf {
		return nil
	}
	return r.each(r.targets, func(h Host) error {
		if h.Name == r.Last {
			return nil
		}
		begun, err := Begun(ctx, r.conn(h))
		if err == nil && begun != "" {
			err = fail.Errorf(fail.Refused, "%s; nothing was changed", begun).With("run this there")
		}
		return err
	})
}

// stopGuest makes sure that the management VM is off everywhere: by the cluster's
// word where an agent answers, else by that of all hypervisors. A pair's group ends
// with its agents in any case.
func (r *run) stopGuest(ctx context.Context) error {
	var alive []Host
	ended := false
	for _, s := range r.sights {
		if s.host.Guests {
			continue
		}
		if s.facts.Installed != nil && s.facts.Installed.Active {
			alive = append(alive, s.host)
		} else {
			ended = true
		}
	}
	if len(alive) > 0 && !(ended && r.stoppedBefore(ctx, alive)) {
		r.Tell("", r.protected()+" stops")
		var errs []error
		for _, h := range alive { // any agent can do it, and one that has just joined the store again may be slow
			err := r.stopBy(ctx, h)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	var errs []error
	for _, s := range r.sights {
		why, unknown := s.facts.Unknown["libvirt"]
		switch {
		case s.facts.Installed == nil, s.facts.Installed.Active && !s.host.Guests, r.Config.Type == config.PairConf:
		case unknown:
			errs = append(errs, fmt.Errorf("%s: no agent answers, and its hypervisor does not say whether the "+
				"management VM runs there: %s", s.host.Name, why))
		case s.facts.Domain != "" && s.facts.Domain != "off":
			errs = append(errs, fmt.Errorf("%s: no agent answers, and the management VM is %s there: shut it down first", s.host.Name,
				s.facts.Domain))
		}
	}
	return errors.Join(errs...)
}

// stoppedBefore reports that an earlier call has stopped it and has ended agents, so that the
// others have no quorum in which to ask for it again: by what each of them knows.
func (r *run) stoppedBefore(ctx context.Context, alive []Host) bool {
	for _, h := range alive {
		st, err := r.statusOf(ctx, h)
		off := st.Owner.State == "" || cluster.OwnerState(st.Owner.State) == cluster.Released
		if err != nil || st.Connected || st.Want.Run || !off {
			return false
		}
	}
	return true
}

// protected is what the cluster protects.
func (r *run) protected() string {
	if r.Config.Type == config.PairConf {
		return "what the pair runs"
	}
	return "the management VM"
}

// stopBy has the agent of a host stop the management VM, and reads whether it is off.
func (r *run) stopBy(ctx context.Context, h Host) error {
	if _, err := r.ask(ctx, h, Request{Do: DoAgent, Args: []string{"stop"}}); err != nil {
		return fmt.Errorf("stop %s: %w", r.protected(), err)
	}
	st, err := r.statusOf(ctx, h)
	if err != nil {
		return fmt.Errorf("ask whether %s has stopped: %w", r.protected(), err)
	}
	if s := cluster.OwnerState(st.Owner.State); s != "" && s != cluster.Released {
		return fmt.Errorf("%s is %s on %s", r.protected(), s, st.Owner.Host)
	}
	return nil
}

func (r *run) remove(ctx context.Context, res *Removed) error {
	r.Tell("", "files")
	res.Gone, res.Left = map[string][]string{}, map[string][]string{}
	// The content need not travel.
	var paths []File
	for _, f := range r.Files {
		paths = append(paths, File{Path: f.Path, Link: f.Link})
	}
	var mu sync.Mutex
	one := func(h Host) error {
		a, err := r.ask(ctx, h, Request{Do: DoRemove, Files: paths})
		mu.Lock()
		defer mu.Unlock()
		res.Gone[h.Name], res.Left[h.Name] = a.Changed, a.Left
		if err != nil {
			return fmt.Errorf("%w (gone so far: %s)", err, strings.Join(a.Changed, ", "))
		}
		return nil
	}
	last := func(h Host) bool { return h.Name == r.Last }
	if err := r.each(slices.DeleteFunc(slices.Clone(r.targets), last), one); err != nil {
		return err
	}
	return r.each(slices.DeleteFunc(slices.Clone(r.targets), func(h Host) bool { return !last(h) }), one)
}
