package upgrade

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
)

// This file holds what is special about packages of the appctl layout, whose own scripts
// upgrade a node of a database engine: docs/appctl.md.

// SnapshotsDone is the word of an operator that snapshots on an array that can not be
// reached were made, or deleted, by hand.
const SnapshotsDone = "array-snapshots-done"

// applicationsStopped is the word of an operator about what the scripts do not do.
const applicationsStopped = "applications-stopped"

// Installed returns the inventory with the versions that the engines of the hosts tell, if
// that is what the bundle upgrades. The version of the cluster is the oldest one that is not
// the bundle's, by the number of the node.
func Installed(m *manifest.Manifest, inv inventory.Inventory) inventory.Inventory {
	dir := m.Engine()
	if dir == "" {
		return inv
	}
	inv.Hosts = slices.Clone(inv.Hosts)
	lowest := -1
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		e := h.Engine(dir)
		if e == nil || e.Version == "" {
			continue
		}
		h.Version, h.Unread = e.Version, false
		if e.Version != m.Version && (lowest < 0 || e.Node < lowest) || inv.Version == "" {
			inv.Version = e.Version
			if e.Version != m.Version {
				lowest = e.Node
			}
		}
	}
	return inv
}

// node returns the number of a host in the engine's cluster; -1 when it does not tell, as
// after a loss of what was installed.
func (b *builder) node(h *inventory.Host) int {
	if e := h.Engine(b.m.Engine()); e != nil {
		return e.Node
	}
	return -1
}

// byNode puts nodes of an engine into the order of their numbers: the scripts want node 0
// to be the first when it is offline. One that was left half done comes before, since they
// refuse all others until it is upgraded, or rolled back.
func (b *builder) byNode() {
	if b.m.Engine() == "" {
		return
	}
	asked := len(b.o.Order) > 0 && b.o.Mode != manifest.Offline
	slices.SortStableFunc(b.part, func(x, y *inventory.Host) int {
		if first := inventory.CompareBools(b.halfDone(y.Name), b.halfDone(x.Name)); first != 0 || asked {
			return first
		}
		return cmp.Compare(b.node(x), b.node(y))
	})
}

// halfDone reports whether an earlier run has left a host between two versions.
func (b *builder) halfDone(h cluster.HostID) bool {
	s := b.plan.Begin.Hosts[h]
	return b.o.Mode != manifest.Offline && (s == HostRollup || s == HostRolldown)
}

// engineFindings say what the scripts of the package would refuse, or ask for in vain.
func (b *builder) engineFindings() {
	dir := b.m.Engine()
	if dir == "" {
		return
	}
	if b.o.Mode == manifest.Reboot {
		b.block("mode", "", "A package of the appctl layout reboots no host.", "choose the mode offline or rolling")
	}
	if b.o.MaxUnavailable.Of(len(b.inv.Hosts)) > 1 {
		b.block("one-at-a-time", "", "The scripts of the package upgrade one node at a time, and refuse "+
			"others meanwhile.", "leave out --max-unavailable")
	}
	b.nodeFindings(dir)
	if b.o.Mode != manifest.Offline {
		b.ctbackupFindings()
		return
	}
	if b.inv.Engine.Array == "" {
		b.block("array", "", "An offline upgrade asks for the address of the storage array, also where the data is in files.",
			"say it in the platform file: engine: {array: ADDRESS}")
	}
	if b.inv.Applications == nil && !b.confirmed(applicationsStopped) {
		b.block("applications", "", "Before an offline upgrade the applications and MySQL must be stopped, and nothing says how.",
			"describe it in the platform file (applications), or stop them and say so: --confirmed "+applicationsStopped)
	}
}

// stoppedFinding says before an offline rollback what an upgrade asks an operator for.
func (b *builder) stoppedFinding() {
	if b.m.Engine() != "" && b.o.Mode == manifest.Offline && b.inv.Applications == nil {
		b.find(Finding{Rule: "applications", Level: Warn,
			Text: "Applications and MySQL must be stopped while the engine is rolled back, and nothing says how.", Remedy: "stop them now"})
	}
}

// nodeFindings want every node of the engine's cluster to be there, once.
func (b *builder) nodeFindings(dir string) {
	at := map[int]*inventory.Host{}
	nodes := 0
	for i := range b.inv.Hosts {
		h := &b.inv.Hosts[i]
		e := h.Engine(dir)
		switch {
		case e == nil:
			continue
		case e.Node < 0 || e.Nodes == 0 || e.Version == "":
			b.block("node", h.Name, fmt.Sprintf("The host does not tell which node of the engine it is, or which "+
				"version it has: it can not read %s/config/deploy_param.json or %s/versions.yml.", dir, dir),
				"see the host's problem in `holdfast host list`")
			continue
		case at[e.Node] != nil:
			b.block("node", h.Name, fmt.Sprintf("The host says that it is node %d of the engine, and so does %s.",
				e.Node, at[e.Node].Name), "correct node_id in deploy_param.json, or drop the host that is of another cluster")
		}
		at[e.Node], nodes = h, max(nodes, e.Nodes)
		if e.Version == b.m.Version && b.again == nil && b.inv.Version != b.m.Version {
			b.block("node", h.Name, fmt.Sprintf("Node %d has version %s already, others have %s, and no run of "+
				"Holdfast has begun that.", e.Node, e.Version, b.inv.Version),
				"finish by hand what was begun by hand, or undo it: the engine is upgraded as a whole")
		}
	}
	for n := range nodes {
		switch h := at[n]; {
		case h == nil:
			b.block("node", "", fmt.Sprintf("No host that reports has node %d of the engine, which has %d nodes.", n,
				nodes), "start Holdfast's agent on all nodes: the engine is upgraded as a whole")
		case slices.Contains(b.o.Drop, h.Name):
			b.block("node", h.Name, fmt.Sprintf("The host is node %d of the engine and was dropped.", n),
				"the engine is upgraded as a whole: repair the host instead")
		}
	}
}

// ctbackupFindings say that a rolling upgrade asks about ctbackup.
func (b *builder) ctbackupFindings() {
	for i := range b.m.Modules {
		mod := &b.m.Modules[i]
		if plan, ok := b.backupOf(mod.Name); ok && plan.Provider == "ctbackup" {
			if s := plan.Settings; bytes.Contains(s, []byte(`"during"`)) && !bytes.Contains(s, []byte(`"metadataPath"`)) {
				b.find(Finding{
					Rule: "ctbackup", Level: Warn, Text: "Nothing says where the metadata of MySQL is, which " +
						"ctbackup is to read. Each host looks for it before anything is changed, and stops the run when it finds none.",
					Remedy: "read in the log of the backup's step what was found, or name the directory in the platform file (metadataPath)",
				})
			}
			continue
		}
		if mod.Actions.Install == nil {
			continue
		}
		b.find(Finding{
			Rule: "ctbackup", Level: Warn, Text: "The first node of a rolling upgrade asks whether ctbackup has made " +
				"a backup, and this run has no answer of its own.",
			Remedy: fmt.Sprintf("choose one: --backup %s=NAME, of a backup by ctbackup in the platform file; or have "+
				"the answers in the credentials file", mod.Name),
		})
	}
}
