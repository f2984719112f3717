package upgrade

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// casBundle is a package whose upgrade.sh changes all hosts.
func casBundle() manifest.Manifest {
	return manifest.Manifest{
		Name: "cas", Version: "E0710", RequiresReboot: true,
		UpgradeFrom: []manifest.Source{{Version: "*", Modes: []manifest.Mode{manifest.Offline, manifest.Rolling}}},
		Modules: []manifest.Module{{Name: "cas", RunsOn: "manager",
			Actions: manifest.Actions{Install: &manifest.Action{Run: []string{"upgrade.sh"}, Once: true, AllHosts: true}}}},
	}
}

// TestManagersOfAllHostsComeLast: as the guide says, whoever coordinates Holdfast's own jobs.
func TestManagersOfAllHostsComeLast(t *testing.T) {
	for last, want := range map[cluster.HostID][]cluster.HostID{
		"": {"h1", "h2", "h3", "m2", "m1"}, "h1": {"h2", "h3", "h1", "m2", "m1"}, "h2": {"h1", "h3", "h2", "m2", "m1"},
		"m1": {"h1", "h2", "h3", "m2", "m1"}, "m2": {"h1", "h2", "h3", "m2", "m1"},
	} {
		p := mustBuild(t, casBundle(), casCluster(), Options{Mode: manifest.Reboot, Last: last})
		if got := turns(p); !slices.Equal(got, want) {
			t.Errorf("coordinator on %q: turns %v, want %v", last, got, want)
		}
	}
}

// casCluster is smallCluster as such a package finds it.
func casCluster() inventory.Inventory {
	inv := smallCluster()
	inv.Version, inv.Status.VersionFile = "E0705", "/etc/cas_cvk-version"
	inv.Pair.Status = []string{"/opt/pair", "status"}
	return inv
}

// casOptions are those of an operator who says nothing.
func casOptions() Options {
	m := casBundle()
	return Options{Mode: m.DefaultMode(), Run: "u1"}
}

// The order of the vendor's guide is the default: HA off, one host emptied, the software
// once, on the active manager, whose pair's services it needs and stops; then the emptied
// host, the others, the standby manager, the active one; HA on.
func TestSequenceOfABundleThatChangesAllHosts(t *testing.T) {
	inv := casCluster()
	p := mustBuild(t, casBundle(), inv, casOptions())
	sameText(t, outline(p), `
prepare: h1/stage h1/check | h2/stage h2/check | h3/stage h3/check | m2/stage m2/check | m1/stage m1/check
tidy: h1/tidy | h2/tidy | h3/tidy | m2/tidy | m1/tidy
ha off: m1/ha-off
empty: h1/drain
software of managers: m1/install/cas m1/pair-start/software
hosts: h1/reboot h1/verify h1/check-after h1/undrain | h2/drain h2/reboot h2/verify h2/check-after h2/undrain | h3/drain h3/reboot h3/verify h3/check-after h3/undrain
managers: m2/reboot m2/verify m2/pair-start/reboot m2/check-after
switch over: m2/pair-switch
active manager: m1/reboot m1/verify m1/pair-start/reboot m1/check-after
ha on: m1/ha-on m2/ha-on
check: cluster/post-check
`)
	if p.Blocked() {
		t.Errorf("blocked: %+v", p.Findings)
	}
	newWorld(t, p, inv).run()
	inv.Pair.Active = "m2"
	p = mustBuild(t, casBundle(), inv, casOptions())
	if out := outline(p); !strings.Contains(out, "software of managers: m2/install/cas m2/pair-start/software\n") ||
		strings.Contains(out, "m1/install") {
		t.Errorf("not on the active manager:\n%s", out)
	}
}

func TestWhatABundleForAllHostsNeeds(t *testing.T) {
	for want, change := range map[string]func(inv *inventory.Inventory, o *Options){
		"block read-back : The exit code of the bundle's program does not tell": func(inv *inventory.Inventory,
			_ *Options) {
			inv.Status.VersionFile = ""
		},
		"block active-manager m1: No program is known that says which manager is active": func(inv *inventory.Inventory,
			_ *Options) {
			inv.Pair.Status = nil
		},
		"block active-manager m1: It is the active manager, and does not have the role": func(inv *inventory.Inventory,
			_ *Options) {
			inv.Hosts[0].Roles = nil
		},
		"block active-manager m1: It is the active manager, on which": func(_ *inventory.Inventory,
			o *Options) {
			o.Drop = []cluster.HostID{"m1"}
		},
		"block active-manager m1: It is the active manager and is left out": func(inv *inventory.Inventory,
			_ *Options) {
			inv.Hosts[0].Version = "E0710"
		},
		"block active-manager : The bundle's program runs on the active manager, and the inventory": func(inv *inventory.Inventory,
			_ *Options) {
			inv.Pair = nil
		},
		"warn no-ha : The platform file does not say how": func(inv *inventory.Inventory, _ *Options) { inv.HA = nil },
		"warn drop h2: It is left out of the run, but":    func(_ *inventory.Inventory, o *Options) { o.Drop = []cluster.HostID{"h2"} },
	} {
		inv, o := casCluster(), casOptions()
		change(&inv, &o)
		p := mustBuild(t, casBundle(), inv, o)
		var got []string
		for _, f := range p.Findings {
			got = append(got, string(f.Level)+" "+f.Rule+" "+string(f.Host)+": "+f.Text)
		}
		if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, want) }) ||
			p.Blocked() != strings.HasPrefix(want, "block") {
			t.Errorf("findings\n%s\nwant %s", strings.Join(got, "\n"), want)
		}
	}
	inv, o := casCluster(), casOptions()
	inv.Status.VersionFile, inv.Pair.Status, o.Confirmed = "", nil, []string{manifest.RuleReadBack, RuleActive}
	if p := mustBuild(t, casBundle(), inv, o); p.Blocked() {
		t.Errorf("confirmed, and blocked by %+v", p.Findings)
	}
	inv = casCluster()
	inv.Pair, inv.Hosts = nil, inv.Hosts[1:] // one manager
	if p := mustBuild(t, casBundle(), inv, casOptions()); p.Blocked() ||
		!strings.Contains(outline(p), "software of managers: m2/install/cas\n") {
		t.Errorf("%+v\n%s", p.Findings, outline(p))
	}
	inv.HA.Off = nil // it is off already
	if p := mustBuild(t, casBundle(), inv, casOptions()); strings.Contains(outline(p), "ha o") ||
		slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Rule == "no-ha" }) {
		t.Errorf("%+v\n%s", p.Findings, outline(p))
	}
	for _, mode := range []manifest.Mode{manifest.Rolling, manifest.Offline} {
		o := casOptions()
		o.Mode = mode
		if _, err := Build(casBundle(), inv, o); err == nil ||
			!strings.Contains(err.Error(), "mode "+string(mode)+" does not fit the bundle: upgrade.sh changes all hosts") ||
			(mode == manifest.Offline) != strings.Contains(err.Error(),
				"With guests stopped, only the vendor's own procedure leads there, by hand") {
			t.Errorf("mode %s: %v", mode, err)
		}
	}
}

// said is a host that has answered a status program.
func said(exit int, text string) *fact.Facts {
	return &fact.Facts{Status: &fact.Probe{Exit: exit, Text: text}}
}

func TestActiveManager(t *testing.T) {
	pair := &inventory.Pair{Nodes: []cluster.HostID{"m1", "m2"}, Active: "m1", Status: []string{"/opt/pair", "status"},
		Start: []string{"cvm_resource_start.sh"}}
	mute := &fact.Facts{Unknown: map[string]string{"status": "it hangs"}}
	for _, c := range []struct {
		a, b  *fact.Facts
		want  cluster.HostID
		level Level
		words string
	}{
		{said(0, ""), said(3, ""), "m1", Info, "/opt/pair status: m1 is active (exit code 0), m2 is standby (exit code 3)"},
		{said(3, ""), said(0, ""), "m2", Warn, "though the platform file says m1"},
		{said(1, "stopped\nall"), said(0, ""), "m2", Warn, "m1 is not healthy (exit code 1, stopped all)"},
		{said(0, ""), said(0, ""), "", Block, "both managers of the pair say that they are active"},
		{said(3, ""), said(3, ""), "", Block, "no manager of the pair is active (/opt/pair status: m1 is standby"},
		{nil, mute, "", Block, "m1 was not asked, m2 does not answer (it hangs)"},
		{said(0, ""), mute, "m1", Info, "m2 does not answer (it hangs)"},
	} {
		active, words, err := ActiveManager(pair, map[cluster.HostID]*fact.Facts{"m1": c.a, "m2": c.b})
		f := ActiveFinding(pair, active, words, err)
		if active != c.want || (err != nil) != (c.want == "") || f.Level != c.level ||
			!strings.Contains(f.Text, c.words) || f.Level == Block && !strings.Contains(f.Remedy, "cvm_resource_start.sh") {
			t.Errorf("%v %v: %s, %v, %+v", c.a, c.b, active, err, f)
		}
	}
}

func TestBehind(t *testing.T) {
	told := map[cluster.HostID]*fact.Facts{
		"h1": {Version: "E0710"}, "h2": {Version: "E0705"}, "h3": {Unknown: map[string]string{"version": "no file"}},
		"h4": {Unknown: map[string]string{fact.Nothing: "it is away"}},
	}
	if got := Behind("E0710", []cluster.HostID{"h1"}, told); got != "" {
		t.Error(got)
	}
	want := "h2 has E0705, h3 does not say (no file), h4 does not say (it is away), h5 was not asked"
	if got := Behind("E0710", []cluster.HostID{"h1", "h2", "h3", "h4", "h5"}, told); got != want {
		t.Error(got)
	}
}

// A program that has failed and changed nothing leaves a way back and a way on, also when
// the managers have changed places meanwhile.
func TestWhatFollowsAFailedProgramForAllHosts(t *testing.T) {
	m, inv := casBundle(), casCluster()
	p := mustBuild(t, m, inv, casOptions())
	w := newWorld(t, p, inv)
	w.outcome = func(s *Step, _ int) job.StepState {
		if s.ID == "m1/install/cas" {
			return job.Failed
		}
		return job.Done
	}
	w.oper = func(w *world) { w.command(job.Abort) }
	w.run()
	st := w.status()
	if st.Cluster != Rollup || st.Hosts["m1"] != HostRollup || len(st.Undone) > 0 {
		t.Fatalf("aborted: %+v", st)
	}
	told := map[cluster.HostID]*fact.Facts{}
	for _, h := range inv.Hosts {
		told[h.Name] = &fact.Facts{Version: "E0705"}
	}
	back := func() *Plan {
		t.Helper()
		p, err := PlanRollback(m, *p, w.recs, st, inv, RollbackFacts{Told: told})
		if err != nil {
			t.Fatal(err)
		}
		return &p
	}
	if p := back(); p.Blocked() || len(p.Hosts) != 1 || strings.Contains(outline(p), "pair-stop") || strings.Contains(outline(p), "reboot") {
		t.Errorf("the way back: %+v\n%s", p.Findings, outline(p))
	}
	told["h2"] = &fact.Facts{Version: "E0710"}
	if p := back(); !slices.ContainsFunc(p.Findings, func(f Finding) bool {
		return f.Rule == "no-rollback" && f.Level == Block && strings.Contains(f.Text, "not all hosts have E0705 still: h2 has E0710")
	}) {
		t.Errorf("some were changed: %+v", p.Findings)
	}
	inv.Pair.Active = "m2"
	on, err := BuildAgain(m, Earlier{Plan: *p, Records: w.recs, Status: st}, inv, casOptions())
	if err != nil || on.Blocked() || !strings.Contains(outline(&on), "software of managers: m2/install/cas") {
		t.Errorf("it goes on: %v, %+v\n%s", err, on.Findings, outline(&on))
	}
	rec := w.recs["m1/install/cas"]
	rec.State = job.Done
	w.recs["m1/install/cas"] = rec
	if on, err = BuildAgain(m, Earlier{Plan: *p, Records: w.recs, Status: st}, inv, casOptions()); err != nil ||
		on.Blocked() || strings.Contains(outline(&on), "install") {
		t.Errorf("it was done: %v, %+v\n%s", err, on.Findings, outline(&on))
	}
}
