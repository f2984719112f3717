package upgrade

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// provider is what the planner must know of a provider of backups.
type provider struct {
	needs  []string // settings without which it does nothing; with | between two, one of these
	may    []string // other settings that it takes
	during []string // settings that it needs, too, when its choice is during
	shared bool     // what it backs up is the same for all hosts: it is done once, and with the service stopped everywhere
	byHand string   // why what it makes is not restored by Holdfast, "" when it is
}

// providers returns what is known of them, by name.
func providers() map[string]provider {
	return map[string]provider{
		"files":   {needs: []string{"paths"}, may: []string{"missing", "changing", "maxBytes", "maxEntries"}},
		"mariadb": {may: []string{"method", "socket", "address", "port", "user", "password", "defaults"}},
		"ctbackup": {
			needs:  []string{"choice", "sysPassword"},
			may:    []string{"port", "storagePath", "metadataPath"},
			during: []string{"address", "user", "password", "storagePath"},
			byHand: "a backup of ctbackup is restored by hand, with ctbackup",
		},
		"qcow2": {needs: []string{"images"}},
		"lvm":   {needs: []string{"volumes"}, may: []string{"percent"}},
		"array": {needs: []string{"address", "user", "password", "ca|fingerprint", "fileSystems"}, shared: true},
	}
}

// backupOf returns how a module is backed up, false when by nothing but itself.
func (b *builder) backupOf(module string) (inventory.BackupPlan, bool) {
	name := b.o.Backup[module]
	if name == "" {
		return inventory.BackupPlan{}, false
	}
	if plan, ok := b.inv.Backups[name]; ok {
		return plan, true
	}
	return inventory.BackupPlan{Provider: name}, true
}

// backupFindings look at the backups that the run is to make.
func (b *builder) backupFindings() {
	ids := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(b.o.Backup)) {
		plan, ok := b.backupOf(name)
		if !ok {
			continue
		}
		// A backup is named after its module, in fewer letters.
		id := backupID(name)
		switch other := ids[id]; {
		case len(id) > maxBackupID:
			b.block("backup", "", fmt.Sprintf("A backup can not be named after module %s: it has more than %d letters.",
				name, maxBackupID), "let the module back itself up")
		case other != "":
			b.block("backup", "", fmt.Sprintf("The backups of modules %s and %s would have the same name.", other,
				name), "let one of the modules back itself up")
		}
		ids[id] = name
		if providers()[plan.Provider].shared && b.o.Mode != manifest.Offline {
			b.block("backup", "", fmt.Sprintf("Module %s can not be backed up by %s in mode %s: a restore would "+
				"change data that other hosts are using.", name, plan.Provider, b.o.Mode),
				"choose the mode offline, or let the module back itself up")
		}
		for _, why := range backupFaults(&plan) {
			b.block("backup-settings", "", fmt.Sprintf("Backup %s of module %s: %s.", b.o.Backup[name], name, why), b.backupRemedy(b.o.Backup[name]))
		}
	}
}

// maxBackupID bounds the name of a backup, bytes.
const maxBackupID = 48

// backupID is the name of a module's backup on a host.
func backupID(module string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '-'
	}, module)
}

func (b *builder) backupRemedy(name string) string {
	if _, ok := b.inv.Backups[name]; ok {
		return "correct it in the inventory's backups"
	}
	known := "none"
	if len(b.inv.Backups) > 0 {
		known = strings.Join(slices.Sorted(maps.Keys(b.inv.Backups)), ", ")
	}
	return fmt.Sprintf("describe it in the inventory's backups, or choose an existing one: %s", known)
}

// backupFaults says what is wrong with a plan of a backup.
func backupFaults(p *inventory.BackupPlan) (out []string) {
	prov, known := providers()[p.Provider]
	if !known {
		return []string{fmt.Sprintf("there is no provider %s, only %s", p.Provider, strings.Join(slices.Sorted(maps.Keys(providers())), ", "))}
	}
	settings := map[string]json.RawMessage{}
	if len(p.Settings) > 0 {
		if err := json.Unmarshal(p.Settings, &settings); err != nil {
			return []string{"its settings must be names with values"}
		}
	}
	needs := prov.needs
	switch choice := string(settings["choice"]); {
	case prov.during == nil:
	case choice == `"stop"`:
		return []string{"it is set to stop the upgrade until a backup was made"}
	case choice == `"during"`:
		needs = slices.Concat(needs, prov.during)
	}
	var lacks []string
	for _, n := range needs {
		if !slices.ContainsFunc(strings.Split(n, "|"), func(k string) bool { return given(settings[k]) }) {
			lacks = append(lacks, strings.ReplaceAll(n, "|", " or "))
		}
	}
	if len(lacks) > 0 {
		out = append(out, fmt.Sprintf("provider %s needs the setting %s", p.Provider, strings.Join(lacks, ", ")))
	}
	takes := strings.Split(strings.Join(slices.Concat(prov.needs, prov.may, prov.during), "|"), "|")
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		if !slices.Contains(takes, k) {
			out = append(out, fmt.Sprintf("provider %s has no setting %s", p.Provider, k))
		}
	}
	return out
}

// given reports whether a setting has a value.
func given(v json.RawMessage) bool {
	switch string(v) {
	case "", "null", `""`, "[]", "{}":
		return false
	}
	return true
}

// restorable reports whether Holdfast brings back what the plan backs up.
func restorable(p *inventory.BackupPlan) bool {
	prov, known := providers()[p.Provider]
	return known && prov.byHand == ""
}

// madeBy returns the provider that has backed a module up on a host in the
// upgrade, "" when none has.
func (r *rollback) madeBy(h *inventory.Host, mod *manifest.Module) string {
	s := r.steps[stepID(h.Name, string(manifest.Backup), mod.Name)]
	if s == nil || s.Kind != KindBackup || r.recs[s.ID].State != job.Done {
		return ""
	}
	var args BackupArgs
	if json.Unmarshal(s.Args, &args) != nil {
		return "" // Build has written them
	}
	return args.Provider
}

// restore appends that what a provider has backed up comes back.
func (r *rollback) restore(c *chain, mod *manifest.Module) {
	made := r.madeBy(c.h, mod)
	if made == "" || providers()[made].byHand != "" {
		return
	}
	c.add(KindRestore, RestoreArgs{Run: r.runOf(c.h.Name, mod.Name), Module: mod.Name, Provider: made}, timeBackup, "restore", mod.Name)
}
