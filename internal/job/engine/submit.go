package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// Errors that callers tell apart.
var (
	// ErrBusy: there is a job of this kind that has not ended.
	ErrBusy = errors.New("only one at a time")
	// ErrRefused: what is asked for can not be done, in itself or now.
	ErrRefused = errors.New("refused")
	// ErrNoJob: there is no such job.
	ErrNoJob = errors.New("no such job")
)

// Also is what else a Submit needs and does, in the same transaction.
type Also struct {
	Alone []job.Kind  // no job of these kinds may be under way
	Conds []store.Cmp // that must hold
	Ops   []store.Op  // of other keys than the engine's
}

// NewID names a job by what it does and when it began; a random end tells two apart.
func NewID(what string, now time.Time) string {
	return what + "-" + now.UTC().Format("20060102-150405") + "-" + strings.ToLower(rand.Text()[:4])
}

// Submit puts a job with its plan into the store, all or nothing, as the one of
// its kind. Another one that has ended becomes an old one; one that has not is
// ErrBusy. The id must be new. steps are the plan's, to be checked. The job begins
// as Active unless it says otherwise. When the error wraps store.ErrUnknown, List
// tells.
func Submit(ctx context.Context, st store.Store, j job.Job, plan []byte, steps []job.Step, also Also) error {
	j, err := complete(j, plan, steps)
	if err != nil {
		return err
	}
	if _, err := vacant(ctx, st, j); err != nil {
		return err
	}
	pieces, err := pack(plan)
	if err != nil {
		return fmt.Errorf("submit %s %s: %w: %w", j.Kind, j.ID, ErrRefused, err)
	}
	conds, err := writePlan(ctx, st, j.ID, pieces)
	if err == nil {
		err = begin(ctx, st, j, conds, pieces[0], also)
	}
	if err != nil && !errors.Is(err, store.ErrUnknown) {
		err = errors.Join(err, dropPlan(ctx, st, conds))
	}
	return err
}

func complete(j job.Job, plan []byte, steps []job.Step) (job.Job, error) {
	refuse := func(err error) (job.Job, error) {
		return job.Job{}, fmt.Errorf("submit %s %s: %w: %w", j.Kind, j.ID, ErrRefused, err)
	}
	if err := checkNames(j); err != nil {
		return refuse(err)
	}
	if err := job.CheckSteps(steps); err != nil {
		return refuse(err)
	}
	for _, s := range steps {
		switch {
		case s.Host != "" && !word().MatchString(string(s.Host)):
			return refuse(fmt.Errorf("step %s: host %q: want letters, digits, '.', '_' and '-', at most 100", s.ID, s.Host))
		case len(s.Args) > job.MaxArgs:
			return refuse(fmt.Errorf("step %s: %d bytes of arguments, at most %d are possible", s.ID, len(s.Args), job.MaxArgs))
		case s.Args != nil && !json.Valid(s.Args):
			return refuse(fmt.Errorf("step %s: its arguments are no JSON", s.ID))
		}
	}
	if _, err := json.Marshal(j); err != nil {
		return refuse(err)
	}
	switch sum := PlanSum(plan); j.Plan {
	case "", sum:
		j.Plan = sum
	default:
		return refuse(fmt.Errorf("the plan's SHA-256 is %s, the job says %s", sum, j.Plan))
	}
	switch j.State {
	case "":
		j.State = job.Active
	case job.Active, job.Paused:
	default:
		return refuse(fmt.Errorf("it can not begin as %s", j.State))
	}
	if j.Changed.IsZero() {
		j.Changed = j.Began
	}
	j.Generation = cmp.Or(j.Generation, job.Generation)
	return j, nil
}

// vacant returns the ended job whose place j takes, with Mod 0 when there is none.
func vacant(ctx context.Context, st store.Store, j job.Job) (job.Job, error) {
	return idle(ctx, st, j, j.Kind)
}

// idle returns the last job of a kind, with Mod 0 when there is none. One that has
// not ended is an error.
func idle(ctx context.Context, st store.Store, j job.Job, kind job.Kind) (job.Job, error) {
	kv, exists, err := get(ctx, st, runKey(kind))
	if err != nil {
		return job.Job{}, fmt.Errorf("submit %s %s: %w", j.Kind, j.ID, err)
	}
	if !exists {
		return job.Job{}, nil
	}
	old, err := decodeJob(kv)
	if err != nil {
		return job.Job{}, fmt.Errorf("submit %s %s: %w: %w", j.Kind, j.ID, ErrRefused, err)
	}
	switch {
	case old.ID == j.ID:
		return job.Job{}, fmt.Errorf("submit %s %s: there is one with this id already: %w", j.Kind, j.ID, ErrRefused)
	case old.State != job.Ended:
		return job.Job{}, fmt.Errorf("submit %s %s: %s %s (%s), begun by %s at %s, is %s: %w",
			j.Kind, j.ID, old.Kind, old.ID, old.Title, old.User, old.Began.UTC().Format(time.RFC3339), old.State, ErrBusy)
	}
	return old, nil
}

// begin writes the job, with which it is there. It rewrites the plan's first piece,
// so that nobody removes the plan as one without a job.
func begin(ctx context.Context, st store.Store, j job.Job, plan []store.Cmp, first []byte, also Also) error {
	value := encode(j)
	for {
		old, err := vacant(ctx, st, j)
		if err != nil {
			return err
		}
		conds := []store.Cmp{{Key: runKey(j.Kind), Rev: old.Mod}}
		for _, k := range also.Alone {
			other, err := idle(ctx, st, j, k)
			if err != nil {
				return err
			}
			conds = append(conds, store.Cmp{Key: runKey(k), Rev: other.Mod})
		}
		again := len(conds) // what comes behind these stays false once it is
		conds = append(append(append(conds, store.Cmp{Key: oldKey(j.ID)}), plan...), also.Conds...)
		ops := append([]store.Op{{Key: runKey(j.Kind), Value: value}, {Key: planKey(j.ID, 0), Value: first}}, also.Ops...)
		if old.Mod != 0 {
			ops = append(ops, store.Op{Key: oldKey(old.ID), Value: encode(old)})
		}
		_, ok, err := settle(ctx, st, runKey(j.Kind), value, conds, ops)
		if err != nil {
			return fmt.Errorf("submit %s %s: %w", j.Kind, j.ID, err)
		}
		if ok {
			return nil
		}
		if gone, err := begun(ctx, st, j, conds[again:]); gone || err != nil {
			return err
		}
		if !clock.Sleep(ctx, pause) {
			return fmt.Errorf("submit %s %s: %w: %w", j.Kind, j.ID, store.ErrRetry, context.Cause(ctx))
		}
	}
}

// begun looks why a job could not be written: over is true when it was, by an
// attempt whose answer was lost, and has been changed since.
func begun(ctx context.Context, st store.Store, j job.Job, conds []store.Cmp) (over bool, err error) {
	kv, exists, err := get(ctx, st, runKey(j.Kind))
	if err != nil {
		return false, fmt.Errorf("submit %s %s: %w", j.Kind, j.ID, err)
	}
	if exists {
		if now, err := decodeJob(kv); err == nil && now.ID == j.ID && now.Plan == j.Plan && now.Began.Equal(j.Began) {
			return true, nil
		}
	}
	for _, c := range conds {
		kv, _, err := get(ctx, st, c.Key)
		if err != nil {
			return false, fmt.Errorf("submit %s %s: %w", j.Kind, j.ID, err)
		}
		if kv.ModRev != c.Rev {
			return false, fmt.Errorf("submit %s %s: %s was changed meanwhile: %w", j.Kind, j.ID, c.Key, ErrRefused)
		}
	}
	return false, nil
}

// dropPlan removes the pieces of a plan that no job has. What it can not remove
// the coordinator does later.
func dropPlan(ctx context.Context, st store.Store, pieces []store.Cmp) error {
	if len(pieces) == 0 {
		return nil
	}
	var ops []store.Op
	for _, c := range pieces {
		ops = append(ops, store.Op{Key: c.Key})
	}
	if _, _, err := txn(ctx, st, pieces, ops); err != nil {
		return fmt.Errorf("remove the plan again: %w", err)
	}
	return nil
}
