package net

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// segmentTypes are those of Neutron's ML2 plug-in; those with a number, and what it may be
// (IEEE 802.1Q, RFC 7348, RFC 2890).
var segmentTypes = map[string][2]int{"local": {}, "flat": {}, "vlan": {1, 4094}, "vxlan": {1, 1<<24 - 1},
	"geneve": {1, 1<<24 - 1}, "gre": {1, 1<<32 - 1}}

// Check says all that is wrong with a document which stood in a file of a name. The error
// is of type *Faults.
func (d *Document) Check(file string) error {
	c := &checker{file: file, d: d, seen: map[string]string{}, groups: map[string]Group{},
		networks: map[string]Network{}, subnets: map[string]Subnet{}, ranges: map[string]netip.Prefix{}}
	c.agents()
	c.securityGroups()
	c.allNetworks()
	c.allSubnets()
	c.ports()
	c.shared()
	c.routers()
	c.leftOut()
	if len(c.lines) > 0 {
		return &Faults{c.lines}
	}
	return nil
}

type checker struct {
	file     string
	d        *Document
	lines    []string
	seen     map[string]string // kind of an ID
	groups   map[string]Group
	networks map[string]Network
	subnets  map[string]Subnet
	ranges   map[string]netip.Prefix // of subnets
}

func (c *checker) fault(kind, id, field, value, want string) {
	c.lines = append(c.lines, fmt.Sprintf("%s: %s %s: %s: value %q: %s", c.file, kind, id, field, value, want))
}

// id looks at an ID: Neutron's are UUIDs, and no two objects have one.
func (c *checker) id(kind, id string) {
	if !isUUID(id) {
		c.fault(kind, id, "id", id, "want a UUID in small letters, such as 30000000-0000-4000-8000-000000000001")
	}
	if before := c.seen[id]; before != "" {
		c.fault(kind, id, "id", id, "want an id that no other object has; a "+before+" has it")
	}
	c.seen[id] = kind
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, r := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (r == '-') || !dash && !strings.ContainsRune("0123456789abcdef", r) {
			return false
		}
	}
	return true
}

func (c *checker) agents() {
	kinds := map[string]string{}
	for _, a := range c.d.Agents {
		c.id("agent", a.ID)
		for _, f := range [][2]string{{"host", a.Host}, {"agent_type", a.AgentType}, {"binary", a.Binary}} {
			if f[1] == "" {
				c.fault("agent", a.ID, f[0], "", "want a name")
			}
		}
		key := a.AgentType + " on " + a.Host
		if before := kinds[key]; before != "" {
			c.fault("agent", a.ID, "host", a.Host, "want one agent of a type on a host; "+before+" is one, too")
		}
		kinds[key] = a.ID
		if !strings.HasPrefix(string(a.Configurations), "{") {
			c.fault("agent", a.ID, "configurations", string(a.Configurations), "want a JSON object")
		}
	}
}

func (c *checker) securityGroups() {
	defaults := map[string]string{}
	for _, g := range c.d.SecurityGroups {
		c.id("security_group", g.ID)
		c.groups[g.ID] = g
		if g.Name != Default {
			continue
		}
		if before := defaults[g.ProjectID]; before != "" {
			c.fault("security_group", g.ID, "name", g.Name, "want one group of this name in a project; "+before+" is one, too")
		}
		defaults[g.ProjectID] = g.ID
	}
	for _, r := range c.d.SecurityGroupRules {
		c.id("security_group_rule", r.ID)
		c.group("security_group_rule", r.ID, "security_group_id", r.SecurityGroupID)
		if r.RemoteGroupID != nil {
			c.group("security_group_rule", r.ID, "remote_group_id", *r.RemoteGroupID)
		}
		if r.Direction != "ingress" && r.Direction != "egress" {
			c.fault("security_group_rule", r.ID, "direction", r.Direction, "want ingress or egress")
		}
		if r.EtherType != "IPv4" && r.EtherType != "IPv6" {
			c.fault("security_group_rule", r.ID, "ethertype", r.EtherType, "want IPv4 or IPv6")
		}
	}
	for _, p := range c.projects() {
		if defaults[p] == "" {
			c.lines = append(c.lines, fmt.Sprintf("%s: project %s: security_groups: value \"\": want the project's "+
				"group of the name %q, as Neutron would make one with another id", c.file, p, Default))
		}
	}
}

// projects are those for which Neutron makes a default group.
func (c *checker) projects() (out []string) {
	for _, n := range c.d.Networks {
		out = append(out, n.ProjectID)
	}
	for _, p := range c.d.Ports {
		out = append(out, p.ProjectID)
	}
	for _, g := range c.d.SecurityGroups {
		out = append(out, g.ProjectID)
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(p string) bool { return p == "" })
}

func (c *checker) group(kind, id, field, value string) {
	if _, ok := c.groups[value]; !ok {
		c.fault(kind, id, field, value, "want the id of a security group of this document")
	}
}

func (c *checker) network(kind, id, value string) {
	if _, ok := c.networks[value]; !ok {
		c.fault(kind, id, "network_id", value, "want the id of a network of this document")
	}
}

func (c *checker) allNetworks() {
	used := map[string]string{}
	for _, n := range c.d.Networks {
		c.id("network", n.ID)
		c.networks[n.ID] = n
		if len(n.Segments) == 0 {
			c.fault("network", n.ID, "segments", "", "want at least one segment")
		}
		for _, s := range n.Segments {
			c.segment(n.ID, s, used)
		}
	}
}

func (c *checker) segment(id string, s Segment, used map[string]string) {
	limits, known := segmentTypes[s.NetworkType]
	if !known {
		c.fault("network", id, "provider:network_type", s.NetworkType, "want local, flat, vlan, vxlan, geneve or gre")
		return
	}
	physical := s.NetworkType == "flat" || s.NetworkType == "vlan"
	if physical != (s.PhysicalNetwork != "") {
		c.fault("network", id, "provider:physical_network", s.PhysicalNetwork, "want a name for flat and vlan, and none for other types")
	}
	numbered := limits[1] > 0
	switch {
	case numbered != (s.SegmentationID != nil):
		c.fault("network", id, "provider:segmentation_id", s.String(), "want a number for vlan, vxlan, geneve and gre, and none for other types")
	case numbered && (*s.SegmentationID < limits[0] || *s.SegmentationID > limits[1]):
		c.fault("network", id, "provider:segmentation_id", fmt.Sprint(*s.SegmentationID), fmt.Sprintf("want %d to %d", limits[0], limits[1]))
	}
	if s.NetworkType == "local" {
		return
	}
	if before := used[s.String()]; before != "" {
		c.fault("network", id, "segments", s.String(), "want a segment that no other network has; "+before+" has it")
	}
	used[s.String()] = id
}

func (c *checker) allSubnets() {
	of := map[string][]Subnet{}
	for _, s := range c.d.Subnets {
		c.id("subnet", s.ID)
		c.network("subnet", s.ID, s.NetworkID)
		c.subnets[s.ID] = s
		prefix, err := netip.ParsePrefix(s.CIDR)
		if err != nil || prefix != prefix.Masked() {
			c.fault("subnet", s.ID, "cidr", s.CIDR, "want a range of addresses, such as 10.0.0.0/24")
			continue
		}
		if want := 6 - 2*b2i(prefix.Addr().Is4()); s.IPVersion != want {
			c.fault("subnet", s.ID, "ip_version", fmt.Sprint(s.IPVersion), fmt.Sprintf("want %d, as the cidr has it", want))
		}
		c.ranges[s.ID] = prefix
		for _, other := range of[s.NetworkID] {
			if c.ranges[other.ID].Overlaps(prefix) {
				c.fault("subnet", s.ID, "cidr", s.CIDR,
					fmt.Sprintf("want a range that no other subnet of the network has; subnet %s has %s", other.ID, other.CIDR))
			}
		}
		of[s.NetworkID] = append(of[s.NetworkID], s)
		for _, p := range s.Pools {
			c.inside("subnet", s.ID, "allocation_pools", s.ID, p.Start)
			c.inside("subnet", s.ID, "allocation_pools", s.ID, p.End)
		}
		for _, dns := range s.DNSNameservers {
			if _, err := netip.ParseAddr(dns); err != nil {
				c.fault("subnet", s.ID, "dns_nameservers", dns, "want an IP address")
			}
		}
		if s.GatewayIP != nil {
			if _, err := netip.ParseAddr(*s.GatewayIP); err != nil {
				c.fault("subnet", s.ID, "gateway_ip", *s.GatewayIP, "want an IP address, or null")
			}
		}
		for _, r := range s.HostRoutes {
			_, err1 := netip.ParsePrefix(r.Destination)
			_, err2 := netip.ParseAddr(r.NextHop)
			if err1 != nil || err2 != nil {
				c.fault("subnet", s.ID, "host_routes", r.Destination+" via "+r.NextHop, "want a range of addresses and an IP address")
			}
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// inside looks whether an address is in the range of a subnet.
func (c *checker) inside(kind, id, field, subnet, address string) {
	a, err := netip.ParseAddr(address)
	prefix, known := c.ranges[subnet]
	switch {
	case err != nil:
		c.fault(kind, id, field, address, "want an IP address")
	case known && !prefix.Contains(a):
		c.fault(kind, id, field, address, fmt.Sprintf("want an address in %s, the cidr of subnet %s", prefix, subnet))
	}
}

func (c *checker) ports() {
	macs, ips := map[string]string{}, map[string]string{}
	for _, p := range c.d.Ports {
		c.id("port", p.ID)
		c.network("port", p.ID, p.NetworkID)
		if !isMAC(p.MACAddress) {
			c.fault("port", p.ID, "mac_address", p.MACAddress, "want six bytes, such as fa:16:3e:00:00:01")
		}
		if before := macs[p.NetworkID+p.MACAddress]; before != "" {
			c.fault("port", p.ID, "mac_address", p.MACAddress, "want one that no other port of the network has; port "+before+" has it")
		}
		macs[p.NetworkID+p.MACAddress] = p.ID
		for _, ip := range p.FixedIPs {
			c.fixedIP(p, ip, ips)
		}
		for _, g := range p.Groups {
			c.group("port", p.ID, "security_groups", g)
		}
		if !strings.HasPrefix(string(p.Profile), "{") {
			c.fault("port", p.ID, "binding:profile", string(p.Profile), "want a JSON object")
		}
	}
}

func (c *checker) fixedIP(p Port, ip FixedIP, ips map[string]string) {
	s, ok := c.subnets[ip.SubnetID]
	switch {
	case !ok:
		c.fault("port", p.ID, "fixed_ips", ip.SubnetID, "want the id of a subnet of this document")
	case s.NetworkID != p.NetworkID:
		c.fault("port", p.ID, "fixed_ips", ip.SubnetID, "want a subnet of the port's network "+p.NetworkID)
	}
	c.inside("port", p.ID, "fixed_ips", ip.SubnetID, ip.IPAddress)
	if want := derived(s, p); Automatic(s, p) && want != "" && ip.IPAddress != want {
		c.fault("port", p.ID, "fixed_ips", ip.IPAddress,
			fmt.Sprintf("want %s: on subnet %s Neutron makes the address of the MAC address", want, s.ID))
	}
	key := ip.SubnetID + " " + ip.IPAddress
	if before := ips[key]; before != "" {
		c.fault("port", p.ID, "fixed_ips", ip.IPAddress, "want an address that no other port has; port "+before+" has it")
	}
	ips[key] = p.ID
}

func isMAC(s string) bool {
	if len(s) != 17 {
		return false
	}
	for i, r := range s {
		colon := i%3 == 2
		if colon != (r == ':') || !colon && !strings.ContainsRune("0123456789abcdef", r) {
			return false
		}
	}
	return true
}
