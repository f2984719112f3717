package sim

import (
	"fmt"

	"maps"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// agent is the program on a host that decides and acts. Its memory is the view;
// what it must not forget when it restarts is in the store and in the watchdog.
type agent struct {
	host   *host
	up     bool
	frozen bool
	life   int // counts starts and stops: answers to an earlier one are dropped
	later  []func()
	view   ha.View
	since  int64 // true time of the start, then of the listing

	disarming bool // a Disarm is under way
	store     int  // which store it has listed: how many restores came before
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

// start begins a new agent. It knows its identity and the boot id, and restores
// the deadline from an armed watchdog: it pets until L = D + G - W, so D = L - G
// + W with the G that this host publishes.
func (a *agent) start() {
	h := a.host
	if a.up || !h.power {
		return
	}
	t := h.world.timings
	a.up, a.frozen, a.later = true, false, nil
	a.life++
	a.watch++
	a.since = h.world.now
	a.disarming = false
	a.view = ha.View{
		Self: h.name, Resource: cluster.MgmtVM, Timings: t, Order: h.world.order, Devices: h.world.devices, Restart: h.world.restart,
		Hosts: map[cluster.HostID]ha.HostRec{},
		Local: ha.Local{
			Identity: h.identity, Boot: h.bootID(), Addr: string(h.name), Dog: h.dog.status(),
			Instance: fmt.Sprintf("%s-%d-%d", h.name, h.life, a.life), Inherited: true, Gate: h.life<<20 + a.life,
			Beat: 1, Machine: h.machine(), Fences: map[cluster.HostID]ha.Fenced{},
			Busy: map[ha.Work]bool{}, Told: map[cluster.HostID]int64{},
		},
	}
	if dog := a.view.Local.Dog; dog.Armed {
		a.view.Local.Deadline = dog.Limit.Add(dog.Timeout - ha.Guard(t, dog.Timeout))
	}
	a.view.Local.Guest, a.view.Local.GuestAt = h.hyper.observe(), h.clock()
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
		now := a.host.clock()
		v := &a.view
		v.Gen, a.host.seen, a.store = snap.gen, snap.gen, snap.restores
		v.Coord = ha.CoordRec{Coordinator: snap.coord.Coordinator, Mod: snap.coord.mod}
		v.Owner = ha.OwnerRec{Owner: snap.owner.Owner, Mod: snap.owner.mod, SeenAt: now}
		v.Want = ha.WantRec{Want: snap.want.Want, Mod: snap.want.mod}
		for n, r := range snap.hosts {
			v.Hosts[n] = ha.HostRec{Host: r.Host, Mod: r.mod, SeenAt: now}
		}
		v.Synced, a.since = true, a.host.world.now
		a.sent, a.got, a.lastWatch = mark, mark, 0
		a.pump()
		a.observe()
		a.decide()
	})
}

// apply takes one change in, from the watch or, as soon as it is answered, from
// this agent's own write; what is not newer than the record held is ignored.
// Synced stays true when the watch breaks: the view is then old, and Decide is
// made for that.
func (a *agent) apply(b batch) {
	now := a.host.clock()
	v := &a.view
	if b.coord != nil && b.rev > v.Coord.Mod {
		v.Coord = ha.CoordRec{Coordinator: *b.coord, Mod: b.rev, SeenAt: now}
	}
	for _, r := range b.hosts {
		if b.rev > v.Hosts[r.Name].Mod {
			v.Hosts[r.Name] = ha.HostRec{Host: r, Mod: b.rev, SeenAt: now}
		}
	}
	if b.owner != nil && b.rev > v.Owner.Mod {
		v.Owner = ha.OwnerRec{Owner: *b.owner, Mod: b.rev, SeenAt: now}
		v.Local.Shut = 0 // it belongs to one revision of the owner record
		a.observe()      // many decisions want an observation that is newer than the record
	}
	if b.want != nil && b.rev > v.Want.Mod {
		v.Want = ha.WantRec{Want: *b.want, Mod: b.rev}
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
	seen, at := h.hyper.observe(), h.clock()
	a.afterHere(h.world.between(time.Millisecond, 20*time.Millisecond), func() {
		l := &a.view.Local
		if at >= l.GuestAt {
			l.Guest, l.GuestAt = seen, at
		}
		if !l.Busy[ha.WorkArm] {
			l.Dog = h.dog.status()
		}
		l.Fit, l.Why = h.unfit == "", h.unfit
		a.health()
		a.decide()
	})
}

// health takes over whether the guest must be restarted: of a guest that runs
// here and of which this host is the undisputed holder.
func (a *agent) health() {
	v := &a.view
	l, p := &v.Local, a.host.hyper.proc
	l.Sick = ""
	if p != nil && p.sick && l.Guest.State == cluster.GuestRunning && v.Owner.State == cluster.Running && v.Owner.Host == v.Self {
		l.Sick = "the health check failed: no answer"
	}
	if l.Sick == "" || l.Guest.State == cluster.GuestAbsent {
		l.Doomed = 0
	}
}

// decide asks for the actions of this moment and begins them.
func (a *agent) decide() {
	h := a.host
	if !a.up || a.frozen || h.frozen {
		return
	}
	now := h.clock()
	a.hear(now)
	a.view.Now = now
	v := a.view
	h.world.plant.see(&v)
	for _, act := range h.world.plant.add(&v, ha.Decide(v)) {
		if done := h.world.plant.alter(act); done != nil {
			a.do(done, act)
		}
		if !a.up {
			return
		}
	}
}

// busy marks work as under way; the result ends it.
func (a *agent) busy(w ha.Work) func() {
	a.view.Local.Busy[w] = true
	return func() { delete(a.view.Local.Busy, w) }
}

// touched notes that an action on the guest ended: observations that began
// before do not count any more, so that a new one is made at once.
func (a *agent) touched() {
	a.view.Local.Touched = a.host.clock()
	a.observe()
}
