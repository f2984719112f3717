package arbitrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
	"holdfast/internal/ha/loop"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/internal/pair"
	"holdfast/internal/pair/arbiter"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

// Arbiter is what decides which of the two nodes goes on alone.
type Arbiter interface {
	Kind() arbiter.Kind
	// Tiebreak asks whether a generation of the store is this node's. Fence devices switch the peer off
	// for that, and have to show it off.
	Tiebreak(ctx context.Context, machine string, gen uint64) (won bool, err error)
	// Off returns nil when the peer is shown off; it is ordered nothing.
	Off(ctx context.Context, machine string) error
	// Check returns nil when the arbiter answers, so that this node could go on alone.
	Check(ctx context.Context, machine string) error
	// Run does what is to be done all the time, until ctx ends.
	Run(ctx context.Context)
}

// Group is what the pair keeps up on this node.
type Group interface {
	Observe(ctx context.Context) (cluster.Guest, error)
	// Carry has it go on by a license of the new store.
	Carry(license cluster.Epoch) error
}

// Core is what runs the group on this node.
type Core interface {
	Extend(ctx context.Context, from cluster.Instant) // the lease lasts from then on, too
	Tell(ctx context.Context, ev cluster.Event) error
	Status() cluster.Status
}

// Options are what an arbitration is made of.
type Options struct {
	Self, Peer cluster.HostID
	Arbiter    Arbiter
	Manual     bool   // a person decides whose data are kept when both went on alone
	DataDir    string // of the agent
	Member     etcdstore.MemberConfig
	Process    supervise.Spec // of the member
	Own        store.Store    // by this host's member alone
	Any        store.Store    // by any member that answers
	Admin      *etcdstore.Admin
	Machine    string                                            // UUID of this host's hardware; "": not known
	Ask        func(context.Context) (cluster.PeerStatus, error) // the peer's agent
	Group      Group
	Timings    cluster.Timings
	Now        func() cluster.Instant
	Log        *slog.Logger
}

// Arbitration keeps the store of a pair without a third voter. It alone starts and stops this
// host's member. One goroutine looks, decides and acts, so a look never begins before an action has
// ended.
type Arbitration struct {
	Options
	member member

	core Core // nil before Run

	mu      sync.Mutex
	m       *arbiter.Machine
	every   time.Duration // between two looks
	looked  bool
	heard   bool           // the peer has said which hardware it is, in the life of this process
	machine string         // of the peer
	keep    cluster.HostID // whose data are to be kept, as the peer says
	whole   bool           // the peer says that it could go on alone
	ends    bool           // a watchdog ends what the peer runs, as was known last
	reaches bool
	isOff   bool   // the peer was shown off at the last look, since it is lost
	away    bool   // it was shown off at the last look, since this node goes on alone: for people
	chosen  choice // what a person has said of two stores
	problem string // why nothing can be decided, "" for nothing
	person  string // who has said that the peer is off
}

// Times of arbitration.
const (
	askWithin     = 700 * time.Millisecond // for the peer's word
	askOffWithin  = 100 * time.Millisecond // of one that is shown off
	readWithin    = 700 * time.Millisecond // for a read that needs a quorum
	askLostWithin = 300 * time.Millisecond // for both, of a peer that has already been lost: the lease runs out
	holdsWithin   = 300 * time.Millisecond
	// headStart bounds what the rest may take: a contest, and what the two nodes differ in when
	// they call their parting, are each less than half of it. The latter is a look (askWithin,
	// readWithin, holdsWithin, Every) on a machine that is slow.
	headStart     = 8 * time.Second
	contestWithin = 3500 * time.Millisecond // a device may take 0.3 s more to end its session
	stopWithin    = 3 * time.Second         // then the member is killed
	joinAgain     = 30 * time.Second
	formWithin    = 2 * time.Minute
	deviceAgain   = 10 * time.Second
	offAgain      = 500 * time.Millisecond // between two looks whether a lost peer is off
)

// Every is the time between two looks, least or more. What is lost is lost after a lease without a word, so where
// leases are long, on slow hosts, nothing is gained by several looks a second: at the peer, each of which reads with a
// quorum, or at a copy, each of which asks its server much.
func Every(lease, least time.Duration) time.Duration {
	return min(max(lease/20, least), time.Second)
}

// New makes an arbitration that has not begun.
func New(o Options) *Arbitration { return &Arbitration{Options: o, member: member{spec: o.Process}} }

// Begin reads what this node has noted, and takes the member over that an earlier agent has left.
func (x *Arbitration) Begin(ctx context.Context) error {
	mark, err := loadMark(x.DataDir)
	if err != nil {
		return err
	}
	if x.chosen, err = loadChoice(x.DataDir); err != nil {
		return err
	}
	t := x.Timings
	x.m = arbiter.New(x.Self, x.Peer, x.Arbiter.Kind(), arbiter.Times{
		Detect: t.Lease, Serving: t.Lease / 4, HeadStart: headStart, Silence: ha.Silence(t, ha.Guard(t, t.Watchdog)),
	}, mark)
	x.m.Manual, x.every = x.Manual, Every(t.Lease, 200*time.Millisecond)
	return x.member.adopt(ctx)
}

// Run arbitrates until ctx ends. The member goes on then.
func (x *Arbitration) Run(ctx context.Context, core Core) (err error) {
	x.core = core // what uses it begins below
	var w sync.WaitGroup
	defer w.Wait()
	defer func() { err = errors.Join(err, x.member.leave()) }()
	w.Go(func() { x.watchDevices(ctx) })
	w.Go(func() { x.Arbiter.Run(ctx) })
	var told arbiter.State
	first := true
	for {
		err := x.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		now := ""
		if err != nil {
			now = err.Error()
		}
		x.mu.Lock()
		was, state := x.problem, x.m.State()
		x.problem = now
		x.mu.Unlock()
		if now != was && now != "" {
			x.Log.Warn("the store of two voters can not be looked at, nothing is decided", "err", err)
		}
		if err == nil && (first || state != told) {
			first, told = false, state
			x.Log.Info("the store of two voters", "state", stateText(x.Arbiter.Kind(), state))
		}
		if !clock.Sleep(ctx, x.every) {
			return nil
		}
	}
}

// step hears, looks, decides and acts, once.
func (x *Arbitration) step(ctx context.Context) error {
	said := make(chan saying, 1)
	go func() { said <- x.hear(ctx) }() // so that a silent peer is waited for once, not for its word and for its vote
	hears := sync.OnceValue(func() saying { return <-said })
	seen, err := x.look(ctx, hears)
	word, heard := hears().word, hears().heard
	if err != nil {
		return err
	}
	x.mu.Lock()
	seen.Reaches, seen.Off = x.reaches, x.isOff
	x.m.Hears(word, heard)
	x.m.Observed(seen, x.Now())
	if err := x.choose(heard); err != nil {
		x.mu.Unlock()
		return err
	}
	x.looked = true
	act := x.m.Decide(x.Now())
	person := x.person
	x.mu.Unlock()
	if person != "" && seen.Store.Role == arbiter.Single && seen.Quorum && x.core.Tell(ctx, pair.Chosen(x.Self, person)) == nil { // else again
		x.mu.Lock()
		x.person = ""
		x.mu.Unlock()
	}
	if act == nil {
		return nil
	}
	began := time.Now()
	o, err := x.do(ctx, act)
	x.Log.Info("arbitration", "action", fmt.Sprintf("%T%+v", act, act), "outcome", fmt.Sprintf("%+v", o), "took",
		time.Since(began), "err", err)
	x.mu.Lock()
	x.m.Done(act, o, x.Now())
	x.mu.Unlock()
	if arbiter.Extends(act, o) {
		x.core.Extend(ctx, x.Now())
	}
	return nil
}

var roles = []string{arbiter.Empty: "empty", arbiter.Joining: "joining", arbiter.Two: "two", arbiter.Single: "single"}

// roleOf reads the name of a role.
func roleOf(name string) (arbiter.Role, error) {
	i := slices.Index(roles, name)
	if i < 0 {
		return 0, fmt.Errorf("role %q of a store: want one of %q", name, roles)
	}
	return arbiter.Role(i), nil
}

// PeerStatus is what the peer is told.
func (x *Arbitration) PeerStatus() (cluster.PeerStatus, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.looked || x.m.Seen.Store.Role == arbiter.Empty && !x.m.Fresh {
		return cluster.PeerStatus{}, fail.Errorf(fail.Unavailable, "this node has not looked at its own store yet")
	}
	w := x.m.Tells()
	return cluster.PeerStatus{Gen: w.Store.Gen, From: w.Store.From, Role: roles[w.Store.Role],
		WasActive: w.Store.WasActive, Won: w.Won, Machine: x.Machine,
		Whole: x.couldGoOn(), Keep: x.m.Keep}, nil
}

// couldGoOn reports that this node could go on alone. The caller holds mu.
func (x *Arbitration) couldGoOn() bool {
	return x.looked && x.problem == "" && x.m.State() == arbiter.Whole
}

// watchDevices asks the peer's fence devices whether they could be used, and when it is lost or
// this node goes on alone, whether they show it off. An agent that began alone does not know which
// hardware the peer is, so what it is shown then is for people only.
func (x *Arbitration) watchDevices(ctx context.Context) {
	var checked time.Time
	for {
		x.mu.Lock()
		machine, lost, alone := x.machine, x.heard && x.m.LostAt != 0, !x.m.Heard && x.m.State() == arbiter.Alone
		x.mu.Unlock()
		off, away, reaches := false, false, false
		due := x.Arbiter.Kind() == arbiter.Ping || time.Since(checked) >= deviceAgain
		cctx, cancel := context.WithTimeout(ctx, contestWithin)
		switch {
		case lost:
			off = x.Arbiter.Off(cctx, machine) == nil
		case due && alone:
			away, checked = x.Arbiter.Off(cctx, machine) == nil, time.Now()
		case due:
			reaches, checked = x.check(cctx, machine) == nil, time.Now()
		}
		cancel()
		x.mu.Lock()
		x.isOff = off
		if due && !lost {
			x.reaches, x.away = reaches, away
		}
		x.mu.Unlock()
		if !clock.Sleep(ctx, offAgain) {
			return
		}
	}
}

// ShownOff reports that a fence device showed the peer off when it was asked last.
func (x *Arbitration) ShownOff() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.m.Heard && (x.isOff || x.away)
}

// Text says how the two voters are, for people.
func (x *Arbitration) Text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.problem != "":
		return "nothing is decided: " + x.problem
	case !x.looked:
		return "not looked at yet"
	}
	return stateText(x.Arbiter.Kind(), x.m.State())
}

// WhyNot says why the loss of one of the nodes would not be answered by the other one; "": it would.
func (x *Arbitration) WhyNot() string {
	x.mu.Lock()
	own, peer := x.couldGoOn(), x.whole
	x.mu.Unlock()
	switch {
	case !own:
		return string(x.Self) + ": " + x.Text()
	case !peer:
		return string(x.Peer) + " can not go on alone; see there: holdfast pair status"
	}
	return ""
}

// Resolve takes a person's word: of a lost peer, that it is off and has not gone on alone; after
// both went on alone, that this node's data are kept. False: it is neither.
func (x *Arbitration) Resolve(user string) (bool, error) {
	seen, err := loop.LoadGeneration(x.DataDir)
	if err != nil {
		return false, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.problem != "":
		return false, fail.Errorf(fail.Unavailable, "nothing is decided: %s", x.problem)
	case x.looked && x.m.State() == arbiter.SplitOperator && !x.m.Heard:
		return false, fail.Errorf(fail.Refused, "split brain: both nodes have gone on alone, and %s does not answer: "+
			"choose whose data are kept when both answer", x.Peer)
	case x.looked && x.m.State() == arbiter.SplitOperator:
		if err := x.keeps(x.Self); err != nil {
			return false, err
		}
		x.Log.Warn("a person says that this node's data are kept", "user", user)
		x.person = user
		return true, nil
	case !x.looked || x.m.LostAt == 0:
		return false, nil
	}
	gen, err := loop.DrawGeneration(max(seen, x.m.Seen.Store.Gen))
	if err != nil {
		return false, err
	}
	x.Log.Warn("a person says that the other node is off", "user", user, "generation", gen)
	x.person = user
	x.m.Confirm(gen)
	return true, nil
}

// Together reports that the other node's member may answer for this one's.
func (x *Arbitration) Together() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.looked && !x.m.Apart()
}

// Settled reports that this node has the store of that generation by its own note, which changes only
// when a generation was won, or when it was given up for the peer's. Of two that both nodes have won
// the one that is kept may be the lesser.
func (x *Arbitration) Settled(gen uint64) bool {
	f, found, err := etcdstore.ReadFormation(x.Member.DataDir)
	return err == nil && found && f.Gen == gen
}

// markFile is the machine's durable note.
func markFile(dataDir string) string { return filepath.Join(dataDir, "arbitration.json") }
