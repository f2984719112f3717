package sim

import (
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// slack is added to every bound that is not about safety.
const slack = 3 * time.Second

// Violation is a rule that did not hold.
type Violation struct {
	Rule   string        `json:"rule"`  // one of Rules
	At     time.Duration `json:"at_ns"` // true time since the beginning
	Detail string        `json:"detail"`
}

// Rules lists the invariants by name. docs/simulator.md says what each means.
func Rules() []string {
	return []string{
		"two-hosts", "no-proof", "false-proof", "epoch", "epoch-twice", "old-generation", "idle-reset", "idle-fence", "stale-start",
		"unguarded-start", "unguarded-guest", "old-term", "stale-guest", "fenced-boot", "hands-off", "not-up", "not-stopped", "not-settled",
	}
}

// outage measures how long something lasted.
type outage struct {
	since   int64 // -1: it is not now
	longest time.Duration
}

func (o *outage) set(now int64, on bool) {
	if on && o.since < 0 {
		o.since = now
	} else if !on {
		o.close(now)
	}
}

func (o *outage) close(now int64) {
	if o.since >= 0 {
		o.longest = max(o.longest, time.Duration(now-o.since))
		o.since = -1
	}
}

// checks is the state of the invariants.
type checks struct {
	found   []Violation
	calm    int64           // since when nothing but a clean minority of dead hosts has changed
	state   uint64          // fingerprint of what is wrong, to see changes
	down    outage          // the guest is wanted, can run and does not
	started map[string]bool // epochs for which a hypervisor was called
	shown   map[string]bool // boot ids that a fence device has shown off
	excess  outage          // the guest is not wanted and there is a process
	old     outage          // a guest of a generation before a restore runs
}

func (w *World) violate(rule, format string, args ...any) {
	w.check.found = append(w.check.found, Violation{rule, time.Duration(w.now), fmt.Sprintf(format, args...)})
	w.lines = append(w.lines, Line{time.Duration(w.now), "", "VIOLATION " + rule + ": " + fmt.Sprintf(format, args...)})
	w.ended = true
}

// inspect checks the true world after each step.
func (w *World) inspect() {
	running := 0
	some, old := false, false
	for _, h := range w.hosts {
		on := h.runs()
		if on {
			running++
		}
		some = some || h.has()
		old = old || on && h.hyper.proc.epoch.Gen < w.store.gen
		if on != h.ran {
			h.ran = on
			if on {
				w.say(h, "guest runs, epoch %s", h.hyper.proc.epoch)
			} else {
				w.say(h, "guest does not run any more")
			}
		}
	}
	if running > 1 {
		w.violate("two-hosts", "the guest runs on %d hosts at once", running)
	}
	w.liveness(running > 0, some, old)
}

// checkGuarded looks at a host at the moment when the guest's CPUs begin there:
// a host that has promised a reset must have its watchdog armed, unless
// everything is frozen by the operators.
func (w *World) checkGuarded(h *host) {
	r := w.store.hosts[h.name]
	if r.Guard > 0 && !r.HandsOff && !h.dog.armed() && !w.store.want.HandsOff {
		w.violate("unguarded-guest", "the guest begins on %s, whose watchdog is not armed", h.name)
	}
}

// checkKill looks at a guest that an agent is about to kill: with hands off
// nobody may, once the agent has seen that the store knows it of this host.
func (w *World) checkKill(a *agent, why string) {
	v := a.core
	if r := v.Hosts[v.Self]; v.Want.HandsOff && r.HandsOff && r.Expelled.IsZero() && !v.Lease.HandsOn {
		w.violate("hands-off", "%s kills its guest with hands off: %s", v.Self, why)
	}
}

// checkReset looks at a host that its watchdog is about to reset: a host that
// holds nothing, with an agent that could have said so for a second, must
// never be.
func (w *World) checkReset(h *host) {
	a := h.agent
	const able = int64(time.Second)
	switch {
	case h.hyper.proc != nil || h.hyper.waiting || w.now-h.dropped < able:
	case h.frozen || !a.up || a.frozen || !a.core.Synced || w.now-a.since < able || h.blind || h.hyper.stuckKill:
	case w.now-h.mended < able:
	case a.core.Doing.Works&(ha.WorkStart|ha.WorkMigrate) != 0:
	default:
		w.violate("idle-reset", "%s holds nothing and is reset by its watchdog", h.name)
	}
}

// liveness checks that with a quorum and a fit host the guest is up again within
// the bound, and that a guest that is not wanted ends. Both count from the last
// change of what is wrong with the hosts.
// After a restore a guest of an older generation ends, since no record tells of it.
func (w *World) liveness(running, some, old bool) {
	c := &w.check
	if f := w.fingerprint(); f != c.state {
		c.state, c.calm = f, w.now
	}
	quorum := w.hasQuorum()
	if quorum {
		w.lost = -1
	} else if w.lost < 0 {
		w.lost = w.now
	}
	want := w.store.want.Want
	decided := quorum && !want.HandsOff && w.refuse == 0 && w.recoverable()
	c.down.set(w.now, decided && want.Run && !running)
	c.excess.set(w.now, decided && !want.Run && some)
	c.old.set(w.now, decided && old)
	if c.old.since >= 0 && time.Duration(w.now-max(c.old.since, c.calm)) > w.Bound() {
		w.violate("not-settled", "a guest of an older generation runs %s after the restore", w.Bound())
	}
	if c.down.since >= 0 && time.Duration(w.now-max(c.down.since, c.calm)) > w.Bound() {
		w.violate("not-up", "the guest is not up %s after the last fault", w.Bound())
	}
	if c.excess.since >= 0 && time.Duration(w.now-max(c.excess.since, c.calm)) > w.Bound()+stopTakes {
		w.violate("not-stopped", "the guest is not stopped %s after the last fault", w.Bound()+stopTakes)
	}
}

// stopTakes is how long a guest may take to stop that ignores the request: the
// 60 s of grace, and the end of a migration.
const stopTakes = 80 * time.Second

// Bound is the time within which a lost guest is up again with this many failed
// starts: a coordinator is elected, the holder's silence is long enough by the
// slowest clock or its fence device has shown it off, a returned host has waited
// a lease, the next try is due, and a start that hangs is given up.
func (w *World) Bound() time.Duration {
	t := w.timings
	dog := t.Watchdog
	for _, h := range w.hosts {
		dog = max(dog, h.dog.timeout())
	}
	g := max(t.Grace, dog+2*t.Keepalive-t.Lease)
	wait := time.Duration(float64(t.Lease+g+t.Epsilon) * (1 + 3*t.Drift))
	if w.fenced() {
		wait = min(wait, t.Detection+2*t.Heartbeat+fenceSoon)
	}
	try := time.Duration(0)
	if f := w.store.owner.Failures; f > 0 {
		try = min(time.Second<<min(f, 6), 30*time.Second)
	}
	bound := t.Election + t.Lease + wait + startTimeout + try + slack
	if w.store.owner.State == cluster.Migrating {
		bound += 20 * time.Second
	}
	if slices.ContainsFunc(w.hosts, (*host).impaired) {
		bound += impairedTakes + wait // it gives itself up, or gives the guest up
	}
	return bound
}

// impairedTakes is how long a host may not see its guest, or its guest may stand
// still, before it is moved.
const impairedTakes = 30*time.Second + 2*slack

// fenceSoon is how long an order to a device that works may take, with the one
// before that was given up.
const fenceSoon = time.Second

// fenced reports that the host which may have the guest can be switched off by a
// device that works.
func (w *World) fenced() bool {
	h := w.host(w.store.owner.Holder())
	return h == nil || h.bmc.works() && h.bmc.busy == 0
}

// fingerprint changes when something is broken or mended.
func (w *World) fingerprint() uint64 {
	f := uint64(w.store.want.mod) + uint64(w.store.restores)
	for _, h := range w.hosts {
		f = f*31 + uint64(h.life)
		f = f*31 + uint64(h.agent.life)
		f = f*31 + uint64(len(h.bmc.mode)+10*h.bmc.busy)
		switch {
		case h.clean():
			f++
		case h.dead():
			f += 2
		case h.works():
			f += 3
		}
	}
	return f
}

// recoverable reports that the cluster must be able to bring the guest up: every
// host is clean, or it is dead and its loss can be proved; more than half and at
// least one are clean. After a restore each host is clean, or said to be off.
func (w *World) recoverable() bool {
	s := &w.store
	if w.gaveUp() {
		return false
	}
	restored := s.owner.Epoch.Gen < s.gen && s.gen > 1
	able := false
	for _, h := range w.hosts {
		if h.clean() {
			able = able || !slices.Contains(s.want.Maintenance, h.name)
			continue
		}
		r := s.hosts[h.name]
		if h.works() && (s.owner.Host != h.name || r.Guard > 0 && !r.HandsOff && h.dog.there) && !restored {
			continue // it is not able, or gives itself up
		}
		said := slices.ContainsFunc(s.want.Off, func(o cluster.Off) bool { return o.Host == h.name && o.Mod == r.mod })
		holds := s.owner.Host == h.name || s.owner.To == h.name
		proved := r.Guard > 0 && !r.HandsOff || h.bmc.works() || said
		if !h.dead() || holds && !proved || restored && !said {
			return false
		}
	}
	return able
}

// gaveUp reports that the restart policy keeps the guest down.
func (w *World) gaveUp() bool {
	s, limit := &w.store, w.restart.Limit
	return limit > 0 && max(s.owner.Failures, s.owner.Restarts) >= limit && s.want.mod < s.owner.mod
}
