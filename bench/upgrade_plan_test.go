//go:build bench

package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
)

// Bounds of planning for a large cluster.
const (
	planWithin    = 2 * time.Second
	planMemoryMiB = 500
	makespanBound = 1.15
)

// upgradeBundle is a bundle with three modules and a new kernel.
func upgradeBundle() manifest.Manifest {
	run := func() *manifest.Action { return &manifest.Action{Run: []string{"ctl"}} }
	m := manifest.Manifest{
		Name: "app", Version: "2.0.0", RequiresReboot: true, Kernel: "6.1",
		UpgradeFrom: []manifest.Source{{Version: "1.*", Modes: []manifest.Mode{manifest.Rolling, manifest.Offline}}},
	}
	for _, name := range []string{"agent", "storage", "network"} {
		m.Modules = append(m.Modules, manifest.Module{
			Name: name, CanRollback: true,
			Actions: manifest.Actions{Stop: run(), Backup: run(), Install: run(), Start: run(), PostCheck: run(), Rollback: run()},
		})
	}
	return m
}

// upgradeInventory has groups of 60 hosts with 20 guests on each, at three
// quarters of the memory.
func upgradeInventory(hosts int) inventory.Inventory {
	r := rand.New(rand.NewPCG(1, 2))
	inv := inventory.Inventory{Cluster: "large", Version: "1.0.0", HA: &inventory.Switch{Off: []string{"off"}, On: []string{"on"}}}
	for i := range hosts {
		h := inventory.Host{
			Name: cluster.HostID(fmt.Sprintf("h%04d", i)), Group: fmt.Sprint(i / 60), MemoryMiB: 256 << 10, CPUs: 256, CPUModel: "x",
			Pools: []inventory.Pool{{Name: "guests", Kind: "iscsi", Shared: true, Paths: 2, Active: true}},
		}
		inv.Hosts = append(inv.Hosts, h)
		for k := range 20 {
			inv.VMs = append(inv.VMs, inventory.VM{
				Name: fmt.Sprintf("vm-%d-%d", i, k), UUID: fmt.Sprintf("00000000-0000-0000-%04d-%012d", i, k), Host: h.Name,
				MemoryMiB: int64(2+r.IntN(16)) << 10, CPUs: 2 + r.IntN(4), Running: true,
			})
		}
	}
	return inv
}

// TestUpgradePlanOfThreeThousandHosts plans an upgrade of 3,000 hosts and 60,000
// guests in each mode, and asks for the first decision.
func TestUpgradePlanOfThreeThousandHosts(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	m, inv := upgradeBundle(), upgradeInventory(3000)
	for _, c := range []struct {
		mode manifest.Mode
		back bool
	}{{manifest.Rolling, false}, {manifest.Rolling, true}, {manifest.Reboot, false}, {manifest.Offline, false}} {
		began := time.Now()
		p, err := upgrade.Build(m, inv, upgrade.Options{Mode: c.mode, MaxUnavailable: upgrade.Limit{Percent: 2}, MoveBack: c.back})
		took := time.Since(began)
		if err != nil || p.Blocked() {
			t.Fatalf("%s (back %v): %v, %d findings", c.mode, c.back, err, len(p.Findings))
		}
		text, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		pl := p.Planner()
		began = time.Now()
		d := pl.Next(job.Job{ID: "j", Kind: job.Upgrade, State: job.Active}, map[string]job.Record{}, hostsUp(inv), time.Unix(0, 0))
		next := time.Since(began)
		result(t, "upgrade plan, %d hosts, %d guests, %s (back %v): %.2f s, %d steps, %d moves, %.1f MiB of JSON, "+
			"first decision %d ms, peak %d MiB",
			len(inv.Hosts), len(inv.VMs), c.mode, c.back, took.Seconds(), p.Estimate.Steps, p.Estimate.Moves,
			float64(len(text))/(1<<20), next.Milliseconds(), peakMiB(t))
		if took > planWithin || len(d.Grant) == 0 {
			t.Errorf("%s: %s, %d grants: want less than %s and some", c.mode, took, len(d.Grant), planWithin)
		}
	}
	if peak := peakMiB(t); peak > planMemoryMiB {
		t.Errorf("peak memory %d MiB: want less than %d", peak, planMemoryMiB)
	}
}

func hostsUp(inv inventory.Inventory) map[cluster.HostID]job.HostState {
	out := map[cluster.HostID]job.HostState{}
	for _, h := range inv.Hosts {
		out[h.Name] = job.HostState{Up: true}
	}
	return out
}

// peakMiB returns the most memory that this process has had so far.
func peakMiB(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// TestUpgradeMakespan plays a rolling reboot of 300 hosts in virtual time. Steps
// take what the planner does not know. No schedule is shorter than all turns
// together divided by the hosts that may be out of service, or than the longest
// turn.
func TestUpgradeMakespan(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	inv := upgradeInventory(300)
	for _, mode := range []manifest.Mode{manifest.Rolling, manifest.Reboot} {
		for _, limit := range []int{1, 10, 20} {
			p, err := upgrade.Build(upgradeBundle(), inv, upgrade.Options{Mode: mode, MaxUnavailable: upgrade.Limit{Count: limit}})
			if err != nil || p.Blocked() {
				t.Fatalf("%s, %d at once: %v, %d findings", mode, limit, err, len(p.Findings))
			}
			took, bound, longest := play(t, &p, inv)
			ratio := took.Seconds() / bound.Seconds()
			result(t, "upgrade of 300 hosts, %s, %d at once: %.1f h of turns, at least %.1f h (longest turn "+
				"%.0f min): %.2f", mode, limit, took.Hours(), bound.Hours(), longest.Minutes(), ratio)
			if ratio > makespanBound {
				t.Errorf("%s, %d at once: %.2f times the bound, want at most %.2f", mode, limit, ratio, makespanBound)
			}
		}
	}
}

// play carries the plan out and returns how long the turns took, the bound for
// that, and the longest turn.
func play(t *testing.T, p *upgrade.Plan, inv inventory.Inventory) (took, bound, longest time.Duration) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	turn := map[string]string{} // step to host
	for _, s := range p.Stages {
		for _, c := range s.Chains {
			for _, step := range c.Steps {
				if s.Kind == upgrade.Turn {
					turn[step.ID] = string(c.Host)
				}
			}
		}
	}
	kinds := map[string]string{}
	for _, s := range p.Steps() {
		kinds[s.ID] = s.Kind
	}
	pl, j := p.Planner(), job.Job{ID: "j", Kind: job.Upgrade, State: job.Active}
	recs, hosts, now := map[string]job.Record{}, hostsUp(inv), time.Unix(0, 0)
	ends, sums := map[string]time.Time{}, map[string]time.Duration{}
	var first, last time.Time
	for j.State == job.Active {
		d := pl.Next(j, recs, hosts, now)
		if d.Job != nil {
			j = *d.Job
		}
		for _, id := range d.Grant {
			length := stepLength(r, kinds[id])
			recs[id] = job.Record{Step: id, State: job.Running, Attempt: 1, Began: now}
			ends[id] = now.Add(length)
			if turn[id] == "" {
				continue
			}
			sums[turn[id]] += length
			if first.IsZero() {
				first = now
			}
			last = later(last, ends[id])
		}
		if len(d.Grant) > 0 || j.State != job.Active {
			continue
		}
		if len(ends) == 0 {
			t.Fatalf("nothing goes on: %v", d.Waits)
		}
		now = time.Time{}
		for _, e := range ends {
			if now.IsZero() || e.Before(now) {
				now = e
			}
		}
		for id, e := range ends {
			if !e.After(now) {
				recs[id] = job.Record{Step: id, State: job.Done, Attempt: 1}
				delete(ends, id)
			}
		}
	}
	if j.State != job.Ended || j.Result != "done" {
		t.Fatalf("the run is %s: %s", j.State, reason.Text(j.Why...))
	}
	var all []time.Duration
	for _, s := range sums {
		all = append(all, s)
		bound += s
	}
	longest = slices.Max(all)
	bound = max(bound/time.Duration(p.Options.MaxUnavailable.Of(len(p.Hosts))), longest)
	return last.Sub(first), bound, longest
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// stepLength draws how long a step takes: drains from 2 to 15 minutes, reboots
// from 4 to 10.
func stepLength(r *rand.Rand, kind string) time.Duration {
	switch kind {
	case evacuate.KindDrain:
		return time.Duration(120+r.IntN(780)) * time.Second
	case upgrade.KindReboot:
		return time.Duration(240+r.IntN(360)) * time.Second
	case upgrade.KindAction:
		return time.Duration(5+r.IntN(60)) * time.Second
	}
	return time.Duration(1+r.IntN(20)) * time.Second
}
