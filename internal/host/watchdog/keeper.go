package watchdog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"holdfast/internal/cluster"
	decide "holdfast/internal/host/watchdog/keeper"
)

const (
	// A limit further away than this is a mistake of the caller, and since limits
	// only move forward it would leave the host unguarded for good.
	maxAhead = 10 * time.Minute
	// idle is how long a keeper without anything to keep waits for a call.
	idle = time.Minute
)

// ErrLeftArmed: the holder ended and left the timer running, on purpose.
var ErrLeftArmed = errors.New("watchdog left armed")

var (
	// errTooLate: the limit passed before, or during, a pet.
	errTooLate = errors.New("the limit has passed")
	// errWaits: an earlier holder has petted the device so shortly before that a pet
	// which comes late could not be made good.
	errWaits = errors.New("the limit is too near to continue what an earlier holder armed")
)

// keeper is the holder without its socket: it owns the device and does what the
// rules say. One goroutine uses it.
type keeper struct {
	dev  Device
	want time.Duration          // timeout to ask for
	now  func() cluster.Instant // the host's clock
	mark mark
	log  *slog.Logger

	rules decide.Petter
	timer Timer // nil: the device is not open
	over  bool  // it was logged that the limit has passed
	fault error // why the last attempt on the device failed
}

// newKeeper continues what an earlier holder of this boot left behind.
func newKeeper(ctx context.Context, k keeper) *keeper {
	d := decide.Device{Timeout: k.want, Least: k.want} // until it is known better
	if info, err := k.dev.Inspect(ctx, k.want); err == nil {
		d = rulesOf(info)
	}
	k.rules = decide.New(k.want, d)
	left, ok, err := k.mark.load()
	k.fault = err
	switch {
	case err != nil:
		k.log.Error("an earlier holder may have left the watchdog armed", "err", err)
		k.rules.Resume(k.now(), 0, 0)
	case ok:
		k.log.Info("an earlier holder left the watchdog armed", "left", left.limit.Sub(k.now()))
		k.rules.Resume(k.now(), left.limit, left.timeout)
	}
	return &k
}

func rulesOf(i Info) decide.Device { return decide.Device{Timeout: i.Timeout, Least: i.Least} }

// call is a request with the channel for its one reply.
type call struct {
	req   request
	bad   error         // the request could not be read
	reply chan<- Status // has room for one
}

// run pets the device until ctx ends.
func (k *keeper) run(ctx context.Context, calls <-chan call) error {
	k.tick(ctx)
	timer := time.NewTimer(k.wait())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return k.leave()
		case c := <-calls:
			c.reply <- k.handle(ctx, c)
		case <-timer.C:
			k.tick(ctx)
		}
		timer.Reset(k.wait())
	}
}

// wait is how long nothing is to be done.
func (k *keeper) wait() time.Duration {
	switch o := k.rules.Ask(k.now()); {
	case o.Do != decide.Nothing:
		return decide.MinInterval // it can not be done now
	case o.Wait == 0:
		return idle
	default:
		return patient(o.Wait)
	}
}

func (k *keeper) handle(ctx context.Context, c call) Status {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := k.do(ctx, c.req, c.bad)
	info, broken := k.info(ctx)
	if c.req.Op == opStatus && err == nil {
		err = errors.Join(k.fault, broken)
	}
	st := Status{
		Format: format, Armed: k.rules.Armed(), Limit: k.rules.Limit(), LastPet: k.rules.Last(),
		Timeout: info.Timeout, Identity: info.Identity, Refused: errors.Is(err, ErrRefused),
	}
	if err != nil {
		st.Error = err.Error()
	}
	return st
}

func (k *keeper) do(ctx context.Context, req request, bad error) error {
	switch {
	case bad != nil:
		return fmt.Errorf("%w: %w", ErrRefused, bad)
	case req.Format != format:
		return fmt.Errorf("%w: format %d of the request: want %d", ErrRefused, req.Format, format)
	case req.Expires != 0 && k.now() > req.Expires:
		return fmt.Errorf("%w: the client does not wait any more", ErrRefused)
	}
	switch req.Op {
	case opArm:
		return k.arm(ctx, req.Until)
	case opDisarm:
		return k.disarm(ctx)
	case opStatus:
		return nil
	}
	return fmt.Errorf("%w: operation %q: want arm, disarm or status", ErrRefused, req.Op)
}

// info tells what is known of the device, without arming it. Timeout is W, what
// the rules promise of it.
func (k *keeper) info(ctx context.Context) (Info, error) {
	if k.timer != nil {
		info := k.timer.Info()
		info.Timeout = k.rules.Promise()
		return info, nil
	}
	info, err := k.dev.Inspect(ctx, k.want)
	if err == nil {
		info.Timeout = decide.Promise(rulesOf(info))
	}
	return info, err
}

// arm moves the limit forward and pets.
func (k *keeper) arm(ctx context.Context, until cluster.Instant) error {
	now, fresh := k.now(), !k.rules.Armed()
	limit := max(until, k.rules.Limit())
	switch {
	case until <= 0 || now > limit:
		return fmt.Errorf("%w: the limit passed %v ago", ErrRefused, now.Sub(limit))
	case until.Sub(now) > maxAhead:
		return fmt.Errorf("%w: the limit is %v away, more than %v", ErrRefused, until.Sub(now), maxAhead)
	}
	if fresh || limit > k.rules.Limit() {
		// An older limit on disk is safe; none at all would leave a timer that
		// nobody knows of.
		if err := k.save(limit); err != nil && fresh {
			return err
		} else if err != nil {
			k.log.Warn("the next holder could not continue", "err", err)
		}
	}
	k.over = false
	err := k.renew(ctx, limit)
	k.fault = err
	if err != nil && fresh {
		return errors.Join(err, k.undo(err))
	}
	return err
}

// save writes the mark for the next holder.
func (k *keeper) save(limit cluster.Instant) error {
	return k.mark.save(leftover{limit, k.rules.Timeout()})
}

// undo takes back a first arming that failed with cause.
func (k *keeper) undo(cause error) error {
	if errors.Is(cause, ErrNoDevice) || errors.Is(cause, ErrBusy) {
		k.rules.Disarmed()
		return k.mark.remove()
	}
	// The timer may run. Do not pet it, but remember to disarm it.
	k.rules.Mute()
	return k.save(0)
}

// renew pets the device, or opens it if it is not open or does not answer. A pet
// may be put off by the rules; nil says that the device is open and will be petted.
func (k *keeper) renew(ctx context.Context, limit cluster.Instant) error {
	k.rules.Told(limit)
	did, err := k.obey(ctx)
	if err != nil && k.timer != nil && !errors.Is(err, errTooLate) {
		k.log.Warn("watchdog does not answer, opening it again", "err", err)
		k.drop()
		k.rules.Told(limit)
		did, err = k.obey(ctx)
	}
	switch {
	case did || err != nil:
		return err
	case k.now() > limit:
		return errTooLate
	case k.timer == nil:
		return errWaits
	}
	return nil
}

// obey does what the rules say until they say nothing more. did tells whether the
// device was petted, or tried to be.
func (k *keeper) obey(ctx context.Context) (did bool, err error) {
	for {
		// Nothing may come between this look at the clock and the device.
		o := k.rules.Ask(k.now())
		if o.Do == decide.Nothing || o.Do == decide.Shorten && k.timer == nil {
			return did, err
		}
		did = true
		err = errors.Join(err, k.carry(ctx, o))
	}
}

// carry carries one order out and tells the rules how it ended.
func (k *keeper) carry(ctx context.Context, o decide.Order) error {
	var err error
	opened := false
	switch {
	case k.timer == nil:
		var t Timer
		if t, err = k.dev.Arm(ctx, k.want); err == nil {
			k.timer, opened = t, true
		}
	case o.Timeout > 0:
		err = k.timer.Set(o.Timeout)
	default:
		err = k.timer.Pet()
	}
	now := k.now()
	var info Info
	if err == nil {
		info = k.timer.Info()
	}
	k.rules.Answered(o, now, rulesOf(info), err)
	if opened {
		k.log.Info("watchdog armed", "identity", info.Identity, "timeout", info.Timeout, "least", info.Least, "left", k.rules.Limit().Sub(now))
	}
	return k.result(o, err)
}

// result is the error of an order that was carried out.
func (k *keeper) result(o decide.Order, err error) error {
	switch excess := k.rules.Excess(); {
	case err != nil:
		return err
	case o.Do == decide.Restart && k.rules.Late() > 0:
		return fmt.Errorf("%w during a pet, up to %v before its end: the timeout is shortened", errTooLate, k.rules.Late())
	case o.Do == decide.Shorten && excess > 0:
		return fmt.Errorf("the device can not be set short enough: the reset may come up to %v later than promised", excess)
	}
	return nil
}

// tick pets a device that shall be petted. There is nobody to return an error
// to, so it is logged when it is new, and told by every status.
func (k *keeper) tick(ctx context.Context) {
	if !k.rules.Armed() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// A device that stopped to answer is not opened again here: if it fired, only
	// a new arming may start it.
	did, err := k.obey(ctx)
	if err != nil && (k.fault == nil || k.fault.Error() != err.Error()) {
		k.log.Error("watchdog was not petted", "err", err)
	}
	if did {
		k.fault = err
	}
	if ago := k.now().Sub(k.rules.Limit()); ago > 0 && !k.over {
		k.over = true
		k.log.Warn("no more pets, the limit has passed", "ago", ago, "timeout", k.rules.Promise())
	}
}

// disarm stops the timer. It is asked for only when the guest is proved gone,
// so opening the device for it, which is a pet, is safe after the limit too.
func (k *keeper) disarm(ctx context.Context) error {
	if !k.rules.Armed() {
		return nil
	}
	if err := k.stop(ctx); err != nil {
		k.fault = err
		return err
	}
	k.rules.Mute()
	k.fault = nil
	if err := k.mark.remove(); err != nil {
		return err // still armed for all we say, so that it is tried again
	}
	k.rules.Disarmed()
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
	if !k.rules.Armed() {
		return nil
	}
	if k.timer != nil {
		k.drop()
	}
	return fmt.Errorf("%w: the next holder must continue, or the host is reset within %v", ErrLeftArmed, k.rules.Promise())
}
