package evacuate

import (
	"encoding/json"
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
)

// HostJob is the kind of a job about one host, such as emptying it.
const HostJob job.Kind = "host"

// drainWithin bounds a drain that an operator asks for by itself.
const drainWithin = 4 * time.Hour

// hostPlan is a few steps, one after the other. The first that fails ends the job.
type hostPlan struct {
	Todo []job.Step `json:"steps"`
}

// HostPlan empties a host with this many moves at once.
func HostPlan(host cluster.HostID, parallel int) (plan []byte, steps []job.Step, err error) {
	args, err := json.Marshal(DrainArgs{Parallel: parallel})
	if err != nil {
		return nil, nil, fmt.Errorf("write the arguments of a drain: %w", err)
	}
	p := hostPlan{[]job.Step{{ID: string(host) + "/drain", Host: host, Kind: KindDrain, Args: args, Timeout: drainWithin, Idempotent: true}}}
	plan, err = json.Marshal(p)
	if err != nil {
		return nil, nil, fmt.Errorf("write the plan of a drain: %w", err)
	}
	return plan, p.Todo, nil
}

// HostPlanner reads the plan of a job of kind HostJob.
func HostPlanner(plan []byte) (job.Planner, error) {
	var p hostPlan
	if err := json.Unmarshal(plan, &p); err != nil {
		return nil, fmt.Errorf("read the plan of a host's job: %w", err)
	}
	if err := job.CheckSteps(p.Todo); err != nil {
		return nil, err
	}
	return &p, nil
}

// Steps implements job.Planner.
func (p *hostPlan) Steps() []job.Step { return p.Todo }

// Next implements job.Planner.
func (p *hostPlan) Next(j job.Job, recs map[string]job.Record, hosts map[cluster.HostID]job.HostState, _ time.Time) job.Decision {
	end := func(result string, why ...reason.Reason) job.Decision {
		j.State, j.Result = job.Ended, result
		j.Because(why...)
		return job.Decision{Job: &j}
	}
	for _, s := range p.Todo {
		switch r := recs[s.ID]; {
		case r.State.Over():
			continue
		case (r.State == job.Granted || r.State == job.Running) && (j.State != job.Aborting || hosts[s.Host].Up):
			return job.Decision{}
		case j.State == job.Aborting: // a host that is silent can not be waited for
			return end("aborted", j.Why...)
		case r.State.Stuck():
			return end("failed", reason.Error.With(r.Why))
		case j.State != job.Active:
			return job.Decision{}
		case !hosts[s.Host].Up:
			return job.Decision{Waits: []reason.Reason{reason.HostSilent.With(s.Host)}}
		}
		return job.Decision{Grant: []string{s.ID}}
	}
	return end("done")
}
