package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/store"
)

// Journal is all that the store has about one job.
type Journal struct {
	Job     job.Job
	Plan    []byte
	Records map[string]job.Record // by step; those that are missing are pending
	Waits   []reason.Reason       // why nothing more begins
}

// List returns all jobs, the newest first: those that run and the last old ones.
func List(ctx context.Context, st store.Store) ([]job.Job, error) {
	var out []job.Job
	for _, prefix := range []string{keyRun, keyOld} {
		kvs, _, err := list(ctx, st, prefix)
		if err != nil {
			return nil, fmt.Errorf("list the jobs: %w", err)
		}
		for _, kv := range kvs {
			j, err := decodeJob(kv)
			if err != nil {
				return nil, fmt.Errorf("list the jobs: %w", err)
			}
			out = append(out, j)
		}
	}
	slices.SortStableFunc(out, func(a, b job.Job) int { return newest(a, b) })
	// A job may have moved from one folder to the other between the two reads.
	return slices.CompactFunc(out, func(a, b job.Job) bool { return a.ID == b.ID }), nil
}

func newest(a, b job.Job) int {
	return cmp.Or(b.Began.Compare(a.Began), strings.Compare(b.ID, a.ID))
}

// Find returns one job, ErrNoJob when there is none with this id.
func Find(ctx context.Context, st store.Store, id string) (job.Job, error) {
	jobs, err := List(ctx, st)
	if err != nil {
		return job.Job{}, err
	}
	for _, j := range jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return job.Job{}, fmt.Errorf("job %q: %w", id, ErrNoJob)
}

// Current returns the job of a kind that runs or ran last; ok is false when there was
// none. It reads one key.
func Current(ctx context.Context, st store.Store, k job.Kind) (j job.Job, ok bool, err error) {
	kv, exists, err := get(ctx, st, runKey(k))
	if err != nil || !exists {
		return job.Job{}, false, err
	}
	j, err = decodeJob(kv)
	return j, err == nil, err
}

// Load reads a job with its plan, checked, and its records. The records are of one
// moment, not before the job's.
func Load(ctx context.Context, st store.Store, id string) (Journal, error) {
	j, err := Find(ctx, st, id)
	if err != nil {
		return Journal{}, err
	}
	out := Journal{Job: j}
	if out.Plan, _, err = readPlan(ctx, st, id, j.Plan); err != nil {
		return Journal{}, err
	}
	if out.Records, err = readRecords(ctx, st, id); err != nil {
		return Journal{}, err
	}
	kv, exists, err := get(ctx, st, waitsKey(j.Kind))
	if err != nil {
		return Journal{}, fmt.Errorf("read what %s %s waits for: %w", j.Kind, id, err)
	}
	if exists && j.State != job.Ended {
		err = decode("what it waits for", kv.Value, &out.Waits)
	}
	return out, err
}

func readRecords(ctx context.Context, st store.Store, id string) (map[string]job.Record, error) {
	kvs, _, err := list(ctx, st, stepsKey(id))
	if err != nil {
		return nil, fmt.Errorf("read the records of job %s: %w", id, err)
	}
	out := make(map[string]job.Record, len(kvs))
	for _, kv := range kvs {
		step := strings.TrimPrefix(kv.Key, stepsKey(id))
		out[step] = recordOr(step, kv)
	}
	return out, nil
}

// Record reads the record of one step. A step without one is pending.
func Record(ctx context.Context, st store.Store, id, step string) (job.Record, error) {
	kv, exists, err := get(ctx, st, stepKey(id, step))
	switch {
	case err != nil:
		return job.Record{}, fmt.Errorf("read the record of step %s of job %s: %w", step, id, err)
	case !exists:
		return job.Record{Step: step}, nil
	}
	return recordOr(step, kv), nil
}
