package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/server/servertest"
	"holdfast/internal/store"
	"holdfast/internal/testbed/try"
)

// from dials with a source address of the loopback interface.
func from(addr string) func(ctx context.Context, network, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	return d.DialContext
}

// slotted is a listener of a test that takes what it is handed on.
func slotted(t *testing.T, ca *servertest.Authority, edit func(*slots)) *slots {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newSlots(ln, &tls.Config{
		Certificates: []tls.Certificate{ca.PeerCert(t, "node1")}, MinVersion: tls.VersionTLS13,
		ClientCAs: ca.Pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}, Options{Log: slog.New(slog.DiscardHandler), Hosts: sorted})
	if edit != nil {
		edit(l)
	}
	l.start()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // as a server does: it greets, and reads until the end
				defer c.Close()
				if _, err := io.WriteString(c, "!"); err == nil {
					io.Copy(io.Discard, c) // it ends
				}
			}()
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l
}

// enter dials as a name, and returns the connection when it was greeted.
func enter(t *testing.T, l *slots, ca *servertest.Authority, cert tls.Certificate, source string) (net.Conn, error) {
	t.Helper()
	raw, err := from(source)(try.Context(t), "tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { raw.Close() })
	conf := api.ClientTLS(cert, ca.Pool)
	conf.ServerName = "127.0.0.1"
	c := tls.Client(raw, conf)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// TestBareConnectionsTakeNoSlots: a flood of connections that prove nothing keeps nobody out: neither one from one
// source, nor one from so many that all places are taken.
func TestBareConnectionsTakeNoSlots(t *testing.T) {
	ca := servertest.NewAuthority(t)
	ready := make(chan string, 1)
	s, _ := limitedServer(t, ca, servertest.ListenLog(func(at string) { ready <- at }))
	serve(t, s)
	addr := <-ready
	bare := func(source string) {
		c, err := from(source)(try.Context(t), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	honest := func() {
		t.Helper()
		c, err := api.DialBy("https://"+addr, api.ClientTLS(ca.PeerCert(t, "g1"), ca.Pool), from("127.0.0.9"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Version(try.Context(t)); err != nil {
			t.Error(err)
		}
	}
	for range 400 {
		bare("127.0.0.2")
	}
	honest()
	for i := range 30 {
		for range maxSource {
			bare(fmt.Sprintf("127.0.1.%d", i+1))
		}
	}
	honest()
}

// TestSourcesAreCounted: the share of one is its own, and is given back when a handshake ends.
func TestSourcesAreCounted(t *testing.T) {
	ca := servertest.NewAuthority(t)
	l := slotted(t, ca, func(l *slots) { l.within = time.Hour })
	var bare []net.Conn
	for range maxSource {
		c, err := from("127.0.0.2")(try.Context(t), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		bare = append(bare, c)
	}
	shaking := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.shaking)
	}
	try.Until(t, "all to be in their handshakes", func() bool { return shaking() == maxSource })
	g1 := ca.PeerCert(t, "g1")
	if _, err := enter(t, l, ca, g1, "127.0.0.2"); err == nil {
		t.Error("one more of the same source got in")
	}
	if _, err := enter(t, l, ca, g1, "127.0.0.3"); err != nil {
		t.Errorf("of another source: %v", err)
	}
	bare[0].Close()
	try.Until(t, "one to end", func() bool { return shaking() < maxSource })
	if _, err := enter(t, l, ca, g1, "127.0.0.2"); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	for _, c := range bare {
		c.Close()
	}
	try.Until(t, "all to end", func() bool { return shaking() == 0 })
	if l.mu.Lock(); len(l.sources)+len(l.nets) != 0 {
		t.Errorf("left behind: %v, %v", l.sources, l.nets)
	}
	l.mu.Unlock()
}

// addressed is a connection from an address.
type addressed struct {
	net.Conn
	from net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.from }

// TestANetworkOfIPv6IsOneSource: who has all addresses of one takes half of the places at most, and keeps nobody in
// it out: its oldest makes room. An address of IPv4 counts as such also where it is written as one of IPv6.
func TestANetworkOfIPv6IsOneSource(t *testing.T) {
	l := newSlots(nil, nil, Options{Log: slog.New(slog.DiscardHandler)})
	enter := func(from string) (*slot, net.Conn) {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		return l.enter(addressed{near, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 1000))}), far
	}
	other, _ := enter("192.0.2.1")
	first, _ := enter("2001:db8::1")
	for i := range 10_000 {
		if s, _ := enter(fmt.Sprintf("2001:db8::1:%x", i)); s == nil {
			t.Fatalf("connection %d of a network is refused", i)
		}
	}
	honest, _ := enter("2001:db8::7")
	far, _ := enter("2001:db8:0:1::7")
	if n := len(l.shaking); n != maxNet+2 {
		t.Errorf("%d are in their handshakes, want %d", n, maxNet+2)
	}
	for _, s := range []*slot{other, honest, far} {
		if !slices.Contains(l.shaking, s) {
			t.Errorf("%v was closed", s.source)
		}
	}
	if slices.Contains(l.shaking, first) {
		t.Error("the oldest of the network is there")
	}
	for i := range maxSource - 1 {
		if s, _ := enter("::ffff:192.0.2.1"); s == nil {
			t.Fatalf("connection %d of an address is refused", i+2)
		}
	}
	if s, _ := enter("192.0.2.1"); s != nil {
		t.Error("an address has more than its share, in two forms")
	}
	for len(l.shaking) > 0 {
		l.shook(l.shaking[0])
	}
	if len(l.sources)+len(l.nets) != 0 {
		t.Errorf("left behind: %v, %v", l.sources, l.nets)
	}
}

// TestSlotsAreOfNames: one name does not take those of others, and gives back what it does not use.
func TestSlotsAreOfNames(t *testing.T) {
	ca := servertest.NewAuthority(t)
	l := slotted(t, ca, nil)
	g1, each := ca.PeerCert(t, "g1"), slotShares[guestHost].each
	var mine []net.Conn
	for range each {
		c, err := enter(t, l, ca, g1, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		mine = append(mine, c)
	}
	if _, err := enter(t, l, ca, g1, "127.0.0.1"); err == nil {
		t.Error("one more of the same name got in")
	}
	for _, name := range []string{"g2", "node2", "admin"} {
		if _, err := enter(t, l, ca, ca.PeerCert(t, name), "127.0.0.1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	mine[0].Close()
	try.Until(t, "the slot to be free", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.names["g1"] < each
	})
	if _, err := enter(t, l, ca, g1, "127.0.0.1"); err != nil {
		t.Errorf("after one has ended: %v", err)
	}

	l.mu.Lock()
	l.kinds[guestHost] = slotShares[guestHost].all
	l.mu.Unlock()
	if _, err := enter(t, l, ca, ca.PeerCert(t, "g3"), "127.0.0.1"); err == nil {
		t.Error("one more of the same kind got in")
	}
	if _, err := enter(t, l, ca, ca.PeerCert(t, "node2"), "127.0.0.1"); err != nil {
		t.Errorf("a member, while all slots of others are taken: %v", err)
	}
}

// TestWhoIsNotKnownTakesNothing of those who are.
func TestWhoIsNotKnownTakesNothing(t *testing.T) {
	ca := servertest.NewAuthority(t)
	l := slotted(t, ca, func(l *slots) {
		l.hosts = func(string) (bool, bool, error) { return false, false, store.ErrRetry }
	})
	if _, err := enter(t, l, ca, ca.PeerCert(t, "node2"), "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kinds[unknown] != 1 || l.kinds[guestHost]+l.kinds[member]+l.kinds[operator] != 0 {
		t.Errorf("%v", l.kinds)
	}
}

// TestHellosAreBounded: who is not verified sends no more than a handshake has.
func TestHellosAreBounded(t *testing.T) {
	ca := servertest.NewAuthority(t)
	l := slotted(t, ca, func(l *slots) { l.within = time.Hour })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A record of 16 KiB, and another one: the first parts of a message of 64 KiB.
	record := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff}, make([]byte, 0x4000-4)...)
	for range 3 {
		if _, err = c.Write(record); err != nil {
			break
		}
	}
	if err == nil {
		_, err = io.Copy(io.Discard, c)
	}
	try.Until(t, "the handshake to end", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.shaking) == 0
	})
	_ = err // however it was told
}

// TestConnectionsEndWithTheirCertificates: of one that does not count any more, and no other.
func TestConnectionsEndWithTheirCertificates(t *testing.T) {
	ca := servertest.NewAuthority(t)
	var revoked atomic.Bool
	l := slotted(t, ca, func(l *slots) {
		l.every = 10 * time.Millisecond
		l.count = func(chain []*x509.Certificate) error {
			if revoked.Load() && chain[0].Subject.CommonName == "g1" {
				return errors.New("revoked")
			}
			return nil
		}
	})
	one, err := enter(t, l, ca, ca.PeerCert(t, "g1"), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	other, err := enter(t, l, ca, ca.PeerCert(t, "g2"), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	revoked.Store(true)
	if _, err := io.Copy(io.Discard, one); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Logf("it ended with: %v", err)
	}
	try.Until(t, "the slot to be free", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.names["g1"] == 0
	})
	l.mu.Lock()
	if l.names["g2"] != 1 {
		t.Error("the other one was ended, too")
	}
	l.mu.Unlock()
	if _, err := other.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}
