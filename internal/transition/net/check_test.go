package net_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
)

// TestCheck: each kind of bad input is told with its object, field, value and what is allowed.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		bad  func(d *net.Document)
		want string
	}{
		"doubled id": {func(d *net.Document) { d.Ports[1].ID = d.Ports[0].ID },
			`port 60000000-0000-4000-8000-000000000000: id: value "60000000-0000-4000-8000-000000000000": want an id that no other object has; a port has it`},
		"no UUID": {func(d *net.Document) { d.Networks[0].ID = "x" }, `network x: id: value "x": want a UUID`},
		"overlapping subnets": {func(d *net.Document) {
			d.Subnets[1].NetworkID = d.Subnets[0].NetworkID
			d.Subnets[1].CIDR = "10.0.0.128/25"
		}, `subnet 50000000-0000-4000-8000-000000000001: cidr: value "10.0.0.128/25": want a range that no other subnet of the network has; subnet 50000000-0000-4000-8000-000000000000 has 10.0.0.0/24`},
		"outside the subnet": {func(d *net.Document) { d.Ports[0].FixedIPs[0].IPAddress = "10.9.9.9" },
			`port 60000000-0000-4000-8000-000000000000: fixed_ips: value "10.9.9.9": want an address in 10.0.0.0/24, the cidr of subnet`},
		"unknown segment type": {func(d *net.Document) { d.Networks[0].Segments[0].NetworkType = "wlan" },
			`provider:network_type: value "wlan": want local, flat, vlan, vxlan, geneve or gre`},
		"number of a segment": {func(d *net.Document) { *d.Networks[0].Segments[0].SegmentationID = 4095 },
			`provider:segmentation_id: value "4095": want 1 to 4094`},
		"no such network": {func(d *net.Document) { d.Ports[0].NetworkID = "y" },
			`network_id: value "y": want the id of a network of this document`},
		"no such group": {func(d *net.Document) { d.Ports[0].Groups = []string{"z"} },
			`security_groups: value "z": want the id of a security group of this document`},
		"doubled MAC address": {func(d *net.Document) { d.Ports[2].MACAddress = d.Ports[0].MACAddress },
			`mac_address: value "fa:16:3e:00:00:00": want one that no other port of the network has`},
		"doubled IP address": {func(d *net.Document) { d.Ports[2].FixedIPs = d.Ports[0].FixedIPs },
			`fixed_ips: value "10.0.0.10": want an address that no other port has`},
		"no default group": {func(d *net.Document) { d.SecurityGroups[0].Name = "other" },
			`project 00000000000000000000000000000005: security_groups: value "": want the project's group of the name "default"`},
	} {
		t.Run(name, func(t *testing.T) {
			d := nettest.Platform(2, 4)
			c.bad(d)
			var f *net.Faults
			if err := d.Check("net.json"); !errors.As(err, &f) || !strings.Contains(err.Error(), c.want) ||
				!strings.HasPrefix(f.Lines[0], "net.json: ") {
				t.Errorf("check:\n%v\nwant\n%s", err, c.want)
			}
		})
	}
	if err := nettest.Platform(50, 2000).Check("net.json"); err != nil {
		t.Errorf("a platform without faults: %v", err)
	}
}

// TestParse: what was written is read as it was; what does not belong there is told.
func TestParse(t *testing.T) {
	d := nettest.Platform(10, 40)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Parse("net.json", text)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := net.Diff(d, back); err != nil || len(left) > 0 {
		t.Errorf("read again it differs: %v, %v", err, left)
	}
	for text, want := range map[string]string{
		``:                              `net.json: the file is empty: export it anew`,
		`{"version": 2, "agents": [{"i`: `net.json:1: malformed JSON: the file may be cut off here: export it anew`,
		`{"version": 1}`:                `net.json: version: value 1: want 2, as this program writes it: export it anew`,
		"version: 2\nzones: []\n":       "zones",
		"version: 2\nports: [{mtu: 1}]": "ports[0].mtu",
	} {
		if _, err := net.Parse("net.json", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse %q: %v, want %s", text, err, want)
		}
	}
}

// TestDiff: both ways, a field at a time.
func TestDiff(t *testing.T) {
	a, b := nettest.Platform(2, 4), nettest.Platform(2, 4)
	b.Ports[0].Name, b.Ports[1].DeviceID = "other", "other"
	b.Networks = b.Networks[1:]
	a.Subnets = a.Subnets[1:]
	left, err := net.Diff(a, b)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range left {
		got = append(got, d.Kind+" "+d.Field+" "+string(d.New)+" "+d.Severity)
	}
	want := `network object  error;subnet object "present" error;port name "other" warning;port device_id "other" error`
	if s := strings.Join(got, ";"); s != want {
		t.Errorf("diff:\n%s\nwant\n%s", s, want)
	}
}

// TestAgentsAreOfAKindAndHost: an agent that lives in the new platform is the old one's, whatever its ID and what it
// reports; one that is missing, or that a person has switched off, is told, and one that is more is not.
func TestAgentsAreOfAKindAndHost(t *testing.T) {
	for name, c := range map[string]struct {
		change func(d *net.Document)
		want   string
	}{
		"another ID":  {func(d *net.Document) { d.Agents[0].ID = "1e000000-0000-4000-8000-000000000000" }, ""},
		"it reported": {func(d *net.Document) { d.Agents[0].Configurations = json.RawMessage(`{"datapath_type":"netdev"}`) }, ""},
		"one more": {func(d *net.Document) {
			d.Agents = append(d.Agents, net.Agent{ID: "1e000000-0000-4000-8000-000000000000",
				Binary: "neutron-openvswitch-agent", Host: "cmp77", Configurations: json.RawMessage("{}")})
		}, ""},
		"on another host": {func(d *net.Document) { d.Agents[0].Host = "cmp77" }, `10 object "present"  error`},
		"switched off":    {func(d *net.Document) { d.Agents[0].AdminStateUp = false }, `10 admin_state_up true false error`},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := nettest.Platform(1, 1), nettest.Platform(1, 1)
			c.change(b)
			b.Normalize()
			left, err := net.Diff(a, b)
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(left); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}
