package upgrade

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
)

// act is an action of a bundle.
func act() *manifest.Action { return &manifest.Action{Run: []string{"x"}} }

// smallBundle has a module for managers and one for all hosts.
func smallBundle() manifest.Manifest {
	return manifest.Manifest{
		Name: "app", Version: "2.0.0", UpgradeFrom: []manifest.Source{{Version: "1.*",
			Modes: []manifest.Mode{manifest.Offline, manifest.Rolling}}},
		Modules: []manifest.Module{
			{Name: "db", RunsOn: "manager", CanRollback: true, Actions: manifest.Actions{
				PreCheck: act(), Stop: act(), Backup: act(), Install: act(), Start: act(), PostCheck: act(), Rollback: act(), Commit: act(),
			}},
			{Name: "web", After: []string{"db"}, CanRollback: true,
				Actions: manifest.Actions{Stop: act(), Install: act(), Start: act(), Rollback: act()}},
		},
	}
}

// smallCluster has two managers in hot standby, three hosts with a guest each,
// and a platform HA.
func smallCluster() inventory.Inventory {
	inv := inventory.Inventory{
		Cluster: "c", Version: "1.0.0", HA: &inventory.Switch{Off: []string{"off"}, On: []string{"on"}},
		Pair: &inventory.Pair{Nodes: []cluster.HostID{"m1", "m2"}, Active: "m1", Switch: []string{"switch"},
			Stop: []string{"stop"}, Start: []string{"start"}},
	}
	for _, n := range []cluster.HostID{"m1", "m2"} {
		inv.Hosts = append(inv.Hosts, inventory.Host{Name: n, Roles: []inventory.Role{inventory.RoleManager}, Install: "i-" + string(n)})
	}
	for i, n := range []cluster.HostID{"h1", "h2", "h3"} {
		inv.Hosts = append(inv.Hosts, inventory.Host{Name: n, MemoryMiB: 8192, Install: "i-" + string(n), Kernel: "5.1"})
		inv.VMs = append(inv.VMs, inventory.VM{Name: fmt.Sprint("v", i+1), Host: n, MemoryMiB: 2048, Running: true, Protected: i == 2})
	}
	return inv
}

func mustBuild(t *testing.T, m manifest.Manifest, inv inventory.Inventory, o Options) *Plan {
	t.Helper()
	p, err := Build(m, inv, o)
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

// outline is a plan in short: a line for each stage.
func outline(p *Plan) string {
	var b strings.Builder
	for _, s := range p.Stages {
		fmt.Fprintf(&b, "%s:", s.Name)
		for i, c := range s.Chains {
			if i > 0 {
				b.WriteString(" |")
			}
			for _, step := range c.Steps {
				b.WriteString(" " + step.ID)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func sameText(t *testing.T, got, want string) {
	t.Helper()
	if got != strings.TrimPrefix(want, "\n") {
		t.Errorf("got\n%swant%s", got, want)
	}
}

func TestRollingSequence(t *testing.T) {
	p := mustBuild(t, smallBundle(), smallCluster(), Options{Mode: manifest.Rolling, Last: "h1"})
	sameText(t, outline(p), `
prepare: h2/stage h2/check | h3/stage h3/check | m2/stage m2/check m2/preCheck/db | m1/stage m1/check m1/preCheck/db | h1/stage h1/check
tidy: h2/tidy | h3/tidy | m2/tidy | m1/tidy | h1/tidy
hosts: h2/drain h2/stop/web h2/install/web h2/start/web h2/check-after h2/undrain | h3/drain h3/stop/web h3/install/web h3/start/web h3/check-after h3/undrain
managers: m2/pair-stop m2/stop/web m2/stop/db m2/backup/db m2/install/db m2/install/web m2/start/db m2/start/web m2/pair-start/upgrade m2/postCheck/db m2/check-after
switch over: m2/pair-switch
active manager: m1/pair-stop m1/stop/web m1/stop/db m1/backup/db m1/install/db m1/install/web m1/start/db m1/start/web m1/pair-start/upgrade m1/postCheck/db m1/check-after
coordinator: h1/drain h1/stop/web h1/install/web h1/start/web h1/check-after h1/undrain
check: cluster/post-check
`)
}

// With a limit of lost packets each host's turn, and each change of its software, is between two
// looks at what its guests lose.
func TestLossLimit(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	o := Options{Mode: manifest.Rolling, Last: "h1", Probe: true, LossLimit: 3, Confirmed: []string{unwatched}}
	p := mustBuild(t, m, inv, o)
	if got := outline(p); strings.Count(got, "/losses") != 10 ||
		!strings.Contains(got, "h2/losses-before/turn h2/drain ") || !strings.Contains(got, " h2/check-after h2/undrain h2/losses/turn |") {
		t.Error(got)
	}
	w := newWorld(t, p, inv)
	if got, want := args[LossesArgs](t, w.steps["h3/losses/turn"]), (LossesArgs{Work: "turn", Limit: 3}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if w.steps["h3/losses/turn"].Idempotent {
		t.Error("a look that has found something would be repeated by itself, and count anew")
	}
	m.RequiresReboot = true
	o.Mode = manifest.Reboot
	if got := outline(mustBuild(t, m, inv, o)); !strings.Contains(got,
		"software of hosts: h2/losses-before/software h2/stop/web h2/install/web h2/start/web h2/losses/software |") ||
		!strings.Contains(got, "h3/losses-before/turn h3/drain ") {
		t.Error(got)
	}
	o.Mode = manifest.Offline
	if got := outline(mustBuild(t, m, inv, o)); strings.Contains(got, "losses") {
		t.Error(got)
	}
}

// With bridges to be pinned each host's turn is between the begin of a pin and its end, inside of the
// looks at what guests lose. Guests that leave need none.
func TestPin(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	o := Options{Mode: manifest.Rolling, KeepGuests: true, Last: "h1", Probe: true, LossLimit: 3,
		Pin: []string{"br-int", "br-ex"}, Confirmed: []string{unwatched}}
	p := mustBuild(t, m, inv, o)
	got := outline(p)
	if n := len(inv.Hosts); strings.Count(got, "/pin/turn") != n || strings.Count(got, "/unpin/turn") != n ||
		!strings.Contains(got, "h2/losses-before/turn h2/pin/turn h2/") ||
		!strings.Contains(got, " h2/check-after h2/unpin/turn h2/losses/turn |") {
		t.Error(got)
	}
	w := newWorld(t, p, inv)
	for step, end := range map[string]bool{"h3/pin/turn": false, "h3/unpin/turn": true} {
		if got, want := args[PinArgs](t, w.steps[step]),
			(PinArgs{Bridges: []string{"br-int", "br-ex"}, End: end}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", step, got, want)
		}
		if !w.steps[step].Idempotent {
			t.Errorf("%s is not repeated after its agent has ended", step)
		}
	}
	for _, bad := range []Options{{Mode: manifest.Rolling, Pin: o.Pin}, {Mode: manifest.Offline, KeepGuests: true, Pin: o.Pin}} {
		bad.Last, bad.Confirmed = "h1", o.Confirmed
		p, err := Build(m, inv, bad)
		if err != nil || !slices.ContainsFunc(p.Findings,
			func(f Finding) bool { return f.Rule == "pin" && f.Level == Block }) || strings.Contains(outline(&p), "/pin/") {
			t.Errorf("%s, guests stay %v: %v: want bridges refused", bad.Mode, bad.KeepGuests, err)
		}
	}
}

// The steps of the vendor's procedure from E0306 on, with two managers: HA off, one
// host emptied, software, the emptied host, the others drained to it one after the
// other with shared storage and templates suspended, the standby manager, the active
// one, HA on. Below E0306 single-path pools come back with multipath, and the o2cb
// threshold is raised before HA is on.
func TestRebootSequence(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	m.RequiresReboot, m.Version, m.UpgradeFrom[0].Version = true, "E0306", "E03*"
	inv.Version = "E0303"
	inv.VMs[0].MemoryMiB = 4096 // h2 has the least to move
	inv.Hosts[3].Pools = []inventory.Pool{
		{Name: "guests", Kind: "ocfs2", Shared: true, Paths: 1, Active: true}, {Name: "iso", Kind: "nfs", Use: "template", Active: true},
		{Name: "local", Kind: "dir", Active: true}, {Name: "old", Kind: "ocfs2", Shared: true},
		{Name: "passing", Kind: "dir", Active: true, Transient: true},
	}
	p := mustBuild(t, m, inv, Options{Mode: manifest.Reboot})
	sameText(t, outline(p), `
prepare: h1/stage h1/check | h2/stage h2/check | h3/stage h3/check | m2/stage m2/check m2/preCheck/db | m1/stage m1/check m1/preCheck/db
tidy: h1/tidy | h2/tidy | h3/tidy | m2/tidy | m1/tidy
ha off: m1/ha-off
empty: h2/drain
software of managers: m2/pair-stop m2/stop/web m2/stop/db m2/backup/db m2/install/db m2/install/web m2/start/db m2/start/web m2/pair-start/software m2/postCheck/db | m1/pair-stop m1/stop/web m1/stop/db m1/backup/db m1/install/db m1/install/web m1/start/db m1/start/web m1/pair-start/software m1/postCheck/db
software of hosts: h2/stop/web h2/install/web h2/start/web | h1/stop/web h1/install/web h1/start/web | h3/stop/web h3/install/web h3/start/web
hosts: h2/storage-detach h2/reboot h2/storage-attach h2/verify h2/check-after h2/undrain | h1/drain h1/reboot h1/verify h1/check-after h1/undrain | h3/drain h3/reboot h3/verify h3/check-after h3/undrain
managers: m2/reboot m2/verify m2/pair-start/reboot m2/check-after
switch over: m2/pair-switch
active manager: m1/reboot m1/verify m1/pair-start/reboot m1/check-after
o2cb threshold: h2/o2cb
ha on: m1/ha-on m2/ha-on
check: cluster/post-check
`)
	w := newWorld(t, p, inv)
	storage := args[StorageArgs](t, w.steps["h2/storage-detach"])
	if want := []StoragePool{{"guests", "ocfs2", "", true}, {"iso", "nfs", "template", false},
		{"passing", "dir", "", false}}; !slices.Equal(storage.Pools, want) {
		t.Errorf("detached: %v", storage.Pools)
	}
	for step, want := range map[string]string{"h2/drain": "v2 h3 live", "h1/drain": "v1 h2 live", "h3/drain": "v2 h1 live, v3 h1 protected"} {
		var got []string
		for _, m := range args[evacuate.DrainArgs](t, w.steps[step]).Moves {
			got = append(got, fmt.Sprintf("%s %s %s", m.VM, m.To, m.How))
		}
		slices.Sort(got)
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %v, want %s", step, got, want)
		}
	}
	if got := args[O2CBArgs](t, w.steps["h2/o2cb"]).Threshold; got != 61 {
		t.Errorf("threshold %d", got)
	}
}

func TestOfflineSequence(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	inv.Pair, m.RequiresReboot = nil, true
	p := mustBuild(t, m, inv, Options{Mode: manifest.Offline, Last: "m1"})
	sameText(t, outline(p), `
prepare: m1/stage m1/check m1/preCheck/db | m2/stage m2/check m2/preCheck/db | h1/stage h1/check | h2/stage h2/check | h3/stage h3/check
tidy: m1/tidy | m2/tidy | h1/tidy | h2/tidy | h3/tidy
ha off: m1/ha-off
stop guests: h1/vm-stop | h2/vm-stop | h3/vm-stop
stop web: m1/stop/web | m2/stop/web | h1/stop/web | h2/stop/web | h3/stop/web
stop db: m1/stop/db | m2/stop/db
hosts: m1/backup/db m1/install/db m1/install/web m1/reboot m1/verify m1/start/db m1/start/web m1/postCheck/db m1/check-after | m2/backup/db m2/install/db m2/install/web m2/reboot m2/verify m2/start/db m2/start/web m2/postCheck/db m2/check-after | h1/install/web h1/reboot h1/verify h1/start/web h1/check-after | h2/install/web h2/reboot h2/verify h2/start/web h2/check-after | h3/install/web h3/reboot h3/verify h3/start/web h3/check-after
start guests: h1/vm-start | h2/vm-start | h3/vm-start
ha on: m1/ha-on m2/ha-on
check: cluster/post-check
`)
	for _, s := range p.Stages {
		for i, c := range s.Chains {
			if s.Kind == Turn && i > 0 && !slices.Equal(c.After, []string{"m1/check-after"}) {
				t.Errorf("%s is after %v: want node 0 first", c.Host, c.After)
			}
		}
	}
}

// Actions that are done once, backup by a provider, guests that stay.
func TestStepsOfModules(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	m.Modules[1].Actions.Start.Once = true
	m.Modules[1].Actions.Stop = &manifest.Action{None: true}
	inv.Pair, inv.Backups = nil, webFiles()
	p := mustBuild(t, m, inv, Options{Mode: manifest.Rolling, KeepGuests: true,
		Backup: map[string]string{"web": "web-files"}, Order: []cluster.HostID{"h3"}, Drop: []cluster.HostID{"m2"}})
	sameText(t, outline(p), `
prepare: h3/stage h3/check | h1/stage h1/check | h2/stage h2/check | m1/stage m1/check m1/preCheck/db
tidy: h3/tidy | h1/tidy | h2/tidy | m1/tidy
hosts: h3/backup/web h3/install/web h3/start/web h3/check-after | h1/backup/web h1/install/web h1/check-after | h2/backup/web h2/install/web h2/check-after
managers: m1/stop/db m1/backup/db m1/backup/web m1/install/db m1/install/web m1/start/db m1/postCheck/db m1/check-after
check: cluster/post-check
`)
}

func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *manifest.Manifest, inv *inventory.Inventory, o *Options)
		want   string // level rule host vm: text
	}{
		"reboot": {func(_ *manifest.Manifest, _ *inventory.Inventory, o *Options) { o.Mode = manifest.Reboot },
			`warn mode  : The bundle needs no reboot`},
		"keep": {func(m *manifest.Manifest, _ *inventory.Inventory, o *Options) {
			m.RequiresReboot, o.KeepGuests = true, true
		}, `block keep-guests  : Guests can not stay`},
		"limit without a measure": {func(_ *manifest.Manifest, _ *inventory.Inventory, o *Options) { o.LossLimit = 1 },
			`block loss-limit  : There is a limit of lost packets, and they are not measured.`},
		"limit offline": {func(_ *manifest.Manifest, _ *inventory.Inventory, o *Options) {
			o.LossLimit, o.Probe, o.Confirmed, o.Mode = 1, true, []string{unwatched}, manifest.Offline
		}, `warn loss-limit  : The limit of lost packets is not looked at in the mode offline`},
		"running": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.Running = "3" },
			`block running  : An upgrade to 3 is under way.`},
		"cycle": {func(m *manifest.Manifest, _ *inventory.Inventory,
			_ *Options) {
			m.Modules[0].After = []string{"web"}
		}, `block cycle  : Modules wait for one another: db -> web -> db.`},
		"no hosts": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) {
			*inv = inventory.Inventory{Version: "1.0.0"}
		}, `block hosts  : The inventory has no hosts.`},
		"unreadable": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.Version = "?" },
			`block version  : Versions can not be compared`},
		"white list": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.Version = "0.9.0" },
			`block white-list m1 : The bundle does not upgrade from version 0.9.0.`},
		"mode of the white list": {
			func(m *manifest.Manifest, _ *inventory.Inventory, _ *Options) {
				m.UpgradeFrom[0].Modes = []manifest.Mode{manifest.Offline}
			},
			`block white-list m1 : From version 1.0.0 the bundle does not support a rolling upgrade, only offline.`,
		},
		"downgrade": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.Version = "3.0.0" },
			`block downgrade m1 : The installed version 3.0.0 is later than 2.0.0.`},
		"mixed": {func(m *manifest.Manifest, _ *inventory.Inventory, _ *Options) { m.Mixed = []string{"1.5.*"} },
			`block mixed m1 : Version 1.0.0 may not run beside 2.0.0`},
		"several": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.Hosts[4].Version = "1.1.0" },
			`warn mixed-versions  : The hosts have several versions: 1.0.0, 1.1.0.`},
		"tables": {func(m *manifest.Manifest, _ *inventory.Inventory, _ *Options) {
			m.UpgradeFrom[0].ChangeSystemTables = true
		}, `info system-tables  : From version 1.0.0`},
		"nothing": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.Version = "2.0.0" },
			`block nothing-to-do  : No host of the inventory needs`},
		"label": {func(m *manifest.Manifest, _ *inventory.Inventory,
			_ *Options) {
			m.Modules[1].RunsOn = "label:tier=web"
		}, `block runs-on  : Module web runs on label:tier=web, but no host matches that.`},
		"no backup": {func(_ *manifest.Manifest, _ *inventory.Inventory, _ *Options) {},
			`info no-backup  : Module web is not backed up before the change. Whether its rollback needs a backup is known to its programs only, and was not tried.`},
		"packages without backup": {func(m *manifest.Manifest, _ *inventory.Inventory, _ *Options) {
			m.Modules[1].Actions.Rollback = &manifest.Action{Packages: &manifest.Packages{Deb: []string{"web.deb"}}}
		}, `info no-backup  : Module web has no action backup. What it replaces is kept right before that`},
		"no way back": {func(m *manifest.Manifest, _ *inventory.Inventory, _ *Options) {
			m.Modules[1].CanRollback, m.Modules[1].Actions.Rollback = false, nil
		}, `warn no-rollback  : Module web can not`},
		"down": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.Hosts[3].Down = true },
			`block host-down h2 : The host is down.`},
		"maintenance": {func(_ *manifest.Manifest, inv *inventory.Inventory,
			_ *Options) {
			inv.Hosts[3].Maintenance = true
		}, `warn maintenance h2 : The host is in maintenance: it takes no guests`},
		"space": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.Hosts[3].FreeBytes = 1 << 30 },
			`block space h2 : The host has 1024 MiB free for unpacking, the bundle needs 5120 MiB.`},
		"command": {func(m *manifest.Manifest, inv *inventory.Inventory, _ *Options) {
			m.Requires.Commands, inv.Hosts[3].Commands = []string{"tree"}, []string{}
		}, `block command h2 : The host has no command tree.`},
		"single path": {func(m *manifest.Manifest, inv *inventory.Inventory, _ *Options) {
			m.RequiresReboot, inv.Hosts[3].Pools = true, []inventory.Pool{{Name: "p", Shared: true, Active: true, Paths: 1}}
		}, `warn single-path h2 : The shared pool p has one path.`},
		"dirty": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.VMs[1].Dirty = 55 },
			`warn dirty-rate h2 v2: It changes 55 MiB/s of its memory, and the migration network carries 110 MiB/s: a live migration takes long.`},
		"dirtier": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) {
			inv.VMs[1].Dirty, inv.Hosts[3].LinkMiBps = 1100, 1100
		}, `warn dirty-rate h2 v2: It changes 1100 MiB/s of its memory, and the migration network carries 1100 MiB/s: a live migration ends only by slowing`},
		"unwatched": {func(_ *manifest.Manifest, inv *inventory.Inventory, o *Options) {
			o.Probe, inv.VMs[0].Addresses, inv.VMs[2].Addresses = true, []string{"192.0.2.1"}, []string{"192.0.2.3"}
		}, `block unwatched h2 : Lost packets of these guests can not be counted, because no address of them is known: v2.`},
		"unwatched, confirmed": {func(_ *manifest.Manifest, _ *inventory.Inventory, o *Options) {
			o.Probe, o.Confirmed = true, []string{"unwatched"}
		}, `warn unwatched h3 : Lost packets of these guests can not be counted, because no address of them is known: v3.`},
		"busy": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.VMs[1].Busy = "snapshot" },
			`warn busy h2 v2: It is busy: snapshot.`},
		"no policy": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) {
			inv.VMs[1].Fixed = []string{"a device"}
		}, `block policy h2 v2: It can not move live (a device), and no policy says`},
		"policy of the run": {func(_ *manifest.Manifest, inv *inventory.Inventory, o *Options) {
			inv.VMs[1].Fixed, o.DefaultPolicy = []string{"a device"}, inventory.PolicySkip
		}, `warn skip-host h2 v2: The host is left out: VM v2 can not move (a device)`},
		"own policy first": {func(_ *manifest.Manifest, inv *inventory.Inventory, o *Options) {
			inv.VMs[1].Fixed, inv.VMs[1].Policy, o.DefaultPolicy = []string{"a device"}, inventory.PolicySkip, inventory.PolicyStop
		}, `warn skip-host h2 v2`},
		"large": {func(m *manifest.Manifest, inv *inventory.Inventory, _ *Options) {
			m.Version, m.UpgradeFrom[0].Version, inv.Version, inv.VMs[1].MemoryMiB, inv.Hosts[2].MemoryMiB = "E0306", "E02*", "E0218", 32<<10, 64<<10
		}, `warn large-guests h2 v2: Guests of 32 GiB`},
		"centos": {func(m *manifest.Manifest, inv *inventory.Inventory, _ *Options) {
			m.Version, m.UpgradeFrom[0].Version, inv.Version, inv.VMs[1].System = "E0306", "E02*", "E0218H06", "CentOS6.5"
		}, `block policy h2 v2: It can not move live (CentOS 6.5 may hang`},
		"memory": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.VMs[1].MemoryMiB = 9000 },
			`block memory h2 : The host can not be emptied: VM v2 needs 9000 MiB, and no host has more than 8192 MiB free.`},
		"CPUs": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) {
			inv.VMs[1].CPUs, inv.Hosts[2].CPUs, inv.Hosts[4].CPUs = 8, 4, 4
		}, `block memory h2 : The host can not be emptied: no host with room has the CPUs for VM v2`},
		"CPU model": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) {
			inv.Hosts[3].CPUModel, inv.Hosts[2].CPUModel, inv.Hosts[4].CPUModel = "a", "b", "b"
		}, `block memory h2 : The host can not be emptied: no host with room has the CPUs for VM v2 (0 vCPUs, model a)`},
		"group": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) { inv.Hosts[3].Group = "g" },
			`block single-host h2 : No other host of group g takes its guests.`},
		"one host": {func(_ *manifest.Manifest, inv *inventory.Inventory, _ *Options) {
			inv.Pair, inv.Hosts, inv.VMs = nil, []inventory.Host{{Name: "h1",
				Roles: []inventory.Role{inventory.RoleManager, inventory.RoleHost}, MemoryMiB: 1 << 20}},
				[]inventory.VM{{Name: "v", Host: "h1", Running: true}}
		}, `block single-host h1 : No other host takes its guests.`},
		"targets": {func(_ *manifest.Manifest, _ *inventory.Inventory,
			o *Options) {
			o.Targets = []cluster.HostID{"h2"}
		}, `block single-host h2 : No other host takes its guests.`},
	} {
		t.Run(name, func(t *testing.T) {
			m, inv, o := smallBundle(), smallCluster(), Options{Mode: manifest.Rolling}
			c.change(&m, &inv, &o)
			p := mustBuild(t, m, inv, o)
			level, _, _ := strings.Cut(c.want, " ")
			var got []string
			for _, f := range p.Findings {
				got = append(got, fmt.Sprintf("%s %s %s %s: %s", f.Level, f.Rule, f.Host, f.VM, f.Text))
				if f.Level == Block && f.Remedy == "" {
					t.Errorf("%s has no remedy", f.Rule)
				}
			}
			if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, c.want) }) {
				t.Errorf("findings\n%s\nwant %s", strings.Join(got, "\n"), c.want)
			}
			if p.Blocked() != (level == string(Block)) {
				t.Errorf("blocked: %v\n%s", p.Blocked(), strings.Join(got, "\n"))
			}
		})
	}
}

func TestConfirmedRules(t *testing.T) {
	m, inv := smallBundle(), smallCluster()
	m.Version, m.UpgradeFrom[0].Version, inv.Version, inv.VMs[1].System = "E0306", "E02*", "E0218H06", "centos6.5"
	m.Modules[1].RunsOn = "label:tier=web"
	p := mustBuild(t, m, inv, Options{Mode: manifest.Rolling, Confirmed: []string{"centos65-live-migration", "no-host-for-web"}})
	if p.Blocked() {
		t.Errorf("blocked by %v", p.Findings)
	}
}

func TestBadInput(t *testing.T) {
	for want, change := range map[string]func(inv *inventory.Inventory, o *Options){
		`inventory: host "h1": want a name that no other`: func(inv *inventory.Inventory,
			_ *Options) {
			inv.Hosts[3].Name = "h1"
		},
		`inventory: VM "v1": want a name that no other`: func(inv *inventory.Inventory,
			_ *Options) {
			inv.VMs[1].Name, inv.VMs[1].Host = "v1", "h1"
		},
		`inventory: VM "v2": VM "v1" has the same UUID`: func(inv *inventory.Inventory,
			_ *Options) {
			inv.VMs[0].UUID, inv.VMs[1].UUID = "u", "u"
		},
		`inventory: VM "v1": host "x" is not in the inventory`: func(inv *inventory.Inventory,
			_ *Options) {
			inv.VMs[0].Host = "x"
		},
		`inventory: VM "v1": memory -1 MiB`: func(inv *inventory.Inventory,
			_ *Options) {
			inv.VMs[0].MemoryMiB = -1
		},
		`inventory: VM "v1": policy "x"`: func(inv *inventory.Inventory,
			_ *Options) {
			inv.VMs[0].Policy = "x"
		},
		`inventory: pair: want two nodes, one of them active`: func(inv *inventory.Inventory,
			_ *Options) {
			inv.Pair.Active = "h1"
		},
		`inventory: pair: host "x" is not in the inventory`: func(inv *inventory.Inventory,
			_ *Options) {
			inv.Pair.Nodes[1] = "x"
		},
		`--canary -1: want 0 or more`: func(_ *inventory.Inventory,
			o *Options) {
			o.Canary = -1
		},
		`--max-unavailable 101%: want at most 100%`: func(_ *inventory.Inventory,
			o *Options) {
			o.MaxUnavailable.Percent = 101
		},
		`--window -1 to 5`: func(_ *inventory.Inventory, o *Options) { o.Window = Window{-1, 5} },
		`--order "x": want a host of the inventory: `: func(_ *inventory.Inventory,
			o *Options) {
			o.Order = []cluster.HostID{"x"}
		},
		`--drop "h1": want each host once`: func(_ *inventory.Inventory,
			o *Options) {
			o.Drop = []cluster.HostID{"h1", "h1"}
		},
		`--default-policy "x"`: func(_ *inventory.Inventory,
			o *Options) {
			o.DefaultPolicy = "x"
		},
		`--mode "fast": want rolling, offline or reboot`: func(_ *inventory.Inventory,
			o *Options) {
			o.Mode = "fast"
		},
		`--window 10:00-10:00: want two different`: func(_ *inventory.Inventory,
			o *Options) {
			o.Window = Window{600, 600}
		},
		`--canary 6: want at most the 5 hosts`: func(_ *inventory.Inventory, o *Options) { o.Canary = 6 },
		`--canary 5: want at most the 4 hosts`: func(_ *inventory.Inventory,
			o *Options) {
			o.Canary, o.Drop = 5, []cluster.HostID{"h1"}
		},
		`--backup x=files: the bundle has no module of that name, only db, web`: func(_ *inventory.Inventory,
			o *Options) {
			o.Backup = map[string]string{"x": "files"}
		},
		`--backup web=tape: want one of the inventory's backups, or a provider: array`: func(_ *inventory.Inventory,
			o *Options) {
			o.Backup = map[string]string{"web": "tape"}
		},
		`--policy h1/v9=stop: no host reports`: func(_ *inventory.Inventory,
			o *Options) {
			o.Policies = map[string]inventory.Policy{"h1/v9": "stop"}
		},
		`--policy v1=x: want ask, stop, cold or skip`: func(_ *inventory.Inventory,
			o *Options) {
			o.Policies = map[string]inventory.Policy{"v1": "x"}
		},
	} {
		inv, o := smallCluster(), Options{Mode: manifest.Rolling}
		change(&inv, &o)
		if _, err := Build(smallBundle(), inv, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
