package bmc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// dialTime is for the connection and again for the TLS handshake, which
	// small processors are slow at.
	dialTime = 3 * time.Second
	// httpTime is for one request from its connection to the end of its answer.
	httpTime = 10 * time.Second
)

// errCertificate: the device shows another certificate than the pinned one.
var errCertificate = fmt.Errorf("%w: its certificate has another fingerprint", ErrForeign)

// dialer opens Redfish sessions at addr.
type dialer struct {
	d    *Device
	addr string
	pin  []byte // SHA-256 of the device's certificate, nil for the system's authorities
}

func (o dialer) open(ctx context.Context, password string) (session, error) {
	transport := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSHandshakeTimeout:    dialTime,
		TLSClientConfig:        o.tls(),
		MaxConnsPerHost:        1,
		MaxResponseHeaderBytes: maxAnswer,
	}
	r := &rest{endpoint: "https://" + o.addr, client: &http.Client{Transport: bounded{transport}, Timeout: httpTime, CheckRedirect: o.stay}}
	s := &redfishSession{d: o.d, r: r, idle: transport.CloseIdleConnections}
	systems, err := r.login(ctx, o.d.opts.User, password, false)
	if noSessions(err) {
		systems, err = r.login(ctx, o.d.opts.User, password, true)
	}
	if err != nil {
		s.idle()
		return nil, httpError("open a session", err)
	}
	if err := s.find(ctx, systems); err != nil {
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

// tls pins the certificate when its fingerprint is known: most devices have one
// that no authority has signed.
func (o dialer) tls() *tls.Config {
	if o.pin == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errCertificate
			}
			got := sha256.Sum256(s.PeerCertificates[0].Raw)
			if !bytes.Equal(got[:], o.pin) {
				return fmt.Errorf("%w: %x", errCertificate, got)
			}
			return nil
		},
	}
}

// stay lets the device redirect to itself only: the password goes nowhere else.
func (o dialer) stay(r *http.Request, via []*http.Request) error {
	if r.URL.Scheme != "https" || r.URL.Host != via[0].URL.Host || len(via) > 3 {
		return fmt.Errorf("redirected to %s: %w", r.URL.Redacted(), ErrRefused)
	}
	return nil
}

// noSessions tells whether the service has no sessions to log in with, or names no
// place for them.
func noSessions(err error) bool {
	return errors.Is(err, errNoTarget) || slices.Contains([]int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented}, statusOf(err))
}

// redfishSession is logged in, or each request carries the password.
type redfishSession struct {
	d    *Device
	r    *rest
	idle func()
	sys  *system
}

// find chooses the computer system. Whose the others are is not known, so none
// is taken by chance.
func (s *redfishSession) find(ctx context.Context, systems string) error {
	all, err := s.r.systems(ctx, systems)
	if err != nil {
		return httpError("list the systems", err)
	}
	var ids []string
	for _, sys := range all {
		if sys.ID == s.d.opts.System || s.d.opts.System == "" && len(all) == 1 {
			s.sys = sys
			return nil
		}
		ids = append(ids, sys.ID)
	}
	slices.Sort(ids)
	if s.d.opts.System == "" {
		return fmt.Errorf("it has %d systems (%s), want one to be chosen by the option System: %w",
			len(all), strings.Join(ids, ", "), ErrRefused)
	}
	return fmt.Errorf("it has no system %s, but %s: %w", s.d.opts.System, strings.Join(ids, ", "), ErrRefused)
}

// identity is not known when the service gives none or another text than a UUID.
func (s *redfishSession) identity(context.Context) (identity, error) {
	id, err := fromText(s.sys.UUID)
	if err != nil {
		return identity{}, nil
	}
	return id, nil
}

// power asks anew each time. Only "Off" is off: not PoweringOff, not an empty value.
func (s *redfishSession) power(ctx context.Context) (on bool, err error) {
	sys, err := s.r.system(ctx, s.sys.path)
	if err != nil {
		return false, httpError("get the power's state", err)
	}
	if sys.PowerState == "" {
		return false, fmt.Errorf("the system %s tells no power state: %w", sys.ID, ErrRefused)
	}
	return sys.PowerState != stateOff, nil
}

func (s *redfishSession) order(ctx context.Context, on bool) error {
	what := resetOff
	if on {
		what = resetOn
	}
	sys, err := s.r.system(ctx, s.sys.path)
	if err != nil {
		return httpError("get the system", err)
	}
	allowed, err := s.r.resets(ctx, sys)
	if err != nil {
		return httpError("get the allowed values of Reset", err)
	}
	if len(allowed) > 0 && !slices.Contains(allowed, what) {
		return fmt.Errorf("it knows no %s, only %v: %w", what, allowed, ErrRefused)
	}
	err = s.r.reset(ctx, sys, what)
	if code := statusOf(err); code == http.StatusBadRequest || code == http.StatusConflict {
		return fmt.Errorf("%s: %w: %w: %w", what, errState, ErrRefused, err)
	}
	if err != nil {
		return httpError(what, err)
	}
	return nil
}

func (s *redfishSession) close(ctx context.Context) {
	defer s.idle()
	limit := logoutTime
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end))
	}
	if ctx.Err() != nil {
		limit = 0
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(limit, closeTime))
	defer cancel()
	if err := s.r.logout(ctx); err != nil {
		s.d.log.Debug("end a session of a fence device", "device", s.d.Name(), "error", shown{err})
	}
}

// httpError puts an error of a request into one of ours.
func httpError(step string, err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch code := statusOf(err); {
	case errors.Is(err, ErrForeign), errors.Is(err, ErrRefused):
		return fmt.Errorf("%s: %w", step, err)
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid):
		return fmt.Errorf("%s: %w (give the certificate's fingerprint if it is the device's own): %w", step, ErrForeign, err)
	case code != 0:
		return fmt.Errorf("%s: %w: HTTP status %d: %w", step, ErrRefused, code, err)
	}
	return fmt.Errorf("%s: %w: %w", step, ErrUnreachable, err)
}
