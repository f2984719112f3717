package engine

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// Order is what an operator asks of a job.
type Order struct {
	Job     string // id
	Command job.Command
	Step    string // of Retry and Skip
	User    string
	Reason  string    // of Skip
	Now     time.Time // for people
}

// Command carries an order out and returns the job as it is then. An order that is
// obeyed already, by an attempt whose answer was lost, is no error. ErrRefused:
// the job's or step's state does not allow it.
func Command(ctx context.Context, st store.Store, o Order) (job.Job, error) {
	first := true
	for {
		j, err := Find(ctx, st, o.Job)
		if err != nil {
			return job.Job{}, err
		}
		var done bool
		if o.Command == job.Retry || o.Command == job.Skip {
			done, err = giveStep(ctx, st, o, j, first)
		} else {
			j, done, err = giveJob(ctx, st, o, j, first)
		}
		if err != nil || done {
			return j, err
		}
		first = false
		if !clock.Sleep(ctx, pause/4) {
			return job.Job{}, fmt.Errorf("%s %s: %w: %w", o.Command, o.Job, store.ErrRetry, context.Cause(ctx))
		}
	}
}

// giveJob makes one attempt. done is false when somebody else changed the job.
func giveJob(ctx context.Context, st store.Store, o Order, j job.Job, first bool) (job.Job, bool, error) {
	next, err := job.Obey(j, o.Command, o.User)
	if err != nil {
		if !first && obeyed(j, o) {
			return j, true, nil
		}
		return j, false, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	next.Changed = o.Now
	key, value := runKey(j.Kind), encode(next)
	rev, ok, err := settle(ctx, st, key, value, []store.Cmp{{Key: key, Rev: j.Mod}}, []store.Op{{Key: key, Value: value}})
	if err != nil {
		return j, false, fmt.Errorf("%s %s %s: %w", o.Command, j.Kind, j.ID, err)
	}
	next.Mod = rev
	return next, ok, nil
}

// obeyed reports whether the job is what the command makes of it.
func obeyed(j job.Job, o Order) bool {
	switch o.Command {
	case job.Pause:
		return j.State == job.Paused
	case job.Resume:
		return j.State == job.Active
	case job.Abort:
		return j.State == job.Aborting || j.State == job.Ended
	}
	return false
}

func giveStep(ctx context.Context, st store.Store, o Order, j job.Job, first bool) (bool, error) {
	key := stepKey(j.ID, o.Step)
	kv, exists, err := get(ctx, st, key)
	if err != nil {
		return false, fmt.Errorf("%s %s: %w", o.Command, o.Step, err)
	}
	r := job.Record{Step: o.Step}
	if exists {
		r = recordOr(o.Step, kv)
	}
	next, err := job.ObeyStep(j, r, o.Command, o.User, o.Reason)
	if err != nil {
		if !first && r.By == o.User && !r.State.Stuck() {
			return true, nil
		}
		return false, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	next.Work = nil
	value := encode(next)
	conds := []store.Cmp{{Key: runKey(j.Kind), Rev: j.Mod}, {Key: key, Rev: r.Mod}}
	_, ok, err := settle(ctx, st, key, value, conds, []store.Op{{Key: key, Value: value}})
	if err != nil {
		return false, fmt.Errorf("%s %s: %w", o.Command, o.Step, err)
	}
	return ok, nil
}

// Amend changes the record of a job that has not ended, such as the Planner's own
// state. change may be called again when somebody else was faster; its error ends
// it and is returned wrapped, with ErrRefused.
func Amend(ctx context.Context, st store.Store, id string, now time.Time, change func(job.Job) (job.Job, error)) (job.Job, error) {
	for {
		j, err := Find(ctx, st, id)
		if err != nil {
			return job.Job{}, err
		}
		next, err := change(j)
		if err != nil {
			return j, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		next.Changed = now
		key, value := runKey(j.Kind), encode(next)
		rev, ok, err := settle(ctx, st, key, value, []store.Cmp{{Key: key, Rev: j.Mod}}, []store.Op{{Key: key, Value: value}})
		if err != nil {
			return j, fmt.Errorf("change %s %s: %w", j.Kind, j.ID, err)
		}
		if ok {
			next.Mod = rev
			return next, nil
		}
		if !clock.Sleep(ctx, pause/4) {
			return j, fmt.Errorf("change %s %s: %w: %w", j.Kind, j.ID, store.ErrRetry, context.Cause(ctx))
		}
	}
}
