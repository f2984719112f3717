package service

import (
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// TestCheckAndRunJudgeAlike: a check is green where an upgrade begins, and only there. It names
// what is in the way.
func TestCheckAndRunJudgeAlike(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*rig, *request.Request)
		rule   string // that fails; none: the upgrade begins
	}{
		"all is well":       {func(*rig, *request.Request) {}, ""},
		"a host is down":    {func(r *rig, _ *request.Request) { r.silence("h2") }, "host-down"},
		"it is dropped":     {func(r *rig, q *request.Request) { r.silence("h2"); q.Options.Drop = []cluster.HostID{"h2"} }, ""},
		"not from there":    {func(_ *rig, q *request.Request) { q.Version = "0.9.0" }, "white-list"},
		"installed already": {func(_ *rig, q *request.Request) { q.Version = "2.0.0" }, "nothing-to-do"},
		"a guest without an address": {func(r *rig, q *request.Request) {
			q.Options.Probe, q.Options.KeepGuests = true, true
			h := bare("h2")
			h.VMs = []inventory.VM{{Name: "vm1", UUID: "u1", Host: "h2", MemoryMiB: 64, Running: true}}
			r.report(h)
		}, "unwatched"},
		"another one runs": {func(r *rig, q *request.Request) { r.begin(*q) }, "running"},
		"one is prepared": {func(r *rig, q *request.Request) {
			r.end(r.begin(*q).Job.ID, "done", func(s *upgrade.Status) { s.Cluster = upgrade.Prepared })
		}, "running"},
	} {
		t.Run(name, func(t *testing.T) {
			r, q := three(t)
			q.Options.Mode = manifest.Rolling
			c.change(r, &q)
			q = r.confirmed(q)
			rep, err := r.CheckUpgrade(limited(t), q)
			if err != nil {
				t.Fatal(err)
			}
			begun, err := r.RunUpgrade(limited(t), "ann", q)
			green := check.Worst(rep.Findings) != check.Fail
			if begins := err == nil && begun.Job != nil; begins != green || green != (c.rule == "") {
				t.Errorf("green: %t, begins: %t (%v), findings %+v", green, begins, err, rep.Findings)
			}
			var failed []string
			for _, f := range unconfirmed(rep.Findings, nil) {
				failed = append(failed, f.Check)
			}
			if got := strings.Join(failed, " "); !strings.Contains(got, c.rule) {
				t.Errorf("failed: %s, want %s", got, c.rule)
			}
		})
	}
}
