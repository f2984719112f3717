package net_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
)

// platform is a document with the ports 0 and 2 on the host cmp00, the first plugged by a Linux bridge, and a host that
// has just that. The IDs differ within what names of interfaces have of them.
func platform() (*net.Document, *net.Host) {
	d := nettest.Platform(2, 4)
	yes, no := true, false
	h := &net.Host{Version: net.Version, Host: "cmp00", Guests: []string{}}
	d.Ports = []net.Port{d.Ports[0], d.Ports[2]}
	for i := range d.Ports {
		p := &d.Ports[i]
		p.ID = fmt.Sprintf("6%d%s", i, p.ID[2:])
		h.Interfaces = append(h.Interfaces, net.Interface{Name: "tap" + p.ID[:11], Bridge: "br-int", PortID: p.ID,
			MAC: p.MACAddress, AdminState: "up", LinkState: "up",
			OFPort: i + 1, Tag: 1, NetworkID: p.NetworkID, Segment: "vlan/physnet1/200", Flows: 9, Filters: 5})
		h.Guests = append(h.Guests, p.DeviceID)
	}
	d.Ports[0].VIFDetails.HybridPlug, d.Ports[1].VIFDetails.HybridPlug = &yes, &no
	id := d.Ports[0].ID[:11]
	h.Interfaces[0].Name, h.Interfaces[0].Flows, h.Interfaces[0].Filters = "qvo"+id, 3, 0
	h.Links = []net.Link{{Name: "qbr" + id, Kind: "bridge", Up: true},
		{Name: "qvb" + id, Kind: "veth", Up: true, Master: "qbr" + id, Peer: "qvo" + id},
		{Name: "qvo" + id, Kind: "veth", Up: true, Master: "ovs-system", Peer: "qvb" + id},
		{Name: "tap" + id, Kind: "tun", Up: true, Master: "qbr" + id},
		{Name: "tap" + d.Ports[1].ID[:11], Kind: "tun", Up: true, Master: "ovs-system"}, {Name: "ovs-system", Kind: "openvswitch"}}
	h.Chains = []string{"INPUT", "neutron-openvswi-i" + id[:10], "neutron-openvswi-o" + id[:10], "neutron-openvswi-s" + id[:10]}
	return d, h
}

func lines(all []net.Difference) string {
	var out []string
	for _, d := range all {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", d.ID[:2], d.Field, d.Old, d.New, d.Severity)))
	}
	return strings.Join(out, "\n")
}

// TestCompareHost: each way in which a host and a document differ is told, and nothing else.
func TestCompareHost(t *testing.T) {
	link := func(h *net.Host, prefix string) *net.Link {
		return &h.Links[slices.IndexFunc(h.Links, func(l net.Link) bool { return strings.HasPrefix(l.Name, prefix+"60") })]
	}
	for name, c := range map[string]struct {
		make func(d *net.Document, h *net.Host)
		want string
	}{
		"equal":        {func(*net.Document, *net.Host) {}, ""},
		"no interface": {func(_ *net.Document, h *net.Host) { h.Interfaces = h.Interfaces[1:] }, `60 object "present"  error`},
		"a guest that is off": {func(_ *net.Document, h *net.Host) {
			h.Interfaces, h.Guests = h.Interfaces[1:],
				h.Guests[1:]
		}, `60 object "present"  warning`},
		"nobody's interface": {func(d *net.Document, _ *net.Host) { d.Ports = d.Ports[1:] }, `60 object  "present" error`},
		"another host's":     {func(d *net.Document, _ *net.Host) { d.Ports[1].HostID = "cmp01" }, `61 binding:host_id "cmp01" "cmp00" error`},
		"MAC address": {func(_ *net.Document, h *net.Host) { h.Interfaces[0].MAC = "FA:16:3E:00:00:99" },
			`60 mac_address "fa:16:3e:00:00:00" "fa:16:3e:00:00:99" error`},
		"no MAC address":  {func(_ *net.Document, h *net.Host) { h.Interfaces[0].MAC = "" }, `60 mac_address "fa:16:3e:00:00:00"  warning`},
		"MAC in capitals": {func(_ *net.Document, h *net.Host) { h.Interfaces[0].MAC = "FA:16:3E:00:00:00" }, ""},
		"bridge":          {func(_ *net.Document, h *net.Host) { h.Interfaces[1].Bridge = "br-ex" }, `61 bridge "br-int" "br-ex" error`},
		"the agent's bridge": {func(d *net.Document, h *net.Host) {
			d.Agents[0].Configurations = json.RawMessage(`{"integration_bridge":"br-x"}`)
			h.Interfaces[0].Bridge, h.Interfaces[1].Bridge = "br-x", "br-x"
		}, ""},
		"name": {func(_ *net.Document, h *net.Host) { h.Interfaces[1].Name = "vnet4" }, `61 interface "tap61000000-00" "vnet4" warning`},
		"no number": {func(_ *net.Document, h *net.Host) {
			h.Interfaces[1].OFPort, h.Interfaces[1].Error = -1, "no such device"
		}, `61 ofport "a number" "no such device" error`},
		"states": {func(_ *net.Document, h *net.Host) {
			h.Interfaces[1].AdminState, h.Interfaces[1].LinkState = "down", "down"
		}, "61 admin_state \"up\" \"down\" error\n61 link_state \"up\" \"down\" warning"},
		"no tag": {func(_ *net.Document, h *net.Host) { h.Interfaces[0].Tag = 0 }, `60 tag "1 to 4094"  error`},
		"dead": {func(_ *net.Document, h *net.Host) { h.Interfaces[0].Tag, h.Interfaces[0].Dropped = 4095, true },
			"60 tag \"1 to 4094\" 4095 error\n60 flows \"none that drops all it sends\" \"drop\" error"},
		"dead, wanted": {func(d *net.Document, h *net.Host) {
			d.Ports[0].AdminStateUp, h.Interfaces[0].Tag, h.Interfaces[0].Dropped = false, 4095, true
		}, ""},
		"alive, not wanted": {func(d *net.Document, _ *net.Host) { d.Ports[0].AdminStateUp = false }, `60 tag 4095 1 error`},
		"another network": {func(_ *net.Document, h *net.Host) { h.Interfaces[0].NetworkID = "x" },
			`60 network_id "40000000-0000-4000-8000-000000000000" "x" error`},
		"another segment": {func(_ *net.Document, h *net.Host) { h.Interfaces[0].Segment = "vlan/physnet1/201" },
			`60 segments ["vlan/physnet1/200"] "vlan/physnet1/201" error`},
		"one tag, two networks": {func(d *net.Document, h *net.Host) {
			d.Ports[1].NetworkID = d.Networks[1].ID
			h.Interfaces[1].NetworkID, h.Interfaces[1].Segment = d.Networks[1].ID, "vlan/physnet1/201"
		}, `61 tag "none of network 40000000-0000-4000-8000-000000000000" 1 error`},
		"hybrid says Neutron, direct is the host": {func(d *net.Document, _ *net.Host) { *d.Ports[1].VIFDetails.HybridPlug = true },
			`61 binding:vif_details {"ovs_hybrid_plug":true} {"ovs_hybrid_plug":false} error`},
		"direct says Neutron, hybrid is the host": {func(d *net.Document, _ *net.Host) { *d.Ports[0].VIFDetails.HybridPlug = false },
			`60 binding:vif_details {"ovs_hybrid_plug":false} {"ovs_hybrid_plug":true} error`},
		"Neutron does not say": {func(d *net.Document, _ *net.Host) { d.Ports[1].VIFDetails.HybridPlug = nil },
			`61 binding:vif_details {} {"ovs_hybrid_plug":false} warning`},
		"both qvo and tap on br-int": {func(_ *net.Document, h *net.Host) {
			both := h.Interfaces[1]
			both.Name = "qvo" + both.PortID[:11]
			h.Interfaces = append(h.Interfaces, both)
		}, `61 interface "one" ["tap61000000-00","qvo61000000-00"] error`},
		"no Linux bridge": {func(_ *net.Document, h *net.Host) { link(h, "qbr").Kind = "" }, `60 qbr "qbr60000000-00"  error`},
		"qvb elsewhere": {func(_ *net.Document, h *net.Host) { link(h, "qvb").Master = "" },
			`60 qvb "qvb60000000-00 on qbr60000000-00" "qvb60000000-00 on no bridge" error`},
		"qvb off": {func(_ *net.Document, h *net.Host) { link(h, "qvb").Up = false }, `60 qvb "up" "down" error`},
		"other pair": {func(_ *net.Document, h *net.Host) { link(h, "qvo").Peer = "x" },
			`60 qvb "qvb60000000-00 joined to qvo60000000-00" "qvo60000000-00 is joined to x" error`},
		"no tap":      {func(_ *net.Document, h *net.Host) { link(h, "tap").Name = "x" }, `60 tap "tap60000000-00"  error`},
		"no tap, off": {func(_ *net.Document, h *net.Host) { link(h, "tap").Name, h.Guests = "x", h.Guests[1:] }, ""},
		"tap elsewhere": {func(_ *net.Document, h *net.Host) { link(h, "tap").Master = "virbr0" },
			`60 tap "tap60000000-00 on qbr60000000-00" "tap60000000-00 on virbr0" error`},
		"no chains": {func(_ *net.Document, h *net.Host) { h.Chains = h.Chains[:2] },
			`60 firewall ["neutron-openvswi-o60000000-0","neutron-openvswi-s60000000-0"]  error`},
		"no iptables": {func(_ *net.Document, h *net.Host) { h.Chains = nil }, `60 firewall "flows"  warning`},
		"no flows": {func(_ *net.Document, h *net.Host) { h.Interfaces[1].Flows, h.Interfaces[1].Filters = 0, 0 },
			`61 firewall "flows"  warning`},
		"without port security": {func(d *net.Document, h *net.Host) {
			d.Ports[0].PortSecurity, d.Ports[1].PortSecurity = false, false
			h.Chains, h.Interfaces[1].Filters = nil, 0
		}, ""},
		"of DHCP": {func(d *net.Document, h *net.Host) {
			d.Ports[1].DeviceOwner, d.Ports[1].PortSecurity = "network:dhcp", false
			h.Interfaces[1].Type, h.Interfaces[1].Filters, h.Interfaces[1].AdminState, h.Links = "internal", 0, "down", h.Links[:4]
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, h := platform()
			c.make(d, h)
			if got := lines(net.CompareHost(d, h)); got != c.want {
				t.Errorf("differences:\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestSetPlugs: the document gets what the host has, also where it said nothing, and then there is no difference.
func TestSetPlugs(t *testing.T) {
	for _, says := range []*bool{nil, new(bool)} {
		d, h := platform()
		d.Ports[0].VIFDetails.HybridPlug, d.Ports[1].VIFDetails.HybridPlug = says, nil
		want := 2
		if n := net.SetPlugs(d, h); n != want {
			t.Errorf("%d ports were changed, want %d", n, want)
		}
		if left := net.CompareHost(d, h); len(left) > 0 {
			t.Errorf("afterwards it differs:\n%s", lines(left))
		}
		if n := net.SetPlugs(d, h); n != 0 {
			t.Errorf("done again, %d ports were changed", n)
		}
	}
}

// TestPlugsAreCompared: a document that says nothing of it agrees with any platform, and one that says "no" with a
// platform that says nothing.
func TestPlugsAreCompared(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		says, is *bool
		differ   bool
	}{{nil, nil, false}, {nil, &yes, false}, {&no, nil, false}, {&no, &no, false}, {&yes, &yes, false},
		{&yes, nil, true}, {&yes, &no, true}, {&no, &yes, true}} {
		a, b := nettest.Platform(1, 1), nettest.Platform(1, 1)
		a.Ports[0].VIFDetails.HybridPlug, b.Ports[0].VIFDetails.HybridPlug = c.says, c.is
		left, err := net.Diff(a, b)
		if err != nil || (len(left) == 1) != c.differ || c.differ && left[0].Field != net.PlugField {
			t.Errorf("%v and %v: %+v, %v", c.says, c.is, left, err)
		}
	}
}

// TestBindingsAreCompared: a port that the old platform could not bind may be bound in the new one, and not the other way round.
func TestBindingsAreCompared(t *testing.T) {
	for _, c := range []struct {
		says, is         string
		differ, notBound bool
	}{
		{"ovs", "ovs", false, false}, {"binding_failed", "ovs", false, false}, {"binding_failed", "binding_failed", false, false},
		{"unbound", "ovs", true, false}, {"ovs", "binding_failed", true, true}, {"ovs", "unbound", true, true},
		{"binding_failed", "unbound", true, true},
	} {
		a, b := nettest.Platform(1, 1), nettest.Platform(1, 1)
		a.Ports[0].VIFType, b.Ports[0].VIFType = c.says, c.is
		left, err := net.Diff(a, b)
		if err != nil || (len(left) == 1) != c.differ || c.differ && net.NotBound(left[0]) != c.notBound {
			t.Errorf("%s and %s: %+v, %v", c.says, c.is, left, err)
		}
	}
}
