package loop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
	"holdfast/internal/ha/records"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/lib/text"
	"holdfast/internal/store"
)

// Deadlines of actions. Those of writes are short: a request that was passed on
// to a leader of the store which has just died gets no answer at all, and the
// next one reaches its successor. A migration is bounded by the lease of its source and
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

// call is an action made ready in the loop, to be done outside it.
type call struct {
	within time.Duration
	do     func(ctx context.Context) ha.Outcome
}

// call prepares an action. It runs in the loop, so it may read state.
func (a *Agent) call(act ha.Action) call {
	switch act := act.(type) {
	case ha.Txn:
		return a.txn(act)
	case ha.Arm:
		return call{armWithin, func(ctx context.Context) ha.Outcome {
			return a.ordered(a.Watchdog.Arm(ctx, act.Limit))
		}}
	case ha.Disarm:
		return call{armWithin, func(ctx context.Context) ha.Outcome {
			if err := a.Watchdog.Disarm(ctx); err != nil {
				return a.ordered(watchdog.Status{}, err)
			}
			return a.ordered(a.Watchdog.Status(ctx))
		}}
	case ha.Start:
		return a.start(act)
	case ha.Fence:
		return a.fence(act)
	case ha.Kill:
		return call{killWithin, func(ctx context.Context) ha.Outcome { return a.ended("kill", a.Driver.Kill(ctx)) }}
	case ha.Shutdown:
		return call{shutdownWithin, func(ctx context.Context) ha.Outcome { return a.ended("shutdown", a.Driver.Shutdown(ctx)) }}
	case ha.Migrate:
		return a.migrate(act)
	case ha.Resume:
		return call{resumeWithin, func(ctx context.Context) ha.Outcome { return a.ended("resume", a.Driver.Resume(ctx)) }}
	case ha.Abort:
		if a.stopMigration != nil {
			a.stopMigration()
		}
		return call{abortWithin, func(ctx context.Context) ha.Outcome {
			return a.ended("abort migration", a.Driver.AbortMigration(ctx))
		}}
	}
	panic(fmt.Sprintf("no call for %T", act))
}

// ended is the outcome of a driver's call.
func (a *Agent) ended(what string, err error) ha.Outcome {
	if err != nil {
		a.Log.Warn(what, "err", err)
		return ha.Outcome{Why: err.Error()}
	}
	return ha.Outcome{OK: true}
}

// ordered is the outcome of an order to the watchdog's holder.
func (a *Agent) ordered(st watchdog.Status, err error) ha.Outcome {
	if err != nil {
		a.Log.Warn("order to the watchdog", "err", err)
		return ha.Outcome{Why: err.Error()}
	}
	return ha.Outcome{OK: true, Watchdog: dogOf(st)}
}

// dogOf is what the core must know of the holder's word.
func dogOf(st watchdog.Status) ha.Watchdog {
	return ha.Watchdog{Working: st.Error == "" && st.Timeout > 0, Armed: st.Armed, Limit: st.Limit, Timeout: st.Timeout, Name: st.Identity}
}

// txn makes a transaction of the core one of the store, word by word.
func (a *Agent) txn(t ha.Txn) call {
	var conds []store.Cmp
	var ops []store.Op
	for _, c := range t.If {
		conds = append(conds, store.Cmp{Key: a.key(c.Key), Rev: c.Mod})
	}
	for _, p := range t.Put {
		ops = append(ops, store.Op{Key: a.key(p.Key), Value: records.Encode(a.value(p))})
	}
	if t.Event.Kind != "" {
		ops = append(ops, a.event(t.Event))
	}
	within := writeWithin
	if t.For == ha.WorkRenew {
		within = renewWithin
	}
	if !t.Prove {
		return call{within, func(ctx context.Context) ha.Outcome { return a.send(ctx, conds, ops) }}
	}
	return call{within + killWithin, func(ctx context.Context) ha.Outcome {
		if err := a.prove(ctx); err != nil {
			return a.ended("prove that it has ended", err)
		}
		o := a.send(ctx, conds, ops)
		o.Proved = true
		return o
	}}
}

// send gives the store's answer. An error says that the outcome is not known.
func (a *Agent) send(ctx context.Context, conds []store.Cmp, ops []store.Op) ha.Outcome {
	rev, ok, err := a.Store.Txn(ctx, conds, ops)
	if err != nil {
		return ha.Outcome{Why: err.Error()}
	}
	return ha.Outcome{OK: ok, Mod: rev}
}

// prove kills the guest and sees that it is gone.
func (a *Agent) prove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killWithin)
	defer cancel()
	if err := a.Driver.Kill(ctx); err != nil {
		return err
	}
	if g, err := a.Driver.Observe(ctx); g.State != cluster.GuestAbsent {
		return fmt.Errorf("observed %q after the kill: %w", g.State, errors.Join(cluster.ErrNotProved, err))
	}
	return nil
}

// answered tells people how a transaction ended, and wakes who waits for what it
// has changed.
func (a *Agent) answered(t ha.Txn, o ha.Outcome) {
	switch {
	case o.Why != "":
		a.setStoreErr(errors.New(store.Said(o.Why)))
		return
	case !o.OK && t.For != ha.WorkRenew:
		a.Log.Info("records have changed meanwhile", "action", t.For)
	}
	if o.OK || t.For != ha.WorkRenew {
		a.setStoreErr(nil)
	}
	for _, p := range t.Put {
		if o.OK && p.Kind == ha.KindOwner {
			a.ownerChanged()
		}
	}
}

// event is the write of an event into the log.
func (a *Agent) event(e cluster.Event) store.Op {
	a.s.seq++
	user := e.User
	if a.s.watches && user != JobUser {
		e.User = "" // the members take no person's name from a host that runs guests only
	}
	e = stamp(e, time.Now())
	a.Log.Info("event", "kind", e.Kind, "user", user, "host", e.Host, "to", e.To, "epoch", e.Epoch, "proof", e.Proof,
		"wait", e.Wait, "detail", e.Detail)
	return store.Op{Key: records.LogKey(e, a.s.seq), Value: records.Encode(e)}
}

// start calls the hypervisor, once for this epoch, unless the lease has ended
// before this process got to it.
func (a *Agent) start(act ha.Start) call {
	cfg, mod := a.s.cfg, a.s.cfgMod
	spec := a.spec(cfg, act.Epoch)
	return call{startWithin, func(ctx context.Context) ha.Outcome {
		if err := a.seed(cfg, mod, spec); err != nil {
			return a.ended("start", fmt.Errorf("%w: %w", cluster.ErrNotStarted, err))
		}
		if a.Clock() >= act.Until {
			return a.ended("start", fmt.Errorf("%w: the lease ended before the hypervisor was called", cluster.ErrNotStarted))
		}
		told := make(chan error, 1)
		go func() { told <- a.tellBooted(ctx, bootRecord{act.Epoch, cfg}) }()
		err := a.Driver.Start(ctx, spec)
		if terr := <-told; terr != nil {
			a.Log.Error("start", "err", terr)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, cluster.ErrInUse) { // else its time was over, or the cause is elsewhere
			a.post(context.WithoutCancel(ctx), func() { a.startFailed(err) })
		}
		return a.ended("start", err)
	}}
}

// migrate moves the guest. Its progress goes into the store, for every host's
// status.
func (a *Agent) migrate(act ha.Migrate) call {
	to := a.s.core.Hosts[act.To]
	return call{migrateWithin, func(ctx context.Context) ha.Outcome {
		pctx, cancel := context.WithCancel(ctx)
		a.work.Go(func() { a.tellProgress(pctx) })
		defer cancel()
		return a.ended("migrate", a.Driver.Migrate(ctx, to.Addr, to.MigrateTLS))
	}}
}

// tellProgress writes the percentage of the migration when it has changed.
func (a *Agent) tellProgress(ctx context.Context) {
	last := 0
	var shown text.Percent[int]
	a.writeProgress(ctx, 0)
	every(ctx, progressEvery, func() {
		a.look()
		pct := 0
		a.ask(ctx, func() { pct = a.s.core.Guest.Seen.Percent })
		if pct = shown.At(pct); pct != last {
			last = pct
			a.writeProgress(ctx, pct)
		}
	})
}

func (a *Agent) writeProgress(ctx context.Context, pct int) {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	_, _, err := a.Store.Txn(ctx, nil, []store.Op{{Key: records.ProgressKey(cluster.MgmtVM), Value: records.Encode(pct)}})
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
	case ha.Fence:
		return string(act.Host)
	case ha.Txn:
		for _, p := range act.Put {
			if o := p.Owner; o != nil {
				return fmt.Sprintf("%s on %s, epoch %s: %s", o.State, o.Host, o.Epoch, o.Reason)
			}
		}
		return string(act.Event.Kind)
	}
	return ""
}
