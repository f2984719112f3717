package upgrade

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
)

// ClusterState is how far the cluster is on its way to another version.
type ClusterState string

// States of the cluster.
const (
	Normal     ClusterState = "normal"
	Rollup     ClusterState = "rollup"   // hosts are being upgraded
	Prepared   ClusterState = "prepared" // all are upgraded; it can be committed or rolled back
	Committing ClusterState = "commit"   // the commit has begun; there is no way back
	Rolldown   ClusterState = "rolldown" // hosts are being rolled back
)

// HostState is how far a host is. One that was not touched has none.
type HostState string

// States of a host.
const (
	HostRollup       HostState = "rollup"
	HostRollupDone   HostState = "rollup_success"
	HostRolldown     HostState = "rolldown"
	HostRolldownDone HostState = "rolldown_success"
)

// Status is the Planner's own state in job.Data.
type Status struct {
	Cluster   ClusterState                 `json:"cluster"`
	Hosts     map[cluster.HostID]HostState `json:"hosts,omitempty"`
	Committed bool                         `json:"committed,omitempty"` // the version was raised: no way back
	Stage     string                       `json:"stage,omitempty"`     // that is under way, for people
	Wave      int                          `json:"wave,omitempty"`      // after which the run paused last
	Approved  map[cluster.HostID]string    `json:"approved,omitempty"`  // by whom
	Dropped   map[cluster.HostID]string    `json:"dropped,omitempty"`   // by whom; nothing more is done on these
	Active    cluster.HostID               `json:"active,omitempty"`    // of the pair, when a run has switched over
	Aborted   time.Time                    `json:"aborted,omitzero"`    // when the abort began
	Mixed     []cluster.HostID             `json:"mixed,omitempty"`     // at the end: neither old nor new
	Retained  map[cluster.HostID]string    `json:"kept,omitempty"`      // hosts whose backups stay, and why
	GivenUp   map[cluster.HostID]string    `json:"givenUp,omitempty"`   // of Kept: hosts that were given up as lost, after which run
	Undone    []string                     `json:"undone,omitempty"`    // at the end: steps that would have restored something
}

// StatusOf reads the status of a job of the plan.
func StatusOf(p *Plan, j job.Job) (Status, error) {
	if len(j.Data) == 0 {
		return p.Begin.clone(), nil
	}
	var st Status
	if err := json.Unmarshal(j.Data, &st); err != nil {
		return Status{}, fmt.Errorf("read the state of %s %s: %w", j.Kind, j.ID, err)
	}
	return st.clone(), nil
}

// clone copies the status, with maps that can be written to.
func (s Status) clone() Status {
	hosts := make(map[cluster.HostID]HostState, len(s.Hosts))
	for h, v := range s.Hosts {
		hosts[h] = v
	}
	s.Hosts = hosts
	s.Approved, s.Dropped = cloneNames(s.Approved), cloneNames(s.Dropped)
	s.Retained, s.GivenUp = cloneNames(s.Retained), cloneNames(s.GivenUp)
	s.Mixed, s.Undone = slices.Clone(s.Mixed), slices.Clone(s.Undone)
	return s
}

func cloneNames(m map[cluster.HostID]string) map[cluster.HostID]string {
	out := make(map[cluster.HostID]string, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// with puts the status into the job's record.
func (s *Status) with(j job.Job) (job.Job, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return j, fmt.Errorf("write the state of %s %s: %w", j.Kind, j.ID, err)
	}
	j.Data = text
	return j, nil
}

// Approve says that a host may be begun.
func Approve(p *Plan, j job.Job, h cluster.HostID, user string) (job.Job, error) {
	return p.say(j, h, "approve", func(s *Status) error {
		if !p.Options.ApprovePerHost {
			return fmt.Errorf("approve %s: the run asks for no approvals", h)
		}
		s.Approved[h] = user
		return nil
	})
}

// Drop leaves a host that is away out of the rest of the run. Its steps count as
// over, and it is listed as mixed when it was touched. up is for how long it counts as up if it
// is heard of no more; 0: it is away.
func Drop(p *Plan, j job.Job, h cluster.HostID, up time.Duration, user string) (job.Job, error) {
	j, err := p.say(j, h, "drop", func(s *Status) error {
		if up > 0 {
			return fmt.Errorf("drop %s: its agent answers, or did a moment ago: it counts as up for %d s more. If "+
				"the host is dead, drop it then; else skip or retry its step, or first stop the host", h, (up+time.Second-1)/time.Second)
		}
		s.Dropped[h] = user
		return nil
	})
	if err != nil {
		return j, err
	}
	on := map[string]bool{} // its steps
	for _, x := range p.Steps() {
		on[x.ID] = x.Host == h
	}
	open := slices.DeleteFunc(slices.Clone(j.Why), func(r reason.Reason) bool {
		return (r.Is(reason.StepFailed) || r.Is(reason.StepUnclear)) && on[r.Args["step"]]
	})
	if len(open) < len(j.Why) { // the failure of a step that counts as over stops nobody
		j.Because(open...)
	}
	return j, nil
}

// say changes what the status says of a host of the plan.
func (p *Plan) say(j job.Job, h cluster.HostID, what string, f func(*Status) error) (job.Job, error) {
	if j.State == job.Ended {
		return j, fmt.Errorf("%s %s: %s %s has ended (%s)", what, h, j.Kind, j.ID, j.Result)
	}
	if !slices.ContainsFunc(p.Hosts, func(x PlannedHost) bool { return x.Name == h }) {
		return j, fmt.Errorf("%s %s: the run has no such host", what, h)
	}
	st, err := StatusOf(p, j)
	if err != nil {
		return j, err
	}
	if err := f(&st); err != nil {
		return j, err
	}
	return st.with(j)
}
