package upgrade

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// ruleUndone is the name of the rule that nothing stays switched off unnoticed.
const ruleUndone = "left-undone"

// undoneFindings name guests that were shut down and pools that were taken off by the
// runs before, when an abort could not bring them back and nobody else has: a plan is
// made of what runs now, and does not know of them. gone are hosts that are not what
// they were.
func (b *builder) undoneFindings(past *past, level Level, gone func(cluster.HostID) bool) {
	for i := range b.inv.Hosts {
		h := &b.inv.Hosts[i]
		if gone(h.Name) {
			continue
		}
		if s := past.undone(stepID(h.Name, KindVMStart)); s != nil {
			b.undone(level, h, s, "guests that were shut down for the upgrade were not started again", "virsh start", b.stillOff(s))
		}
		if s := past.undone(stepID(h.Name, KindStorageAttach)); s != nil && !h.Down {
			b.undone(level, h, s, "pools that were taken off for a reboot were not brought back", "virsh pool-start", stillAway(h, s))
		}
	}
}

// undone returns the step when what it makes good was begun, and it is not over.
func (p *past) undone(id string) *Step {
	s := p.steps[id]
	if s == nil || p.recs[id].State.Over() || !slices.ContainsFunc(s.Restores, func(x string) bool { return begun(p.recs[x]) }) {
		return nil
	}
	return s
}

// undone says what a step has left, and how to make it good by hand.
func (b *builder) undone(level Level, h *inventory.Host, s *Step, text, command string, names []string) {
	if len(names) == 0 {
		return
	}
	var commands []string
	for _, n := range names {
		commands = append(commands, command+" "+n)
	}
	remedy := "on " + string(h.Name) + ": " + strings.Join(commands, "; ")
	switch {
	case level != Block:
	case b.confirmed(ruleUndone):
		level = Warn
	default:
		remedy += "; or go on without: --confirmed " + ruleUndone
	}
	b.find(Finding{Rule: ruleUndone, Level: level, Host: h.Name,
		Text: fmt.Sprintf("Step %s was not done: %s: %s.", s.ID, text, strings.Join(names, ", ")), Remedy: remedy})
}

// stillOff are the guests of a step that run nowhere. One that is in no inventory may
// only not be seen.
func (b *builder) stillOff(s *Step) (out []string) {
	var args VMArgs
	if json.Unmarshal(s.Args, &args) != nil {
		return nil // Build has written them
	}
	for _, g := range args.Guests {
		runs := slices.ContainsFunc(b.inv.VMs, func(v inventory.VM) bool {
			return v.Running && (g.UUID != "" && v.UUID == g.UUID || v.Name == g.Name && (g.UUID == "" || v.UUID == "") && v.Host == s.Host)
		})
		if !runs && !g.Protected { // the protected one is started by Holdfast
			out = append(out, g.Name)
		}
	}
	return out
}

// stillAway are the pools of a step that are not active on the host.
func stillAway(h *inventory.Host, s *Step) (out []string) {
	var args StorageArgs
	if json.Unmarshal(s.Args, &args) != nil {
		return nil // Build has written them
	}
	for _, p := range args.Pools {
		if !slices.ContainsFunc(h.Pools, func(x inventory.Pool) bool { return x.Name == p.Name && x.Active }) {
			out = append(out, p.Name)
		}
	}
	return out
}

// onceOn are the modules of which a host has done for the whole cluster what no other
// does again: an installation, or the backup of one that was begun. It is gone with it.
func (p *past) onceOn(m *manifest.Manifest, h cluster.HostID) (out []string) {
	for i := range m.Modules {
		mod := &m.Modules[i]
		if once(mod.Actions.Install) && p.begun(h, string(manifest.Install), mod.Name) || p.onlyBackup(mod, h) {
			out = append(out, mod.Name)
		}
	}
	return out
}

// onlyBackup reports whether a host has made the backup of a module for all hosts, and
// the module was changed since.
func (p *past) onlyBackup(mod *manifest.Module, h cluster.HostID) bool {
	s := p.steps[stepID(h, string(manifest.Backup), mod.Name)]
	if s == nil || p.recs[s.ID].State != job.Done {
		return false
	}
	var args BackupArgs
	shared := s.Kind == KindBackup && json.Unmarshal(s.Args, &args) == nil && providers()[args.Provider].shared
	if !shared && (s.Kind == KindBackup || !once(mod.Actions.Backup)) {
		return false
	}
	for id, x := range p.steps {
		if id == stepID(x.Host, string(manifest.Install), mod.Name) && begun(p.recs[id]) {
			return true
		}
	}
	return false
}

// onceFindings name what a host that is lost, or was installed anew, has done once for
// the whole cluster.
func (b *builder) onceFindings(past *past, level Level, h cluster.HostID, remedy string) {
	for _, mod := range past.onceOn(b.m, h) {
		b.find(Finding{Rule: "once", Level: level, Host: h,
			Text: fmt.Sprintf("The change that module %s made once, on %s, can not be rolled back any more.", mod, h), Remedy: remedy})
	}
}

func once(a *manifest.Action) bool { return a != nil && a.Once }
