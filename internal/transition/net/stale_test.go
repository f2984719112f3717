package net_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
)

func clone(t *testing.T, d *net.Document) *net.Document {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.Parse("net.json", text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func diff(t *testing.T, a, b *net.Document) []net.Difference {
	t.Helper()
	left, err := net.Diff(a, b)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// TestStale: what was applied, and is on the platform as it was, may go or be made anew; what somebody has changed
// there, what only the platform has, and what can neither be changed nor removed may not.
func TestStale(t *testing.T) {
	was := nettest.Platform(4, 16)
	want, is := clone(t, was), clone(t, was)
	want.Ports = slices.Delete(want.Ports, 0, 2) // the old platform has removed two, one of which somebody has changed on the new one
	is.Ports[1].Name = "by hand"
	want.Ports[0].DeviceID = "another" // changed: made anew
	want.Ports[1].DeviceID, is.Ports[3].DeviceID = "one", "two"
	want.Networks[0].Name, want.Networks[0].MTU = "new name", 1400
	want.Networks[1].Segments[0].PhysicalNetwork = "physnet2" // can not be changed
	want.Subnets[0].GatewayIP = nil
	want.SecurityGroupRules = want.SecurityGroupRules[1:]
	theirs := is.Ports[5]
	theirs.ID, theirs.MACAddress = "6f000000-0000-4000-8000-000000000000", "fa:16:3e:ee:00:00"
	is.Ports = append(is.Ports, theirs)
	is.Normalize()

	left := diff(t, want, is)
	s, err := net.FindStale(was, left, diff(t, was, is))
	if err != nil {
		t.Fatal(err)
	}
	gone := map[string]map[string]bool{"port": {was.Ports[0].ID: true, was.Ports[2].ID: true},
		"security_group_rule": {was.SecurityGroupRules[0].ID: true}}
	if !reflect.DeepEqual(s.Gone, gone) {
		t.Errorf("gone: %v, want %v", s.Gone, gone)
	}
	const changed = `{"network":{"40000000-0000-4000-8000-000000000000":{"mtu":1400,"name":"new name"}},"subnet":{"50000000-0000-4000-8000-000000000000":{"gateway_ip":null}}}`
	if got, err := json.Marshal(s.Changed); err != nil || string(got) != changed {
		t.Errorf("changed: %s, %v, want %s", got, err, changed)
	}
	var refused []string
	for _, x := range left {
		if !s.Has(x) {
			refused = append(refused, fmt.Sprint(x.Kind, " ", x.ID, " ", x.Field))
		}
	}
	if wanted := []string{
		"network " + was.Networks[1].ID + " segments", "port " + was.Ports[1].ID + " object",
		"port " + was.Ports[3].ID + " device_id", "port " + theirs.ID + " object",
	}; !slices.Equal(refused, wanted) {
		t.Errorf("not stale: %q, want %q", refused, wanted)
	}
	if none, err := net.FindStale(&net.Document{}, left, diff(t, &net.Document{}, is)); err != nil || len(none.Gone)+len(none.Changed) > 0 {
		t.Errorf("where nothing was applied: %+v, %v", none, err)
	}
}

// TestWith: what two documents have, each object once, as the first one has it.
func TestWith(t *testing.T) {
	a, b := nettest.Platform(2, 4), nettest.Platform(3, 6)
	b.Ports[0].Name = "later"
	b.Ports = b.Ports[:5]
	a.Ports = slices.Delete(a.Ports, 2, 3)
	both := a.With(b)
	if len(both.Ports) != 5 || len(both.Networks) != 3 || len(both.Subnets) != 3 || len(both.Agents) != 2 ||
		len(both.SecurityGroups) != 4 || len(both.SecurityGroupRules) != 12 || both.Ports[0].Name != "port 0" {
		t.Errorf("%d ports, %d networks, first %q", len(both.Ports), len(both.Networks), both.Ports[0].Name)
	}
	if len(a.Ports) != 3 {
		t.Errorf("the first one has %d ports now", len(a.Ports))
	}
}
