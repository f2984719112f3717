package watchdog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"holdfast/internal/cluster"
)

const (
	minPetInterval = 100 * time.Millisecond
	// A limit further away than this is a mistake of the caller, and since limits
	// only move forward it would leave the host unguarded for good.
	maxAhead = 10 * time.Minute
)

// ErrLeftArmed: the holder ended and left the timer running, on purpose.
var ErrLeftArmed = errors.New("watchdog left armed")

// errTooLate: the limit passed before, or during, a pet.
var errTooLate = errors.New("the limit has passed")

// keeper is the holder without its socket: it owns the device and obeys the
// limit. One goroutine uses it.
type keeper struct {
	dev  Device
	want time.Duration          // timeout to ask for
	now  func() cluster.Instant // CLOCK_BOOTTIME
	mark mark
	log  *slog.Logger

	armed   bool            // the timer runs, or may run
	limit   cluster.Instant // while armed: no pet after it
	timer   Timer           // nil: the device is not open
	full    time.Duration   // timeout that the device was armed with; before, the one to ask for
	short   bool            // the timeout was shortened after a late pet
	lastPet cluster.Instant
	over    bool  // it was logged that the limit has passed
	fault   error // why the last attempt on the device failed
}

// newKeeper continues what an earlier holder of this boot left behind.
func newKeeper(k keeper) *keeper {
	limit, ok, err := k.mark.load()
	k.armed, k.limit, k.fault, k.full = ok || err != nil, limit, err, k.want
	switch {
	case err != nil:
		k.log.Error("an earlier holder may have left the watchdog armed", "err", err)
	case ok:
		k.log.Info("an earlier holder left the watchdog armed", "left", limit.Sub(k.now()))
	}
	return &k
}

// call is a request with the channel for its one reply.
type call struct {
	req   request
	bad   error         // the request could not be read
	reply chan<- Status // has room for one
}

// run pets the device until ctx ends.
func (k *keeper) run(ctx context.Context, calls <-chan call) error {
	k.tick(ctx)
	every := k.interval()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return k.leave()
		case c := <-calls:
			c.reply <- k.handle(ctx, c)
		case <-ticker.C:
			k.tick(ctx)
		}
		if next := k.interval(); next != every {
			every = next
			ticker.Reset(every)
		}
	}
}

// interval is the time from one pet to the next.
func (k *keeper) interval() time.Duration {
	timeout := k.want
	if k.timer != nil {
		timeout = min(timeout, k.timer.Info().Timeout)
	}
	return max(timeout/8, minPetInterval)
}

func (k *keeper) handle(ctx context.Context, c call) Status {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := k.do(ctx, c)
	info, broken := k.info(ctx)
	if c.req.Op == opStatus && err == nil {
		err = errors.Join(k.fault, broken)
	}
	st := Status{
		Armed: k.armed, Limit: k.limit, LastPet: k.lastPet,
		Timeout: info.Timeout, Identity: info.Identity, Refused: errors.Is(err, ErrRefused),
	}
	if err != nil {
		st.Error = err.Error()
	}
	return st
}

func (k *keeper) do(ctx context.Context, c call) error {
	switch {
	case c.bad != nil:
		return fmt.Errorf("%w: %w", ErrRefused, c.bad)
	case c.req.Expires != 0 && k.now() > c.req.Expires:
		return fmt.Errorf("%w: the client does not wait any more", ErrRefused)
	}
	switch c.req.Op {
	case opArm:
		return k.arm(ctx, c.req.Until)
	case opDisarm:
		return k.disarm(ctx)
	case opStatus:
		return nil
	}
	return fmt.Errorf("%w: operation %q: want arm, disarm or status", ErrRefused, c.req.Op)
}

// info tells what is known of the device, without arming it.
func (k *keeper) info(ctx context.Context) (Info, error) {
	if k.timer == nil {
		return k.dev.Inspect(ctx, k.want)
	}
	info := k.timer.Info()
	if k.short {
		info.Timeout = k.full // what it has again with the next pet
	}
	return info, nil
}

// arm moves the limit forward and pets.
func (k *keeper) arm(ctx context.Context, until cluster.Instant) error {
	now, fresh := k.now(), !k.armed
	limit := max(until, k.limit)
	switch {
	case until <= 0 || now > limit:
		return fmt.Errorf("%w: the limit passed %v ago", ErrRefused, now.Sub(limit))
	case until.Sub(now) > maxAhead:
		return fmt.Errorf("%w: the limit is %v away, more than %v", ErrRefused, until.Sub(now), maxAhead)
	}
	if fresh || limit > k.limit {
		// An older limit on disk is safe; none at all would leave a timer that
		// nobody knows of.
		if err := k.mark.save(limit); err != nil && fresh {
			return err
		} else if err != nil {
			k.log.Warn("the next holder could not continue", "err", err)
		}
	}
	k.armed, k.limit, k.over = true, limit, false
	err := k.renew(ctx)
	k.fault = err
	if err != nil && fresh {
		return errors.Join(err, k.undo(err))
	}
	return err
}

// undo takes back a first arming that failed with cause.
func (k *keeper) undo(cause error) error {
	k.limit = 0
	if errors.Is(cause, ErrNoDevice) || errors.Is(cause, ErrBusy) {
		k.armed = false
		return k.mark.remove()
	}
	// The timer may run. Do not pet it, but remember to disarm it.
	return k.mark.save(0)
}

// renew pets the device, or opens it if it is not open or does not answer.
func (k *keeper) renew(ctx context.Context) error {
	if k.timer != nil {
		err := k.pet()
		if err == nil || errors.Is(err, errTooLate) {
			return err
		}
		k.log.Warn("watchdog does not answer, opening it again", "err", err)
		k.drop()
	}
	return k.open(ctx)
}

// pet restarts the timer of the open device, unless the limit has passed.
func (k *keeper) pet() error {
	restart := k.timer.Pet
	if k.short {
		restart = func() error { return k.timer.Set(k.want) }
	}
	if k.now() > k.limit {
		return errTooLate
	}
	if err := restart(); err != nil {
		return err
	}
	k.short = false
	return k.petted()
}

// open arms the device, which is a pet, unless the limit has passed.
func (k *keeper) open(ctx context.Context) error {
	if k.now() > k.limit {
		return errTooLate
	}
	t, err := k.dev.Arm(ctx, k.want)
	if err != nil {
		return err
	}
	k.timer, k.full, k.short = t, t.Info().Timeout, false
	k.log.Info("watchdog armed", "identity", t.Info().Identity, "timeout", k.full, "left", k.limit.Sub(k.now()))
	return k.petted()
}

// petted looks at the clock after a pet. Between the look before it and the pet
// the process may have been stopped for any time; then the reset would come too
// late. So the timer is set to what is left until the reset was promised.
func (k *keeper) petted() error {
	k.lastPet = k.now()
	late := k.lastPet.Sub(k.limit)
	if late <= 0 {
		return nil
	}
	k.short = true
	err := fmt.Errorf("%w during a pet, up to %v before its end: the timeout is shortened", errTooLate, late)
	return errors.Join(err, k.timer.Set(max(k.full-late, time.Millisecond)))
}

// tick pets a device that shall be petted. There is nobody to return an error
// to, so it is logged when it is new, and told by every status.
func (k *keeper) tick(ctx context.Context) {
	if !k.armed {
		return
	}
	if left := k.limit.Sub(k.now()); left < 0 {
		if !k.over {
			k.log.Warn("no more pets, the limit has passed", "ago", -left, "timeout", k.full)
		}
		k.over = true
		return
	}
	var err error
	if k.timer == nil {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err = k.open(ctx)
	} else {
		// A device that stopped to answer is not opened again here: if it fired,
		// only a new arming may start it.
		err = k.pet()
	}
	if err != nil && (k.fault == nil || k.fault.Error() != err.Error()) {
		k.log.Error("watchdog was not petted", "err", err)
	}
	k.fault = err
}

// disarm stops the timer. It is asked for only when the guest is proved gone,
// so opening the device for it, which is a pet, is safe after the limit too.
func (k *keeper) disarm(ctx context.Context) error {
	if !k.armed {
		return nil
	}
	if err := k.stop(ctx); err != nil {
		k.fault = err
		return err
	}
	k.limit, k.fault, k.lastPet = 0, nil, 0
	if err := k.mark.remove(); err != nil {
		return err // still armed for all we say, so that it is tried again
	}
	k.armed = false
	k.log.Info("watchdog disarmed")
	return nil
}

// stop ends the timer by the open device, else by opening it once more.
func (k *keeper) stop(ctx context.Context) error {
	var first error
	if t := k.timer; t != nil {
		k.timer = nil
		if first = t.Disarm(); first == nil {
			return nil
		}
	}
	t, err := k.dev.Arm(ctx, k.want)
	if err != nil {
		return errors.Join(first, err)
	}
	if err := t.Disarm(); err != nil {
		return errors.Join(first, err)
	}
	return nil
}

// drop lets go of the device without stopping its timer.
func (k *keeper) drop() {
	t := k.timer
	k.timer = nil
	if err := t.Close(); err != nil {
		k.log.Warn("close the watchdog", "err", err)
	}
}

// leave ends the keeper and leaves an armed device armed.
func (k *keeper) leave() error {
	if !k.armed {
		return nil
	}
	if k.timer != nil {
		k.drop()
	}
	return fmt.Errorf("%w: the next holder must continue, or the host is reset within %v", ErrLeftArmed, k.full)
}
