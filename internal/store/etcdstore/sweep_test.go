package etcdstore

import (
	"net"
	"os"
	"testing"
	"time"

	"holdfast/testbed/revoking"
)

// TestSweep: a list that can not be used ends no connection, as nobody would be let in again; a new one ends those of
// its certificates, and all of members, which make new ones.
func TestSweep(t *testing.T) {
	g := newGated(t, nil)
	in := func(host string) net.Conn {
		c := g.dial(t, host)
		if !admitted(c) {
			t.Fatalf("%s is not let in", host)
		}
		return c.NetConn()
	}
	peers, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peers.Close()
	peer, err := net.Dial("tcp", peers.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	taken, err := peers.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	revoked, kept := in("bad"), in("good")
	list := g.front.list
	s, err := newSweep(MemberConfig{ListenPeer: "https://" + peers.Addr().String()}, list, g.Listener)
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
		for { // what HTTP/2 says first
			if _, err := c.Read(make([]byte, 100)); err != nil {
				timeout, ok := err.(net.Error)
				return !ok || !timeout.Timeout()
			}
		}
	}
	const moment = 10 * time.Millisecond // what was ended is known at once at the other end of a loopback
	all := func(within time.Duration) [3]bool {
		return [3]bool{ended(revoked, within), ended(kept, moment), ended(peer, within)}
	}
	none := [3]bool{}
	if err, got := look(), all(moment); err != nil || got != none {
		t.Errorf("nothing has changed: %v, ended: %v", err, got)
	}
	if err := os.WriteFile(g.file("list.crl"), []byte("-----BEGIN X509 CRL-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err, got := look(), all(moment); err == nil || got != none {
		t.Errorf("a list that can not be read: %v, ended: %v", err, got)
	}
	revoking.WriteList(t, g.ca, g.file("list.crl"), g.file("bad.pem"))
	if err, got := look(), all(time.Minute); err != nil || got != [3]bool{true, false, true} {
		t.Errorf("a new list: %v, ended: %v, want the revoked one and the peer", err, got)
	}
	if admitted(g.dial(t, "bad")) {
		t.Error("who was revoked gets in again")
	}
}
