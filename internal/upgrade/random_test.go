package upgrade

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/testbed/need"
)

// randomManifest has two or three modules with most phases.
func randomManifest(r *rand.Rand) manifest.Manifest {
	act := func() *manifest.Action {
		if r.IntN(4) == 0 {
			return nil
		}
		return &manifest.Action{Run: []string{"x"}, Idempotent: r.IntN(2) == 0, Once: r.IntN(6) == 0}
	}
	m := manifest.Manifest{
		Name: "app", Version: "2.0.0", RequiresReboot: r.IntN(2) == 0,
		UpgradeFrom: []manifest.Source{{Version: "1.*", Modes: []manifest.Mode{manifest.Offline, manifest.Rolling}}},
	}
	for i := range 1 + r.IntN(3) {
		mod := manifest.Module{
			Name: fmt.Sprintf("m%d", i), RunsOn: pick(r, "", "", "host", "manager"),
			Actions: manifest.Actions{
				PreCheck: act(), Stop: act(), Backup: act(), Install: &manifest.Action{Run: []string{"x"}},
				Start: act(), PostCheck: act(), Rollback: act(), Commit: act(),
			},
		}
		mod.CanRollback = mod.Actions.Rollback != nil
		m.Modules = append(m.Modules, mod)
	}
	return m
}

// randomInventory has hosts in groups, filled more or less.
func randomInventory(r *rand.Rand) inventory.Inventory {
	inv := inventory.Inventory{Cluster: "c", Version: "1.0.0"}
	n := 2 + r.IntN(9)
	groups := 1 + r.IntN(2)
	managers := r.IntN(3)
	for i := range n {
		h := inventory.Host{
			Name: cluster.HostID(fmt.Sprintf("h%02d", i)), Group: fmt.Sprint(i % groups), MemoryMiB: int64(16+r.IntN(3)*8) << 10,
			Kernel: "5.1", Install: fmt.Sprint("i", i), Member: i%4 == 1,
		}
		if i < managers {
			h.Roles = pick(r, []inventory.Role{inventory.RoleManager}, []inventory.Role{inventory.RoleManager, inventory.RoleHost})
		}
		if r.IntN(3) == 0 {
			h.Pools = []inventory.Pool{{Name: "p", Kind: "iscsi", Shared: true, Paths: 1 + r.IntN(2), Active: true}}
		}
		inv.Hosts = append(inv.Hosts, h)
		for room := h.MemoryMiB * int64(30+r.IntN(60)) / 100; room > 2048 && h.Has(inventory.RoleHost); {
			v := inventory.VM{
				Name: fmt.Sprintf("v%d", len(inv.VMs)), Host: h.Name, MemoryMiB: int64(1+r.IntN(8)) << 10, Running: r.IntN(8) > 0,
				Protected: len(inv.VMs) == 0,
			}
			if r.IntN(10) == 0 {
				v.Fixed, v.Policy = []string{"a host device"}, pick(r, inventory.PolicyStop, inventory.PolicyCold, inventory.PolicySkip)
			}
			if k := len(inv.VMs); i%3 == 0 && (k == 0 || inv.VMs[k-1].Host != h.Name) { // several hosts have one of that name
				v.Name, v.UUID = "twin", fmt.Sprint("uuid-", k)
			}
			room -= v.MemoryMiB
			if room >= 0 {
				inv.VMs = append(inv.VMs, v)
			}
		}
	}
	for g := range r.IntN(3) {
		apart, at := inventory.Apart{Name: fmt.Sprint("g", g)}, map[cluster.HostID]bool{}
		for _, k := range r.Perm(len(inv.VMs)) {
			if v := inv.VMs[k]; v.Running && !at[v.Host] && len(apart.VMs) < 3 {
				at[v.Host] = true
				apart.VMs = append(apart.VMs, v.Place())
			}
		}
		inv.Apart = append(inv.Apart, apart)
	}
	if managers == 2 && r.IntN(2) == 0 {
		inv.Pair = &inventory.Pair{Nodes: []cluster.HostID{"h00", "h01"}, Active: pick[cluster.HostID](r, "h00", "h01"),
			Switch: []string{"s"}, Stop: []string{"s"}, Start: []string{"s"}}
	}
	if r.IntN(2) == 0 {
		inv.HA = &inventory.Switch{Off: []string{"off"}, On: []string{"on"}}
	}
	return inv
}

func randomOptions(r *rand.Rand, inv *inventory.Inventory) Options {
	o := Options{
		Mode:           pick(r, manifest.Rolling, manifest.Rolling, manifest.Reboot, manifest.Reboot, manifest.Offline),
		MaxUnavailable: Limit{Count: 1 + r.IntN(3)}, Canary: r.IntN(3),
		PauseAfterWave: r.IntN(4) == 0, FailureBudget: r.IntN(2), MoveBack: r.IntN(3) == 0, ApprovePerHost: r.IntN(5) == 0,
	}
	if r.IntN(4) == 0 {
		from := r.IntN(dayMinutes)
		o.Window = Window{From: from, To: (from + 10 + r.IntN(1000)) % dayMinutes}
	}
	o.Last = pick(r, "", inv.Hosts[0].Name, inv.Hosts[len(inv.Hosts)-1].Name)
	return o
}

// randomCase is a plan that is not blocked, or none.
func randomCase(t *testing.T, seed uint64) (manifest.Manifest, inventory.Inventory, Plan, *rand.Rand, bool) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	m, inv := randomManifest(r), randomInventory(r)
	o := randomOptions(r, &inv)
	p, err := Build(m, inv, o)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	again, err := Build(m, inv, o)
	if err != nil {
		t.Fatal(err)
	}
	a, errA := p.Encode()
	b, errB := again.Encode()
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Fatalf("seed %d: two plans of one input: %v %v", seed, errA, errB)
	}
	return m, inv, p, r, !p.Blocked()
}

// patient does what a run without faults needs of an operator.
func patient(w *world) {
	w.command(job.Resume)
}

// approveAll says yes to all hosts.
func approveAll(t *testing.T, w *world) {
	t.Helper()
	for _, h := range w.plan.Hosts {
		if w.plan.Options.ApprovePerHost {
			j, err := Approve(w.plan, w.job, h.Name, "ann")
			if err != nil {
				t.Fatal(err)
			}
			w.job = j
		}
	}
}

const randomRuns = 120

func TestRandomRunsWithoutFaults(t *testing.T) {
	ran, modes := 0, map[manifest.Mode]int{}
	for seed := range uint64(randomRuns) {
		_, inv, p, r, ok := randomCase(t, seed)
		if !ok {
			continue
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, &p, inv)
			w.takes = func(s *Step) time.Duration { return time.Duration(1+r.IntN(600)) * time.Second }
			w.oper = patient
			approveAll(t, w)
			w.run()
			if w.job.Result != resultDone || w.status().Cluster != Prepared {
				t.Fatalf("it is %s %s %q as %s, waits %v", w.job.State, w.job.Result, reason.Text(w.job.Why...), w.status().Cluster, w.waits)
			}
			for id, n := range w.grants {
				if n != 1 {
					t.Errorf("%s was granted %d times", id, n)
				}
			}
			for _, h := range p.Hosts {
				if s := w.status().Hosts[h.Name]; s != HostRollupDone {
					t.Errorf("%s is %q", h.Name, s)
				}
			}
		})
		ran++
		modes[p.Options.Mode]++
	}
	t.Logf("%d of %d plans were not blocked: %v", ran, randomRuns, modes)
	if ran < randomRuns/4 || len(modes) != 3 {
		t.Errorf("too few plans to say anything")
	}
}

// moody is an operator who does anything that is allowed.
func moody(r *rand.Rand) func(w *world) {
	return func(w *world) {
		stuck := w.stuck()
		for _, id := range stuck {
			switch r.IntN(4) {
			case 0:
				w.stepCommand(id, job.Skip)
				w.offPlan = true
			case 1, 2:
				w.stepCommand(id, job.Retry)
				w.offPlan = true
			}
		}
		if r.IntN(8) == 0 {
			w.command(job.Abort)
			return
		}
		w.command(job.Resume)
	}
}

func TestRandomRunsWithFaults(t *testing.T) {
	need.Seconds(t)
	results := map[string]int{}
	for seed := range uint64(randomRuns) {
		_, inv, p, r, ok := randomCase(t, seed)
		if !ok {
			continue
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, &p, inv)
			rate := 5 + r.IntN(60)
			w.takes = func(*Step) time.Duration { return time.Duration(1+r.IntN(600)) * time.Second }
			w.outcome = func(s *Step, _ int) job.StepState {
				switch {
				case r.IntN(rate) > 0:
					return job.Done
				case s.Kind == KindReboot && r.IntN(2) == 0:
					return job.Unknown
				}
				return job.Failed
			}
			w.oper = moody(r)
			approveAll(t, w)
			abortAt := r.IntN(400)
			w.meanwhile = func(w *world) {
				if abortAt--; abortAt == 0 && w.job.State == job.Active {
					w.command(job.Abort)
				}
			}
			w.run()
			if w.job.State != job.Ended && len(w.waits) == 0 && len(w.job.Why) == 0 {
				t.Errorf("it is stuck without a reason: %s", w.job.State)
			}
			if w.job.State == job.Ended {
				checkEnding(t, w)
			}
			results[string(w.job.State)+" "+w.job.Result]++
		})
	}
	t.Logf("ended: %v", results)
	if results["ended done"] == 0 || results["ended aborted"] == 0 {
		t.Error("too few kinds of endings to say anything")
	}
}

// checkEnding looks at what an ended run says of itself.
func checkEnding(t *testing.T, w *world) {
	t.Helper()
	st := w.status()
	for _, h := range w.plan.Hosts {
		mixed := st.Hosts[h.Name] == HostRollup
		listed := false
		for _, m := range st.Mixed {
			listed = listed || m == h.Name
		}
		if mixed != listed {
			t.Errorf("%s is %q, and listed as mixed: %v", h.Name, st.Hosts[h.Name], listed)
		}
	}
	if w.job.Result == resultDone && (st.Cluster != Prepared || len(st.Mixed) > 0) {
		t.Errorf("it is done, and the cluster %s with %v", st.Cluster, st.Mixed)
	}
	for id, r := range w.recs {
		if r.State == job.Granted || r.State == job.Running {
			t.Errorf("the run has ended, and %s is %s", id, r.State)
		}
	}
}

// In a large full group hosts take the place of guests that have returned, again
// and again, and steps take as long as they like.
func TestRandomRunsOfFullGroups(t *testing.T) {
	need.Seconds(t)
	ran := 0
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		inv := inventory.Inventory{Version: "1.0.0"}
		for i := range 40 {
			h := inventory.Host{Name: cluster.HostID(fmt.Sprintf("h%02d", i)), MemoryMiB: 16 << 10}
			inv.Hosts = append(inv.Hosts, h)
			for room := int64(9+r.IntN(4)) << 10; room > 0; {
				v := inventory.VM{Name: fmt.Sprintf("v%d", len(inv.VMs)), Host: h.Name, MemoryMiB: min(room, int64(1+r.IntN(3))<<10), Running: true}
				room -= v.MemoryMiB
				inv.VMs = append(inv.VMs, v)
			}
		}
		m := manifest.Manifest{
			Name: "app", Version: "2.0.0", UpgradeFrom: []manifest.Source{{Version: "1.*", Modes: []manifest.Mode{manifest.Rolling}}},
			Modules: []manifest.Module{{Name: "m", Actions: manifest.Actions{Install: &manifest.Action{Run: []string{"x"}}}}},
		}
		p, err := Build(m, inv, Options{Mode: manifest.Rolling, MaxUnavailable: Limit{Count: 1 + r.IntN(4)}, MoveBack: seed%3 > 0})
		if err != nil {
			t.Fatal(err)
		}
		if p.Blocked() {
			continue
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, &p, inv)
			w.takes = func(s *Step) time.Duration {
				if s.Kind != KindAction && r.IntN(8) == 0 {
					return 100 * time.Hour // others overtake it, as far as they may
				}
				return time.Duration(1+r.IntN(60)*r.IntN(60)) * time.Second
			}
			w.run()
			if w.job.Result != resultDone {
				t.Fatalf("it is %s %q, waits %v", w.job.State, reason.Text(w.job.Why...), w.waits)
			}
		})
		ran++
	}
	if ran < 10 {
		t.Errorf("only %d plans were not blocked", ran)
	}
}
