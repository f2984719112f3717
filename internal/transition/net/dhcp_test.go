package net_test

import (
	"encoding/json"
	"testing"

	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
)

// TestHandedOver: what an agent of the new platform changes of a port that waited for it is as it was meant to be; all
// else that differs is told.
func TestHandedOver(t *testing.T) {
	const device = "dhcp2f4ae6a5-7fbd-53f5-8f0c-6c1f6f1c2a31-40000000-0000-4000-8000-000000000000"
	for name, c := range map[string]struct {
		change func(p *net.Port, is *net.Document)
		want   string
	}{
		"waits": {func(*net.Port, *net.Document) {}, ""},
		"taken": {func(p *net.Port, _ *net.Document) { p.DeviceID, p.HostID = device, "net01" }, ""},
		"taken, not bound": {func(p *net.Port, _ *net.Document) {
			p.DeviceID, p.HostID, p.VIFType = device, "net01", "binding_failed"
		}, `60 binding:vif_type "ovs" "binding_failed" error`},
		"of another network": {func(p *net.Port, _ *net.Document) { p.DeviceID = device[:len(device)-1] + "1" },
			`60 device_id "reserved_dhcp_port" "` + device[:len(device)-1] + `1" error`},
		"moved, not taken": {func(p *net.Port, _ *net.Document) { p.HostID = "net01" }, `60 binding:host_id "cmp00" "net01" error`},
		"other address": {func(p *net.Port, _ *net.Document) {
			p.DeviceID, p.MACAddress = device,
				"fa:16:3e:00:00:99"
		}, `60 mac_address "fa:16:3e:00:00:00" "fa:16:3e:00:00:99" error`},
		"agents of its own": {func(_ *net.Port, is *net.Document) {
			is.Agents = append(is.Agents, net.Agent{ID: "1f000000-0000-4000-8000-000000000000",
				Binary: "neutron-dhcp-agent", Configurations: json.RawMessage("{}")})
		}, ""},
		"an agent is gone": {func(_ *net.Port, is *net.Document) { is.Agents = is.Agents[1:] }, `10 object "present"  error`},
		"a port of its own": {func(p *net.Port, is *net.Document) {
			own := *p
			own.ID = "6f" + own.ID[2:]
			is.Ports = append(is.Ports, own)
		}, `6f object  "present" error`},
	} {
		t.Run(name, func(t *testing.T) {
			var docs [2]*net.Document
			for i := range docs {
				d := nettest.Platform(1, 1)
				d.Ports[0].DeviceOwner, d.Ports[0].DeviceID = "network:dhcp", "dhcp-old"
				d.Agents = append(d.Agents, net.Agent{ID: "1e000000-0000-4000-8000-000000000000",
					Binary: "neutron-dhcp-agent", Configurations: json.RawMessage("{}")})
				d.ReserveDHCP()
				if len(d.Agents) != 2 || d.Ports[0].DeviceID != net.ReservedDHCP {
					t.Fatalf("%d agents, device %s: want the two that are not of DHCP, and a port that waits", len(d.Agents), d.Ports[0].DeviceID)
				}
				docs[i] = d
			}
			c.change(&docs[1].Ports[0], docs[1])
			left, err := net.Diff(docs[0], docs[1])
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(net.HandedOver(docs[0], left)); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}
