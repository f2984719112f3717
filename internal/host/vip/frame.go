package vip

import (
	"encoding/binary"
	"net"
	"net/netip"

	"holdfast/internal/lib/network"
)

const (
	icmp6   = 58
	askND   = 135 // neighbour solicitation, RFC 4861
	tellND  = 136 // neighbour advertisement
	hops    = 255 // of neighbour discovery: a router would have lowered it
	ip6Size = 40
	ndSize  = 24 // without options
)

// claim is what a frame says about an address.
type claim struct {
	addr netip.Addr
	mac  net.HardwareAddr
	// asks: the sender wants the address and asks whether anybody has it (an ARP probe of
	// RFC 5227, a solicitation for duplicate detection of RFC 4862). Otherwise it has it.
	asks bool
}

// read decodes an Ethernet frame of ARP or of neighbour discovery. ok is false for all that
// claims no address, and all that a host must not believe.
func read(frame []byte) (c claim, ok bool) {
	switch network.Kind(frame) {
	case network.TypeARP:
		c, ok = readARP(frame)
	case network.TypeIPv6:
		c, ok = readND(frame[network.HeaderSize:], net.HardwareAddr(frame[network.MACSize:2*network.MACSize]))
	}
	if !ok || !network.IsMachine(c.mac) {
		return claim{}, false
	}
	c.mac = append(net.HardwareAddr(nil), c.mac...) // the frame's buffer is used again
	return c, true
}

// readARP reads a claim. RFC 5227, 2.1.1 and 2.4: whoever is the sender has the address, be it a
// request or an answer; a request of nobody is a probe for the target.
func readARP(frame []byte) (claim, bool) {
	a, ok := network.ReadARP(frame)
	switch {
	case !ok:
		return claim{}, false
	case !a.Sender.IsUnspecified():
		return claim{addr: a.Sender, mac: a.SenderMAC}, true
	case a.Op == network.ARPRequest && !a.Target.IsUnspecified():
		return claim{addr: a.Target, mac: a.SenderMAC, asks: true}, true
	}
	return claim{}, false
}

// readND decodes a solicitation or an advertisement after the checks of RFC 4861, 7.1. Such a
// message with extension headers is not read: Linux and others send none.
func readND(b []byte, from net.HardwareAddr) (claim, bool) {
	if len(b) < ip6Size+ndSize || b[0]>>4 != 6 || b[6] != icmp6 || b[7] != hops {
		return claim{}, false
	}
	size := int(binary.BigEndian.Uint16(b[4:]))
	if size < ndSize || size > len(b)-ip6Size {
		return claim{}, false
	}
	src, dst, m := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[ip6Size:ip6Size+size]
	target := netip.AddrFrom16([16]byte(m[8:24]))
	if m[1] != 0 || checksum(src, dst, m) != 0 || target.IsMulticast() || target.IsUnspecified() {
		return claim{}, false
	}
	link, ok := option(m[ndSize:], map[byte]byte{askND: 1, tellND: 2}[m[0]])
	if !ok {
		return claim{}, false
	}
	mac := from
	if link != nil {
		mac = link
	}
	switch {
	case m[0] == tellND && !(dst.IsMulticast() && m[4]&0x40 != 0): // an answer to one goes to one
		return claim{addr: target, mac: mac}, true
	case m[0] == askND && src.IsUnspecified():
		return claim{addr: target, mac: from, asks: true}, link == nil
	case m[0] == askND:
		return claim{addr: src, mac: mac}, true
	}
	return claim{}, false
}

// option finds the option with a link-layer address of a kind among options; nil: there is
// none. ok is false when one of them has no length.
func option(b []byte, kind byte) (mac net.HardwareAddr, ok bool) {
	for len(b) > 0 {
		if len(b) < 8 || b[1] == 0 || int(b[1])*8 > len(b) {
			return nil, false
		}
		if b[0] == kind && b[1] == 1 && mac == nil {
			mac = net.HardwareAddr(b[2:8])
		}
		b = b[int(b[1])*8:]
	}
	return mac, true
}

// probe is the question whether anybody has an address: an ARP probe (RFC 5227, 2.1.1: the
// sender has no address) or a solicitation for duplicate detection (RFC 4862, 5.4.2).
func probe(mac net.HardwareAddr, addr netip.Addr) []byte {
	if addr.Is4() {
		return arp(network.ARPRequest, mac, netip.IPv4Unspecified(), make(net.HardwareAddr, network.MACSize), addr)
	}
	m := make([]byte, ndSize)
	m[0] = askND
	copy(m[8:], addr.AsSlice())
	return nd(mac, netip.IPv6Unspecified(), group(addr), m)
}

// announcements tell all neighbours that mac has addr. Of IPv4 both forms of a gratuitous ARP,
// as some hosts and switches heed but one: the request is that of RFC 5227, 2.3. Of IPv6 an
// unsolicited advertisement (RFC 4861, 7.2.6) that overrides what they know.
func announcements(mac net.HardwareAddr, addr netip.Addr) [][]byte {
	if addr.Is4() {
		return [][]byte{arp(network.ARPRequest, mac, addr, make(net.HardwareAddr, network.MACSize), addr),
			arp(network.ARPReply, mac, addr, mac, addr)}
	}
	m := make([]byte, ndSize, ndSize+8)
	m[0], m[4] = tellND, 0x20 // override; not solicited, and no router
	copy(m[8:], addr.AsSlice())
	m = append(append(m, 2, 1), mac...) // target link-layer address
	return [][]byte{nd(mac, addr, netip.IPv6LinkLocalAllNodes(), m)}
}

// group is the solicited-node multicast group of an address, RFC 4291, 2.7.1.
func group(addr netip.Addr) netip.Addr {
	a := addr.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
}

// arp makes a frame of ARP to everybody.
func arp(op uint16, mac net.HardwareAddr, sender netip.Addr, toMAC net.HardwareAddr, target netip.Addr) []byte {
	return network.ARP{Op: op, SenderMAC: mac, Sender: sender, TargetMAC: toMAC, Target: target}.Append(nil, network.Broadcast())
}

// nd makes a frame of neighbour discovery to a multicast group. m has no checksum yet.
func nd(mac net.HardwareAddr, src, dst netip.Addr, m []byte) []byte {
	binary.BigEndian.PutUint16(m[2:], checksum(src, dst, m))
	d := dst.As16()
	b := network.AppendHeader(nil, net.HardwareAddr{0x33, 0x33, d[12], d[13], d[14], d[15]}, mac, network.TypeIPv6) // RFC 2464, 7
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
	b = append(b, icmp6, hops)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	return append(b, m...)
}

// checksum is that of ICMPv6 (RFC 4443, 2.3), over the pseudo-header too; 0 over a message
// that has the right one.
func checksum(src, dst netip.Addr, m []byte) uint16 {
	sum := uint32(len(m)) + icmp6
	for _, part := range [][]byte{src.AsSlice(), dst.AsSlice(), m} {
		for i, x := range part {
			sum += uint32(x) << (8 * (1 - i%2))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
