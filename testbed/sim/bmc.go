package sim

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// Times of fence devices.
const (
	offLeast    = 20 * time.Millisecond // from the order to the loss of power
	offMost     = 300 * time.Millisecond
	readTakes   = 10 * time.Millisecond
	fenceSilent = 3 * time.Second // after which an order without an answer is given up
	fenceSlow   = 5 * time.Second
)

// bmc is the fence device of a host: its management controller, with power of
// its own. Its mode says what it does with an order:
//
//	ok       carries it out in 20 to 300 ms; the state is read back as off
//	dead     never answers
//	lies-on  accepts it and leaves the host on; the state is read back as on
//	slow     as ok, after 5 s
//	late     does not answer in time; the order is carried out 1 to 5 s after that
//	foreign  belongs to another machine and is refused
//	verbose  refuses, with an error that is longer than the store takes
type bmc struct {
	host *host
	mode string // "": there is no device
	busy int    // orders under way
}

func bmcModes() []string {
	return []string{"ok", "dead", "lies-on", "slow", "late", "foreign", "verbose"}
}

// order is one order to a host's fence device, for the checks.
type order struct {
	mod     int64 // of the host's record
	decided int64 // true time
}

// fenceCount counts hosts that a fence device has switched off. False ones were
// healthy: the model allows them, each costs a restart.
type fenceCount struct{ all, healthy int }

// fence orders a host's device to switch it off.
func (a *agent) fence(f ha.Fence, end func(ha.Outcome)) {
	w := a.host.world
	w.checkFence(a, f)
	target, decided, life := w.host(f.Host), w.now, a.life
	target.bmc.busy++
	target.bmc.switchOff(a.host, func(why string) {
		target.bmc.busy--
		a.inLife(life, func() {
			if why == "" {
				a.host.orders[f.Host] = order{f.Mod, decided}
			}
			end(ha.Outcome{OK: why == "", Why: why, Device: "sim-bmc"})
		})
	})
}

// Why an order did not end with a host that is shown off.
const (
	noAnswer  = "the device does not answer"
	staysOn   = "the device has accepted the order and shows the host on"
	notItsOwn = "the device belongs to another machine"
)

// switchOff carries an order of the host by out. done gets "" when the state was
// read back as off after the order.
func (b *bmc) switchOff(by *host, done func(why string)) {
	w, mode := b.host.world, b.mode
	takes := w.between(offLeast, offMost)
	if by.isolated {
		mode = "dead"
	}
	switch mode {
	case "ok", "slow":
		if mode == "slow" {
			takes = fenceSlow
		}
		w.after(takes, func() {
			b.cut()
			w.after(readTakes, func() { done(b.read()) })
		})
	case "lies-on":
		w.after(takes, func() { done(b.read()) })
	case "late":
		w.after(fenceSilent, func() { done(noAnswer) })
		w.after(fenceSilent+w.between(time.Second, 5*time.Second), b.cut)
	case "verbose":
		w.after(takes, func() { done(longText()) })
	case "foreign":
		w.after(takes, func() { done(notItsOwn) })
	default:
		w.after(fenceSilent, func() { done(noAnswer) })
	}
}

func (b *bmc) read() string {
	if b.host.power {
		return staysOn
	}
	return ""
}

// cut switches the host off.
func (b *bmc) cut() {
	h := b.host
	if !h.power {
		return
	}
	w := h.world
	w.fences.all++
	note := ""
	if h.healthy() {
		w.fences.healthy++
		note = ", which was healthy"
	}
	w.say(h, "fence device switches the host off%s", note)
	h.powerOff()
}

// healthy reports that the host keeps its lease and its agent goes on.
func (h *host) healthy() bool {
	a := h.agent
	return h.power && !h.frozen && a.up && !a.frozen && h.canAsk() && h.canHear() && h.clock() < a.core.Lease.Deadline
}

// works reports that the loss of the host is confirmed soon when it is lost.
func (b *bmc) works() bool { return b.mode == "ok" }

func (w *World) cmdFence(args []string) error {
	does := map[string]func(*host){"none": func(h *host) { h.setBMC("") }}
	for _, m := range bmcModes() {
		does[m] = func(h *host) { h.setBMC(m) }
	}
	return w.choose(args, does)
}

func (h *host) setBMC(mode string) {
	h.bmc.mode = mode
	h.world.devices[h.name] = mode != ""
}

// cmdOff is an operator's word that a host is off. In honest runs it is true, so
// that it is not said of a host that has power.
func (w *World) cmdOff(args []string) error {
	return each(func(h *host) {
		if h.power {
			w.say(h, "is on: nobody says that it is off")
			return
		}
		off := cluster.Off{Host: h.name, Mod: w.store.hosts[h.name].mod, User: args[1]}
		w.store.request(func(n *cluster.Want) {
			n.Off = append(slices.DeleteFunc(slices.Clone(n.Off), func(o cluster.Off) bool { return o.Host == h.name }), off)
		}, cluster.Event{Kind: cluster.EvWant, Host: h.name, User: args[1], Detail: string(h.name) + " is off"})
	})(w, args)
}
