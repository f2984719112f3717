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
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxShaking     = 512             // connections in their handshakes; each may have 2 x maxHello in memory
	maxSource      = 32              // of those, of one address: a host has some agents and commands
	maxNet         = maxShaking / 2  // of those, of a network of IPv6: one machine may have all of its addresses
	maxHello       = 16 << 10        // bytes that a client may send before it is verified: a chain of three certificates has 3 KiB
	acceptAgain    = time.Second / 4 // after the system had no connection to give, as files are scarce
	checkCertEvery = 2 * time.Second // of open connections, whether their certificates still count
)

// kind of caller, by the name in its certificate.
type kind int

const (
	guestHost kind = iota
	member
	operator
	unknown // the hosts are not known yet; these take nothing from the others
)

// slotShares bound open connections of a kind. Clients of ours have one each. Members are few, and always get in.
var slotShares = map[kind]share{guestHost: {16, 256}, member: {64, 1 << 16}, operator: {64, 256}, unknown: {16, 256}}

// slots is a listener that verifies clients itself, and hands on whom it has verified. A connection has a slot
// only then; before, it has little time and memory, and makes room for newer ones.
type slots struct {
	net.Listener
	conf  *tls.Config
	hosts Hosts                                 // nil: all are operators
	count func(chain []*x509.Certificate) error // whether a certificate still counts; nil: each does
	log   *slog.Logger

	within time.Duration // of a handshake
	every  time.Duration // see checkCertEvery

	ready  chan *tls.Conn
	ctx    context.Context // ends when the listener is closed, or has broken
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	shaking []*slot // the oldest is first
	sources map[netip.Addr]int
	nets    map[netip.Prefix]int
	open    map[*slot]bool
	names   map[string]int
	kinds   map[kind]int
}

// slot is a connection that a slots keeps count of.
type slot struct {
	net.Conn
	l        *slots
	source   netip.Addr   // not valid: it is not known, and all of them are one source
	net      netip.Prefix // not valid: of IPv4
	verified atomic.Bool
	left     int // bytes that it may send before it is verified

	// Of one that is verified.
	name  string
	kind  kind
	chain []*x509.Certificate
}

// newSlots begins to take connections. conf demands certificates.
func newSlots(ln net.Listener, conf *tls.Config, opts Options) *slots {
	l := &slots{
		Listener: ln, conf: conf, hosts: opts.Hosts, count: opts.Counts, log: opts.Log, within: headerTime, every: checkCertEvery,
		ready: make(chan *tls.Conn), sources: map[netip.Addr]int{}, nets: map[netip.Prefix]int{}, open: map[*slot]bool{}, names: map[string]int{}, kinds: map[kind]int{},
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l
}

// start begins to take connections.
func (l *slots) start() *slots {
	l.wg.Go(l.take)
	if l.count != nil {
		l.wg.Go(l.recheck)
	}
	return l
}

// Accept returns the next connection that is verified.
func (l *slots) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// Close ends the listener and what is in its handshake. Connections that were handed on stay.
func (l *slots) Close() error {
	l.cancel(net.ErrClosed)
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	l.wg.Wait()
	return err
}

func (l *slots) take() {
	for {
		c, err := l.Listener.Accept()
		switch {
		case err == nil:
			if s := l.enter(c); s != nil {
				l.wg.Go(func() { l.verify(s) })
			}
		case errors.Is(err, net.ErrClosed):
			l.cancel(err)
			return
		default:
			l.log.Warn("a connection to the api could not be taken", "err", err)
			select {
			case <-l.ctx.Done():
			case <-time.After(acceptAgain):
			}
		}
	}
}

// sourceOf is where a connection comes from: an address, and the network of one of IPv6.
func sourceOf(at net.Addr) (source netip.Addr, of netip.Prefix) {
	from, err := netip.ParseAddrPort(at.String())
	if err != nil {
		return source, of
	}
	if source = from.Addr().Unmap().WithZone(""); source.Is6() {
		of, _ = source.Prefix(64) // it fails for other numbers of bits
	}
	return source, of
}

// enter lets a connection begin its handshake; nil: its address has its share, and it is closed. When a network has
// its share, or all are taken, the oldest one of these makes room: who is honest needs a moment. A network does not
// refuse new ones, as honest hosts may be in the attacker's.
func (l *slots) enter(c net.Conn) *slot {
	s := &slot{Conn: c, l: l, left: maxHello}
	s.source, s.net = sourceOf(c.RemoteAddr())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sources[s.source] >= maxSource {
		l.log.Debug("api connection closed: its source has many that are not verified", "from", c.RemoteAddr().String())
		l.drop(c)
		return nil
	}
	switch oldest := 0; {
	case s.net.IsValid() && l.nets[s.net] >= maxNet:
		oldest = slices.IndexFunc(l.shaking, func(o *slot) bool { return o.net == s.net })
		fallthrough
	case len(l.shaking) >= maxShaking:
		l.drop(l.shaking[oldest].Conn)
		l.shook(l.shaking[oldest])
	}
	l.shaking = append(l.shaking, s)
	l.sources[s.source]++
	if s.net.IsValid() {
		l.nets[s.net]++
	}
	return s
}

// drop closes a connection that nobody has heard of yet.
func (l *slots) drop(c net.Conn) {
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		l.log.Debug("close an api connection", "from", c.RemoteAddr().String(), "err", err)
	}
}

// shook ends the count of a connection as one in its handshake. The caller holds mu.
func (l *slots) shook(s *slot) {
	i := slices.Index(l.shaking, s)
	if i < 0 {
		return // it has made room
	}
	l.shaking = slices.Delete(l.shaking, i, i+1)
	if l.sources[s.source]--; l.sources[s.source] == 0 {
		delete(l.sources, s.source)
	}
	if l.nets[s.net]--; l.nets[s.net] <= 0 { // below it of IPv4, which has none
		delete(l.nets, s.net)
	}
}

// verify makes the handshake, and hands the connection on if there is a slot for its name.
func (l *slots) verify(s *slot) {
	ctx, cancel := context.WithTimeout(l.ctx, l.within)
	defer cancel()
	c := tls.Server(s, l.conf)
	err := c.HandshakeContext(ctx)
	if err == nil {
		err = l.claim(s, c.ConnectionState())
	}
	l.mu.Lock()
	l.shook(s)
	l.mu.Unlock()
	if err == nil {
		select {
		case l.ready <- c:
			return
		case <-l.ctx.Done():
			err = context.Cause(l.ctx)
		}
	}
	l.log.Debug("api connection refused", "from", s.RemoteAddr().String(), "err", err)
	l.drop(s)
}

// claim gives a verified connection the slot that it has until it is closed.
func (l *slots) claim(s *slot, state tls.ConnectionState) error {
	if len(state.VerifiedChains) == 0 {
		return errors.New("a client certificate of the cluster is needed")
	}
	s.chain = state.VerifiedChains[0]
	s.name = s.chain[0].Subject.CommonName
	s.kind = operator
	if l.hosts != nil {
		host, guestsOnly, err := l.hosts(s.name)
		switch {
		case err != nil:
			s.kind = unknown
		case guestsOnly:
			s.kind = guestHost
		case host:
			s.kind = member
		}
	}
	shares := slotShares[s.kind]
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.names[s.name]; n >= shares.each {
		return fmt.Errorf("%s has %d connections", s.name, n)
	}
	if n := l.kinds[s.kind]; n >= shares.all {
		return fmt.Errorf("callers of this kind have %d connections", n)
	}
	l.names[s.name]++
	l.kinds[s.kind]++
	l.open[s] = true
	s.verified.Store(true)
	return nil
}

// recheck ends open connections whose certificates do not count any more.
func (l *slots) recheck() {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		of := map[string][]*slot{} // each certificate is looked at once
		for s := range l.open {
			cert := string(s.chain[0].Raw)
			of[cert] = append(of[cert], s)
		}
		l.mu.Unlock()
		for _, all := range of {
			err := l.count(all[0].chain)
			if err == nil {
				continue
			}
			l.log.Warn("api connections ended: their certificate does not count any more", "user", all[0].name, "connections", len(all), "err", err)
			for _, s := range all {
				l.drop(s)
			}
		}
	}
}

// Read bounds what comes before the client is verified.
func (s *slot) Read(p []byte) (int, error) {
	if s.verified.Load() {
		return s.Conn.Read(p)
	}
	if s.left <= 0 {
		return 0, fmt.Errorf("more than %d bytes before the client was verified: %w", maxHello, io.ErrShortBuffer)
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// Close gives the slot back.
func (s *slot) Close() error {
	s.l.mu.Lock()
	if s.l.open[s] {
		delete(s.l.open, s)
		s.l.kinds[s.kind]--
		if s.l.names[s.name]--; s.l.names[s.name] == 0 {
			delete(s.l.names, s.name)
		}
	}
	s.l.mu.Unlock()
	return s.Conn.Close()
}
