package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/store"
)

// view is what a scheduler knows of the jobs.
type view struct {
	jobs  map[job.Kind]*jobView
	todos map[job.Kind]map[string]todo // by word of the host
	waits map[string]stored            // texts and codes, by key
}

// stored is a value as it is in the store.
type stored struct {
	value string
	mod   int64
}

// jobView is one job. The maps are never altered by others.
type jobView struct {
	job     job.Job
	planner job.Planner
	bad     error // why there is no planner
	steps   map[string]job.Step
	recs    map[string]job.Record
	open    map[string]bool // steps granted or running
	unsure  bool            // the outcome of a write is not known
	foreign bool            // of a generation that this agent does not lead: no planner, no changes
	told    time.Time       // when the waits were last written
}

// load reads all jobs. rev is the revision from which on changes have to be seen.
func (c *Scheduler) load(ctx context.Context) (v *view, rev int64, err error) {
	v = &view{jobs: map[job.Kind]*jobView{}, todos: map[job.Kind]map[string]todo{}, waits: map[string]stored{}}
	kvs, rev, err := list(ctx, c.Store, keyRun)
	if err != nil {
		return nil, 0, fmt.Errorf("list the jobs: %w", err)
	}
	for _, prefix := range []string{keyTodo, keyWaits} {
		more, _, err := list(ctx, c.Store, prefix)
		if err != nil {
			return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
		}
		kvs = append(kvs, more...)
	}
	for _, kv := range kvs {
		if _, err := c.take(ctx, v, kv, false); err != nil {
			return nil, 0, err
		}
	}
	return v, rev, nil
}

// take puts a change into the view. urgent: it may let something begin. An error
// is the store's.
func (c *Scheduler) take(ctx context.Context, v *view, kv store.KV, deleted bool) (urgent bool, err error) {
	switch {
	case strings.HasPrefix(kv.Key, keyRun):
		return c.takeJob(ctx, v, kv, deleted)
	case strings.HasPrefix(kv.Key, keyStep):
		id, step, _ := strings.Cut(strings.TrimPrefix(kv.Key, keyStep), "/")
		for _, j := range v.jobs {
			if j.job.ID == id {
				return j.takeStep(step, kv, deleted), nil
			}
		}
	case strings.HasPrefix(kv.Key, keyTodo):
		c.takeTodo(v, kv, deleted)
	case strings.HasPrefix(kv.Key, keyWaits):
		v.takeWaits(kv, deleted)
	}
	return false, nil
}

func (c *Scheduler) takeJob(ctx context.Context, v *view, kv store.KV, deleted bool) (bool, error) {
	kind := job.Kind(strings.TrimPrefix(kv.Key, keyRun))
	have := v.jobs[kind]
	if have != nil && have.job.Mod >= kv.ModRev {
		return false, nil
	}
	if deleted {
		delete(v.jobs, kind)
		return true, nil
	}
	j, err := decodeJob(kv)
	if err != nil {
		// Nothing can be decided about it; what runs goes on.
		c.Log.Error("job ignored", "key", kv.Key, "err", err)
		delete(v.jobs, kind)
		return false, nil
	}
	if have != nil && have.job.ID == j.ID {
		have.job = j
		return true, nil
	}
	c.past.stale = true // a job may have become an old one
	v.jobs[kind], err = c.loadJob(ctx, j)
	return true, err
}

// loadJob reads the plan and the records of a job that is new to this scheduler.
func (c *Scheduler) loadJob(ctx context.Context, j job.Job) (*jobView, error) {
	v := &jobView{job: j, open: map[string]bool{}, steps: map[string]job.Step{}}
	var err error
	if v.recs, err = readRecords(ctx, c.Store, j.ID); err != nil {
		return nil, err
	}
	for step, r := range v.recs {
		if isOpen(r.State) {
			v.open[step] = true
		}
	}
	if v.foreign = !job.Together(c.Generation, j.Generation); v.foreign || j.State == job.Ended {
		return v, nil
	}
	plan, ok, err := readPlan(ctx, c.Store, j.ID, j.Plan)
	switch {
	case err != nil && ok:
		return nil, err
	case err != nil:
		v.bad = err
		return v, nil
	}
	if v.planner, v.bad = c.planner(j.Kind, plan); v.bad != nil {
		return v, nil
	}
	for _, s := range v.planner.Steps() {
		v.steps[s.ID] = s
	}
	return v, nil
}

func (v *jobView) takeStep(step string, kv store.KV, deleted bool) (urgent bool) {
	have, exists := v.recs[step]
	if exists && have.Mod >= kv.ModRev {
		return false
	}
	if deleted {
		delete(v.recs, step)
		delete(v.open, step)
		return true
	}
	r := recordOr(step, kv)
	v.set(r)
	return have.State != r.State
}

// set keeps a record.
func (v *jobView) set(r job.Record) {
	v.recs[r.Step] = r
	if isOpen(r.State) {
		v.open[r.Step] = true
	} else {
		delete(v.open, r.Step)
	}
}

func (c *Scheduler) takeTodo(v *view, kv store.KV, deleted bool) {
	host, kind, _ := strings.Cut(strings.TrimPrefix(kv.Key, keyTodo), "/")
	all := v.todos[job.Kind(kind)]
	if all == nil {
		all = map[string]todo{}
		v.todos[job.Kind(kind)] = all
	}
	if all[host].mod >= kv.ModRev {
		return
	}
	if deleted {
		delete(all, host)
		return
	}
	t, err := decodeTodo(kv)
	if err != nil {
		c.Log.Error("todo is written anew", "key", kv.Key, "err", err)
		t = todo{mod: kv.ModRev}
	}
	all[host] = t
}

func (v *view) takeWaits(kv store.KV, deleted bool) {
	if v.waits[kv.Key].mod >= kv.ModRev {
		return
	}
	if deleted {
		delete(v.waits, kv.Key)
		return
	}
	v.waits[kv.Key] = stored{string(kv.Value), kv.ModRev}
}
