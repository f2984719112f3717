package etcdstore

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
	f := &front{conns: map[netip.AddrPort]*client{}}
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
		return s.look(sockets(fds))
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

// TestBareConnectionsAreBounded: neither one address, nor one that has a whole network of IPv6, nor one that has as many
// addresses as it likes fills a port of the member; the newest stay, and members and who has called are not asked to go.
func TestBareConnectionsAreBounded(t *testing.T) {
	const clients, peers = 2379, 2380
	near := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}) }
	inNet := func(i int) netip.Addr {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
	}
	one := func(int) netip.Addr { return netip.MustParseAddr("192.0.2.1") }
	honest, called := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddrPort("192.0.2.8:1000")
	for _, c := range []struct {
		name   string
		port   uint16
		from   func(i int) netip.Addr
		before time.Duration // when they came
		left   int
		oldest bool // goes
	}{
		{"one address", clients, one, 0, maxSilent, false},
		{"one address, of which members are", peers, one, time.Minute, maxSilent, false},
		{"a network of IPv6", clients, inNet, 0, maxSilentNet, true},
		{"a network of IPv6, at the peers' port", peers, inNet, 0, maxSilentNet, true},
		{"all addresses", clients, near, 0, maxSilentAll, true},
		{"all addresses, for long", clients, near, time.Minute, maxSilentAll, true},
		{"all addresses, at the peers' port", peers, near, 0, maxSilentAll, true},
		{"with certificates of members", peers, near, time.Minute, 3000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			const many = 3000
			now := time.Now()
			f := &front{conns: map[netip.AddrPort]*client{called: {}}}
			s := &sweep{f: f, client: clients, peer: peers, members: func() []netip.Addr { return []netip.Addr{honest} }, since: map[socket]time.Time{}}
			all := []socket{}
			add := func(from netip.AddrPort, at time.Time) socket {
				x := socket{len(all), uint64(len(all)), netip.AddrPortFrom(netip.IPv4Unspecified(), c.port), from}
				all, s.since[x] = append(all, x), at
				return x
			}
			stay := []socket{add(netip.AddrPortFrom(honest, 1000), now.Add(-c.before))}
			if c.port == clients {
				stay = append(stay, add(called, now.Add(-c.before)))
			}
			first := add(netip.AddrPortFrom(c.from(1), 5000), now.Add(-c.before))
			for i := range many - 1 {
				add(netip.AddrPortFrom(c.from(i+2), uint16(5001+i)), now.Add(-c.before))
			}
			s.age(all, now)
			ending := s.crowd(all, now)
			if left := len(all) - len(stay) - len(ending); left != c.left {
				t.Errorf("%d stay, want %d", left, c.left)
			}
			for _, x := range stay {
				if slices.Contains(ending, x) {
					t.Errorf("%s must go", x.from)
				}
			}
			if slices.Contains(ending, first) != c.oldest {
				t.Errorf("the oldest goes: %t, want %t", !c.oldest, c.oldest)
			}
		})
	}
}
