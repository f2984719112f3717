package upgrade

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/inventory"
	"holdfast/internal/job"
)

// What things are expected to take. The figures are for people.
const (
	guessMiBps  = 500 // of one migration, MiB/s
	guessMove   = 5 * time.Second
	guessVM     = time.Minute
	guessReboot = 5 * time.Minute
	guessAction = 2 * time.Minute
	guessStage  = 2 * time.Minute
	guessOther  = 10 * time.Second
)

// guess returns what a step is expected to take, the moves of guests apart.
func guess(s *Step) time.Duration {
	switch s.Kind {
	case KindReboot:
		return min(guessReboot, s.Timeout)
	case KindAction, KindBackup, KindRestore:
		return min(guessAction, s.Timeout)
	case KindStage:
		return guessStage
	case KindVMStop, KindVMStart:
		return guessVM
	}
	return guessOther
}

// learned names what steps have in common that are expected to take the same, "" for those of which the
// last run says nothing: what moves guests depends on the guests.
func learned(s *Step) string {
	switch s.Kind {
	case KindReboot, KindBackup, KindRestore, KindStage, KindVMStop, KindVMStart:
		return s.Kind
	case KindAction:
		var args ActionArgs
		if json.Unmarshal(s.Args, &args) == nil {
			return s.Kind + "/" + args.Module + "/" + string(args.Phase)
		}
	}
	return ""
}

// Took is what the steps of a run have taken that were done, the median of each kind.
func Took(p *Plan, recs map[string]job.Record) map[string]time.Duration {
	all := map[string][]time.Duration{}
	for i := range p.Stages {
		for j := range p.Stages[i].Chains {
			for k := range p.Stages[i].Chains[j].Steps {
				s := &p.Stages[i].Chains[j].Steps[k]
				r := recs[s.ID]
				if d := r.Ended.Sub(r.Began); r.State == job.Done && d > 0 && !r.Began.IsZero() && learned(s) != "" {
					all[learned(s)] = append(all[learned(s)], d)
				}
			}
		}
	}
	out := map[string]time.Duration{}
	for what, took := range all {
		slices.Sort(took)
		out[what] = took[len(took)/2]
	}
	return out
}

// guess is what a step is expected to take by the last run, else by rule.
func (b *builder) guess(s *Step) time.Duration {
	if d := b.inv.Took[learned(s)]; d > 0 {
		return min(d, s.Timeout)
	}
	return guess(s)
}

// guessMoves returns what moving guests is expected to take.
func (b *builder) guessMoves(moves int, memory int64) time.Duration {
	each := time.Duration(moves)*guessMove + time.Duration(memory)*time.Second/guessMiBps
	return each / time.Duration(b.parallel())
}

// noteLeave counts what leaves a host.
func (b *builder) noteLeave(h *inventory.Host, l *leave) {
	b.left[h] = l
	e := &b.plan.Estimate
	e.Moves += len(l.moves)
	e.MovedMiB += l.memory
	e.Stops += len(l.stops)
	if b.o.MoveBack {
		e.Moves += len(l.moves)
		e.MovedMiB += l.memory
	}
}

// noteHost adds a host to the plan, with its turn.
func (b *builder) noteHost(h *inventory.Host, c *Chain) {
	p := PlannedHost{Name: h.Name, Install: h.Install, Version: b.versionOf(h), Kernel: h.Kernel, Member: h.Member,
		Group: h.Group, Wave: c.Wave}
	for i := range c.Steps {
		p.Turn += b.guess(&c.Steps[i])
	}
	if l := b.left[h]; l != nil {
		p.Moves, p.MovedMiB = len(l.moves), l.memory
		p.Turn += b.guessMoves(p.Moves, p.MovedMiB)
		if b.o.MoveBack {
			p.Turn += b.guessMoves(p.Moves, p.MovedMiB)
		}
	}
	b.plan.Hosts = append(b.plan.Hosts, p)
}

// estimate adds up the stages, each chain beginning as soon as one may.
func (b *builder) estimate() {
	turn := map[string]time.Duration{}
	for _, h := range b.plan.Hosts {
		turn[string(h.Name)] = h.Turn
	}
	var turns time.Duration // of Estimate.Total
	for i := range b.plan.Stages {
		s := &b.plan.Stages[i]
		at := s.Limit
		if s.Kind == Turn {
			at = b.o.MaxUnavailable.Of(len(b.part))
		}
		if at == 0 {
			at = len(s.Chains)
		}
		free := make([]time.Duration, min(at, len(s.Chains)))
		for _, c := range s.Chains {
			next := slices.Index(free, slices.Min(free))
			if s.Kind == Turn {
				free[next] += turn[string(c.Host)]
				continue
			}
			for j := range c.Steps {
				free[next] += b.guess(&c.Steps[j])
			}
		}
		b.plan.Estimate.Total += slices.Max(free)
		if s.Kind == Turn {
			turns += slices.Max(free)
		}
	}
	b.longRun(turns)
}

const (
	longRun = 48 * time.Hour // nobody wants to watch more
	goodRun = 12 * time.Hour
)

// longRun says how a run that takes days would be shorter. turns is the part of it that
// shrinks when more hosts are out of service at once.
func (b *builder) longRun(turns time.Duration) {
	total, asked, now := b.plan.Estimate.Total, b.o.MaxUnavailable, b.o.MaxUnavailable.Of(len(b.part))
	defer func() { b.o.MaxUnavailable = asked }()
	work := func() (sum time.Duration) { // of all turns, one after the other
		for _, h := range b.plan.Hosts {
			sum += h.Turn + b.guessMoves(h.Moves, h.MovedMiB)
		}
		return sum
	}
	before := work()
	for _, percent := range []int{1, 2, 5, 10} {
		b.o.MaxUnavailable = Limit{Percent: percent} // fewer guests of each host move at once then
		at := b.o.MaxUnavailable.Of(len(b.part))
		then := total - turns + (turns*time.Duration(now)+work()-before)/time.Duration(at)
		if total < longRun || at <= now || then > goodRun && percent < 10 {
			continue
		}
		b.find(Finding{
			Rule: "long-run", Level: Warn,
			Text: fmt.Sprintf("The run is expected to take %d days, with %d of %d hosts out of service at once.",
				total/(24*time.Hour), now, len(b.part)),
			Remedy: fmt.Sprintf("--max-unavailable %d%% is expected to take %d hours, if the other hosts have room "+
				"for the guests", percent, then/time.Hour+1),
		})
		return
	}
}
