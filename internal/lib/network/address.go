package network

import (
	"fmt"
	"net/netip"
	"strings"
)

// VIP is a virtual address as an operator writes it: `172.16.60.55/16`, `fd00::5/64`, and
// with `dev eth0` behind it where more than one interface is in that subnet.
type VIP struct {
	Prefix netip.Prefix // the address itself and the length of its subnet's prefix
	Dev    string       // the interface; "" to find it
}

// longestName is how long the name of an interface may be, bytes (IFNAMSIZ with its zero).
const longestName = 15

// ParseVIP reads an VIP. What can be said without a host is checked: it must be able to be
// the address of one machine.
func ParseVIP(text string) (VIP, error) {
	bad := func(why string) (VIP, error) {
		return VIP{}, fmt.Errorf("virtual address %q: %s; allowed: ADDRESS/LENGTH or ADDRESS/LENGTH dev INTERFACE, "+
			"for example 172.16.60.55/16 or fd00::5/64 dev eth0", text, why)
	}
	f := strings.Fields(text)
	if len(f) != 1 && (len(f) != 3 || f[1] != "dev") {
		return bad("it has other words than these")
	}
	p, err := netip.ParsePrefix(f[0])
	if err != nil {
		_, why, _ := strings.Cut(err.Error(), "): ") // the name of a function is before it
		return bad(why)
	}
	if why := unfit(p); why != "" {
		return bad(why)
	}
	a := VIP{Prefix: p}
	if len(f) == 3 {
		if a.Dev = f[2]; len(a.Dev) > longestName || strings.ContainsAny(a.Dev, "/:") || a.Dev == "." || a.Dev == ".." {
			return bad(fmt.Sprintf("%q can not be the name of an interface", a.Dev))
		}
	}
	return a, nil
}

// String is the form that ParseVIP reads.
func (a VIP) String() string {
	if a.Dev == "" {
		return a.Prefix.String()
	}
	return a.Prefix.String() + " dev " + a.Dev
}

// unfit says why a prefix can not be a virtual address, "" when it can.
func unfit(p netip.Prefix) string {
	addr, shortest, longest := p.Addr(), 8, 30
	if addr.Is6() {
		shortest, longest = 16, 126
	}
	switch {
	case addr.Is4In6():
		return "write an address of IPv4 in its own form"
	case addr.IsUnspecified() || addr.Is4() && addr.As4()[0] == 0:
		return "that is no machine's address"
	case addr.IsLoopback():
		return "that is a loopback address"
	case addr.IsMulticast() || addr.Is4() && addr.As4()[0] >= 240:
		return "that is a multicast, broadcast or reserved address"
	case addr.Is6() && addr.IsLinkLocalUnicast():
		return "clients can not use an address of one link"
	case p.Bits() < shortest || p.Bits() > longest:
		return fmt.Sprintf("a subnet's length here is %d to %d", shortest, longest)
	case p.Masked().Addr() == addr:
		return "that is the address of the subnet itself"
	case addr.Is4() && last(p) == addr:
		return "that is the subnet's broadcast address"
	}
	return ""
}

// last is the last address of a subnet of IPv4.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
