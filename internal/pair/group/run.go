package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
	"holdfast/internal/store"
)

// Keys in the store.
const (
	KeyPair = records.KeyState + "pair/" // all of them
	KeySync = KeyPair + "sync"
	keyTold = KeyPair + "copy/" // what a node tells the other one of its copy
	KeyNode = KeyPair + "node/" // what a node tells people: Report
)

// LookEvery is the least time between two looks at the node that nothing asks for, LookWithin the least that a look is given,
// unless half of the time for which what serves may not answer is less.
const (
	LookEvery  = 300 * time.Millisecond
	LookWithin = 3 * time.Second
)

// Parts of a look's time that it gets of what has failed, as it did not answer.
const (
	silent   = 3
	standing = 15 // as long as members stand on it, which are to be stopped whether it answers or not
)

// Times of the loop.
const (
	stepEvery  = 100 * time.Millisecond
	listWithin = 3 * time.Second
	putWithin  = 1500 * time.Millisecond
	putAgain   = 250 * time.Millisecond
	putBehind  = 20 * time.Millisecond // until the watch has brought what has changed meanwhile
)

// Run drives the group until ctx ends. What runs goes on. tell writes an event; nil: nobody does.
func (d *Driver) Run(ctx context.Context, tell func(context.Context, cluster.Event) error) error {
	d.events = tell
	d.began.Store(true)
	defer close(d.ended)
	defer d.acts.Wait()
	defer close(d.over)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	listed := make(chan struct{}, 1)
	d.acts.Go(func() { d.follow(ctx, listed) })
	d.acts.Go(func() { d.looks(ctx, listed) })
	t := time.NewTicker(stepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			d.cut()
			return nil
		case f := <-d.posts:
			f()
		case <-t.C:
			d.step()
		}
		d.answer()
	}
}

// post has the loop run f, unless ctx ends first.
func (d *Driver) post(ctx context.Context, f func()) {
	select {
	case d.posts <- f:
	case <-ctx.Done():
	}
}

// waiter is a caller that waits for something of the core.
type waiter struct {
	ctx  context.Context
	is   func() bool
	over chan struct{}
}

// await waits until something of the core is so. The loop looks after each change.
func (d *Driver) await(ctx context.Context, is func() bool) error {
	w := waiter{ctx, is, make(chan struct{})}
	if err := d.ask(ctx, func() { d.waits = append(d.waits, w) }); err != nil {
		return err
	}
	select {
	case <-w.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.over:
		return errLoopEnded
	}
}

// answer tells those that wait whether what they wait for is so.
func (d *Driver) answer() {
	d.waits = slices.DeleteFunc(d.waits, func(w waiter) bool {
		if w.ctx.Err() != nil {
			return true
		}
		if !w.is() {
			return false
		}
		close(w.over)
		return true
	})
}

// follow keeps the records up to date.
func (d *Driver) follow(parent context.Context, listed chan<- struct{}) {
	for parent.Err() == nil {
		ctx, end := context.WithCancel(parent)
		err := store.Follow(ctx, d.opt.Store, records.KeyState, listWithin, func(kvs []store.KV) {
			if err := d.ours(kvs); err != nil {
				d.opt.Log.Debug("the pair's records", "err", err)
				end()
				return
			}
			d.post(ctx, func() { d.take(kvs) })
			select {
			case listed <- struct{}{}:
			default:
			}
		}, func(b store.Batch) {
			var kvs []store.KV
			for _, c := range b.Changes {
				if c.KV.Key == records.KeyGeneration {
					end() // what is listed then may be another store's
					return
				}
				if !c.Deleted {
					kvs = append(kvs, c.KV)
				}
			}
			d.post(ctx, func() { d.take(kvs) })
		})
		if err != nil && ctx.Err() == nil {
			d.opt.Log.Debug("the pair's records", "err", err)
		}
		end()
		clock.Sleep(parent, putAgain)
	}
}

// ours takes a listing for that of the store which this host follows, or says why it is not. While
// this node's own member is stopped the other node's answers, which may be of another generation:
// what stands there is not for this node to act on.
func (d *Driver) ours(kvs []store.KV) (err error) {
	g, rev := uint64(1), int64(0)
	for _, kv := range kvs {
		if kv.Key != records.KeyGeneration {
			continue
		}
		if g, err = records.Decode[uint64](kv, false); err != nil {
			return err
		}
		rev = kv.ModRev
	}
	if d.opt.Seen != nil {
		seen, err := d.opt.Seen()
		if err != nil {
			return err
		}
		if g < seen {
			return fmt.Errorf("the store is of generation %d, and this host follows %d", g, seen)
		}
	}
	d.generation.Store(rev)
	return nil
}

// take takes records in.
func (d *Driver) take(kvs []store.KV) {
	for _, kv := range kvs {
		var err error
		switch kv.Key {
		case records.OwnerKey(d.opt.Resource):
			var o cluster.Owner
			if o, err = records.Decode[cluster.Owner](kv, false); err == nil {
				d.m.OwnerIs(o, kv.ModRev)
			}
		case KeySync:
			var s pair.Sync
			if s, err = records.Decode[pair.Sync](kv, false); err == nil && kv.ModRev > d.m.Sync.Mod {
				d.m.SyncIs(s, kv.ModRev)
				d.lookNow()
				d.signal()
			}
		case keyTold + string(d.opt.Peer):
			d.told = string(kv.Value)
		case keyTold + string(d.opt.Self):
			d.said = string(kv.Value) // also one that came late
		default:
			continue
		}
		if err != nil {
			d.opt.Log.Error("record ignored", "key", kv.Key, "err", err)
		}
	}
	d.step()
}

// looks looks at the node again and again. The first look comes after the records.
func (d *Driver) looks(ctx context.Context, listed <-chan struct{}) {
	select {
	case <-listed:
	case <-ctx.Done():
		return
	}
	t := time.NewTicker(cmp.Or(d.opt.Every, LookEvery))
	defer t.Stop()
	for ctx.Err() == nil {
		d.look(ctx)
		select {
		case <-ctx.Done():
		case <-d.again:
		case <-t.C:
		}
	}
}

// look looks once.
func (d *Driver) look(ctx context.Context) {
	var s pair.SyncRec
	held := false
	var now *parts
	within := d.opt.Within
	octx, end := context.WithCancel(ctx) // ends when what it finds would not count
	defer end()
	if d.ask(ctx, func() {
		d.unlook = end
		s, held, now = d.m.Sync, d.held, d.now.Load()
		within = min(within, d.m.Hang/2)
		if d.m.UnobservableAt != 0 && d.m.Dirty && !d.m.Promoted { // it counts as failed: what is left is to end it
			within = min(within, d.opt.Within/silent)
			if slices.ContainsFunc(d.m.Seen.Members, func(s pair.State) bool { return s != pair.Down }) {
				within = d.opt.Within / standing
			}
		}
	}) != nil || held {
		return
	}
	from := d.opt.Clock()
	dctx, cancel := context.WithTimeout(octx, within)
	r, told, err := now.data.Look(dctx, s.Sync)
	cancel()
	if octx.Err() != nil {
		return
	}
	if err != nil {
		d.opt.Log.Warn("this node's copy was not looked at", "err", err)
		r = pair.Replica{}
	}
	seen := pair.Seen{Replica: r, SyncMod: s.Mod}
	lctx, cancel := context.WithTimeout(ctx, d.opt.Within) // of their own: they are not to fail as the copy is slow
	defer cancel()
	for _, m := range now.members {
		seen.Members = append(seen.Members, m.State(lctx))
	}
	d.keep(ctx, now, seen.Members)
	d.post(ctx, func() {
		if d.held || d.now.Load() != now {
			return
		}
		was := d.m.Seen
		if d.m.Observed(seen, from); !reflect.DeepEqual(was, d.m.Seen) {
			d.signal()
		}
		if !d.ready {
			if e, ok := d.noted(); ok && d.m.Seen.Busy() {
				d.m.Adopt(e)
				d.m.Observed(seen, d.opt.Clock())
			}
			d.ready = true
		}
		d.tell(ctx, told)
		d.report(ctx)
		d.step()
	})
}

// keep has the members that are up do what they have to while the group runs here: an agent
// that finds it running has not started them.
func (d *Driver) keep(ctx context.Context, now *parts, states []pair.State) {
	serves := false
	if d.ask(ctx, func() { serves = d.m.Phase == pair.Serving && d.m.Promoted }) != nil || !serves {
		return
	}
	for i, m := range now.members {
		if k, ok := m.(Upkeeper); ok && states[i] == pair.Up {
			k.StartUpkeep()
		}
	}
}

// step begins what the core decides.
func (d *Driver) step() {
	if !d.ready || d.held {
		return
	}
	if d.m.Hangs(d.opt.Clock()) {
		d.cut()
	}
	for _, a := range d.m.Decide(d.opt.Clock()) {
		d.begin(a)
	}
}

// begin carries an action out, outside the loop.
func (d *Driver) begin(a pair.Action) {
	d.opt.Log.Info("pair", "action", describe(a))
	within, do := d.action(a)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	_, put := a.(pair.Put)
	if !put {
		d.cancel = cancel
	}
	d.acts.Go(func() {
		defer cancel()
		o := do(ctx)
		switch { // so that it is not tried again at once
		case put && o.Why != "":
			time.Sleep(putAgain)
		case put && !o.OK:
			time.Sleep(putBehind)
		}
		select {
		case d.posts <- func() { d.done(a, o) }:
		case <-d.over:
		}
	})
}

// done takes in how an action ended.
func (d *Driver) done(a pair.Action, o pair.Outcome) {
	if _, join := a.(pair.Join); join && !o.OK && d.m.Short {
		o.Why = fmt.Sprintf("the standby has not acknowledged for %s: commits do not wait for it any longer", d.opt.Patience)
	}
	if !o.OK {
		d.opt.Log.Warn("pair", "action", describe(a), "failed", o.Why)
	}
	if _, put := a.(pair.Put); !put {
		d.cancel, d.failed = nil, o.Why // none when it is OK
	}
	if _, drain := a.(pair.Drain); drain {
		d.undone = o.Why
	}
	d.stamp(a, o)
	if p, is := a.(pair.Promote); is && p.Shut && o.OK {
		d.event(context.Background(), cluster.EvOutage, wasShut)
	}
	d.lookNow()
	if _, put := a.(pair.Put); !put && d.m.UnobservableAt != 0 && d.unlook != nil {
		d.unlook() // what it finds would not count, and it may wait for a copy that hangs
	}
	now := d.opt.Clock()
	d.m.Done(a, o, now)
	if _, follow := a.(pair.Follow); follow && !o.OK {
		d.failed += "; the next try is at " + time.Now().Add(d.m.FollowAt.Sub(now)).Format(nextFormat)
	}
	d.signal()
	d.step()
}

// nextFormat is that of the time of a next try, to the second.
const nextFormat = "15:04:05 MST"

// lookNow asks for a look at the node.
func (d *Driver) lookNow() {
	select {
	case d.again <- struct{}{}:
	default:
	}
}

// Deadlines of actions.
const (
	promoteWithin = 2 * time.Minute // with the recovery of a server that is started
	briefWithin   = 5 * time.Second // the least for what takes a moment
	joinWithin    = time.Minute
	followWithin  = 4 * time.Hour // a copy of everything
	memberWithin  = time.Minute
)

// brief is the time of an action that takes a moment: where leases are long hosts are slow, and a look may take longer, too.
func (d *Driver) brief() time.Duration { return max(briefWithin, d.opt.Within) }

// slow is a member whose start may take longer than memberWithin.
type slow interface{ StartWithin() time.Duration }

func startWithin(m Member) time.Duration {
	if s, ok := m.(slow); ok {
		return s.StartWithin()
	}
	return memberWithin
}

// action is how one is carried out, and within which time.
func (d *Driver) action(a pair.Action) (within time.Duration, do func(context.Context) pair.Outcome) {
	now, s, told := d.now.Load(), d.m.Sync.Sync, d.told
	data := now.data
	plain := func(f func(context.Context) error) func(context.Context) pair.Outcome {
		return func(ctx context.Context) pair.Outcome { return outcome(f(ctx)) }
	}
	switch a := a.(type) {
	case pair.Put:
		return putWithin, func(ctx context.Context) pair.Outcome { return d.put(ctx, a) }
	case pair.Promote:
		if o, ok := data.(opener); ok && a.Shut {
			return d.brief(), plain(o.Reopen)
		}
		return promoteWithin, plain(func(ctx context.Context) error { return data.Promote(ctx, s) })
	case pair.Demote:
		return d.brief(), plain(func(ctx context.Context) error { return data.Demote(ctx, a.Hard) })
	case pair.Drain:
		return d.brief(), plain(func(ctx context.Context) error { return data.Drain(ctx, told) })
	case pair.Alone:
		return d.brief(), plain(data.Alone)
	case pair.Join:
		return joinWithin, func(ctx context.Context) pair.Outcome {
			proof, err := data.Join(ctx, told)
			o := outcome(err)
			o.Proof = proof
			return o
		}
	case pair.Follow:
		return followWithin, plain(func(ctx context.Context) error { return data.Follow(ctx, a.Cut) })
	case pair.Unfollow:
		return d.brief(), plain(data.Unfollow)
	case pair.StartMember:
		m := now.members[a.I]
		return startWithin(m), plain(m.Start)
	case pair.StopMember:
		return memberWithin, plain(func(ctx context.Context) error { return now.members[a.I].Stop(ctx, a.Hard) })
	}
	panic(fmt.Sprintf("no call for %T", a))
}

// outcome tells of an error what helps, too: the reason is what people see.
func outcome(err error) pair.Outcome {
	var e *fail.Error
	switch {
	case err == nil:
		return pair.Outcome{OK: true}
	case errors.As(err, &e) && e.Remedy != "":
		return pair.Outcome{Why: err.Error() + "; " + e.Remedy}
	}
	return pair.Outcome{Why: err.Error()}
}

// put writes the record, word by word as the core has it.
func (d *Driver) put(ctx context.Context, p pair.Put) pair.Outcome {
	// Another store that answers meanwhile has a generation of its own.
	conds := []store.Cmp{{Key: KeySync, Rev: p.SyncMod}, {Key: records.KeyGeneration, Rev: d.generation.Load()}}
	if p.OwnerMod != 0 {
		conds = append(conds, store.Cmp{Key: records.OwnerKey(d.opt.Resource), Rev: p.OwnerMod})
	}
	rev, ok, err := d.opt.Store.Txn(ctx, conds, []store.Op{{Key: KeySync, Value: records.Encode(p.Sync)}})
	if err != nil {
		return pair.Outcome{Why: err.Error()}
	}
	return pair.Outcome{OK: ok, Mod: rev}
}

// describe is what the log says of an action.
func describe(a pair.Action) string {
	if p, ok := a.(pair.Put); ok {
		return fmt.Sprintf("complete %v, license %s %s, to %q: %s", p.Sync.InSync, p.Sync.Host, p.Sync.Epoch, p.Sync.To, p.Why)
	}
	return fmt.Sprintf("%T%+v", a, a)
}
