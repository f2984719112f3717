package job

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

// View is a job with its steps as people are told of it.
type View struct {
	ID      string     `json:"id"`
	Kind    string     `json:"kind"`
	Title   string     `json:"title"`
	User    string     `json:"user"`
	State   string     `json:"state"`            // active, paused, aborting, ended
	Result  string     `json:"result,omitempty"` // ended: done, failed, aborted
	Why     string     `json:"why,omitempty"`
	Began   time.Time  `json:"began,omitzero"`
	Changed time.Time  `json:"changed,omitzero"`
	Steps   []StepView `json:"steps,omitempty"` // in the order of the plan
	Waits   []string   `json:"waits,omitempty"` // why nothing more begins
	// WhyCodes and WaitCodes are Why and each of Waits for programs.
	WhyCodes  []reason.Reason `json:"why_codes,omitempty"`
	WaitCodes []reason.Reason `json:"wait_codes,omitempty"`
}

// Because says why the job is paused, or ended without success, "" when it is neither.
func (v View) Because() string { return reason.Said(v.Why, v.WhyCodes...) }

// Wait sets why nothing more begins.
func (v *View) Wait(reasons []reason.Reason) {
	v.Waits, v.WaitCodes = nil, reasons
	for _, r := range reasons {
		v.Waits = append(v.Waits, reason.Text(r))
	}
}

// WaitsFor says why nothing more begins.
func (v View) WaitsFor() []string {
	out := slices.Clone(v.Waits)
	if len(out) == len(v.WaitCodes) {
		for i, r := range v.WaitCodes {
			out[i] = reason.Said(out[i], r)
		}
	}
	return out
}

// Dropped is the state of a step whose host was dropped from the run; its record has none of it.
const Dropped = "dropped"

// StepView is a step of a job.
type StepView struct {
	ID      string         `json:"id"`
	Host    cluster.HostID `json:"host,omitempty"` // empty: the coordinator's
	Kind    string         `json:"kind"`
	State   string         `json:"state"` // pending, granted, running, done, failed, unknown, skipped, dropped
	Attempt int            `json:"attempt,omitempty"`
	Percent int            `json:"percent,omitempty"`
	Note    string         `json:"note,omitempty"`
	Why     string         `json:"why,omitempty"`
	Tail    string         `json:"tail,omitempty"` // end of its log
	Said    time.Time      `json:"said,omitzero"`  // when something was last added to the log
	Exit    int            `json:"exit,omitempty"`
	By      string         `json:"by,omitempty"`
	Began   time.Time      `json:"began,omitzero"`
	Ended   time.Time      `json:"ended,omitzero"`
}

// Over says that nobody waits for it any more.
func (s StepView) Over() bool {
	return StepState(s.State).Over() || s.State == Dropped
}
