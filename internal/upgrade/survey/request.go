package survey

import (
	"path"
	"slices"

	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade"
)

// BuildRequest says what a host is asked for: what the bundle requires, and what
// tells how the platform stands. stagedDir is the directory of the unpacked bundle
// on that host, unpackDir the one below which bundles are unpacked. Without
// stagedDir, paths in the bundle stay relative to it.
func BuildRequest(m *manifest.Manifest, inv *inventory.Inventory, h *inventory.Host, stagedDir, unpackDir string) fact.Request {
	r := fact.Request{
		Host: h.Name, Unpack: unpackDir, Commands: m.Requires.Commands, Python: m.Requires.PythonModules,
		VersionFile: inv.Status.VersionFile, BackupDir: inv.Status.BackupDir,
	}
	if dir := m.Engine(); dir != "" && r.VersionFile == "" {
		r.VersionFile = path.Join(dir, "versions.yml")
	}
	for i := range m.Modules {
		mod := &m.Modules[i]
		if !mod.On(h) {
			continue
		}
		for _, c := range mod.Config {
			r.Config = append(r.Config, fact.ConfigFile{Installed: c.Installed, Bundle: path.Join(stagedDir, c.File), Format: c.Format})
		}
	}
	if !manages(inv, h) {
		return r
	}
	if run := inv.Status.Cluster; len(run) > 0 {
		r.Status = program(run)
	}
	if inv.HA != nil && len(inv.HA.Status) > 0 {
		r.HA = program(inv.HA.Status)
	}
	for _, run := range inv.Status.Replication {
		if len(run) > 0 {
			r.Replication = append(r.Replication, *program(run))
		}
	}
	return r
}

// needs are those of the modules on a host: what their preChecks, or the installation itself, would refuse.
func needs(q *Question, m *manifest.Manifest, h *inventory.Host) (out []fact.Need) {
	for i := range m.Modules {
		mod := &m.Modules[i]
		if !mod.On(h) || !mod.Needs() {
			continue
		}
		n := fact.Need{Module: mod.Name, Mode: string(q.Mode.Listed()), SnapshotsDone: slices.Contains(q.Confirmed, upgrade.SnapshotsDone)}
		n.Engine, n.Deb, n.RPM = mod.Wants()
		out = append(out, n)
	}
	return out
}

// program is named after its file. Its arguments may hold what is not for reports.
func program(run []string) *fact.Program {
	return &fact.Program{Name: path.Base(run[0]), Run: run}
}

// manages reports whether the programs of the platform are on a host: on managers,
// and on all hosts where there are none.
func manages(inv *inventory.Inventory, h *inventory.Host) bool {
	is := func(h *inventory.Host) bool {
		return h.Has(inventory.RoleManager) || inv.Pair != nil && slices.Contains(inv.Pair.Nodes, h.Name)
	}
	return is(h) || !slices.ContainsFunc(inv.Hosts, func(x inventory.Host) bool { return is(&x) })
}
