package etcdstore

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdfast/internal/pki"
	"holdfast/internal/testbed/try"
)

// gated is a gate of member h1, before a front that has no member yet, and what dials it with a certificate of a host.
func gated(t *testing.T, edit func(*gate)) (*gate, func(host string) *tls.Conn) {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.NewCA("test", time.Hour)
	if err == nil {
		err = ca.WriteCert(filepath.Join(dir, "ca.pem"))
	}
	if err != nil {
		t.Fatal(err)
	}
	files := func(host string) TLSFiles {
		f := TLSFiles{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, host+".pem"), Key: filepath.Join(dir, host+".key")}
		p, err := ca.Issue(host, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil, time.Hour)
		if err == nil {
			err = p.Write(f.Cert, f.Key)
		}
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	own := files("h1")
	c := MemberConfig{Name: "h1", DataDir: dir, Initial: map[string]string{"h1": "https://127.0.0.1:1"}, ListenClient: "https://127.0.0.1:0", TLS: &own, Guard: &Guard{}}
	g, err := newGate(c, &embed.Config{}, newGuard(c).front)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(g)
	}
	g.start()
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	})
	confs := map[string]*tls.Config{}
	return g, func(host string) *tls.Conn {
		t.Helper()
		if confs[host] == nil {
			f := files(host)
			_, conf, err := pki.Load(f.CA, f.Cert, f.Key)
			if err != nil {
				t.Fatal(err)
			}
			conf.ServerName, conf.NextProtos = "127.0.0.1", []string{"h2"}
			confs[host] = conf
		}
		conn, err := net.Dial("tcp", g.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		deadline, _ := try.Context(t).Deadline()
		if err := conn.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		return tls.Client(conn, confs[host])
	}
}

// admitted reports whether the other end begins to speak HTTP/2, which it does when a connection is let in.
func admitted(c *tls.Conn) bool {
	if c.Handshake() != nil {
		return false
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return false
	}
	fr := http2.NewFramer(c, c)
	if fr.WriteSettings() != nil {
		return false
	}
	_, err := fr.ReadFrame()
	return err == nil
}

// TestGateOfAHost: one host without a member has few connections, one that ends makes room, and others have their own.
func TestGateOfAHost(t *testing.T) {
	_, dial := gated(t, nil)
	var last *tls.Conn
	for i := range maxOpen {
		if last = dial("g1"); !admitted(last) {
			t.Fatalf("connection %d is not let in", i)
		}
	}
	if admitted(dial("g1")) {
		t.Error("one more is let in")
	}
	if !admitted(dial("g2")) {
		t.Error("another host is not let in")
	}
	for i := range maxOpen + 1 {
		if !admitted(dial("h1")) {
			t.Errorf("connection %d of a member is not let in", i)
		}
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	try.Until(t, "room for one more", func() bool { return admitted(dial("g1")) })
}

// openHeaders begins a call whose headers do not end.
func openHeaders(t *testing.T, c *tls.Conn) *http2.Framer {
	t.Helper()
	if !admitted(c) {
		t.Fatal("it is not let in")
	}
	fr := http2.NewFramer(c, c)
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", "/x/y"}, {":authority", "h1"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b.Bytes()}); err != nil {
		t.Fatal(err)
	}
	return fr
}

// TestGateHeaders: a connection whose headers grow without an end is ended, and so is one that only waits in them.
func TestGateHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		idle time.Duration
		grow bool
	}{"growing": {time.Hour, true}, "waiting": {time.Millisecond, false}} {
		t.Run(name, func(t *testing.T) {
			_, dial := gated(t, func(g *gate) { g.srv.IdleTimeout = c.idle })
			conn := dial("g1")
			fr := openHeaders(t, conn)
			go func() { // ends with the connection
				value := bytes.Repeat([]byte{'v'}, 8000)
				block := append([]byte{0, 1, 'x', 0x7f, 0xc1, 0x3d}, value...) // 8000 = 127 + 0x41 + 0x3d<<7
				for i := 0; c.grow && i < 8 && fr.WriteContinuation(1, false, block) == nil; i++ {
				}
			}()
			if _, err := io.Copy(io.Discard, conn); err != nil {
				if e, ok := err.(net.Error); ok && e.Timeout() {
					t.Error("it is kept")
				}
			}
		})
	}
}

// fromAddr is a connection from an address.
type fromAddr struct {
	net.Conn
	at     string
	closed bool
}

func (f *fromAddr) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(f.at), 1))
}
func (f *fromAddr) Close() error { f.closed = true; return nil }

// TestGateBefore: of those that are not verified the oldest makes room, of its source or of all. A network of IPv6 is
// one source.
func TestGateBefore(t *testing.T) {
	for name, c := range map[string]struct {
		at   func(i int) string
		most int
	}{
		"one address": {func(int) string { return "192.0.2.1" }, maxOfAddress},
		"one network": {func(i int) string { return fmt.Sprintf("2001:db8::%x", i+1) }, maxOfNet},
		"many":        {func(i int) string { return fmt.Sprintf("192.0.%d.%d", i/200, i%200+1) }, maxShaking},
	} {
		g := &gate{}
		var all []*fromAddr
		for i := range c.most + 1 {
			all = append(all, &fromAddr{at: c.at(i)})
			g.enter(all[i])
		}
		for i, x := range all {
			if want := i == 0; x.closed != want {
				t.Errorf("%s: connection %d of %d is closed: %t, want %t", name, i, len(all), x.closed, want)
			}
		}
	}
}

// TestCrowdOfPeers: the same at the peers' port, where who is old is verified, and members do not count.
func TestCrowdOfPeers(t *testing.T) {
	member := netip.MustParseAddr("192.0.2.1")
	s, err := newSweep(MemberConfig{
		ListenClient: "https://192.0.2.1:2379", ListenPeer: "https://192.0.2.1:2380", Initial: map[string]string{"h1": "https://192.0.2.1:2380"},
	}, &front{g: &guard{members: []string{"h1"}}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	peers := func(from, n int, at func(i int) netip.Addr) (out []socket) {
		for i := range n {
			out = append(out, socket{fd: from + i, from: netip.AddrPortFrom(at(i), uint16(from+i))})
		}
		return out
	}
	one := func(a netip.Addr) func(int) netip.Addr { return func(int) netip.Addr { return a } }
	many := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i / 200), byte(i % 200)}) }
	old := peers(0, maxShaking, many)
	if got := s.crowd(old, now); len(got) != 0 {
		t.Errorf("%d of as many as are allowed are ended", len(got))
	}
	all := append(old, peers(10_000, 3, one(netip.MustParseAddr("203.0.113.9")))...)
	all = append(all, peers(20_000, maxShaking, one(member))...)
	got := s.crowd(all, now.Add(time.Second))
	if len(got) != 3 {
		t.Errorf("%d are ended, want 3", len(got))
	}
	for _, x := range got {
		if x.fd >= 10_000 {
			t.Errorf("connection %d is ended, want some of the oldest", x.fd)
		}
	}
	all = append(all, peers(30_000, maxShaking, many)...)
	if got := s.crowd(all, now.Add(newTime)); len(got) != 3 {
		t.Errorf("%d are ended, want 3: the first have been verified by now", len(got))
	}
	all = peers(0, maxOfAddress+1, one(netip.MustParseAddr("203.0.113.9")))
	if got := s.crowd(all, now.Add(time.Hour)); len(got) != 1 {
		t.Errorf("%d of one address are ended, want 1", len(got))
	}
}
