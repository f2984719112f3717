package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha"
	"holdfast/internal/ha/loop"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair/arbiter"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

// arbitration keeps the store of a pair without a third voter: it drives package arbiter,
// whose doc.go lists what its caller owes it. It alone starts and stops this host's member.
// One goroutine looks, decides and acts, so a look never begins before an action has ended.
type arbitration struct {
	self, peer cluster.HostID
	by         arbiter.Kind // not Operator
	manual     bool         // a person decides whose data are kept when both went on alone
	dataDir    string       // of the agent
	member     etcdstore.MemberConfig
	child      *child
	own        store.Store // by this host's member alone
	any        store.Store // by any member that answers
	admin      *etcdstore.Admin
	hardware   string // UUID of this host's; "": not known
	log        *slog.Logger

	now   func() cluster.Instant
	ask   func(context.Context) (cluster.PairWord, error)                     // the peer's agent
	holds func(context.Context) (holds bool, by uint64)                       // the group is here, or may be; by a license of that generation, 0: not known
	win   func(ctx context.Context, machine string, gen uint64) (bool, error) // whether a generation is this node's; of Fence: the peer was shown off after it was ordered so
	off   func(ctx context.Context, machine string) error                     // nil: the peer is shown off; it is ordered nothing
	check func(ctx context.Context, machine string) error                     // nil: the arbiter answers, so this node could go on alone
	pings *answers                                                            // of Ping
	tell  func(ctx context.Context, user string) error                        // an event: a person has chosen this node's data

	extend func(ctx context.Context, from cluster.Instant)          // the lease lasts from then on, too
	runs   func(context.Context) (license cluster.Epoch, runs bool) // the group runs here, surely, by that license
	carry  func(license cluster.Epoch) error                        // it runs by that license from now on

	mu      sync.Mutex
	m       *arbiter.Machine
	every   time.Duration // between two looks
	looked  bool
	heard   bool           // the peer has said which hardware it is, in the life of this process
	machine string         // of the peer
	keep    cluster.HostID // whose data are to be kept, as the peer says
	whole   bool           // the peer says that it could go on alone
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
	// readWithin, holdsWithin, looksEvery) on a machine that is slow.
	headStart     = 8 * time.Second
	contestWithin = 3500 * time.Millisecond // a device may take 0.3 s more to end its session
	stopWithin    = 3 * time.Second         // then the member is killed
	joinAgain     = 30 * time.Second
	formWithin    = 2 * time.Minute
	deviceAgain   = 10 * time.Second
	offAgain      = 500 * time.Millisecond // between two looks whether a lost peer is off
)

// looksEvery is the time between two looks, least or more. What is lost is lost after a lease without a word, so where
// leases are long, on slow hosts, nothing is gained by several looks a second: at the peer, each of which reads with a
// quorum, or at a copy, each of which asks its server much.
func looksEvery(lease, least time.Duration) time.Duration {
	return min(max(lease/20, least), time.Second)
}

// begin reads the mark and takes the member over that an earlier agent has left.
func (x *arbitration) begin(ctx context.Context, t cluster.Timings) error {
	mark, err := loadMark(x.dataDir)
	if err != nil {
		return err
	}
	if x.chosen, err = loadChoice(x.dataDir); err != nil {
		return err
	}
	x.m = arbiter.New(x.self, x.peer, x.by, arbiter.Times{Detect: t.Lease, Serving: t.Lease / 4, HeadStart: headStart, Silence: ha.Silence(t, ha.Guard(t, t.Watchdog))}, mark)
	x.m.Manual, x.every = x.manual, looksEvery(t.Lease, 200*time.Millisecond)
	return x.child.adopt(ctx)
}

// run arbitrates until ctx ends. The member goes on then.
func (x *arbitration) run(ctx context.Context) (err error) {
	var w sync.WaitGroup
	defer w.Wait()
	defer func() { err = errors.Join(err, x.child.leave()) }()
	w.Go(func() { x.watchDevices(ctx) })
	if x.pings != nil {
		w.Go(func() { x.pings.p.Run(ctx) })
	}
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
			x.log.Warn("the store of two voters can not be looked at, nothing is decided", "err", err)
		}
		if err == nil && (first || state != told) {
			first, told = false, state
			x.log.Info("the store of two voters", "state", stateText(x.by, state))
		}
		if !clock.Sleep(ctx, x.every) {
			return nil
		}
	}
}

// step hears, looks, decides and acts, once.
func (x *arbitration) step(ctx context.Context) error {
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
	x.m.Observed(seen, x.now())
	if err := x.choose(heard); err != nil {
		x.mu.Unlock()
		return err
	}
	x.looked = true
	act := x.m.Decide(x.now())
	person := x.person
	x.mu.Unlock()
	if person != "" && seen.Store.Role == arbiter.Single && seen.Quorum && x.tell(ctx, person) == nil { // else again
		x.mu.Lock()
		x.person = ""
		x.mu.Unlock()
	}
	if act == nil {
		return nil
	}
	began := time.Now()
	o, err := x.do(ctx, act)
	x.log.Info("arbitration", "action", fmt.Sprintf("%T%+v", act, act), "outcome", fmt.Sprintf("%+v", o), "took", time.Since(began), "err", err)
	x.mu.Lock()
	x.m.Done(act, o, x.now())
	x.mu.Unlock()
	if arbiter.Extends(act, o) {
		x.extend(ctx, x.now())
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

// word is what the peer is told.
func (x *arbitration) word() (cluster.PairWord, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.looked || x.m.Seen.Store.Role == arbiter.Empty && !x.m.Fresh {
		return cluster.PairWord{}, fail.Errorf(fail.Unavailable, "this node has not looked at its own store yet")
	}
	w := x.m.Tells()
	return cluster.PairWord{Gen: w.Store.Gen, From: w.Store.From, Role: roles[w.Store.Role], Held: w.Store.Held, Won: w.Won, Machine: x.hardware,
		Whole: x.couldGoOn(), Keep: x.m.Keep}, nil
}

// couldGoOn reports that this node could go on alone. The caller holds mu.
func (x *arbitration) couldGoOn() bool {
	return x.looked && x.problem == "" && x.m.State() == arbiter.Whole
}

// watchDevices asks the peer's fence devices whether they could be used, and when it is lost or
// this node goes on alone, whether they show it off. An agent that began alone does not know which
// hardware the peer is, so what it is shown then is for people only.
func (x *arbitration) watchDevices(ctx context.Context) {
	var checked time.Time
	for {
		x.mu.Lock()
		machine, lost, alone := x.machine, x.heard && x.m.LostAt != 0, !x.m.Heard && x.m.State() == arbiter.Alone
		x.mu.Unlock()
		off, away, reaches := false, false, false
		due := x.by == arbiter.Ping || time.Since(checked) >= deviceAgain
		cctx, cancel := context.WithTimeout(ctx, contestWithin)
		switch {
		case lost:
			off = x.off(cctx, machine) == nil
		case due && alone:
			away, checked = x.off(cctx, machine) == nil, time.Now()
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

// shownOff reports that a fence device showed the peer off when it was asked last.
func (x *arbitration) shownOff() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.m.Heard && (x.isOff || x.away)
}

// text says how the two voters are, for people.
func (x *arbitration) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.problem != "":
		return "nothing is decided: " + x.problem
	case !x.looked:
		return "not looked at yet"
	}
	return stateText(x.by, x.m.State())
}

// whyNot says why the loss of one of the nodes would not be answered by the other one; "": it would.
func (x *arbitration) whyNot() string {
	x.mu.Lock()
	own, peer := x.couldGoOn(), x.whole
	x.mu.Unlock()
	switch {
	case !own:
		return string(x.self) + ": " + x.text()
	case !peer:
		return string(x.peer) + " can not go on alone; see there: holdfast pair status"
	}
	return ""
}

// resolve takes a person's word: of a lost peer, that it is off and has not gone on alone; after
// both went on alone, that this node's data are kept. False: it is neither.
func (x *arbitration) resolve(user string) (bool, error) {
	seen, err := loop.LoadGeneration(x.dataDir)
	if err != nil {
		return false, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.problem != "":
		return false, fail.Errorf(fail.Unavailable, "nothing is decided: %s", x.problem)
	case x.looked && x.m.State() == arbiter.SplitOperator && !x.m.Heard:
		return false, fail.Errorf(fail.Refused, "split brain: both nodes have gone on alone, and %s does not answer: choose whose data are kept when both answer", x.peer)
	case x.looked && x.m.State() == arbiter.SplitOperator:
		if err := x.keeps(x.self); err != nil {
			return false, err
		}
		x.log.Warn("a person says that this node's data are kept", "user", user)
		x.person = user
		return true, nil
	case !x.looked || x.m.LostAt == 0:
		return false, nil
	}
	gen, err := loop.DrawGeneration(max(seen, x.m.Seen.Store.Gen))
	if err != nil {
		return false, err
	}
	x.log.Warn("a person says that the other node is off", "user", user, "generation", gen)
	x.person = user
	x.m.Confirm(gen)
	return true, nil
}

// together reports that the other node's member may answer for this one's.
func (x *arbitration) together() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.looked && !x.m.Apart()
}

// settled reports that this node has the store of that generation by its own note, which changes only
// when a generation was won, or when it was given up for the peer's. Of two that both nodes have won
// the one that is kept may be the lesser.
func (x *arbitration) settled(gen uint64) bool {
	f, found, err := etcdstore.ReadFormation(x.member.DataDir)
	return err == nil && found && f.Gen == gen
}

// markFile is the machine's durable note.
func markFile(dataDir string) string { return filepath.Join(dataDir, "arbitration.json") }

// arbitration makes this host's part in the store of a pair without a third voter. admin
// cares for the members of the store st.
func (p *pairWork) arbitration(st store.Store, admin *etcdstore.Admin) (*arbitration, error) {
	nd, peer := p.nd, p.cfg.Peer(p.nd.n.Host)
	if nd.n.Store.Member == nil {
		return nil, fail.Errorf(fail.Refused, "%s: store.member: there is none, and each of the two nodes of a pair without a third voter runs one", nd.NodeFile)
	}
	member, err := MemberConfig(nd.NodeFile)
	if err != nil {
		return nil, err
	}
	opt := nd.storeOptions()
	opt.Endpoints = []string{nd.n.Store.Member.ClientURL}
	own, err := etcdstore.Open(opt)
	if err != nil {
		return nil, err
	}
	devices, fencer := nd.cfg.Fencing.Hosts[peer].Devices, bmcs{nd.Log}
	addr, _ := nd.cfg.Member(cluster.HostID(peer))
	x := &arbitration{
		manual: p.cfg.SplitBrain == config.SplitManual,
		self:   cluster.HostID(nd.n.Host), peer: cluster.HostID(peer), by: arbiter.Fence, dataDir: nd.n.DataDir, member: member, child: &child{spec: nd.storeSpec()},
		own: own, any: st, admin: admin, hardware: machine(nd.n.Machine), log: nd.Log, now: nd.clock.Now,
		ask:   (&asker{p: p, addr: addr}).word,
		holds: func(ctx context.Context) (bool, uint64) { return holding(p.driver.Observe(ctx)) },
		win: func(ctx context.Context, machine string, _ uint64) (bool, error) {
			_, err := fencer.Off(ctx, devices, machine)
			return err == nil, err
		},
		off:   func(ctx context.Context, machine string) error { return fencer.ShownOff(ctx, devices, machine) },
		check: func(ctx context.Context, machine string) error { return fencer.Check(ctx, devices, machine) },
		tell:  p.chosen,

		extend: func(ctx context.Context, from cluster.Instant) { p.agent.Extend(ctx, from) },
		runs: func(ctx context.Context) (cluster.Epoch, bool) {
			g, err := p.driver.Observe(ctx)
			return g.Epoch, err == nil && g.State == cluster.GuestRunning && !g.Migrating
		},
		carry: p.driver.Carry,
	}
	guard := func() (bool, bool) { return guarded(p.agent.Status(), x.peer) }
	switch {
	case p.cfg.Arbiter.Ping != nil:
		err = x.byPings(p.cfg.Arbiter.Ping, guard)
	case p.votes != nil:
		x.byDisk(p.votes, guard)
	}
	return x, err
}

// asker asks the peer's agent over one connection, and makes a new one after a failure: an
// old one may wait for a retransmission for minutes. One goroutine uses it.
type asker struct {
	p    *pairWork
	addr string
	c    *api.Client
}

func (a *asker) word(ctx context.Context) (w cluster.PairWord, err error) {
	if a.c == nil {
		if a.c, err = a.p.dialEither(a.addr); err != nil {
			return w, err
		}
	}
	if w, err = a.c.PairWord(ctx); err != nil {
		a.c.Close()
		a.c = nil
	}
	return w, err
}
