package upgrade

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/job"
)

// Plan is an upgrade, a rollback or a commit as it will be carried out. It is
// made once, and never changes. Stages follow one another; the chains of a stage
// run beside each other as far as the rules of Planner allow; the steps of a
// chain follow one another.
type Plan struct {
	Format   int              `json:"format"` // of this JSON: 1, or 2 with Earlier
	Purpose  Purpose          `json:"purpose"`
	Bundle   string           `json:"bundle"` // its name
	From     string           `json:"from"`   // version
	To       string           `json:"to"`     // version
	Options  Options          `json:"options"`
	Hosts    []PlannedHost    `json:"hosts"` // in the order of their turns
	Left     []LeftHost       `json:"left,omitempty"`
	Earlier  []string         `json:"earlier,omitempty"` // runs of the same upgrade that were aborted before, the first one first
	Members  []cluster.HostID `json:"members,omitempty"` // all voters of Holdfast's own store then, hosts of the plan or not
	Stages   []Stage          `json:"stages"`
	Findings []Finding        `json:"findings,omitempty"`
	Estimate Estimate         `json:"estimate"`
	Begin    Status           `json:"begin"` // how the cluster stands when the run begins
}

// Formats of plans. A program that knows nothing of runs that go on would roll back, or
// commit, the last run alone: it must refuse such a plan.
const (
	planFormat        = 1
	planFormatEarlier = 2
)

// after says which runs of the same upgrade came before.
func (p *Plan) after(earlier []string) {
	p.Earlier = earlier
	if len(earlier) > 0 {
		p.Format = planFormatEarlier
	}
}

// Purpose is what a plan is for.
type Purpose string

// Purposes.
const (
	ForUpgrade  Purpose = "upgrade"
	ForRollback Purpose = "rollback"
	ForCommit   Purpose = "commit"
)

// PlannedHost is a host of a plan.
type PlannedHost struct {
	Name     cluster.HostID `json:"name"`
	Install  string         `json:"install,omitempty"` // id of its installation when the plan was made
	Version  string         `json:"version"`           // installed when the plan was made
	Kernel   string         `json:"kernel,omitempty"`  // that ran when the plan was made
	Member   bool           `json:"member,omitempty"`  // a voter of Holdfast's own store
	Group    string         `json:"group,omitempty"`
	Wave     int            `json:"wave,omitempty"`  // counts from 1
	Moves    int            `json:"moves,omitempty"` // guests that leave it
	MovedMiB int64          `json:"movedMiB,omitempty"`
	Turn     time.Duration  `json:"turn,omitempty"` // that it is expected to be out of service, ns
}

// LeftHost is a host that the plan does not change.
type LeftHost struct {
	Name    cluster.HostID `json:"name"`
	Why     string         `json:"why"`
	WhyCode reason.Reason  `json:"whyCode"`
}

// Because says why the host is left out.
func (l LeftHost) Because() string { return reason.Said(l.Why, l.WhyCode) }

// lost reports whether an operator has named the host as lost.
func (l LeftHost) lost() bool { return l.WhyCode.Is(reason.Lost) }

// leave leaves a host out.
func (p *Plan) leave(h cluster.HostID, why reason.Reason) {
	p.Left = append(p.Left, LeftHost{h, reason.Text(why), why})
}

// StageKind says which rules hold for a stage.
type StageKind string

// Kinds of stages.
const (
	Quiet  StageKind = "quiet"  // asks and copies; nothing is changed
	Change StageKind = "change" // changes hosts that go on serving guests
	Turn   StageKind = "turn"   // hosts leave service one after the other
	Close  StageKind = "close"  // restores what the run switched off
)

// Stage is a part of a plan that must be over before the next begins.
type Stage struct {
	Name   string    `json:"name"`
	Kind   StageKind `json:"kind"`
	Limit  int       `json:"limit,omitempty"` // chains at once; 0: not bounded
	Chains []Chain   `json:"chains"`
}

// Chain is what happens on one host, in order.
type Chain struct {
	Host  cluster.HostID `json:"host,omitempty"`  // "": not about one host
	Wave  int            `json:"wave,omitempty"`  // counts from 1; the canary hosts are wave 1
	After []string       `json:"after,omitempty"` // steps that must be over before it begins
	Marks bool           `json:"marks,omitempty"` // the host counts as changed from its begin
	OneOf bool           `json:"oneOf,omitempty"` // its steps are alternatives: one is enough
	Steps []Step         `json:"steps"`
}

// Step is a job's step and what the rules must know of it.
type Step struct {
	job.Step
	Restores []string `json:"restores,omitempty"` // steps that it makes good: an abort runs it when one of them was begun
	Soft     bool     `json:"soft,omitempty"`     // its failure fails nothing
}

// Level is how much a finding matters.
type Level string

// Levels.
const (
	Block Level = "block" // the plan must not be run
	Warn  Level = "warn"
	Info  Level = "info"
)

// Finding is something that a person should know before the run.
type Finding struct {
	Rule   string         `json:"rule"` // name of the rule
	Level  Level          `json:"level"`
	Host   cluster.HostID `json:"host,omitempty"`
	VM     string         `json:"vm,omitempty"`
	Text   string         `json:"text"`
	Remedy string         `json:"remedy,omitempty"`
}

// Estimate is what a run is expected to take. It bounds nothing.
type Estimate struct {
	Steps    int           `json:"steps"`
	Moves    int           `json:"moves"` // guests that move, each time counted
	MovedMiB int64         `json:"movedMiB"`
	Stops    int           `json:"stops"` // guests that are shut down for a while
	Total    time.Duration `json:"total"` // ns
}

// Blocked reports whether the plan must not be run.
func (p *Plan) Blocked() bool {
	for _, f := range p.Findings {
		if f.Level == Block {
			return true
		}
	}
	return false
}

// Steps returns all steps, in order.
func (p *Plan) Steps() []job.Step {
	var out []job.Step
	for _, s := range p.Stages {
		for _, c := range s.Chains {
			for i := range c.Steps {
				out = append(out, c.Steps[i].Step)
			}
		}
	}
	return out
}

// Encode writes the plan. The same plan gives the same bytes.
func (p *Plan) Encode() ([]byte, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write the plan: %w", err)
	}
	return text, nil
}

// DecodePlan reads what Encode wrote.
func DecodePlan(text []byte) (Plan, error) {
	var p Plan
	if err := json.Unmarshal(text, &p); err != nil {
		return Plan{}, fmt.Errorf("read the plan: %w", err)
	}
	if p.Format != planFormat && p.Format != planFormatEarlier {
		return Plan{}, fmt.Errorf("read the plan: format %d: want %d or %d", p.Format, planFormat, planFormatEarlier)
	}
	if err := job.CheckSteps(p.Steps()); err != nil {
		return Plan{}, fmt.Errorf("read the plan: %w", err)
	}
	return p, nil
}

// Target is a host that receives guests.
type Target struct {
	Host   cluster.HostID
	Guests int
}

// Targets returns for each host where its guests go, in the order in which they
// leave.
func (p *Plan) Targets() map[cluster.HostID][]Target {
	out := map[cluster.HostID][]Target{}
	for _, s := range p.Steps() {
		var args evacuate.DrainArgs
		if s.Kind != evacuate.KindDrain || json.Unmarshal(s.Args, &args) != nil {
			continue // Build has written them
		}
		for _, m := range args.Moves {
			list := out[s.Host]
			i := slices.IndexFunc(list, func(t Target) bool { return t.Host == m.To })
			if i < 0 {
				list, i = append(list, Target{Host: m.To}), len(list)
			}
			list[i].Guests++
			out[s.Host] = list
		}
	}
	return out
}
