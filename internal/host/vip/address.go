package vip

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Address is a virtual address as an operator writes it: `172.16.60.55/16`, `fd00::5/64`, and
// with `dev eth0` behind it where more than one interface is in that subnet.
type Address struct {
	Prefix netip.Prefix // the address itself and the length of its subnet's prefix
	Dev    string       // the interface; "" to find it
}

// longestName is how long the name of an interface may be, bytes (IFNAMSIZ with its zero).
const longestName = 15

// Parse reads an Address. What can be said without a host is checked: it must be able to be
// the address of one machine.
func Parse(text string) (Address, error) {
	bad := func(why string) (Address, error) {
		return Address{}, fmt.Errorf("virtual address %q: %s; allowed: ADDRESS/LENGTH or ADDRESS/LENGTH dev INTERFACE, for example 172.16.60.55/16 or fd00::5/64 dev eth0", text, why)
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
	a := Address{Prefix: p}
	if len(f) == 3 {
		if a.Dev = f[2]; len(a.Dev) > longestName || strings.ContainsAny(a.Dev, "/:") || a.Dev == "." || a.Dev == ".." {
			return bad(fmt.Sprintf("%q can not be the name of an interface", a.Dev))
		}
	}
	return a, nil
}

// String is the form that Parse reads.
func (a Address) String() string {
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

// port is an interface of the host with its addresses.
type port struct {
	net.Interface
	addrs []entry
}

// choose finds the interface of a virtual address: the one that has an address in its subnet.
// The address must be neither the host's own nor one of others, its peer's for example.
func choose(a Address, ports []port, others []netip.Addr) (net.Interface, error) {
	none := net.Interface{}
	if slices.Contains(others, a.Prefix.Addr()) {
		return none, fmt.Errorf("virtual address %s: it is the other node's own address; want one that no machine has", a)
	}
	var fit []net.Interface
	var names []string
	for _, p := range ports {
		in := false
		for _, e := range p.addrs {
			if e.addr == a.Prefix.Addr() {
				if !e.ours {
					return none, foreign(a, p.Name, e)
				}
				continue
			}
			in = in || a.Prefix.Contains(e.addr) && netip.PrefixFrom(e.addr, e.bits).Contains(a.Prefix.Addr())
		}
		if in && p.Flags&net.FlagLoopback == 0 && (a.Dev == "" || a.Dev == p.Name) {
			fit, names = append(fit, p.Interface), append(names, p.Name)
		}
	}
	subnet := a.Prefix.Masked()
	switch {
	case len(fit) == 0 && a.Dev != "" && !slices.ContainsFunc(ports, func(p port) bool { return p.Name == a.Dev }):
		return none, fmt.Errorf("virtual address %s: this host has no interface %s", a, a.Dev)
	case len(fit) == 0 && a.Dev != "":
		return none, fmt.Errorf("virtual address %s: interface %s has no address that is in one subnet with it, %s", a, a.Dev, subnet)
	case len(fit) == 0:
		return none, fmt.Errorf("virtual address %s: no interface of this host has an address that is in one subnet with it, %s", a, subnet)
	case len(fit) > 1:
		return none, fmt.Errorf("virtual address %s: more than one interface has an address in %s: %s; say which: %s dev %s",
			a, subnet, strings.Join(names, ", "), a.Prefix, names[0])
	case len(fit[0].HardwareAddr) != macSize:
		return none, fmt.Errorf("virtual address %s: interface %s is no Ethernet, so nobody can be asked whether he has the address", a, fit[0].Name)
	}
	return fit[0], nil
}

// foreign is the error about an address that this host has, and not by us.
func foreign(a Address, dev string, e entry) error {
	return fmt.Errorf("virtual address %s: %w, as %s/%d on %s; want one that no machine has, or take it off: ip addr del %s/%d dev %s",
		a, ErrForeign, e.addr, e.bits, dev, e.addr, e.bits, dev)
}
