package sim

import (
	"fmt"
	"math"
	"time"

	"holdfast/internal/cluster"
)

// bootTakes is the time from power to a running agent, unless a scenario says
// otherwise.
const bootTakes = 20 * time.Second

// host is one simulated machine.
type host struct {
	world    *World
	name     cluster.HostID
	index    int // among the world's hosts
	identity string
	seen     uint64 // the highest restore generation that its agents have seen, kept on its disk

	power  bool
	life   int  // counts losses of power: what belongs to an earlier one is dropped
	boots  int  // for the boot id
	frozen bool // the whole host stands still; its watchdog device does not
	later  []func()

	// The clock: base at the true time since, then running at rate.
	since int64
	base  cluster.Instant
	rate  float64

	net      link
	isolated bool
	unfit    string // why the guest can not be started here
	trouble  string // what else is wrong here
	blind    bool   // it can not be observed
	bootTime time.Duration
	mended   int64 // when host or agent last thawed

	agent *agent
	dog   dog
	hyper hypervisor
	bmc   bmc
	// orders are the last orders to the fence devices of others that this host's
	// agent has given and got an answer to, for the checks.
	orders map[cluster.HostID]order

	ran     bool  // the guest ran here at the last inspection
	dropped int64 // when the last process of the guest ended
}

// reset gives a host without power, as it was made.
func (h *host) reset() {
	h.rate, h.bootTime = 1, bootTakes
	h.dog = dog{host: h, there: true}
	h.hyper = hypervisor{host: h}
	h.agent = &agent{host: h}
	h.bmc = bmc{host: h}
	h.orders = map[cluster.HostID]order{}
	h.net = newLink()
}

// clock reads the host's clock.
func (h *host) clock() cluster.Instant {
	return h.clockAt(h.world.now)
}

// trueTime is when the clock shows at.
func (h *host) trueTime(at cluster.Instant) int64 {
	return h.since + int64(math.Ceil(float64(at-h.base)/h.rate))
}

// inLife runs fn if the host has not lost its power since life; at once, or when
// it thaws.
func (h *host) inLife(life int, fn func()) {
	switch {
	case h.life != life || !h.power:
	case h.frozen:
		h.later = append(h.later, func() { h.inLife(life, fn) })
	default:
		fn()
	}
}

// afterHere runs fn d later on this host.
func (h *host) afterHere(d time.Duration, fn func()) {
	life := h.life
	h.world.after(d, func() { h.inLife(life, fn) })
}

// powerOff takes everything from the host at once.
func (h *host) powerOff() {
	if !h.power {
		return
	}
	h.power, h.frozen, h.later = false, false, nil
	h.life++
	h.hyper.vanish()
	h.dog.off()
	h.agent.stop()
	h.world.linkChanged()
}

// powerOn boots the host; its agent starts bootTime later.
func (h *host) powerOn() {
	if !h.power {
		h.boot(h.bootTime)
	}
}

func (h *host) boot(takes time.Duration) {
	h.power = true
	h.boots++
	h.dog.disarm()
	h.since, h.base = h.world.now, cluster.Instant(time.Second)
	h.afterHere(takes, func() { h.agent.start() })
	h.world.linkChanged()
}

func (h *host) bootID() string {
	return fmt.Sprintf("%s-boot-%d", h.name, h.boots)
}

// machine is the UUID of the hardware.
func (h *host) machine() string { return "machine-" + string(h.name) }

// clockAt is what the clock shows at the true time at.
func (h *host) clockAt(at int64) cluster.Instant {
	return h.base + cluster.Instant(float64(at-h.since)*h.rate)
}

// freeze stops everything on the host but its watchdog device.
func (h *host) freeze() {
	if h.power && !h.frozen {
		h.frozen = true
	}
}

// thaw lets the host go on. An agent that thaws decides first, since its clock
// has jumped, or (in some random runs) finds its mail first.
func (h *host) thaw() {
	if !h.power || !h.frozen {
		return
	}
	h.frozen, h.mended = false, h.world.now
	if !h.world.chance(0.5) {
		h.agent.decide()
	}
	later := h.later
	h.later = nil
	for _, fn := range later {
		fn()
	}
}

// runs reports whether the guest's CPUs are going on this host.
func (h *host) runs() bool {
	p := h.hyper.proc
	return h.power && !h.frozen && p != nil && p.state == cluster.GuestRunning
}

// clean reports that nothing is wrong with the host.
func (h *host) clean() bool {
	return h.works() && !h.impaired()
}

// works reports that nothing is wrong with the host but, perhaps, that the guest
// can not be seen or go on there.
func (h *host) works() bool {
	return h.power && !h.frozen && h.agent.up && !h.agent.frozen && !h.isolated && h.net.clean() &&
		h.unfit == "" && h.dog.there && h.hyper.clean() && h.agent.store == h.world.store.restores
}

// impaired reports that it can not be observed on the host, or that its
// disk does not answer there.
func (h *host) impaired() bool { return h.blind || h.hyper.diskBad }

// dead reports that the host can neither run nor be reached.
func (h *host) dead() bool { return !h.power || h.isolated }
