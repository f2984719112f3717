package upgrade

import (
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
)

// Planner says what comes next in the run of a plan. It is a job.Planner.
//
// A run goes from stage to stage. Within a stage a chain that was begun goes on,
// and another one begins when all rules in begin.go allow it. A run never ends
// by itself but when all is done: what fails beyond the budget pauses it, and an
// operator retries, skips, drops a host, or aborts.
type Planner struct {
	plan   *Plan
	steps  []job.Step
	all    []*Chain                 // the chains of all stages, in order
	first  []int                    // place in all of each stage's first chain
	chains map[cluster.HostID][]int // places in all of those that mark their host
	known  map[cluster.HostID]bool  // hosts of the plan
	// reboots are the places in all of the chains that take a host away.
	reboots map[cluster.HostID][]int
	limit   int // hosts out of service at once
	waves   int
}

// NewPlanner reads a plan as Encode writes it.
func NewPlanner(plan []byte) (*Planner, error) {
	p, err := DecodePlan(plan)
	if err != nil {
		return nil, err
	}
	return p.Planner(), nil
}

// Planner returns the planner of the plan, which must not be changed any more.
func (p *Plan) Planner() *Planner {
	out := &Planner{
		plan: p, steps: p.Steps(), chains: map[cluster.HostID][]int{}, known: map[cluster.HostID]bool{}, reboots: map[cluster.HostID][]int{},
		limit: p.Options.MaxUnavailable.Of(len(p.Hosts)),
	}
	for i := range p.Stages {
		out.first = append(out.first, len(out.all))
		out.awayIn(&p.Stages[i], len(out.all))
		for j := range p.Stages[i].Chains {
			c := &p.Stages[i].Chains[j]
			out.waves = max(out.waves, c.Wave)
			if c.Marks {
				out.chains[c.Host] = append(out.chains[c.Host], len(out.all))
			}
			out.all = append(out.all, c)
		}
	}
	for _, h := range p.Hosts {
		out.known[h.Name] = true
	}
	return out
}

// Plan returns the plan.
func (p *Planner) Plan() *Plan { return p.plan }

// Steps returns all steps, in order.
func (p *Planner) Steps() []job.Step { return p.steps }

// Next says which steps may begin, and why others may not.
func (p *Planner) Next(j job.Job, recs map[string]job.Record, hosts map[cluster.HostID]job.HostState, now time.Time) job.Decision {
	if j.State == job.Ended {
		return job.Decision{}
	}
	st, err := StatusOf(p.plan, j)
	if err != nil {
		// Only a newer program can have written it; it is not written over.
		return p.unreadable(j, err)
	}
	r := &run{Planner: p, job: j, st: st, recs: recs, hosts: hosts, now: now, looks: make([]look, len(p.all)),
		looked: make([]bool, len(p.all)), leaves: map[cluster.HostID]bool{}}
	r.members = r.membersNow()
	r.mark()
	switch j.State {
	case job.Active:
		r.advance()
	case job.Aborting:
		r.abort()
	}
	return r.decision(&j)
}

// Leaves tells which steps are left out: those of hosts that were dropped. It makes the
// Planner a job.Leaver.
func (p *Planner) Leaves(j job.Job) func(job.Step) bool {
	st, err := StatusOf(p.plan, j)
	return func(s job.Step) bool { return err == nil && st.Leaves(s) }
}

// Leaves reports whether a step is one of a host that was dropped.
func (s *Status) Leaves(x job.Step) bool { return x.Host != "" && s.Dropped[x.Host] != "" }

func (p *Planner) unreadable(j job.Job, err error) job.Decision {
	if j.State == job.Active {
		j.State = job.Paused
		j.Because(reason.Error.With(err))
		return job.Decision{Job: &j}
	}
	return job.Decision{Waits: []reason.Reason{reason.Error.With(err)}}
}

// run is one decision.
type run struct {
	*Planner
	job    job.Job
	st     Status
	recs   map[string]job.Record
	hosts  map[cluster.HostID]job.HostState
	now    time.Time
	grant  []string
	waits  []reason.Reason
	more   int    // waits beyond maxWaits
	looks  []look // at the chains, as far as looked
	looked []bool
	soon   bool                    // something waits for what comes by itself: a time, a host, an approval
	leaves map[cluster.HostID]bool // hosts that are rebooted in a turn which this decision begins

	skipped map[cluster.HostID]string // by skippedBack, once it was asked
	members []cluster.HostID          // of Holdfast's own store, now
	live    int                       // steps that are granted or running, these grants included
}

// maxWaits bounds Decision.Waits.
const maxWaits = 20

func (r *run) wait(why reason.Reason) {
	if len(r.waits) == maxWaits {
		r.more++
		return
	}
	r.waits = append(r.waits, why)
}

func (r *run) begin(s *Step) {
	r.grant = append(r.grant, s.ID)
	r.live++
}

func (r *run) pause(whys ...reason.Reason) {
	r.job.State = job.Paused
	r.job.Because(whys...)
	r.grant = nil
}

func (r *run) end(result string, whys ...reason.Reason) {
	r.job.State, r.job.Result = job.Ended, result
	r.job.Because(whys...)
	r.grant, r.waits = nil, nil
}
