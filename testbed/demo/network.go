package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"holdfast/internal/cluster"
)

// dialLimit bounds a relay's connection to the real port behind it.
const dialLimit = time.Second

// identify tells which host's process has opened a connection that a relay has
// accepted: client and relay are its two ends.
type identify func(ctx context.Context, client, relay netip.AddrPort) (cluster.HostID, error)

// network stands for the cables between the hosts. Each port of a host is
// reached by the others through a relay; the relay finds out who connects, and
// forwards only while the link between the two hosts is whole.
//
// A cut is silent, as with a cable: connections stay open, nothing passes. When
// the link is whole again, those that were cut are closed, since the ends have
// lost what was sent meanwhile.
type network struct {
	who identify
	log *slog.Logger
	wg  sync.WaitGroup // acceptors and connections

	mu        sync.Mutex
	closed    bool
	isolated  map[cluster.HostID]bool
	listeners []net.Listener
	links     map[*link]bool
}

// link is one connection through a relay.
type link struct {
	from, to cluster.HostID
	conns    []net.Conn // the accepted one and, once it is made, the one to the target
	held     bool       // it was cut and passes nothing any more
}

func newNetwork(who identify, log *slog.Logger) *network {
	return &network{who: who, log: log, isolated: map[cluster.HostID]bool{}, links: map[*link]bool{}}
}

// Relay forwards what arrives at listen to target, a port of host to. It takes
// over the listener. ctx ends the forwarding of new connections. public: anybody may connect, not only processes of the
// hosts.
func (n *network) Relay(ctx context.Context, to cluster.HostID, listener net.Listener, target string, public bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners = append(n.listeners, listener)
	n.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					n.log.Warn("relay stopped", "host", to, "address", listener.Addr().String(), "error", err)
				}
				return
			}
			n.wg.Go(func() { n.handle(ctx, conn, to, target, public) })
		}
	})
}

// handle owns conn.
func (n *network) handle(ctx context.Context, conn net.Conn, to cluster.HostID, target string, public bool) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	from, err := cluster.HostID(""), error(nil)
	if !public {
		from, err = n.source(ctx, conn)
	}
	if err != nil {
		n.log.Debug("relay refused a connection", "to", to, "error", err)
		closeQuietly(conn)
		return
	}
	l := &link{from: from, to: to, conns: []net.Conn{conn}}
	if !n.add(l) {
		return // held: Heal or Close ends it
	}
	out, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		// The host is up but nothing listens: refused, as the kernel there would.
		n.drop(l)
		return
	}
	if !n.attach(l, out) {
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { n.pump(l, out, conn) })
	n.pump(l, conn, out)
	pumps.Wait()
	n.drop(l)
}

func (n *network) source(ctx context.Context, conn net.Conn) (cluster.HostID, error) {
	client, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return "", err
	}
	relay, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return "", err
	}
	return n.who(ctx, client, relay)
}

// add takes a connection in. It reports whether the link is whole; else the
// connection is held, or closed when the network is.
func (n *network) add(l *link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		closeQuietly(l.conns...)
		return false
	}
	n.links[l] = true
	l.held = n.isCut(l.from, l.to)
	return !l.held
}

// attach adds the target's side. It reports whether the link is still whole.
func (n *network) attach(l *link, out net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.links[l] { // closed or healed meanwhile
		closeQuietly(out)
		return false
	}
	l.conns = append(l.conns, out)
	return !l.held
}

// drop ends a connection, unless it is held: then its ends must not notice.
func (n *network) drop(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.links[l] && !l.held {
		delete(n.links, l)
		closeQuietly(l.conns...)
	}
}

// pump copies until one side ends or the link is cut.
func (n *network) pump(l *link, to, from net.Conn) {
	// Wrapped, so that every block is looked at and not spliced in the kernel.
	_, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
	if tcp, ok := to.(*net.TCPConn); ok && err == nil && n.halfClose(l, tcp) {
		return // the other direction may go on
	}
	n.drop(l)
}

// halfClose passes the end of one direction on. It reports whether it did.
func (n *network) halfClose(l *link, to *net.TCPConn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[l] && !l.held && to.CloseWrite() == nil
}

// isCut reports whether nothing passes between a and b. A host always reaches
// itself. The caller holds mu.
func (n *network) isCut(a, b cluster.HostID) bool {
	return a != b && (n.isolated[a] || n.isolated[b])
}

// Isolate pulls the cables of a host.
func (n *network) Isolate(host cluster.HostID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isolated[host] = true
	for l := range n.links {
		if l.held || !n.isCut(l.from, l.to) {
			continue
		}
		l.held = true
		for _, c := range l.conns {
			// Running reads and writes end at once, nothing is sent. It fails only
			// on a closed connection.
			_ = c.SetDeadline(time.Unix(1, 0))
		}
	}
}

// Heal plugs the cables of a host in again and closes the connections that were
// cut.
func (n *network) Heal(host cluster.HostID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.isolated, host)
	for l := range n.links {
		if l.held && !n.isCut(l.from, l.to) {
			delete(n.links, l)
			closeQuietly(l.conns...)
		}
	}
}

// Isolated reports whether the host's cables are pulled.
func (n *network) Isolated(host cluster.HostID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.isolated[host]
}

// Close ends all relays and connections and waits for their goroutines.
func (n *network) Close() error {
	n.mu.Lock()
	n.closed = true
	var errs []error
	for _, l := range n.listeners {
		errs = append(errs, l.Close())
	}
	for l := range n.links {
		closeQuietly(l.conns...)
	}
	clear(n.links)
	n.mu.Unlock()
	n.wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the relays: %w", err)
	}
	return nil
}

// closeQuietly closes connections of which nothing is expected any more.
func closeQuietly(conns ...net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}
