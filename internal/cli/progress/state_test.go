package progress

import (
	"slices"
	"testing"

	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
)

// TestDecisionsGoByCodes: when a run is not followed any more rests on codes, never on a
// sentence.
func TestDecisionsGoByCodes(t *testing.T) {
	failed := []job.StepView{{ID: "h1/x", Host: "h1", State: "failed"}}
	running := []job.StepView{{ID: "h1/x", Host: "h1", State: "running"}}
	for name, c := range map[string]struct {
		state string
		whys  []reason.Reason
		why   string // of a record without codes
		steps []job.StepView
		waits []reason.Reason
		help  bool
	}{
		"failed":         {state: "paused", whys: []reason.Reason{reason.StepFailed.With("h1/x", "no space")}, steps: failed, help: true},
		"unclear":        {state: "paused", whys: []reason.Reason{reason.StepUnclear.With("h1/x", "")}, steps: failed, help: true},
		"away":           {state: "paused", whys: []reason.Reason{reason.HostGone.With("h1").At("h1/x")}, steps: running, help: true},
		"no plan":        {state: "paused", whys: []reason.Reason{reason.Error.With("its plan can not be read")}, help: true},
		"later version":  {state: "paused", whys: []reason.Reason{{Code: "new"}}, why: "something new", help: true},
		"by a person":    {state: "paused", whys: []reason.Reason{reason.PausedBy.With("h1/x")}, steps: running},
		"by one, failed": {state: "paused", whys: []reason.Reason{reason.PausedBy.With("ann")}, steps: failed},
		"after a wave":   {state: "paused", whys: []reason.Reason{reason.WaveDone.With(1, 2)}},
		"approval": {state: "active", waits: []reason.Reason{reason.AgentSilent.With("h2").At("h2/x"),
			reason.NotApproved.With("h1").At("h1/x")}},
		"other waits":       {state: "active", waits: []reason.Reason{reason.Error.With("h1 is not approved")}},
		"active and failed": {state: "active", steps: failed},
	} {
		j := job.View{State: c.state, Why: c.why, WhyCodes: c.whys, Steps: c.steps, WaitCodes: c.waits}
		if got := NeedsHelp(j); got != c.help {
			t.Errorf("%s: needs help: %t", name, got)
		}
	}
}

// TestWhatIsToldIsRendered: from codes where they are known, else as it was told.
func TestWhatIsToldIsRendered(t *testing.T) {
	j := job.View{Why: "in old words", WhyCodes: []reason.Reason{reason.PausedBy.With("ann")},
		Waits: []string{"a", "b"}, WaitCodes: []reason.Reason{reason.WaveFirst.With(2).At("h1/x"), {Code: "new"}}}
	if j.Because() != "paused by ann" || !slices.Equal(j.WaitsFor(), []string{"h1/x: wave 2 is not done", "b"}) {
		t.Errorf("%q, %q", j.Because(), j.WaitsFor())
	}
	j.WhyCodes, j.WaitCodes = nil, j.WaitCodes[:1]
	if j.Because() != "in old words" || !slices.Equal(j.WaitsFor(), j.Waits) {
		t.Errorf("%q, %q", j.Because(), j.WaitsFor())
	}
}
