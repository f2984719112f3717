package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// Times of following the store.
const (
	listWithin  = 3 * time.Second
	followAgain = 300 * time.Millisecond
	pollEvery   = 5 * time.Second
)

// errGuestsOnly: what the cluster knows of this host is another thing than its settings.
var errGuestsOnly = errors.New("the agent's settings say guests_only")

// poll reads the records again and again, for an agent that only watches: watches
// of thousands of hosts would cost the store more than its members can give.
func (a *Agent) poll(ctx context.Context) {
	for ctx.Err() == nil {
		if err := a.readAll(ctx); err != nil {
			a.post(ctx, func() { a.setStoreErr(err) })
		}
		clock.Sleep(ctx, pollEvery)
	}
}

// readAll reads all records.
func (a *Agent) readAll(ctx context.Context) error {
	lctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	kvs, _, err := a.Store.List(lctx, records.KeyState)
	if err != nil {
		return fmt.Errorf("list the records: %w", err)
	}
	a.post(ctx, func() { a.relist(kvs) })
	return nil
}

// follow keeps the loop's records up to date: it lists them all, then watches
// from there; when the watch breaks it begins again. What was read stays valid
// meanwhile: every decision compares revisions when it is written.
func (a *Agent) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := a.followOnce(ctx)
		a.post(ctx, func() { a.setStoreErr(err) })
		clock.Sleep(ctx, followAgain)
	}
}

func (a *Agent) followOnce(ctx context.Context) error {
	return store.Follow(ctx, a.Store, records.KeyState, listWithin, func(kvs []store.KV) {
		a.post(ctx, func() { a.relist(kvs) })
	}, func(b store.Batch) {
		// The moment is taken here, after the change has happened.
		seen := a.Clock()
		a.post(ctx, func() {
			for _, c := range b.Changes {
				a.take(c.KV, c.Deleted, func() error { return a.s.apply(c.KV, c.Deleted, seen) })
			}
			if seen.Sub(a.s.lookedAt) > 2*a.s.core.Timings.Keepalive { // it stood still: what it tells now may be as old
				a.s.lateSince, a.s.lateUntil = a.s.lookedAt, seen.Add(a.s.core.Timings.Keepalive)
			}
			after := seen
			if seen < a.s.lateUntil {
				after = a.s.lateSince
			}
			a.s.renewals(seen, after)
			a.s.lookedAt = seen
			a.sync()
			a.notify()
		})
	})
}

// relist takes a full listing in: records that are gone are forgotten.
func (a *Agent) relist(kvs []store.KV) {
	seen := a.Clock()
	listed := map[string]bool{}
	for _, kv := range kvs {
		listed[kv.Key] = true
		a.take(kv, false, func() error { return a.s.apply(kv, false, seen) })
	}
	for h, r := range a.s.core.Hosts {
		if !listed[records.HostKey(h)] {
			gone := store.KV{Key: records.HostKey(h), ModRev: r.Mod + 1}
			a.take(gone, true, func() error { return a.s.apply(gone, true, seen) })
		}
	}
	if !listed[records.KeyGeneration] {
		a.s.gen = 0 // a store of before the restore that this host has seen
	}
	a.s.renewals(seen, a.s.lookedAt)
	a.s.listed, a.s.lookedAt = true, seen
	a.sync()
	a.notify()
}

// sync finds out whether what was read can be decided on.
func (a *Agent) sync() {
	m := a.s.core
	gen, err := a.generation()
	m.Follow(a.s.cfgMod != 0 && err == nil, gen)
	a.setStoreErr(err)
	if a.s.watches && slices.Contains(m.Order, m.Self) {
		a.fatal = fmt.Errorf("%w: host %s is in Node of the cluster's configuration", errGuestsOnly, m.Self)
	}
}

// take logs a record that can not be read; the one before stays in force.
func (a *Agent) take(kv store.KV, deleted bool, apply func() error) {
	if err := apply(); err != nil {
		a.Log.Error("record ignored", "key", kv.Key, "deleted", deleted, "err", err)
	}
	switch kv.Key {
	case records.KeyConfig, records.KeyGeneration:
		if a.s.listed {
			a.sync()
		}
		a.configChanged()
		a.tellOutside()
	case records.LeftKey(a.s.core.ThisHost.Identity):
		a.tellOutside()
	case records.OwnerKey(a.s.core.Resource):
		a.s.findPending()
		a.ownerChanged()
	}
}

// own takes an own write over without waiting for the watch.
func (a *Agent) own(key string, value []byte, rev int64) {
	kv := store.KV{Key: key, Value: value, ModRev: rev}
	a.take(kv, false, func() error { return a.s.apply(kv, false, a.Clock()) })
}

// configChanged tells once when the file on this host is not what is in force, and
// lets the seed of the guest be written anew.
func (a *Agent) configChanged() {
	if !a.s.compared && a.s.cfgMod != 0 && len(a.Config.Node) > 0 {
		a.s.compared = true
		if d := config.Diff(a.Config, a.s.cfg); len(d) > 0 {
			a.Log.Warn("config_file is not the cluster's configuration, and without effect: only the first agent of "+
				"a cluster reads it; holdfast config import changes the one in force", "differs", d[0].String(), "fields", len(d))
		}
	}
	a.checkSoon()
}

// checkSoon has the checks of whether the guest could be started here run now.
func (a *Agent) checkSoon() {
	select {
	case a.refit <- struct{}{}:
	default:
	}
}

// tellOutside logs once that this host is no member any more.
func (a *Agent) tellOutside() {
	if why := a.s.outside; why != a.s.toldOutside {
		a.s.toldOutside = why
		if why != "" {
			a.Log.Error("not a member", "why", why, "remedy",
				"end this agent: systemctl disable --now holdfast; or install it as a host that runs guests only")
		}
	}
}

func (a *Agent) ownerChanged() {
	if a.s.failedOn.owned(a.s.core.Owner.Owner) {
		a.s.failed = failures{}
		a.describe()
	}
	a.look()   // many decisions want an observation that is newer than the record
	a.attend() // the store's leader may stand on the new holder
}

// attend wakes the care of the store.
func (a *Agent) attend() {
	select {
	case a.unwell <- struct{}{}:
	default:
	}
}

func (a *Agent) setStoreErr(err error) {
	if err != nil && a.s.storeErr == nil {
		a.Log.Warn("store lost", "err", err)
	}
	if err != nil {
		a.attend()
	}
	a.s.storeErr = err
}
