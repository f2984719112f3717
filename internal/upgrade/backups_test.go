package upgrade

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// webFiles is an inventory's backups: one for module web.
func webFiles() map[string]inventory.BackupPlan {
	return map[string]inventory.BackupPlan{"web-files": {Provider: "files", Settings: json.RawMessage(`{"paths":["/srv/web"]}`)}}
}

func TestBackupStep(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	inv.Backups = webFiles()
	o := Options{Mode: manifest.Rolling, Backup: map[string]string{"web": "web-files", "db": "mariadb"}, Confirmed: []string{"x"}, Run: "j1"}
	p := mustBuild(t, m, inv, o)
	if p.Blocked() {
		t.Fatalf("blocked: %v", p.Findings)
	}
	w := newWorld(t, p, inv)
	for step, want := range map[string]string{
		"h1/backup/web": `{"run":"j1","module":"web","provider":"files","settings":{"paths":["/srv/web"]},"confirmed":["x"]}`,
		"m1/backup/db":  `{"run":"j1","module":"db","provider":"mariadb","confirmed":["x"]}`,
	} {
		if s := w.steps[step]; s == nil || s.Kind != KindBackup || string(s.Args) != want {
			t.Errorf("%s: %+v, want %s", step, s, want)
		}
	}
}

func TestBackupFindings(t *testing.T) {
	for name, c := range map[string]struct {
		backup   map[string]string // by module
		provider string            // of backup x
		settings string
		want     []string // none: nothing is wrong
	}{
		"no settings needed": {map[string]string{"web": "mariadb"}, "", "", nil},
		"settings":           {map[string]string{"web": "x"}, "files", `{"paths":["/a"],"missing":true}`, nil},
		"by hand":            {map[string]string{"web": "x"}, "ctbackup", `{"choice":"done","sysPassword":"/p"}`, nil},
		"fingerprint": {map[string]string{"web": "x"}, "array",
			`{"address":"a","user":"u","password":"/p","fingerprint":"f","fileSystems":["s"]}`, nil},
		"nothing": {map[string]string{"web": ""}, "", "", nil},
		"bare provider": {map[string]string{"web": "qcow2"}, "", "",
			[]string{"backup-settings: Backup qcow2 of module web: provider qcow2 needs the setting images."}},
		"bare ctbackup": {map[string]string{"web": "ctbackup"}, "", "",
			[]string{"backup-settings: Backup ctbackup of module web: provider ctbackup needs the setting choice, sysPassword."}},
		"unknown provider": {map[string]string{"web": "x"}, "tape", "",
			[]string{"backup-settings: Backup x of module web: there is no provider tape"}},
		"nothing in it": {map[string]string{"web": "x"}, "lvm", `{"volumes":[],"percent":5}`,
			[]string{"backup-settings: Backup x of module web: provider lvm needs the setting volumes."}},
		"one of two": {map[string]string{"web": "x"}, "array", `{"address":"a","user":"u","password":"/p"}`,
			[]string{"backup-settings: Backup x of module web: provider array needs the setting ca or fingerprint, fileSystems."}},
		"no such setting": {map[string]string{"web": "x"}, "files", `{"paths":["/a"],"path":1}`,
			[]string{"backup-settings: Backup x of module web: provider files has no setting path."}},
		"no names with values": {map[string]string{"web": "x"}, "files", `["/a"]`,
			[]string{"backup-settings: Backup x of module web: its settings must be names with values."}},
		"stop first": {map[string]string{"web": "x"}, "ctbackup", `{"choice":"stop"}`,
			[]string{"backup-settings: Backup x of module web: it is set to stop the upgrade until a backup was made."}},
		"during": {map[string]string{"web": "x"}, "ctbackup",
			`{"choice":"during","sysPassword":"/p","port":1,"user":"u","password":"/p","storagePath":"/s"}`,
			[]string{"backup-settings: Backup x of module web: provider ctbackup needs the setting address."}},
		"one name for two": {map[string]string{"w.b": "mariadb", "w-b": "mariadb"}, "", "",
			[]string{"backup: The backups of modules w-b and w.b would have the same name."}},
		"a long name": {map[string]string{strings.Repeat("w", 49): "mariadb"}, "", "",
			[]string{"backup: A backup can not be named after module www"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, inv := webBundle(), hosts(2)
			for module := range c.backup {
				if module != "web" {
					m.Modules = append(m.Modules, manifest.Module{Name: module, CanRollback: true,
						Actions: manifest.Actions{Install: act(), Rollback: act()}})
				}
			}
			if c.provider != "" {
				inv.Backups = map[string]inventory.BackupPlan{"x": {Provider: c.provider, Settings: json.RawMessage(c.settings)}}
			}
			o := Options{Mode: manifest.Rolling, Backup: c.backup}
			if c.provider == "array" {
				o.Mode, m.UpgradeFrom[0].Modes = manifest.Offline, []manifest.Mode{manifest.Offline}
			}
			p := mustBuild(t, m, inv, o)
			var got []string
			for _, f := range p.Findings {
				if f.Level == Block {
					got = append(got, f.Rule+": "+f.Text)
				}
			}
			if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("blocked by %q, want %q", got, c.want)
			}
		})
	}
}

// What all hosts share is backed up once, and only where nobody uses it meanwhile.
func TestSharedBackup(t *testing.T) {
	m, inv := webBundle(), hosts(3)
	m.UpgradeFrom[0].Modes = []manifest.Mode{manifest.Offline, manifest.Rolling}
	inv.Backups = map[string]inventory.BackupPlan{"x": {Provider: "array",
		Settings: json.RawMessage(`{"address":"a","user":"u","password":"/p","fingerprint":"f","fileSystems":["s"]}`)}}
	for mode, blocked := range map[manifest.Mode]bool{manifest.Offline: false, manifest.Rolling: true} {
		p := mustBuild(t, m, inv, Options{Mode: mode, Backup: map[string]string{"web": "x"}})
		if p.Blocked() != blocked {
			t.Errorf("%s: %v", mode, p.Findings)
		}
		n := 0
		for _, s := range p.Steps() {
			if s.Kind == KindBackup {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s: %d backups", mode, n)
		}
	}
}

// Settings that are no JSON are the caller's mistake.
func TestBackupSettingsAreNoJSON(t *testing.T) {
	inv := hosts(2)
	inv.Backups = map[string]inventory.BackupPlan{"x": {Provider: "files", Settings: json.RawMessage(`{`)}}
	if _, err := Build(webBundle(), inv, Options{Mode: manifest.Rolling,
		Backup: map[string]string{"web": "x"}}); err == nil || !strings.Contains(err.Error(), "write the arguments of a step") {
		t.Errorf("error %v", err)
	}
}

// What a provider has backed up comes back, whether the module can do something
// itself or not; what is restored by hand needs an action of the module.
func TestRollbackOfBackups(t *testing.T) {
	settings := map[string]string{"files": `{"paths":["/a"]}`, "ctbackup": `{"choice":"done","sysPassword":"/p"}`}
	for _, c := range []struct {
		provider  string
		action    bool // the module has a rollback action
		want      string
		canNot    string // it is blocked for that
		planWarns bool   // of the upgrade
	}{
		{"files", true, "restore rollback", "", false},
		{"files", false, "restore", "", false},
		{"ctbackup", true, "rollback", "", false},
		{"ctbackup", false, "", "Module web can not be rolled back: a backup of ctbackup is restored by hand, with ctbackup.", true},
		{"", false, "", "Module web can not be rolled back.", true},
	} {
		t.Run(fmt.Sprint(c.provider, c.action), func(t *testing.T) {
			m, inv := webBundle(), hosts(2)
			if !c.action {
				m.Modules[0].CanRollback, m.Modules[0].Actions.Rollback = false, nil
			}
			o := Options{Mode: manifest.Rolling, KeepGuests: true}
			if c.provider != "" {
				inv.Backups = map[string]inventory.BackupPlan{"x": {Provider: c.provider, Settings: json.RawMessage(settings[c.provider])}}
				o.Backup = map[string]string{"web": "x"}
			}
			w := start(t, m, inv, o)
			if warns := slices.ContainsFunc(w.plan.Findings, func(f Finding) bool { return f.Rule == "no-rollback" }); warns != c.planWarns {
				t.Errorf("the plan of the upgrade warns: %v", w.plan.Findings)
			}
			inv.Backups = nil // whatever has become of the file since
			p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w)})
			if err != nil || p.Blocked() != (c.canNot != "") {
				t.Fatalf("%v %v", err, p.Findings)
			}
			if c.canNot != "" {
				if f := p.Findings[0]; f.Rule != "no-rollback" || f.Text != c.canNot {
					t.Errorf("finding %+v", f)
				}
				return
			}
			var got []string
			for _, s := range p.Steps() {
				if what, found := strings.CutPrefix(s.ID, "h0/"); found && strings.HasSuffix(what, "/web") && s.Kind != KindBackup {
					got = append(got, strings.TrimSuffix(what, "/web"))
				}
				if s.Kind == KindRestore && !s.Idempotent {
					t.Errorf("%s can not be done once more", s.ID)
				}
			}
			if strings.Join(got, " ") != "stop "+c.want+" start" {
				t.Errorf("steps %v, want %s", got, c.want)
			}
			back := newWorld(t, &p, inv)
			back.run()
			if back.job.Result != resultDone {
				t.Errorf("%s %s", back.job.Result, reason.Text(back.job.Why...))
			}
		})
	}
}

// A backup of a host that was not changed afterwards is neither asked for nor
// restored.
func TestRollbackWithoutBackups(t *testing.T) {
	m, inv := webBundle(), hosts(3)
	inv.Backups = webFiles()
	w := start(t, m, inv, Options{Mode: manifest.Rolling, Backup: map[string]string{"web": "web-files"}}, "h1/backup/web")
	wantPaused(t, w, "h1/backup/web failed")
	w.command(job.Abort)
	w.run()
	p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w)})
	if err != nil || p.Blocked() {
		t.Fatalf("%v %v", err, p.Findings)
	}
	back := newWorld(t, &p, inv)
	if got := args[CheckArgs](t, back.steps["h1/check"]); len(got.Backups) > 0 || back.steps["h1/restore/web"] != nil {
		t.Errorf("the check asks for %v; steps\n%s", got.Backups, outline(&p))
	}
	if back.steps["h0/restore/web"] == nil {
		t.Errorf("h0 is not restored:\n%s", outline(&p))
	}
}

func TestTooBig(t *testing.T) {
	inv := hosts(2)
	for i := range 1500 {
		inv.VMs = append(inv.VMs, inventory.VM{Name: fmt.Sprintf("a-guest-with-a-name-%d", i), Host: "h0", MemoryMiB: 1, Running: true})
	}
	p := mustBuild(t, webBundle(), inv, Options{Mode: manifest.Rolling})
	i := slices.IndexFunc(p.Findings, func(f Finding) bool { return f.Rule == "too-big" })
	if i < 0 || p.Findings[i].Level != Block || p.Findings[i].Host != "h0" ||
		!strings.HasPrefix(p.Findings[i].Text, "Step h0/drain has arguments of ") || p.Findings[i].Remedy == "" {
		t.Errorf("findings %+v", p.Findings)
	}
}
