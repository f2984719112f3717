package survey

import (
	"encoding/json"
	"fmt"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/check/faults"
)

// Run is a job of an upgrade with what is known of it.
type Run struct {
	Plan     *upgrade.Plan
	Job      job.Job
	Records  map[string]job.Record // by step
	Unsigned bool                  // the bundle has no signature
	Losses   []check.Loss          // so far
}

// Question asks for a point of the run. The inventory is the one that hosts report.
func (r *Run) Question(when check.When, m *manifest.Manifest) (Question, error) {
	st, err := upgrade.StatusOf(r.Plan, r.Job)
	if err != nil {
		return Question{}, err
	}
	o := &r.Plan.Options
	q := Question{When: when, SHA256: o.SHA256, Manifest: m, From: r.Plan.From, Back: r.Plan.Purpose == upgrade.ForRollback}
	if q.Back {
		q.From = r.Plan.To // the plan leads from the new version to the old one
	}
	r.options(&q)
	for _, l := range r.Plan.Left {
		q.Left = append(q.Left, l.Name)
	}
	for _, h := range r.Plan.Hosts {
		switch {
		case st.Dropped[h.Name] != "":
			q.Left = append(q.Left, h.Name)
		case q.Back && st.Hosts[h.Name] == upgrade.HostRolldownDone, !q.Back && st.Hosts[h.Name] == upgrade.HostRollupDone:
			q.Done = append(q.Done, h.Name)
		}
	}
	for _, s := range r.Plan.Steps() {
		if s.Kind == upgrade.KindHAOff {
			on := true // it is switched off only where it was on
			q.HABefore = &on
			break
		}
	}
	return q, nil
}

// options puts in what the operator has decided for the run.
func (r *Run) options(q *Question) {
	o := &r.Plan.Options
	q.Mode, q.Stay = o.Mode, o.KeepGuests
	q.Policy, q.Policies, q.Confirmed = o.DefaultPolicy, o.Policies, o.Confirmed
}

// Journal is what reports tell of the run, without one step: the one that asks.
func (r *Run) Journal(without string) (check.Journal, error) {
	st, err := upgrade.StatusOf(r.Plan, r.Job)
	if err != nil {
		return check.Journal{}, err
	}
	out := check.Journal{State: string(st.Cluster)}
	for i := range r.Plan.Stages {
		for j := range r.Plan.Stages[i].Chains {
			out.Steps = append(out.Steps, r.chain(&r.Plan.Stages[i].Chains[j], &st, without)...)
		}
	}
	return out, nil
}

// chain tells of the steps of a chain. Of alternatives, one is enough: the others
// are neither missing nor a failure then. Of a step that runs by its last word, and that
// nobody waits for any more, nobody can tell what became of it.
func (r *Run) chain(c *upgrade.Chain, st *upgrade.Status, without string) []check.StepEnd {
	enough := false
	for i := range c.Steps {
		enough = enough || c.OneOf && r.Records[c.Steps[i].ID].State.Over()
	}
	var out []check.StepEnd
	for i := range c.Steps {
		s := &c.Steps[i]
		rec := r.Records[s.ID]
		if s.ID == without || enough && rec.State == job.Pending {
			continue
		}
		e := check.StepEnd{
			Step: s.ID, Host: s.Host, State: stateOf(rec.State), Soft: s.Soft || enough,
			Attempt: rec.Attempt, Exit: rec.Exit, Why: rec.Why, By: rec.By, Tail: rec.Tail, Found: rec.Found,
		}
		dropped := st.Dropped[s.Host] != ""
		if e.State == check.StepRunning && (dropped || r.Job.State == job.Ended) {
			e.State, e.Soft = check.StepUnknown, e.Soft || dropped
		}
		if s.Kind == upgrade.KindAction {
			var args upgrade.ActionArgs
			if json.Unmarshal(s.Args, &args) == nil { // else faults of every module may be meant
				e.Module, e.Phase = args.Module, string(args.Phase)
			}
		}
		out = append(out, e)
	}
	return out
}

func stateOf(s job.StepState) check.StepState {
	switch s {
	case job.Done:
		return check.StepDone
	case job.Failed:
		return check.StepFailed
	case job.Unknown:
		return check.StepUnknown
	case job.Skipped:
		return check.StepSkipped
	case job.Granted, job.Running:
		return check.StepRunning
	}
	return check.StepPending
}

// Fill puts into a report what the run was: versions, failures with what is known
// of them, what guests have lost, how each host stands. without is the step that
// asks, "": none does. known may be nil.
func (r *Run) Fill(rep *check.Report, known *faults.Catalogue, without string) error {
	j, err := r.Journal(without)
	if err != nil {
		return err
	}
	failures, err := check.Failed(j, known)
	if err != nil {
		return err
	}
	st, err := upgrade.StatusOf(r.Plan, r.Job)
	if err != nil {
		return err
	}
	steps := check.CountSteps(j)
	rep.From, rep.To, rep.Bundle, rep.Unsigned, rep.Losses = r.Plan.From, r.Plan.To, r.bundle(), r.Unsigned, r.Losses
	rep.State, rep.Steps, rep.Failures = j.State, &steps, failures
	notes := r.notes(&st)
	for i := range rep.Hosts {
		h := &rep.Hosts[i]
		switch note := notes[h.Name]; {
		case h.Note == "":
			h.Note = note
		case note != "":
			h.Note += ", " + note
		}
	}
	return nil
}

func (r *Run) bundle() string {
	const shown = 12
	sha := r.Plan.Options.SHA256
	version := r.Plan.To
	if r.Plan.Purpose == upgrade.ForRollback {
		version = r.Plan.From
	}
	name := r.Plan.Bundle + " " + version
	if sha == "" {
		return name
	}
	return fmt.Sprintf("%s (sha256 %.*s)", name, shown, sha)
}

// notes says in a few words what became of each host.
func (r *Run) notes(st *upgrade.Status) map[cluster.HostID]string {
	out := map[cluster.HostID]string{}
	for h, s := range st.Hosts {
		switch s {
		case upgrade.HostRollup:
			out[h] = "half upgraded"
		case upgrade.HostRollupDone:
			out[h] = "upgraded"
		case upgrade.HostRolldown:
			out[h] = "half rolled back"
		case upgrade.HostRolldownDone:
			out[h] = "rolled back"
		}
	}
	for _, l := range r.Plan.Left {
		out[l.Name] = "left out: " + l.Because()
	}
	for h, by := range st.Dropped {
		out[h] = "dropped by " + by
	}
	return out
}

// Changed are the hosts that the run changes: those of the plan that were not dropped.
func (r *Run) Changed() (out []cluster.HostID) {
	st, err := upgrade.StatusOf(r.Plan, r.Job)
	for _, h := range r.Plan.Hosts {
		if err != nil || st.Dropped[h.Name] == "" {
			out = append(out, h.Name)
		}
	}
	return out
}
