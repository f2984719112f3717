package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/try"
)

// authority is one whose certificate, and perhaps key, lies in a directory, as on a host.
type authority struct {
	ca  pki.CA
	dir string
}

// withKey is an authority whose key lies where agents look for it.
func withKey(t *testing.T) authority {
	t.Helper()
	ca, err := pki.NewCA("test", time.Hour)
	try.Must(t, err)
	a := authority{ca, t.TempDir()}
	try.Must(t, ca.Write(filepath.Join(a.dir, "ca.pem"), filepath.Join(a.dir, "ca.key")))
	return a
}

// without is the same authority on a host that has its certificate only.
func (a authority) without(t *testing.T) authority {
	t.Helper()
	b := authority{a.ca, t.TempDir()}
	try.Must(t, a.ca.WriteCert(filepath.Join(b.dir, "ca.pem")))
	return b
}

// keeperOf is that of a host with a certificate of the authority.
func keeperOf(t *testing.T, a authority, host string) *Service {
	t.Helper()
	files := config.TLS{CA: filepath.Join(a.dir, "ca.pem"), Cert: filepath.Join(a.dir, host+".pem"), Key: filepath.Join(a.dir, host+".key")}
	if _, err := os.Stat(files.Cert); err != nil {
		pair, err := a.ca.Issue(host, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil, time.Hour)
		try.Must(t, err)
		try.Must(t, pair.Write(files.Cert, files.Key))
	}
	server, _, err := pki.Load(files.CA, files.Cert, files.Key)
	try.Must(t, err)
	return NewService(Service{Host: host, Addr: "127.0.0.1", Server: server}, files, false, slog.New(slog.DiscardHandler))
}

func shown(t *testing.T, k *Service) *x509.Certificate {
	t.Helper()
	c, err := pki.ReadCert(k.own.Cert[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestWhomAMemberSigns: the host that shows the certificate, and nobody else.
func TestWhomAMemberSigns(t *testing.T) {
	a := withKey(t)
	member, guest, other := keeperOf(t, a, "h1"), keeperOf(t, a.without(t), "g1"), keeperOf(t, a.without(t), "h2")
	request := func(of *Service) []byte {
		t.Helper()
		r, err := pki.NewRequest(shown(t, of))
		if err != nil {
			t.Fatal(err)
		}
		return r.PEM
	}
	cert, err := member.SignCertificate(t.Context(), pki.Agent, request(guest), shown(t, guest))
	if err != nil || !strings.HasPrefix(string(cert), "-----BEGIN CERTIFICATE-----") || strings.Contains(string(cert), "KEY") {
		t.Errorf("got %s, %v", cert, err)
	}
	ended := *shown(t, guest)
	ended.NotAfter = time.Now().Add(-time.Minute)
	revoking := keeperOf(t, a, "h1")
	revoking.Server.VerifyConnection = func(s tls.ConnectionState) error {
		return pki.ErrRevoked
	}
	for name, c := range map[string]struct {
		by      *Service
		which   string
		request []byte
		shown   *x509.Certificate
		kind    fail.Kind
		says    string
	}{
		"for another host": {member, pki.Agent, request(other), shown(t, guest), fail.Denied,
			`the request asks for more than its maker's certificate has: name "h2"`},
		"no request":           {member, pki.Agent, []byte("x"), shown(t, guest), fail.Failed, "PEM"},
		"of no kind":           {member, "x", request(guest), shown(t, guest), fail.Failed, "want agent, memory or libvirt"},
		"it has ended":         {member, pki.Agent, request(guest), &ended, fail.Denied, "the certificate of g1 ended on"},
		"it is revoked":        {revoking, pki.Agent, request(guest), shown(t, guest), fail.Denied, "revoked"},
		"no key of that kind":  {member, pki.Memory, request(guest), shown(t, guest), fail.Refused, "the authority's key is not on this host"},
		"by one without a key": {other, pki.Agent, request(guest), shown(t, guest), fail.Refused, "the authority's key is not on this host"},
	} {
		_, err := c.by.SignCertificate(t.Context(), c.which, c.request, c.shown)
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s: %s", name, err, c.kind, c.says)
		}
	}
}

// memberPeer is a member as another host reaches it.
type memberPeer struct {
	Peer
	member *Service
	shown  func() *x509.Certificate
	err    error
}

func (m memberPeer) SignCertificate(ctx context.Context, which string, request []byte) ([]byte, error) {
	if m.err != nil {
		return nil, m.err
	}
	return m.member.SignCertificate(ctx, which, request, m.shown())
}

func (m memberPeer) RenewCertificates(ctx context.Context, host string) ([]inventory.Certificate, error) {
	return m.member.RenewCertificates(ctx, cluster.HostID(host))
}
func (memberPeer) Close() {}

// TestAHostWithoutAKeyAsksMembers: one after the other, those that are up.
func TestAHostWithoutAKeyAsksMembers(t *testing.T) {
	a := withKey(t)
	member, guest := keeperOf(t, a, "h3"), keeperOf(t, a.without(t), "g1")
	var asked []string
	seen := map[cluster.HostID]report.Seen{}
	for name, up := range map[cluster.HostID]bool{"h1": true, "h2": false, "h3": true, "g2": true} {
		s := report.Seen{Record: report.Record{Host: inventory.Host{Name: name, Member: name != "g2"}}}
		if up {
			s.SeenAt = time.Now()
		}
		seen[name] = s
	}
	guest.Seen = func() (map[cluster.HostID]report.Seen, bool) { return seen, true }
	guest.Peer = func(h cluster.HostID) (Peer, error) {
		asked = append(asked, string(h))
		p := memberPeer{member: member, shown: func() *x509.Certificate { return shown(t, guest) }}
		if h == "h1" {
			p.err = errors.New("h1 does not answer")
		}
		return p, nil
	}
	guest.Leads = func() bool { return true }
	before := shown(t, guest)
	all, err := guest.RenewCertificates(t.Context(), "g1")
	if err != nil || len(all) != 1 || shown(t, guest).SerialNumber.Cmp(before.SerialNumber) == 0 || strings.Join(asked, " ") != "h1 h3" {
		t.Fatalf("%+v, %v, asked %q", all, err, asked)
	}
	if all, err := guest.RenewCertificates(t.Context(), "h3"); err != nil || len(all) != 1 {
		t.Errorf("by its agent: %+v, %v", all, err)
	}
	delete(seen, "h3")
	_, err = guest.RenewCertificates(t.Context(), "g1")
	for _, want := range []string{"the authority's key is not on this host", "no member signs it; h1: h1 does not answer"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}

	// The coordinator tells of hosts that are no members, those of a silent one, too.
	s := seen["g2"]
	s.Certificates = []inventory.Certificate{{Which: "agent", State: inventory.CertValid, Ends: time.Now().Add(-time.Hour)}}
	seen["g2"] = s
	if w := guest.Warning(); !strings.HasPrefix(w, `g2: the certificate "agent" ended on `) {
		t.Errorf("warning %q", w)
	}
	guest.Leads = func() bool { return false }
	if w := guest.Warning(); w != "" {
		t.Errorf("warning of one that does not coordinate: %q", w)
	}
}

// TestTooLate: nobody is asked for a host whose certificate has ended; a member mends
// itself before its agent starts.
func TestTooLate(t *testing.T) {
	a := withKey(t)
	ended := func(k *Service) {
		t.Helper()
		p, err := a.ca.Issue(k.Host, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil, time.Second)
		if err == nil {
			err = p.Write(k.own.Cert[0], k.own.Key[0])
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(shown(t, k).NotAfter) + time.Millisecond)
	}
	guest := keeperOf(t, a.without(t), "g1")
	ended(guest)
	guest.Seen = func() (map[cluster.HostID]report.Seen, bool) {
		t.Error("members were looked for")
		return nil, false
	}
	if _, err := guest.Renew(t.Context()); err == nil || !strings.Contains(err.Error(), InstallAgain) {
		t.Errorf("got %v", err)
	}
	member := keeperOf(t, a, "h1")
	ended(member)
	files := config.TLS{CA: filepath.Join(a.dir, "ca.pem"), Cert: member.own.Cert[0], Key: member.own.Key[0]}
	if err := RenewExpired(files, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if c := shown(t, member); !c.NotAfter.After(time.Now()) {
		t.Errorf("it ended on %s", c.NotAfter)
	}
}

// TestTheReadBack is by what a port presents.
func TestTheReadBack(t *testing.T) {
	a := withKey(t)
	k := keeperOf(t, a, "h1")
	l, err := tls.Listen("tcp", "127.0.0.1:0", k.Server)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c) // until the other side has seen enough
			c.Close()
		}
	}()
	defer func() { l.Close(); <-served }()
	addr := l.Addr().String()
	k.Ports = []string{addr}
	before := shown(t, k)
	if _, err := k.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := Presented(t.Context(), addr, "h1", k.own)
	if err != nil || got.SerialNumber.Cmp(shown(t, k).SerialNumber) != 0 || got.SerialNumber.Cmp(before.SerialNumber) == 0 {
		t.Errorf("presented: %v", err)
	}
	if err := Await(t.Context(), addr, k.own, before); err == nil || !strings.Contains(err.Error(), "presents the certificate with serial") {
		t.Errorf("the one before is not presented any more: %v", err)
	}
}
