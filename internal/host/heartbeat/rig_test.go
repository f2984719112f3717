package heartbeat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/try"
)

// unhurried makes a stall as rare as it is in use: tests that wait for a silence
// need a time without one on a busy machine.
func unhurried(o *Options) { o.Interval = func() time.Duration { return 200 * time.Millisecond } }

// node is one member with a main loop that only pulses.
type node struct {
	*Exchange
	id   cluster.HostID
	skew atomic.Int64 // added to its clock, ns
	mute atomic.Bool  // its main loop is stuck
	end  func()       // waits until Run has returned
}

// launch opens and runs a member on loopback until the test ends, or end.
func launch(t *testing.T, id cluster.HostID, change func(*Options)) *node {
	t.Helper()
	n := &node{id: id}
	c := clock.New()
	o := Options{
		Self: id, Listen: "127.0.0.1:0", Cluster: "test",
		Key:      func() []byte { return testKey },
		Interval: func() time.Duration { return 50 * time.Millisecond },
		Clock:    func() cluster.Instant { return c.Now().Add(time.Duration(n.skew.Load())) },
		Log:      slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Exchange = b
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	})
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if !n.mute.Load() {
				b.Pulse()
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	n.end = func() { cancel(); wg.Wait() }
	t.Cleanup(n.end)
	return n
}

func (n *node) addr() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(n.Port()))
}

// mesh connects members, each directed pair by a relay of its own.
type mesh struct {
	nodes  []*node
	relays map[[2]cluster.HostID]*relay
}

func newMesh(t *testing.T, size int, change func(*Options)) *mesh {
	t.Helper()
	m := &mesh{relays: map[[2]cluster.HostID]*relay{}}
	for i := range size {
		m.nodes = append(m.nodes, launch(t, cluster.HostID(fmt.Sprintf("h%d", i+1)), change))
	}
	for _, from := range m.nodes {
		for _, to := range m.nodes {
			if from != to {
				m.relays[[2]cluster.HostID{from.id, to.id}] = newRelay(t, to.addr())
			}
		}
	}
	for _, n := range m.nodes {
		n.SetPeers(m.peersOf(n.id))
	}
	return m
}

func (m *mesh) relay(from, to cluster.HostID) *relay { return m.relays[[2]cluster.HostID{from, to}] }

func (m *mesh) peersOf(id cluster.HostID) map[cluster.HostID]netip.AddrPort {
	peers := map[cluster.HostID]netip.AddrPort{}
	for ends, r := range m.relays {
		if ends[0] == id {
			peers[ends[1]] = r.addr
		}
	}
	return peers
}

// whole reports whether every member has a word of every other one.
func (m *mesh) whole() bool {
	for _, n := range m.nodes {
		if len(n.Words()) != len(m.nodes) {
			return false
		}
	}
	return true
}

// relay passes datagrams on to one address, as its fault says.
type relay struct {
	conn   *net.UDPConn
	addr   netip.AddrPort
	target atomic.Pointer[netip.AddrPort]

	mu     sync.Mutex
	fault  func([]byte) [][]byte // what is passed on for a datagram; nil: itself
	record [][]byte              // all that came
}

func newRelay(t *testing.T, target netip.AddrPort) *relay {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{conn: conn, addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	r.target.Store(&target)
	var wg sync.WaitGroup
	wg.Go(func() { r.run(t) })
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return r
}

func (r *relay) run(t *testing.T) {
	buf := make([]byte, 2048)
	for {
		n, _, err := r.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.Errorf("relay: %v", err)
			return
		}
		b := bytes.Clone(buf[:n])
		r.mu.Lock()
		r.record = append(r.record, b)
		out := [][]byte{b}
		if r.fault != nil {
			out = r.fault(bytes.Clone(b))
		}
		r.mu.Unlock()
		for _, b := range out {
			r.inject(t, b)
		}
	}
}

func (r *relay) inject(t *testing.T, b []byte) {
	if _, err := r.conn.WriteToUDPAddrPort(b, *r.target.Load()); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Errorf("relay: %v", err)
	}
}

func (r *relay) set(fault func([]byte) [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

func (r *relay) recorded() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([][]byte{}, r.record...)
}

func drop([]byte) [][]byte { return nil }

// silence is how long ago, in the words that n has, member by has heard about.
// It is -1 without such a word.
func silence(n *node, by, about cluster.HostID) time.Duration {
	words := n.Words()
	heard, known := words[by].Heard[about]
	if !known {
		return -1
	}
	return words[n.id].At.Sub(heard)
}

// more waits until n has taken in that many words more.
func more(t *testing.T, n *node, words uint64) {
	t.Helper()
	before := n.Stats().Accepted
	try.Until(t, fmt.Sprintf("%d words more", words), func() bool { return n.Stats().Accepted >= before+words })
}
