package service

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// TestAgentsThatAreApartBlockAPlan: nothing is begun while a host that takes part
// has an agent that would get no steps. h1 coordinates.
func TestAgentsThatAreApartBlockAPlan(t *testing.T) {
	const near, far = job.Generation + 1, job.Generation + 2
	for what, c := range map[string]struct {
		h1, h2, h3 int
		drop       []cluster.HostID
		blocked    []string // hosts
		says       string
	}{
		"all the same":              {job.Generation, job.Generation, job.Generation, nil, nil, ""},
		"reports that count none":   {0, 0, 0, nil, nil, ""},
		"a neighbour":               {job.Generation, near, job.Generation, nil, nil, ""},
		"two behind a newer leader": {near, job.Generation, near, nil, nil, ""},
		"a host": {job.Generation, job.Generation, far, nil, []string{"h3"},
			fmt.Sprintf("the agent of h3 (9.9, generation %d)", far)},
		"two hosts": {near, far, far, nil, []string{"h2", "h3"},
			fmt.Sprintf("the coordinator's agent is of generation %d", near)},
		"a host that is left out":      {job.Generation, job.Generation, far, []cluster.HostID{"h3"}, nil, ""},
		"a leader":                     {far, job.Generation, job.Generation, nil, []string{"h1"}, "can not be led by the agent of h1"},
		"a leader that is not counted": {0, near, 0, nil, nil, ""},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, storetest.NewMem(), "h1", nil)
			var recs []report.Record
			for i, g := range []int{c.h1, c.h2, c.h3} {
				rec := bare(cluster.HostID(fmt.Sprintf("h%d", i+1)))
				rec.Agent, rec.Generation = "9.9", g
				recs = append(recs, rec)
			}
			r.report(recs...)
			q := request.Request{Bundle: r.bundle("2.0.0").SHA256, Version: "1.0.0", Options: upgrade.Options{Mode: manifest.Rolling, Drop: c.drop}}
			p, err := r.PlanUpgrade(limited(t), q)
			if err != nil {
				t.Fatal(err)
			}
			var blocked []string
			for _, f := range p.Findings {
				if f.Rule != ruleAgents {
					continue
				}
				blocked = append(blocked, string(f.Host))
				if f.Level != upgrade.Block || !strings.Contains(f.Text, c.says) ||
					!strings.Contains(f.Remedy, "bring the agent of "+string(f.Host)+" to a version of generation") {
					t.Errorf("%+v", f)
				}
			}
			if !slices.Equal(blocked, c.blocked) {
				t.Errorf("blocked by %q, want %q: %+v", blocked, c.blocked, p.Findings)
			}
			if len(c.blocked) == 0 {
				return
			}
			if got, err := r.RunUpgrade(limited(t), "ann", r.confirmed(q)); err != nil || got.Job != nil {
				t.Errorf("%v, %+v", err, got.Job)
			}
			r.untouched(what)
		})
	}
}

// TestWhoTakesPart: hosts with steps, also when they are away just now, and those that
// guests may be moved to.
func TestWhoTakesPart(t *testing.T) {
	far := job.HostState{Up: true, Generation: job.Generation + 2}
	away := far
	away.Up = false
	step := upgrade.Step{Step: job.Step{ID: "h2/a", Host: "h2"}}
	p := planned{last: "h1", agents: map[cluster.HostID]job.HostState{"h1": {Up: true}, "h2": away, "h3": far, "h4": away, "h10": far}}
	p.plan.Stages = []upgrade.Stage{{Chains: []upgrade.Chain{{Steps: []upgrade.Step{step}}}}}
	for purpose, want := range map[upgrade.Purpose]string{
		upgrade.ForUpgrade: "h2 h3 h10 ", upgrade.ForRollback: "h2 h3 h10 ", upgrade.ForCommit: "h2 ",
	} {
		p.plan.Purpose = purpose
		got := ""
		for _, f := range p.apart() {
			got += string(f.Host) + " "
		}
		if got != want {
			t.Errorf("%s: %s, want %s", purpose, got, want)
		}
	}
	p.last, p.plan.Purpose = "", upgrade.ForCommit // nobody coordinates
	if fs := p.apart(); len(fs) != 1 {
		t.Errorf("%+v", fs)
	}
}
