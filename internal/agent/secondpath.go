package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/network"
	"holdfast/internal/store/etcdstore"
)

// second gives the addresses of this host and of the other node on the second path of a
// pair (docs/adr/0053); ok: there is one.
func (nd *node) second() (own, there netip.Addr, ok bool) {
	if nd.cfg.Pair == nil {
		return own, there, false
	}
	return nd.cfg.Pair.Second(nd.n.Host)
}

// agentAt is where the agent of the other node of a pair listens, on one of its addresses.
func (nd *node) agentAt(addr string) (string, error) {
	_, port, err := net.SplitHostPort(nd.n.API.Listen)
	if err != nil {
		return "", fail.Errorf(fail.Refused, "api.listen: the agents of a pair's nodes reach each other by it, and there is none")
	}
	return net.JoinHostPort(addr, port), nil
}

// dialPair connects to the agent of the other node of a pair over the first path; either: over the path that
// answers. That node's certificate is for its first address on both.
func (nd *node) dialPair(either bool) (*api.Client, error) {
	peer := cluster.HostID(nd.cfg.Pair.Peer(nd.n.Host))
	addr, _ := nd.cfg.Member(peer)
	first, err := nd.agentAt(addr)
	if err != nil {
		return nil, err
	}
	_, there, ok := nd.second()
	if !either || !ok {
		return api.DialHost(peer, "https://"+first, nd.client, nil)
	}
	second, err := nd.agentAt(there.String())
	if err != nil {
		return nil, err
	}
	return api.DialHost(peer, "https://"+first, nd.client, func(ctx context.Context, _, first string) (net.Conn, error) {
		return network.Dial(ctx, first, second)
	})
}

// serveSecond hands what comes to the second path on to the API, until ctx ends.
func (nd *node) serveSecond(ctx context.Context, own netip.Addr) error {
	_, text, err := net.SplitHostPort(nd.n.API.Listen)
	if err != nil {
		return nil // nothing listens at the first one either
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nd.bad("api.listen", nd.n.API.Listen, err)
	}
	network.Forward(ctx, netip.AddrPortFrom(own, uint16(port)), nd.apiAddr(), nd.Log)
	return nil
}

// memberPaths are the arguments of the store's member about the second path; SecondPath
// reads them.
func (nd *node) memberPaths() []string {
	own, there, ok := nd.second()
	if !ok {
		return nil
	}
	peer, _ := nd.cfg.Member(cluster.HostID(nd.cfg.Pair.Peer(nd.n.Host)))
	return []string{"--second-path", own.String() + "," + peer + "," + there.String()}
}

// SecondPath reads the addresses of a second path as the agent gives them to the store's
// member: own there, the other node's, the other node's there; none: nil.
func SecondPath(args []string) (*etcdstore.SecondPath, error) {
	if len(args) == 0 {
		return nil, nil
	}
	var out etcdstore.SecondPath
	to := []*netip.Addr{&out.Own, &out.Peer, &out.There}
	if len(args) != len(to) {
		return nil, fmt.Errorf("second path %q: want three addresses", args)
	}
	for i, text := range args {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("second path %q: %w", args, err)
		}
		*to[i] = a.Unmap()
	}
	return &out, nil
}
