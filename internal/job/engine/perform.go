package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/lib/text"
)

// outcome is what became of a step in one round of serve.
type outcome int

const (
	again   outcome = iota // the record has to be read anew
	later                  // the same after a while
	settled                // its result is written
	left                   // it stays as it is: this process is to leave it
)

// attempt is one run of an Executor. Its fields belong to the goroutine of perform.
type attempt struct {
	w        *Worker
	k        *task
	r        job.Record // as it was last written
	cancel   context.CancelCauseFunc
	result   chan error // of the Executor
	lost     bool       // the claim
	call     chan called
	calling  context.CancelFunc // ends the call to the store under way; nil: there is none
	notes    *notes
	log      *logFile
	noteNext time.Time // no note is written before
}

// called is what a call to the store in the background has found: the record as
// it is, or ErrLost.
type called struct {
	r   job.Record
	err error
}

// perform does a step that was claimed by r and writes the result.
func (w *Worker) perform(ctx context.Context, k *task, r job.Record) outcome {
	executor, ok := w.Executors[r.Work.Kind]
	if !ok {
		return w.finish(ctx, k, r, nil, verdict{job.Failed, fmt.Sprintf("this host's agent knows no steps of kind %q", r.Work.Kind), 0})
	}
	log, err := openLog(LogFile(w.Dir, k.job, k.step, r.Attempt), maxLog)
	if err != nil {
		return w.finish(ctx, k, r, nil, verdict{job.Failed, "not begun: " + err.Error(), 0})
	}
	defer w.closeLog(k, log)
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limited, done := context.WithTimeoutCause(work, r.Work.Timeout, ErrTimeout)
	defer done()
	a := &attempt{
		w: w, k: k, r: r, cancel: cancel, result: make(chan error, 1), call: make(chan called, 1),
		notes: newNotes(r.Percent), log: log,
	}
	t := w.task(k, r, log, a.notes)
	go func() { a.result <- call(t.Log, func() error { return executor.Do(limited, t) }) }() // awaited below
	err, cause, ended := a.run(limited)
	out := a.conclude(ctx, log, err, cause, ended)
	if !ended {
		// Nothing else may be done about this step here before the Executor has ended.
		<-a.result
	}
	return out
}

func (w *Worker) closeLog(k *task, log *logFile) {
	if err := log.close(); err != nil {
		w.Log.Warn("log of a step is not complete", "job", k.job, "step", k.step, "err", err)
	}
}

// task is what an Executor gets.
func (w *Worker) task(k *task, r job.Record, log *logFile, n *notes) Task {
	return Task{Job: k.job, Kind: k.kind, Step: *r.Work, Attempt: r.Attempt, Undo: r.Undo, Host: r.Host, Boot: r.Boot,
		Log: log, Note: n.note, Count: n.countTo, Found: n.keep}
}

// call calls an Executor. One that panics must not take the agent with it, which also
// guards the management VM.
func call(log interface{ Write([]byte) (int, error) }, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the agent failed in it: %v", r)
			if _, werr := fmt.Fprintf(log, "panic: %v\n%s", r, debug.Stack()); werr != nil {
				err = errors.Join(err, werr)
			}
		}
	}()
	return f()
}

// run waits for the Executor, and meanwhile cancels it when it has to end, passes on
// its notes, and looks whether the claim is still there. cause is why the Executor was
// cancelled before it ended, nil if it was not. ended is false when it did not end
// in time after that.
func (a *attempt) run(ctx context.Context) (err, cause error, ended bool) {
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	say := time.NewTicker(sayEvery)
	defer say.Stop()
	done := ctx.Done()
	var patience <-chan time.Time
	var note <-chan time.Time
	for {
		select {
		case err := <-a.result:
			return err, context.Cause(ctx), true
		case <-done:
			done, patience = nil, time.After(stopWithin)
		case <-patience:
			return nil, context.Cause(ctx), false
		case <-a.k.wake:
			if cause := a.w.against(a.k, a.r); cause != nil {
				a.cancel(cause)
			}
		case <-a.notes.new:
			note = time.After(time.Until(a.noteNext))
		case <-note:
			if note = nil; !a.begin(ctx, a.writeNote) {
				note = time.After(pause)
			}
		case <-say.C:
			if next := a.log.put(a.r); next.Said.After(a.r.Said) && note == nil {
				note = time.After(time.Until(a.noteNext))
			}
		case <-check.C:
			a.begin(ctx, a.check)
		case c := <-a.call:
			a.took(c)
		}
	}
}

// begin makes a call to the store in the background, if there is none.
func (a *attempt) begin(ctx context.Context, f func(context.Context) called) bool {
	if a.calling != nil {
		return false
	}
	ctx, a.calling = context.WithTimeout(context.WithoutCancel(ctx), callWithin)
	go func() { a.call <- f(ctx) }() // awaited by run or conclude
	return true
}

// writeNote writes what the Executor has last told.
func (a *attempt) writeNote(ctx context.Context) called {
	r, err := a.w.persistOnce(ctx, a.k, a.r, a.log.put(a.notes.put(a.r)))
	return called{r, err}
}

// check reads the record.
func (a *attempt) check(ctx context.Context) called {
	now, err := a.w.read(ctx, a.k)
	switch {
	case err != nil:
		return called{a.r, err}
	case !sameClaim(now, a.r):
		return called{now, ErrLost}
	}
	return called{now, nil}
}

// took takes the outcome of a call to the store. What failed is tried again with
// the next note or check.
func (a *attempt) took(c called) {
	a.calling()
	a.calling = nil
	a.noteNext = time.Now().Add(noteEvery)
	switch {
	case c.err == nil:
		a.r = c.r
	case errors.Is(c.err, ErrLost):
		a.lost = true
		a.cancel(ErrLost)
	}
}

// conclude writes the result of the Executor.
func (a *attempt) conclude(ctx context.Context, log *logFile, err, cause error, ended bool) outcome {
	if a.calling != nil {
		a.calling()
		a.took(<-a.call)
	}
	if a.lost {
		return again
	}
	v, ok := judge(a.r, err, cause, ended)
	if !ok {
		return left
	}
	return a.w.finish(ctx, a.k, a.notes.put(a.r), log, v)
}

// verdict is how an attempt ended.
type verdict struct {
	state job.StepState
	why   string
	exit  int
}

// judge says what an Executor's end means. false: nothing, the record stays as it is.
func judge(r job.Record, err, cause error, ended bool) (verdict, bool) {
	var exit *Exit
	code := 0
	if errors.As(err, &exit) {
		code = exit.Code
	}
	switch {
	case ended && err == nil:
		return verdict{job.Done, "", 0}, true
	case errors.Is(cause, ErrStopping):
		return verdict{}, false
	case errors.Is(cause, ErrTimeout):
		cause = fmt.Errorf("%w after %s", ErrTimeout, r.Work.Timeout)
	}
	switch {
	case !ended:
		return verdict{job.Unknown, fmt.Sprintf("%v, but it has not ended", cause), 0}, true
	case errors.Is(err, ErrUnclear):
		return verdict{job.Unknown, err.Error(), code}, true
	case cause != nil:
		return verdict{job.Failed, because(cause, err), code}, true
	}
	return verdict{job.Failed, err.Error(), code}, true
}

// because is why a step was cancelled; with a timeout also what the Executor was at.
func because(cause, err error) string {
	text, late := err.Error(), ErrTimeout.Error()
	if !errors.Is(cause, ErrTimeout) || text == late || text == context.DeadlineExceeded.Error() {
		return cause.Error()
	}
	text = strings.TrimSuffix(text, ": "+late)
	for _, behind := range []string{": ", "\n"} {
		text = strings.TrimPrefix(text, late+behind)
	}
	return cause.Error() + ": " + text
}

// finish writes a result. When the agent stops meanwhile it tries a little longer.
func (w *Worker) finish(ctx context.Context, k *task, r job.Record, log *logFile, v verdict) outcome {
	next := r
	next.State, next.Why, next.Exit, next.Ended = v.state, cut(v.why, maxText), v.exit, w.Now()
	next.Work, next.Note = nil, ""
	if v.state == job.Done {
		next.Percent = 100
	}
	if log != nil {
		next = log.put(next)
		next.Tail = log.tail()
	}
	ctx, cancel := lingering(ctx)
	defer cancel()
	_, err := w.persist(ctx, k, r, next)
	switch {
	case err == nil:
		toldStep(k, next, r.Work.Kind)
		return settled
	case errors.Is(err, ErrLost):
		return again
	}
	w.Log.Warn("result of a step is not written", "job", k.job, "step", k.step, "err", err)
	return left
}

// notes is what an Executor tells people, until it is written.
type notes struct {
	mu      sync.Mutex
	what    string
	percent text.Percent[int]
	count   int64
	found   []job.Finding
	new     chan struct{}
}

func newNotes(percent int) *notes {
	return &notes{percent: text.PercentFrom(percent), new: make(chan struct{}, 1)}
}

func (n *notes) note(what string, percent int) {
	n.mu.Lock()
	n.what = what
	n.percent.At(percent)
	n.mu.Unlock()
	select {
	case n.new <- struct{}{}:
	default:
	}
}

func (n *notes) countTo(count int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count = count
}

func (n *notes) keep(found []job.Finding) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.found = slices.Clone(found)
}

func (n *notes) put(r job.Record) job.Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	r.Note, r.Percent, r.Count, r.Found = cut(n.what, maxText), n.percent.At(0), n.count, n.found
	return r
}
