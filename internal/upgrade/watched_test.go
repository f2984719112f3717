package upgrade

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// pinning are options with which the bridges of hosts are pinned.
func pinning() Options {
	return Options{Mode: manifest.Rolling, KeepGuests: true, Pin: []string{"br-int"}, Run: "j1", SHA256: "5ha"}
}

// TestAbortEndsPins: the bridges of a host that was being worked on are let go, once; what keeps one from that is told.
func TestAbortEndsPins(t *testing.T) {
	for name, c := range map[string]struct {
		outcome func(*Step) job.StepState
		grants  int
		why     string
	}{
		"complete":      {func(*Step) job.StepState { return job.Done }, 1, "aborted by ann"},
		"flows missing": {func(*Step) job.StepState { return job.Failed }, 1, "not restored: h1/unpin/turn: it went wrong"},
		"nobody can say": {func(*Step) job.StepState { return job.Unknown }, 1,
			"not restored: h1/unpin/turn: it was begun and may have been done"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, webBundle(), hosts(3), pinning(), "h1/install/web")
			wantPaused(t, w, "h1/install/web failed")
			w.outcome = func(s *Step, _ int) job.StepState { return c.outcome(s) }
			before := len(w.order)
			w.command(job.Abort)
			w.wantEnd(resultAborted, c.why)
			if got := w.order[before:]; !slices.Equal(got, []string{"h1/unpin/turn"}) || w.grants["h1/unpin/turn"] != c.grants {
				t.Errorf("restored: %v", got)
			}
		})
	}
	w := start(t, webBundle(), hosts(3), pinning(), "h1/pin/turn")
	w.command(job.Abort)
	w.wantEnd(resultAborted, "aborted by ann")
	if w.order[len(w.order)-1] != "h1/unpin/turn" || len(w.status().Mixed) > 0 {
		t.Errorf("a pin that failed may have left one of two bridges: %v, %+v", w.order, w.status())
	}
	w = start(t, webBundle(), hosts(3), pinning(), "h1/install/web")
	w.hosts["h1"] = job.HostState{}
	w.command(job.Abort)
	w.wantEnd(resultAborted, "not restored: h1/unpin/turn: the host is away")
}

// TestRollbackPins: what goes back is pinned as what went there, and goes back where it can not be.
func TestRollbackPins(t *testing.T) {
	m, inv := webBundle(), hosts(3)
	inv.Backups = webFiles()
	o := pinning()
	o.Backup, o.Probe, o.LossLimit, o.Confirmed = map[string]string{"web": "web-files"}, true, 5, []string{unwatched}
	w := start(t, m, inv, o, "h1/install/web")
	w.command(job.Abort)
	w.run()
	p, err := PlanRollback(m, *w.plan, w.recs, w.status(), inv, RollbackFacts{Receipts: receipts(w)})
	if err != nil || p.Blocked() {
		t.Fatalf("%v, blocked by %v", err, blocks(&p))
	}
	if got := outline(&p); !strings.Contains(got, "hosts: h1/pin/turn h1/stop/web ") ||
		!strings.Contains(got, " h1/check-after h1/unpin/turn | h0/pin/turn ") || strings.Contains(got, "losses") {
		t.Error(got)
	}
	back := newWorld(t, &p, inv)
	back.outcome = func(s *Step, _ int) job.StepState {
		if s.ID == "h1/pin/turn" {
			return job.Failed
		}
		return job.Done
	}
	back.wantEnd(resultDone, "")
	if back.grants["h1/unpin/turn"] != 1 || back.status().Hosts["h1"] != HostRolldownDone {
		t.Errorf("%v, %+v", back.order, back.status())
	}
	// And each host looks before anything is changed on it, but not on the way back.
	for plan, want := range map[*Plan][]string{w.plan: {"br-int"}, &p: nil} {
		i := slices.IndexFunc(plan.Steps(), func(s job.Step) bool { return s.ID == "h1/check" })
		step := Step{Step: plan.Steps()[i]}
		if got := args[CheckArgs](t, &step).Pin; !slices.Equal(got, want) {
			t.Errorf("%s: the check before asks for bridges %v, want %v", plan.Purpose, got, want)
		}
	}
}

// TestLossesSlowTheRun: each host whose guests have lost more than half of the limit halves how many are worked on at
// once, before another one at the limit stops the run.
func TestLossesSlowTheRun(t *testing.T) {
	o := Options{Mode: manifest.Rolling, KeepGuests: true, Probe: true, LossLimit: 6, MaxUnavailable: Limit{Count: 4},
		Confirmed: []string{unwatched}}
	for name, c := range map[string]struct {
		lost map[string]int64 // by step
		most []int            // hosts at once: while nothing was lost, and at the end
		says string
	}{
		"nothing": {nil, []int{4, 4}, ""},
		"half":    {map[string]int64{"h0/losses/turn": 3}, []int{4, 4}, ""},
		"more": {map[string]int64{"h0/losses/turn": 4}, []int{4, 2},
			"2 hosts are under way, as many as may be at once, because guests of h0 have lost more than half of the " +
				"packets that --loss-limit allows"},
		"on two hosts": {map[string]int64{"h0/losses/turn": 5, "h1/losses/turn": 4}, []int{4, 1},
			"1 hosts are under way, as many as may be at once, because guests of h0, h1 have lost"},
		"on many": {map[string]int64{"h0/losses/turn": 5, "h1/losses/turn": 4, "h2/losses/turn": 4, "h3/losses/turn": 5}, []int{4, 1}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inv := hosts(12)
			w := newWorld(t, mustBuild(t, webBundle(), inv, o), inv)
			first, last, said := 0, 0, ""
			w.meanwhile = func(w *world) {
				for step, n := range c.lost {
					if r := w.recs[step]; r.State == job.Done {
						r.Count = n
						w.recs[step] = r
					}
				}
				under := 0
				for _, h := range w.plan.Hosts {
					if begun(w.recs[string(h.Name)+"/losses-before/turn"]) && !w.recs[string(h.Name)+"/losses/turn"].State.Over() {
						under++
					}
				}
				switch {
				case !w.recs["h0/losses/turn"].State.Over():
					first = max(first, under)
				case begun(w.recs["h8/losses-before/turn"]): // those that had begun before are over
					last = max(last, under)
				}
				for _, why := range w.waits {
					if c.says != "" && strings.Contains(why, c.says) {
						said = why
					}
				}
			}
			w.wantEnd(resultDone, "")
			if first != c.most[0] || last != c.most[1] || c.says != "" && said == "" {
				t.Errorf("%d hosts at once, then %d, want %v; it should say %q", first, last, c.most, c.says)
			}
		})
	}
}
