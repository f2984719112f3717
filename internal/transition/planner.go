package transition

import (
	"encoding/json"
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
)

// Planner says which step of a plan comes next. It is a job.Planner: one step after the
// other, and none beside another. What fails pauses the run, and it goes on when an operator
// has had the step retried or skipped; so does a question, until the run is resumed.
type Planner struct {
	plan  Plan
	steps []job.Step
}

var _ job.Planner = (*Planner)(nil)

// state is the Planner's own, in job.Job.Data.
type state struct {
	Asked string `json:"asked,omitempty"` // the step before which a person was asked last
}

// NewPlanner reads a plan as Encode writes it.
func NewPlanner(plan []byte) (job.Planner, error) {
	p := &Planner{}
	if err := json.Unmarshal(plan, &p.plan); err != nil {
		return nil, fmt.Errorf("read the plan of a transition: %w", err)
	}
	var err error
	p.steps, err = p.plan.JobSteps()
	return p, err
}

// Steps implements job.Planner.
func (p *Planner) Steps() []job.Step { return p.steps }

// Next implements job.Planner.
func (p *Planner) Next(j job.Job, recs map[string]job.Record, hosts map[cluster.HostID]job.HostState, _ time.Time) job.Decision {
	if j.State == job.Ended {
		return job.Decision{}
	}
	var st state
	if len(j.Data) > 0 {
		if err := json.Unmarshal(j.Data, &st); err != nil { // only a newer program can have written it
			return job.Decision{Waits: []reason.Reason{reason.Error.With(err)}}
		}
	}
	for i := range p.plan.Steps {
		s := &p.plan.Steps[i]
		r := recs[s.ID]
		if r.State.Over() {
			continue
		}
		if j.State == job.Aborting {
			return aborting(j, s, r, recs, hosts)
		}
		return next(j, st, s, r, hosts)
	}
	return end(j, "done")
}

// next decides about the first step that is not over.
func next(j job.Job, st state, s *Step, r job.Record, hosts map[cluster.HostID]job.HostState) job.Decision {
	up := hosts[s.Host].Up
	switch {
	case r.State == job.Granted || r.State == job.Running:
		if !up {
			return job.Decision{Waits: []reason.Reason{reason.AgentSilent.With(s.Host).At(s.ID)}}
		}
		return job.Decision{}
	case r.State.Stuck() && !cutOff(s, r, hosts[s.Host]):
		if j.State == job.Paused {
			return job.Decision{}
		}
		code := reason.StepFailed
		if r.State == job.Unknown {
			code = reason.StepUnclear
		}
		return paused(j, st, code.With(s.ID, r.Why))
	case j.State == job.Paused && !failed(j):
		return job.Decision{} // a person's word is awaited
	case s.Confirm != "" && st.Asked != s.ID:
		st.Asked = s.ID
		return paused(j, st, reason.Confirm.With(s.Confirm, j.ID).At(s.ID))
	case !up:
		return job.Decision{Waits: []reason.Reason{reason.AgentSilent.With(s.Host).At(s.ID)}}
	}
	out := job.Decision{Grant: []string{s.ID}}
	if j.State == job.Paused { // for a failure, and an operator has decided about it since
		j.State = job.Active
		j.Because()
		out.Job = &j
		out.Grant = nil // what an active job may do is decided next
	}
	return out
}

// cutOff reports whether a step that has failed, and may be begun again, was ended with its host, which has booted since.
func cutOff(s *Step, r job.Record, h job.HostState) bool {
	return s.Again && r.State == job.Failed && r.Boot != "" && h.Boot != "" && h.Boot != r.Boot
}

// failed reports whether a job was paused by the failure of a step alone.
func failed(j job.Job) bool {
	for _, why := range j.Why {
		if !why.Is(reason.StepFailed) && !why.Is(reason.StepUnclear) {
			return false
		}
	}
	return len(j.Why) > 0
}

func paused(j job.Job, st state, why reason.Reason) job.Decision {
	data, err := json.Marshal(st)
	if err != nil {
		return job.Decision{Waits: []reason.Reason{reason.Error.With(err)}}
	}
	j.State, j.Data = job.Paused, data
	j.Because(why)
	return job.Decision{Job: &j}
}

// aborting waits until the step that runs has been ended, by an agent that answers.
func aborting(j job.Job, s *Step, r job.Record, recs map[string]job.Record, hosts map[cluster.HostID]job.HostState) job.Decision {
	if (r.State == job.Granted || r.State == job.Running) && hosts[s.Host].Up {
		return job.Decision{Waits: []reason.Reason{reason.BeingEnded.With().At(s.ID)}}
	}
	why := j.Why
	if s.Stage == "hosts" && recs[s.ID].Attempt > 0 {
		why = append(why, reason.UpgradeStays.With())
	}
	return end(j, "aborted", why...)
}

func end(j job.Job, result string, why ...reason.Reason) job.Decision {
	j.State, j.Result = job.Ended, result
	j.Because(why...)
	return job.Decision{Job: &j}
}
