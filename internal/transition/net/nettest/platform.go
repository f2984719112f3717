package nettest

import (
	"encoding/json"
	"fmt"

	"holdfast/internal/transition/net"
	"holdfast/testbed/ovstest"
)

// Platform makes the document of a platform with networks and ports, the ports spread over
// the networks: two projects, two hosts with an Open vSwitch agent, VLAN and VXLAN, allowed
// pairs, ports without security, of DHCP and without a host.
func Platform(networks, ports int) *net.Document {
	d := &net.Document{Version: net.Version}
	for i := range 2 {
		d.Agents = append(d.Agents, agent(i))
		d.SecurityGroups = append(d.SecurityGroups,
			net.Group{ID: id(2, i), ProjectID: project(i), Name: net.Default, Description: "Default security group", Stateful: true},
			net.Group{ID: id(2, 10+i), ProjectID: project(i), Name: "web", Description: "of the shop", Stateful: true})
		d.SecurityGroupRules = append(d.SecurityGroupRules, rules(i)...)
	}
	for i := range networks {
		d.Networks = append(d.Networks, network(i))
		d.Subnets = append(d.Subnets, subnet(i))
	}
	for i := range ports {
		d.Ports = append(d.Ports, port(i, i%networks, i/networks))
	}
	d.Normalize()
	return d
}

// id is the ID of an object of a kind.
func id(kind, n int) string { return fmt.Sprintf("%d0000000-0000-4000-8000-%012d", kind, n) }

func project(i int) string { return fmt.Sprintf("%032d", 5+i%2) }

func host(i int) string { return fmt.Sprintf("cmp%02d", i%2) }

func ptr[T any](v T) *T { return &v }

func agent(i int) net.Agent {
	text := fmt.Sprintf(`{"bridge_mappings":{"physnet1":"br-ex"},"tunnel_types":["vxlan"],"tunneling_ip":"10.9.0.%d","devices":0,"l2_population":false,"datapath_type":"system",`+
		`"ovs_hybrid_plug":false,"ovs_capabilities":{"datapath_types":["system"],"iface_types":["tap"]},"vhostuser_socket_dir":"/var/run/openvswitch","in_distributed_mode":false,"integration_bridge":"br-int"}`, i+1)
	return net.Agent{ID: id(1, i), AgentType: "Open vSwitch agent", Binary: "neutron-openvswitch-agent", Topic: "N/A",
		Host: host(i), AdminStateUp: true, Configurations: json.RawMessage(text)}
}

func rules(i int) []net.Rule {
	rule := func(n, group int, direction, kind string) net.Rule {
		return net.Rule{ID: id(3, 100*i+n), ProjectID: project(i), SecurityGroupID: id(2, group), Direction: direction, EtherType: kind}
	}
	in, web, peer := rule(0, i, "ingress", "IPv4"), rule(3, 10+i, "ingress", "IPv4"), rule(4, 10+i, "ingress", "IPv6")
	in.RemoteGroupID = ptr(id(2, i))
	web.Protocol, web.PortRangeMin, web.PortRangeMax, web.RemoteIPPrefix, web.Description = ptr("tcp"), ptr(80),
		ptr(443), ptr("10.0.0.0/8"), "what is sold"
	peer.RemoteGroupID = ptr(id(2, i))
	return []net.Rule{in, rule(1, i, "egress", "IPv4"), rule(2, i, "egress", "IPv6"), web, peer, rule(5, 10+i, "egress", "IPv4")}
}

func network(i int) net.Network {
	n := net.Network{ID: id(4, i), ProjectID: project(i), Name: fmt.Sprintf("net %d", i), AdminStateUp: true, PortSecurity: true, MTU: 1500}
	n.Segments = []net.Segment{{NetworkType: "vlan", PhysicalNetwork: "physnet1", SegmentationID: ptr(200 + i)}}
	if i%5 == 4 {
		n.MTU, n.Segments = 1450, []net.Segment{{NetworkType: "vxlan", SegmentationID: ptr(7000 + i)}}
	}
	if i%10 == 9 {
		n.Shared, n.Description = true, "for all"
	}
	return n
}

func subnet(i int) net.Subnet {
	at := func(n int) string { return fmt.Sprintf("10.%d.%d.%d", i/256, i%256, n) }
	s := net.Subnet{ID: id(5, i), ProjectID: project(i), NetworkID: id(4, i), Name: fmt.Sprint("subnet ", i),
		IPVersion: 4, CIDR: at(0) + "/24", EnableDHCP: i%3 != 0,
		DNSNameservers: []string{"192.0.2.53", "192.0.2.1"}, Pools: []net.Pool{{Start: at(2), End: at(199)}}}
	if i%4 != 3 {
		s.GatewayIP = ptr(at(1))
		s.HostRoutes = []net.Route{{Destination: "198.51.100.0/24", NextHop: at(1)}}
	}
	return s
}

func port(i, of, n int) net.Port {
	p := net.Port{ID: id(6, i), ProjectID: project(of), NetworkID: id(4, of), Name: fmt.Sprintf("port %d", i), AdminStateUp: i%17 != 16,
		MACAddress: fmt.Sprintf("fa:16:3e:%02x:%02x:%02x", i>>16&255, i>>8&255, i&255),
		FixedIPs:   []net.FixedIP{{SubnetID: id(5, of), IPAddress: fmt.Sprintf("10.%d.%d.%d", of/256, of%256, 10+n)}},
		DeviceID:   id(7, i), DeviceOwner: "compute:nova", Groups: []string{id(2, 10+of%2)}, PortSecurity: true,
		HostID: host(i), VNICType: "normal", VIFType: "ovs", Profile: json.RawMessage("{}")}
	switch {
	case n == 0 && i%3 == 1: // as the DHCP agent makes them: never with port security
		p.DeviceOwner, p.Groups, p.PortSecurity, p.DeviceID = "network:dhcp", nil, false, "dhcp"+id(7, i)+"-"+id(4, of)
	case i%7 == 3:
		p.AllowedPairs = []net.Pair{{IPAddress: "10.200.0.0/16", MACAddress: p.MACAddress},
			{IPAddress: "192.0.2.77", MACAddress: "fa:16:3f:00:00:01"}}
	case i%11 == 5:
		p.Groups, p.PortSecurity = nil, false
	case i%13 == 6:
		p.HostID, p.VIFType, p.DeviceID, p.DeviceOwner, p.Groups = "", "unbound", "", "", []string{id(2, of%2)}
	}
	return p
}

// Guests makes the document of a platform with one network, whose ports are of guests on the host cmp00: n of them, with
// the addresses that ovstest gives to the hosts on ports 1 to n of a switch. Who is in the group "web" may reach all others.
func Guests(n int) *net.Document {
	d := Platform(1, 0)
	d.Agents = d.Agents[:1]
	d.SecurityGroupRules = append(d.SecurityGroupRules, peers(0))
	small(d, 0)
	for i := 1; i <= n; i++ {
		d.Ports = append(d.Ports, guest(i, 0, host(0)))
	}
	d.Normalize()
	return d
}

// Tenants makes the document of a platform with two projects, of which each has a network of VXLAN, both with the same addresses,
// and a guest on each of the hosts cmp00 and cmp01: ports 1 and 2 are the first project's, 3 and 4 the second's, with the addresses
// that ovstest gives to hosts of these numbers. Guests of a project may reach each other.
func Tenants() *net.Document {
	d := Platform(2, 0)
	for i := range d.Networks {
		d.Networks[i].MTU, d.Networks[i].Segments = 1450, []net.Segment{{NetworkType: "vxlan", SegmentationID: ptr(7000 + i)}}
		d.SecurityGroupRules = append(d.SecurityGroupRules, peers(i))
		small(d, i)
		for j := range 2 {
			d.Ports = append(d.Ports, guest(1+2*i+j, i, host(j)))
		}
	}
	d.Normalize()
	return d
}

// peers lets in who is in the group "web" of a project, too.
func peers(of int) net.Rule {
	return net.Rule{ID: id(3, 900+of), ProjectID: project(of), SecurityGroupID: id(2, 10+of), Direction: "ingress",
		EtherType: "IPv4", RemoteGroupID: ptr(id(2, 10+of))}
}

// small gives a subnet the addresses of ovstest.
func small(d *net.Document, i int) {
	s := &d.Subnets[i]
	s.CIDR, s.GatewayIP, s.HostRoutes = "10.9.0.0/24", ptr("10.9.0.254"), nil
	s.Pools = []net.Pool{{Start: "10.9.0.1", End: "10.9.0.199"}}
}

// guest is the port of a guest with a number, on a network.
func guest(i, of int, host string) net.Port {
	return net.Port{ID: fmt.Sprintf("6%07x-0000-4000-8000-%012d", i, i), ProjectID: project(of), NetworkID: id(4, of),
		Name: fmt.Sprint("guest ", i), AdminStateUp: true,
		MACAddress: ovstest.MAC(i), FixedIPs: []net.FixedIP{{SubnetID: id(5, of), IPAddress: ovstest.Addr(i).String()}},
		DeviceID: id(7, i), DeviceOwner: "compute:nova",
		Groups: []string{id(2, 10+of)}, PortSecurity: true, HostID: host, VNICType: "normal", VIFType: "ovs",
		VIFDetails: net.VIFDetails{HybridPlug: ptr(false)}, Profile: json.RawMessage("{}")}
}
