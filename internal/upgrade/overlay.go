package upgrade

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
)

// Overlay adds to what the agents report what only people know, from a file: roles,
// labels and groups of hosts, policies and addresses of VMs and further reasons why they can not
// move, the pair, the platform's HA, guests to keep apart, backups, status programs and components. The file's hosts
// come first, in its order. What networks carry is what the file says. Versions and guest
// systems are taken from it where none is reported; of all else the reports count. The error names what the file is
// wrong about: another cluster, or hosts that do not report.
func Overlay(live, file inventory.Inventory) (inventory.Inventory, error) {
	if live.Cluster != "" && file.Cluster != "" && live.Cluster != file.Cluster {
		return inventory.Inventory{}, fmt.Errorf("inventory: it is about cluster %s, this one is %s", file.Cluster, live.Cluster)
	}
	out := live
	out.Cluster, out.Version = cmp.Or(live.Cluster, file.Cluster), cmp.Or(live.Version, file.Version)
	var err error
	if out.Hosts, err = overlayHosts(live.Hosts, &file); err != nil {
		return inventory.Inventory{}, err
	}
	if out.VMs, err = overlayVMs(live.VMs, file.VMs); err != nil {
		return inventory.Inventory{}, err
	}
	if file.Pair != nil {
		out.Pair = file.Pair
	}
	if file.Components != nil {
		out.Components = file.Components
	}
	if file.HA != nil {
		out.HA = file.HA
	}
	if file.Apart != nil {
		out.Apart = file.Apart
	}
	if file.Backups != nil {
		out.Backups = file.Backups
	}
	if file.Applications != nil {
		out.Applications = file.Applications
	}
	if file.Engine != (inventory.EngineSettings{}) {
		out.Engine = file.Engine
	}
	if s := &file.Status; len(s.Cluster)+len(s.Replication)+len(s.VersionFile)+len(s.BackupDir) > 0 {
		out.Status = *s
	}
	return out, nil
}

// overlayHosts puts hosts into the file's order and adds what it says of them.
func overlayHosts(live []inventory.Host, file *inventory.Inventory) ([]inventory.Host, error) {
	reports := make(map[cluster.HostID]*inventory.Host, len(live))
	for i := range live {
		reports[live[i].Name] = &live[i]
	}
	out := make([]inventory.Host, 0, len(live))
	said := make(map[cluster.HostID]bool, len(file.Hosts))
	var missing []cluster.HostID
	for i := range file.Hosts {
		f := &file.Hosts[i]
		h := reports[f.Name]
		switch {
		case said[f.Name]:
			return nil, fmt.Errorf("inventory: host %q is there twice", f.Name)
		case h == nil:
			missing = append(missing, f.Name)
		default:
			out = append(out, overlayHost(*h, f))
		}
		said[f.Name] = true
	}
	if file.Pair != nil {
		for _, n := range file.Pair.Nodes {
			if reports[n] == nil && !said[n] {
				missing = append(missing, n)
			}
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("inventory: no agent reports %s: correct the names, or wait until the agents of "+
			"these hosts run", joinHosts(missing))
	}
	for i := range live {
		if !said[live[i].Name] {
			out = append(out, live[i])
		}
	}
	return out, nil
}

func overlayHost(h inventory.Host, f *inventory.Host) inventory.Host {
	if len(f.Roles) > 0 {
		h.Roles = f.Roles
	}
	if len(f.Labels) > 0 {
		labels := make(map[string]string, len(h.Labels)+len(f.Labels))
		maps.Copy(labels, h.Labels)
		maps.Copy(labels, f.Labels)
		h.Labels = labels
	}
	h.Group, h.Version, h.LinkMiBps = cmp.Or(f.Group, h.Group), cmp.Or(h.Version, f.Version), cmp.Or(f.LinkMiBps, h.LinkMiBps)
	return h
}

// overlayVMs adds what the file says of VMs, wherever they are now.
func overlayVMs(live, file []inventory.VM) ([]inventory.VM, error) {
	out := slices.Clone(live)
	byName := namesOf(out)
	for i := range file {
		f := &file[i]
		v, err := meant(f, byName)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		if len(f.Addresses) > 0 {
			v.Addresses = f.Addresses
		}
		v.Policy, v.System = cmp.Or(f.Policy, v.Policy), cmp.Or(v.System, f.System)
		for _, why := range f.Fixed {
			if !slices.Contains(v.Fixed, why) {
				v.Fixed = append(slices.Clip(v.Fixed), why)
			}
		}
	}
	return out, nil
}

// LeaveGone takes out of what a file said of the hosts some time ago those that report
// no more, and says which these are. A pair stays whole: what becomes of it is for a
// person to say.
func LeaveGone(live, file inventory.Inventory) (inventory.Inventory, []Finding) {
	reports := make(map[cluster.HostID]bool, len(live.Hosts))
	for i := range live.Hosts {
		reports[live.Hosts[i].Name] = true
	}
	var gone []cluster.HostID
	file.Hosts = slices.DeleteFunc(slices.Clone(file.Hosts), func(h inventory.Host) bool {
		if reports[h.Name] {
			return false
		}
		gone = append(gone, h.Name)
		return true
	})
	if len(gone) == 0 {
		return file, nil
	}
	return file, []Finding{{
		Rule: "platform", Level: Warn, Text: "The last platform file names " +
			joinHosts(gone) + ", but no agent reports them any more. They are left out.",
		Remedy: "give a platform file without them: --platform FILE",
	}}
}

// OverlayFindings say where Overlay does not follow the file.
func OverlayFindings(live, file inventory.Inventory) (out []Finding) {
	note := func(l Level, h cluster.HostID, vm, text string) {
		out = append(out, Finding{Rule: "inventory", Level: l, Host: h, VM: vm, Text: text,
			Remedy: "correct the inventory, or leave out what the agents report"})
	}
	if live.Version != "" && file.Version != "" && live.Version != file.Version {
		note(Warn, "", "", fmt.Sprintf("The inventory says version %s, but the cluster has %s. The version of the "+
			"cluster is used.", file.Version, live.Version))
	}
	hosts := make(map[cluster.HostID]*inventory.Host, len(live.Hosts))
	for i := range live.Hosts {
		hosts[live.Hosts[i].Name] = &live.Hosts[i]
	}
	for i := range file.Hosts {
		f := &file.Hosts[i]
		if h := hosts[f.Name]; h != nil {
			if what := differs(h, f); len(what) > 0 {
				note(Info, h.Name, "", "The agent reports a different "+strings.Join(what, ", ")+" than the inventory. The agent's value is used.")
			}
		}
	}
	byName := namesOf(live.VMs)
	for i := range file.VMs {
		v := &file.VMs[i]
		if found, err := meant(v, byName); err == nil && found == nil { // Overlay refuses others
			note(Warn, "", v.Name, "The inventory has this VM, and no agent reports it.")
		}
	}
	return out
}

// differs returns the fields that the file gives and an agent reports otherwise.
func differs(h, f *inventory.Host) (out []string) {
	for _, c := range []struct {
		field string
		yes   bool
	}{
		{"memoryMiB", f.MemoryMiB != 0 && f.MemoryMiB != h.MemoryMiB},
		{"cpus", f.CPUs != 0 && f.CPUs != h.CPUs},
		{"cpuModel", f.CPUModel != "" && f.CPUModel != h.CPUModel},
		{"version", f.Version != "" && h.Version != "" && f.Version != h.Version},
		{"kernel", f.Kernel != "" && f.Kernel != h.Kernel},
		{"maintenance", f.Maintenance && !h.Maintenance},
		{"member", f.Member && !h.Member},
	} {
		if c.yes {
			out = append(out, c.field)
		}
	}
	return out
}
