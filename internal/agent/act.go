package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/store"
)

// Deadlines of actions. Those of writes are short: a request that was passed on
// to a leader of the store which has just died gets no answer at all, and the
// next one reaches its successor. A migration is bounded by the lease of both sides and
// by the operator, not by a clock.
const (
	armWithin      = time.Second
	renewWithin    = time.Second
	writeWithin    = 1500 * time.Millisecond
	killWithin     = 10 * time.Second
	startWithin    = 30 * time.Second
	shutdownWithin = 5 * time.Second
	migrateWithin  = 4 * time.Hour
	abortWithin    = 15 * time.Second
	resumeWithin   = 5 * time.Second
	progressEvery  = 300 * time.Millisecond // told of a migration
)

// job is an action made ready in the loop: do runs outside it and returns what
// the loop must note. guest says that the guest was touched.
type job struct {
	within time.Duration
	guest  bool
	do     func(ctx context.Context) func()
}

// job prepares an action. It runs in the loop, so it may read and note state.
func (a *Agent) job(act ha.Action) job {
	switch act := act.(type) {
	case ha.Renew:
		return a.renew(act)
	case ha.Elect:
		return a.elect(act)
	case ha.Write:
		return a.write(act)
	case ha.Arm:
		return a.arm(act)
	case ha.Disarm:
		return a.disarm()
	case ha.Start:
		return a.start(act)
	case ha.Fence:
		return a.fence(act)
	case ha.Kill:
		if l := &a.s.view.Local; l.Guest.State != cluster.GuestAbsent {
			l.Killed = act.Why
			if l.Sick != "" && l.Doomed == 0 {
				l.Doomed = a.Clock()
			}
		}
		return job{killWithin, true, a.kill}
	case ha.Shutdown:
		if a.s.view.Local.Shut == 0 {
			a.s.view.Local.Shut = a.Clock()
		}
		return job{shutdownWithin, true, func(ctx context.Context) func() { return a.logged("shutdown", a.Driver.Shutdown(ctx)) }}
	case ha.Migrate:
		return a.migrate(act)
	case ha.Resume:
		return job{resumeWithin, true, func(ctx context.Context) func() { return a.logged("resume", a.Driver.Resume(ctx)) }}
	case ha.Abort:
		if cancel := a.cancels[ha.WorkMigrate]; cancel != nil {
			cancel()
		}
		return job{abortWithin, true, func(ctx context.Context) func() { return a.logged("abort migration", a.Driver.AbortMigration(ctx)) }}
	}
	panic(fmt.Sprintf("no job for %T", act))
}

// kill ends the guest and proves it gone.
func (a *Agent) kill(ctx context.Context) func() {
	err := a.Driver.Kill(ctx)
	return func() {
		if err != nil {
			a.Log.Warn("kill", "err", err)
			return
		}
		a.s.view.Local.Inherited = false
	}
}

func (a *Agent) logged(what string, err error) func() {
	return func() {
		if err != nil {
			a.Log.Warn(what, "err", err)
		}
	}
}

// renew writes this host's record. The deadline counts from the time when the
// renewal was sent: the store can not have taken it before.
func (a *Agent) renew(r ha.Renew) job {
	sent := a.Clock()
	a.s.view.Local.RenewSent = sent
	if !r.Record.HandsOff {
		a.s.view.Local.HandsOn = true // from now on it may count, answered or not
	}
	key, value := hostKey(a.Host), encode(r.Record)
	ops := []store.Op{{Key: key, Value: value}}
	if r.Event.Kind != "" {
		ops = append(ops, a.event(r.Event))
	}
	return job{renewWithin, false, func(ctx context.Context) func() {
		rev, ok, err := a.Store.Txn(ctx, []store.Cmp{{Key: key, Rev: r.Mod}}, ops)
		return func() {
			if err != nil {
				a.setStoreErr(fmt.Errorf("renew: %w", err))
			}
			if err != nil || !ok {
				return // what became of it is told by the watch
			}
			a.setStoreErr(nil)
			v := &a.s.view
			v.Local.LeaseMod = rev
			v.Local.Deadline = sent.Add(v.Timings.Lease)
			v.Local.HandsOn = !r.Record.HandsOff
			a.own(key, value, rev)
		}
	}}
}

// own takes an own write over without waiting for the watch.
func (a *Agent) own(key string, value []byte, rev int64) {
	kv := store.KV{Key: key, Value: value, ModRev: rev}
	a.take(kv, false, func() error { return a.s.apply(kv, false, a.Clock()) })
}

func (a *Agent) elect(e ha.Elect) job {
	ops := []store.Op{{Key: keyCoord, Value: encode(cluster.Coordinator{Host: a.Host})}, a.event(e.Event)}
	return a.txn("elect", []store.Cmp{{Key: keyCoord, Rev: e.Mod}}, ops, nil)
}

// write changes the owner record and what belongs to it, in one transaction.
func (a *Agent) write(w ha.Write) job {
	res := a.s.view.Resource
	conds := []store.Cmp{{Key: ownerKey(res), Rev: w.OwnerMod}}
	var ops []store.Op
	if w.Term != 0 {
		conds = append(conds, store.Cmp{Key: keyCoord, Rev: w.Term}, store.Cmp{Key: wantKey(res), Rev: w.WantMod})
	}
	for h, mod := range w.HostMods {
		conds = append(conds, store.Cmp{Key: hostKey(h), Rev: mod})
	}
	for _, r := range w.Expel {
		ops = append(ops, store.Op{Key: hostKey(r.Name), Value: encode(r)})
	}
	if w.Owner != nil {
		o := *w.Owner
		o.Time = time.Now().UTC()
		ops = append(ops, store.Op{Key: ownerKey(res), Value: encode(o)})
	}
	if w.Want != nil {
		ops = append(ops, store.Op{Key: wantKey(res), Value: encode(*w.Want)})
	}
	if w.Event.Kind != "" {
		ops = append(ops, a.event(w.Event))
	}
	told, mod, unfenced := w.Told, a.s.view.Hosts[w.Told].Mod, w.Unfenced
	j := a.txn("write", conds, ops, func() {
		if told != "" {
			a.s.view.Local.Told[told] = mod
		}
		if unfenced != "" {
			f := a.s.view.Local.Fences[unfenced]
			f.Told = true
			a.s.view.Local.Fences[unfenced] = f
		}
	})
	if w.Prove {
		j = a.proved(j)
	}
	return j
}

// proved kills the guest and proves it gone before the write, and once more by a
// look at the process table.
func (a *Agent) proved(j job) job {
	within := j.within + killWithin
	return job{within, true, func(ctx context.Context) func() {
		kctx, cancel := context.WithTimeout(ctx, killWithin)
		defer cancel()
		if err := a.Driver.Kill(kctx); err != nil {
			return a.logged("prove the guest gone", err)
		}
		a.post(ctx, func() { a.s.view.Local.Inherited = false })
		if g, err := a.Driver.Observe(kctx); g.State != cluster.GuestAbsent {
			return a.logged("prove the guest gone", fmt.Errorf("observed %q after the kill: %w", g.State, errors.Join(cluster.ErrNotProved, err)))
		}
		return j.do(ctx)
	}}
}

// txn writes records, and takes them over when it is answered.
func (a *Agent) txn(what string, conds []store.Cmp, ops []store.Op, then func()) job {
	return job{writeWithin, false, func(ctx context.Context) func() {
		rev, ok, err := a.Store.Txn(ctx, conds, ops)
		if err == nil && !ok {
			// The watch brings what has changed; asking again before is idle.
			select {
			case <-ctx.Done():
			case <-time.After(tick):
			}
		}
		return func() {
			if err != nil {
				a.setStoreErr(fmt.Errorf("%s: %w", what, err))
				return
			}
			a.setStoreErr(nil)
			if !ok {
				a.Log.Info("records have changed meanwhile", "action", what)
				return
			}
			for _, op := range ops {
				a.own(op.Key, op.Value, rev)
			}
			if then != nil {
				then()
			}
		}
	}}
}

// event is the write of an event into the log.
func (a *Agent) event(e cluster.Event) store.Op {
	a.s.seq++
	e = stamp(e, time.Now())
	a.Log.Info("event", "kind", e.Kind, "host", e.Host, "to", e.To, "epoch", e.Epoch, "proof", e.Proof, "wait", e.Wait, "detail", e.Detail)
	return store.Op{Key: logKey(e, a.s.seq), Value: encode(e)}
}

// arm tells the watchdog's holder until when it may pet.
func (a *Agent) arm(act ha.Arm) job {
	want := a.s.view.Local.Dog.Timeout
	return job{armWithin, false, func(ctx context.Context) func() {
		st, err := a.Dog.Arm(ctx, act.Limit)
		return func() {
			a.s.dogAt = a.Clock()
			if err != nil {
				a.Log.Warn("arm the watchdog", "err", err)
			}
			a.dogIs(st, err)
			if err == nil && st.Timeout != want {
				// The limit was reckoned with another timeout: nothing may rely on it.
				a.Log.Warn("watchdog timeout differs", "want", want, "is", st.Timeout)
				a.s.view.Local.Dog.Limit = 0
			}
		}
	}}
}

func (a *Agent) disarm() job {
	return job{armWithin, false, func(ctx context.Context) func() {
		err := a.Dog.Disarm(ctx)
		var st watchdog.Status
		var serr error
		if err == nil {
			st, serr = a.Dog.Status(ctx)
		}
		return func() {
			a.s.dogAt = a.Clock()
			if err = errors.Join(err, serr); err != nil {
				a.Log.Warn("disarm the watchdog", "err", err)
				a.s.view.Local.Dog.Limit = 0 // it may be off or on: nothing may rely on it
				return
			}
			a.dogIs(st, nil)
		}
	}}
}

// start calls the hypervisor, once for this epoch.
func (a *Agent) start(act ha.Start) job {
	l := &a.s.view.Local
	l.Started, l.Killed, l.TriedBy = act.Epoch, "", "the hypervisor was called and no guest came up"
	spec := a.spec(a.s.cfg, act.Epoch)
	return job{startWithin, true, func(ctx context.Context) func() {
		err := a.Driver.Start(ctx, spec)
		return func() {
			if err != nil {
				a.Log.Warn("start", "epoch", act.Epoch, "err", err)
				a.s.view.Local.TriedBy = err.Error()
			}
		}
	}}
}

// migrate moves the guest. Its progress goes into the store, for every host's
// status.
func (a *Agent) migrate(act ha.Migrate) job {
	l := &a.s.view.Local
	l.Tried, l.TriedBy = act.Mod, ""
	to := a.s.view.Hosts[act.To]
	addr := to.Addr
	if to.Gate != 0 {
		addr = net.JoinHostPort(to.Addr, strconv.Itoa(to.Gate))
	}
	return job{migrateWithin, true, func(ctx context.Context) func() {
		pctx, cancel := context.WithCancel(ctx)
		a.work.Go(func() { a.tellProgress(pctx) })
		err := a.Driver.Migrate(ctx, addr)
		cancel()
		return func() {
			if err != nil {
				a.Log.Warn("migrate", "to", act.To, "err", err)
				a.s.view.Local.TriedBy = err.Error()
			}
		}
	}}
}

// tellProgress writes the percentage of the migration when it has changed.
func (a *Agent) tellProgress(ctx context.Context) {
	last := 0
	a.writeProgress(ctx, 0)
	every(ctx, progressEvery, func() {
		a.look()
		pct := 0
		a.ask(ctx, func() { pct = a.s.view.Local.Guest.Percent })
		if pct != last {
			last = pct
			a.writeProgress(ctx, pct)
		}
	})
}

func (a *Agent) writeProgress(ctx context.Context, pct int) {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	_, _, err := a.Store.Txn(ctx, nil, []store.Op{{Key: progressKey(cluster.MgmtVM), Value: encode(pct)}})
	if err != nil && ctx.Err() == nil {
		a.Log.Debug("progress not told", "err", err)
	}
}

// describe gives what a log line says of an action.
func describe(act ha.Action) string {
	switch act := act.(type) {
	case ha.Kill:
		return act.Why
	case ha.Start:
		return "epoch " + act.Epoch.String()
	case ha.Migrate:
		return "to " + string(act.To)
	case ha.Write:
		if act.Owner != nil {
			return fmt.Sprintf("%s on %s, epoch %s: %s", act.Owner.State, act.Owner.Host, act.Owner.Epoch, act.Owner.Reason)
		}
		return string(act.Event.Kind)
	}
	return ""
}
