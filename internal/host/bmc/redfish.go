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
	r := &rest{endpoint: "https://" + o.addr, user: o.d.opts.User, password: password,
		client: &http.Client{Transport: bounded{transport}, Timeout: httpTime, CheckRedirect: stay}}
	s := &redfishSession{d: o.d, r: r, idle: transport.CloseIdleConnections}
	systems, err := r.login(ctx)
	if err != nil {
		s.idle()
		return nil, httpError("open a session", err)
	}
	if err := s.find(ctx, systems); err != nil {
		s.close(ctx)
		if r.basic != nil {
			err = fmt.Errorf("%w (with the password, as it gave no session: %v)", err, r.basic)
		}
		return nil, err
	}
	return s, nil
}

// suites are Go's own and those with RSA key exchange, which Go has left out since 1.22
// and controllers such as H3C's HDM have alone. Whoever gets hold of the certificate's key can read
// a recorded connection of these, so a device that knows others gets one of those: Go prefers
// them, and the handshake shows whoever takes them out of the offer. Nothing else in the program
// has these.
var suites = func() []uint16 {
	ids := []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA}
	for _, s := range tls.CipherSuites() {
		ids = append(ids, s.ID)
	}
	return ids
}()

// tls pins the certificate when its fingerprint is known: most devices have one
// that no authority has signed.
func (o dialer) tls() *tls.Config {
	if o.pin == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites}
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       suites,
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

// stay leaves redirects to rest, which keeps them at the device.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

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
			if sys.err != nil {
				return httpError("get the system", fmt.Errorf("%s: %w", sys.ID, sys.err))
			}
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

// look asks anew for the system that was chosen, and takes no other's answer for its.
func (s *redfishSession) look(ctx context.Context) (*system, error) {
	sys, err := s.r.system(ctx, s.sys.path)
	if err != nil {
		return nil, httpError("get the system", err)
	}
	was, err1 := fromText(s.sys.UUID)
	is, err2 := fromText(sys.UUID)
	if sys.ID != s.sys.ID || err1 == nil && err2 == nil && was.known() && is.known() && was != is {
		return nil, fmt.Errorf("%s answers for the system %s %s, and did for %s %s: %w", s.sys.path, sys.ID, sys.UUID,
			s.sys.ID, s.sys.UUID, ErrForeign)
	}
	return sys, nil
}

// power asks anew each time. Only "Off" is off: not PoweringOff, not an empty value.
func (s *redfishSession) power(ctx context.Context) (on bool, err error) {
	sys, err := s.look(ctx)
	if err != nil {
		return false, err
	}
	if sys.PowerState == "" {
		return false, fmt.Errorf("the system %s tells no power state: %w", sys.ID, ErrRefused)
	}
	return strings.TrimSpace(sys.PowerState) != stateOff, nil
}

// order does not ask which orders the system says it takes: some say other ones in
// another power state, some none, some wrong ones. The service refuses what it can not do.
func (s *redfishSession) order(ctx context.Context, on bool) error {
	what := resetOff
	if on {
		what = resetOn
	}
	sys, err := s.look(ctx)
	if err != nil {
		return err
	}
	err = s.r.reset(ctx, sys, what)
	if allowed := sys.Actions.Reset.Allowed; statusOf(err) != 0 && len(allowed) > 0 && !slices.Contains(allowed, what) {
		err = fmt.Errorf("it says that it takes only %s: %w", strings.Join(allowed, ", "), err)
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
		s.d.log.Debug("end a session of a fence device", "device", s.d.Name(), "error", cleanError{err})
	}
}

// httpError puts an error of a request into one of ours.
func httpError(step string, err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, ErrForeign), errors.Is(err, ErrRefused):
		return fmt.Errorf("%s: %w", step, err)
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid):
		return fmt.Errorf("%s: %w (give the certificate's fingerprint if it is the device's own): %w", step, ErrForeign, err)
	case statusOf(err) != 0, errors.Is(err, errNoTarget):
		return fmt.Errorf("%s: %w: %w", step, ErrRefused, err)
	case strings.Contains(err.Error(), "tls: "): // these errors of the handshake have no type
		return fmt.Errorf("%s: %w: want TLS 1.2 or later and a certificate by RFC 5280: %w", step, ErrRefused, err)
	}
	return fmt.Errorf("%s: %w: %w", step, ErrUnreachable, err)
}
