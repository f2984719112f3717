package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
	"holdfast/internal/store"
)

// Data is this node's copy of the data.
type Data interface {
	// Look says how the copy is, by what the record says, and what the peer must know
	// of it for a Join.
	Look(ctx context.Context, s pair.Sync) (r pair.Replica, told string, err error)
	Promote(ctx context.Context, s pair.Sync) error
	// Demote ends all writing. hard: so soon that the host is not reset for it.
	Demote(ctx context.Context, hard bool) error
	// Drain lets no client write, and returns when the peer, which has told told, has everything.
	Drain(ctx context.Context, told string) error
	Alone(ctx context.Context) error
	// Join gives the proof that the peer has everything.
	Join(ctx context.Context, told string) (proof string, err error)
	Follow(ctx context.Context, cut bool) error
	// Unfollow ends following: it does not begin again by itself.
	Unfollow(ctx context.Context) error
	// First makes this copy the one that a pair begins with. Nobody else uses it meanwhile.
	First(ctx context.Context) error
	Close()
}

// Member is a part of the group.
type Member interface {
	// Spec is what the core knows of it.
	Spec() pair.Member
	State(ctx context.Context) pair.State
	// Start returns when its check passes.
	Start(ctx context.Context) error
	// Stop returns when it is seen to be gone. Hard: it is not asked first.
	Stop(ctx context.Context, hard bool) error
}

// Upkeeper is a member that has something to do while the group runs here.
type Upkeeper interface {
	StartUpkeep() // begins it, unless it goes on already
	StopUpkeep()  // ends it
}

// Options are what a driver needs.
type Options struct {
	Self, Peer cluster.HostID
	Resource   cluster.ResourceID
	Store      store.Store
	Data       Data
	Members    []Member      // in the order in which they start
	Every      time.Duration // between two looks at the node; 0: LookEvery
	Within     time.Duration // of a look, if that is less than half of Hang; 0: LookWithin
	Patience   time.Duration // for which commits wait for a peer that does not acknowledge
	Hang       time.Duration // for which what serves may not answer before it counts as failed; 0: 10 s
	RunDir     string        // empty after a boot
	Clock      func() cluster.Instant
	Log        *slog.Logger
	Trouble    func() string // what does not work beside the copy, for people; may be nil
	// Also adds to what this node reports; may be nil.
	Also func(*cluster.PairReport)
	// Seen is the generation of the store that this host follows; records of a lesser one are not taken
	// in. nil: every store is followed.
	Seen func() (uint64, error)
}

// Driver is the group of one node. Its methods may be called concurrently; Run must run.
type Driver struct {
	opt   Options
	posts chan func()
	wake  chan struct{}
	again chan struct{} // a value asks for a look
	over  chan struct{} // closed when the loop has ended
	began atomic.Bool
	ended chan struct{} // closed when all that it has begun has ended, too

	generation atomic.Int64 // revision of the store's generation, as it was listed

	now atomic.Pointer[parts] // changes in the loop only

	// What follows belongs to the loop.
	m       *pair.Machine
	ready   bool   // records and the node were read
	told    string // by the peer, of its copy
	said    string // by this node to its peer, as it stands in the store
	shown   Report // by this node, as it stands in the store
	times   cluster.PairTimes
	failed  string             // why the last action failed that is no Put; "" when it did not
	undone  string             // why the last hand-over failed; "" when that was no action
	held    bool               // nothing is looked at and nothing is done: Begin has the copy
	writing map[string]bool    // keys of records of this node that are being written
	cancel  context.CancelFunc // of the action under way
	unlook  context.CancelFunc // of the look under way
	waits   []waiter
	acts    sync.WaitGroup
	out     outage
	events  func(context.Context, cluster.Event) error // writes one; nil: nobody does
}

// parts are what the group is made of on this node.
type parts struct {
	data    Data
	members []Member
}

func (p *parts) specs() (out []pair.Member) {
	for _, m := range p.members {
		out = append(out, m.Spec())
	}
	return out
}

// noteName is the file in RunDir that names the epoch for which the group was started.
const noteName = "pair-epoch"

// New makes a driver that knows nothing yet.
func New(opt Options) *Driver {
	now := &parts{opt.Data, opt.Members}
	opt.Within = cmp.Or(opt.Within, LookWithin)
	d := &Driver{
		opt: opt, writing: map[string]bool{}, posts: make(chan func()), wake: make(chan struct{}, 1),
		again: make(chan struct{}, 1), over: make(chan struct{}), ended: make(chan struct{}),
		m: pair.New(opt.Self, opt.Peer, now.specs(), opt.Patience),
	}
	d.now.Store(now)
	if opt.Hang > 0 {
		d.m.Hang = opt.Hang
	}
	return d
}

// errNotReady is why nothing can be said yet.
var errNotReady = errors.New("the pair's records or this node's copy were not read yet")

var errLoopEnded = errors.New("the pair's loop has ended")

// ask runs f in the loop. It is an error when ctx or the loop ended first.
func (d *Driver) ask(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case d.posts <- func() { f(); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.over:
		return errLoopEnded
	}
}

// staleAfter is how long a look at this node may take, as one that hangs in the kernel.
const staleAfter = 20 * time.Second

// Observe tells what there is of the group on this node. One that can not be looked at is not known to run
// it: a node that stays so for long is reset (package ha).
func (d *Driver) Observe(ctx context.Context) (g cluster.Guest, err error) {
	if err := d.catchUp(ctx); err != nil {
		return cluster.Guest{State: cluster.GuestUnknown}, err
	}
	g.State = cluster.GuestUnknown
	err = errors.Join(d.ask(ctx, func() {
		m := d.m
		switch {
		case !d.ready:
			err = errNotReady
		case !d.held && d.opt.Clock().Sub(m.SeenAt) > staleAfter:
			err = fmt.Errorf("this node was not checked for %s: a check of it hangs", staleAfter)
		case m.Phase == pair.Ended && m.Empty() && m.Arrived():
			g.State, g.Epoch = cluster.GuestArrived, m.Owner.Epoch
		case m.Phase == pair.Ended && m.Empty() && m.Coming() && !m.Judged():
			err = errors.New("its copy was not looked at since the group was handed over to it")
		case m.Phase == pair.Ended && m.Empty(), m.Phase != pair.Ended && m.Moved() && m.Gone():
			g.State, g.Moved, g.GaveUp = cluster.GuestAbsent, m.Moved(), m.Why
		default:
			g.State, g.Epoch = cluster.GuestRunning, m.Granted
			g.Migrating = m.Phase == pair.HandingOver
		}
	}), err)
	return g, err
}

// behindWithin is how long Observe asks the store. When that does not answer, what is known
// counts: a host that is cut off must be able to say that nothing is here.
const behindWithin = 300 * time.Millisecond

// catchUp reads the record of the copies while the group is on its way to this node: package
// ha may know already that it was handed over, and this driver not yet.
func (d *Driver) catchUp(ctx context.Context) error {
	coming := false
	if err := d.ask(ctx, func() {
		o := d.m.Owner
		coming = o.State == cluster.Migrating && o.To == d.opt.Self || o.State == cluster.Settling && o.Host == d.opt.Self
	}); err != nil || !coming {
		return err
	}
	rctx, cancel := context.WithTimeout(ctx, behindWithin)
	defer cancel()
	kv, ok, err := d.opt.Store.Get(rctx, KeySync)
	if err != nil || !ok {
		return nil
	}
	return d.ask(ctx, func() { d.take([]store.KV{kv}) })
}

// Wake delivers a value when something has changed.
func (d *Driver) Wake() <-chan struct{} { return d.wake }

func (d *Driver) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Check says why the group can not start here.
func (d *Driver) Check(ctx context.Context, _ cluster.GuestSpec) error {
	why := ""
	err := d.ask(ctx, func() {
		switch m := d.m; {
		case !d.ready:
			why = errNotReady.Error()
		case m.Phase == pair.Serving:
		default:
			why = m.Fit()
		}
	})
	if err == nil && why != "" {
		err = errors.New(why)
	}
	return err
}

// Start lets the group run here for the epoch.
func (d *Driver) Start(ctx context.Context, spec cluster.GuestSpec) error {
	if err := d.Check(ctx, spec); err != nil {
		return fmt.Errorf("start the group: %w: %w", cluster.ErrNotStarted, err)
	}
	return d.grant(ctx, spec.Epoch)
}

// Carry notes that the group, which runs here, does so by the license of another store, which was formed
// from the one of before: the agent begins anew with that store, and finds it so.
func (d *Driver) Carry(e cluster.Epoch) error {
	return durable.WriteFile(d.note(), []byte(e.String()+"\n"), 0o600)
}

// grant notes the epoch on disk before anything starts.
func (d *Driver) grant(ctx context.Context, e cluster.Epoch) error {
	if err := d.Carry(e); err != nil {
		return fmt.Errorf("start the group: %w: %w", cluster.ErrNotStarted, err)
	}
	return d.ask(ctx, func() {
		d.m.Grant(e)
		d.times.Taken, d.times.Promoted, d.times.Active = time.Now().UTC(), time.Time{}, time.Time{}
		d.cut()
		d.step()
		d.signal()
	})
}

func (d *Driver) note() string { return filepath.Join(d.opt.RunDir, noteName) }

// noted is the epoch for which a process before this one started the group.
func (d *Driver) noted() (cluster.Epoch, bool) {
	b, err := os.ReadFile(d.note())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.opt.Log.Error("the note of the group's epoch", "err", err)
		}
		return cluster.Epoch{}, false
	}
	e, err := cluster.ParseEpoch(string(b[:max(0, len(b)-1)]))
	if err != nil {
		d.opt.Log.Error("the note of the group's epoch", "file", d.note(), "err", err)
		return cluster.Epoch{}, false
	}
	return e, true
}

// cut ends what is under way.
func (d *Driver) cut() {
	if d.cancel != nil {
		d.cancel()
	}
}

// Shutdown asks the group to end.
func (d *Driver) Shutdown(ctx context.Context) error {
	return d.ask(ctx, func() {
		d.m.Stop()
		d.step()
	})
}

// Kill ends the group on this node, and proves it.
func (d *Driver) Kill(ctx context.Context) error {
	err := d.ask(ctx, func() {
		if d.m.Phase != pair.Ended {
			d.m.Revoke()
			d.cut()
			d.step()
		}
	})
	if err == nil {
		err = d.await(ctx, func() bool { return d.ready && d.m.Empty() })
	}
	if err != nil {
		return fmt.Errorf("end the group: %w: %w", cluster.ErrNotProved, err)
	}
	return nil
}

// ready is a copy that can say whether the group could be handed over now.
type ready interface {
	Ready(ctx context.Context) error
}

// opener is a copy that lets clients write again when somebody has made it read-only, unless it has ended since.
type opener interface {
	Reopen(ctx context.Context) error
}

// Migrate hands the group over to the peer. Which address it has is in the settings.
func (d *Driver) Migrate(ctx context.Context, _ string, _ bool) error {
	if r, ok := d.now.Load().data.(ready); ok {
		if err := r.Ready(ctx); err != nil {
			return fmt.Errorf("nothing was stopped: %w", err)
		}
	}
	why, state := "", 0 // 1: gone, 2: it stays
	err := d.ask(ctx, func() {
		switch {
		case d.m.Phase != pair.Serving:
			why, state = "the group does not run here", 2
		case !d.m.Sync.Has(d.opt.Peer):
			why, state = fmt.Sprintf("the copy on %s does not have everything yet", d.opt.Peer), 2
		default:
			d.m.HandOver()
			d.undone = ""
			d.times.Asked, d.times.Stopped, d.times.Handed = time.Now().UTC(), time.Time{}, time.Time{}
			d.step()
		}
	})
	if err == nil && state == 0 {
		err = d.await(ctx, func() bool {
			switch m := d.m; {
			case m.Moved() && m.Gone():
				state = 1
			case m.Phase != pair.HandingOver:
				why, state = "the group could not be handed over", 2
				if d.undone != "" {
					why += ": " + d.undone
				}
			}
			return state != 0
		})
	}
	switch {
	case err != nil:
		// ctx has ended: the answer does not matter, the core has one of its own.
		return errors.Join(err, d.ask(context.WithoutCancel(ctx), d.m.CancelHandover))
	case state == 2:
		return errors.New(why)
	}
	return nil
}

// Resume lets the group start here that the peer has handed over.
func (d *Driver) Resume(ctx context.Context) error {
	var e cluster.Epoch
	serves, arrived := false, false
	if err := d.ask(ctx, func() {
		e, serves, arrived = d.m.Owner.Epoch, d.m.Phase == pair.Serving, d.ready && d.m.Empty() && d.m.Arrived()
	}); err != nil {
		return err
	}
	switch {
	case serves:
		return nil
	case !arrived:
		return errors.New("nothing was handed over to this node")
	}
	return d.grant(ctx, e)
}

// AbortMigration lets the group go on here.
func (d *Driver) AbortMigration(ctx context.Context) error {
	return d.ask(ctx, func() {
		d.m.CancelHandover()
		d.step()
	})
}

// Begin makes this node's copy the one that the pair begins with: it is complete, and the other
// one follows it, and loses what it had. A pair that was set up before is refused.
func (d *Driver) Begin(ctx context.Context) error {
	why := ""
	if err := d.ask(ctx, func() {
		switch m := d.m; {
		case !d.ready:
			why = errNotReady.Error()
		case m.Sync.Mod != 0:
			why = "the pair was set up already"
		case d.held || m.Acting != nil || m.Phase != pair.Ended:
			why = "this node is busy"
		default:
			d.held = true
		}
	}); err != nil {
		return err
	}
	if why != "" {
		return fail.Errorf(fail.Refused, "%s", why)
	}
	_, there, err := d.opt.Store.Get(ctx, KeySync)
	if err == nil && there {
		err = fail.Errorf(fail.Refused, "the pair was set up already")
	}
	if err == nil {
		err = d.now.Load().data.First(ctx)
	}
	if err == nil {
		_, ok, terr := d.opt.Store.Txn(ctx, []store.Cmp{{Key: KeySync}}, []store.Op{
			{Key: KeySync, Value: records.Encode(pair.Sync{InSync: []cluster.HostID{d.opt.Self}, Host: d.opt.Self})},
		})
		if err = terr; err == nil && !ok {
			err = fail.Errorf(fail.Refused, "the pair was set up already, by the other node")
		}
	}
	return errors.Join(err, d.release(ctx))
}

// Close waits for the end of Run, whose context has ended; Run need not have begun.
func (d *Driver) Close() error {
	if d.began.Load() {
		<-d.ended
	}
	now := d.now.Load()
	for _, m := range now.members {
		if k, ok := m.(Upkeeper); ok {
			k.StopUpkeep()
		}
	}
	now.data.Close()
	return nil
}
