package admit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"holdfast/internal/lib/clock"
)

const (
	maxHello    = 16 << 10        // bytes that a client may send before it is verified: a chain of three certificates has 3 KiB
	acceptAgain = time.Second / 4 // after the system had no connection to give, as files are scarce
)

// Options are what a listener goes by. All but Counts, Begin and Every are required.
type Options struct {
	Bounds
	Within time.Duration // of a handshake
	// Whose says whose connection it is, by a chain that was verified, leaf first.
	Whose func(chain []*x509.Certificate) Who
	// Anybody takes the place of Whose where nobody needs a certificate: whose it is tells the address, or its network.
	Anybody func(netip.Prefix) Who
	// Counts says whether such a chain still counts: it is asked of each connection, and of those that are open in
	// Recheck. nil: each does.
	Counts func(chain []*x509.Certificate) error
	// Begin is asked of each connection that is verified, once; nil: each may begin.
	Begin func(Who) error
	Every time.Duration // of Recheck; 0: its user calls it
	Log   func(level slog.Level, what string, err error)
}

// Who is whose a connection is. Those of one Who are counted together.
type Who struct {
	Name, Kind string
	Each, All  int // how many it, and all of its kind, may have; 0: no bound
}

// Browsers says whose the connections are of people, who have no certificate: of an address, or a network, each of which may
// have so many, and all together.
func Browsers(each, all int) func(netip.Prefix) Who {
	return func(from netip.Prefix) Who { return Who{Name: from.String(), Kind: "browser", Each: each, All: all} }
}

// Listener hands on whom it has verified.
type Listener struct {
	net.Listener
	conf *tls.Config
	o    Options

	ready  chan *tls.Conn
	ctx    context.Context // ends when the listener is closed, or has broken
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	begun   bool
	shaking []*conn         // in their handshakes, the oldest first
	open    map[Who][]*conn // verified, the oldest first
}

// conn is a connection that a listener keeps count of.
type conn struct {
	net.Conn
	l       *Listener
	sources []netip.Prefix
	left    int                 // bytes that it may send before it is verified
	chain   []*x509.Certificate // that was verified
	claimed bool                // it has its place
	who     Who
}

// New makes a listener of another one. What comes waits until the first Accept.
func New(ln net.Listener, conf *tls.Config, o Options) *Listener {
	l := &Listener{Listener: ln, conf: conf.Clone(), o: o, ready: make(chan *tls.Conn), open: map[Who][]*conn{}}
	if o.Anybody == nil {
		l.conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l
}

// Accept returns the next connection that is verified, a *tls.Conn.
func (l *Listener) Accept() (net.Conn, error) {
	l.begin()
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

func (l *Listener) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun || l.ctx.Err() != nil {
		return
	}
	l.begun = true
	l.wg.Go(l.take)
	if l.o.Counts != nil && l.o.Every > 0 {
		l.wg.Go(func() {
			for clock.Sleep(l.ctx, l.o.Every) {
				l.Recheck()
			}
		})
	}
}

// Close ends the listener, and what is in its handshake. Connections that were handed on stay. It may be called more
// than once.
func (l *Listener) Close() error {
	l.mu.Lock() // who begins does so before, or not at all
	l.cancel(net.ErrClosed)
	l.mu.Unlock()
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	l.wg.Wait()
	return err
}

func (l *Listener) take() {
	for {
		c, err := l.Listener.Accept()
		switch {
		case err == nil:
			x := l.enter(c)
			l.wg.Go(func() { l.verify(x) })
		case errors.Is(err, net.ErrClosed):
			l.cancel(err)
			return
		default:
			l.o.Log(slog.LevelWarn, "connection could not be taken", err)
			clock.Sleep(l.ctx, acceptAgain)
		}
	}
}

// enter lets a connection begin its handshake. The oldest makes room, of its sources or of all: who is honest needs a
// moment.
func (l *Listener) enter(raw net.Conn) *conn {
	from, _ := netip.ParseAddrPort(raw.RemoteAddr().String()) // else it is not known
	c := &conn{Conn: raw, l: l, sources: Sources(from.Addr()), left: maxHello}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range c.sources {
		same, oldest := 0, (*conn)(nil)
		for _, x := range l.shaking {
			if slices.Contains(x.sources, s) {
				if same++; same == 1 {
					oldest = x
				}
			}
		}
		if same >= l.o.Most(s) {
			l.end(oldest)
		}
	}
	if len(l.shaking) >= l.o.All {
		l.end(l.shaking[0])
	}
	l.shaking = append(l.shaking, c)
	return c
}

// verify makes the handshake, and hands the connection on if its caller has room for it.
func (l *Listener) verify(c *conn) {
	ctx, cancel := context.WithTimeout(l.ctx, l.o.Within)
	defer cancel()
	t := tls.Server(c, l.conf)
	err := t.HandshakeContext(ctx)
	if err == nil {
		err = l.claim(c, t.ConnectionState().VerifiedChains)
	}
	if err == nil && l.o.Counts != nil {
		err = l.o.Counts(c.chain) // since the handshake; from now on Recheck sees it
	}
	if err == nil {
		select {
		case l.ready <- t:
			return
		case <-l.ctx.Done():
			err = context.Cause(l.ctx)
		}
	}
	l.o.Log(slog.LevelDebug, "connection refused", fmt.Errorf("%s: %w", c.RemoteAddr(), errors.Join(err, c.Close())))
}

// claim gives a connection the place that it has until it is closed. Where a kind has all of its places, who has the
// most of them makes room for who has fewer: a few who take all that they may keep nobody out.
func (l *Listener) claim(c *conn, chains [][]*x509.Certificate) error {
	var chain []*x509.Certificate
	var who Who
	if l.o.Anybody != nil {
		who = l.o.Anybody(c.sources[len(c.sources)-1])
	} else {
		chain = chains[0]
		who = l.o.Whose(chain)
	}
	if l.o.Begin != nil {
		if err := l.o.Begin(who); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all, most := 0, []*conn(nil)
	for w, of := range l.open {
		if w.Kind == who.Kind {
			if all += len(of); len(of) > len(most) {
				most = of
			}
		}
	}
	switch has := len(l.open[who]); {
	case !slices.Contains(l.shaking, c):
		return errors.New("it has made room for others")
	case who.Each > 0 && has >= who.Each:
		return fmt.Errorf("%s has %d connections", who.Name, has)
	case who.All > 0 && all >= who.All && len(most) < has+2:
		return fmt.Errorf("callers of this kind have %d connections, and none has more than %s would have", all, who.Name)
	case who.All > 0 && all >= who.All:
		l.end(most[len(most)-1]) // the newest: what a thief has beside its owner's
	}
	l.leave(c)
	c.chain, c.claimed, c.who = chain, true, who
	l.open[who] = append(l.open[who], c)
	return nil
}

// end ends a connection, whoever has it: that one is told by its next call. The caller holds mu.
func (l *Listener) end(c *conn) {
	l.leave(c)
	c.Conn.Close()
}

// leave ends the count of a connection. The caller holds mu.
func (l *Listener) leave(c *conn) {
	it := func(x *conn) bool { return x == c }
	l.shaking = slices.DeleteFunc(l.shaking, it)
	if l.open[c.who] = slices.DeleteFunc(l.open[c.who], it); len(l.open[c.who]) == 0 {
		delete(l.open, c.who)
	}
}

// Recheck ends open connections whose certificates do not count any more.
func (l *Listener) Recheck() {
	l.mu.Lock()
	open := slices.Concat(slices.Collect(maps.Values(l.open))...)
	l.mu.Unlock()
	for _, c := range open {
		if err := l.o.Counts(c.chain); err != nil {
			l.o.Log(slog.LevelWarn, "connection ended", fmt.Errorf("%s: %w", c.RemoteAddr(), errors.Join(err, c.Close())))
		}
	}
}

// From are the addresses from which callers of a kind are connected.
func (l *Listener) From(kind string) map[netip.Addr]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[netip.Addr]bool{}
	for w, of := range l.open {
		for _, c := range of {
			if w.Kind == kind {
				out[c.sources[0].Addr()] = true
			}
		}
	}
	return out
}

// Read bounds what comes before the client is verified.
func (c *conn) Read(p []byte) (int, error) {
	if c.claimed {
		return c.Conn.Read(p)
	}
	if c.left <= 0 {
		return 0, fmt.Errorf("more than %d bytes before the client was verified: %w", maxHello, io.ErrShortBuffer)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// Close gives the place back.
func (c *conn) Close() error {
	c.l.mu.Lock()
	c.l.leave(c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}
