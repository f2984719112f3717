package certificates

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"holdfast/internal/inventory"
	"holdfast/internal/lib/pki"
)

const (
	// look is the longest time between two looks at the certificates.
	look = time.Hour
	// retryLeast and retryMost bound the time until a renewal that failed is tried again,
	// a tenth of what is left; retryOver is that time when nothing is.
	retryLeast = 5 * time.Second
	retryMost  = time.Hour
	retryOver  = time.Minute
	// renewWithin bounds one renewal.
	renewWithin = time.Minute
)

// Options are what a Renewer needs.
type Options struct {
	Places []pki.Place // that of the agent first
	// Sign has a request signed, by this host or another.
	Sign func(ctx context.Context, which string, request []byte) (certPEM []byte, err error)
	// Use makes what is in a place take effect, and reads it back where it is presented.
	// The certificate is the new one.
	Use func(ctx context.Context, p pki.Place, cert *x509.Certificate) error
	Log *slog.Logger
}

// Renewer keeps the certificates of this host.
type Renewer struct {
	Options
	renewing sync.Mutex // one at a time

	mu       sync.Mutex
	problems map[string]problem // by which
	seen     map[string]string  // the serials at the last look, by which
	wake     chan struct{}      // somebody else has replaced one
}

// problem is why the last renewal failed, and when it is tried again.
type problem struct {
	text  string
	again time.Time
	// serial is that of the certificate that was to be renewed; another one is no problem.
	serial string
	// use: the new certificate is there, and does not take effect.
	use bool
}

// New makes a Renewer; Run runs it.
func New(o Options) *Renewer {
	return &Renewer{Options: o, problems: map[string]problem{}, seen: map[string]string{}, wake: make(chan struct{}, 1)}
}

// Run renews in time until ctx ends.
func (r *Renewer) Run(ctx context.Context) {
	for {
		r.pass(ctx)
		t := time.NewTimer(r.wait(time.Now()))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-r.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// wait is the time until the next look: sooner when something is due before.
func (r *Renewer) wait(now time.Time) time.Duration {
	d := look
	for _, p := range r.Places {
		cert, err := pki.ReadCert(p.Cert[0])
		if err != nil {
			continue // it is told by State
		}
		at := DueAt(cert)
		if w, failed := r.problem(p.Which, cert); failed {
			at = w.again
		}
		d = min(d, max(at.Sub(now), time.Second))
	}
	return d
}

// pass renews what is due.
func (r *Renewer) pass(ctx context.Context) {
	r.renewing.Lock()
	defer r.renewing.Unlock()
	for _, p := range r.Places {
		cert, err := pki.ReadCert(p.Cert[0])
		if err != nil {
			continue
		}
		if err := p.Sweep(); err != nil {
			r.Log.Warn("replaced certificates are not removed", "which", p.Which, "err", err)
		}
		r.look(p.Which, cert)
		now := time.Now()
		w, failed := r.problem(p.Which, cert)
		switch {
		case failed && now.Before(w.again):
		case failed && w.use:
			r.ended(p, cert, r.use(ctx, p, cert))
		case !now.Before(DueAt(cert)):
			_ = r.renew(ctx, p, cert, false) // it is told by State, and in the log
		}
	}
}

// Renew renews all certificates of this host now, and tells what there is then.
func (r *Renewer) Renew(ctx context.Context) ([]inventory.Certificate, error) {
	r.renewing.Lock()
	defer r.renewing.Unlock()
	var errs []error
	for _, p := range r.Places {
		cert, err := pki.ReadCert(p.Cert[0])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = r.renew(ctx, p, cert, true)
		}
		if err != nil && !errors.Is(err, errTheirs) {
			errs = append(errs, fmt.Errorf("certificate %q: %w", p.Which, err))
		}
	}
	return r.State(), errors.Join(errs...)
}

// errTheirs: the certificate is somebody else's.
var errTheirs = errors.New("it was not signed by an authority of this cluster: who made it renews it")

// renew replaces a certificate that is there. A renewal that would change nothing is
// refused, unless a person wants another key.
func (r *Renewer) renew(ctx context.Context, p pki.Place, have *x509.Certificate, asked bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	now := have
	defer func() { r.ended(p, now, err) }()
	next, err := r.next(ctx, p, have, asked)
	if err != nil {
		return err
	}
	if err := p.Replace(next.Pair); err != nil {
		return err
	}
	now = next.cert
	r.Log.Info("certificate renewed", "which", p.Which, "serial", fmt.Sprintf("%x", now.SerialNumber), "before",
		fmt.Sprintf("%x", have.SerialNumber), "ends", now.NotAfter.UTC().Format(time.RFC3339))
	return r.use(ctx, p, now)
}

// signed is a new certificate with its key.
type signed struct {
	pki.Pair
	cert *x509.Certificate
}

func (r *Renewer) next(ctx context.Context, p pki.Place, have *x509.Certificate, asked bool) (signed, error) {
	like, err := pki.ReadCert(r.Places[0].Cert[0])
	if err != nil {
		return signed{}, err
	}
	req, err := pki.NewRequest(like)
	if err != nil {
		return signed{}, err
	}
	cert, err := r.Sign(ctx, p.Which, req.PEM)
	if err != nil {
		return signed{}, err
	}
	pair, leaf, err := req.Pair(cert, p.Authority)
	switch {
	case errors.Is(err, pki.ErrWrongCA):
		return signed{}, errTheirs
	case err != nil:
		return signed{}, err
	case !asked && leaf.NotAfter.Sub(have.NotAfter) < pki.Life(have)/12:
		return signed{}, fmt.Errorf("its authority ends on %s, and signs for no longer", leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	return signed{pair, leaf}, nil
}

// useError: the new certificate is in its place, and does not take effect.
type useError struct{ error }

func (e useError) Unwrap() error { return e.error }

func (r *Renewer) use(ctx context.Context, p pki.Place, cert *x509.Certificate) error {
	if err := r.Use(ctx, p, cert); err != nil {
		return useError{fmt.Errorf("the new certificate is not in use yet: %w", err)}
	}
	return nil
}

// ended notes how a renewal ended, which has left cert there.
func (r *Renewer) ended(p pki.Place, cert *x509.Certificate, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.problems, p.Which)
		return
	}
	now := time.Now()
	wait := min(max(cert.NotAfter.Sub(now)/10, retryLeast), retryMost)
	if cert.NotAfter.Before(now) {
		wait = retryOver
	}
	old, told := r.problems[p.Which]
	if !told || old.text != err.Error() {
		r.Log.Warn("certificate not renewed, trying again", "which", p.Which, "err", err, "in", wait.String())
	}
	r.problems[p.Which] = problem{text: err.Error(), again: now.Add(wait), serial: fmt.Sprintf("%x", cert.SerialNumber),
		use: errors.As(err, new(useError))}
}

// look notes which certificate is there, and reports whether it was seen already.
func (r *Renewer) look(which string, cert *x509.Certificate) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	serial := fmt.Sprintf("%x", cert.SerialNumber)
	before := r.seen[which]
	r.seen[which] = serial
	return before == serial
}

// problem is the one with a certificate, if there is one.
func (r *Renewer) problem(which string, cert *x509.Certificate) (problem, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, ok := r.problems[which]
	return w, ok && w.serial == fmt.Sprintf("%x", cert.SerialNumber)
}

// State tells of all certificates of this host. A new one that somebody else has put
// there is looked at then.
func (r *Renewer) State() []inventory.Certificate {
	out := []inventory.Certificate{}
	now := time.Now()
	for _, p := range r.Places {
		cert, err := pki.ReadCert(p.Cert[0])
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			out = append(out, inventory.Certificate{Which: p.Which, State: inventory.CertExpired, Problem: err.Error()})
		default:
			if !r.look(p.Which, cert) {
				select {
				case r.wake <- struct{}{}:
				default: // it is awake
				}
			}
			c := told(p.Which, cert, now)
			if w, failed := r.problem(p.Which, cert); failed {
				c.Problem = w.text
			}
			out = append(out, c)
		}
	}
	return out
}
