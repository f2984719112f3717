package certificates

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/inventory"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
)

const day = 24 * time.Hour

// host is one with an authority and a certificate of it.
type host struct {
	t     *testing.T
	place pki.Place
	ca    pki.CA
	dir   string

	mu    sync.Mutex
	signs int   // that were asked for
	fails error // of Sign
	deaf  error // of Use
	uses  int
}

func newHost(t *testing.T, authority, life time.Duration) *host {
	t.Helper()
	dir := t.TempDir()
	h := &host{t: t, dir: dir, place: pki.AgentPlace(dir+"/ca.pem", dir+"/host.pem", dir+"/host.key")}
	var err error
	if h.ca, err = pki.NewCA("a", authority); err != nil {
		t.Fatal(err)
	}
	if err := h.ca.Write(dir+"/ca.pem", dir+"/ca.key"); err != nil {
		t.Fatal(err)
	}
	h.issue(h.ca, life)
	return h
}

func (h *host) issue(ca pki.CA, life time.Duration) {
	h.t.Helper()
	p, err := ca.Issue("h1", []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil, life)
	if err == nil {
		err = p.Write(h.place.Cert[0], h.place.Key[0])
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) renewer() *Renewer {
	return New(Options{
		Places: []pki.Place{h.place}, Log: slog.New(slog.DiscardHandler),
		Sign: func(_ context.Context, which string, request []byte) ([]byte, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.signs++
			if h.fails != nil {
				return nil, h.fails
			}
			cert, _, err := Signer{CA: h.dir + "/ca.pem"}.Sign(which, request, h.cert())
			return cert, err
		},
		Use: func(context.Context, pki.Place, *x509.Certificate) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.uses++
			return h.deaf
		},
	})
}

func (h *host) set(fails, deaf error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fails, h.deaf = fails, deaf
}

func (h *host) counts() (signs, uses int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.signs, h.uses
}

func (h *host) cert() *x509.Certificate {
	h.t.Helper()
	c, err := pki.ReadCert(h.place.Cert[0])
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// running runs a renewer in a bubble while f looks at it.
func running(t *testing.T, authority, life time.Duration, f func(t *testing.T, h *host, r *Renewer)) {
	t.Helper()
	runningOn(t, authority, life, func(*Renewer) {}, f)
}

// runningOn is running for a renewer that is another one.
func runningOn(t *testing.T, authority, life time.Duration, change func(*Renewer), f func(t *testing.T, h *host, r *Renewer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, authority, life)
		r := h.renewer()
		change(r)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		f(t, h, r)
	})
}

// state is that of the only certificate.
func state(t *testing.T, r *Renewer) inventory.Certificate {
	t.Helper()
	all := r.State()
	if len(all) != 1 {
		t.Fatalf("state %+v", all)
	}
	return all[0]
}

func TestCertificatesAreRenewedInTime(t *testing.T) {
	running(t, 20*365*day, 90*day, func(t *testing.T, h *host, r *Renewer) {
		for i := range 3 {
			c := h.cert()
			time.Sleep(time.Until(DueAt(c)) - time.Minute)
			if signs, _ := h.counts(); signs != i || h.cert().SerialNumber.Cmp(c.SerialNumber) != 0 || state(t, r).State != inventory.CertValid {
				t.Fatalf("a minute before it is due: %d renewals, %+v", signs, state(t, r))
			}
			time.Sleep(time.Minute + look)
			next := h.cert()
			if signs, uses := h.counts(); signs != i+1 || uses != i+1 || next.SerialNumber.Cmp(c.SerialNumber) == 0 {
				t.Fatalf("when it is due: %d signed, %d used", signs, uses)
			}
			if d := pki.Life(next) - 90*day; d.Abs() > 2*time.Second || state(t, r).State != inventory.CertValid || state(t, r).Problem != "" {
				t.Errorf("the next: for %s, %+v", pki.Life(next), state(t, r))
			}
		}
	})
}

func TestARenewalThatFailsIsTriedAgain(t *testing.T) {
	running(t, 20*365*day, 90*day, func(t *testing.T, h *host, r *Renewer) {
		before := h.cert()
		h.set(errors.New("no member answers"), nil)
		time.Sleep(time.Until(DueAt(before)) + time.Minute)
		if c := state(t, r); c.State != inventory.CertDue || c.Problem != "no member answers" {
			t.Errorf("%+v", c)
		}
		if w := Warning(r.State()); w != "" {
			t.Errorf("people are bothered already: %s", w)
		}
		time.Sleep(16 * day) // less than a quarter of its life is left, wherever its renewal fell
		if w := Warning(r.State()); !strings.HasPrefix(w, `the certificate "agent" ends on 2000-`) ||
			!strings.HasSuffix(w, ": no member answers") {
			t.Errorf("warning %q", w)
		}
		if signs, _ := h.counts(); signs < 16 || signs > 16*24+2 {
			t.Errorf("tried %d times in 16 days", signs)
		}
		h.set(nil, nil)
		time.Sleep(retryMost + look)
		if c := state(t, r); c.State != inventory.CertValid || c.Problem != "" || h.cert().SerialNumber.Cmp(before.SerialNumber) == 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestAnExpiredCertificateIsSaidFirst(t *testing.T) {
	running(t, 20*365*day, 90*day, func(t *testing.T, h *host, r *Renewer) {
		h.set(errors.New("no"), nil)
		time.Sleep(90*day + time.Hour)
		if c := state(t, r); c.State != inventory.CertExpired {
			t.Errorf("%+v", c)
		}
		all := append([]inventory.Certificate{{Which: "memory", State: inventory.CertSoon, Ends: time.Now().Add(day)}}, r.State()...)
		if w := Warning(all); !strings.HasPrefix(w, `the certificate "agent" ended on `) ||
			!strings.Contains(w, `; the certificate "memory" ends on `) {
			t.Errorf("warning %q", w)
		}
		h.set(nil, nil) // a member mends itself
		time.Sleep(retryOver + time.Second)
		if c := state(t, r); c.State != inventory.CertValid {
			t.Errorf("%+v", c)
		}
	})
}

// TestANewCertificateThatIsNotInUse is read back until it is, and not made once more.
func TestANewCertificateThatIsNotInUse(t *testing.T) {
	running(t, 20*365*day, 90*day, func(t *testing.T, h *host, r *Renewer) {
		h.set(nil, errors.New("port 2380 presents another"))
		time.Sleep(time.Until(DueAt(h.cert())) + look)
		c := state(t, r)
		if c.State != inventory.CertValid || c.Problem != "the new certificate is not in use yet: port 2380 presents another" {
			t.Errorf("%+v", c)
		}
		time.Sleep(3 * retryMost)
		if signs, uses := h.counts(); signs != 1 || uses < 3 {
			t.Errorf("signed %d times, read back %d times", signs, uses)
		}
		h.set(nil, nil)
		time.Sleep(retryMost + look)
		if got := state(t, r); got.Problem != "" || got.Serial != c.Serial {
			t.Errorf("%+v", got)
		}
	})
}

// TestAnAuthorityThatEnds signs nothing that lasts: the certificate is not made again and
// again, and people hear of it.
func TestAnAuthorityThatEnds(t *testing.T) {
	need.Seconds(t)
	running(t, 60*day, 90*day, func(t *testing.T, h *host, r *Renewer) {
		before := h.cert()
		time.Sleep(59 * day)
		signs, _ := h.counts()
		if c := state(t, r); !strings.HasPrefix(c.Problem, "its authority ends on 2000-03-01") || c.State != inventory.CertSoon {
			t.Errorf("%+v", c)
		}
		if h.cert().SerialNumber.Cmp(before.SerialNumber) != 0 || signs == 0 || signs > 30*24 {
			t.Errorf("%d signed, renewed: %t", signs, h.cert().SerialNumber.Cmp(before.SerialNumber) != 0)
		}
	})
}

func TestCertificatesOfOtherAuthoritiesStay(t *testing.T) {
	memory := func(r *Renewer) { r.Places[0].Which = pki.Memory }
	runningOn(t, 20*365*day, 90*day, memory, func(t *testing.T, h *host, r *Renewer) {
		theirs, err := pki.NewCA("a", 20*365*day)
		if err != nil {
			t.Fatal(err)
		}
		h.issue(theirs, 90*day)
		if err := theirs.WriteCert(h.place.Authority); err != nil {
			t.Fatal(err)
		}
		// The authority whose key is here is ours, the one that is trusted is theirs.
		if err := h.ca.Write(h.dir+"/memory-ca.pem", h.dir+"/memory-ca.key"); err != nil {
			t.Fatal(err)
		}
		before := h.cert()
		all, err := r.Renew(t.Context())
		if err != nil || len(all) != 1 || h.cert().SerialNumber.Cmp(before.SerialNumber) != 0 {
			t.Errorf("%+v, %v", all, err)
		}
		if all[0].Problem != errTheirs.Error() {
			t.Errorf("%+v", all)
		}
	})
}

// TestOneThatIsReplacedByHand is looked at when it is told of.
func TestOneThatIsReplacedByHand(t *testing.T) {
	running(t, 20*365*day, 90*day, func(t *testing.T, h *host, r *Renewer) {
		time.Sleep(time.Minute)
		h.issue(h.ca, 3*time.Minute)
		state(t, r)
		time.Sleep(2*time.Minute + time.Second)
		if signs, _ := h.counts(); signs != 1 || pki.Life(h.cert()) > 3*time.Minute+time.Second {
			t.Errorf("%d signed, for %s", signs, pki.Life(h.cert()))
		}
	})
}

func TestRenewByCommand(t *testing.T) {
	running(t, 20*365*day, 90*day, func(t *testing.T, h *host, r *Renewer) {
		before, key := h.cert(), read(t, h.place.Key[0])
		all, err := r.Renew(t.Context())
		if err != nil || len(all) != 1 || h.cert().SerialNumber.Cmp(before.SerialNumber) == 0 || read(t, h.place.Key[0]) == key {
			t.Errorf("%+v, %v: not another certificate with another key", all, err)
		}
		h.set(errors.New("no"), nil)
		if _, err := r.Renew(t.Context()); err == nil || err.Error() != `certificate "agent": no` {
			t.Errorf("got %v", err)
		}
		// What is not there is not told of; what can not be read is.
		if err := os.Remove(h.place.Cert[0]); err != nil {
			t.Fatal(err)
		}
		if all := r.State(); len(all) != 0 {
			t.Errorf("%+v", all)
		}
		if err := os.WriteFile(h.place.Cert[0], []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if c := state(t, r); c.State != inventory.CertExpired || !strings.Contains(c.Problem, "does not begin with a PEM block") {
			t.Errorf("%+v", c)
		}
	})
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDueWithJitter: a third to five twelfths of the life before the end, not the same for
// all, and the same at each look.
func TestDueWithJitter(t *testing.T) {
	ca, err := pki.NewCA("a", 20*365*day)
	if err != nil {
		t.Fatal(err)
	}
	least, most := time.Duration(1<<62), time.Duration(0)
	for range 50 {
		p, err := ca.Issue("h", nil, nil, 120*day)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "c")
		if err := os.WriteFile(file, p.CertPEM, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := pki.ReadCert(file)
		if err != nil {
			t.Fatal(err)
		}
		left := c.NotAfter.Sub(DueAt(c))
		if left < 40*day-time.Minute || left > 50*day || !DueAt(c).Equal(DueAt(c)) {
			t.Errorf("%s left", left)
		}
		least, most = min(least, left), max(most, left)
	}
	if most-least < day {
		t.Errorf("all within %s", most-least)
	}
}

func TestSigner(t *testing.T) {
	h := newHost(t, 20*365*day, 90*day)
	s := Signer{CA: h.place.Authority}
	req, err := pki.NewRequest(h.cert())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Sign(pki.Memory, req.PEM, h.cert()); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "memory-ca.key") {
		t.Errorf("without a key: %v", err)
	}
	if _, _, err := s.Sign("other", req.PEM, h.cert()); err == nil || errors.Is(err, ErrNoKey) {
		t.Errorf("of no kind: %v", err)
	}
	// One that was cut at its authority's end says nothing of how long it was to be.
	short, err := pki.NewCA("a", 10*day)
	if err != nil {
		t.Fatal(err)
	}
	if err := short.Write(h.dir+"/ca.pem", h.dir+"/ca.key"); err != nil {
		t.Fatal(err)
	}
	h.issue(short, 90*day)
	cut := h.cert()
	if err := h.ca.Write(h.dir+"/memory-ca.pem", h.dir+"/memory-ca.key"); err != nil {
		t.Fatal(err)
	}
	if _, c, err := s.Sign(pki.Memory, req.PEM, cut); err != nil || pki.Life(c) < usual-time.Minute {
		t.Errorf("after one that was cut: %v, %v", c.NotAfter, err)
	}
}
