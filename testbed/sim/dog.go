package sim

import (
	"cmp"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
	"holdfast/internal/host/watchdog/keeper"
)

// dog is a host's watchdog: the device, and the process that holds it and does
// what the real keeper says. It knows nothing of agents and guests, and outlives
// the agent.
type dog struct {
	host  *host
	there bool // the device works
	keep  keeper.Petter
	turns int // counts changes: a turn of the keeper that was planned before does not count

	every time.Duration // the device's timeout; 0: that of the configuration
	next  time.Duration // the one that it gets when it is not armed; 0: it stays
	least time.Duration // the shortest timeout that it can be set to

	fires cluster.Instant // by the host's clock; 0: the timer does not run
	fuse  int             // counts restarts: a firing that was planned before does not count
}

// lookToPet is how long the holder may take from its look at the clock to the pet.
const lookToPet = 2 * time.Millisecond

func (d *dog) timeout() time.Duration { return cmp.Or(d.every, d.host.world.timings.Watchdog) }

func (d *dog) device() keeper.Device {
	return keeper.Device{Timeout: d.timeout(), Least: min(cmp.Or(d.least, time.Millisecond), d.timeout())}
}

// set changes the timeout, which a device that is armed does later.
func (d *dog) set(t time.Duration) {
	d.next = t
	if !d.armed() {
		d.disarm()
	}
}

func (d *dog) armed() bool { return d.keep.Armed() }

// status is what an agent reads.
func (d *dog) status() ha.Watchdog {
	return ha.Watchdog{Working: d.there, Armed: d.armed(), Limit: d.keep.Limit(), Timeout: keeper.Promise(d.device()), Name: "sim"}
}

// arm moves the limit. One that has passed already is refused when the device
// is off, and changes nothing when it is on: nobody pets after the limit.
func (d *dog) arm(limit cluster.Instant) {
	if !d.there && !d.armed() || limit <= d.host.clock() {
		return
	}
	d.keep.Told(limit)
	d.turn()
}

func (d *dog) disarm() {
	d.every = cmp.Or(d.next, d.every)
	d.keep = keeper.New(d.timeout(), d.device())
	d.turns++
	d.fires = 0
	d.fuse++
}

// off is what a loss of power does to it.
func (d *dog) off() { d.disarm() }

// turn asks the keeper and does what it says, until it rests. A host that stands
// still in between does it when it goes on.
func (d *dog) turn() {
	h := d.host
	d.turns++
	mine := d.turns
	later := func(wait time.Duration, does func()) {
		h.afterHere(wait, func() {
			if d.turns == mine {
				does()
			}
		})
	}
	o := d.keep.Ask(h.clock())
	if o.Do == keeper.Nothing {
		if o.Wait > 0 {
			later(time.Duration(float64(o.Wait)/h.rate)+1, d.turn)
		}
		return
	}
	later(h.world.between(0, lookToPet), func() {
		dev := d.device()
		if o.Timeout != 0 {
			dev.Timeout = max(o.Timeout, dev.Least)
		}
		if d.fires != 0 || o.Do == keeper.Restart {
			d.restart(dev.Timeout)
		}
		d.keep.Answered(o, h.clock(), dev, nil)
		d.turn()
	})
}

// restart lets the device's timer run anew.
func (d *dog) restart(timeout time.Duration) {
	d.fires = d.host.clock().Add(timeout)
	d.plan()
}

// plan computes when the device fires: its own clock drifts as the host's does.
func (d *dog) plan() {
	d.fuse++
	if d.fires == 0 {
		return
	}
	mine := d.fuse
	d.host.world.queue.push(d.host.trueTime(d.fires), func() {
		if d.fuse == mine {
			d.fire()
		}
	})
}

// fire resets the host.
func (d *dog) fire() {
	h := d.host
	h.world.checkReset(h)
	h.world.say(h, "watchdog resets the host")
	h.powerOff()
	h.powerOn()
}
