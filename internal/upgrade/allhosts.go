package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
)

// This file is about bundles whose program changes all hosts from the active manager
// (manifest.AllHosts), such as an upgrade.sh of CAS.

// RuleActive is the name of the rule that the platform itself says which manager is active.
const RuleActive = "active-manager"

// ActiveManager says which node of a pair is the active one, by what the pair's status
// program has ended with on each (Facts.Status), and what each has said. The error says
// that none is, or that both are.
func ActiveManager(p *inventory.Pair, told map[cluster.HostID]*fact.Facts) (active cluster.HostID, said string, err error) {
	var all []string
	n := 0
	for _, node := range p.Nodes {
		word, is := pairWord(told[node])
		all = append(all, string(node)+" "+word)
		if is {
			active = node
			n++
		}
	}
	said = fmt.Sprintf("%s: %s", strings.Join(p.Status, " "), strings.Join(all, ", "))
	switch n {
	case 1:
		return active, said, nil
	case 0:
		err = errors.New("no manager of the pair is active")
	default:
		err = errors.New("both managers of the pair say that they are active")
	}
	return "", said, fmt.Errorf("%w (%s)", err, said)
}

// pairWord puts into words what the status program has ended with on a node.
func pairWord(f *fact.Facts) (word string, active bool) {
	switch {
	case f == nil:
		return "was not asked", false
	case f.Status == nil:
		return fmt.Sprintf("does not answer (%s)", cmp.Or(f.Unknown["status"], f.Unknown[fact.Nothing], "no reason is known")), false
	case f.Status.Exit == 0:
		return "is active (exit code 0)", true
	case f.Status.Exit == 3:
		return "is standby (exit code 3)", false
	}
	word = fmt.Sprintf("is not healthy (exit code %d", f.Status.Exit)
	if text := strings.Join(strings.Fields(f.Status.Text), " "); text != "" {
		word += ", " + text
	}
	return word + ")", false
}

// ActiveFinding says which manager is the active one, by what ActiveManager has found, and
// where the inventory says otherwise.
func ActiveFinding(p *inventory.Pair, active cluster.HostID, said string, err error) Finding {
	switch {
	case err != nil:
		return Finding{
			Rule: RuleActive, Level: Block, Text: fmt.Sprintf("The bundle's program runs on the active manager, and %v.", err),
			Remedy: "start the pair's services (" + cmp.Or(strings.Join(p.Start, " "),
				"with the platform's own tools") + "), so that one manager is active and one standby",
		}
	case active != p.Active:
		return Finding{
			Rule: RuleActive, Level: Warn, Host: active,
			Text: fmt.Sprintf("It is the active manager (%s), though the platform file says %s. The bundle's "+
				"program runs on %s.", said, p.Active, active),
			Remedy: "correct pair.active in the platform file",
		}
	}
	return Finding{Rule: RuleActive, Level: Info, Host: active,
		Text: fmt.Sprintf("It is the active manager (%s). Both managers are asked again right before.", said)}
}

// Behind names the hosts that do not report a version, and what they report; "": all report
// it. told are the facts of each.
func Behind(version string, hosts []cluster.HostID, told map[cluster.HostID]*fact.Facts) string {
	var out []string
	for _, h := range hosts {
		f := told[h]
		switch {
		case f == nil:
			out = append(out, string(h)+" was not asked")
		case f.Version == "":
			out = append(out, fmt.Sprintf("%s does not say (%s)", h,
				cmp.Or(f.Unknown["version"], f.Unknown[fact.Nothing], "no file with the version is known")))
		case f.Version != version:
			out = append(out, fmt.Sprintf("%s has %s", h, f.Version))
		}
	}
	if more := len(out) - maxWaits; more > 0 {
		out = append(out[:maxWaits], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

// activeManager is the host on which a bundle's program changes all hosts; nil: the
// inventory does not say which.
func (b *builder) activeManager() *inventory.Host {
	if p := b.inv.Pair; p != nil {
		return b.hosts[p.Active]
	}
	var one *inventory.Host
	for i := range b.inv.Hosts {
		h := &b.inv.Hosts[i]
		if !h.Has(inventory.RoleManager) {
			continue
		}
		if one != nil {
			return nil
		}
		one = h
	}
	return one
}

// allHostsFindings say what is missing for a bundle that changes all hosts at once.
func (b *builder) allHostsFindings() {
	if b.m.AllHosts() == nil {
		return
	}
	switch h := b.activeManager(); {
	case h == nil:
		b.block(RuleActive, "", "The bundle's program runs on the active manager, and the inventory does not say which host that is.",
			"name the managers in the platform file: roles, and pair if there are two")
	case !h.Has(inventory.RoleManager):
		b.block(RuleActive, h.Name, "It is the active manager, and does not have the role manager.", "correct its roles in the platform file")
	case slices.Contains(b.o.Drop, h.Name):
		b.block(RuleActive, h.Name, "It is the active manager, on which the bundle's program runs, and was dropped.", "do not drop it")
	default:
		b.find(Finding{Rule: RuleActive, Level: Info, Host: h.Name,
			Text: b.m.AllHosts().Actions.Install.Run[0] + " runs here, once, and changes all hosts."})
	}
	if p := b.inv.Pair; p != nil && len(p.Status) == 0 && !b.confirmed(RuleActive) {
		b.block(RuleActive, p.Active, "No program is known that says which manager is active: only the inventory says that it is this one.",
			"name the program in the platform file (pair.status), or say that the inventory is right: --confirmed "+RuleActive)
	}
	if b.inv.Status.VersionFile == "" && !b.confirmed(manifest.RuleReadBack) {
		b.block(manifest.RuleReadBack, "", "The exit code of the bundle's program does not tell whether all hosts "+
			"have the new version, and no file is known from which their version can be read.",
			"name the file in the platform file (status.versionFile), or go on without it: --confirmed "+manifest.RuleReadBack)
	}
	if b.inv.HA == nil {
		b.find(Finding{
			Rule: "no-ha", Level: Warn, Text: "The platform file does not say how the platform's own HA is switched " +
				"off (ha). It may start guests a second time while hosts are rebooted.",
			Remedy: "name the programs in the platform file, or switch HA off by hand for the whole run",
		})
	}
	for _, h := range b.o.Drop {
		b.find(Finding{Rule: "drop", Level: Warn, Host: h,
			Text: "It is left out of the run, but the bundle's program may change it, too.", Remedy: "reboot it when it is empty"})
	}
}

// fitsAllHosts refuses modes in which hosts would be rebooted before they are changed, or
// guests stopped without need.
func fitsAllHosts(m *manifest.Manifest, mode manifest.Mode) error {
	mod := m.AllHosts()
	if mod == nil || mode == manifest.Reboot {
		return nil
	}
	by := ""
	if mode == manifest.Offline {
		by = ". With guests stopped, only the vendor's own procedure leads there, by hand"
	}
	return fmt.Errorf("mode %s does not fit the bundle: %s changes all hosts at once from the active manager while "+
		"guests run, and the hosts are rebooted one after the other behind that. Want the mode reboot, which is "+
		"the default%s", mode, mod.Actions.Install.Run[0], by)
}

// installedBy wants the step that changes all hosts in the plan, unless an earlier run
// has done it.
func (b *builder) installedBy() {
	mod := b.m.AllHosts()
	if mod == nil || len(b.part) == 0 {
		return
	}
	if first, taken := b.once[mod.Name+"/"+string(manifest.Install)]; taken && first == "" {
		return
	}
	if h := b.activeManager(); h != nil && !slices.Contains(b.part, h) {
		b.block(RuleActive, h.Name, "It is the active manager and is left out of the run, so nothing would "+
			"be installed.", "see why it is left out, and correct that")
	}
}

// allHostsBack is the way back from a program that changes all hosts and has no rollback of
// its own: there is one as long as it has changed nothing.
func (r *rollback) allHostsBack() {
	mod := r.m.AllHosts()
	if mod == nil || mod.Actions.Rollback != nil || len(r.part) == 0 {
		return
	}
	var hosts []cluster.HostID
	for _, h := range r.upgrade.Hosts {
		if !r.lost[h.Name] {
			hosts = append(hosts, h.Name)
		}
	}
	if behind := Behind(r.plan.To, hosts, r.facts.Told); behind != "" {
		r.block("no-rollback", "", fmt.Sprintf("Module %s can not be rolled back, and not all hosts have %s still: %s.",
			mod.Name, r.plan.To, behind),
			fmt.Sprintf("go on with the upgrade, or bring the hosts to %s by the means of the package's maker first", r.plan.To))
		return
	}
	r.find(Finding{Rule: "no-rollback", Level: Info, Text: fmt.Sprintf("Module %s has changed nothing: all hosts "+
		"report %s still.", mod.Name, r.plan.To)})
}
