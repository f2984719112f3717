package upgrade

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

const engineDir = "/opt/cantian"

// engineBundle is the manifest that is made for a package of the appctl layout.
func engineBundle() manifest.Manifest {
	calls := func(verb ...string) *manifest.Action {
		return &manifest.Action{Appctl: &manifest.Appctl{Home: engineDir, Call: verb, Installed: true}}
	}
	a := manifest.Actions{
		PreCheck: calls("pre_upgrade"), Checkpoint: calls("check_point"), Stop: calls("stop"), Install: calls("upgrade"),
		Start: calls("start"), Rollback: calls("rollback"), Commit: calls("upgrade_commit"),
	}
	a.Stop.Appctl.Offline, a.Checkpoint.Once, a.Commit.Once = true, true, true
	return manifest.Manifest{
		Name: "cantian", Version: "25.06.B001", FromRule: manifest.FromAppctl,
		UpgradeFrom: []manifest.Source{{Version: "24.12.*", Modes: []manifest.Mode{manifest.Offline, manifest.Rolling}}},
		Modules:     []manifest.Module{{Name: "engine", RunsOn: manifest.OnEngine(engineDir), CanRollback: true, Actions: a}},
	}
}

// engineHosts are the nodes of an engine, whose numbers are not in the order of names,
// and a host without.
func engineHosts() inventory.Inventory {
	inv := inventory.Inventory{Cluster: "c", Engine: inventory.EngineSettings{Array: "10.0.0.200"},
		Applications: &inventory.Switch{Off: []string{"/off"}, On: []string{"/on"}}}
	for i, node := range []int{1, 2, 0} {
		inv.Hosts = append(inv.Hosts, inventory.Host{
			Name: cluster.HostID(fmt.Sprintf("h%d", i+1)), MemoryMiB: 1024,
			Engines: []inventory.Engine{{Dir: "/opt/other", Version: "1"},
				{Dir: engineDir, Version: "24.12.B010", Node: node, Nodes: 3, Deploy: "file"}},
		})
	}
	inv.Hosts = append(inv.Hosts, inventory.Host{Name: "h4", MemoryMiB: 1024})
	inv.VMs = []inventory.VM{{Name: "v", Host: "h1", MemoryMiB: 512, Running: true}}
	return inv
}

func buildEngine(t *testing.T, inv inventory.Inventory, o Options) Plan {
	t.Helper()
	m := engineBundle()
	p, err := Build(m, Installed(&m, inv), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// told are the steps of a plan by stage, without those of all plans.
func told(p *Plan) string {
	var out []string
	for _, s := range p.Stages {
		for _, c := range s.Chains {
			for _, x := range c.Steps {
				if x.Kind == KindAction || strings.HasPrefix(x.Kind, "applications") {
					out = append(out, x.ID)
				}
			}
		}
	}
	return strings.Join(out, " ")
}

func TestEngineOffline(t *testing.T) {
	p := buildEngine(t, engineHosts(), Options{Mode: manifest.Offline})
	if p.Blocked() || p.From != "24.12.B010" || len(p.Hosts) != 3 || p.Left[0].Name != "h4" {
		t.Fatalf("%+v", p)
	}
	want := "h3/preCheck/engine h1/preCheck/engine h2/preCheck/engine cluster/applications-off h3/checkpoint/engine " +
		"h3/stop/engine h1/stop/engine h2/stop/engine " +
		"h3/install/engine h3/start/engine h1/install/engine h1/start/engine h2/install/engine h2/start/engine cluster/applications-on"
	if got := told(&p); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// Node 0 is the first whatever an operator says.
	p = buildEngine(t, engineHosts(), Options{Mode: manifest.Offline, Order: []cluster.HostID{"h2", "h1"}, Last: "h3"})
	if p.Hosts[0].Name != "h3" {
		t.Errorf("the order is %v", p.Hosts)
	}
	if a := args[ActionArgs](t, stepOf(&p, "h3/install/engine")); a.Engine.Array != "10.0.0.200" || a.From != "24.12.B010" || a.SnapshotsDone {
		t.Errorf("%+v", a)
	}
}

func TestEngineRolling(t *testing.T) {
	p := buildEngine(t, engineHosts(), Options{Mode: manifest.Rolling})
	want := "h3/preCheck/engine h1/preCheck/engine h2/preCheck/engine h3/install/engine h3/start/engine " +
		"h1/install/engine h1/start/engine h2/install/engine h2/start/engine"
	if got := told(&p); got != want || p.Blocked() || p.Estimate.Moves > 0 {
		t.Errorf("got  %s\nwant %s\n%+v", got, want, p.Findings)
	}
	asks := func(p Plan) (out string) {
		for _, f := range p.Findings {
			if f.Rule == "ctbackup" && f.Level == Warn {
				out += f.Text
			}
		}
		return out
	}
	inv := engineHosts()
	with := func(settings string) Plan {
		inv.Backups = map[string]inventory.BackupPlan{"ct": {Provider: "ctbackup", Settings: []byte(settings)}}
		return buildEngine(t, inv, Options{Mode: manifest.Rolling, Backup: map[string]string{"engine": "ct"}})
	}
	during := `{"choice":"during","sysPassword":"/s","address":"127.0.0.1","user":"u","password":"/p","storagePath":"/b"`
	if p = with(during + "}"); p.Blocked() || !strings.HasPrefix(asks(p), "Nothing says where the metadata of MySQL is") {
		t.Errorf("%+v", p.Findings)
	}
	for _, settings := range []string{during + `,"metadataPath":"/m"}`, `{"choice":"done","sysPassword":"/s"}`} {
		if p = with(settings); p.Blocked() || asks(p) != "" {
			t.Errorf("%+v", p.Findings)
		}
	}
	if got := asks(buildEngine(t, engineHosts(), Options{Mode: manifest.Rolling})); !strings.Contains(got, "has no answer of its own") {
		t.Error(got)
	}
}

func TestEngineRefusals(t *testing.T) {
	offline, rolling := Options{Mode: manifest.Offline}, Options{Mode: manifest.Rolling}
	for name, c := range map[string]struct {
		o      Options
		change func(inv *inventory.Inventory)
		want   string
	}{
		"reboot":      {Options{Mode: manifest.Reboot}, nil, "reboots no host"},
		"two at once": {Options{Mode: manifest.Rolling, MaxUnavailable: Limit{Count: 2}}, nil, "one node at a time"},
		"node away": {rolling, func(inv *inventory.Inventory) { inv.Hosts, inv.VMs = inv.Hosts[1:], nil },
			"No host that reports has node 1 of the engine, which has 3 nodes"},
		"dropped":         {Options{Mode: manifest.Rolling, Drop: []cluster.HostID{"h1"}}, nil, "is node 1 of the engine and was dropped"},
		"twice":           {rolling, func(inv *inventory.Inventory) { inv.Hosts[1].Engines[1].Node = 0 }, "node 0 of the engine, and so does h2"},
		"not told":        {rolling, func(inv *inventory.Inventory) { inv.Hosts[0].Engines[1].Node = -1 }, "does not tell which node"},
		"no array":        {offline, func(inv *inventory.Inventory) { inv.Engine.Array = "" }, "address of the storage array"},
		"no word on them": {offline, func(inv *inventory.Inventory) { inv.Applications = nil }, "must be stopped"},
		"no engine": {rolling, func(inv *inventory.Inventory) {
			inv.Hosts, inv.VMs, inv.Version = inv.Hosts[3:],
				nil, "24.12.B010"
		}, "no host matches"},
	} {
		inv := engineHosts()
		if c.change != nil {
			c.change(&inv)
		}
		p := buildEngine(t, inv, c.o)
		if !slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Level == Block && strings.Contains(f.Text, c.want) }) {
			t.Errorf("%s: want %q in %+v", name, c.want, p.Findings)
		}
	}
	inv := engineHosts()
	inv.Applications = nil
	if p := buildEngine(t, inv, Options{Mode: manifest.Offline, Confirmed: []string{"applications-stopped"}}); p.Blocked() {
		t.Errorf("%+v", p.Findings)
	}
}

// TestEngineVersions: the version before is told by the nodes that have it, whatever the
// order of hosts is. A node that was upgraded by nobody knows whom is no reason to leave it out.
func TestEngineVersions(t *testing.T) {
	inv := engineHosts()
	inv.Hosts[2].Engines[1].Version = "25.06.B001" // node 0
	p := buildEngine(t, inv, Options{Mode: manifest.Rolling})
	if p.From != "24.12.B010" || !slices.ContainsFunc(p.Findings, func(f Finding) bool {
		return f.Level == Block && strings.Contains(f.Text, "Node 0 has version 25.06.B001 already")
	}) {
		t.Errorf("%+v", p)
	}
	if other := (&manifest.Manifest{}); Installed(other, inv).Version != "" {
		t.Error("another bundle has another version")
	}
}

func stepOf(p *Plan, id string) *Step {
	for _, s := range p.Stages {
		for _, c := range s.Chains {
			for i := range c.Steps {
				if c.Steps[i].ID == id {
					return &c.Steps[i]
				}
			}
		}
	}
	return nil
}

// TestEngineHalfDoneComesFirst: the scripts refuse other nodes until the one that was left
// half done is upgraded, or rolled back.
func TestEngineHalfDoneComesFirst(t *testing.T) {
	m := engineBundle()
	inv := Installed(&m, engineHosts())
	up := buildEngine(t, inv, Options{Mode: manifest.Rolling, Last: "h2", Run: "j1"})
	recs := map[string]job.Record{}
	for _, s := range up.Steps() {
		if s.Kind == KindAction && s.Host != "h2" {
			recs[s.ID] = job.Record{State: job.Done}
		}
	}
	recs["h2/install/engine"] = job.Record{State: job.Failed}
	st := Status{Cluster: Rollup, Hosts: map[cluster.HostID]HostState{"h3": HostRollupDone, "h1": HostRollupDone, "h2": HostRollup}}
	back, err := PlanRollback(m, up, recs, st, inv, RollbackFacts{Last: "h2"})
	if err != nil || back.Blocked() {
		t.Fatal(err, back.Findings)
	}
	gone := inv
	gone.Hosts = slices.Clone(inv.Hosts)
	gone.Hosts[0].Engines = nil // it lost what was installed, or does not tell
	if _, err := PlanRollback(m, up, recs, st, gone, RollbackFacts{Last: "h2"}); err != nil {
		t.Error(err)
	}
	if got, want := told(&back), "h2/rollback/engine h2/start/engine h3/rollback/engine h3/start/engine "+
		"h1/rollback/engine h1/start/engine"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
