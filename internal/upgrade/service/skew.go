package service

import (
	"fmt"
	"maps"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
)

// ruleAgents is the name of the rule that agents of a plan work together.
const ruleAgents = "agents"

// apart blocks a plan that agents of too different versions would have to carry
// out: the scheduler would give their hosts no steps, in the middle of the run.
func (p *planned) apart() []upgrade.Finding {
	lead, known := p.agents[p.last]
	if !known { // nobody coordinates now: it may be this agent
		lead.Generation = job.Generation
	}
	if !job.Together(job.Generation, lead.Generation) {
		return []upgrade.Finding{{
			Rule: ruleAgents, Level: upgrade.Block, Host: p.last,
			Text: fmt.Sprintf("The run can not be led by %s, who coordinates: its plan is made by an agent of "+
				"generation %d, and generations may be one apart at most.",
				lead.AgentOf(p.last), job.Generation),
			Remedy: fitting(p.last, job.Generation),
		}}
	}
	part := p.parts()
	var out []upgrade.Finding
	for _, h := range slices.SortedFunc(maps.Keys(p.agents),
		func(a, b cluster.HostID) int { return inventory.Compare(string(a), string(b)) }) {
		a := p.agents[h]
		if !part[h] || job.Together(job.Generation, lead.Generation, a.Generation) {
			continue
		}
		out = append(out, upgrade.Finding{
			Rule: ruleAgents, Level: upgrade.Block, Host: h,
			Text: fmt.Sprintf("Steps can not be given to %s: the coordinator's agent is of generation %d, the plan "+
				"of generation %d, and generations may be one apart at most.",
				a.AgentOf(h), max(lead.Generation, 1), job.Generation),
			Remedy: fitting(h, job.Generation, lead.Generation),
		})
	}
	return out
}

// fitting is the remedy for an agent that these generations can not work with.
func fitting(h cluster.HostID, generations ...int) string {
	from, to := job.Fitting(generations...)
	return fmt.Sprintf("bring the agent of %s to a version of generation %d to %d", h, from, to)
}

// parts are the hosts that take part: those with steps, and those that are up and
// not dropped, which guests may be moved to. A commit moves none.
func (p *planned) parts() map[cluster.HostID]bool {
	out := map[cluster.HostID]bool{}
	for h, a := range p.agents {
		out[h] = a.Up && p.plan.Purpose != upgrade.ForCommit && !slices.Contains(p.plan.Options.Drop, h)
	}
	for _, s := range p.plan.Steps() {
		out[s.Host] = true
	}
	return out
}
