package net_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
)

func ptr[T any](v T) *T { return &v }

// TestCheckShapes: what others refer to must be there, and an address that Neutron makes by itself must be the one that it makes.
func TestCheckShapes(t *testing.T) {
	if err := nettest.Shapes().Check("net.json"); err != nil {
		t.Fatalf("shapes without faults: %v", err)
	}
	port := func(d *net.Document, id string) *net.Port {
		return &d.Ports[slices.IndexFunc(d.Ports, func(p net.Port) bool { return strings.HasSuffix(p.ID, id) })]
	}
	for name, c := range map[string]struct {
		bad  func(d *net.Document)
		want string
	}{
		"address group of a rule": {func(d *net.Document) { d.AddressGroups = nil },
			`remote_address_group_id: value "80000000-0000-4000-8000-000000000004": want the id of a address_group of this document`},
		"policy of a port": {func(d *net.Document) { port(d, "1005").QoSPolicyID = ptr("q") },
			`port 60000000-0000-4000-8000-000000001005: qos_policy_id: value "q": want the id of a qos_policy`},
		"policy of a network": {func(d *net.Document) { d.Networks[0].QoSPolicyID = ptr("q") }, `qos_policy_id: value "q"`},
		"pool of a subnet": {func(d *net.Document) { d.Subnets[0].SubnetPoolID = ptr("prefix_delegation") },
			`subnetpool_id: value "prefix_delegation": want the id of a subnetpool`},
		"scope of a pool": {func(d *net.Document) { d.AddressScopes = nil }, `address_scope_id: value "80000000-0000-4000-8000-000000000001"`},
		"port of a trunk": {func(d *net.Document) { d.Trunks[0].SubPorts[0].PortID = "x" },
			`trunk 80000000-0000-4000-8000-000000000008: port_id: value "x": want the id of a port`},
		"port of two trunks": {func(d *net.Document) {
			again := d.Trunks[0]
			again.ID, again.SubPorts = "80000000-0000-4000-8000-000000000009", nil
			d.Trunks = append(d.Trunks, again)
		}, `want one that no other trunk has; 80000000-0000-4000-8000-000000000008 has it`},
		"VLAN of a trunk": {func(d *net.Document) { d.Trunks[0].SubPorts[0].SegmentationID = 4095 },
			`sub_ports: value "vlan 4095": want vlan and 1 to 4094`},
		"object of RBAC": {func(d *net.Document) { d.RBACPolicies[0].ObjectID = "x" },
			`object_id: value "x": want the id of a network of this document`},
		"type of RBAC": {func(d *net.Document) { d.RBACPolicies[0].ObjectType = "bgpvpn" }, `object_type: value "bgpvpn"`},
		"rule of QoS": {func(d *net.Document) { d.QoSPolicies[0].Rules[0].Type = "shape" },
			`rules: value "shape": want one of bandwidth_limit, `},
		"gateway of a router": {func(d *net.Document) { d.Routers[0].GatewayPort = ptr("60000000-0000-4000-8000-000000001021") },
			`router 80000000-0000-4000-8000-000000000009: gateway_port_id: value "60000000-0000-4000-8000-000000001021": want the id of a port`},
		"router of a floating IP": {func(d *net.Document) { d.Routers = nil },
			`floatingip 80000000-0000-4000-8000-000000000010: router_id: value "80000000-0000-4000-8000-000000000009": want the id of a router`},
		"port of a floating IP": {func(d *net.Document) { d.FloatingIPs[0].PortID = ptr("x") },
			`port_id: value "x": want the id of a port of this document`},
		"own port of a floating IP": {func(d *net.Document) { port(d, "1024").DeviceID = "other" },
			`floatingip 80000000-0000-4000-8000-000000000011: id: value "80000000-0000-4000-8000-000000000011": want a port of this document with this id and the owner network:floatingip`},
		"address by itself": {func(d *net.Document) { port(d, "1002").FixedIPs[0].IPAddress = "fd00:2::99" },
			`port 60000000-0000-4000-8000-000000001002: fixed_ips: value "fd00:2::99": want fd00:2::f816:3eff:feaa:2`},
		"attribute of rules": {func(d *net.Document) { d.LeftOut = left("security_group_rule", "remote_zone") },
			`security_group_rule x: remote_zone: value "v": it is not carried over: the rule would not mean what it did`},
	} {
		t.Run(name, func(t *testing.T) {
			d := nettest.Shapes()
			c.bad(d)
			if err := d.Check("net.json"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("check:\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

func left(kind, field string) []net.LeftOut {
	return []net.LeftOut{{Kind: kind, ID: "x", Field: field, Value: json.RawMessage(`"v"`)}}
}

// TestLeftOut: what is not carried over is told by kind, count and ID; attributes are faults, unless they are allowed.
func TestLeftOut(t *testing.T) {
	d := nettest.Platform(1, 1)
	for i := range 25 {
		d.LeftOut = append(d.LeftOut, net.LeftOut{Kind: "router", ID: fmt.Sprintf("r%02d", i)})
	}
	d.LeftOut = append(d.LeftOut, left("subnet", "segment_id")...)
	d.Normalize()
	kinds := d.KindsLeftOut()
	if len(kinds) != 2 || kinds[0].Count != 25 || len(kinds[0].IDs) != 25 ||
		!strings.HasSuffix(kinds[0].String(), ", r19 and 5 more") || kinds[1].String() != "subnet.segment_id 1: x" {
		t.Errorf("left out: %v", kinds)
	}
	var f *net.Faults
	if err := d.CheckAttributes("net.json", []string{"router"}); !errors.As(err, &f) ||
		err.Error() != `net.json: subnet x: segment_id: value "v": it is not carried over; --leave-out subnet.segment_id goes on without it` {
		t.Errorf("an attribute: %v", err)
	}
	if err := d.CheckAttributes("net.json", []string{"subnet.segment_id"}); err != nil {
		t.Errorf("an attribute that is allowed: %v", err)
	}
	if not := d.NotAllowed([]string{"subnet.segment_id"}); len(not) != 1 || not[0].Name != "router" {
		t.Errorf("not allowed: %v", not)
	}
}

// TestUnbindable: ports on hosts whose agents bind none, and of machines without a hypervisor; what the platform makes of them
// is no difference, and what it makes of others is.
func TestUnbindable(t *testing.T) {
	d, is := nettest.Shapes(), nettest.Shapes()
	var got []string
	for _, p := range d.Unbindable() {
		got = append(got, p.ID[len(p.ID)-4:])
	}
	if strings.Join(got, " ") != "1003 1009 1010" {
		t.Errorf("unbindable: %v", got)
	}
	for i := range is.Ports {
		switch p := &is.Ports[i]; p.ID[len(p.ID)-4:] {
		case "1003", "1009", "1005":
			p.HostID, p.VIFType = "", "unbound"
		case "1010": // its driver has bound it
			p.VIFType = "vhostuser"
		}
	}
	all, err := net.Diff(d.WithoutHosts(is), is)
	if err != nil || len(all) != 2 || all[0].ID != all[1].ID || !strings.HasSuffix(all[0].ID, "1005") {
		t.Errorf("differences: %+v, %v, want host and type of port 1005", all, err)
	}
}

// TestExtraAddresses: an address that Neutron has made by itself on a further subnet is a warning; another one, or a lost one, is
// an error.
func TestExtraAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *net.Port)
		want   string
	}{
		"more by itself": {func(p *net.Port) {
			p.FixedIPs = append(p.FixedIPs, net.FixedIP{SubnetID: "50000000-0000-4000-8000-000000000061", IPAddress: "fd00:2::f816:3eff:feaa:4"})
		}, net.Warning},
		"more by somebody": {func(p *net.Port) {
			p.FixedIPs = append(p.FixedIPs, net.FixedIP{SubnetID: "50000000-0000-4000-8000-000000000002", IPAddress: "10.0.2.99"})
		}, net.Error},
		"lost": {func(p *net.Port) { p.FixedIPs = nil }, net.Error},
	} {
		t.Run(name, func(t *testing.T) {
			d, is := nettest.Shapes(), nettest.Shapes()
			i := slices.IndexFunc(is.Ports, func(p net.Port) bool { return p.NetworkID == is.Networks[2].ID })
			c.change(&is.Ports[i])
			left, err := net.Diff(d, is)
			if err != nil || len(left) != 1 || left[0].Severity != c.want || net.ExtraAddresses(left[0]) != (c.want == net.Warning) {
				t.Errorf("%+v, %v, want one %s", left, err, c.want)
			}
		})
	}
}
