package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/store"
)

// How much of the past is kept.
const (
	keepJobs  = 20
	keepBytes = 128 << 20        // plans and records of old jobs; the store has 512 MiB for everything
	strayAge  = 10 * time.Minute // a plan without a job may be one that is just being submitted
)

// removal is one transaction that removes something old.
type removal struct {
	conds []store.Cmp
	ops   []store.Op
}

// past is what a scheduler knows of old jobs and of plans without a job.
type past struct {
	stale  bool                 // it has to be looked through
	looked time.Time            // when it was
	trash  []removal            // what can go
	sizes  map[string]int       // bytes of old jobs, by id: they do not change any more
	strays map[string]time.Time // plans without a job, by id: when each was first seen
}

// tidy removes a little of what is too old, so that decisions do not wait for it.
func (c *Scheduler) tidy(ctx context.Context, term store.Cmp) error {
	p := &c.past
	again := len(p.strays) > 0 && time.Since(p.looked) >= strayAge
	if len(p.trash) == 0 && (p.stale || again) {
		trash, err := c.waste(ctx)
		if err != nil {
			// Jobs go on all the same.
			c.Log.Warn("old jobs are not removed", "err", err)
		}
		p.trash, p.stale, p.looked = trash, false, time.Now()
	}
	if len(p.trash) == 0 {
		return nil
	}
	next := p.trash[0]
	_, _, err := txn(ctx, c.Store, append([]store.Cmp{term}, next.conds...), next.ops)
	switch {
	case errors.Is(err, store.ErrUnknown):
		return nil // removed once more
	case err != nil:
		return fmt.Errorf("remove old jobs: %w", err)
	}
	// When the conditions did not hold, it is not waste any more, or not ours to remove.
	p.trash = p.trash[1:]
	return nil
}

// waste lists what can go: the oldest jobs, each one's own record last, so that
// what was not finished is found again; and plans that no job has.
func (c *Scheduler) waste(ctx context.Context) ([]removal, error) {
	kvs, _, err := list(ctx, c.Store, keyOld)
	if err != nil {
		return nil, fmt.Errorf("list the old jobs: %w", err)
	}
	var old []job.Job
	for _, kv := range kvs {
		j, err := decodeJob(kv)
		if err != nil {
			return nil, fmt.Errorf("list the old jobs: %w", err)
		}
		old = append(old, j)
	}
	slices.SortFunc(old, newest)
	keep, err := c.keep(ctx)
	if err != nil {
		return nil, err
	}
	var out []removal
	size := 0
	for n, j := range old {
		if _, known := c.past.sizes[j.ID]; !known {
			if _, err := c.belongings(ctx, j.ID); err != nil {
				return nil, err
			}
		}
		if size += c.past.sizes[j.ID]; n < keepJobs && size <= keepBytes || slices.Contains(keep, j.ID) {
			continue
		}
		ops, err := c.belongings(ctx, j.ID)
		if err != nil {
			return nil, err
		}
		for part := range slices.Chunk(append(ops, store.Op{Key: oldKey(j.ID)}), maxOps) {
			out = append(out, removal{ops: part})
		}
	}
	strays, err := c.strayPlans(ctx)
	return append(out, strays...), err
}

func (c *Scheduler) keep(ctx context.Context) ([]string, error) {
	if c.Retain == nil {
		return nil, nil
	}
	return c.Retain(ctx)
}

// belongings are the keys of an old job but its own. It notes their size.
func (c *Scheduler) belongings(ctx context.Context, id string) (ops []store.Op, err error) {
	size := 0
	for _, prefix := range []string{stepsKey(id), plansKey(id)} {
		kvs, _, err := list(ctx, c.Store, prefix)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, kv := range kvs {
			size += len(kv.Key) + len(kv.Value)
			ops = append(ops, store.Op{Key: kv.Key})
		}
	}
	c.past.sizes[id] = size
	return ops, nil
}

// strayPlans are what a Submit that never ended has left. Its last transaction
// rewrites the first piece, and a removal compares it: of a Submit and a removal
// at the same time one fails.
func (c *Scheduler) strayPlans(ctx context.Context) ([]removal, error) {
	kvs, _, err := list(ctx, c.Store, keyPlan)
	if err != nil {
		return nil, fmt.Errorf("list the plans: %w", err)
	}
	jobs, err := List(ctx, c.Store) // after the plans: a job that came in between has its plan
	if err != nil {
		return nil, err
	}
	now := time.Now()
	seen, stray := map[string]time.Time{}, map[string]removal{}
	for _, kv := range kvs {
		id, _, _ := strings.Cut(strings.TrimPrefix(kv.Key, keyPlan), "/")
		if slices.ContainsFunc(jobs, func(j job.Job) bool { return j.ID == id }) {
			continue
		}
		seen[id] = now
		if first, known := c.past.strays[id]; known {
			seen[id] = first
		}
		if now.Sub(seen[id]) >= strayAge {
			r := stray[id]
			r.conds = append(r.conds, store.Cmp{Key: kv.Key, Rev: kv.ModRev})
			r.ops = append(r.ops, store.Op{Key: kv.Key})
			stray[id] = r
		}
	}
	c.past.strays = seen
	var out []removal
	for _, id := range slices.Sorted(maps.Keys(stray)) {
		out = append(out, stray[id])
	}
	return out, nil
}
