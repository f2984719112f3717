package upgrade

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/version"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade/path"
)

func (b *builder) find(f Finding) { b.plan.Findings = append(b.plan.Findings, f) }

func (b *builder) block(rule string, h cluster.HostID, text, remedy string) {
	b.find(Finding{Rule: rule, Level: Block, Host: h, Text: text, Remedy: remedy})
}

// noHostRule is the rule that some host has the module.
func noHostRule(module string) string { return "no-host-for-" + module }

// CheckConfirmed wants names of rules and checks that there are: one with a slip of the pen would confirm nothing, in
// silence. m and c may be nil. Whether a rule finds something does not matter.
func CheckConfirmed(confirmed []string, m *manifest.Manifest, inv *inventory.Inventory, c *path.Catalogue, checks []string) error {
	can := append(c.Confirmable(), RuleActive, manifest.RuleReadBack, SnapshotsDone, applicationsStopped, ruleUndone, unwatched, liveCentOS)
	for _, g := range inv.Apart {
		can = append(can, apartRule(g.Name))
	}
	if m != nil {
		for _, mod := range m.Modules {
			can = append(can, noHostRule(mod.Name))
		}
	}
	can = append(can, checks...)
	slices.Sort(can)
	for _, name := range confirmed {
		if !slices.Contains(can, name) {
			return fmt.Errorf("--confirmed %q: want one of %s", name, strings.Join(slices.Compact(can), ", "))
		}
	}
	return nil
}

func (b *builder) confirmed(rule string) bool { return slices.Contains(b.o.Confirmed, rule) }

// findings are about the input as a whole, before hosts are chosen.
func (b *builder) findings() {
	b.modeFindings()
	b.allHostsFindings()
	b.versionFindings()
	b.moduleFindings()
	b.backupFindings()
	b.hostFindings()
	b.vmFindings()
	b.probeFindings()
	b.engineFindings()
}

func (b *builder) modeFindings() {
	if b.o.Mode == manifest.Reboot && !b.m.RequiresReboot {
		b.find(Finding{Rule: "mode", Level: Warn, Text: "The bundle needs no reboot, but the mode reboots every host.", Remedy: "choose rolling"})
	}
	if b.o.KeepGuests && b.m.RequiresReboot && b.o.Mode != manifest.Offline {
		b.block("keep-guests", "", "Guests can not stay on their hosts: the bundle reboots them.", "let guests move, or choose the mode offline")
	}
	switch {
	case b.o.LossLimit != 0 && !b.o.Probe:
		b.block("loss-limit", "", "There is a limit of lost packets, and they are not measured.",
			"measure them (--probe), or leave the limit out")
	case b.o.LossLimit != 0 && b.o.Mode == manifest.Offline:
		b.find(Finding{Rule: "loss-limit", Level: Warn,
			Text:   "The limit of lost packets is not looked at in the mode offline: all hosts are worked on at once.",
			Remedy: "read the report, or choose rolling"})
	}
	if len(b.o.Pin) > 0 && (!b.o.KeepGuests || b.o.Mode != manifest.Rolling) {
		b.block("pin", "", "Bridges are to be pinned, and guests do not stay on their hosts.",
			"choose rolling, let guests stay (--keep-guests), or leave the bridges out")
	}
	for i, name := range b.o.Pin {
		if name == "" || slices.Contains(b.o.Pin[:i], name) {
			b.block("pin", "", fmt.Sprintf("Bridge %q is to be pinned: want names, each once.", name), "correct --pin")
		}
	}
	if r := b.inv.Running; r != "" {
		b.block("running", "", "An upgrade to "+r+" is under way.", "wait for its end, commit it or roll it back first")
	}
	if cycle := b.m.Cycle(); cycle != nil {
		b.block("cycle", "", "Modules wait for one another: "+strings.Join(cycle, " -> ")+".", "correct the manifest")
	}
	if len(b.inv.Hosts) == 0 {
		b.block("hosts", "", "The inventory has no hosts.", "list them in the inventory file (hosts), or start the agents of the hosts")
	}
}

// scheme finds the way in which all versions are written.
func (b *builder) scheme() (version.Scheme, error) {
	texts := []string{b.m.Version}
	for i := range b.inv.Hosts {
		if v := b.versionOf(&b.inv.Hosts[i]); !slices.Contains(texts, v) {
			texts = append(texts, v)
		}
	}
	return version.Detect(texts...)
}

// versionFindings look at what is installed against the white list.
func (b *builder) versionFindings() {
	scheme, err := b.scheme()
	if err != nil {
		b.block("version", "", fmt.Sprintf("Versions can not be compared: %v.", err), "correct the inventory or the manifest")
		return
	}
	var seen []string
	for i := range b.inv.Hosts {
		h := &b.inv.Hosts[i]
		v := b.versionOf(h)
		if slices.Contains(seen, v) || slices.Contains(b.o.Drop, h.Name) {
			continue
		}
		seen = append(seen, v)
		if v != b.m.Version {
			b.installed(scheme, h, v)
		}
	}
	if len(seen) > 1 {
		b.find(Finding{Rule: "mixed-versions", Level: Warn, Text: "The hosts have several versions: " + strings.Join(seen, ", ") + "."})
	}
}

// installed checks one version that hosts have.
func (b *builder) installed(scheme version.Scheme, h *inventory.Host, text string) {
	v, err := version.Parse(scheme, text)
	if err != nil {
		b.block("version", h.Name, fmt.Sprintf("The installed version can not be read: %v.", err), "correct the inventory")
		return
	}
	if to, err := version.Parse(scheme, b.m.Version); err == nil {
		if order, err := version.Compare(v, to); err == nil && order > 0 {
			b.block("downgrade", h.Name, fmt.Sprintf("The installed version %s is later than %s.", text, b.m.Version),
				"take a bundle of a later version, or roll back")
			return
		}
	}
	from, err := b.m.From(scheme, text, b.o.Mode)
	src, want := from.Source, b.o.Mode.Listed()
	switch {
	case err != nil:
		b.block("white-list", h.Name, fmt.Sprintf("The white list can not be read: %v.", err), "correct the manifest")
	case !from.Listed:
		b.block("white-list", h.Name, fmt.Sprintf("The bundle does not upgrade from version %s.", text),
			"see `holdfast upgrade path` for the versions on the way")
	case !from.Allowed:
		b.block("white-list", h.Name, fmt.Sprintf("From version %s the bundle does not support a %s upgrade, only %s.",
			text, want, joinModes(src.Modes)),
			"choose another mode")
	case want == manifest.Rolling && len(b.m.Mixed) > 0 && !b.m.MayMix(scheme, text):
		b.block("mixed", h.Name, fmt.Sprintf("Version %s may not run beside %s, but during this upgrade it would.",
			text, b.m.Version), "choose the mode offline")
	}
	if from.Listed && src.ChangeSystemTables {
		b.find(Finding{Rule: "system-tables", Level: Info, Text: fmt.Sprintf("From version %s the upgrade changes system tables.", text)})
	}
}

func joinModes(modes []manifest.Mode) string {
	out := make([]string, len(modes))
	for i, m := range modes {
		out[i] = string(m)
	}
	return strings.Join(out, " and ")
}

func (b *builder) moduleFindings() {
	for i := range b.m.Modules {
		mod := &b.m.Modules[i]
		if mod.FilesOnly() {
			b.find(Finding{Rule: "files-only", Level: Info,
				Text: fmt.Sprintf("Module %s has no actions: its files are unpacked for the programs of other "+
					"modules, and nothing of it is installed.", mod.Name)})
			continue
		}
		some := false
		for j := range b.inv.Hosts {
			some = some || mod.On(&b.inv.Hosts[j])
		}
		if rule := noHostRule(mod.Name); !some && !b.confirmed(rule) {
			b.block("runs-on", "", fmt.Sprintf("Module %s runs on %s, but no host matches that.", mod.Name, mod.RunsOn),
				"correct labels or roles in the inventory, or go on without this module: --confirmed "+rule)
		}
		plan, byProvider := b.backupOf(mod.Name)
		backup := mod.Actions.Backup != nil || byProvider
		switch {
		case mod.Actions.Install == nil || mod.Actions.Install.None:
		case !mod.CanRollback && !(byProvider && restorable(&plan)):
			b.find(Finding{Rule: "no-rollback", Level: Warn, Text: fmt.Sprintf("Module %s can not be rolled back.", mod.Name)})
		case !backup:
			text := "Module %s is not backed up before the change. Whether its rollback needs a backup is known to " +
				"its programs only, and was not tried."
			if a := mod.Actions.Rollback; a != nil && (a.Packages != nil || a.FileTree != nil) {
				text = "Module %s has no action backup. What it replaces is kept right before that, and nothing is replaced that can not be kept."
			}
			b.find(Finding{Rule: "no-backup", Level: Info, Text: fmt.Sprintf(text, mod.Name)})
		}
	}
}

// hostFindings look at each host by itself.
func (b *builder) hostFindings() {
	for i := range b.inv.Hosts {
		h := &b.inv.Hosts[i]
		if slices.Contains(b.o.Drop, h.Name) {
			continue
		}
		if h.Down {
			b.block("host-down", h.Name, "The host is down.", fmt.Sprintf("repair it, or leave it out of the upgrade: --drop %s", h.Name))
		}
		if h.Maintenance {
			b.find(Finding{Rule: "maintenance", Level: Warn, Host: h.Name,
				Text: "The host is in maintenance: it takes no guests, also after the run."})
		}
		if need := b.m.MinSpace(); h.FreeBytes > 0 && h.FreeBytes < need {
			b.block("space", h.Name, fmt.Sprintf("The host has %d MiB free for unpacking, the bundle needs %d MiB.",
				h.FreeBytes>>20, need>>20), "free space on the file system of upgrade/bundles in the host's data directory")
		}
		for _, cmd := range b.m.Requires.Commands {
			if h.Commands != nil && !slices.Contains(h.Commands, cmd) {
				b.block("command", h.Name, fmt.Sprintf("The host has no command %s.", cmd), "install it")
			}
		}
		for _, p := range h.Pools {
			if p.Shared && p.Active && p.Paths == 1 && (b.o.Mode == manifest.Reboot || b.m.RequiresReboot) {
				b.find(Finding{
					Rule: "single-path", Level: Warn, Host: h.Name,
					Text:   fmt.Sprintf("The shared pool %s has one path. It is removed before the reboot and added back with multipath.", p.Name),
					Remedy: "check that a second path to its device works",
				})
			}
		}
	}
}

// liveCentOS is the name of the rule that no guest of that system moves live on old versions.
const liveCentOS = "centos65-live-migration"

// mayHang says why a live migration of a VM is a risk on the installed version.
func (b *builder) mayHang(v *inventory.VM) string {
	const rule = liveCentOS
	if strings.HasPrefix(strings.ToLower(v.System), "centos6.5") && b.fromCAS("<=E0218H06") && !b.confirmed(rule) {
		return "CentOS 6.5 may hang when it moves live on E0218H06 and before; to move it live all the same: --confirmed " + rule
	}
	return ""
}

// largeGuest is the memory from which on guests may fail to move live on CAS 2.0, MiB.
const largeGuest = 32 << 10

func (b *builder) vmFindings() {
	family := b.fromCAS("2.0")
	b.policyFindings()
	if !b.empties() {
		return
	}
	b.apartFindings()
	for i := range b.inv.VMs {
		v := &b.inv.VMs[i]
		if !v.Running || slices.Contains(b.o.Drop, v.Host) {
			continue
		}
		if v.Busy != "" {
			b.find(Finding{Rule: "busy", Level: Warn, Host: v.Host, VM: v.Name,
				Text: "It is busy: " + v.Busy + ". The run waits until that has ended, then moves it."})
		}
		if link := b.hosts[v.Host].Bandwidth(); v.Dirty >= link/2 && len(v.Fixed) == 0 {
			then := "takes long"
			if v.Dirty >= link {
				then = "ends only by slowing the guest down"
			}
			b.find(Finding{
				Rule: "dirty-rate", Level: Warn, Host: v.Host, VM: v.Name,
				Text: fmt.Sprintf("It changes %.0f MiB/s of its memory, and the migration network carries %.0f "+
					"MiB/s: a live migration %s.", v.Dirty, link, then),
				Remedy: "choose a quieter time or a faster network (--migration-network), or say that it can not " +
					"move live (fixed in the platform file) and choose its policy",
			})
		}
		if family && v.MemoryMiB >= largeGuest && len(v.Fixed) == 0 {
			b.find(Finding{
				Rule: "large-guests", Level: Warn, Host: v.Host, VM: v.Name,
				Text: "Guests of 32 GiB and more may fail to move live on CAS 2.0.",
				Remedy: fmt.Sprintf("to move it cold, say in the platform file that it can not move live (fixed), "+
					"and choose its policy: --policy %s=cold", b.call(v)),
			})
		}
	}
}

// unwatched is the rule about guests whose lost packets nobody can count.
const unwatched = "unwatched"

// probeFindings name, for each host, the guests of which no address is known.
func (b *builder) probeFindings() {
	if !b.o.Probe {
		return
	}
	level := Block
	if b.confirmed(unwatched) {
		level = Warn
	}
	for i := range b.inv.Hosts {
		h := &b.inv.Hosts[i]
		var names []string
		for _, v := range b.running[h.Name] {
			if len(v.Addresses) == 0 {
				names = append(names, v.Name)
			}
		}
		if len(names) > 0 {
			b.find(Finding{
				Rule: unwatched, Level: level, Host: h.Name,
				Text: "Lost packets of these guests can not be counted, because no address of them is known: " + strings.Join(names, ", ") + ".",
				Remedy: "give their addresses in the platform file (vms[].addresses), let libvirt know them (its " +
					"leases, the guest agent, the host's ARP table), or begin without watching them: --confirmed " + unwatched,
			})
		}
	}
}

// takes reports whether a host may receive guests.
func (o *Options) takes(h *inventory.Host) bool {
	return h.Has(inventory.RoleHost) && !h.Down && !h.Maintenance && !slices.Contains(o.Drop, h.Name) &&
		(len(o.Targets) == 0 || slices.Contains(o.Targets, h.Name))
}

// placeFindings look for hosts whose guests have nowhere to go at all.
func (b *builder) placeFindings() {
	if !b.empties() {
		return
	}
	takers := map[string]int{}
	for i := range b.inv.Hosts {
		if h := &b.inv.Hosts[i]; b.o.takes(h) {
			takers[h.Group]++
		}
	}
	for _, h := range b.part {
		others := takers[h.Group]
		if b.o.takes(h) {
			others--
		}
		if others > 0 || len(b.running[h.Name]) == 0 {
			continue
		}
		text := "No other host takes its guests."
		if h.Group != "" {
			text = fmt.Sprintf("No other host of group %s takes its guests.", h.Group)
		}
		b.alone[h.Name] = true
		b.block("single-host", h.Name, text, "add a host, choose other targets, or choose the mode offline")
	}
}

// leave lets the guests of a host leave in the play, and says what stands in the way.
func (b *builder) leave(h *inventory.Host) leave {
	if b.fleet == nil || !b.drains(h) {
		return leave{}
	}
	l := b.fleet.empty(h, b.policy)
	for _, v := range l.fixed {
		b.find(Finding{
			Rule: "policy", Level: Block, Host: h.Name, VM: v.Name,
			Text:   "It can not move live (" + strings.Join(b.fixed(v), "; ") + "), and no policy says what to do with it.",
			Remedy: fmt.Sprintf("choose its policy: --policy %s=stop, cold or skip", b.call(v)),
		})
	}
	if len(l.stuck) > 0 && !b.alone[h.Name] {
		v := l.stuck[0]
		text := fmt.Sprintf("The host can not be emptied: VM %s needs %d MiB, and no host has more than %d MiB free", v.Name, v.MemoryMiB, l.room)
		rule, remedy := "memory", "add memory or a host, stop guests, or choose fewer hosts at once"
		group, hosts := b.fleet.keptOut(b.fleet.nodes[h.Name], v)
		switch {
		case group >= 0:
			g := b.inv.Apart[group]
			rule, remedy = apartRule(g.Name), "add a host, choose fewer hosts at once, or give the group up for this "+
				"run: --confirmed "+apartRule(g.Name)
			text = fmt.Sprintf("The host can not be emptied: VM %s must not share a host with the others of group "+
				"%s, which are on %s, and no other host has room", v.Name, g.Name, joinHosts(hosts))
		case v.MemoryMiB > l.room:
		case len(b.vms[v.Name]) > 1:
			text = fmt.Sprintf("The host can not be emptied: no host has room and the CPUs for VM %s and no other VM of that name", v.Name)
		default:
			text = fmt.Sprintf("The host can not be emptied: no host with room has the CPUs for VM %s (%d "+
				"vCPUs, model %s)", v.Name, v.CPUs, cmp.Or(h.CPUModel, "any"))
		}
		if more := len(l.stuck) - 1; more > 0 {
			text += fmt.Sprintf("; %d more VMs find no place", more)
		}
		b.block(rule, h.Name, text+".", remedy)
	}
	b.noteLeave(h, &l)
	return l
}
