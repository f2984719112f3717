package upgrade

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade"
	"holdfast/testbed/need"
)

// largePlan is a rolling upgrade of 3,000 hosts with 20 guests each.
func largePlan(t *testing.T, group func(host int) string, at upgrade.Limit) *upgrade.Plan {
	t.Helper()
	m := manifest.Manifest{
		Name: "app", Version: "2.0.0", UpgradeFrom: []manifest.Source{{Version: "1.*", Modes: []manifest.Mode{manifest.Rolling}}},
		Modules: []manifest.Module{{Name: "app", Actions: manifest.Actions{Install: &manifest.Action{Run: []string{"x"}}}}},
	}
	inv := inventory.Inventory{Version: "1.0.0"}
	for i := range 3000 {
		h := inventory.Host{Name: cluster.HostID(fmt.Sprintf("h%04d", i)), Group: group(i), MemoryMiB: 256 << 10}
		inv.Hosts = append(inv.Hosts, h)
		for k := range 20 {
			v := inventory.VM{Name: fmt.Sprintf("vm-%d-%d", i, k), Host: h.Name, MemoryMiB: int64(2+k%8) << 10, Running: true}
			if k == 0 {
				v.Busy = "backup"
			}
			inv.VMs = append(inv.VMs, v)
		}
	}
	p, err := upgrade.Build(m, inv, upgrade.Options{Mode: manifest.Rolling, MaxUnavailable: at})
	if err != nil || p.Blocked() {
		t.Fatalf("%v, %v", err, p.Findings)
	}
	return &p
}

// TestLargePlanIsSummedUp: it fits on a page or two, nothing is lost in the sums, and all
// of it can be had.
func TestLargePlanIsSummedUp(t *testing.T) {
	need.Seconds(t)
	row := regexp.MustCompile(`(?m)^[0-9]+(?:-[0-9]+)? +(?:[a-z0-9]+|all 1500|-) +([0-9]+) +([0-9]+) +[0-9]+ +[0-9]+m$`)
	for _, c := range []struct {
		groups int
		at     upgrade.Limit
		hint   bool
	}{{15, upgrade.Limit{Count: 1}, true}, {1, upgrade.Limit{Percent: 2}, false}, {1500, upgrade.Limit{Percent: 1}, false}} {
		p := largePlan(t, func(i int) string { return fmt.Sprint("g", i%c.groups) }, c.at)
		text := planText(p, output.Painter{}, detail{})
		lines := strings.Split(text, "\n")
		if len(lines) > 80 {
			t.Errorf("%d groups: %d lines:\n%.3000s", c.groups, len(lines), text)
		}
		hosts, guests := 0, 0
		for _, m := range row.FindAllStringSubmatch(text, -1) {
			h, _ := strconv.Atoi(m[1])
			g, _ := strconv.Atoi(m[2])
			hosts, guests = hosts+h, guests+g
		}
		if hosts != 3000 || guests != p.Estimate.Moves {
			t.Errorf("%d groups: the rows have %d hosts and %d guests that move, of 3000 and %d:\n%.3000s", c.groups,
				hosts, guests, p.Estimate.Moves, text)
		}
		if !strings.Contains(text, "busy: and 2995 more (all: --all, or -o json)") {
			t.Errorf("%d groups: findings are not summed up:\n%.3000s", c.groups, text)
		}
		if hint := strings.Contains(text, "long-run: The run is expected to take") &&
			strings.Contains(strings.Join(strings.Fields(text), " "), "--max-unavailable 2% is expected to take"); hint != c.hint {
			t.Errorf("%d groups: hint %v:\n%.3000s", c.groups, hint, text)
		}
		all := planText(p, output.Painter{}, detail{all: true})
		if n := strings.Count(all, "\nh"); n < 3000 || strings.Count(all, "warning   busy") != 3000 {
			t.Errorf("%d groups: all of it has %d hosts", c.groups, n)
		}
	}
}
