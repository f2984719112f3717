package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"holdfast/internal/pki"
)

const (
	maxShaking   = 2048     // connections in their handshakes, each with up to 2 x maxHello: thousands of hosts may come at once
	maxOfAddress = 256      // of these, of one address
	maxOfNet     = 1024     // of these, of a network of IPv6: one machine may have all of its addresses, and so may honest hosts
	maxHello     = 16 << 10 // bytes that a client may send before it is verified; a chain of three certificates has 3 KiB
	shakeWithin  = 10 * time.Second
	maxOpen      = 16              // verified connections of one host without a member: its agent and each command have one or two
	maxHeaders   = 4 << 10         // bytes of a call's headers; those of our client have some hundred
	idleTime     = time.Minute     // of a connection without a call; an agent's report, every 10 s, goes to each of three members in turn
	acceptAgain  = time.Second / 4 // after the system had no connection to give
	closeWithin  = time.Second     // for calls that are under way when the member stops
	etcdSocket   = "clients"       // the socket of etcd itself, in the data directory
	maxFrameSize = 16 << 10        // of HTTP/2: a connection keeps one while it arrives; gRPC sends no larger ones
)

// gate listens at the port of a member's clients in place of etcd, which bounds neither connections nor headers: it
// verifies certificates, and hands on to the front. etcd listens at a socket in the data directory, where the front
// refuses everybody.
type gate struct {
	net.Listener
	conf    *tls.Config
	members []string
	calls   <-chan struct{} // closed when etcd has its calls
	srv     *http.Server
	dir     *os.File // holds etcdSocket
	log     *zap.Logger

	ready  chan net.Conn
	ctx    context.Context // ends with the gate
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	shaking []*entrant     // the oldest is first
	open    map[string]int // by name, of hosts without a member
}

// entrant is a connection that a gate keeps count of.
type entrant struct {
	net.Conn
	g        *gate
	source   netip.Prefix
	verified atomic.Bool
	left     int    // bytes that it may send before
	name     string // of the host that it is counted for; guarded by g.mu
}

// newGate listens for a member's clients. What comes waits until serve.
func newGate(c MemberConfig, cfg *embed.Config, f *front) (_ *gate, err error) {
	at, _, err := hostPort(c.ListenClient)
	if err != nil {
		return nil, err
	}
	server, _, err := pki.Load(c.TLS.CA, c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return nil, err
	}
	server.NextProtos = []string{"h2", "http/1.1"}
	if f.list != nil {
		server.VerifyConnection = func(s tls.ConnectionState) error { return f.list.Check(s.PeerCertificates[0]) }
	}
	g := &gate{conf: server, members: f.g.members, calls: f.began, log: zap.NewNop(), ready: make(chan net.Conn), open: map[string]int{}}
	g.srv = &http.Server{
		Handler: f, MaxHeaderBytes: maxHeaders, IdleTimeout: idleTime, ReadHeaderTimeout: shakeWithin,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxFrameSize},
		ErrorLog: log.New(io.Discard, "", 0), // what clients do wrong
	}
	if g.dir, err = os.Open(c.DataDir); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	if g.Listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", at); err != nil {
		return nil, errors.Join(named(c.DataDir, fmt.Errorf("listen for clients: %w", err)), g.dir.Close())
	}
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	// The name of a socket has at most 107 bytes, that of the directory may have more.
	cfg.ListenClientUrls = []url.URL{{Scheme: "unixs", Path: fmt.Sprintf("/proc/self/fd/%d/%s", g.dir.Fd(), etcdSocket)}}
	return g, nil
}

// serve begins to let clients in when the member can answer: who is connected and gets no answer would not try another.
func (g *gate) serve(e *embed.Etcd) {
	g.log = e.GetLogger()
	g.wg.Go(func() {
		select {
		case <-g.calls: // after e.Server.ReadyNotify
			g.start()
		case <-g.ctx.Done():
		}
	})
}

func (g *gate) start() {
	g.wg.Go(g.take)
	g.wg.Go(func() {
		if err := g.srv.Serve(g); !errors.Is(err, http.ErrServerClosed) && g.ctx.Err() == nil {
			g.log.Error("clients are not served any more", zap.Error(err))
		}
	})
}

// stop ends the gate when etcd has ended.
func (g *gate) stop() error { return errors.Join(g.end(), g.dir.Close()) }

// end ends all connections, after a moment for the calls that are under way. It may be called more than once.
func (g *gate) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	err := g.srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // watches do not end
	}
	err = errors.Join(err, g.Close(), g.srv.Close())
	g.wg.Wait()
	return err
}

// Accept returns the next connection that is verified.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.ready:
		return c, nil
	case <-g.ctx.Done():
		return nil, context.Cause(g.ctx)
	}
}

// Close ends the listener, and what is in its handshake. It may be called more than once.
func (g *gate) Close() error {
	g.cancel(net.ErrClosed)
	if err := g.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (g *gate) take() {
	for {
		c, err := g.Listener.Accept()
		if err == nil {
			e := g.enter(c)
			g.wg.Go(func() { g.verify(e) })
			continue
		}
		if g.ctx.Err() != nil {
			return
		}
		g.log.Warn("a connection of a client could not be taken", zap.Error(err))
		select {
		case <-g.ctx.Done():
			return
		case <-time.After(acceptAgain):
		}
	}
}

// sourceOf is where a connection comes from: an address, or a network of IPv6, whose addresses one host may have all.
func sourceOf(at netip.Addr) netip.Prefix {
	at, bits := at.Unmap(), 32
	if at.Is6() {
		bits = 64
	}
	p, _ := at.Prefix(bits) // it fails for other numbers of bits
	return p
}

// mostOf is how many connections of a source may not be verified yet.
func mostOf(source netip.Prefix) int {
	if source.Addr().Is6() {
		return maxOfNet
	}
	return maxOfAddress
}

// enter lets a connection begin its handshake. The oldest makes room, of its source or of all: who is honest needs a
// moment.
func (g *gate) enter(c net.Conn) *entrant {
	e := &entrant{Conn: c, g: g, left: maxHello}
	if at, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		e.source = sourceOf(at.Addr())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	same, first := 0, -1
	for i, x := range g.shaking {
		if x.source == e.source {
			if same++; first < 0 {
				first = i
			}
		}
	}
	switch {
	case same >= mostOf(e.source):
		g.shaking[first].Conn.Close()
		g.shaking = slices.Delete(g.shaking, first, first+1)
	case len(g.shaking) >= maxShaking:
		g.shaking[0].Conn.Close()
		g.shaking = slices.Delete(g.shaking, 0, 1)
	}
	g.shaking = append(g.shaking, e)
	return e
}

// verify makes the handshake, and hands the connection on if its host has room for it.
func (g *gate) verify(e *entrant) {
	ctx, cancel := context.WithTimeout(g.ctx, shakeWithin)
	defer cancel()
	c := tls.Server(e, g.conf)
	err := c.HandshakeContext(ctx)
	if err == nil {
		err = g.claim(e, c.ConnectionState().VerifiedChains[0][0].Subject.CommonName)
	}
	g.mu.Lock()
	if i := slices.Index(g.shaking, e); i >= 0 { // else it has made room
		g.shaking = slices.Delete(g.shaking, i, i+1)
	}
	g.mu.Unlock()
	if err == nil {
		select {
		case g.ready <- c:
			return
		case <-g.ctx.Done():
			err = context.Cause(g.ctx)
		}
	}
	g.log.Debug("connection of a client refused", zap.Stringer("from", e.RemoteAddr()), zap.Error(errors.Join(err, e.Close())))
}

// claim counts a verified connection for its host, until it is closed. Members' are not bounded.
func (g *gate) claim(e *entrant, name string) error {
	if !slices.Contains(g.members, name) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.open[name] >= maxOpen {
			return forNow(name, "has %d connections; at most %d are allowed", maxOpen, maxOpen)
		}
		g.open[name]++
		e.name = name
	}
	e.verified.Store(true)
	return nil
}

// Read bounds what comes before the client is verified.
func (e *entrant) Read(p []byte) (int, error) {
	if e.verified.Load() {
		return e.Conn.Read(p)
	}
	if e.left <= 0 {
		return 0, fmt.Errorf("more than %d bytes before the client was verified: %w", maxHello, io.ErrShortBuffer)
	}
	n, err := e.Conn.Read(p[:min(len(p), e.left)])
	e.left -= n
	return n, err
}

// Close ends the count of the connection.
func (e *entrant) Close() error {
	e.g.mu.Lock()
	if e.name != "" {
		if e.g.open[e.name]--; e.g.open[e.name] == 0 {
			delete(e.g.open, e.name)
		}
		e.name = ""
	}
	e.g.mu.Unlock()
	return e.Conn.Close()
}
