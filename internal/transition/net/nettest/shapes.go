package nettest

import (
	"encoding/json"
	"fmt"

	"holdfast/internal/transition/net"
)

// Shapes makes the document of a platform that has one of each shape beside those of Platform: what networks, subnets, ports and
// rules refer to, who may use what, addresses that Neutron makes by itself, and ports that it can not bind.
func Shapes() *net.Document {
	d := Platform(4, 2)
	d.Agents = append(d.Agents, net.Agent{ID: id(1, 7), AgentType: "DHCP agent", Binary: "neutron-dhcp-agent",
		Topic: "dhcp_agent", Host: "net01", AdminStateUp: true, Configurations: json.RawMessage("{}")})
	d.AddressScopes = []net.AddressScope{{ID: id(8, 1), ProjectID: project(0), Name: "inside", IPVersion: 4}}
	d.SubnetPools = []net.SubnetPool{
		{ID: id(8, 2), ProjectID: project(0), Name: "offices", Description: "of the offices", IPVersion: 4,
			Prefixes: []string{"10.64.0.0/12", "10.96.0.0/13"}, MinLength: 16, MaxLength: 28, DefaultLength: 24,
			DefaultQuota: ptr(4000), AddressScopeID: ptr(id(8, 1)), IsDefault: true, Tags: []string{"blue", "green"}},
		{ID: id(8, 3), ProjectID: project(1), Name: "v6", IPVersion: 6, Prefixes: []string{"fd00:64::/32"},
			MinLength: 64, MaxLength: 128, DefaultLength: 64},
	}
	d.AddressGroups = []net.AddressGroup{{ID: id(8, 4), ProjectID: project(0), Name: "partners",
		Description: "who may come in", Addresses: []string{"192.0.2.0/25", "198.51.100.7/32"}}}
	d.QoSPolicies = []net.QoSPolicy{
		{ID: id(8, 5), ProjectID: project(0), Name: "slow", Description: "for all", IsDefault: true, Tags: []string{"blue"}, Rules: []net.QoSRule{
			{ID: id(8, 51), Type: net.BandwidthLimit, MaxKbps: ptr(1000), MaxBurstKbps: ptr(800), Direction: ptr("egress")},
			{ID: id(8, 52), Type: net.BandwidthLimit, MaxKbps: ptr(2000), MaxBurstKbps: ptr(0), Direction: ptr("ingress")},
			{ID: id(8, 53), Type: net.DSCPMarking, DSCPMark: ptr(26)},
		}},
		{ID: id(8, 6), ProjectID: project(1), Name: "fast", Rules: []net.QoSRule{
			{ID: id(8, 61), Type: net.MinimumBandwidth, MinKbps: ptr(3000), Direction: ptr("egress")},
			{ID: id(8, 62), Type: net.PacketRateLimit, MaxKpps: ptr(40), MaxBurstKpps: ptr(4), Direction: ptr("egress")},
			{ID: id(8, 63), Type: net.MinimumPacketRate, MinKpps: ptr(5), Direction: ptr("any")},
		}},
		{ID: id(8, 7), ProjectID: project(1), Name: "marked", Rules: []net.QoSRule{{ID: id(8, 71), Type: net.DSCPMarking, DSCPMark: ptr(10)}}},
	}
	partners := net.Rule{ID: id(3, 950), ProjectID: project(0), SecurityGroupID: id(2, 10), Direction: "ingress",
		EtherType: "IPv4", RemoteAddressGroupID: ptr(id(8, 4))}
	leaves := net.Rule{ID: id(3, 951), ProjectID: project(0), SecurityGroupID: id(2, 10), Direction: "egress",
		EtherType: "IPv4", RemoteAddressGroupID: ptr(id(8, 4))}
	d.SecurityGroupRules = append(d.SecurityGroupRules, partners, leaves)
	d.SecurityGroups[0].Tags = []string{"default one"}
	n := d.Networks
	n[0].Tags, n[0].DNSDomain = []string{"a", "b c"}, "guests.example.org."
	n[1].QoSPolicyID = ptr(id(8, 7))
	external := net.Network{ID: id(4, 50), ProjectID: project(0), Name: "outside", AdminStateUp: true, External: true,
		IsDefault: true, PortSecurity: true, MTU: 1500,
		Segments: []net.Segment{{NetworkType: "flat", PhysicalNetwork: "physnet1"}}}
	all := net.Network{ID: id(4, 51), ProjectID: project(1), Name: "for all", AdminStateUp: true, External: true,
		Shared: true, PortSecurity: true, MTU: 1450,
		Segments: []net.Segment{{NetworkType: "vxlan", SegmentationID: ptr(7050)}}}
	racks := net.Network{ID: id(4, 52), ProjectID: project(0), Name: "racks", AdminStateUp: true, PortSecurity: true, MTU: 1500,
		Segments: []net.Segment{{NetworkType: "vlan", PhysicalNetwork: "physnet1", SegmentationID: ptr(252)}}}
	d.Networks = append(d.Networks, external, all, racks)
	d.RBACPolicies = []net.RBACPolicy{
		rbac(1, 0, "network", id(4, 50), net.AsExternal, project(1)), // of one project, where Neutron lets all use it
		rbac(2, 1, "network", id(4, 51), net.AsExternal, net.Everybody),
		rbac(3, 0, "network", id(4, 51), net.AsShared, net.Everybody), // an administrator's
		rbac(4, 0, "network", id(4, 0), net.AsShared, project(1)),     // of one project
		rbac(5, 0, "address_scope", id(8, 1), net.AsShared, net.Everybody),
		rbac(6, 0, "subnetpool", id(8, 2), net.AsShared, net.Everybody),
		rbac(7, 0, "address_group", id(8, 4), net.AsShared, project(1)),
		rbac(8, 1, "qos_policy", id(8, 7), net.AsShared, net.Everybody),
		rbac(9, 0, "security_group", id(2, 10), net.AsShared, project(1)),
	}
	shapedSubnets(d)
	shapedPorts(d)
	shapedRouter(d)
	d.Normalize()
	return d
}

func rbac(n, of int, kind, object, action, target string) net.RBACPolicy {
	return net.RBACPolicy{ID: id(9, n), ProjectID: project(of), ObjectType: kind, ObjectID: object, Action: action, Target: target}
}

func shapedSubnets(d *net.Document) {
	add := func(n, of, network int, cidr string, change func(s *net.Subnet)) {
		s := net.Subnet{ID: id(5, n), ProjectID: project(of), NetworkID: id(4, network), Name: fmt.Sprint("shape ", n), IPVersion: 4, CIDR: cidr}
		change(&s)
		d.Subnets = append(d.Subnets, s)
	}
	add(60, 0, 52, "10.65.1.0/24", func(s *net.Subnet) {
		s.SubnetPoolID, s.ServiceTypes, s.Tags, s.GatewayIP = ptr(id(8, 2)),
			[]string{"compute:nova", "network:floatingip"}, []string{"served"}, ptr("10.65.1.1")
		s.Pools, s.EnableDHCP = []net.Pool{{Start: "10.65.1.2", End: "10.65.1.99"}}, true
	})
	add(61, 0, 2, "fd00:2::/64", func(s *net.Subnet) {
		s.IPVersion, s.RAMode, s.AddressMode, s.GatewayIP, s.EnableDHCP = 6, ptr("slaac"), ptr("slaac"), ptr("fd00:2::1"), true
		s.Pools = []net.Pool{{Start: "fd00:2::2", End: "fd00:2::ffff:ffff:ffff:ffff"}}
	})
	add(62, 0, 2, "fd00:3::/64", func(s *net.Subnet) {
		s.IPVersion, s.RAMode, s.AddressMode, s.GatewayIP, s.EnableDHCP = 6, ptr("dhcpv6-stateless"),
			ptr("dhcpv6-stateless"), ptr("fd00:3::1"), true
		s.Pools = []net.Pool{{Start: "fd00:3::2", End: "fd00:3::ffff:ffff:ffff:ffff"}}
	})
	add(63, 1, 3, "fd00:64:1::/64", func(s *net.Subnet) {
		s.SubnetPoolID, s.IPVersion, s.RAMode, s.AddressMode, s.EnableDHCP = ptr(id(8, 3)), 6, ptr("dhcpv6-stateful"),
			ptr("dhcpv6-stateful"), true
		s.Pools = []net.Pool{{Start: "fd00:64:1::2", End: "fd00:64:1::ffff"}}
	})
}

// shapedRouter has a router join two networks to the outside, with a floating IP for the port 0, and one for none.
func shapedRouter(d *net.Document) {
	at := func(n int) string { return fmt.Sprint("203.0.113.", n) }
	d.Subnets = append(d.Subnets, net.Subnet{ID: id(5, 64), ProjectID: project(1), NetworkID: id(4, 51),
		Name: "outside", IPVersion: 4, CIDR: at(0) + "/24", GatewayIP: ptr(at(1)),
		Pools: []net.Pool{{Start: at(2), End: at(99)}}})
	add := func(n, network, subnet int, owner, device, project, address string) {
		d.Ports = append(d.Ports, net.Port{ID: id(6, n), ProjectID: project, NetworkID: id(4, network),
			AdminStateUp: true, MACAddress: fmt.Sprintf("fa:16:3e:bb:00:%02x", n%256),
			FixedIPs: []net.FixedIP{{SubnetID: id(5, subnet), IPAddress: address}}, DeviceID: device,
			DeviceOwner: owner, VNICType: "normal", VIFType: "unbound", Profile: json.RawMessage("{}")})
	}
	router := id(8, 9)
	add(1020, 51, 64, net.GatewayOwner, router, "", at(10))
	add(1021, 0, 0, net.InterfaceOf, router, project(0), "10.0.0.1")
	add(1022, 1, 1, net.InterfaceOf, router, project(0), "10.0.1.1")
	add(1023, 51, 64, net.FloatingOwner, id(8, 10), "", at(20))
	add(1024, 51, 64, net.FloatingOwner, id(8, 11), "", at(21))
	d.Routers = []net.Router{{ID: router, ProjectID: project(0), Name: "way out", Description: "of two networks",
		AdminStateUp: true, GatewayPort: ptr(id(6, 1020)), Tags: []string{"r"},
		Routes: []net.Route{{Destination: "192.0.2.128/25", NextHop: "10.0.0.99"}}}}
	d.FloatingIPs = []net.FloatingIP{
		{ID: id(8, 10), ProjectID: project(0), Description: "of the port 0", Address: at(20), NetworkID: id(4, 51),
			RouterID: &router, PortID: ptr(id(6, 0)), FixedIP: ptr("10.0.0.10"), Tags: []string{"f"}},
		{ID: id(8, 11), ProjectID: project(1), Address: at(21), NetworkID: id(4, 51)},
	}
}

func shapedPorts(d *net.Document) {
	add := func(n, network int, change func(p *net.Port), ips ...net.FixedIP) {
		p := port(1000+n, network, 0)
		p.ProjectID = project(network)
		p.DeviceOwner, p.Groups, p.PortSecurity, p.DeviceID, p.AllowedPairs, p.HostID, p.VIFType = "compute:nova",
			[]string{id(2, 10+network%2)}, true, id(7, 1000+n), nil, "cmp00", "ovs"
		p.MACAddress, p.FixedIPs, p.AdminStateUp = fmt.Sprintf("fa:16:3e:aa:00:%02x", n), ips, true
		change(&p)
		d.Ports = append(d.Ports, p)
	}
	at := func(subnet int, address string) net.FixedIP {
		return net.FixedIP{SubnetID: id(5, subnet), IPAddress: address}
	}
	v6 := func(n int) []net.FixedIP { // what Neutron makes of the MAC address
		return []net.FixedIP{at(61, fmt.Sprintf("fd00:2::f816:3eff:feaa:%x", n)), at(62, fmt.Sprintf("fd00:3::f816:3eff:feaa:%x", n))}
	}
	same := func(*net.Port) {}
	add(1, 2, same, append(v6(1), at(2, "10.0.2.21"))...)
	add(2, 2, func(p *net.Port) { p.Name = "only by itself" }, v6(2)...)
	add(3, 2, func(p *net.Port) {
		p.DeviceOwner, p.Groups, p.PortSecurity, p.DeviceID, p.HostID = "network:dhcp", nil, false, "dhcp"+id(7, 3)+"-"+id(4, 2), "net01"
	}, append(v6(3), at(2, "10.0.2.23"))...)
	add(4, 2, func(p *net.Port) {
		p.DeviceOwner, p.Groups, p.PortSecurity, p.DeviceID = "network:router_interface", nil, false, id(7, 4)
	}, at(61, "fd00:2::1"))
	add(5, 52, func(p *net.Port) {
		p.DHCPOptions = []net.DHCPOption{{Name: "bootfile-name", Value: "pxelinux.0", IPVersion: 4},
			{Name: "tftp-server", Value: "192.0.2.9", IPVersion: 4}, {Name: "bootfile-name", Value: "http://[fd00::9]/boot", IPVersion: 6}}
		p.Tags, p.DNSName, p.DNSDomain, p.QoSPolicyID = []string{"pxe", "x=1"}, "node1", "racks.example.org.", ptr(id(8, 6))
	}, at(60, "10.65.1.15"))
	add(6, 0, func(p *net.Port) { p.Name = "parent" }, at(0, "10.0.0.31"))
	for _, n := range []int{7, 8} { // an agent gives them the host of the parent
		add(n, 1, func(p *net.Port) { p.DeviceOwner, p.DeviceID = "trunk:subport", "" }, at(1, fmt.Sprintf("10.0.1.%d", 30+n)))
	}
	add(9, 1, func(p *net.Port) { p.HostID, p.VIFType = "gone99", "binding_failed" }, at(1, "10.0.1.39"))
	add(10, 1, func(p *net.Port) {
		p.HostID, p.VNICType, p.VIFType, p.DeviceOwner = "cmp01", "baremetal", "other", "baremetal:none"
		p.Profile = json.RawMessage(`{"local_link_information":[{"port_id":"Eth1","switch_id":"00:11:22:33:44:55","switch_info":"rack1"}]}`)
	}, at(1, "10.0.1.40"))
	d.Trunks = []net.Trunk{{ID: id(8, 8), ProjectID: project(0), Name: "many", Description: "of VLANs",
		AdminStateUp: true, PortID: id(6, 1006), Tags: []string{"t"},
		SubPorts: []net.SubPort{{PortID: id(6, 1007), SegmentationType: "vlan", SegmentationID: 101},
			{PortID: id(6, 1008), SegmentationType: "vlan", SegmentationID: 4094}}}}
}
