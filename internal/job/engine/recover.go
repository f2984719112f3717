package engine

import (
	"context"
	"errors"
	"fmt"

	"holdfast/internal/job"
)

// recover goes on with a step that was begun by a process that is not at it any
// more: it asks the Executor how far that has come. failed counts probes in a row that
// failed.
func (w *Worker) recover(ctx context.Context, k *task, j job.Job, r job.Record, failed *int) outcome {
	executor, ok := w.Executors[r.Work.Kind]
	if !ok {
		return w.finish(ctx, k, r, nil, verdict{job.Unknown,
			fmt.Sprintf("it was begun, and this host's agent knows no steps of kind %q", r.Work.Kind), 0})
	}
	log, err := openLog(LogFile(w.Dir, k.job, k.step, r.Attempt), maxLog)
	if err != nil {
		w.Log.Warn("log of a step is not kept", "job", k.job, "step", k.step, "err", err)
		log = &logFile{}
	}
	defer w.closeLog(k, log)
	told := newNotes(r.Percent)
	told.what, told.count, told.found = r.Note, r.Count, r.Found
	t := w.task(k, r, log, told)
	p, err := probe(ctx, executor, t)
	switch {
	case ctx.Err() != nil:
		return left
	case err != nil && *failed < probeTries:
		*failed++
		return later
	case err != nil:
		p = CanNotTell
	}
	*failed = 0
	switch {
	case p == ProbedDone:
		return w.finish(ctx, k, told.put(r), log, verdict{job.Done, "", 0})
	case p == StillRunning:
		return w.attend(ctx, k, j, r, log.put(told.put(r)), log, executor, t)
	case p == NotDone || r.Work.Idempotent:
		return w.restart(ctx, k, j, r, log)
	}
	why := "the agent ended in the middle of it, and nobody can tell whether it was done"
	if err != nil {
		why += ": " + err.Error()
	}
	return w.finish(ctx, k, r, log, verdict{job.Unknown, why, 0})
}

func probe(ctx context.Context, d Executor, t Task) (p Probed, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	err = call(t.Log, func() (err error) {
		p, err = d.Probe(ctx, t)
		return err
	})
	if err == nil && (p < CanNotTell || p > StillRunning) {
		err = fmt.Errorf("probe of %s: it answers %d", t.Step.ID, p)
	}
	return p, err
}

// restart begins a step once more that is not done.
func (w *Worker) restart(ctx context.Context, k *task, j job.Job, r job.Record, log *logFile) outcome {
	switch cause := stopCause(k, j, r); {
	case cause != nil:
		return w.finish(ctx, k, r, log, verdict{job.Failed, cause.Error(), 0})
	case !w.mayBegin(k, j, r):
		return later // paused
	}
	next := job.Grant(r, r.Step, r.Term, r.Generation)
	next.Undo, next.Work = r.Undo, r.Work
	return w.begin(ctx, k, j, r, job.Claim(next, w.Instance, w.Boot, w.Now()))
}

// attend waits for what an earlier process began and what goes on by itself. told
// is the record with what the Executor tells of it.
func (w *Worker) attend(ctx context.Context, k *task, j job.Job, r, told job.Record, log *logFile, executor Executor, t Task) outcome {
	cause := stopCause(k, j, r)
	if cause == nil && w.Now().Sub(r.Began) > r.Work.Timeout {
		cause = fmt.Errorf("%w after %s", ErrTimeout, r.Work.Timeout)
	}
	if cause == nil {
		if told.Note == r.Note && told.Percent == r.Percent && told.Said.Equal(r.Said) {
			return later
		}
		if _, err := w.persist(ctx, k, r, told); err != nil && !errors.Is(err, ErrLost) {
			return left // ctx has ended
		}
		return later
	}
	s, ok := executor.(Stopper)
	if !ok {
		return w.finish(ctx, k, r, log, verdict{job.Unknown, fmt.Sprintf("%v, but what was begun goes on by itself", cause), 0})
	}
	stop, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	err := call(t.Log, func() error { return s.Stop(stop, t) })
	switch {
	case ctx.Err() != nil:
		return left
	case err != nil:
		return w.finish(ctx, k, r, log, verdict{job.Unknown, fmt.Sprintf("%v, but it can not be stopped: %v", cause, err), 0})
	}
	return w.finish(ctx, k, r, log, verdict{job.Failed, cause.Error(), 0})
}

// stopCause is why a step that was begun must not go on; nil: it may.
func stopCause(k *task, j job.Job, r job.Record) error {
	switch {
	case j.ID != k.job || j.State == job.Ended:
		return fmt.Errorf("%w: the job has ended", ErrCancelled)
	case j.State == job.Aborting && !r.Undo:
		return ErrCancelled
	}
	return nil
}
