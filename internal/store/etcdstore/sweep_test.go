package etcdstore

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/pki"
	"holdfast/internal/testbed/revoking"
)

// TestSweep: a list that can not be used ends no connection, as nobody would be let in again; a new one ends those of
// its certificates, and all of members, which make new ones.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.NewCA("test", time.Hour)
	if err == nil {
		err = ca.WriteCert(filepath.Join(dir, "ca.pem"))
	}
	if err != nil {
		t.Fatal(err)
	}
	cert := func(name string) (*x509.Certificate, string) {
		p, err := ca.Issue(name, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil, time.Hour)
		file := filepath.Join(dir, name+".pem")
		if err == nil {
			err = p.Write(file, filepath.Join(dir, name+".key"))
		}
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(p.CertPEM)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c, file
	}
	bad, badFile := cert("bad")
	good, _ := cert("good")
	file := filepath.Join(dir, "list.crl")
	revoking.WriteList(t, ca, file)
	f := &front{g: &guard{}, conns: map[netip.AddrPort]*client{}}
	if f.list, err = pki.OpenList(filepath.Join(dir, "ca.pem"), file); err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	clients, peers := listen(), listen()
	dial := func(l net.Listener, of *x509.Certificate) net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); s.Close() })
		if of != nil {
			f.conns[netip.MustParseAddrPort(s.RemoteAddr().String())] = &client{cert: of}
		}
		return c
	}
	revoked, kept, peer := dial(clients, bad), dial(clients, good), dial(peers, nil)
	s, err := newSweep(MemberConfig{ListenClient: "https://" + clients.Addr().String(), ListenPeer: "https://" + peers.Addr().String()}, f)
	if err != nil {
		t.Fatal(err)
	}
	look := func() error {
		fds, err := descriptors()
		if err != nil {
			t.Fatal(err)
		}
		return s.look(sockets(fds), time.Now())
	}
	ended := func(c net.Conn, within time.Duration) bool {
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Read(make([]byte, 1))
		timeout, ok := err.(net.Error)
		return !ok || !timeout.Timeout()
	}
	const moment = 10 * time.Millisecond // what was ended is known at once at the other end of a loopback
	all := func(within time.Duration) [3]bool {
		return [3]bool{ended(revoked, within), ended(kept, moment), ended(peer, within)}
	}
	none := [3]bool{}
	if err, got := look(), all(moment); err != nil || got != none {
		t.Errorf("nothing has changed: %v, ended: %v", err, got)
	}
	if err := os.WriteFile(file, []byte("-----BEGIN X509 CRL-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err, got := look(), all(moment); err == nil || got != none {
		t.Errorf("a list that can not be read: %v, ended: %v", err, got)
	}
	revoking.WriteList(t, ca, file, badFile)
	if err, got := look(), all(time.Minute); err != nil || got != [3]bool{true, false, true} {
		t.Errorf("a new list: %v, ended: %v, want the revoked one and the peer", err, got)
	}
}
