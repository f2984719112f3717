package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

const (
	steadyTime = time.Second     // to look at before the fault
	quietTime  = 4 * time.Second // how long "none" is watched
	afterglow  = time.Second     // to look at after the recovery
	healAfter  = 2 * time.Second // from a takeover to the healing of the network
	stopLimit  = time.Minute     // for the VM to stop by itself without a quorum
	checkEvery = 20 * time.Millisecond
)

// before is the state at the moment of the fault.
type before struct {
	at     time.Time
	active machine
	others []machine
	boot   string // of the VM
	epoch  cluster.Epoch
}

// watching is a host that stays, whose console shows what becomes of the others.
func (b before) watching(f Fault) machine {
	if f == QuorumLoss || len(b.others) == 0 {
		return b.active
	}
	return b.others[0]
}

// drill boots the cluster, does what the fault says and fills in the result.
func (r *runner) drill(ctx context.Context, result *Result) error {
	r.say("the hosts boot", time.Time{})
	if err := each(r.stage.Machines(), func(m machine) error { return m.PowerOn(ctx) }); err != nil {
		return err
	}
	if err := r.until(ctx, r.limits.boot, "the VM runs and could be taken over", r.ready); err != nil {
		return err
	}
	r.say("the cluster is ready", time.Time{})
	if !clock.Sleep(ctx, steadyTime) {
		return ctx.Err()
	}
	b, err := r.look()
	if err != nil {
		return err
	}
	if r.opt.Hold > 0 {
		if err := r.openConsole(ctx, b.watching(r.opt.Fault).Name()); err != nil {
			return err
		}
	}
	b.at = time.Now()
	r.timeline.Fault(b.at)
	if r.opt.Fault != None {
		r.timeline.Add(Event{Source: fromDemo, Kind: "fault", Host: b.active.Name(), Time: b.at, Text: "FAULT: " + r.opt.Fault.About()})
	}
	r.say(string(r.opt.Fault), b.at)
	err = r.breakIt(ctx, b, result)
	result.OutageMS = r.observer.Outage(b.at, time.Now()).Milliseconds()
	r.phases(b, result)
	return err
}

func (r *runner) breakIt(ctx context.Context, b before, result *Result) error {
	switch r.opt.Fault {
	case PowerLoss:
		return r.powerLoss(ctx, b, result)
	case Isolate:
		return r.isolate(ctx, b, result)
	case AgentKill:
		return r.agentKill(ctx, b, result)
	case VMCrash:
		return r.vmCrash(ctx, b, result)
	case QuorumLoss:
		return r.quorumLoss(ctx, b, result)
	default:
		if !clock.Sleep(ctx, quietTime) {
			return ctx.Err()
		}
		if !r.answersAs(b.boot) {
			return errors.New("nothing was broken, and the VM is not the same, or does not answer")
		}
		return nil
	}
}

// powerLoss takes the power from the active host and gives it back after the
// takeover.
func (r *runner) powerLoss(ctx context.Context, b before, result *Result) error {
	if err := b.active.PowerOff(ctx); err != nil {
		return err
	}
	err := r.until(ctx, r.limits.powerBack, "the VM answers from another host", r.answersAnew(b))
	if result.recovered(err == nil); err == nil {
		if !clock.Sleep(ctx, afterglow) {
			return ctx.Err()
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := b.active.PowerOn(ctx); err != nil {
		return err
	}
	if err != nil {
		if err := r.until(ctx, r.limits.run, "the VM answers again", r.answersAnew(b)); err != nil {
			return err
		}
		result.recovered(true)
	}
	return r.awaitMembers(ctx)
}

// isolate pulls the cables of the active host until some time after the
// takeover.
func (r *runner) isolate(ctx context.Context, b before, result *Result) error {
	if err := b.active.Cut(ctx, true); err != nil {
		return err
	}
	if err := r.until(ctx, r.limits.run, "the VM answers from another host", r.answersAnew(b)); err != nil {
		return err
	}
	result.recovered(true)
	if !clock.Sleep(ctx, healAfter) {
		return ctx.Err()
	}
	if err := b.active.Cut(ctx, false); err != nil {
		return err
	}
	r.timeline.Add(Event{Source: fromDemo, Kind: "heal", Host: b.active.Name(), Text: "its network is whole again"})
	return r.awaitMembers(ctx)
}

// agentKill ends the agent alone. The VM must be the same before and after.
func (r *runner) agentKill(ctx context.Context, b before, result *Result) error {
	if err := b.active.KillAgent(ctx); err != nil {
		return err
	}
	killed := time.Now()
	back := func() bool {
		s, ok := r.tracker.Since(b.active.Name(), killed)
		return ok && s.Connected && s.Owner.State == cluster.Running && s.Owner.Host == b.active.Name() &&
			s.Owner.Epoch == b.epoch && r.answersAs(b.boot)
	}
	if err := r.until(ctx, r.limits.run, "the agent is back and the VM is untouched", back); err != nil {
		return err
	}
	r.timeline.Add(Event{Source: fromObserver, Kind: "agent-back", Host: b.active.Name(), Text: "the agent is back, the VM is the same"})
	// A false alarm would show only after the lease has run out.
	if !clock.Sleep(ctx, r.leaseTime()+afterglow) {
		return ctx.Err()
	}
	result.recovered(back())
	return nil
}

// vmCrash ends the VM alone.
func (r *runner) vmCrash(ctx context.Context, b before, result *Result) error {
	if err := r.stage.CrashVM(ctx); err != nil {
		return err
	}
	if err := r.until(ctx, r.limits.run, "the VM answers again", r.answersAnew(b)); err != nil {
		return err
	}
	result.recovered(true)
	clock.Sleep(ctx, afterglow)
	return ctx.Err()
}

// quorumLoss takes the power from both other hosts until the VM has stopped.
func (r *runner) quorumLoss(ctx context.Context, b before, result *Result) error {
	if err := each(b.others, func(m machine) error { return m.PowerOff(ctx) }); err != nil {
		return err
	}
	stopErr := r.until(ctx, stopLimit, "the VM stops by itself", func() bool {
		runs, _ := r.observer.Holders()
		return len(runs) == 0
	})
	stopped := stopErr == nil && b.active.Condition().fired == 0
	result.StoppedByItself = &stopped
	if stopped {
		if !clock.Sleep(ctx, afterglow) {
			return ctx.Err()
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := each(b.others, func(m machine) error { return m.PowerOn(ctx) }); err != nil {
		return err
	}
	if err := r.until(ctx, r.limits.run, "the VM answers again", r.answersAnew(b)); err != nil {
		return err
	}
	result.recovered(true)
	return r.awaitMembers(ctx)
}

// awaitMembers waits until all hosts are members again. It is not what is tested
// here: if it takes too long, the timeline says so.
func (r *runner) awaitMembers(ctx context.Context) error {
	err := r.until(ctx, r.limits.rejoin, "all hosts are members again", r.allAlive)
	if err == nil {
		r.timeline.Add(Event{Source: fromObserver, Kind: "all-alive", Text: "all hosts are members again"})
		clock.Sleep(ctx, afterglow)
		return ctx.Err()
	}
	r.timeline.Add(Event{Source: fromObserver, Kind: "not-all-alive", Text: err.Error()})
	return nil
}

// until waits for a condition; an error says which one was not met in time.
func (r *runner) until(ctx context.Context, limit time.Duration, what string, ok func() bool) error {
	began := time.Now()
	for !ok() {
		took := time.Since(began)
		if took > limit || !clock.Sleep(ctx, checkEvery) {
			return fmt.Errorf("not reached within %.1f s: %s", took.Seconds(), what)
		}
	}
	return nil
}

// ready reports whether the demo can begin: the VM runs and answers, all hosts
// are members, and the loss of the active one would be answered. A VM that knows
// neither its host nor its epoch says nothing about them.
func (r *runner) ready() bool {
	s, ok := r.tracker.Best()
	a, last := r.observer.Client()
	return ok && s.Owner.State == cluster.Running && s.Takeover.Possible && r.allAlive() &&
		time.Since(last) < r.limits.noise && (a.Host == "" || a.Host == s.Owner.Host && a.Epoch == s.Owner.Epoch)
}

func (r *runner) allAlive() bool {
	s, ok := r.tracker.Best()
	if !ok || len(s.Hosts) != len(r.stage.Machines()) {
		return false
	}
	for _, h := range s.Hosts {
		if !h.Alive {
			return false
		}
	}
	for _, m := range r.stage.Machines() {
		if own, ok := r.tracker.Of(m.Name()); !ok || !own.Connected {
			return false
		}
	}
	return true
}

// look finds out what there is to break.
func (r *runner) look() (before, error) {
	s, ok := r.tracker.Best()
	a, _ := r.observer.Client()
	if !ok {
		return before{}, errors.New("no agent reaches a quorum")
	}
	b := before{boot: a.Boot, epoch: s.Owner.Epoch}
	for _, m := range r.stage.Machines() {
		if m.Name() == s.Owner.Host {
			b.active = m
		} else {
			b.others = append(b.others, m)
		}
	}
	if b.active == nil {
		return before{}, fmt.Errorf("the VM's host %q is none of the demo's", s.Owner.Host)
	}
	return b, nil
}

// answersAnew reports whether the client has an answer from another life of the
// VM than before the fault.
func (r *runner) answersAnew(b before) func() bool {
	return func() bool {
		a, last := r.observer.Client()
		return last.After(b.at) && a.Boot != b.boot
	}
}

// answersAs reports whether that life of the VM answers the client now.
func (r *runner) answersAs(boot string) bool {
	a, last := r.observer.Client()
	return a.Boot == boot && time.Since(last) < r.limits.noise
}

func (r *runner) leaseTime() time.Duration {
	s, _ := r.tracker.Best()
	return s.Timings.Lease
}

// phases splits the outage that the new life's first answer ended, or the time from the fault where no outage counts. A phase
// whose event is missing gets no time; the next one has it.
func (r *runner) phases(b before, result *Result) {
	answered, ok := r.observer.FirstOther(b.boot, b.at)
	if !ok {
		return
	}
	at := b.at
	if lost := r.observer.LostBefore(answered); !lost.IsZero() {
		at = lost
	}
	phase := func(match func(Event) bool) int64 {
		t, ok := r.timeline.First(at, match)
		if !ok || t.After(answered) {
			return 0
		}
		from := at
		at = t
		return t.Sub(from).Milliseconds()
	}
	result.Phases.DetectMS = phase(isLoss(b.active.Name()))
	result.Phases.ProofMS = phase(clusterKind(cluster.EvAssigned, cluster.EvTakeover))
	result.Phases.StartMS = phase(func(e Event) bool {
		return clusterKind(cluster.EvStarted)(e) || e.Source == fromObserver && e.Kind == "process-started"
	})
	result.Phases.AnswerMS = answered.Sub(at).Milliseconds()
}

func (r *runner) say(doing string, fault time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doing, r.faultAt = doing, fault
}

func (r *runner) doingNow() (string, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.faultAt.IsZero() {
		return r.doing, r.faultAt
	}
	return fmt.Sprintf("%s, %.1f s ago", r.doing, time.Since(r.faultAt).Seconds()), r.faultAt
}
