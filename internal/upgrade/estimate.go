package upgrade

import (
	"slices"
	"time"

	"holdfast/internal/inventory"
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
	p := PlannedHost{Name: h.Name, Install: h.Install, Version: b.versionOf(h), Kernel: h.Kernel, Member: h.Member, Wave: c.Wave}
	for i := range c.Steps {
		p.Turn += guess(&c.Steps[i])
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
				free[next] += guess(&c.Steps[j])
			}
		}
		b.plan.Estimate.Total += slices.Max(free)
	}
}
