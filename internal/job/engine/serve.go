package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// serve looks after one step until its record is over (true), or ctx or this
// host's turn as coordinator ends. Each round reads the job and the record anew,
// so it makes no difference which process, or which part of this one, wrote them.
func (w *Worker) serve(ctx context.Context, k *task) bool {
	failed := 0 // probes in a row
	for {
		j, r, err := w.look(ctx, k)
		if err != nil {
			return false
		}
		switch w.round(ctx, k, j, r, &failed) {
		case settled:
			return true
		case left:
			return false
		case later:
			if !w.wait(ctx, k, probeEvery) {
				return false
			}
		}
	}
}

// round does what the record calls for.
func (w *Worker) round(ctx context.Context, k *task, j job.Job, r job.Record, failed *int) outcome {
	leads, since := w.leads()
	switch {
	case !isOpen(r.State):
		return settled
	case k.lead && !leads:
		return left
	case r.State == job.Granted && !w.mayBegin(k, j, r):
		return later // the scheduler takes the grant back, or the job goes on
	case r.State == job.Granted:
		return w.begin(ctx, k, j, r, job.Claim(r, w.Instance, w.Boot, w.Now()))
	case k.lead && r.Host != w.Host && since < w.Handover:
		return later // the coordinator before may still be at it
	case k.lead && r.Host != w.Host:
		return w.adopt(ctx, k, r)
	}
	return w.recover(ctx, k, j, r, failed)
}

// mayBegin reports whether a step may begin: the job lets it, and this agent can
// do what its coordinator's and the one that has made the plan mean by it.
func (w *Worker) mayBegin(k *task, j job.Job, r job.Record) bool {
	if j.ID != k.job || j.State != job.Active && (j.State != job.Aborting || !r.Undo) {
		return false
	}
	near := job.Together(w.Generation, r.Generation, j.Generation)
	if !near && !k.told {
		k.told = true
		w.Log.Warn("step is not begun: the agents' generations may be one apart at most", "job", k.job, "step", k.step,
			"own", w.Generation, "coordinator", max(r.Generation, 1), "plan", max(j.Generation, 1))
	}
	return near
}

// look reads the job and the step's record, as often as it takes. One without a
// record is pending.
func (w *Worker) look(ctx context.Context, k *task) (job.Job, job.Record, error) {
	for told := false; ; {
		j, r, err := w.lookOnce(ctx, k)
		if err == nil || ctx.Err() != nil {
			return j, r, firstOf(err, ctx.Err())
		}
		if !told {
			told = true
			w.Log.Warn("step waits for the store", "job", k.job, "step", k.step, "err", err)
		}
		if !w.pause(ctx) {
			return j, r, ctx.Err()
		}
	}
}

// lookOnce reads both at the same time: each is a round of the whole store.
func (w *Worker) lookOnce(ctx context.Context, k *task) (job.Job, job.Record, error) {
	var r job.Record
	var rerr error
	var other sync.WaitGroup
	other.Go(func() { r, rerr = w.read(ctx, k) })
	j, err := w.readJob(ctx, k)
	other.Wait()
	return j, r, firstOf(err, rerr)
}

// readJob reads the job of the step's kind, which may be another one by now.
func (w *Worker) readJob(ctx context.Context, k *task) (job.Job, error) {
	kv, exists, err := get(ctx, w.Store, runKey(k.kind))
	if err != nil {
		return job.Job{}, fmt.Errorf("read the job: %w", err)
	}
	if !exists {
		return job.Job{}, nil
	}
	return decodeJob(kv)
}

func (w *Worker) read(ctx context.Context, k *task) (job.Record, error) {
	kv, exists, err := get(ctx, w.Store, stepKey(k.job, k.step))
	if err != nil {
		return job.Record{}, fmt.Errorf("read the record: %w", err)
	}
	if !exists {
		return job.Record{Step: k.step}, nil
	}
	return recordOr(k.step, kv), nil
}

func (w *Worker) pause(ctx context.Context) bool {
	return clock.Sleep(ctx, pause+time.Duration(w.Rand()*float64(pause)))
}

// begin writes the claim next in place of r, with the job as it was read, and
// does the step.
func (w *Worker) begin(ctx context.Context, k *task, j job.Job, r, next job.Record) outcome {
	next.Host = w.Host
	key := stepKey(k.job, k.step)
	conds := []store.Cmp{{Key: runKey(k.kind), Rev: j.Mod}, {Key: key, Rev: r.Mod}}
	if k.lead {
		term, coord, ok := w.Coordinator()
		if !ok {
			return later
		}
		conds = append(conds, store.Cmp{Key: coord, Rev: term})
	}
	value := encode(next)
	rev, ok, err := settle(ctx, w.Store, key, value, conds, []store.Op{{Key: key, Value: value}})
	if err != nil {
		if ctx.Err() == nil {
			w.Log.Warn("step is not begun", "job", k.job, "step", k.step, "err", err)
		}
		w.pause(ctx)
		return again
	}
	if !ok && k.lead {
		return later // it may be the term, of which this host learns by itself
	}
	if !ok {
		return again
	}
	next.Mod = rev
	return w.perform(ctx, k, next)
}

// adopt makes this host the one that looks after a step that a coordinator before
// has begun. What that one still writes fails from then on.
func (w *Worker) adopt(ctx context.Context, k *task, r job.Record) outcome {
	next := r
	next.Host, next.Instance = w.Host, w.Instance
	next.Note = cut(fmt.Sprintf("taken over from %s", r.Host), maxText)
	if _, err := w.persist(ctx, k, r, next); err != nil && !errors.Is(err, ErrLost) {
		return left // ctx has ended
	}
	return again
}

// persist writes next in place of the claim r, as often as it takes and as long as
// the record is still that claim; ErrLost when it is not. It returns next with its
// revision. Other errors come when ctx has ended.
func (w *Worker) persist(ctx context.Context, k *task, r, next job.Record) (job.Record, error) {
	for told := false; ; {
		out, err := w.persistOnce(ctx, k, r, next)
		if err == nil || errors.Is(err, ErrLost) || ctx.Err() != nil {
			return out, err
		}
		if !told {
			told = true
			w.Log.Warn("record of a step waits for the store", "job", k.job, "step", k.step, "err", err)
		}
		w.pause(ctx)
	}
}

// persistOnce is one attempt of persist, but for writes of ours that come late.
func (w *Worker) persistOnce(ctx context.Context, k *task, r, next job.Record) (job.Record, error) {
	key, value := stepKey(k.job, k.step), encode(next)
	for {
		rev, ok, err := settle(ctx, w.Store, key, value, []store.Cmp{{Key: key, Rev: r.Mod}}, []store.Op{{Key: key, Value: value}})
		if err != nil {
			return r, fmt.Errorf("write the record of %s: %w", k.step, err)
		}
		if ok {
			next.Mod = rev
			return next, nil
		}
		now, err := w.read(ctx, k)
		if err != nil {
			return r, err
		}
		if !sameClaim(now, r) {
			return r, ErrLost
		}
		r.Mod = now.Mod
	}
}

// sameClaim reports whether a record is still the claim r.
func sameClaim(now, r job.Record) bool {
	return now.State == job.Running && now.Instance == r.Instance && now.Attempt == r.Attempt && now.Host == r.Host
}

// lingering is a context that ends a little after ctx.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(linger, cancel) })
	return out, func() {
		stop()
		cancel()
	}
}
