package heartbeat

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/cluster"
)

// minInterval bounds what Options.Interval says from below.
const minInterval = 10 * time.Millisecond

// readPause is the wait after a failed read, so that a broken socket does not
// take a core.
const readPause = 50 * time.Millisecond

// Options are what Open needs. All are required. The functions are called from
// several goroutines and must not block.
type Options struct {
	Self     cluster.HostID
	Listen   string                 // IP:PORT, UDP; also the source of what is sent; port 0: a free one
	Cluster  string                 // the cluster's id; heartbeats of another are dropped
	Key      func() []byte          // 32 bytes that the cluster shares; nil until known: nothing is sent or accepted
	Interval func() time.Duration   // between two heartbeats; asked at each; less than 10 ms counts as 10 ms
	Clock    func() cluster.Instant // of this host (clock.Clock)
	Log      *slog.Logger
	Second   Second // a second path to one of the peers; the zero value: there is none
}

// Second is another network between this host and one peer. What that peer is sent
// goes over both, and either brings its word.
type Second struct {
	Peer  cluster.HostID
	Own   netip.Addr // of this host there; it may be missing for a while
	There netip.Addr // of the peer there; its port is that of its other address
}

// Exchange sends this host's heartbeats and hears those of the others. Its methods
// may be called from any goroutine.
type Exchange struct {
	opts    Options
	conns   []*net.UDPConn // by path: the first, and the second where there is one
	cluster [16]byte
	used    atomic.Bool // Run or Close was called
	wake    chan struct{}

	mu     sync.Mutex
	table  *table
	stats  Stats
	hushed quieted

	out outbox // of the goroutine that sends
}

// inbox is memory that each datagram read uses again, of a goroutine that reads.
type inbox struct {
	path    int
	sealer  sealer
	message message
}

// outbox is memory that each turn uses again.
type outbox struct {
	sealer  sealer
	message message
	targets []target
	buf     []byte
	stalls  uint64 // of those that have been logged
}

// Open takes the socket. Nothing is sent or heard until Run. The caller ends
// with Run or with Close.
func Open(o Options) (*Exchange, error) {
	if o.Self == "" || o.Key == nil || o.Interval == nil || o.Clock == nil || o.Log == nil {
		return nil, errors.New("open heartbeats: an option is missing")
	}
	instance, err := newInstance()
	if err != nil {
		return nil, err
	}
	conns, err := listenAll(o)
	if err != nil {
		return nil, err
	}
	b := &Exchange{
		opts:    o,
		conns:   conns,
		cluster: clusterKey(o.Cluster),
		wake:    make(chan struct{}, 1),
		stats:   Stats{Dropped: map[Reason]uint64{}},
		hushed:  quieted{},
	}
	b.table = newTable(o.Self, instance, b.interval())
	b.table.second = o.Second
	return b, nil
}

// newInstance names this process, at random and never 0.
func newInstance() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("make a random instance: %w", err)
	}
	return max(1, binary.BigEndian.Uint64(b[:])), nil
}

// Port is the UDP port that Open has taken.
func (b *Exchange) Port() int { return b.conns[0].LocalAddr().(*net.UDPAddr).Port }

// SetPeers says who else is a member and where it listens. This host itself is
// left out. A peer that stays keeps what is known of it, also at a new address;
// one without a valid address is heard and not sent to. At most 64 are followed,
// the first by name.
func (b *Exchange) SetPeers(peers map[cluster.HostID]netip.AddrPort) {
	b.mu.Lock()
	left := b.table.setPeers(b.opts.Clock(), peers)
	b.mu.Unlock()
	if left > 0 {
		b.warn("peers", "too many hosts for heartbeats: the last by name are left out", "left", left, "followed", maxEntries)
	}
}

// Pulse says that the agent's main loop turns. Heartbeats are sent only while
// the last pulse is younger than 1 s, so a stuck loop falls silent.
func (b *Exchange) Pulse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.table.beat(b.opts.Clock())
}

// Words returns what is heard: under this host's own name its own view, and the
// last word of each peer that has sent one since listening to it began. All is
// as of this call, the At of the own entry: judge silence by that instant, not
// by a later reading of the clock. No member is among those that it has heard
// itself. Heard instants from a peer are too early by its clock's drift over the
// age at most, and ages above 1 h are told as 1 h. The maps are the caller's.
func (b *Exchange) Words() map[cluster.HostID]cluster.HeartbeatReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table.words(b.opts.Clock())
}

// Silences are for how long nothing of the peer of Options.Second has come over the
// first and over the second path, or for how long they have been listened at. ok: that
// peer is followed, and this process listens.
func (b *Exchange) Silences() (first, second time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table.silences(b.opts.Clock())
}

// Wake gets a value soon after a word has come. Several words may give one.
func (b *Exchange) Wake() <-chan struct{} { return b.wake }

// Stats returns a copy of the counters.
func (b *Exchange) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Dropped = maps.Clone(b.stats.Dropped)
	s.Stalls, s.LastStalled = b.table.stalls, b.table.stalled
	return s
}

// Run sends and hears until ctx ends, then closes the socket and returns, with
// the error of closing. It is called once.
func (b *Exchange) Run(ctx context.Context) error {
	if b.used.Swap(true) {
		return errors.New("run heartbeats: they ran before, or are closed")
	}
	b.mu.Lock()
	b.table.start(b.opts.Clock())
	b.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var readers sync.WaitGroup
	for path := range b.conns {
		readers.Go(func() { b.read(ctx, path) })
	}
	b.send(ctx)
	err := b.shut() // which ends the reads that are under way
	readers.Wait()
	b.mu.Lock()
	b.table.stop()
	b.mu.Unlock()
	return err
}

// shut closes the sockets.
func (b *Exchange) shut() (err error) {
	for _, c := range b.conns {
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		return fmt.Errorf("close the heartbeats' sockets: %w", err)
	}
	return nil
}

// Close gives the socket back if Run was never called; else it does nothing.
func (b *Exchange) Close() error {
	if b.used.Swap(true) {
		return nil
	}
	return b.shut()
}

func (b *Exchange) interval() time.Duration { return max(minInterval, b.opts.Interval()) }
