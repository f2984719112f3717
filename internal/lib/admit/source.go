package admit

import "net/netip"

// Bounds are how many connections may be there that are not verified yet.
type Bounds struct {
	All     int // of all
	Address int // of one address
	Net     int // of a network of IPv6: one machine may have all of its addresses, and so may honest hosts
}

const netBits = 64

// Most is how many a source may have.
func (b Bounds) Most(source netip.Prefix) int {
	if source.Bits() == netBits {
		return b.Net
	}
	return b.Address
}

// Sources are what a connection from an address counts for: the address, also where one of IPv4 is written as one of
// IPv6, and then the network of one of IPv6. Those of which it is not known are one source.
func Sources(at netip.Addr) []netip.Prefix {
	at = at.Unmap()
	out := []netip.Prefix{netip.PrefixFrom(at, at.BitLen())}
	if at.Is6() {
		out = append(out, netip.PrefixFrom(at, netBits).Masked())
	}
	return out
}
