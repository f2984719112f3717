package net_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
)

// TestWithout: with an object goes what needs it, and nothing else.
func TestWithout(t *testing.T) {
	d := nettest.Shapes()
	for what, c := range map[string]struct{ id, goes string }{
		"nothing":          {"", ""},
		"a port":           {"60000000-0000-4000-8000-000000000000", "floatingip"},
		"a sub-port":       {d.Trunks[0].SubPorts[1].PortID, "trunk"},
		"a router's port":  {d.Routers[0].Interfaces[0], "floatingip router"},
		"a security group": {"20000000-0000-4000-8000-000000000010", "floatingip port rbac_policy security_group_rule trunk"},
		"a rule":           {d.SecurityGroupRules[0].ID, ""},
		"a network":        {"40000000-0000-4000-8000-000000000051", "floatingip port rbac_policy router subnet"},
		"a subnet":         {"50000000-0000-4000-8000-000000000060", "port"},
	} {
		left, need := d.Without(map[string]bool{c.id: true})
		if got := strings.Join(slices.Sorted(maps.Keys(need)), " "); got != c.goes {
			t.Errorf("%s: with it go %s, want %s", what, got, c.goes)
		}
		gone := 0
		for kind, ids := range need {
			if gone += len(ids); left.Counts()[kind] > d.Counts()[kind]-len(ids) {
				t.Errorf("%s: %d of kind %s are left of %d", what, left.Counts()[kind], kind, d.Counts()[kind])
			}
		}
		sum := func(d *net.Document) (n int) {
			for _, of := range d.Counts() {
				n += of
			}
			return n
		}
		if c.id != "" {
			gone++
		}
		if sum(d)-sum(left) != gone {
			t.Errorf("%s: %d objects are left of %d: want %d fewer", what, sum(left), sum(d), gone)
		}
		if c.id != "" && need != nil {
			left.Normalize()
			if err := left.Check("left"); err != nil && what != "a router's port" {
				t.Errorf("%s: what is left can not be applied: %v", what, err)
			}
		}
	}
}
