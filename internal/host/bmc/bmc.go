// Package bmc switches hosts off and on by their management controllers: IPMI
// 2.0 over LAN and Redfish over HTTPS. It is what makes the proof "fenced".
//
// The order to switch off proves nothing: devices accept it and stay on, or refuse
// it and are off. Off returns nil only after the device, asked after the order, has said that
// the power is off. A device that lies about its state can not be seen from here.
package bmc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"holdfast/internal/lib/clock"
)

// What an operation on a device fails with. Each error of Off, On and Check
// wraps at least one of them and names the device and the step, in one line of at
// most 512 bytes in which nothing of the device is left that terminals or browsers
// act on.
var (
	// ErrUnreachable: no answer in time, or no connection.
	ErrUnreachable = errors.New("not reachable")
	// ErrRefused: the password is missing or wrong, the account may not, or the
	// device refuses.
	ErrRefused = errors.New("refused")
	// ErrStillOn: the device took the order, and the host was on to the end.
	ErrStillOn = errors.New("still on")
	// ErrStillOff: the device took the order, and the host was off to the end.
	ErrStillOff = errors.New("still off")
	// ErrForeign: the device belongs to another machine, or does not show the
	// certificate that it should. Nothing was ordered.
	ErrForeign = errors.New("not the device of this host")
)

const (
	// longest is how long Off and On take when the context allows more.
	longest = 30 * time.Second
	// checkTime is the same of Check.
	checkTime = 10 * time.Second
	// logoutTime is how long the end of a session may take while the context lives.
	logoutTime = 2 * time.Second
	// The state is read back after firstRead, then in growing intervals up to
	// lastRead. Ordering twice is for the caller to decide.
	firstRead = 20 * time.Millisecond
	lastRead  = 500 * time.Millisecond
	// looks is how often the state is read back after an order that was refused.
	looks = 4
)

// closeTime is logoutTime after the context's end: devices have few sessions to give. Tests that look for sessions which
// stay behind have more: a busy machine takes longer for a handshake of TLS.
var closeTime = 300 * time.Millisecond

// Options say where a device is and how to use it.
type Options struct {
	Type         string // ipmi or redfish
	Address      string // host[:port]; redfish also https://host[:port]
	User         string // account; it needs the privilege Operator
	PasswordFile string // read at each operation; mode 0600 or less, at most 1 KiB, a trailing newline is cut
	Machine      string // UUID of the hardware that the device must belong to, lower case; "" = not known
	Fingerprint  string // redfish: SHA-256 of the device's certificate in hex; "" = verified by the system's authorities
	System       string // redfish: Id of the computer system, for services with several
	Suite        int    // ipmi: cipher suite 17 or 3; 0 = find out
	Log          *slog.Logger
}

// Status is what a device says.
type Status struct {
	On      bool   // power is not off; also while it goes on or off
	Machine string // UUID of its hardware, lower case; "" if it does not tell
}

// Device is one fence device. Its methods may be called at the same time; each
// call has a session of its own.
type Device struct {
	opts  Options
	open  func(ctx context.Context, password string) (session, error)
	suite atomic.Int32 // ipmi: the cipher suite that worked last; 0 = none yet
	log   *slog.Logger
}

// session is an authenticated connection to a device, for one operation. Its
// errors wrap those above.
type session interface {
	identity(ctx context.Context) (identity, error)
	power(ctx context.Context) (on bool, err error)
	order(ctx context.Context, on bool) error
	close(ctx context.Context)
}

// Name says which device it is, for people. It never holds the password.
func (d *Device) Name() string {
	return fmt.Sprintf("%s %s@%s", d.opts.Type, d.opts.User, d.opts.Address)
}

// Off orders the power off and reads the state back until it is off. It returns
// nil only after such an answer to a question that was asked after the order, whether the
// device took that, refused it or did not answer.
// With Options.Machine it refuses a device that names another machine, before
// anything is ordered. It takes at most until the context's end, and 30 s; to end
// its session at the device it may take 0.3 s more.
func (d *Device) Off(ctx context.Context) error { return d.set(ctx, false) }

// On orders the power on and reads the state back until it is on.
func (d *Device) On(ctx context.Context) error { return d.set(ctx, true) }

// Check asks the device for its state and identity. It opens a session with the
// privilege that Off needs, so that an account that may not is found early. A
// device of another machine is an error, and its status is returned with it.
func (d *Device) Check(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	s, err := d.connect(ctx)
	if err != nil {
		return Status{}, d.failed("check", "connect", err)
	}
	defer s.close(ctx)
	id, err := s.identity(ctx)
	if err != nil {
		return Status{}, d.failed("check", "identity", err)
	}
	on, err := s.power(ctx)
	if err != nil {
		return Status{}, d.failed("check", "status", err)
	}
	st := Status{On: on, Machine: id.String()}
	if err := id.is(d.opts.Machine); err != nil {
		return st, d.failed("check", "identity", err)
	}
	if d.opts.Machine != "" && id.known() {
		st.Machine = d.opts.Machine
	}
	return st, nil
}

func (d *Device) set(ctx context.Context, on bool) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	what := "switch off"
	if on {
		what = "switch on"
	}
	s, err := d.connect(ctx)
	if err != nil {
		return d.failed(what, "connect", err)
	}
	defer s.close(ctx)
	id, err := s.identity(ctx)
	if err == nil {
		err = id.is(d.opts.Machine)
	}
	if err != nil {
		return d.failed(what, "identity", err)
	}
	refused := order(ctx, s, on)
	step := "read-back"
	if refused != nil {
		step = "order"
	}
	if err := readBack(ctx, s, on, refused); err != nil {
		return d.failed(what, step, err)
	}
	if refused != nil {
		d.log.Warn("a fence device did not take an order, and the host is as ordered", "device", d.Name(), "order",
			what, "error", cleanError{refused})
	}
	return nil
}

// order leaves half of the time to read the state back, should no answer come.
func order(ctx context.Context, s session, on bool) error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	return s.order(ctx, on)
}

func (d *Device) connect(ctx context.Context) (session, error) {
	password, err := readPassword(d.opts.PasswordFile)
	if err != nil {
		return nil, err
	}
	return d.open(ctx, password)
}

func (d *Device) failed(what, step string, err error) error {
	return cleanError{fmt.Errorf("%s by %s: %s: %w", what, d.Name(), step, err)}
}

// readBack asks for the power's state until it is as ordered. Failures to ask are
// passed over until the context ends: a device may be busy with the order. refused is what the
// order failed with: when the device has answered it, a few looks tell whether it holds.
func readBack(ctx context.Context, s session, on bool, refused error) error {
	var asked bool // it has answered at least once
	var last error
	wait := firstRead
	for look := 1; ; look++ {
		now, err := s.power(ctx)
		switch {
		case err == nil && now == on:
			return nil
		case err == nil:
			asked = true
		case ctx.Err() == nil || !asked && last == nil:
			last = err // not the context's end when there is better to say
		}
		final := refused != nil && !errors.Is(refused, ErrUnreachable) && look == looks
		if final || !clock.Sleep(ctx, wait) {
			err = notReached(on, asked, last)
			if refused != nil {
				err = fmt.Errorf("%w (then: %v)", refused, err)
			}
			return err
		}
		wait = min(2*wait, lastRead)
	}
}

// notReached is the error when the time is over: asked tells whether the device
// has answered with the other state, last is the last failure to ask.
func notReached(on, asked bool, last error) error {
	still := ErrStillOn
	if on {
		still = ErrStillOff
	}
	switch {
	case asked && last != nil:
		return fmt.Errorf("%w at the last look (also: %v)", still, last)
	case asked:
		return fmt.Errorf("%w at the last look", still)
	case last != nil:
		return last
	}
	return fmt.Errorf("no time left to ask: %w", ErrUnreachable)
}
