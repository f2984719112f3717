package ping

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/network"
)

// card is an interface on which machines are asked by ARP.
type card struct {
	mac        net.HardwareAddr
	neighbours map[netip.Addr]*neighbour // guarded by the Pinger's mu
}

// neighbour is a machine on the network of a card.
type neighbour struct {
	source netip.Addr       // the host's own address, from which it is asked
	mac    net.HardwareAddr // as its last answer says; nil: none came, everybody is asked
	target *Target          // nil: it is not asked now
}

// OpenARP makes a Pinger that asks by ARP who has an address, over a packet socket for each
// interface. It can add those of addrs that are addresses of IPv4 on a directly connected network
// of Ethernet; none says of each of the others why not. The interfaces are those that the routes
// name now.
func OpenARP(addrs []netip.Addr) (p *Pinger, none map[netip.Addr]error, err error) {
	p, none = New(nil, nil), map[netip.Addr]error{}
	p.nap, p.cards = nap, map[netip.Addr]*line{}
	byIndex := map[int]*line{}
	for _, addr := range addrs {
		addr = addr.Unmap()
		dev, source, err := direct(addr)
		if err != nil {
			none[addr] = err
			continue
		}
		l := byIndex[dev.Index]
		if l == nil {
			wire, err := openCard(dev)
			if err != nil {
				p.Close()
				return nil, nil, err
			}
			l = newCard(wire, dev.HardwareAddr)
			byIndex[dev.Index] = l
		}
		p.cards[addr] = l
		l.card.neighbours[addr] = &neighbour{source: source}
	}
	return p, none, nil
}

// newCard makes a line over which machines are asked by ARP.
func newCard(wire Wire, mac net.HardwareAddr) *line {
	l := &line{card: &card{mac: mac, neighbours: map[netip.Addr]*neighbour{}}}
	l.make(wire, network.ARPSize)
	return l
}

// direct finds the interface over which the host reaches a machine without a router, and the
// address that it has there.
func direct(addr netip.Addr) (dev net.Interface, source netip.Addr, err error) {
	r, err := network.RouteTo(addr)
	if err != nil {
		return net.Interface{}, netip.Addr{}, err
	}
	if !r.Direct {
		return net.Interface{}, netip.Addr{}, fmt.Errorf("the route to %s: it goes by a router; want a directly connected network", addr)
	}
	i, err := net.InterfaceByIndex(r.Index)
	if err != nil {
		return net.Interface{}, netip.Addr{}, fmt.Errorf("the route to %s: find interface %d: %w", addr, r.Index, err)
	}
	if !network.IsMachine(i.HardwareAddr) || i.Flags&net.FlagLoopback != 0 {
		return net.Interface{}, netip.Addr{}, fmt.Errorf("the route to %s: interface %s is no Ethernet", addr, i.Name)
	}
	return *i, r.Source, nil
}

// openCard opens the socket of an interface.
func openCard(dev net.Interface) (*socket, error) {
	f, err := network.OpenFrames(dev, network.TypeARP, tell)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reach the socket of %s: %w", dev.Name, err), f.Close())
	}
	return newSocket(f, raw, ofARP), nil
}

// question makes the frame that asks a target: of the machine alone whose MAC is known (the
// unicast poll of RFC 1122, 2.3.2.1), so that it is no load for others, else of everybody. The
// caller holds the Pinger's mu.
func (c *card) question(b []byte, t *Target) []byte {
	n := c.neighbours[t.addr]
	to := n.mac
	if to == nil {
		to = network.Broadcast()
	}
	return network.ARP{Op: network.ARPRequest, SenderMAC: c.mac, Sender: n.source,
		TargetMAC: make(net.HardwareAddr, network.MACSize), Target: t.addr}.Append(b[:0], to)
}

// reply finds whom a frame is from, and the question under way that it is the answer to: an ARP
// reply has no number, so it is to the last one that was sent before it came. t is nil for what is
// no reply to this host. The caller holds the Pinger's mu.
func (c *card) reply(frame []byte, came func(*echo) bool) (t *Target, i int) {
	a, ok := network.ReadARP(frame)
	if !ok || a.Op != network.ARPReply {
		return nil, 0
	}
	n := c.neighbours[a.Sender]
	if n == nil || n.target == nil || a.Target != n.source {
		return nil, 0
	}
	n.mac = slices.Clone(a.SenderMAC)
	for i := n.target.pending.n - 1; i >= 0; i-- {
		if came(n.target.pending.at(i)) {
			return n.target, i
		}
	}
	return nil, 0
}

// own reports whether a frame was sent to this host alone: announcements of guests, that they
// send to all, are no answers.
func own(from *unix.RawSockaddrLinklayer) bool { return from.Pkttype == unix.PACKET_HOST }
