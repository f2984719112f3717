package upgrade

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
)

// apartCluster has three hosts with room for two guests each, and db1 and db2 on two of them.
func apartCluster() inventory.Inventory {
	inv := hosts(3)
	for i := range inv.Hosts {
		inv.Hosts[i].MemoryMiB = 2048
	}
	inv.VMs[0].Name, inv.VMs[0].UUID, inv.VMs[1].Name, inv.VMs[1].UUID = "db1", "u1", "db2", "u2"
	inv.Apart = []inventory.Apart{{Name: "db", VMs: []string{"h0/db1", "u2"}}}
	return inv
}

// TestGuestsKeptApart: the room for both on one host is not used.
func TestGuestsKeptApart(t *testing.T) {
	p := mustBuild(t, webBundle(), apartCluster(), Options{Mode: manifest.Rolling})
	if p.Blocked() {
		t.Fatalf("%v", p.Findings)
	}
	if to := p.Targets()["h0"]; len(to) != 1 || to[0].Host != "h2" {
		t.Errorf("db1 goes to %v, want h2", to)
	}
}

func TestApartFindings(t *testing.T) {
	small := func(inv *inventory.Inventory, _ *Options) { inv.Hosts[2].MemoryMiB = 1024 }
	for name, c := range map[string]struct {
		change func(*inventory.Inventory, *Options)
		want   []string // level rule host vm: text
	}{
		"room for all": {func(*inventory.Inventory, *Options) {}, nil},
		"no room": {small, []string{
			"block apart-db h0 : The host can not be emptied: VM db1 must not share a host with the others of group " +
				"db, which are on h1, and no other host has room.",
			"block apart-db h1 : The host can not be emptied: VM db2 must not",
		}},
		"given up": {func(inv *inventory.Inventory, o *Options) {
			small(inv, o)
			o.Confirmed = []string{"apart-db"}
		}, []string{"warn apart-db  : As confirmed, guests of the group may come to share a host: h0/db1, u2."}},
		"nobody": {func(inv *inventory.Inventory, _ *Options) { inv.Apart[0].VMs = append(inv.Apart[0].VMs, "db3") }, []string{
			"warn apart-db  db3: The group names a VM that the inventory does not have.",
		}},
		"together now": {func(inv *inventory.Inventory, _ *Options) { inv.VMs[1].Host, inv.VMs[2].Host = "h0", "h1" }, []string{
			"warn apart-db h0 db2: It shares its host with db1 already, and must not.",
		}},
		"offline": {func(inv *inventory.Inventory, o *Options) {
			small(inv, o)
			o.Mode = manifest.Offline
		}, nil},
	} {
		inv, o := apartCluster(), Options{Mode: manifest.Rolling}
		c.change(&inv, &o)
		p := mustBuild(t, webBundle(), inv, o)
		var got []string
		for _, f := range p.Findings {
			if strings.HasPrefix(f.Rule, "apart-") || f.Level == Block {
				got = append(got, fmt.Sprintf("%s %s %s %s: %s", f.Level, f.Rule, f.Host, f.VM, f.Text))
			}
		}
		if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if name == "together now" {
			if to := p.Targets()["h0"]; len(to) != 2 {
				t.Errorf("they leave h0 for %v, want two hosts", to)
			}
		}
	}
}

// TestApart: drains get the UUIDs of the groups that are kept.
func TestApart(t *testing.T) {
	inv := apartCluster()
	if got := Apart(&inv, &Options{}); !reflect.DeepEqual(got, []evacuate.Apart{{Name: "db", UUIDs: []string{"u1", "u2"}}}) {
		t.Errorf("%+v", got)
	}
	if got := Apart(&inv, &Options{Confirmed: []string{"apart-db"}}); got != nil {
		t.Errorf("confirmed: %+v", got)
	}
}
