package rebuild

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// dhcpPlatform is a platform with a DHCP agent on cmp00, a port of its for each network that has DHCP, and ports that are hybrid.
func dhcpPlatform() (d *net.Document, dhcp []net.Port, hybrid int) {
	d = nettest.Platform(6, 24)
	d.Agents = append(d.Agents, net.Agent{ID: "1f000000-0000-4000-8000-000000000001", AgentType: "DHCP agent",
		Binary: "neutron-dhcp-agent", Topic: "dhcp_agent", Host: "cmp00", AdminStateUp: true, Configurations: json.RawMessage("{}")})
	d.Ports = slices.DeleteFunc(d.Ports, func(p net.Port) bool { return p.DeviceOwner == "network:dhcp" })
	for i, n := range d.Networks {
		s := d.Subnets[i]
		if !s.EnableDHCP {
			continue
		}
		p := net.Port{ID: fmt.Sprintf("6f000000-0000-4000-8000-%012d", i), ProjectID: n.ProjectID, NetworkID: n.ID,
			AdminStateUp: true, MACAddress: fmt.Sprintf("fa:16:3e:ff:00:%02x", i),
			FixedIPs:    []net.FixedIP{{SubnetID: s.ID, IPAddress: strings.Replace(s.CIDR, "0/24", "77", 1)}},
			DeviceOwner: "network:dhcp", DeviceID: "dhcp11111111-1111-5111-8111-111111111111-" + n.ID,
			HostID: "cmp00", VNICType: "normal", VIFType: "ovs", Profile: json.RawMessage("{}")}
		d.Ports = append(d.Ports, p)
		dhcp = append(dhcp, p)
	}
	d.Normalize()
	yes, no := true, false
	for i := range d.Ports {
		p := &d.Ports[i]
		switch {
		case p.VIFType != "ovs" || p.DeviceOwner != "compute:nova" || i%4 == 0:
		case i%2 == 1:
			p.VIFDetails.HybridPlug = &yes
			hybrid++
		default:
			p.VIFDetails.HybridPlug = &no
		}
	}
	return d, dhcp, hybrid
}

// TestHandOver: a real Neutron has how each port is plugged as the document says it, whatever its agents report; and the
// ports of DHCP wait there for an agent, until one on another host takes them: with the same ID, MAC and IP address.
func TestHandOver(t *testing.T) {
	need.Drill(t, "360, network: ports of DHCP wait for an agent, which gets them with the same ID, MAC and address")
	s := nettest.Start(t, nettest.MariaDB, "neutron_h", true)
	ctx := aWhile(t)
	d, dhcp, hybrid := dhcpPlatform()
	try.Must(t, d.Check("net.json"))
	o := Order{API: API{Endpoint: s.Endpoint()}, DB: database(s), Jobs: 4, ReserveDHCP: true}
	r, err := Apply(ctx, d, o, silent)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	details := func(where string) string {
		return s.DB.SQL("SELECT COUNT(*) FROM neutron_h.ml2_port_bindings WHERE vif_type = 'ovs' AND vif_details " +
			"LIKE '%\"port_filter\"%' AND vif_details LIKE '%\"bridge_name\"%' AND " + where)
	}
	if n := details("vif_details REGEXP '\"ovs_hybrid_plug\": *true'"); r.Plugs != hybrid || hybrid == 0 || n != fmt.Sprint(hybrid) {
		t.Errorf("%d ports were made hybrid, %s are, with all else that Neutron had there: want %d", r.Plugs, n, hybrid)
	}
	if again, err := Apply(ctx, d, o, silent); err != nil || again.Plugs != 0 || len(again.Created) > 0 {
		t.Errorf("applied again: %+v, %v", again, err)
	}

	// Neutron says of all ports what its agents report: as the source's platform did.
	s.DB.SQL("UPDATE neutron_h.ml2_port_bindings SET vif_details = REPLACE(REPLACE(vif_details, " +
		"'\"ovs_hybrid_plug\": true', '\"ovs_hybrid_plug\": false'), '\"ovs_hybrid_plug\":true', '\"ovs_hybrid_plug\": false')")
	left, err := differs(ctx, d, API{Endpoint: s.Endpoint()}, true)
	if err != nil || len(left) != hybrid || left[0].Field != net.PlugField {
		t.Fatalf("verify where Neutron says no of all: %d differences, %v: want %d", len(left), err, hybrid)
	}
	dry := o
	dry.DryRun = true
	if would, err := Apply(ctx, d, dry, silent); err != nil || would.Plugs != hybrid {
		t.Errorf("dry run: %+v, %v: want %d ports to be changed", would, err, hybrid)
	}
	if now, err := Apply(ctx, d, o, silent); err != nil || now.Plugs != hybrid || len(now.Created) > 0 {
		t.Errorf("applied where Neutron says no of all: %+v, %v", now, err)
	}
	if left, err := differs(ctx, d, API{Endpoint: s.Endpoint()}, true); err != nil || len(left) > 0 {
		t.Errorf("afterwards: %+v, %v", left, err)
	}

	if n := s.DB.SQL("SELECT COUNT(*) FROM neutron_h.ports WHERE device_owner = 'network:dhcp' AND device_id = " +
		"'reserved_dhcp_port'"); n != fmt.Sprint(len(dhcp)) {
		t.Fatalf("%s ports of DHCP wait for an agent, want %d", n, len(dhcp))
	}
	if n := s.DB.SQL("SELECT COUNT(*) FROM neutron_h.agents WHERE agent_type = 'DHCP agent'"); n != "0" {
		t.Errorf("%s old DHCP agents are there", n)
	}
	type port struct {
		ID      string   `json:"id"`
		Network string   `json:"network_id"`
		MAC     string   `json:"mac_address"`
		IPs     []string `json:"ips"`
	}
	var took []port
	try.Must(t, json.Unmarshal([]byte(s.Python(t, "testdata/dhcp_agent.py", "net01")), &took))
	for _, p := range dhcp {
		at := slices.IndexFunc(took, func(x port) bool { return x.Network == p.NetworkID })
		if at < 0 || took[at].ID != p.ID || took[at].MAC != p.MACAddress || !slices.Equal(took[at].IPs, []string{p.FixedIPs[0].IPAddress}) {
			t.Errorf("the agent has %+v for network %s: want port %s with %s and %s", took, p.NetworkID, p.ID, p.MACAddress, p.FixedIPs[0].IPAddress)
		}
	}
	if len(took) != len(dhcp) {
		t.Errorf("the agent serves %d networks, want %d", len(took), len(dhcp))
	}
	if got := s.DB.SQL("SELECT COUNT(*) FROM neutron_h.ports p JOIN neutron_h.ml2_port_bindings b ON b.port_id = " +
		"p.id WHERE p.device_owner = 'network:dhcp' AND b.host = 'net01' AND b.vif_type = 'ovs' AND p.device_id " +
		"LIKE 'dhcp%-%'"); got != fmt.Sprint(len(dhcp)) {
		t.Errorf("%s ports are the new agent's, want %d", got, len(dhcp))
	}
	if left, err := differs(ctx, d, API{Endpoint: s.Endpoint()}, true); err != nil || len(left) > 0 {
		t.Errorf("verify after the agent has taken them: %+v, %v", left, err)
	}
	if again, err := Apply(ctx, d, o, silent); err != nil || len(again.Created) > 0 || again.Bound+again.Plugs > 0 {
		t.Errorf("applied after the agent has taken them: %+v, %v", again, err)
	}
	withoutReserving(t, s)
}

// withoutReserving shows what reserving is for: the platform's ports of DHCP come anew, under the old agent's name, and the new
// agent makes other ones.
func withoutReserving(t *testing.T, s *nettest.Server) {
	t.Helper()
	d, dhcp, _ := dhcpPlatform()
	for _, p := range dhcp {
		req, err := http.NewRequestWithContext(aWhile(t), http.MethodDelete, s.Endpoint()+"/v2.0/ports/"+p.ID, nil)
		try.Must(t, err)
		resp, err := http.DefaultClient.Do(req)
		try.Must(t, err)
		try.Must(t, resp.Body.Close())
		if resp.StatusCode != http.StatusNoContent {
			t.Fatalf("delete port %s: %s", p.ID, resp.Status)
		}
	}
	s.DB.SQL("DELETE FROM neutron_h.agents WHERE host = 'net01'")
	d.Agents = slices.DeleteFunc(d.Agents, func(a net.Agent) bool { return a.AgentType == "DHCP agent" })
	r, err := Apply(aWhile(t), d, Order{API: API{Endpoint: s.Endpoint()}, DB: database(s), Jobs: 4}, silent)
	if err != nil || r.Created["port"] != len(dhcp) {
		t.Fatalf("applied without reserving: %+v, %v: want %d ports created", r, err, len(dhcp))
	}
	s.Python(t, "testdata/dhcp_agent.py", "net01")
	if n := s.DB.SQL("SELECT COUNT(*) FROM neutron_h.ports WHERE device_owner = 'network:dhcp'"); n != fmt.Sprint(2*len(dhcp)) {
		t.Errorf("%s ports of DHCP, want two for each of %d networks", n, len(dhcp))
	}
}
