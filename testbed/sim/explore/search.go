package explore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how far to search, and what may go wrong on one path. The zero
// value of a number that may not be zero means its default.
type Options struct {
	Depth  int // steps of a path, at most
	Faults int // faults on one path, at most; -1: none
	Delays int // delays on one path, at most; -1: none
	Orders int // requests of operators on one path, at most; 0: none
	// ticks that clocks may lose on one path; epsilon is one tick then, 0 otherwise: more than one are outside the
	// drift
	Skew      int
	Restores  int           // restores of the store on one path, at most, of what it held in the beginning; 0: none
	AnyOrder  bool          // what is due happens in every order, not in a fixed one
	Only      []string      // faults and delays that may happen (KindNames); none: all
	Begin     []string      // begin states (BeginNames); none: all
	Workers   int           // goroutines
	MaxStates int           // after so many states no deeper level is begun
	Limit     time.Duration // after that time the search ends
}

// Defaults of Options.
const (
	DefaultDepth     = 24
	DefaultFaults    = 1
	DefaultDelays    = 1
	DefaultWorkers   = 2
	DefaultMaxStates = 20_000_000
	DefaultLimit     = 10 * time.Minute
)

// Result is what a search has found.
type Result struct {
	Depth       int         `json:"depth"`  // of the deepest level that was explored whole
	States      int64       `json:"states"` // distinct states met
	Transitions int64       `json:"transitions"`
	Violations  []Violation `json:"violations"` // one for each rule, at the least depth at which any was broken
	Complete    bool        `json:"complete"`   // everything up to Options.Depth was explored
	Closed      bool        `json:"closed"`     // no state has a successor that was not met: no depth would show more
	Seconds     float64     `json:"seconds"`
	Levels      []int       `json:"levels"` // new states of each depth
}

// node says how a state was reached first. They are kept for all states.
type node struct {
	parent uint32
	step   uint16
}

// A node's number has its worker in the upper bits. A begin state's parent is
// none.
const (
	workerShift = 28
	maxWorkers  = 1 << (32 - workerShift)
	none        = math.MaxUint32
)

// worker explores a share of each level.
type worker struct {
	move   *mover
	nodes  []node
	packed []byte // the new states of the next level, one after the other
	ends   []int  // where each of them ends in packed
	found  []finding
	made   int64 // transitions
	steps  []step
	fresh  []byte
	base   world
}

// finding is a rule that a step from a node broke.
type finding struct {
	node uint32
	step uint16
	v    Violation
}

// search is one run.
type search struct {
	opts    Options
	begins  []begin
	met     *set
	workers []*worker
	next    atomic.Int64
	states  atomic.Int64
	allowed [256]bool // by op
}

// batch is how many states a worker takes at once.
const batch = 64

// Run explores all courses within the options. It ends early, without an error,
// at the first level with a violation, at MaxStates or at Limit; it returns an
// error when ctx ends or an option makes no sense.
func Run(ctx context.Context, o Options) (Result, error) {
	start := time.Now()
	s, err := newSearch(&o)
	if err != nil {
		return Result{}, fmt.Errorf("explore: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	r := Result{Violations: []Violation{}}
	level := s.seed(&r)
	for r.Depth = 0; r.Depth < o.Depth && len(r.Violations) == 0; r.Depth++ {
		if s.states.Load() >= int64(o.MaxStates) || len(level) == 0 || limited.Err() != nil {
			break
		}
		level = s.expand(limited, level, &r)
		if limited.Err() != nil && len(r.Violations) == 0 {
			break
		}
	}
	if ctx.Err() != nil {
		return Result{}, fmt.Errorf("explore: %w", ctx.Err())
	}
	r.Closed = len(level) == 0 && limited.Err() == nil
	r.Complete = (r.Depth >= o.Depth || r.Closed) && len(r.Violations) == 0
	r.States = s.states.Load()
	for _, w := range s.workers {
		r.Transitions += w.made
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

func newSearch(o *Options) (*search, error) {
	defaults(o)
	if o.Depth < 0 || o.Faults > 9 || o.Delays > 9 || o.Orders < 0 || o.Orders > 9 || o.Skew < 0 || o.Skew > 9 ||
		o.Restores < 0 || o.Restores > 1 || o.Workers < 0 || o.Workers > maxWorkers {
		return nil, fmt.Errorf("depth %d, faults %d, delays %d, orders %d, skew %d, restores %d, workers %d: want a "+
			"depth from 0 on, up to 9 of each, one restore, up to %d workers",
			o.Depth, o.Faults, o.Delays, o.Orders, o.Skew, o.Restores, o.Workers, maxWorkers)
	}
	s := &search{opts: *o, met: newSet()}
	var err error
	if s.allowed, err = allow(o.Only); err != nil {
		return nil, err
	}
	n := newNames(o.Skew > 0)
	spend := world{faults: uint8(max(o.Faults, 0)), delays: uint8(max(o.Delays, 0)), orders: uint8(o.Orders), skews: uint8(o.Skew)}
	spend.backup.want.mod = uint8(o.Restores)
	s.begins, err = newMover(n).begins(o.Begin, spend)
	if err != nil {
		return nil, err
	}
	for range o.Workers {
		s.workers = append(s.workers, &worker{move: newMover(n)})
	}
	return s, nil
}

func defaults(o *Options) {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Depth, DefaultDepth)
	set(&o.Faults, DefaultFaults)
	set(&o.Delays, DefaultDelays)
	set(&o.Workers, DefaultWorkers)
	set(&o.MaxStates, DefaultMaxStates)
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
}

// chunk is a share of a level: states of one worker, packed.
type chunk struct {
	packed []byte
	ends   []int
	first  uint32 // number of the first node
}

// at returns the packed state i, and its node.
func (c *chunk) at(i int) ([]byte, uint32) {
	from := 0
	if i > 0 {
		from = c.ends[i-1]
	}
	return c.packed[from:c.ends[i]], c.first + uint32(i)
}

// seed makes the first level.
func (s *search) seed(r *Result) []chunk {
	w := s.workers[0]
	for i := range s.begins {
		w.move.w = s.begins[i].world
		w.keep(s, none, uint16(i))
	}
	r.Levels = append(r.Levels, len(w.ends))
	return s.collect()
}

// collect takes the new states from the workers.
func (s *search) collect() []chunk {
	var out []chunk
	for i, w := range s.workers {
		if len(w.ends) > 0 {
			out = append(out, chunk{w.packed, w.ends, uint32(i)<<workerShift | uint32(len(w.nodes)-len(w.ends))})
		}
		w.packed, w.ends = nil, nil
	}
	return out
}

// expand explores one level with all workers and gives the next one.
func (s *search) expand(ctx context.Context, level []chunk, r *Result) []chunk {
	for i := range level {
		s.next.Store(0)
		var wg sync.WaitGroup
		for _, w := range s.workers {
			wg.Go(func() { w.explore(ctx, s, &level[i]) })
		}
		wg.Wait()
	}
	r.Violations = s.report()
	next := s.collect()
	n := 0
	for i := range next {
		n += len(next[i].ends)
	}
	r.Levels = append(r.Levels, n)
	return next
}

// explore takes states from the chunk until there are none.
func (w *worker) explore(ctx context.Context, s *search, c *chunk) {
	for ctx.Err() == nil {
		to := int(s.next.Add(batch))
		from := to - batch
		if from >= len(c.ends) {
			return
		}
		for i := from; i < min(to, len(c.ends)); i++ {
			w.visit(s, c, i)
		}
	}
}

// visit tries every step from one state.
func (w *worker) visit(s *search, c *chunk, i int) {
	m := w.move
	packed, id := c.at(i)
	unpack(packed, &w.base)
	m.w = w.base
	w.steps = m.next(s.opts.AnyOrder, w.steps[:0])
	for _, st := range w.steps {
		if !s.allowed[st.op] {
			continue
		}
		m.w = w.base
		m.apply(st)
		w.made++
		if len(m.broken) > 0 {
			for _, v := range m.broken {
				w.found = append(w.found, finding{id, st.code(), v})
			}
			continue
		}
		w.keep(s, id, st.code())
	}
}

// keep notes the worker's present state if it is new.
func (w *worker) keep(s *search, parent uint32, step uint16) {
	w.fresh = pack(&w.move.w, w.fresh[:0])
	if !s.met.add(digestOf(w.fresh)) {
		return
	}
	s.states.Add(1)
	w.nodes = append(w.nodes, node{parent, step})
	w.packed = append(w.packed, w.fresh...)
	w.ends = append(w.ends, len(w.packed))
}

// report gives one violation for each rule that the level broke.
func (s *search) report() []Violation {
	out := []Violation{}
	for _, w := range s.workers {
		for _, f := range w.found {
			if !slices.ContainsFunc(out, func(v Violation) bool { return v.Rule == f.v.Rule }) {
				f.v.Path = s.path(f)
				out = append(out, f.v)
			}
		}
		w.found = nil
	}
	slices.SortFunc(out, func(a, b Violation) int { return strings.Compare(a.Rule, b.Rule) })
	return out
}

// path tells how a finding came about, by doing its steps once more.
func (s *search) path(f finding) []string {
	steps := []uint16{f.step}
	id := f.node
	for {
		n := s.workers[id>>workerShift].nodes[id&(1<<workerShift-1)]
		if n.parent == none {
			b := s.begins[n.step]
			slices.Reverse(steps)
			m := newMover(s.workers[0].move.names)
			return m.tell(&b, steps)
		}
		steps = append(steps, n.step)
		id = n.parent
	}
}
