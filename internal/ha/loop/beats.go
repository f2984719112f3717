package loop

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"holdfast/internal/cluster"
)

// Heartbeats is the port to the heartbeats between members.
type Heartbeats interface {
	// SetPeers says whom to send to and whom to hear.
	SetPeers(map[cluster.HostID]netip.AddrPort)
	// Pulse is the sign that the loop turns: without it this host falls silent.
	Pulse()
	// Words gives the newest word of each member, this host's own among them.
	Words() map[cluster.HostID]cluster.HeartbeatReport
	// Port is the UDP port at which this host listens.
	Port() int
}

// Rhythm is what the heartbeats need of the store: the secret that the members
// share, and the interval. The loop sets it, the heartbeats read it.
type Rhythm struct {
	key      atomic.Pointer[[]byte]
	interval atomic.Int64
}

// Key returns the secret; nil until it is known.
func (r *Rhythm) Key() []byte {
	if k := r.key.Load(); k != nil {
		return *k
	}
	return nil
}

// Interval returns the time between two heartbeats.
func (r *Rhythm) Interval() time.Duration { return time.Duration(r.interval.Load()) }

// beat tells the heartbeats that the loop turns and with whom to talk, and takes
// in what the members hear.
func (a *Agent) beat() {
	if a.Heartbeats == nil {
		return
	}
	v := a.s.core
	a.Rhythm.interval.Store(int64(v.Timings.Heartbeat))
	peers := map[cluster.HostID]netip.AddrPort{}
	for h, r := range v.Hosts {
		addr, err := netip.ParseAddr(r.Addr)
		if h != v.Self && r.HeartbeatPort != 0 && err == nil && slices.Contains(v.Order, h) {
			peers[h] = netip.AddrPortFrom(addr, uint16(r.HeartbeatPort))
		}
	}
	if !maps.Equal(peers, a.s.peers) {
		a.s.peers = peers
		a.Heartbeats.SetPeers(peers)
	}
	a.Heartbeats.Pulse()
	v.Heard(a.Heartbeats.Words())
}
