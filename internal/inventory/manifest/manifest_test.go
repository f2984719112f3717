package manifest

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/inventory"
)

func file(path string) File {
	return File{Path: path, Size: 1, SHA256: strings.Repeat("0a", 32), Mode: "0644"}
}

// valid is a manifest without faults that uses every kind of action.
func valid() *Manifest {
	run := func(args ...string) *Action { return &Action{Run: append([]string{"db/ctl"}, args...)} }
	return &Manifest{
		Name: "app", Version: "2.0.0.B086", RequiresReboot: true, Kernel: "4.19.90-1.el7",
		Requires:    Requires{Commands: []string{"tree"}, PythonModules: []string{"yaml.nodes"}},
		UpgradeFrom: []Source{{Version: "2.0.0.*", Modes: []Mode{Offline, Rolling}}},
		Mixed:       []string{"24.06.SP1-SP5"}, Path: &Path{Catalogue: "hops.yaml"},
		Order: Order{Stop: []string{"web", "db", "os"}},
		Modules: []Module{
			{
				Name: "db", RunsOn: "manager", CanRollback: true, Timeout: Duration(time.Minute),
				Files:   []File{file("db/ctl"), file("hops.yaml")},
				Config:  []ConfigFile{{File: "hops.yaml", Installed: "/etc/hops", Format: "yaml"}},
				Actions: Actions{Install: run("{mode}", `{"a": 1}`), Rollback: run(), Check: run("{phase}")},
			},
			{
				Name: "web", After: []string{"os"}, RunsOn: "label:tier=web",
				Files: []File{file("web/a"), file("web/b.tar")},
				Actions: Actions{
					Stop:    &Action{Systemd: &Systemd{Stop: []string{"web@1.service"}}},
					Install: &Action{FileTree: &FileTree{Source: "web", Target: "/opt/web"}},
					Start:   &Action{Image: &Image{File: "web/b.tar", Tag: "registry.example.org:5000/web:1.2"}},
				},
			},
			{
				Name: "os", Files: []File{file("x.deb"), file("x.rpm")},
				Actions: Actions{Install: &Action{Packages: &Packages{Deb: []string{"x.deb"}, RPM: []string{"x.rpm"}}}, Commit: &Action{None: true}},
			},
		},
	}
}

func TestCheck(t *testing.T) {
	if faults := valid().Check(); len(faults) > 0 {
		t.Fatalf("the valid manifest: %v", Faults(faults))
	}
	action := func(a Action) func(m *Manifest) { return func(m *Manifest) { m.Modules[2].Actions.Install = &a } }
	for want, change := range map[string]func(m *Manifest){
		`name: value "": want a name`:                                  func(m *Manifest) { m.Name = "" },
		`name: value "../x": want a name`:                              func(m *Manifest) { m.Name = "../x" },
		`version: value "1 2": want a version`:                         func(m *Manifest) { m.Version = "1 2" },
		`minSpaceGB: value "-1": want GiB from 1`:                      func(m *Manifest) { m.MinSpaceGB = -1 },
		`kernel: value "4.19.90-1.el7": want requiresReboot`:           func(m *Manifest) { m.RequiresReboot = false },
		`kernel: value "$(x)": want a kernel release`:                  func(m *Manifest) { m.Kernel = "$(x)" },
		`requires.commands[1]: value "-x": want the name of a program`: func(m *Manifest) { m.Requires.Commands = []string{"a", "-x"} },
		`requires.pythonModules[0]: value "a b": want the name of a`:   func(m *Manifest) { m.Requires.PythonModules = []string{"a b"} },
		`upgradeFrom: value "": want at least one`:                     func(m *Manifest) { m.UpgradeFrom = nil },
		`upgradeFrom[0].version: value "": want a version pattern`:     func(m *Manifest) { m.UpgradeFrom[0].Version = "" },
		`upgradeFrom[0].modes: value "": want offline`:                 func(m *Manifest) { m.UpgradeFrom[0].Modes = nil },
		`upgradeFrom[0].modes[1]: value "offline": want offline`:       func(m *Manifest) { m.UpgradeFrom[0].Modes[1] = Offline },
		`upgradeFrom[0].modes[0]: value "rollup": want offline`:        func(m *Manifest) { m.UpgradeFrom[0].Modes[0] = "rollup" },
		`mixed[0]: value "a\nb": want a version pattern`:               func(m *Manifest) { m.Mixed[0] = "a\nb" },
		`path.catalogue: value "no": want a file`:                      func(m *Manifest) { m.Path.Catalogue = "no" },
		`modules: value "": want at least one module`: func(m *Manifest) {
			m.Modules,
				m.Order = nil, Order{}
		},
		`modules[1].name: value "db": want a name that no other`:                            func(m *Manifest) { m.Modules[1].Name = "db" },
		`modules[0].after[0]: value "no": want the name of a module`:                        func(m *Manifest) { m.Modules[0].After = []string{"no"} },
		`modules[0].after: value "db -> web -> os -> db": want no cycle`:                    func(m *Manifest) { m.Modules[0].After = []string{"web"}; m.Modules[2].After = []string{"db"} },
		`modules[1].after: value "web -> web": want no cycle`:                               func(m *Manifest) { m.Modules[1].After = []string{"web"} },
		`order.stop: value "web, db": want all modules, "os" is missing`:                    func(m *Manifest) { m.Order.Stop = []string{"web", "db"} },
		`order.stop[2]: value "db": want each module once`:                                  func(m *Manifest) { m.Order.Stop[2] = "db" },
		`order.start[0]: value "no": want the name of a module of this bundle: db, web, os`: func(m *Manifest) { m.Order.Start = []string{"no"} },
		`modules[0].runsOn: value "some": want manager, host`:                               func(m *Manifest) { m.Modules[0].RunsOn = "some" },
		`modules[0].runsOn: value "label:a": want label:KEY=VALUE`:                          func(m *Manifest) { m.Modules[0].RunsOn = "label:a" },
		`modules[0].timeout: value "1ms": want a duration from 1s to 24h`:                   func(m *Manifest) { m.Modules[0].Timeout = Duration(time.Millisecond) },
		`modules[0].timeout: value "25h0m0s": want a duration`:                              func(m *Manifest) { m.Modules[0].Timeout = Duration(25 * time.Hour) },
		`modules[0].canRollback: value "false": want true`:                                  func(m *Manifest) { m.Modules[0].CanRollback = false },
		`modules[1].canRollback: value "true": want true`:                                   func(m *Manifest) { m.Modules[1].CanRollback = true },
		`modules[2].actions.rollback.none: value "true": want a rollback that takes back what actions.install changes`: func(m *Manifest) {
			m.Modules[2].CanRollback, m.Modules[2].Actions.Rollback = true, &Action{None: true}
		},
		`modules[1].actions.rollback.none: value "true": want a rollback that takes back what actions.install changes`: func(m *Manifest) {
			m.Modules[1].CanRollback, m.Modules[1].Actions.Rollback = true, &Action{None: true}
		},
		`modules[1].actions: value "": want at least one action`: func(m *Manifest) { m.Modules[1].Actions, m.Modules[1].Files = Actions{}, nil },
		`modules[1].runsOn: value "manager": want nothing here`: func(m *Manifest) {
			m.Modules[1].Actions,
				m.Modules[1].RunsOn = Actions{}, "manager"
		},
		`modules: value "": want at least one with actions`: func(m *Manifest) {
			for i := range m.Modules {
				m.Modules[i].Actions = Actions{}
			}
		},
		`modules[0].config[0].file: value "no": want a file`:              func(m *Manifest) { m.Modules[0].Config[0].File = "no" },
		`modules[0].config[0].installed: value "etc": want an absolute`:   func(m *Manifest) { m.Modules[0].Config[0].Installed = "etc" },
		`modules[0].config[0].format: value "xml": want json`:             func(m *Manifest) { m.Modules[0].Config[0].Format = "xml" },
		`modules[0].files[0].path: value "../x": want a relative path`:    func(m *Manifest) { m.Modules[0].Files[0].Path = "../x" },
		`modules[0].files[0].size: value "-1": want a size`:               func(m *Manifest) { m.Modules[0].Files[0].Size = -1 },
		`modules[0].files[0].sha256: value "0A": want 64`:                 func(m *Manifest) { m.Modules[0].Files[0].SHA256 = "0A" },
		`modules[0].files[0].mode: value "4755": want permissions`:        func(m *Manifest) { m.Modules[0].Files[0].Mode = "4755" },
		`modules[0].files[0].mode: value "0666": want permissions`:        func(m *Manifest) { m.Modules[0].Files[0].Mode = "0666" },
		`modules[1].files[0].path: value "DB/CTL": want a name that`:      func(m *Manifest) { m.Modules[1].Files[0].Path = "DB/CTL" },
		`modules[1].files[0].path: value "hops.yaml": want each file`:     func(m *Manifest) { m.Modules[1].Files[0].Path = "hops.yaml" },
		`modules[1].files[0].path: value "hops.yaml/x": want a path that`: func(m *Manifest) { m.Modules[1].Files[0].Path = "hops.yaml/x" },
		`modules[1].files[0].path: value "MANIFEST.yaml": want a name`:    func(m *Manifest) { m.Modules[1].Files[0].Path = "MANIFEST.yaml" },

		`modules[2].actions.install: value "": want exactly one of`:                                         action(Action{Idempotent: true}),
		`modules[2].actions.install: value "run, none": want exactly one of`:                                action(Action{Run: []string{"db/ctl"}, None: true}),
		`modules[0].actions.check: value "none": want run`:                                                  func(m *Manifest) { m.Modules[0].Actions.Check = &Action{None: true} },
		`modules[0].actions.check.allHosts: value "true": want it with run and once: true, as install only`: func(m *Manifest) { m.Modules[0].Actions.Check.AllHosts, m.Modules[0].Actions.Check.Once = true, true },
		`modules[0].actions.install.allHosts: value "true": want it with run and once`:                      func(m *Manifest) { m.Modules[0].Actions.Install.AllHosts = true },
		`modules[2].runsOn: value "": want manager`:                                                         action(Action{Run: []string{"db/ctl"}, Once: true, AllHosts: true}),
		`modules[2].actions.install.allHosts: value "true": want it in one module`: func(m *Manifest) {
			for _, i := range []int{0, 2} {
				m.Modules[i].RunsOn, m.Modules[i].Actions.Install = "manager", &Action{Run: []string{"db/ctl"}, Once: true, AllHosts: true}
			}
		},
		`modules[2].actions.install.run: value "": want a program`:                 action(Action{Run: []string{}}),
		`modules[2].actions.install.run[0]: value "/bin/sh": want a file`:          action(Action{Run: []string{"/bin/sh"}}),
		`modules[2].actions.install.run[1]: value "a\x00": want at most`:           action(Action{Run: []string{"db/ctl", "a\x00"}}),
		`modules[2].actions.install.run[1]: value "x{hots}y": want one of {mode}`:  action(Action{Run: []string{"db/ctl", "x{hots}y"}}),
		`modules[2].actions.install.fileTree.source: value "no": want a directory`: action(Action{FileTree: &FileTree{"no", "/opt/x"}}),
		`modules[2].actions.install.fileTree.source: value "web/../db": want a`: action(Action{FileTree: &FileTree{"web/../db",
			"/opt/x"}}),
		`modules[2].actions.install.fileTree.target: value "/etc": want an absolute`: action(Action{FileTree: &FileTree{"web", "/etc"}}),
		`modules[2].actions.install.fileTree.target: value "/opt/../etc/x": want an`: action(Action{FileTree: &FileTree{"web",
			"/opt/../etc/x"}}),
		`modules[2].actions.install.systemd: value "0 lists": want exactly one`:          action(Action{Systemd: &Systemd{}}),
		`modules[2].actions.install.systemd: value "2 lists": want exactly one`:          action(Action{Systemd: &Systemd{Stop: []string{"a"}, Start: []string{"a"}}}),
		`modules[2].actions.install.systemd.stop[0]: value "--now": want the name`:       action(Action{Systemd: &Systemd{Stop: []string{"--now"}}}),
		`modules[2].actions.install.packages: value "": want files in deb`:               action(Action{Packages: &Packages{}}),
		`modules[2].actions.install.packages.deb[0]: value "x.rpm": want a file that`:    action(Action{Packages: &Packages{Deb: []string{"x.rpm"}}}),
		`modules[2].actions.install.packages.rpm[0]: value "no.rpm": want a file that a`: action(Action{Packages: &Packages{RPM: []string{"no.rpm"}}}),
		`modules[2].actions.install.image.file: value "no": want a file`:                 action(Action{Image: &Image{"no", "a:1"}}),
		`modules[2].actions.install.image.tag: value "web": want the image's name`:       action(Action{Image: &Image{"web/b.tar", "web"}}),
		`modules[2].actions.install.image.tag: value "-x:1": want the image's name`:      action(Action{Image: &Image{"web/b.tar", "-x:1"}}),
	} {
		m := valid()
		change(m)
		if got := Faults(m.Check()).Error(); !strings.Contains(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestEachFaultIsOneLine(t *testing.T) {
	m := valid()
	m.Name, m.Version = strings.Repeat("x\n", 200), "\x1b"
	for _, f := range m.Check() {
		if strings.Contains(f.Error(), "\n") || len(f.Error()) > 600 {
			t.Errorf("fault %q", f.Error())
		}
	}
}

func TestCheckPatterns(t *testing.T) {
	m := valid()
	if faults := m.CheckPatterns(func(string) error { return nil }); len(faults) > 0 {
		t.Error(faults)
	}
	got := Faults(m.CheckPatterns(func(p string) error { return errors.New("want no " + p) })).Error()
	if want := "upgradeFrom[0].version: value \"2.0.0.*\": want no 2.0.0.*\nmixed[0]: value \"24.06.SP1-SP5\": want " +
		"no 24.06.SP1-SP5"; got != want {
		t.Errorf("got %s", got)
	}
}

func TestInPhase(t *testing.T) {
	m := valid() // db, web after os, os
	for p, want := range map[Phase]string{Install: "db os web", Start: "db os web", Stop: "web db os",
		Rollback: "web os db", PreCheck: "db os web"} {
		var names []string
		for _, mod := range m.InPhase(p) {
			names = append(names, mod.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}

func TestTimeouts(t *testing.T) {
	m := Module{}
	for p, want := range map[Phase]time.Duration{Backup: time.Hour, Rollback: time.Hour, Install: 30 * time.Minute,
		Check: time.Minute, Stop: 10 * time.Minute} {
		if got := m.TimeoutOf(p); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
	m.Timeout = Duration(time.Second)
	if got := m.TimeoutOf(Backup); got != time.Second {
		t.Errorf("%s, want that of the module", got)
	}
}

func TestMinSpace(t *testing.T) {
	if got := (&Manifest{}).MinSpace(); got != 5<<30 {
		t.Errorf("%d", got)
	}
	if got := (&Manifest{MinSpaceGB: 2}).MinSpace(); got != 2<<30 {
		t.Errorf("%d", got)
	}
}

func TestJSONKeepsAll(t *testing.T) {
	want := valid()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &Manifest{}
	if err := json.Unmarshal(text, got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s\n%+v\n%v", text, got, err)
	}
}

func TestFoldPath(t *testing.T) {
	for a, b := range map[string]string{"A/b": "a/B", "K": "\u212a", "ÜBER": "über", "ς": "Σ"} {
		if FoldPath(a) != FoldPath(b) {
			t.Errorf("%q and %q differ", a, b)
		}
	}
	if FoldPath("a") == FoldPath("b") {
		t.Error("a and b are the same")
	}
}

func TestModulesRunWhereTheyShould(t *testing.T) {
	h := &inventory.Host{Name: "h", Roles: []inventory.Role{inventory.RoleHost}, Labels: map[string]string{"tier": "web"}}
	for rule, want := range map[string]bool{"": true, "all": true, "host": true, "manager": false,
		"label:tier=web": true, "label:tier=db": false, "label:x=": false} {
		if (&Module{RunsOn: rule}).On(h) != want {
			t.Errorf("%q: %v", rule, !want)
		}
	}
}
