package request

import (
	"slices"
	"testing"

	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
)

// TestNextGoesByCodes: what is named rests on codes, never on a sentence, and on what would be
// accepted.
func TestNextGoesByCodes(t *testing.T) {
	failed := []job.StepView{{ID: "h1/x", Host: "h1", State: "failed"}}
	running := []job.StepView{{ID: "h1/x", Host: "h1", State: "running"}}
	always := []string{"holdfast upgrade resume", "holdfast upgrade abort"}
	retry := []string{"holdfast upgrade retry h1/x", "holdfast upgrade skip h1/x --reason WHY"}
	away := []reason.Reason{reason.HostGone.With("h1").At("h1/x")}
	waits := []reason.Reason{reason.AgentSilent.With("h2"), reason.NotApproved.With("h1").At("h1/x"), reason.NotApproved.With("h3").At("h3/x")}
	space := []reason.Reason{reason.StepFailed.With("h1/x", "no space")}
	ann := []reason.Reason{reason.PausedBy.With("ann")}
	drop := append([]string{"holdfast upgrade drop h1"}, always...)
	for name, c := range map[string]struct {
		state string
		whys  []reason.Reason
		steps []job.StepView
		waits []reason.Reason
		not   []Verb // is not accepted
		next  []string
	}{
		"failed":            {state: "paused", whys: space, steps: failed, next: slices.Concat(retry, always)},
		"away":              {state: "paused", whys: away, steps: running, next: drop},
		"back again":        {state: "paused", whys: away, steps: running, not: []Verb{Drop}, next: always},
		"no plan":           {state: "paused", whys: []reason.Reason{reason.Error.With("its plan can not be read")}, next: always},
		"by one, failed":    {state: "paused", whys: ann, steps: failed, next: slices.Concat(retry, always)},
		"after a wave":      {state: "paused", whys: []reason.Reason{reason.WaveDone.With(1, 2)}, next: always},
		"approval":          {state: "active", waits: waits, next: []string{"holdfast upgrade approve h1 h3"}},
		"other waits":       {state: "active", waits: []reason.Reason{reason.Error.With("h1 is not approved")}},
		"approved":          {state: "active", waits: waits, not: []Verb{Approve}},
		"active and failed": {state: "active", steps: failed, next: retry},
		"aborting":          {state: "aborting", steps: failed, not: []Verb{Retry, Skip}},
	} {
		j := job.View{State: c.state, WhyCodes: c.whys, Steps: c.steps, WaitCodes: c.waits}
		may := func(v Verb, _ string) bool { return !slices.Contains(c.not, v) }
		if got := Next(&Standing{Job: &j}, may); !slices.Equal(got, c.next) {
			t.Errorf("%s: next %q, want %q", name, got, c.next)
		}
	}
	// When a job has ended, by how the cluster stands.
	const run, rollback = "holdfast upgrade run --bundle FILE --key KEY", "holdfast upgrade rollback"
	for state, want := range map[upgrade.ClusterState][]string{
		upgrade.Prepared: {rollback}, upgrade.Rollup: {run, rollback}, upgrade.Rolldown: {rollback},
		upgrade.Committing: nil, upgrade.Normal: {"holdfast upgrade report"},
	} {
		u := Standing{ClusterState: state, Job: &job.View{State: "ended"}}
		if got := Next(&u, func(v Verb, _ string) bool { return v != Commit }); !slices.Equal(got, want) {
			t.Errorf("%s: next %q, want %q", state, got, want)
		}
	}
	all := func(Verb, string) bool { return true }
	if got := Next(&Standing{Job: &job.View{State: "ended"}, Behind: []Behind{{Name: "h2", Up: true}}}, all); got[0] != run {
		t.Errorf("a host was left behind: next %q", got)
	}
	if got := Next(&Standing{}, all); got[1] != run+" --version VERSION" {
		t.Errorf("no version is known: next %q", got)
	}
}
