package bmc

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"

	"holdfast/internal/lib/clock"
)

const (
	// request is how long the first try of a request waits; after one in vain all
	// further ones wait twice as long, so that a slow device is heard in the end.
	request = time.Second
	tries   = 3
	// rounds of setting up a session, with each cipher suite that is possible.
	rounds = 2
	// busyPause is the wait before a busy device is asked again.
	busyPause = 200 * time.Millisecond
)

// Errors of setting up a session that call for another try.
var (
	errSuite = errors.New("cipher suite not known to the device")
	errBusy  = errors.New("the device has no free session")
)

// opener opens IPMI sessions at addr.
type opener struct {
	d    *Device
	addr string
}

// open tries the cipher suites that are possible, each time from a new port, so
// that an answer to an earlier try can not be taken for one to this.
func (o opener) open(ctx context.Context, password string) (session, error) {
	if len(password) > ipmiPassword {
		return nil, fmt.Errorf("the password has %d bytes, IPMI takes at most %d: %w", len(password), ipmiPassword, ErrRefused)
	}
	var err error
	wait := request
	for range rounds {
		var s *ipmiSession
		if s, err = o.round(ctx, password, wait); err == nil {
			return s, nil
		}
		again := errors.Is(err, ErrUnreachable) || errors.Is(err, errBusy)
		if errors.Is(err, errSuite) && o.d.suite.Swap(0) != 0 {
			again = true // it is another device now, or has other firmware
		}
		if !again || errors.Is(err, errClosed) || !clock.Sleep(ctx, busyPause) {
			break
		}
		wait *= 2
	}
	return nil, err
}

// round tries each suite once and returns the error of the last.
func (o opener) round(ctx context.Context, password string, wait time.Duration) (s *ipmiSession, err error) {
	for _, suite := range o.suites() {
		if s, err = o.try(ctx, password, suite, wait); err == nil {
			o.d.suite.Store(int32(suite))
			return s, nil
		}
		// A device that does not know a suite says so or keeps silent.
		if !errors.Is(err, errSuite) && !errors.Is(err, ErrUnreachable) || errors.Is(err, errClosed) || ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// suites are those to try. 17 is the stronger one.
func (o opener) suites() []int {
	if o.d.opts.Suite != 0 {
		return []int{o.d.opts.Suite}
	}
	switch o.d.suite.Load() {
	case 17:
		return []int{17}
	case 3:
		return []int{3}
	}
	return []int{17, 3}
}

// try sets a session up step by step. The library's Connect would add a request
// that some devices do not answer and a goroutine, and hide the kinds of errors.
func (o opener) try(ctx context.Context, password string, suite int, wait time.Duration) (*ipmiSession, error) {
	w, err := dialWire(ctx, o.addr, o.d.opts.User, password, suite)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w: %w", o.addr, ErrUnreachable, err)
	}
	c, err := client.NewClient("device", 0, o.d.opts.User, password) // wire has the address
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a client: %w", err), w.Close())
	}
	c.WithUDPProxy(w).WithRetry(0).WithTimeout(wait).WithCipherSuiteID(types.CipherSuiteID(suite)).
		WithMaxPrivilegeLevel(types.PrivilegeLevelOperator)
	s := &ipmiSession{d: o.d, c: c, w: w, call: context.WithoutCancel(ctx), wait: wait}
	if err := s.setUp(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	// From here on there is a session that must be ended.
	err = s.ask(ctx, func(ctx context.Context) error {
		_, err := c.SetSessionPrivilegeLevel(ctx, types.PrivilegeLevelOperator)
		return err
	})
	if err != nil {
		s.close(ctx)
		return nil, fmt.Errorf("get the privilege Operator: %w", err)
	}
	return s, nil
}

// ipmiSession is one RMCP+ session.
type ipmiSession struct {
	d *Device
	c *client.Client
	w *wire
	// call is what the library gets: wire alone ends its waits, so that it never
	// leaves a goroutine behind that still reads.
	call context.Context
	wait time.Duration // of the next try; it grows with each that was in vain
}

func (s *ipmiSession) setUp() error {
	if _, err := s.c.OpenSession(s.call); err != nil || s.w.status != 0 {
		return s.setUpError("open session", err)
	}
	if _, err := s.c.RAKPMessage1(s.call); err != nil {
		return s.setUpError("authenticate the device", err)
	}
	if _, err := s.c.RAKPMessage3(s.call); err != nil {
		return s.setUpError("authenticate", err)
	}
	return nil
}

// setUpError tells the kinds apart. The status was noted by wire: the library
// does not find it in short answers.
func (s *ipmiSession) setUpError(step string, err error) error {
	text := "cipher suite"
	if err != nil {
		text = err.Error()
	}
	code := types.RmcpStatusCode(s.w.status)
	switch code {
	case types.RmcpStatusCodeNoErrors:
		if errors.Is(err, client.ErrRAKPAuthentication) {
			return fmt.Errorf("%s: %w: wrong password", step, ErrRefused)
		}
		return fmt.Errorf("%s: %w: %w", step, unreachable(err), err)
	case types.RmcpStatusCodeNoResToCreateSess, types.RmcpStatusCodeNoResToCreateSessAtRole:
		return fmt.Errorf("%s: %w: %w", step, errBusy, ErrRefused)
	case types.RmcpStatusCodeInvalidAuthAlg, types.RmcpStatusCodeInvalidIntegrityAlg, types.RmcpStatusCodeInvalidConfidentAlg,
		types.RmcpStatusCodeNoMatchingAuthPayload, types.RmcpStatusCodeNoMatchingIntegrityPayload,
		types.RmcpStatusCodeNoCipherSuiteMatch,
		types.RmcpStatusCodeInvalidRole: // some devices let a suite be used with lower privileges only
		if s.w.sent == openRequest {
			return fmt.Errorf("%s: %w (status %#02x): %w", step, errSuite, uint8(code), ErrRefused)
		}
	}
	return fmt.Errorf("%s: %w: status %#02x: %s", step, ErrRefused, uint8(code), text)
}

func (s *ipmiSession) identity(ctx context.Context) (identity, error) {
	var id identity
	err := s.ask(ctx, func(ctx context.Context) error {
		r, err := s.c.GetSystemGUID(ctx)
		if err == nil {
			id.raw = r.GUID
		}
		return err
	})
	switch cc, ok := completion(err); {
	case err == nil:
		return id, nil
	case ok && (cc == types.CodeInvalidCommand || cc == types.CodeInvalidCommandForLUN ||
		cc == types.CodeRequestedDataNotPresent || cc == types.CodeSubFnDisabled):
		return identity{}, nil // the device does not tell
	}
	return identity{}, fmt.Errorf("get the system's GUID: %w", err)
}

func (s *ipmiSession) power(ctx context.Context) (on bool, err error) {
	err = s.ask(ctx, func(ctx context.Context) error {
		r, err := s.c.GetChassisStatus(ctx)
		if err == nil {
			on = r.PowerIsOn
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("get the power's state: %w", err)
	}
	return on, nil
}

// order may send its request again when no answer comes: both are idempotent.
func (s *ipmiSession) order(ctx context.Context, on bool) error {
	what := chassis.ChassisControlPowerDown
	if on {
		what = chassis.ChassisControlPowerUp
	}
	return s.ask(ctx, func(ctx context.Context) error {
		_, err := s.c.ChassisControl(ctx, what)
		return err
	})
}

// ask makes a request until it is answered. Each try is a new request with a
// number of its own, so that an answer to an earlier one does not count.
func (s *ipmiSession) ask(ctx context.Context, f func(context.Context) error) (err error) {
	s.w.follow(ctx)
	for range tries {
		if ctx.Err() != nil {
			return errors.Join(err, fmt.Errorf("%w: no time left: %w", ErrUnreachable, ctx.Err()))
		}
		s.c.WithTimeout(s.wait)
		if err = f(s.call); err == nil {
			return nil
		}
		cc, answered := completion(err)
		switch {
		case !answered:
			err = fmt.Errorf("%w: %w", unreachable(err), err)
			s.wait *= 2
		case cc == types.CodeNodeBusy || cc == types.CodeProcessTimeout || cc == types.CodeOutOfSpace ||
			cc == types.CodeCannotProvideResponseBMCInitialize:
			err = fmt.Errorf("%w: busy: %w", ErrRefused, err)
			if !clock.Sleep(ctx, busyPause) {
				return err
			}
		default:
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return err
}

// close ends the session at the device too: it has few.
func (s *ipmiSession) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	s.w.follow(ctx)
	s.c.WithTimeout(closeTime)
	if err := s.c.Close(s.call); err != nil {
		s.d.log.Debug("end a session of a fence device", "device", s.d.Name(), "error", cleanError{err})
	}
	_ = s.w.Close() // closed by the library already, unless that failed
	if s.w.discarded != 0 {
		s.d.log.Debug("datagrams of a fence device that were no answers", "device", s.d.Name(), "count", s.w.discarded)
	}
}

// completion is the code of an answer that says no; false when err is none.
func completion(err error) (types.CompletionCode, bool) {
	var r *types.ResponseError
	if !errors.As(err, &r) || r.CompletionCode() == types.CodeOK {
		return 0, false
	}
	return r.CompletionCode(), true
}

// errClosed: the machine at the address says that nobody listens there. More
// tries would be in vain.
var errClosed = fmt.Errorf("%w: port closed", ErrUnreachable)

func unreachable(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errClosed
	}
	return ErrUnreachable
}
