package engine

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// Times of the worker.
const (
	probeEvery  = time.Second
	probeWithin = time.Minute
	probeTries  = 30              // of a probe that fails, with probeEvery between
	checkEvery  = 2 * time.Second // whether the claim is still there
	noteEvery   = time.Second
	sayEvery    = 3 * time.Second  // what a step that runs adds to its log is shown
	stopWithin  = 30 * time.Second // an Executor that has been cancelled has ended
	linger      = 2 * time.Second  // to write results and for Executors to end when the agent stops
)

// WorkerOptions are what a worker needs. All but Generation are required.
type WorkerOptions struct {
	Store     store.Store
	Host      cluster.HostID
	Instance  string // of this agent process, unique
	Boot      string // boot id of this host
	Dir       string // the agent's data directory: logs go below DIR/jobs
	Executors map[string]Executor
	// Coordinator as for the scheduler. Steps without a host are done here while
	// this host coordinates.
	Coordinator func() (term int64, key string, ok bool)
	// Handover is how long a new coordinator leaves a step alone that another host
	// has claimed as the coordinator before: longer than the lease, after which that
	// one knows that it coordinates no more.
	Handover time.Duration
	// Generation of this agent; 0, but in tests: job.Generation.
	Generation int
	Now        func() time.Time // wall clock, for the records
	Rand       func() float64   // [0, 1), any goroutine: spreads attempts
	Log        *slog.Logger
}

// Worker does the steps of one host. One is made for each agent.
type Worker struct {
	WorkerOptions
	tasks sync.WaitGroup // under way

	mu      sync.Mutex
	todos   map[string]todo // by key
	busy    map[string]*task
	settled map[string]int64 // revision of the todo in which a step's record was found to be over
	led     time.Time        // when this host was seen to become coordinator; zero: it is not
}

// task is a step that this worker looks after, from when a todo names it.
type task struct {
	id      string // job and step
	todoKey string
	todoMod int64
	job     string
	kind    job.Kind
	step    string
	lead    bool          // it is the coordinator's
	wake    chan struct{} // something about the job has changed
	told    bool          // that the step is not begun, and why; of the goroutine of serve
}

// NewWorker makes a worker; Run runs it.
func NewWorker(o WorkerOptions) *Worker {
	o.Generation = cmp.Or(o.Generation, job.Generation)
	return &Worker{WorkerOptions: o, todos: map[string]todo{}, busy: map[string]*task{}, settled: map[string]int64{}}
}

// Run works until ctx ends. Executors that run then are told so and left alone: their
// records stay as they are for the next process of this host's agent. The error
// says which have not ended nevertheless.
func (w *Worker) Run(ctx context.Context) error {
	if err := pruneLogs(w.Dir); err != nil {
		w.Log.Warn("old logs of jobs are kept", "err", err)
	}
	inner, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(ErrStopping)
	defer context.AfterFunc(ctx, func() { stop(ErrStopping) })()
	var loops sync.WaitGroup
	loops.Go(func() { w.follow(inner, inner, todosKey(w.Host)) })
	loops.Go(func() { w.lead(inner) })
	loops.Wait()
	return w.join()
}

// join waits for the tasks to end.
func (w *Worker) join() error {
	all := make(chan struct{})
	go func() { // ends with the last task
		w.tasks.Wait()
		close(all)
	}()
	t := time.NewTimer(2 * linger)
	defer t.Stop()
	select {
	case <-all:
		return nil
	case <-t.C:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []string
	for id := range w.busy {
		left = append(left, id)
	}
	slices.Sort(left)
	return fmt.Errorf("stop the work on jobs: not ended in time: %s", strings.Join(left, ", "))
}

// lead follows the coordinator's todos while this host coordinates.
func (w *Worker) lead(ctx context.Context) {
	for ctx.Err() == nil {
		if _, _, ok := w.Coordinator(); !ok {
			clock.Sleep(ctx, poll)
			continue
		}
		w.setLed(time.Now())
		follow, cancel := context.WithCancel(ctx)
		var loop sync.WaitGroup
		loop.Go(func() { w.follow(follow, ctx, todosKey("")) })
		for {
			if _, _, ok := w.Coordinator(); !ok || !clock.Sleep(ctx, poll) {
				break
			}
		}
		w.setLed(time.Time{})
		cancel()
		loop.Wait()
	}
}

func (w *Worker) setLed(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.led = t
	w.wakeAll()
}

// leads reports whether this host coordinates, and for how long.
func (w *Worker) leads() (bool, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.led.IsZero() {
		return false, 0
	}
	return true, time.Since(w.led)
}

// follow keeps the todos with the prefix up to date until ctx ends. Tasks that it
// begins end with work.
func (w *Worker) follow(ctx, work context.Context, prefix string) {
	last := ""
	for ctx.Err() == nil {
		err := w.followOnce(ctx, work, prefix)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			w.Log.Warn("work on jobs is not seen until the store answers", "err", err)
		}
		if err == nil {
			last = ""
		}
		clock.Sleep(ctx, pause+time.Duration(w.Rand()*float64(pause)))
	}
}

func (w *Worker) followOnce(ctx, work context.Context, prefix string) error {
	return store.Follow(ctx, w.Store, prefix, listWithin, func(kvs []store.KV) { w.replace(work, prefix, kvs) }, func(b store.Batch) {
		if len(b.Changes) > 0 {
			w.apply(work, b.Changes)
		}
	})
}

// replace takes a whole listing of a prefix.
func (w *Worker) replace(ctx context.Context, prefix string, kvs []store.KV) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.todos {
		if strings.HasPrefix(key, prefix) {
			delete(w.todos, key)
		}
	}
	for _, kv := range kvs {
		w.set(kv)
	}
	w.reconcile(ctx)
}

func (w *Worker) apply(ctx context.Context, changes []store.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range changes {
		if c.Deleted {
			delete(w.todos, c.KV.Key)
		} else {
			w.set(c.KV)
		}
	}
	w.reconcile(ctx)
}

// set keeps a todo; one that can not be read is as good as none.
func (w *Worker) set(kv store.KV) {
	t, err := decodeTodo(kv)
	if err != nil {
		w.Log.Error("work on jobs ignored", "err", err)
		delete(w.todos, kv.Key)
		return
	}
	w.todos[kv.Key] = t
}

// reconcile begins to look after steps that are new in the todos, and tells the
// others that something may have changed. The caller holds mu.
func (w *Worker) reconcile(ctx context.Context) {
	w.wakeAll()
	if ctx.Err() != nil {
		return
	}
	named := map[string]bool{}
	for key, t := range w.todos {
		lead := strings.HasPrefix(key, todosKey(""))
		if lead && w.led.IsZero() {
			continue // an old one, from when this host coordinated
		}
		for _, step := range t.Steps {
			id := t.Job + "/" + step
			named[id] = true
			if w.busy[id] != nil || w.settled[id] == t.mod {
				continue
			}
			k := &task{
				id: id, todoKey: key, todoMod: t.mod, job: t.Job, kind: t.Kind, step: step,
				lead: lead, wake: make(chan struct{}, 1),
			}
			w.busy[id] = k
			w.tasks.Go(func() { w.leave(ctx, k, w.serve(ctx, k)) })
		}
	}
	for id := range w.settled {
		if !named[id] {
			delete(w.settled, id)
		}
	}
}

// leave ends the care for a step. settled: its record was found to be over.
func (w *Worker) leave(ctx context.Context, k *task, settled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, k.id)
	if settled {
		w.settled[k.id] = k.todoMod
	}
	w.reconcile(ctx)
}

// wakeAll tells all tasks to look around. The caller holds mu.
func (w *Worker) wakeAll() {
	for _, k := range w.busy {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
}

// standing is the job's state as the todo says: Ended when the step's job is not
// there any more.
func (w *Worker) standing(k *task) job.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.todos[k.todoKey]
	if !ok || t.Job != k.job {
		return job.Ended
	}
	return t.State
}

// against is why a step that runs has to end; nil: it may go on.
func (w *Worker) against(k *task, r job.Record) error {
	if leads, _ := w.leads(); k.lead && !leads {
		return ErrDeposed
	}
	switch w.standing(k) {
	case job.Ended:
		return fmt.Errorf("%w: the job has ended", ErrCancelled)
	case job.Aborting:
		if !r.Undo {
			return ErrCancelled
		}
	}
	return nil
}

// wait waits for something to change about the job, or d.
func (w *Worker) wait(ctx context.Context, k *task, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-k.wake:
	case <-t.C:
	}
	return true
}
