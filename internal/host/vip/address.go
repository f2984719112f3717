package vip

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"holdfast/internal/lib/network"
)

// port is an interface of the host with its addresses.
type port struct {
	net.Interface
	addrs []entry
}

// choose finds the interface of a virtual address: the one that has an address in its subnet.
// The address must be neither the host's own nor one of others, its peer's for example.
func choose(a network.VIP, ports []port, others []netip.Addr) (net.Interface, error) {
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
	case len(fit[0].HardwareAddr) != network.MACSize:
		return none, fmt.Errorf("virtual address %s: interface %s is no Ethernet, so nobody can be asked whether he "+
			"has the address", a, fit[0].Name)
	}
	return fit[0], nil
}

// foreign is the error about an address that this host has, and not by us.
func foreign(a network.VIP, dev string, e entry) error {
	return fmt.Errorf("virtual address %s: %w, as %s/%d on %s; want one that no machine has, or take it off: ip addr del %s/%d dev %s",
		a, ErrForeign, e.addr, e.bits, dev, e.addr, e.bits, dev)
}
