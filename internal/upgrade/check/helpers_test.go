package check

import (
	"slices"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
)

var testNow = time.Date(2026, 3, 26, 10, 34, 48, 0, time.UTC)

// well is a cluster of three hosts and a manager of which there is nothing to warn.
func well() *Input {
	inv := &inventory.Inventory{
		Cluster: "lab", Version: "E0303", HA: &inventory.Switch{},
		Hosts: []inventory.Host{
			{Name: "cvm", Roles: []inventory.Role{inventory.RoleManager}, Group: "m"},
			{Name: "h1", Group: "g", MemoryMiB: 64 << 10, CPUModel: "Skylake"},
			{Name: "h2", Group: "g", MemoryMiB: 64 << 10, CPUModel: "Skylake"},
			{Name: "h3", Group: "g", MemoryMiB: 64 << 10, CPUModel: "Skylake"},
		},
		VMs: []inventory.VM{
			{Name: "a", Host: "h1", MemoryMiB: 16 << 10, CPUs: 4, Running: true, Dirty: 5},
			{Name: "b", Host: "h2", MemoryMiB: 16 << 10, CPUs: 4, Running: true},
			{Name: "off", Host: "h2", MemoryMiB: 500 << 10, Fixed: []string{"host device"}},
		},
	}
	for i := 1; i < 4; i++ {
		inv.Hosts[i].Pools = []inventory.Pool{
			{Name: "p", Kind: "ocfs2", Shared: true, Paths: 2, Active: true},
			{Name: "iso", Kind: "nfs", Active: true, Use: "template"},
		}
	}
	in := &Input{
		When: Before, Inventory: inv, Now: testNow, Facts: map[cluster.HostID]*fact.Facts{}, Store: &Quorum{Voters: 3, Healthy: 3},
		Manifest: &manifest.Manifest{
			Name: "cas", Version: "E0306", UpgradeFrom: []manifest.Source{{Version: "3.0", Modes: []manifest.Mode{manifest.Rolling}}},
			Requires: manifest.Requires{Commands: []string{"tree"}, PythonModules: []string{"requests"}},
			Modules: []manifest.Module{{Name: "db", RunsOn: "manager", Files: []manifest.File{{Path: "db/x", Size: 1 << 20}},
				Config: []manifest.ConfigFile{{File: "db/db.json", Installed: "/etc/db.json"}}}},
		},
	}
	for _, h := range inv.Hosts {
		in.Facts[h.Name] = &fact.Facts{
			Host: h.Name, OS: fact.OS{ID: "debian"}, Version: "E0303", Space: fact.Space{Dir: "/opt", Free: 20 << 30},
			Commands: map[string]string{"tree": "/usr/bin/tree"}, Python: map[string]string{"requests": ""},
			Kernel: fact.Kernel{Running: "4.1.0", Next: "4.1.0", By: "grub"},
			Clock:  fact.Clock{Synced: true, OffsetMS: 2, By: "chrony"}, O2CB: fact.O2CB{Present: true, Configured: 61, Active: 61},
			ISCSI: []fact.Session{{ID: 1, Portal: "10.0.0.5:3260", Target: "iqn.a"}}, FC: []fact.Port{{Name: "host1", State: "Online"}},
			Maps: []fact.Map{{Name: "mpatha", WWID: "3600", Device: "dm-0",
				Paths: []fact.Path{{Device: "sda", State: "active ready running", Up: true},
					{Device: "sdb", State: "active ready running", Up: true}}}},
		}
	}
	f := in.Facts["cvm"]
	f.Config = []fact.Config{{Installed: "/etc/db.json", Names: []string{"a", "b"}, Bundle: []string{"a", "b"}}}
	f.Status = &fact.Probe{Name: "check_status", Exit: 0, Text: "well"}
	f.HA = &fact.Probe{Name: "ha", Exit: 0, Text: ""}
	f.Replication = []fact.Probe{{Name: "slave", Exit: 0, Text: ""}}
	f.LastBackup = testNow.Add(-time.Hour)
	return in
}

// allHosts is the installation of a bundle whose program changes all hosts.
func allHosts() *manifest.Action {
	return &manifest.Action{Run: []string{"db/x"}, Once: true, AllHosts: true}
}

// host returns a host of the inventory.
func host(in *Input, name cluster.HostID) *inventory.Host {
	for i := range in.Inventory.Hosts {
		if h := &in.Inventory.Hosts[i]; h.Name == name {
			return h
		}
	}
	return nil
}

// only returns what a check finds.
func only(t *testing.T, id string, in *Input) []Finding {
	t.Helper()
	all := List()
	i := slices.IndexFunc(all, func(c Check) bool { return c.ID == id })
	if i < 0 {
		t.Fatalf("there is no check %q", id)
	}
	return all[i].look(newScene(*in))
}
