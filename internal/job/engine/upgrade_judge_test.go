package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
)

// What is right of a job that has ended, beside the platform itself.

// once wants each step that must not be repeated done as often as its record says.
func once(w *upWorld, j Journal) (out []string) {
	w.plant.mu.Lock()
	defer w.plant.mu.Unlock()
	for _, s := range w.plant.plan.Steps() {
		n, r := w.plant.effects[s.ID], j.Records[s.ID]
		switch {
		case r.State == job.Failed && j.Job.Result == "done":
			out = append(out, fmt.Sprintf("%s failed: %s", s.ID, r.Why))
		case s.Idempotent:
		case n > 1 || n == 0 && r.State.Over():
			out = append(out, fmt.Sprintf("%s was done %d times, and is %s", s.ID, n, r.State))
		}
	}
	return out
}

// planned says how often the plan stops a guest.
func planned(t *testing.T, p *upgrade.Plan) func(g *plantGuest) int {
	stops := map[string]int{}
	for _, s := range p.Steps() {
		var a struct {
			Moves, Back []evacuate.Move
			Guests      []upgrade.Guest
		}
		switch s.Kind {
		case evacuate.KindDrain, evacuate.KindUndrain, upgrade.KindVMStop:
			if err := json.Unmarshal(s.Args, &a); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range slices.Concat(a.Moves, a.Back) {
			if m.How == evacuate.Cold {
				stops[m.VM]++
			}
		}
		for _, g := range a.Guests {
			stops[g.Name]++
		}
	}
	return func(g *plantGuest) int { return stops[g.VM.Name] }
}

// blind are steps of which nobody may be able to tell whether they were done.
func blind(id string) bool {
	return strings.HasSuffix(id, "/schema") || strings.HasSuffix(id, "/reboot")
}

// finished wants a job to have ended well.
func finished(w *upWorld, j Journal, unknown []string, state upgrade.ClusterState, host upgrade.HostState) (out []string) {
	st := w.status(j)
	if j.Job.State != job.Ended || j.Job.Result != "done" || st.Cluster != state {
		out = append(out, fmt.Sprintf("the job is %s, %s: %s; the cluster is %s, want %s", j.Job.State, j.Job.Result,
			reason.Text(j.Job.Why...), st.Cluster, state))
	}
	if len(st.Mixed)+len(st.Undone) > 0 {
		out = append(out, fmt.Sprintf("between two versions: %v, not restored: %v", st.Mixed, st.Undone))
	}
	for _, h := range w.plant.plan.Hosts {
		if st.Hosts[h.Name] != host {
			out = append(out, fmt.Sprintf("%s is %q, want %q", h.Name, st.Hosts[h.Name], host))
		}
	}
	for _, id := range unknown {
		if !blind(id) {
			out = append(out, id+" was unknown, although its probe can tell")
		}
	}
	return append(out, once(w, j)...)
}

// aborted wants a job to have ended by an abort, and all to be restored but what
// waits for hosts that are between two versions.
func aborted(w *upWorld, j Journal) (out []string) {
	st := w.status(j)
	if j.Job.State != job.Ended || j.Job.Result != "aborted" {
		out = append(out, fmt.Sprintf("the job is %s, %s: %s", j.Job.State, j.Job.Result, reason.Text(j.Job.Why...)))
	}
	for _, text := range st.Undone {
		host, _, _ := strings.Cut(text, "/")
		if !slices.ContainsFunc(st.Mixed, func(h cluster.HostID) bool { return string(h) == host }) {
			out = append(out, "not restored: "+text)
		}
	}
	for h, state := range st.Hosts {
		if v := w.plant.Modules[string(h)+"/base"].Version; state == upgrade.HostRollupDone && v != plantNew {
			out = append(out, fmt.Sprintf("%s has version %s, and is called done", h, v))
		}
	}
	for _, h := range st.Mixed {
		if !strings.Contains(reason.Text(j.Job.Why...), string(h)) {
			out = append(out, fmt.Sprintf("%s is between two versions, and the reason does not say so: %s", h, reason.Text(j.Job.Why...)))
		}
	}
	return append(out, once(w, j)...)
}

// complain fails the test with what is wrong.
func complain(t *testing.T, w *upWorld, when string, wrong ...[]string) {
	t.Helper()
	all := slices.Concat(wrong...)
	if len(all) == 0 {
		return
	}
	j := w.journal(w.plant.job)
	t.Errorf("%s:\n  %s\n%s\n%s", when, strings.Join(all, "\n  "), j.Job.Data, j.text())
}

// abort aborts a job, unless it has ended.
func (w *upWorld) abort(id string) {
	_, err := Command(w.t.Context(), w.admin, Order{Job: id, Command: job.Abort, User: "op", Now: time.Now()})
	if err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrNoJob) {
		w.t.Error(err)
	}
}
