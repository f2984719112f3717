package sim

import (
	"fmt"
	"maps"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// agent is the program on a host that decides and acts. Its memory is the core;
// what it must not forget when it restarts is in the store and in the watchdog.
type agent struct {
	host   *host
	up     bool
	frozen bool
	life   int // counts starts and stops: answers to an earlier one are dropped
	later  []func()
	core   *ha.Machine
	since  int64 // true time of the start, then of the listing

	sawAt     cluster.Instant // when the look that the core knows began, in truth
	touchedAt cluster.Instant // when the last action on the guest ended, in truth
	disarming bool            // a Disarm is under way
	store     int             // which store it has listed: how many restores came before
	ears      ears

	// The watch: how much of the store's log has been sent and has come; watch
	// counts the connections.
	sent, got, watch int
	lastWatch        int64
}

// inLife runs fn if the agent is still the one of that life; at once, or when
// agent and host have thawed.
func (a *agent) inLife(life int, fn func()) {
	a.host.inLife(a.host.life, func() {
		switch {
		case !a.up || a.life != life:
		case a.frozen:
			a.later = append(a.later, func() { a.inLife(life, fn) })
		default:
			fn()
		}
	})
}

// afterHere runs fn d later in this life of the agent.
func (a *agent) afterHere(d time.Duration, fn func()) {
	life := a.life
	a.host.world.after(d, func() { a.inLife(life, fn) })
}

// start begins a new agent. It knows its identity and the boot id, and looks at
// the guest and the watchdog before anything is decided.
func (a *agent) start() {
	h := a.host
	if a.up || !h.power {
		return
	}
	a.up, a.frozen, a.later = true, false, nil
	a.life++
	a.watch++
	a.since = h.world.now
	a.disarming, a.sawAt, a.touchedAt = false, 0, 0
	a.core = ha.New(h.name, cluster.MgmtVM, ha.ThisHost{
		Identity: h.identity, Boot: h.bootID(), Addr: string(h.name), Instance: fmt.Sprintf("%s-%d-%d", h.name, h.life, a.life),
		HeartbeatPort: 1, Machine: h.machine(),
	})
	a.core.Configure(h.world.timings, h.world.restart, h.world.order, h.world.devices)
	a.core.Watched(h.dog.status(), h.clock())
	a.core.Observed(h.hyper.observe(), h.clock())
	a.listen()
	a.list()
	a.poll()
	a.tick()
}

// stop ends the agent: nothing of it is left but what others have been asked.
func (a *agent) stop() {
	a.up, a.frozen, a.later = false, false, nil
	a.life++
}

// crash ends the agent; its supervisor starts it again.
func (a *agent) crash() {
	if a.up {
		a.stop()
		a.host.afterHere(agentRestart, a.start)
	}
}

func (a *agent) thaw() {
	if !a.frozen {
		return
	}
	a.frozen, a.host.mended = false, a.host.world.now
	if !a.host.world.chance(0.5) {
		a.decide()
	}
	later := a.later
	a.later = nil
	for _, fn := range later {
		fn()
	}
}

// list reads all records at one revision, then follows them. A store of an older
// generation than this host has seen is not followed.
func (a *agent) list() {
	var snap store
	mark := 0
	a.call(callTimeout, func() int64 {
		s := &a.host.world.store
		snap, mark = *s, len(s.log)
		snap.hosts = maps.Clone(s.hosts)
		return s.rev
	}, func(_ int64, known bool) {
		if !known {
			a.list()
			return
		}
		if snap.gen < a.host.seen {
			a.afterHere(listAgain, a.list)
			return
		}
		a.host.seen, a.store = snap.gen, snap.restores
		for _, r := range snap.records() {
			a.core.Changed(r, a.host.clock())
		}
		a.core.Follow(true, snap.gen)
		a.since = a.host.world.now
		a.sent, a.got, a.lastWatch = mark, mark, 0
		a.pump()
		a.observe()
		a.decide()
	})
}

// apply takes one change in that the watch tells of. The core stays synced when
// the watch breaks: what it knows is then old, and it is made for that.
func (a *agent) apply(b batch) {
	for _, p := range b.puts {
		a.core.Changed(ha.Record{Put: p, Mod: b.rev}, a.host.clock())
		if p.Kind == ha.KindOwner {
			a.observe() // many decisions want an observation that is newer than the record
		}
	}
}

// poll observes the guest, and begins again.
func (a *agent) poll() {
	a.observe()
	a.afterHere(lookEvery, a.poll)
}

// tick decides, and begins again.
func (a *agent) tick() {
	if a.newer() {
		return
	}
	a.decide()
	a.afterHere(tickEvery, a.tick)
}

// observe begins, a moment later, to look at the guest and what belongs to it.
func (a *agent) observe() { a.afterHere(20*time.Microsecond, a.look) }

// look observes, and decides once the result is there.
func (a *agent) look() {
	h := a.host
	at := h.clock()
	seen, dog := h.hyper.observe(), h.dog.status()
	a.afterHere(h.world.between(time.Millisecond, 20*time.Millisecond), func() {
		a.sawAt = max(a.sawAt, at)
		a.core.Observed(seen, at)
		a.core.Watched(dog, at)
		a.core.Able(h.unfit == "", false, h.unfit+h.trouble, false)
		a.health()
		a.decide()
	})
}

// health takes over whether the guest must be restarted: of a guest that runs
// here and of which this host is the undisputed holder.
func (a *agent) health() {
	m, p := a.core, a.host.hyper.proc
	why := ""
	if p != nil && p.sick && m.Guest.Seen.State == cluster.GuestRunning && m.Owner.State == cluster.Running && m.Owner.Host == m.Self {
		why = "the health check failed: no answer"
	}
	m.Judged(why)
}

// decide asks for the actions of this moment and begins them.
func (a *agent) decide() {
	h := a.host
	if !a.up || a.frozen || h.frozen {
		return
	}
	now := h.clock()
	a.hear(now)
	for _, act := range a.core.Decide(now) {
		a.do(act)
		if !a.up {
			return
		}
	}
}
