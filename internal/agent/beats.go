package agent

import (
	"fmt"
	"net"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/loop"
	"holdfast/internal/host/heartbeat"
)

// beats opens the port of the heartbeats: that of the API, by UDP. Without it
// there are none.
func (nd *node) beats(r *loop.Rhythm) (*heartbeat.Exchange, error) {
	_, port, err := net.SplitHostPort(nd.n.API.Listen)
	if err != nil {
		return nil, nil // no port, as the settings' check has found
	}
	var second heartbeat.Second
	if own, there, ok := nd.second(); ok {
		second = heartbeat.Second{Peer: cluster.HostID(nd.cfg.Pair.Peer(nd.n.Host)), Own: own, There: there}
	}
	b, err := heartbeat.Open(heartbeat.Options{
		Second: second,
		Self:   cluster.HostID(nd.n.Host), Listen: net.JoinHostPort(nd.n.Addr, port), Cluster: nd.n.Cluster,
		Key: r.Key, Interval: r.Interval, Clock: nd.clock.Now, Log: nd.Log,
	})
	if err != nil {
		return nil, nd.bad("api.listen", nd.n.API.Listen, fmt.Errorf("open the same port of UDP for heartbeats: %w", err))
	}
	return b, nil
}
