package upgrade

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/job"
	"holdfast/internal/upgrade/manifest"
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
		"complete":       {func(*Step) job.StepState { return job.Done }, 1, "aborted by ann"},
		"flows missing":  {func(*Step) job.StepState { return job.Failed }, 1, "not restored: h1/unpin/turn: it went wrong"},
		"nobody can say": {func(*Step) job.StepState { return job.Unknown }, 1, "not restored: h1/unpin/turn: it was begun and may have been done"},
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
	if got := outline(&p); !strings.Contains(got, "hosts: h1/pin/turn h1/stop/web ") || !strings.Contains(got, " h1/check-after h1/unpin/turn | h0/pin/turn ") || strings.Contains(got, "losses") {
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
