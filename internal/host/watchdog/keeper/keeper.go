// Package keeper decides when a watchdog is petted. It is pure: no clock, no
// goroutine, no device. The holder of a host's device and the simulator drive
// the same Keeper.
//
// # The promise
//
// With L the limit that it was told last and W = Promise of the device, the
// device resets the host at L + W at the latest, unless it is disarmed. W is the
// device's timeout, and for devices that can not be set short enough something
// more.
//
// A pet begins when the clock shows at most L. But whoever pets may be stopped
// between its look at the clock and the pet, as long as the device lets it: until
// the moment F at which the pet before makes the device fire. A pet that late is
// made good by setting the device to what is left until L + W. Devices have a
// least timeout m, so that works only if L + W - F >= m. So no pet begins unless
// that holds of the pet before it; the last one comes right before L.
//
// A process that is stopped twice, in a pet and again before it can make that
// good, is not covered: see [Keeper.Reset] for what can be said then.
//
// # Duties of the caller
//
//   - One goroutine uses a Keeper, and its instants are of one clock that never
//     goes back.
//   - After each event (told a limit, time has passed, the device has answered) it
//     asks (Ask) with the clock as it is now, carries the order out at once, reads
//     the clock again after the device has answered and reports it (Answered),
//     whether that failed or not. Then it asks again, until the order is Rest.
//   - It asks again after Order.Wait. Later is safe: the reset comes sooner.
//   - What it says of the device (Device) is what the device really does, read
//     back from it and rounded up, not what it was asked for.
package keeper

import (
	"time"

	"holdfast/internal/cluster"
)

// MinInterval is the shortest time between two pets.
const MinInterval = 100 * time.Millisecond

// Device is what a device does.
type Device struct {
	Timeout time.Duration // from a restart of the timer to the reset, at the latest
	Least   time.Duration // the shortest Timeout that it can be set to
}

// Promise is W: how long after the limit a device resets the host at the latest.
// It is the timeout. A device that can not be set to half of that gets the
// difference on top: else pets would have to end too long before the limit.
func Promise(d Device) time.Duration { return d.Timeout + max(0, d.Least-d.Timeout/2) }

// Do is what a caller shall do.
type Do int

// What a caller shall do.
const (
	Nothing Do = iota // nothing
	Restart           // restart the timer: pet, or open the device if it is not open
	Shorten           // set the timeout, which restarts the timer; do not open the device for it
)

// Order is the answer to Ask.
type Order struct {
	Do Do
	// Timeout is what to set the device to: for Shorten, and for Restart when not
	// 0. A device that can not have it exactly takes the next shorter one that it
	// can have, else its least.
	Timeout time.Duration
	// Wait is after how long to ask again, for Rest. 0: when something happens.
	Wait time.Duration
}

// Petter is the decision about one device. It is a value: a copy goes its own way.
// The zero value is of no use; see New.
type Petter struct {
	want time.Duration // timeout that the device shall have
	full Device        // as it is when it was not shortened

	armed bool            // the timer runs, or may run
	limit cluster.Instant // no pet begins after it; 0: none begins at all
	fires cluster.Instant // the timer, if nobody restarts it, has ended by then; 0: it does not run
	last  cluster.Instant // an instant not before the last restart that succeeded; 0: none
	next  cluster.Instant // no attempt before it; 0: at once
	short bool            // the device was shortened, or may have been
	late  time.Duration   // by how much the last restart may have come after the limit
}

// New returns the keeper of a device that does not run. want is the timeout that
// the device shall be asked for, d what it is expected to do then.
func New(want time.Duration, d Device) Petter { return Petter{want: want, full: d} }

// Resume takes over from a holder that has died: it obeyed the limit, 0 when that
// is not known, and the device was set to timeout. No restart by it may come
// after now.
func (k *Petter) Resume(now, limit cluster.Instant, timeout time.Duration) {
	k.armed, k.limit, k.fires, k.next = true, limit, now.Add(max(timeout, k.full.Timeout)), 0
}

// Told moves the limit forward; an earlier one changes nothing. A restart is due
// at once.
func (k *Petter) Told(limit cluster.Instant) {
	k.armed, k.limit, k.next = true, max(k.limit, limit), 0
}

// Mute takes the limit back: the device may run, but nobody relies on it any more
// or yet, and it shall not be petted.
func (k *Petter) Mute() { k.limit, k.last = 0, 0 }

// Disarmed says that it is certain that the timer does not run.
func (k *Petter) Disarmed() { *k = New(k.want, k.full) }

// Ask says what to do now.
func (k *Petter) Ask(now cluster.Instant) Order {
	switch {
	case !k.armed || k.limit == 0:
		return Order{}
	case now < k.next:
		return Order{Wait: k.next.Sub(now)}
	}
	if left, ok := k.overdue(now); ok {
		return Order{Do: Shorten, Timeout: left}
	}
	if now > k.limit || !k.may() {
		return Order{Wait: k.Interval()}
	}
	if wait := k.pause(now); wait > 0 {
		return Order{Wait: wait}
	}
	if k.short {
		return Order{Do: Restart, Timeout: k.want}
	}
	return Order{Do: Restart}
}

// may reports whether a restart that comes as late as it can still be made good.
func (k *Petter) may() bool {
	return k.fires == 0 || k.fires.Add(k.full.Least) <= k.Reset()
}

// overdue reports whether the timer ends too late and can be made to end sooner,
// and the timeout for it.
func (k *Petter) overdue(now cluster.Instant) (time.Duration, bool) {
	if k.fires <= k.Reset() {
		return 0, false
	}
	to := max(k.Reset().Sub(now), k.full.Least)
	return to, now.Add(to) < k.fires
}

// pause is how long a restart is put off. When it would be the last that is
// allowed, it waits until shortly before the limit, so that the device does not
// fire needlessly soon; but not longer than the timer surely runs. Promise sees to
// it that the last but one was half a timeout and an interval before the limit at
// most.
func (k *Petter) pause(now cluster.Instant) time.Duration {
	if k.last == 0 || k.short || now.Add(k.full.Timeout+k.full.Least) <= k.Reset() {
		return 0
	}
	until := min(k.limit.Add(-k.Interval()/4), k.last.Add(k.full.Timeout*5/8))
	return max(until.Sub(now), 0)
}

// Answered says how the order ended: now is a reading of the clock after the
// device's answer, d what the device does as it is set now. After an error it may
// have been restarted or not, and d does not count.
func (k *Petter) Answered(o Order, now cluster.Instant, d Device, err error) {
	k.next = now.Add(k.Interval())
	timeout := max(k.full.Timeout, o.Timeout)
	if err == nil {
		timeout, k.last = d.Timeout, now
		if o.Do == Restart {
			k.full, k.short = d, false
		}
		k.full.Least = max(k.full.Least, d.Least)
		k.fires = 0 // what the timer was before does not count any more
	}
	k.short = k.short || o.Do == Shorten
	k.fires = max(k.fires, now.Add(timeout))
	if o.Do == Restart {
		k.late = max(now.Sub(k.limit), 0)
	}
	if o.Do == Restart && k.late > 0 && err == nil {
		k.next = 0 // make it good at once
	}
}

// Interval is the time from one pet to the next.
func (k *Petter) Interval() time.Duration {
	return max(min(k.want, k.full.Timeout)/8, MinInterval)
}

// Armed reports whether the timer runs, or may run.
func (k *Petter) Armed() bool { return k.armed }

// Limit is the last instant at which a pet may begin; 0: none may.
func (k *Petter) Limit() cluster.Instant { return k.limit }

// Last is an instant not before the last pet; 0: none.
func (k *Petter) Last() cluster.Instant { return k.last }

// Late is by how much the last pet may have come after the limit.
func (k *Petter) Late() time.Duration { return k.late }

// Timeout is the device's, as it is when it was not shortened.
func (k *Petter) Timeout() time.Duration { return k.full.Timeout }

// Promise is W of the device as it is when it was not shortened.
func (k *Petter) Promise() time.Duration { return Promise(k.full) }

// Reset is the instant by which the device resets the host: L + W.
func (k *Petter) Reset() cluster.Instant { return k.limit.Add(k.Promise()) }

// Excess is how far the reset may come after L + W all the same. It is above 0
// for a caller that was stopped twice in a row, and for a device that does not
// do what it said.
func (k *Petter) Excess() time.Duration { return max(k.fires.Sub(k.Reset()), 0) }
