package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"holdfast/internal/host/ping"
	"holdfast/internal/store"
)

// openAgain is when sockets are asked for again that were refused.
const openAgain = 10 * time.Second

// watcher pings this host's part of the guests, and writes what it counts. It is
// used by one goroutine.
type watcher struct {
	*Service
	run string
	by  string // random

	plan   plan
	made   int64 // revision that created the plan; 0: not read yet
	clock  *clock
	heard  int64 // revision of the reading that the clock was set by
	exact  bool  // there was a newer one since
	idle   bool  // there is nothing to do in this run, or no longer
	guests []*guest
	ready  bool  // the guests, with what was counted before, are read
	rev    int64 // of this host's record

	pinger *ping.Pinger
	stop   context.CancelFunc
	runs   sync.WaitGroup
	opened time.Time // when it was last tried
	why    string    // it could not be opened

	saved time.Time
	addrs map[string]where // answers about hosts
	deaf  bool             // the store does not answer: in this step it is not asked for more addresses
}

func newWatcher(s *Service, run string) *watcher {
	return &watcher{Service: s, run: run, by: rand.Text(), addrs: map[string]where{}}
}

// step does what is due. An error is told and tried again at the next one.
func (w *watcher) step(ctx context.Context) error {
	if w.idle {
		return nil
	}
	if w.made == 0 {
		if err := w.readPlan(ctx); err != nil || w.made == 0 {
			return err
		}
	}
	if !w.ready {
		if err := w.begin(ctx); err != nil || w.idle {
			return err
		}
	}
	w.open(ctx)
	if w.pinger != nil {
		w.aim(ctx)
	}
	var err error
	due := time.Since(w.saved) >= w.saves
	if due || !w.exact {
		err = w.tick(ctx)
	}
	if due {
		w.saved = time.Now()
		err = errors.Join(err, w.save(ctx))
	}
	return err
}

// end ends pinging and writes what was counted last. Of a run that was not measured
// nothing stays.
func (w *watcher) end(ctx context.Context) {
	if term, key, ok := w.Coordinator(); ok && w.made == 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
		defer cancel()
		if err := w.sweep(ctx, w.run, store.Cmp{Key: key, Rev: term}); err != nil {
			w.Log.Warn("what was written of a plan whom to ping stays until the next run", "run", w.run, "err", err)
		}
	}
	if w.ready && !w.idle {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
		defer cancel()
		err := w.save(ctx)
		if err == nil && w.saved.IsZero() { // it was not taken; now the revision is known
			err = w.save(ctx)
		}
		if err != nil {
			w.Log.Warn("the last counts of lost packets are not written", "run", w.run, "err", err)
		}
	}
	if w.pinger != nil {
		w.stop()
		w.runs.Wait()
	}
}

func get[T any](ctx context.Context, st store.Store, key string) (v T, kv store.KV, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	kv, ok, err = st.Get(ctx, key)
	if err == nil && ok {
		v, err = decode[T](kv)
	}
	return v, kv, ok, err
}

func (w *watcher) readPlan(ctx context.Context) error {
	p, kv, ok, err := get[plan](ctx, w.Store, planKey(w.run))
	if err != nil {
		return fmt.Errorf("read whom to ping: %w", err)
	}
	if !ok {
		return w.makePlan(ctx, w.run)
	}
	w.plan, w.made, w.clock = p, kv.CreateRev, &clock{at: time.Now()}
	return nil
}

// begin reads this host's part, and what was counted before.
func (w *watcher) begin(ctx context.Context) error {
	mine, _, ok, err := get[part](ctx, w.Store, partKeys(w.run, w.plan.ID)+string(w.Host))
	if err != nil {
		return fmt.Errorf("read whom to ping: %w", err)
	}
	if !ok {
		w.idle = true // the host before has no guests, or this one was down
		return nil
	}
	old, kv, _, _, err := ask[record](ctx, w.Service, recordKey(w.run, w.Host), w.Host)
	if err != nil {
		return fmt.Errorf("read what was counted before: %w", err)
	}
	if err := w.setClock(ctx, old); err != nil {
		return err
	}
	w.guests = nil
	now := time.Now()
	for _, n := range mine.Guests {
		w.guests = append(w.guests, &guest{uuid: n.UUID, said: n.Addrs, clock: w.clock, began: now,
			start: w.clock.of(now), tried: map[netip.Addr]*ping.Target{}})
	}
	w.take(old)
	w.rev, w.ready, w.saved = kv.ModRev, true, time.Now()
	return nil
}

// take takes in what was counted before this watcher began. The time since is
// unwatched, as far as it is known.
func (w *watcher) take(old record) {
	rows := map[string]row{}
	for _, r := range old.Guests {
		rows[r.UUID] = r
	}
	for _, g := range w.guests {
		r := rows[g.uuid]
		g.before = r.figures()
		g.before.unwatched += max(0, g.start-old.passed())
		if a, err := netip.ParseAddr(r.Addr); err == nil && !g.addr.IsValid() {
			g.addr = a
		}
	}
}

// open opens the sockets.
func (w *watcher) open(ctx context.Context) {
	if w.pinger != nil || time.Since(w.opened) < openAgain {
		return
	}
	w.opened = time.Now()
	p, err := w.Open()
	if err != nil {
		if err.Error() != w.why {
			w.Log.Warn("guests can not be pinged", "err", err)
		}
		w.why = err.Error()
		return
	}
	w.pinger, w.why = p, ""
	// Until end has saved: what is counted between ctx's end and then is not lost.
	rctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = stop
	w.runs.Go(func() { p.Run(rctx) })
	for _, g := range w.guests {
		if g.addr.IsValid() {
			g.watch(w.pinger, g.addr, w.Every, w.Log)
		}
	}
}

// save writes what was counted, if the plan is still there and nobody else has
// written this record.
func (w *watcher) save(ctx context.Context) error {
	r := record{Run: w.run, Host: w.Host, By: w.by, Passed: w.clock.of(time.Now()).Milliseconds(), At: w.wall(), Problem: fit(w.why)}
	for _, g := range w.guests {
		r.Guests = append(r.Guests, g.row())
	}
	key := recordKey(w.run, w.Host)
	op, err := encode(key, r)
	if err != nil {
		return err
	}
	wctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	rev, ok, err := w.Store.Txn(wctx, []store.Cmp{{Key: planKey(w.run), Rev: w.made, Create: true}, {Key: key, Rev: w.rev}}, []store.Op{op})
	if err == nil && ok {
		w.rev = rev
		return nil
	}
	// Not written, or it is not known: the next one needs the revision of now.
	if again := w.review(ctx); again != nil {
		return again
	}
	if err != nil {
		return fmt.Errorf("write what was counted: %w", err)
	}
	return nil
}

// review finds out why a record was not written.
func (w *watcher) review(ctx context.Context) error {
	_, kv, ok, err := get[plan](ctx, w.Store, planKey(w.run))
	if err != nil {
		return fmt.Errorf("read whom to ping: %w", err)
	}
	if !ok || kv.CreateRev != w.made { // another run has begun, and this one's keys are gone
		w.idle = true
		if w.pinger != nil {
			w.stop()
		}
		return nil
	}
	old, kv, ok, _, err := ask[record](ctx, w.Service, recordKey(w.run, w.Host), w.Host)
	if err != nil {
		return fmt.Errorf("read what was counted: %w", err)
	}
	if ok && old.By != w.by { // written late by the one before
		w.take(old)
	}
	w.rev = kv.ModRev
	w.saved = time.Time{} // at once
	return nil
}
