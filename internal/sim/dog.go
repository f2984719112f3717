package sim

import (
	"cmp"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// dog is a host's watchdog: the device, and the process that holds it and pets
// it while the clock shows at most the limit that it was last told. It knows
// nothing of agents and guests, and outlives the agent.
type dog struct {
	host   *host
	there  bool // the device works
	armed  bool
	limit  cluster.Instant
	gen    int           // counts changes: a firing that was planned before does not count
	every  time.Duration // its timeout; 0: that of the configuration
	next   time.Duration // the one that it gets when it is not armed; 0: it stays
	petted int64         // true time of the last pet, once the limit or a freeze ended it
}

func (d *dog) timeout() time.Duration { return cmp.Or(d.every, d.host.world.timings.Watchdog) }

// set changes the timeout, which a device that is armed does later.
func (d *dog) set(t time.Duration) {
	d.next = t
	if !d.armed {
		d.every = t
	}
}

// trueTimeout is the timeout in true time: the device's own clock drifts as the
// host's does.
func (d *dog) trueTimeout() int64 { return int64(float64(d.timeout()) / d.host.rate) }

// status is what an agent reads.
func (d *dog) status() ha.Watchdog {
	return ha.Watchdog{Working: d.there, Armed: d.armed, Limit: d.limit, Timeout: d.timeout(), Name: "sim"}
}

// arm moves the limit. One that has passed already is refused when the device
// is off, and changes nothing when it is on: nobody pets after the limit.
func (d *dog) arm(limit cluster.Instant) {
	if !d.there && !d.armed || limit <= d.host.clock() {
		return
	}
	d.armed, d.limit = true, max(limit, d.limit)
	d.plan()
}

func (d *dog) disarm() {
	d.armed, d.limit = false, 0
	d.gen++
	d.every = cmp.Or(d.next, d.every)
}

// off is what a loss of power does to it.
func (d *dog) off() { d.disarm() }

// plan computes when the device fires: a timeout after the last pet. The last
// pet comes at the limit itself (the worst case for two guests at once) or, in
// random runs, up to half a second earlier (the worst case for a needless reset).
func (d *dog) plan() {
	d.gen++
	if d.host.frozen {
		return
	}
	w := d.host.world
	d.petted = max(w.now, d.host.trueTime(d.limit)-int64(w.between(0, 500*time.Millisecond)))
	d.fireAt(d.petted + d.trueTimeout())
}

func (d *dog) fireAt(at int64) {
	gen := d.gen
	d.host.world.queue.push(at, func() {
		if d.gen == gen && d.armed {
			d.fire()
		}
	})
}

// hostFrozen stops the petting: the last pet is now, unless it came before.
func (d *dog) hostFrozen() {
	if !d.armed {
		return
	}
	d.gen++
	w := d.host.world
	if w.now < d.petted {
		d.petted = w.now
	}
	d.fireAt(d.petted + d.trueTimeout())
}

// replan is what a change of the clock's rate does: the keeper and the device go
// on by the new one.
func (d *dog) replan() {
	switch {
	case !d.armed:
	case d.host.frozen || d.host.world.now >= d.petted:
		d.gen++
		d.fireAt(max(d.petted, d.host.world.now-d.trueTimeout()) + d.trueTimeout())
	default:
		d.plan()
	}
}

// hostThawed lets the petting go on where the limit allows it.
func (d *dog) hostThawed() {
	if d.armed && d.limit > d.host.clock() {
		d.plan()
	}
}

// fire resets the host.
func (d *dog) fire() {
	h := d.host
	h.world.checkReset(h)
	h.world.say(h, "watchdog resets the host")
	h.powerOff()
	h.powerOn()
}
