package upgrade

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
)

// live is what three agents report.
func live() inventory.Inventory {
	inv := hosts(3)
	inv.Version = ""
	for i := range inv.Hosts {
		inv.Hosts[i].Boot, inv.Hosts[i].Member = fmt.Sprint("b", i), true
	}
	inv.Hosts[0].Labels = map[string]string{"rack": "1", "tier": "db"}
	inv.VMs[0].Fixed, inv.VMs[1].System = []string{"a device"}, "debian"
	return inv
}

func TestOverlay(t *testing.T) {
	before := live()
	file := inventory.Inventory{
		Cluster: "c", Version: "1.0.0",
		Hosts: []inventory.Host{
			{Name: "h2", Roles: []inventory.Role{inventory.RoleManager}, Group: "g", Version: "0.9.0", MemoryMiB: 1,
				Boot: "old", Down: true, Maintenance: true},
			{Name: "h0", Labels: map[string]string{"tier": "web", "x": "y"}, LinkMiBps: 500},
		},
		VMs: []inventory.VM{
			{Name: "v0", Host: "h2", MemoryMiB: 5, Policy: inventory.PolicyStop, Fixed: []string{"a device", "a licence"}},
			{Name: "v1", System: "centos6.5", Addresses: []string{"192.0.2.1"}}, {Name: "v2", System: "centos6.5"}, {Name: "gone"},
		},
		Pair:    &inventory.Pair{Nodes: []cluster.HostID{"h2", "h1"}, Active: "h1", Switch: []string{"s"}},
		HA:      &inventory.Switch{Off: []string{"off"}, On: []string{"on"}},
		Backups: map[string]inventory.BackupPlan{"x": {Provider: "mariadb", Settings: json.RawMessage(`{}`)}},
		Status:  inventory.Watched{Replication: [][]string{{"/r"}}},
		Running: "9", Components: []string{"s1020v"},
	}
	in := live()
	got, err := Overlay(in, file)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(in, before) {
		t.Errorf("what was reported was changed: %+v", in)
	}
	want := live()
	want.Version, want.Pair, want.HA, want.Backups, want.Status, want.Components = "1.0.0", file.Pair, file.HA,
		file.Backups, file.Status, file.Components
	h0, h1, h2 := want.Hosts[0], want.Hosts[1], want.Hosts[2]
	h0.Labels, h0.LinkMiBps = map[string]string{"rack": "1", "tier": "web", "x": "y"}, 500
	h2.Roles, h2.Group, h2.Version = []inventory.Role{inventory.RoleManager}, "g", "0.9.0"
	want.Hosts = []inventory.Host{h2, h0, h1}
	want.VMs[0].Policy, want.VMs[0].Fixed = inventory.PolicyStop, []string{"a device", "a licence"}
	want.VMs[2].System = "centos6.5"
	want.VMs[1].Addresses = []string{"192.0.2.1"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if same, err := Overlay(before, inventory.Inventory{}); err != nil || !reflect.DeepEqual(same, before) {
		t.Errorf("nothing changes %+v to %+v, %v", before, same, err)
	}
	with := live()
	with.Version = "2.0.0"
	if got, err := Overlay(with, file); err != nil || got.Version != "2.0.0" {
		t.Errorf("version %s, %v", got.Version, err)
	}
}

func TestOverlayIsRefused(t *testing.T) {
	for want, file := range map[string]inventory.Inventory{
		"inventory: it is about cluster other, this one is c": {Cluster: "other"},
		`inventory: host "h1" is there twice`:                 {Hosts: []inventory.Host{{Name: "h1"}, {Name: "h1"}}},
		"inventory: no agent reports h7, h9: correct the nam": {Hosts: []inventory.Host{{Name: "h7"}, {Name: "h1"}, {Name: "h9"}}},
		"inventory: no agent reports h7: correct the names":   {Pair: &inventory.Pair{Nodes: []cluster.HostID{"h1", "h7"}}},
	} {
		if _, err := Overlay(live(), file); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestOverlayFindings(t *testing.T) {
	in := live()
	in.Version = "2.0.0"
	file := inventory.Inventory{
		Version: "1.0.0",
		Hosts: []inventory.Host{{Name: "h0", MemoryMiB: 1, CPUs: 4, CPUModel: "x", Kernel: "y", Maintenance: true},
			{Name: "h1", MemoryMiB: in.Hosts[1].MemoryMiB, Member: true}},
		VMs: []inventory.VM{{Name: "v1"}, {Name: "gone"}},
	}
	var got []string
	for _, f := range OverlayFindings(in, file) {
		got = append(got, fmt.Sprintf("%s %s %s: %s", f.Level, f.Host, f.VM, f.Text))
	}
	if want := []string{
		"warn  : The inventory says version 1.0.0, but the cluster has 2.0.0. The version of the cluster is used.",
		"info h0 : The agent reports a different memoryMiB, cpus, cpuModel, kernel, maintenance than the inventory. The agent's value is used.",
		"warn  gone: The inventory has this VM, and no agent reports it.",
	}; !slices.Equal(got, want) {
		t.Errorf("findings %q", got)
	}
}
