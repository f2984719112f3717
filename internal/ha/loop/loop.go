package loop

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha"
	"holdfast/internal/host/storage"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

// tick is the longest time between two decisions. Deadlines are met to this
// grain; the guard's margin covers it.
const tick = 100 * time.Millisecond

// Watchdog is the port to the process that holds the watchdog device.
type Watchdog interface {
	Arm(ctx context.Context, until cluster.Instant) (watchdog.Status, error)
	Disarm(ctx context.Context) error
	Status(ctx context.Context) (watchdog.Status, error)
}

// Parts is what an agent is made of.
type Parts struct {
	Host     cluster.HostID
	Addr     string
	Cluster  string // its id, for status
	Identity string // of the data directory
	Boot     string // boot id
	Version  string
	Store    store.Store
	Driver   Driver
	Watchdog Watchdog
	Clock    func() cluster.Instant                        // see package clock
	Config   config.Cluster                                // the local file's, in force until the store's is read
	Seed     func(config.Cluster, cluster.GuestSpec) error // prepares what a start needs on this host; nil: nothing
	SeedPath string                                        // of the seed ISO; "" for none
	Emulate  bool                                          // no KVM here
	// what does not work here though a guest could be started, "" for nothing; nil: never
	Trouble    func() string
	Secure     func() bool                   // guests' memory may travel by TLS to this host and from it; nil: never
	Machine    string                        // UUID of the hardware; "" unknown
	Fencer     Fencer                        // needed where the configuration names fence devices
	Heartbeats Heartbeats                    // nil: no heartbeats
	Rhythm     *Rhythm                       // of the heartbeats; nil with Beats nil
	Remember   func(generation uint64) error // keeps the highest restore generation across restarts; nil: not
	Settled    func(generation uint64) bool  // this host has given the store of its own generation up for that of an older one; nil: never
	Log        *slog.Logger

	Peer       func(cluster.HostID) (Peer, error) // prepares calls to the agent of another host; nil: it can not be reached
	Undersized bool                               // a small configuration may be imported
	// Busy names a job that no configuration may be imported beside, "" when there is
	// none; conds say that none has begun since. Nil: there are no jobs.
	Busy func(ctx context.Context) (conds []store.Cmp, what string, err error)

	Probe     func(config.Cluster) *storage.Prober // of the shared storage; nil, or what returns nil: none
	Votes     bool                                 // this host runs a member of the store
	Admin     *etcdstore.Admin                     // of the store's members; nil: nobody cares for it
	BackupDir string                               // of this host's backups of the store

	Seen uint64 // the highest restore generation that this host has seen; 0: none
}

// ErrConflict: another agent runs under this host's name.
var ErrConflict = report.ErrConflict

// Agent is the daemon. Make it with New, then Run.
type Agent struct {
	Parts
	posts  chan func()
	looked chan struct{} // wakes the observer
	unwell chan struct{} // wakes the care of the store
	refit  chan struct{} // wakes the checks of whether the guest could be started here
	done   chan struct{} // closed when the loop has ended
	s      state         // owned by the loop
	work   sync.WaitGroup
	fatal  error // owned by the loop
	seeded seedState
	rival  rivalAgent // owned by the loop
	unread store.Unread

	stopMigration context.CancelFunc // of the one under way, else nil; owned by the loop
	stopStart     context.CancelFunc // the same for a start

	mu      sync.Mutex    // guards changed
	changed chan struct{} // closed at the next change
}

// New makes an agent. It does nothing yet.
func New(p Parts) *Agent {
	a := &Agent{Parts: p, posts: make(chan func(), 64), looked: make(chan struct{}, 1), unwell: make(chan struct{}, 1),
		refit: make(chan struct{}, 1), done: make(chan struct{}),
		changed: make(chan struct{})}
	me := ha.ThisHost{Identity: p.Identity, Boot: p.Boot, Instance: rand.Text(), Addr: p.Addr, Version: p.Version,
		Machine: p.Machine, Why: "not checked yet"}
	if p.Heartbeats != nil {
		me.HeartbeatPort = p.Heartbeats.Port()
	}
	a.s.core = ha.New(p.Host, cluster.MgmtVM, me)
	a.s.seen, a.s.rhythm, a.s.renewed = p.Seen, p.Rhythm, map[cluster.HostID]renewal{}
	a.s.cfg = p.Config
	a.s.configure()
	a.s.storeErr, a.s.unable = errors.New("not connected yet"), errors.New("not checked yet")
	return a
}

// Run observes, decides and acts until ctx ends. The guest, the watchdog's
// holder and the store's member are left as they are: a new agent goes on from
// there. It returns nil, ErrConflict or ErrRestored.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); a.work.Wait() }()
	defer close(a.done)
	a.firstLook(ctx)
	for _, loop := range []func(context.Context){a.follow, a.observe, a.watchDog, a.checkFit, a.checkHealth,
		a.checkStorage, a.checkDevices, a.setAddresses, a.care, a.countVotes, a.trim} {
		a.work.Go(func() { loop(ctx) })
	}
	return a.loop(ctx, a.step)
}

// Watch is Run on a host that runs guests only: it looks at the store now and
// then, so that the agent can tell and ask, and decides nothing. It needs no
// Driver. It returns nil or ErrRestored.
func (a *Agent) Watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); a.work.Wait() }()
	defer close(a.done)
	a.s.watches = true
	a.work.Go(func() { a.poll(ctx) })
	return a.loop(ctx, func(context.Context) {})
}

// loop runs what is posted, with a step after each turn.
func (a *Agent) loop(ctx context.Context, step func(context.Context)) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for a.fatal == nil {
		select {
		case <-ctx.Done():
			return nil
		case f := <-a.posts:
			f()
			a.drain()
		case <-t.C:
		}
		step(ctx)
	}
	return a.fatal
}

// drain runs the functions that are already posted, so that one decision sees
// them all.
func (a *Agent) drain() {
	for range len(a.posts) {
		(<-a.posts)()
	}
}

// post hands a function to the loop. It gives up when ctx ends.
func (a *Agent) post(ctx context.Context, f func()) {
	select {
	case a.posts <- f:
	case <-ctx.Done():
	case <-a.done:
	}
}

// ask runs a function in the loop and waits for it. It reports whether it ran.
func (a *Agent) ask(ctx context.Context, f func()) bool {
	ran := make(chan struct{})
	a.post(ctx, func() { f(); close(ran) })
	select {
	case <-ran:
		return true
	case <-ctx.Done():
	case <-a.done:
	}
	return false
}

// Extend lets this host's lease last from a moment on (ha.Machine.Extended).
func (a *Agent) Extend(ctx context.Context, from cluster.Instant) {
	a.post(ctx, func() { a.s.core.Extended(from, a.Clock()) })
}

// step decides once and begins what is to be done.
func (a *Agent) step(ctx context.Context) {
	if a.fatal != nil {
		return
	}
	if a.fatal = a.rival.check(a.s.core, a.Clock()); a.fatal != nil {
		return
	}
	if a.stopStart != nil && a.Clock() >= a.s.core.Lease.Deadline {
		a.stopStart() // the hypervisor is not to be called any more
	}
	a.beat()
	for _, act := range a.s.core.Decide(a.Clock()) {
		a.begin(ctx, act)
	}
}

// begin starts an action in a goroutine of its own. Its outcome comes back as a
// post, after which the loop decides anew.
func (a *Agent) begin(ctx context.Context, act ha.Action) {
	switch act := act.(type) {
	case ha.Conflict:
		a.fatal = fmt.Errorf("%w: %s", ErrConflict, act.Why)
		return
	case ha.Defect:
		a.Log.Error("a mistake in the decisions; the second one is left out", "what", act.What)
		return
	}
	call := a.call(act)
	jctx, cancel := context.WithTimeout(ctx, call.within)
	w := act.Work()
	switch w {
	case ha.WorkMigrate:
		a.stopMigration = cancel
	case ha.WorkStart:
		a.stopStart = cancel
	}
	if w != ha.WorkRenew && w != ha.WorkArm {
		a.Log.Info("begin", "action", w, "detail", describe(act))
	}
	a.work.Go(func() {
		o := call.do(jctx)
		cancel()
		if d := ha.Backoff(act, o); d > 0 {
			clock.Sleep(ctx, d)
		}
		// The outcome must reach the loop even when the agent is about to end.
		a.post(context.WithoutCancel(ctx), func() { a.finished(act, o) })
	})
}

// finished hands the outcome of an action to the core.
func (a *Agent) finished(act ha.Action, o ha.Outcome) {
	was := a.s.core.Watchdog.Working
	a.s.core.Done(act, o, a.Clock())
	switch act := act.(type) {
	case ha.Txn:
		a.answered(act, o)
	case ha.Arm, ha.Disarm:
		a.s.dogWhy = o.Why
		a.tellDog(was)
	case ha.Migrate:
		a.stopMigration = nil
	case ha.Start:
		a.stopStart = nil
	}
	if ha.Touches(act) {
		a.look()
	}
	a.notify()
}

// look wakes the observer.
func (a *Agent) look() {
	select {
	case a.looked <- struct{}{}:
	default:
	}
}

// notify wakes everybody who waits for a change.
func (a *Agent) notify() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.changed)
	a.changed = make(chan struct{})
}

// next returns the channel that closes at the next change.
func (a *Agent) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}
