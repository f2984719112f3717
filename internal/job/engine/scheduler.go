package engine

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// Times of the scheduler.
const (
	poll     = 200 * time.Millisecond // how often it asks whether this host coordinates
	redecide = time.Second            // the longest time between two decisions
	maxOwn   = 20                     // decisions in a row that only its own writes were the cause of
	share    = 3                      // it rests this many times as long as it has thought,
	maxRest  = poll                   // but not longer
)

// SchedulerOptions are what a scheduler needs. All but Keep and Generation are
// required.
type SchedulerOptions struct {
	Store store.Store
	Host  cluster.HostID // of this agent
	// Coordinator tells whether this host coordinates now: ok, and then the key of
	// the coordinator's record with the revision that says so (the term).
	Coordinator func() (term int64, key string, ok bool)
	Planners    map[job.Kind]func(plan []byte) (job.Planner, error)
	Hosts       func() map[cluster.HostID]job.HostState
	// Retain names old jobs that are still needed, whatever their age.
	Retain func(ctx context.Context) ([]string, error)
	// Generation of this agent; 0, but in tests: job.Generation.
	Generation int
	Now        func() time.Time // wall clock, for the records and the Planners
	Rand       func() float64   // [0, 1), any goroutine: spreads attempts
	Log        *slog.Logger
}

// Scheduler moves jobs on while its host coordinates. One is made for each agent.
type Scheduler struct {
	SchedulerOptions
	past past
}

// NewScheduler makes a scheduler; Run runs it.
func NewScheduler(o SchedulerOptions) *Scheduler {
	o.Generation = cmp.Or(o.Generation, job.Generation)
	return &Scheduler{SchedulerOptions: o, past: past{sizes: map[string]int{}, strays: map[string]time.Time{}}}
}

// Run works until ctx ends. It writes only while this host coordinates. At most
// one decision is under way.
func (c *Scheduler) Run(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		term, key, ok := c.Coordinator()
		if !ok {
			clock.Sleep(ctx, poll)
			continue
		}
		err := c.lead(ctx, term, key)
		if err == nil || ctx.Err() != nil {
			last = ""
			continue
		}
		if err.Error() != last {
			last = err.Error()
			c.Log.Warn("jobs stand still until the store answers", "err", err)
		}
		clock.Sleep(ctx, pause+time.Duration(c.Rand()*float64(pause)))
	}
}

// lead follows the jobs and decides until this host's term ends or the store is
// lost. What happened at the store's end meanwhile is read anew then.
func (c *Scheduler) lead(ctx context.Context, term int64, key string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v, rev, err := c.load(ctx)
	if err != nil {
		return err
	}
	c.past.stale, c.past.trash = true, nil
	w := c.Store.Watch(ctx, keyAll, rev+1)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	t := turn{c: c, v: v, term: store.Cmp{Key: key, Rev: term}}
	for {
		if err := t.decide(ctx); err != nil {
			return err
		}
		select {
		case b, open := <-w.C():
			if !open {
				return w.Err()
			}
			err = t.take(ctx, b)
		case <-t.rested():
		case <-tick.C:
			err = c.tidy(ctx, t.term)
		}
		if err != nil {
			return err
		}
		if now, _, ok := c.Coordinator(); !ok || now != term {
			return nil
		}
	}
}

// turn is one term of a scheduler.
type turn struct {
	c       *Scheduler
	v       *view
	term    store.Cmp // condition of every write
	urgent  bool      // something has changed since the last decision
	own     int       // decisions in a row that had no other cause than its own writes
	last    time.Time // of the last decision
	notTill time.Time // the next decision
}

func (t *turn) take(ctx context.Context, b store.Batch) error {
	for _, ch := range b.Changes {
		urgent, err := t.c.take(ctx, t.v, ch.KV, ch.Deleted)
		if err != nil {
			return err
		}
		if urgent {
			t.urgent, t.own = true, 0
		}
	}
	return nil
}

// rested fires when a decision that is wanted may be made. These times only pace
// the work, so they are the runtime's.
func (t *turn) rested() <-chan time.Time {
	if !t.urgent {
		return nil
	}
	return time.After(time.Until(t.notTill))
}

// decide decides on all jobs when it is time, and writes what was decided.
func (t *turn) decide(ctx context.Context) error {
	now := time.Now()
	due := t.urgent || now.Sub(t.last) >= redecide
	if !due || now.Before(t.notTill) {
		return nil
	}
	t.last, t.urgent = now, false
	var thought time.Duration
	hosts := t.c.Hosts()
	for _, kind := range slices.Sorted(maps.Keys(t.v.jobs)) {
		j := t.v.jobs[kind]
		began := time.Now()
		changes := t.changes(j, hosts)
		thought += time.Since(began)
		wrote, err := t.write(ctx, j, changes)
		if err != nil {
			return err
		}
		if wrote && t.own < maxOwn {
			t.own++
			t.urgent = true
		}
	}
	// A large plan takes a while: most of a core is left to others.
	if next := time.Now().Add(min(thought*share, maxRest)); next.After(t.notTill) {
		t.notTill = next
	}
	return nil
}

// changes are what to write about a job. While the outcome of a write is not
// known, that is its record alone.
func (t *turn) changes(j *jobView, hosts map[cluster.HostID]job.HostState) []change {
	if j.unsure && !j.foreign {
		return []change{j.rewrite(j.job, func() { j.unsure = false })}
	}
	return t.v.changes(j, t.c.decide(j, t.term.Rev, hosts), t.c.Now())
}
