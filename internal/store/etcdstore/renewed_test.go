package etcdstore

import (
	"crypto/tls"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/pki"
	"holdfast/internal/store"
	"holdfast/testbed/try"
)

// presents is the serial number of the certificate that a member presents at a URL.
func (c *cluster) presents(t *testing.T, at string, conf *tls.Config) string {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(try.Context(t), "tcp", u.Host)
	if err != nil {
		c.fail(t, "%s: %v", at, err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestRenewedCertificates: members present them at both ports without a restart, and
// nobody who is connected loses the connection, a write or a change.
func TestRenewedCertificates(t *testing.T) {
	c := startCluster(t)
	cl := c.open(t, c.prefix())
	ctx := try.Context(t)
	_, rev, err := cl.List(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	w := cl.Watch(ctx, "", rev+1)
	last, written := int64(0), 0
	write := func(value string) {
		t.Helper()
		rev, ok, err := cl.Txn(ctx, nil, []store.Op{{Key: "k", Value: []byte(value)}})
		if err != nil || !ok {
			c.fail(t, "write %s: %t, %v", value, ok, err)
		}
		last, written = rev, written+1
	}
	write("before")
	for _, m := range c.members {
		f, own := m.conf.TLS, c.tlsOf(t, m.conf.Name)
		ports := []string{m.conf.ClientURL, m.conf.PeerURL}
		old := c.presents(t, ports[0], own)
		next, err := c.ca.Issue(m.conf.Name, []netip.Addr{netip.MustParseAddr(own.Certificates[0].Leaf.IPAddresses[0].String())}, nil, time.Hour)
		if err == nil {
			err = pki.AgentPlace(f.CA, f.Cert, f.Key).Replace(next)
		}
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pki.ReadCert(f.Cert)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range ports {
			if got := c.presents(t, at, own); got == old || got != cert.SerialNumber.String() {
				t.Errorf("%s presents %s, before %s, want %s", at, got, old, cert.SerialNumber)
			}
		}
		write("with the new one of " + m.conf.Name)
	}
	c.allIn(t)
	for changes := 0; changes < written; {
		batch, ok := <-w.C()
		if !ok {
			c.fail(t, "the watch from before ended: %v", w.Err())
		}
		for _, ch := range batch.Changes {
			if ch.KV.Key == "k" && ch.KV.ModRev <= last {
				changes++
			}
		}
	}
	for _, m := range c.members {
		if err := m.cmd.Process.Signal(unix.Signal(0)); err != nil {
			t.Errorf("%s: %v", m.conf.Name, err)
		}
	}
}
