package net

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
)

// interfaces are the owners of ports of routers whose addresses are chosen on any subnet (ROUTER_INTERFACE_OWNERS of
// neutron_lib/constants.py).
var interfaces = []string{"network:router_interface", "network:ha_router_replicated_interface", "network:router_interface_distributed"}

// Automatic reports whether Neutron makes a port's address on a subnet by itself, of the port's MAC address, and takes none:
// of SLAAC and dhcpv6-stateless (is_auto_address_subnet of neutron/common/ipv6_utils.py), for ports that are no routers'.
func Automatic(s Subnet, p Port) bool {
	auto := func(mode *string) bool { return mode != nil && (*mode == "slaac" || *mode == "dhcpv6-stateless") }
	return (auto(s.AddressMode) || auto(s.RAMode)) && !slices.Contains(interfaces, p.DeviceOwner)
}

// derived is the address that is made of a port's MAC address on a subnet (modified EUI-64, RFC 4291, appendix A). "" where
// the subnet has no room for one.
func derived(s Subnet, p Port) string {
	prefix, err := netip.ParsePrefix(s.CIDR)
	if err != nil || prefix.Bits() > 64 || prefix.Addr().Is4() || !isMAC(p.MACAddress) {
		return ""
	}
	a := prefix.Addr().As16()
	mac, err := hex.DecodeString(strings.ReplaceAll(p.MACAddress, ":", ""))
	if err != nil {
		return ""
	}
	copy(a[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(a).String()
}

// Requested are the addresses of a port as Neutron takes them: those that it makes by itself have none.
func (d *Document) Requested() func(Port) Port {
	subnets := d.subnets()
	return func(p Port) Port {
		p.FixedIPs = slices.Clone(p.FixedIPs)
		for i, ip := range p.FixedIPs {
			if Automatic(subnets[ip.SubnetID], p) {
				p.FixedIPs[i].IPAddress = ""
			}
		}
		return p
	}
}

func (d *Document) subnets() map[string]Subnet {
	of := map[string]Subnet{}
	for _, s := range d.Subnets {
		of[s.ID] = s
	}
	return of
}

// AddressesField is the field of a port that has FixedIPs.
const AddressesField = "fixed_ips"

// extraAddresses recognizes a difference of a port that has, beside the document's addresses, such as Neutron makes by itself
// on further subnets of the network.
func (d *Document) extraAddresses() func(Difference) bool {
	subnets, ports := d.subnets(), map[string]Port{}
	for _, p := range d.Ports {
		ports[p.ID] = p
	}
	return func(x Difference) bool {
		var old, is []FixedIP
		if x.Kind != "port" || x.Field != AddressesField || json.Unmarshal(x.Old, &old) != nil || json.Unmarshal(x.New, &is) != nil {
			return false
		}
		more := slices.DeleteFunc(slices.Clone(is), func(ip FixedIP) bool {
			return slices.Contains(old, ip) || Automatic(subnets[ip.SubnetID], ports[x.ID])
		})
		lost := slices.ContainsFunc(old, func(ip FixedIP) bool { return !slices.Contains(is, ip) })
		return len(more) == 0 && !lost
	}
}

// ExtraAddresses reports whether a difference is of that kind: Neutron would make them again.
func ExtraAddresses(x Difference) bool {
	return x.Kind == "port" && x.Field == AddressesField && x.Severity == Warning
}

// unbinding are the programs of agents that bind no ports.
var unbinding = []string{dhcpBinary, "neutron-l3-agent", "neutron-metadata-agent", "neutron-metering-agent"}

// Unbindable are the ports with a host that the new platform could not bind there: no agent of the host binds ports, or the
// host is a machine without a hypervisor. They are made without a host.
func (d *Document) Unbindable() (out []Port) {
	binds := map[string]bool{}
	for _, a := range d.Agents {
		if !slices.Contains(unbinding, a.Binary) {
			binds[a.Host] = true
		}
	}
	for _, p := range d.Ports {
		if p.HostID != "" && (!binds[p.HostID] || p.VNICType == "baremetal") {
			out = append(out, p)
		}
	}
	return out
}

// WithoutHosts is a document whose unbindable ports are as they become on a platform: without a host, or bound to theirs by
// whoever can do that there.
func (d *Document) WithoutHosts(is *Document) *Document {
	loose := map[string]bool{}
	for _, p := range d.Unbindable() {
		loose[p.ID] = true
	}
	if len(loose) == 0 {
		return d
	}
	there := map[string]Port{}
	for _, p := range is.Ports {
		there[p.ID] = p
	}
	out := *d
	out.Ports = slices.Clone(d.Ports)
	for i, p := range out.Ports {
		switch at := there[p.ID]; {
		case !loose[p.ID]:
		case at.HostID == p.HostID: // its driver has bound it
			out.Ports[i].VIFType, out.Ports[i].VIFDetails = at.VIFType, at.VIFDetails
		default:
			out.Ports[i].HostID, out.Ports[i].VIFType, out.Ports[i].VIFDetails = "", unbound, VIFDetails{}
		}
	}
	return &out
}
