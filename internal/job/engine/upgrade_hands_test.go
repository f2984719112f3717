package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/upgrade"
)

// hand does the steps of one kind on a host of the plant, and answers probes as the
// agents' Executors do.
type hand struct {
	w    *upWorld
	p    *process
	kind string
}

// stopHand is a hand that can stop what an earlier process has begun.
type stopHand struct{ hand }

func (w *upWorld) hands(p *process) map[string]Executor {
	out := map[string]Executor{}
	for _, k := range []string{
		upgrade.KindCheck, upgrade.KindStage, evacuate.KindDrain, evacuate.KindUndrain, upgrade.KindStorageDetach, upgrade.KindStorageAttach,
		upgrade.KindBackup, upgrade.KindRestore, upgrade.KindReboot, upgrade.KindVerify, upgrade.KindVMStop, upgrade.KindVMStart,
		upgrade.KindO2CB, upgrade.KindCommit, upgrade.KindCleanup, upgrade.KindTidy,
	} {
		out[k] = hand{w, p, k}
	}
	for _, k := range []string{
		upgrade.KindHAOff, upgrade.KindHAOn, upgrade.KindPairSwitch, upgrade.KindPairStart, upgrade.KindPairStop, upgrade.KindAction,
	} {
		out[k] = stopHand{hand{w, p, k}}
	}
	return out
}

// handTakes is how long what is done at once takes, different for each step so that
// little happens at the same moment.
func handTakes(t Task) time.Duration { return 15*time.Millisecond + length(t.Step.ID)%time.Second/100 }

var errGone = errors.New("process is dead")

// argsOf reads the arguments of a task.
func argsOf[A any](t Task) (a A, err error) {
	if err := json.Unmarshal(t.Step.Args, &a); err != nil {
		return a, fmt.Errorf("arguments of %s: %w", t.Step.ID, err)
	}
	return a, nil
}

// point is a boundary: what happens there is seen by all, or the process dies.
func (d hand) point(t Task, what string, f func(p *plant)) bool {
	d.w.pass()
	return d.p.point(what+" "+t.Step.ID, func() {
		d.w.plant.mu.Lock()
		defer d.w.plant.mu.Unlock()
		f(d.w.plant)
	})
}

// do is a boundary with a little time before.
func (d hand) do(ctx context.Context, t Task, what string, f func(p *plant)) error {
	switch {
	case !clock.Sleep(ctx, handTakes(t)):
		return context.Cause(ctx)
	case !d.point(t, what, f):
		return errGone
	}
	return nil
}

// peek reads from the plant.
func peek[T any](d hand, f func(p *plant) T) T {
	d.w.plant.mu.Lock()
	defer d.w.plant.mu.Unlock()
	return f(d.w.plant)
}

func (d hand) Do(ctx context.Context, t Task) error {
	switch d.kind {
	case upgrade.KindCheck:
		return d.check(ctx, t)
	case upgrade.KindStage:
		return d.do(ctx, t, "stage", func(p *plant) { p.Hosts[t.Host].Staged = true })
	case upgrade.KindHAOff, upgrade.KindHAOn, upgrade.KindPairSwitch, upgrade.KindPairStart, upgrade.KindPairStop:
		return d.turn(ctx, t)
	case evacuate.KindDrain:
		return d.drain(ctx, t)
	case evacuate.KindUndrain:
		return d.undrain(ctx, t)
	case upgrade.KindStorageDetach, upgrade.KindStorageAttach:
		return d.storage(ctx, t)
	case upgrade.KindBackup, upgrade.KindRestore:
		return d.copies(ctx, t)
	case upgrade.KindAction:
		return d.action(ctx, t)
	case upgrade.KindReboot:
		return d.reboot(ctx, t)
	case upgrade.KindVerify:
		return d.verify(ctx, t)
	case upgrade.KindVMStop, upgrade.KindVMStart:
		return d.power(ctx, t)
	case upgrade.KindO2CB:
		a, err := argsOf[upgrade.O2CBArgs](t)
		return errors.Join(err, d.do(ctx, t, "set", func(p *plant) { p.Hosts[t.Host].Threshold = a.Threshold }))
	case upgrade.KindCommit:
		a, err := argsOf[upgrade.CommitArgs](t)
		return errors.Join(err, d.do(ctx, t, "raise", func(p *plant) { p.Version, p.Committed = a.To, true }))
	case upgrade.KindCleanup:
		a, err := argsOf[upgrade.CleanupArgs](t)
		return errors.Join(err, d.do(ctx, t, "clean", func(p *plant) { p.cleanup(t, a.Run) }))
	case upgrade.KindTidy:
		a, err := argsOf[upgrade.TidyArgs](t)
		return errors.Join(err, d.do(ctx, t, "tidy", func(p *plant) { p.tidy(t, a.Staged) }))
	}
	return fmt.Errorf("no hand for %s", d.kind)
}

func (p *plant) cleanup(t Task, run string) {
	if !p.Committed {
		p.fault("%s before the version is raised", t.Step.ID)
	}
	p.clean(t, run, false)
}

// tidy is right when nobody can go back on what was done before.
func (p *plant) tidy(t Task, staged bool) {
	for key, m := range p.Modules {
		if p.plan.Purpose == upgrade.ForRollback && m.Version != plantOld {
			p.fault("%s while module %s has version %s", t.Step.ID, key, m.Version)
		}
	}
	if p.plan.Purpose == upgrade.ForUpgrade && len(p.plan.Begin.Hosts) > 0 {
		p.fault("%s in a run that goes on with an earlier one", t.Step.ID)
	}
	p.clean(t, "", staged)
}

// clean removes the backups of a run from a host, or of all runs.
func (p *plant) clean(t Task, run string, staged bool) {
	for key, made := range p.Backups {
		if (run == "" || made == run) && strings.HasPrefix(key, string(t.Host)+"/") {
			delete(p.Backups, key)
		}
	}
	p.Hosts[t.Host].Staged = p.Hosts[t.Host].Staged && staged
}

// check looks at a host, or at all.
func (d hand) check(ctx context.Context, t Task) error {
	a, err := argsOf[upgrade.CheckArgs](t)
	if err != nil {
		return err
	}
	if !clock.Sleep(ctx, handTakes(t)) {
		return context.Cause(ctx)
	}
	return peek(d, func(p *plant) error {
		want := p.plan.To
		var bad []string
		if t.Step.Host == "" && !p.HA {
			bad = append(bad, "HA is off")
		}
		for name, h := range p.Hosts {
			if t.Step.Host != "" && t.Step.Host != name {
				continue
			}
			if !h.Staged {
				bad = append(bad, fmt.Sprintf("%s has no bundle", name))
			}
			for _, m := range []string{"base", "web"} {
				x := p.Modules[string(name)+"/"+m]
				if a.When != upgrade.Before && a.When != upgrade.BeforeRollback && (x.Version != want || !x.Runs) {
					bad = append(bad, fmt.Sprintf("%s: module %s has version %s (runs: %v)", name, m, x.Version, x.Runs))
				}
			}
			for _, m := range a.Backups {
				if p.Backups[string(name)+"/"+m] != a.Run {
					bad = append(bad, fmt.Sprintf("%s: run %s has no backup of %s", name, a.Run, m))
				}
			}
		}
		if len(bad) > 0 {
			return errors.New(strings.Join(bad, "; "))
		}
		return nil
	})
}

// turn runs a program of the platform that switches something.
func (d hand) turn(ctx context.Context, t Task) error {
	if peek(d, func(p *plant) bool { k := p.kids[t.Step.ID]; return (k == nil || k.state != "runs") && p.wanted(t) }) {
		return nil // it is so already
	}
	return d.program(ctx, t, func(p *plant) bool {
		h := p.Hosts[t.Host]
		switch t.Step.Kind {
		case upgrade.KindHAOff:
			p.HA = false
		case upgrade.KindHAOn:
			p.HA = true
		case upgrade.KindPairSwitch:
			if !h.Pair {
				p.fault("%s becomes the active manager, and its services do not run", t.Host)
			}
			p.Active = t.Host
		case upgrade.KindPairStart:
			h.Pair = true
		case upgrade.KindPairStop:
			if p.Active == t.Host && p.plan.Options.Mode == manifest.Rolling {
				p.fault("the services of the active manager are stopped on %s", t.Host)
			}
			h.Pair = false
		}
		return true
	})
}

// wanted is what the status program says.
func (p *plant) wanted(t Task) bool {
	h := p.Hosts[t.Host]
	switch t.Step.Kind {
	case upgrade.KindHAOff:
		return !p.HA
	case upgrade.KindHAOn:
		return p.HA
	case upgrade.KindPairSwitch:
		return p.Active == t.Host && h.Pair
	case upgrade.KindPairStart:
		return h.Pair
	}
	return !h.Pair
}

// program runs a program that outlives this process, or follows what an earlier
// attempt has begun and what nobody was told about.
func (d hand) program(ctx context.Context, t Task, effect func(p *plant) (ok bool)) error {
	id := t.Step.ID
	find := func(p *plant) *kid { return p.kids[id] }
	k := peek(d, find)
	if k == nil || k.state != "runs" && k.attempt != t.Attempt && k.owed < t.Attempt-1 {
		if !d.point(t, "run", func(p *plant) { p.spawn(id, t.Attempt, effect) }) {
			return errGone
		}
		k = peek(d, find)
	}
	select {
	case <-k.over:
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), ErrStopping) {
			return context.Cause(ctx)
		}
		d.halt(id)
		if peek(d, func(*plant) bool { return k.state == "stopped" }) {
			return context.Cause(ctx)
		}
	}
	switch peek(d, func(*plant) string { return k.state }) {
	case "done":
		return nil
	case "failed":
		return &Exit{1, errors.New(id + " ended with 1")}
	}
	return fmt.Errorf("%s: %w", id, ErrUnclear)
}

// spawn begins a program. Halfway it does what it is for.
func (p *plant) spawn(id string, attempt int, effect func(p *plant) bool) {
	k := &kid{attempt: attempt, state: "runs", over: make(chan struct{})}
	p.kids[id] = k
	ok := false
	then := func(after time.Duration, f func()) {
		time.AfterFunc(after, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if k.state == "runs" {
				f()
			}
		})
	}
	takes := length(id) / 2
	then(takes/2, func() { p.effects[id]++; ok = effect(p) })
	then(takes, func() {
		if k.state = "failed"; ok {
			k.state = "done"
		}
		close(k.over)
	})
}

func (d hand) halt(id string) {
	peek(d, func(p *plant) bool {
		if k := p.kids[id]; k != nil && k.state == "runs" {
			k.state = "stopped"
			close(k.over)
		}
		return true
	})
}

func (d stopHand) Stop(_ context.Context, t Task) error {
	d.halt(t.Step.ID)
	return nil
}

// action does what a module does. The programs of module base leave traces, the
// others do not.
func (d hand) action(ctx context.Context, t Task) error {
	a, err := argsOf[upgrade.ActionArgs](t)
	if err != nil {
		return err
	}
	if a.Module == "base" {
		return d.program(ctx, t, func(p *plant) bool {
			p.acts(t.Host, a)
			return a.Phase != manifest.PostCheck || p.FailsOn != t.Host || p.plan.Purpose != upgrade.ForUpgrade
		})
	}
	if err := d.do(ctx, t, "act", func(p *plant) { p.effects[t.Step.ID]++; p.acts(t.Host, a) }); err != nil {
		return err
	}
	if !clock.Sleep(ctx, handTakes(t)) {
		return fmt.Errorf("%w: %w", ErrUnclear, context.Cause(ctx))
	}
	return nil
}

// copies backs up and restores.
func (d hand) copies(ctx context.Context, t Task) error {
	a, err := argsOf[upgrade.RestoreArgs](t)
	if err != nil {
		return err
	}
	key := string(t.Host) + "/" + a.Module
	return d.do(ctx, t, d.kind, func(p *plant) {
		p.effects[t.Step.ID]++
		if d.kind == upgrade.KindBackup {
			p.backUp(key, a.Run)
			return
		}
		p.acts(t.Host, upgrade.ActionArgs{Run: a.Run, Module: a.Module, Phase: manifest.Rollback, From: p.plan.To})
		p.Restored[key] = t.Job
	})
}

func (d hand) Probe(_ context.Context, t Task) (Probed, error) {
	p := d.w.plant
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probe(t, d.p.boot)
}

// probe answers as the agents' Executors do.
func (p *plant) probe(t Task, boot string) (Probed, error) {
	known := func(done bool, err error) (Probed, error) {
		if done {
			return ProbedDone, err
		}
		return NotDone, err
	}
	k, h := p.kids[t.Step.ID], p.Hosts[t.Host]
	switch t.Step.Kind {
	case upgrade.KindStage:
		return known(h.Staged, nil)
	case upgrade.KindHAOff, upgrade.KindHAOn, upgrade.KindPairSwitch, upgrade.KindPairStart, upgrade.KindPairStop:
		if k != nil && k.state == "runs" {
			return StillRunning, nil
		}
		return known(p.wanted(t), nil)
	case upgrade.KindAction:
		return p.probeAction(t, k)
	case evacuate.KindDrain:
		a, err := argsOf[evacuate.DrainArgs](t)
		return known(len(p.leaving(t, a)) == 0, err)
	case evacuate.KindUndrain:
		a, err := argsOf[evacuate.UndrainArgs](t)
		done := a.Maintenance || len(a.Back) > 0
		for _, m := range a.Back {
			done = done && (p.Guests[m.VM].Host == t.Host || m.How == evacuate.Protected)
		}
		return known(done, err)
	case upgrade.KindStorageDetach, upgrade.KindStorageAttach:
		a, err := argsOf[upgrade.StorageArgs](t)
		done, on := true, t.Step.Kind == upgrade.KindStorageAttach
		for _, pool := range a.Pools {
			done = done && h.Pools[pool.Name] == on && (!on || !pool.Multipath || h.Multipath[pool.Name])
		}
		return known(done, err)
	case upgrade.KindBackup, upgrade.KindRestore:
		a, err := argsOf[upgrade.RestoreArgs](t)
		key := string(t.Host) + "/" + a.Module
		return known(t.Step.Kind == upgrade.KindBackup && p.Backups[key] == a.Run ||
			t.Step.Kind == upgrade.KindRestore && p.Restored[key] == t.Job, err)
	case upgrade.KindVMStop, upgrade.KindVMStart:
		a, err := argsOf[upgrade.VMArgs](t)
		done := true
		for _, g := range a.Guests {
			done = done && p.Guests[g.Name].Runs == (t.Step.Kind == upgrade.KindVMStart)
		}
		return known(done, err)
	case upgrade.KindReboot:
		switch m := h.Mark; {
		case boot != t.Boot:
			return ProbedDone, nil
		case m.Job != t.Job || m.Step != t.Step.ID || m.Attempt != t.Attempt || m.Boot != t.Boot:
			return NotDone, nil
		case time.Since(m.At) < rebootPatience:
			return StillRunning, nil
		}
		return CanNotTell, nil
	case upgrade.KindO2CB:
		return known(h.Threshold == 61, nil)
	}
	return NotDone, nil // checks, commit and cleanup may be done again
}

// probeAction: a failure that nobody was told about counts as not done, and the
// next attempt tells it. Of what leaves no traces nobody can tell.
func (p *plant) probeAction(t Task, k *kid) (Probed, error) {
	a, err := argsOf[upgrade.ActionArgs](t)
	if err != nil || a.Module != "base" {
		return CanNotTell, err
	}
	switch {
	case k == nil || k.attempt != t.Attempt && k.state != "runs" && k.owed < t.Attempt-1:
		return NotDone, nil
	case k.state == "runs":
		k.owed = t.Attempt
		return StillRunning, nil
	case k.state == "done":
		return ProbedDone, nil
	case k.state == "failed", k.state == "stopped":
		k.owed = t.Attempt
		return NotDone, nil
	}
	return CanNotTell, nil
}

// did reports whether a step whose outcome the engine does not know was done: what
// an operator finds who looks at the host.
func (p *plant) did(s job.Step, r job.Record, boot string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.Kind == upgrade.KindReboot {
		return boot != r.Boot
	}
	return p.effects[s.ID] > 0
}
