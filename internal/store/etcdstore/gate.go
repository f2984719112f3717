package etcdstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"holdfast/internal/lib/admit"
	"holdfast/internal/lib/pki"
)

const (
	shakeWithin  = 10 * time.Second
	maxOpen      = 16          // verified connections of one host without a member: its agent and each command have one or two
	maxAllOpen   = 6 << 10     // of all such hosts: 3,000 have two each. With TLS and HTTP/2 each takes some 40 kB, so all have 246 MB
	maxHeaders   = 4 << 10     // bytes of a call's headers; those of our client have some hundred
	idleTime     = time.Minute // of a connection without a call; an agent's report, every 10 s, goes to each of three members in turn
	closeWithin  = time.Second // for calls that are under way when the member stops
	etcdSocket   = "clients"   // the socket of etcd itself, in the data directory
	maxFrameSize = 16 << 10    // of HTTP/2: a connection keeps one while it arrives; gRPC sends no larger ones
	ofMembers    = "member"    // kind of caller
)

// unverified are the bounds of connections in their handshakes: thousands of hosts may come at once.
var unverified = admit.Bounds{All: 2048, Address: 256, Net: 1024}

// gate listens at the port of a member's clients in place of etcd, which bounds neither connections nor headers: it
// verifies certificates, and hands on to the front. etcd listens at a socket in the data directory, where the front
// refuses everybody. HTTP/1.1 is not spoken: there a body that does not come holds a connection without end, and a
// bound in time would end watches.
type gate struct {
	*admit.Listener
	guard *guard
	front *front
	srv   *http.Server
	dir   *os.File // holds etcdSocket
	log   *zap.Logger

	ctx    context.Context // ends with the gate
	cancel context.CancelFunc
	wg     sync.WaitGroup
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
	server.NextProtos = []string{"h2"}
	if f.list != nil {
		server.VerifyConnection = func(s tls.ConnectionState) error { return f.list.Check(s.PeerCertificates[0]) }
	}
	g := &gate{guard: f.g, front: f, log: zap.NewNop()}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.srv = &http.Server{
		Handler: g.ending(f), MaxHeaderBytes: maxHeaders, IdleTimeout: idleTime, ReadHeaderTimeout: shakeWithin, Protocols: new(http.Protocols),
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxFrameSize, WriteByteTimeout: messageWithin},
		ErrorLog:    log.New(io.Discard, "", 0), // what clients do wrong
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	g.srv.Protocols.SetHTTP2(true)
	if g.dir, err = os.Open(c.DataDir); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", at)
	if err != nil {
		return nil, errors.Join(named(c.DataDir, fmt.Errorf("listen for clients: %w", err)), g.dir.Close())
	}
	f.log = func(level slog.Level, what string, err error) {
		g.log.Log(zapcore.Level(level/4), "client's "+what, zap.Error(err)) // slog has four times zap's levels
	}
	g.Listener = admit.New(ln, server, admit.Options{
		Bounds: unverified, Within: shakeWithin, Whose: f.g.whose, Begin: f.g.begin, Counts: pki.Counts(server), Log: f.log,
	})
	// The name of a socket has at most 107 bytes, that of the directory may have more.
	cfg.ListenClientUrls = []url.URL{{Scheme: "unixs", Path: fmt.Sprintf("/proc/self/fd/%d/%s", g.dir.Fd(), etcdSocket)}}
	return g, nil
}

// whose counts connections of hosts without a member by their names. Members' are not bounded.
func (g *guard) whose(chain []*x509.Certificate) admit.Who {
	name := chain[0].Subject.CommonName
	if slices.Contains(g.members, name) {
		return admit.Who{Name: name, Kind: ofMembers}
	}
	return admit.Who{Name: name, Each: maxOpen, All: maxAllOpen}
}

// begin bounds how often hosts without a member connect.
func (g *guard) begin(who admit.Who) error {
	if who.Kind == ofMembers {
		return nil
	}
	return g.bounds.connect(who.Name)
}

// serve begins to let clients in when the member can answer: who is connected and gets no answer would not try another.
func (g *gate) serve(e *embed.Etcd) {
	g.log = e.GetLogger()
	g.wg.Go(func() { g.guard.feed.run(g.ctx, e, g.guard.prefix) })
	g.wg.Go(func() {
		select {
		case <-g.guard.front.began: // etcd has its calls: after e.Server.ReadyNotify
			g.answer()
		case <-g.ctx.Done():
		}
	})
}

// answer serves clients until the gate ends.
func (g *gate) answer() {
	if err := g.srv.Serve(g); !errors.Is(err, http.ErrServerClosed) && g.ctx.Err() == nil {
		g.log.Error("clients are not served any more", zap.Error(err))
	}
}

// unending are the calls that do not end by themselves.
var unending = []string{pb.Watch_Watch_FullMethodName, pb.Lease_LeaseKeepAlive_FullMethodName}

// ending ends those with the gate, so that its end waits for the others only: a pair that goes on alone stops its member
// before its lease ends, and waits for that.
func (g *gate) ending(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(unending, r.URL.Path) {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(g.ctx, cancel)()
			r = r.WithContext(ctx)
		}
		h.ServeHTTP(w, r)
	})
}

// stop ends the gate when etcd has ended.
func (g *gate) stop() error { return errors.Join(g.end(), g.dir.Close()) }

// end ends all connections, after a moment for the calls that are under way. It may be called more than once.
func (g *gate) end() error {
	g.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	err := g.srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // they are cut
	}
	err = errors.Join(err, g.Close(), g.srv.Close())
	g.wg.Wait()
	return err
}
