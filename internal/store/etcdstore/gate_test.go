package etcdstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"

	"holdfast/internal/lib/admit"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/revoking"
	"holdfast/testbed/try"
)

// gated is a gate of member h1, before a front that has no member yet, and its authority.
type gated struct {
	*gate
	ca    pki.CA
	dir   string
	confs map[string]*tls.Config // of who has dialled
}

// newGated has a revocation list that is empty.
func newGated(t *testing.T, edit func(*gate)) *gated {
	t.Helper()
	g := &gated{dir: t.TempDir(), confs: map[string]*tls.Config{}}
	var err error
	if g.ca, err = pki.NewCA("test", time.Hour); err == nil {
		err = g.ca.WriteCert(g.file("ca.pem"))
	}
	if err != nil {
		t.Fatal(err)
	}
	own := g.files(t, "h1")
	c := MemberConfig{
		Name: "h1", DataDir: g.dir, Initial: map[string]string{"h1": "https://127.0.0.1:1"}, ListenClient: "https://127.0.0.1:0",
		TLS: &own, Guard: &Guard{},
	}
	f := newGuard(c).front
	revoking.WriteList(t, g.ca, g.file("list.crl"))
	if f.list, err = pki.OpenList(g.file("ca.pem"), g.file("list.crl")); err == nil {
		g.gate, err = newGate(c, &embed.Config{}, f)
	}
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(g.gate)
	}
	g.wg.Go(g.answer)
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *gated) file(name string) string { return filepath.Join(g.dir, name) }

func (g *gated) files(t *testing.T, host string) TLSFiles {
	t.Helper()
	f := TLSFiles{CA: g.file("ca.pem"), Cert: g.file(host + ".pem"), Key: g.file(host + ".key")}
	p, err := g.ca.Issue(host, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil, time.Hour)
	if err == nil {
		err = p.Write(f.Cert, f.Key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// dial uses a certificate of a host.
func (g *gated) dial(t *testing.T, host string) *tls.Conn {
	t.Helper()
	if g.confs[host] == nil {
		f := g.files(t, host)
		_, conf, err := pki.Load(f.CA, f.Cert, f.Key)
		if err != nil {
			t.Fatal(err)
		}
		conf.ServerName, conf.NextProtos = "127.0.0.1", []string{"h2"}
		g.confs[host] = conf
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
	return tls.Client(conn, g.confs[host])
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
	g := newGated(t, nil)
	var last *tls.Conn
	for i := range maxOpen {
		if last = g.dial(t, "g1"); !admitted(last) {
			t.Fatalf("connection %d is not let in", i)
		}
	}
	if admitted(g.dial(t, "g1")) {
		t.Error("one more is let in")
	}
	if !admitted(g.dial(t, "g2")) {
		t.Error("another host is not let in")
	}
	for i := range maxOpen + 1 {
		if !admitted(g.dial(t, "h1")) {
			t.Errorf("connection %d of a member is not let in", i)
		}
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	try.Until(t, "room for one more", func() bool { return admitted(g.dial(t, "g1")) })
}

// beginCall begins a call on a connection that is let in, by headers that end with it or go on.
func beginCall(t *testing.T, c *tls.Conn, whole bool, more ...string) *http2.Framer {
	t.Helper()
	if !admitted(c) {
		t.Fatal("it is not let in")
	}
	fr := http2.NewFramer(c, c)
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	fields := append([]string{":method", "POST", ":scheme", "https", ":path", "/x/y", ":authority", "h1"}, more...)
	for i := 0; i < len(fields); i += 2 {
		if err := enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b.Bytes(), EndHeaders: whole}); err != nil {
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
			g := newGated(t, func(g *gate) { g.srv.IdleTimeout = c.idle })
			conn := g.dial(t, "g1")
			fr := beginCall(t, conn, false)
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

// TestTooManyRequests: a host that has as many under way as it may, refused ones too, has the connection of one more closed.
func TestTooManyRequests(t *testing.T) {
	g := newGated(t, nil)
	g.guard.front.grpc.Store(grpc.NewServer())
	ask := func(host string, more ...string) (err error) {
		t.Helper()
		for fr := beginCall(t, g.dial(t, host), true, more...); err == nil; {
			var f http2.Frame
			if f, err = fr.ReadFrame(); err == nil && f.Header().StreamID == 1 {
				return nil // an answer
			}
		}
		return err
	}
	isCall := []string{"content-type", "application/grpc"}
	var done []func()
	for range maxRequests {
		d, err := g.guard.bounds.request("g1")
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, d)
	}
	for what, more := range map[string][]string{"a call": isCall, "a page": nil} {
		if err := ask("g1", more...); err == nil {
			t.Errorf("%s more is answered", what)
		}
	}
	if err := ask("g2", isCall...); err != nil {
		t.Errorf("another host: %v", err)
	}
	done[0]()
	if err := ask("g1", isCall...); err != nil {
		t.Errorf("when one is over: %v", err)
	}
	var err error
	g.guard.bounds.of["g2"].begun.SetLimit(0)         // as if no time passed
	for i := 0; i < 2*callsBurst && err == nil; i++ { // in turn
		var end func()
		if end, err = g.guard.bounds.request("g2"); err == nil {
			end()
		}
	}
	if err == nil || ask("g2", isCall...) == nil {
		t.Errorf("%v: %d requests, one after the other, are let in", err, 2*callsBurst)
	}
}

// TestConnectionsBegun: a host that connects again and again has to wait; members and others do not.
func TestConnectionsBegun(t *testing.T) {
	g := newGated(t, nil)
	var err error
	g.guard.bounds.share("g1").conns.SetLimit(0) // as if no time passed
	for i := 0; i < 2*connsBurst && err == nil; i++ {
		err = g.guard.bounds.connect("g1")
	}
	if err == nil || admitted(g.dial(t, "g1")) {
		t.Errorf("%v: %d connections, one after the other, are let in", err, 2*connsBurst)
	}
	for _, other := range []string{"g2", "h1"} {
		if !admitted(g.dial(t, other)) {
			t.Errorf("%s is not let in", other)
		}
	}
	if err := g.guard.begin(admit.Who{Name: "h1", Kind: ofMembers}); err != nil || g.guard.bounds.of["h1"] != nil {
		t.Errorf("a member's connections are counted: %v", err)
	}
}

// TestGateSpeaksNoHTTP1: there a body that does not come would hold a connection of a host without end.
func TestGateSpeaksNoHTTP1(t *testing.T) {
	g := newGated(t, nil)
	for _, protos := range [][]string{nil, {"http/1.1"}} {
		c := g.dial(t, "g1")
		g.confs["g1"].NextProtos = protos
		if c.Handshake() == nil { // else it is refused there
			if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: h1\r\nContent-Length: 1000\r\n\r\n"); err != nil {
				t.Logf("%q: it ended before the request: %v", protos, err)
			}
		}
		said, err := io.ReadAll(c)
		if late, ok := err.(net.Error); len(said) > 0 || ok && late.Timeout() {
			t.Errorf("%q: %q, %v", protos, said, err)
		}
	}
}

// TestConnectionsOfHosts: those without a member are bounded, each and all, and members are not.
func TestConnectionsOfHosts(t *testing.T) {
	g := &guard{members: []string{"h1", "h2"}}
	for name, want := range map[string]admit.Who{
		"g1": {Name: "g1", Each: maxOpen, All: maxAllOpen},
		"g2": {Name: "g2", Each: maxOpen, All: maxAllOpen},
		"h2": {Name: "h2", Kind: ofMembers},
	} {
		if got := g.whose([]*x509.Certificate{{Subject: pkix.Name{CommonName: name}}}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if hosts := 3000; maxAllOpen < 2*hosts || maxAllOpen*40>>10 > 240 {
		t.Errorf("%d connections: want two of each of %d hosts, and at most 240 MiB, of 40 KiB each", maxAllOpen, hosts)
	}
}

// TestCrowdOfPeers: the same at the peers' port, where who is old is verified, and members do not count.
func TestCrowdOfPeers(t *testing.T) {
	member := netip.MustParseAddr("192.0.2.1")
	s, err := newSweep(MemberConfig{
		ListenClient: "https://192.0.2.1:2379", ListenPeer: "https://192.0.2.1:2380", Initial: map[string]string{"h1": "https://192.0.2.1:2380"},
	}, nil, admit.New(nil, &tls.Config{}, admit.Options{}))
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
	old := peers(0, strangers.All, many)
	if got := s.crowd(old, now); len(got) != 0 {
		t.Errorf("%d of as many as are allowed are ended", len(got))
	}
	all := append(old, peers(10_000, 3, one(netip.MustParseAddr("203.0.113.9")))...)
	all = append(all, peers(20_000, strangers.All, one(member))...)
	got := s.crowd(all, now.Add(time.Second))
	if len(got) != 3 {
		t.Errorf("%d are ended, want 3", len(got))
	}
	for _, x := range got {
		if x.fd >= 10_000 {
			t.Errorf("connection %d is ended, want some of the oldest", x.fd)
		}
	}
	all = append(all, peers(30_000, strangers.All, many)...)
	if got := s.crowd(all, now.Add(newTime)); len(got) != 3 {
		t.Errorf("%d are ended, want 3: the first have been verified by now", len(got))
	}
	all = peers(0, strangers.Address+1, one(netip.MustParseAddr("203.0.113.9")))
	if got := s.crowd(all, now.Add(time.Hour)); len(got) != 1 {
		t.Errorf("%d of one address are ended, want 1", len(got))
	}
}

// TestWatchesEndWithTheGate: what does not end by itself is not waited for; other calls are.
func TestWatchesEndWithTheGate(t *testing.T) {
	for path, ends := range map[string]bool{pb.Watch_Watch_FullMethodName: true,
		pb.Lease_LeaseKeepAlive_FullMethodName: true, pb.KV_Txn_FullMethodName: false} {
		g := &gate{}
		g.ctx, g.cancel = context.WithCancel(t.Context())
		began, over := make(chan struct{}), make(chan struct{})
		h := g.ending(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(began)
			<-r.Context().Done()
			close(over)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan struct{})
		go func() {
			defer close(served)
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodPost, path, nil))
		}()
		<-began
		g.cancel()
		if ends {
			<-over
		} else {
			select {
			case <-over:
				t.Errorf("%s was cut", path)
			default:
			}
		}
		cancel()
		<-served
	}
}
