//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

const (
	engineHosts  = 64 // that have a step under way
	engineSteps  = 8  // of each, one after the other
	engineStep   = 2 * time.Second
	engineEmpty  = 10 // steps of each when they take no time
	engineLarge  = 3000
	engineWithin = 4 * time.Minute
)

// TestEngine measures what the job engine adds to a step: the time from the end of
// a step's Executor on a host to the beginning of the next one's there, over the
// result, the coordinator's decision, the grant and the claim. 64 hosts work at
// the same time, each with a connection, a worker and watches of its own, on three
// members of the store with mutual TLS. All run on this machine.
func TestEngine(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	r := newRig(t)
	for _, c := range []struct {
		what         string
		hosts, steps int
		step         time.Duration
	}{
		{"hosts", engineHosts, engineSteps, engineStep},
		{fmt.Sprintf("of %d hosts", engineLarge), engineLarge, engineSteps, engineStep},
		{"hosts, steps that take no time", engineHosts, engineEmpty, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			e := newEngineRig(t, r, c.hosts, c.steps, c.step)
			took, cpu, txns := e.run(t)
			gaps := e.gaps()
			if len(gaps) == 0 {
				t.Fatal("no step followed another")
			}
			s := gaps.sorted()
			result(t, "job engine, %d %s in flight, %d steps of %s done in %s (%.0f a second): from the end of a "+
				"step to the beginning of the host's next: p50 %.1f ms, p99 %.1f ms; a single transaction of the "+
				"store meanwhile: p50 %.1f ms; scheduler and %d workers took %.2f cores",
				engineHosts, c.what, len(e.ends), c.step, took.Round(time.Millisecond),
				float64(len(e.ends))/took.Seconds(), s.median(), s[len(s)*99/100], txns.median(), engineHosts, cpu/took.Seconds())
			if c.step > 0 && s.median() > 50 {
				t.Errorf("a step costs %.1f ms, want at most 50", s.median())
			}
		})
	}
}

// engineRig is one run.
type engineRig struct {
	admin store.Store
	open  func() store.Store
	plan  []byte
	steps []job.Step
	step  time.Duration

	mu     sync.Mutex
	begins map[string]time.Time // of the Executors, by step
	ends   map[string]time.Time
	after  map[string]string // step to the one before on its host
}

func newEngineRig(t *testing.T, r *rig, hosts, steps int, step time.Duration) *engineRig {
	t.Helper()
	prefix := fmt.Sprintf("/holdfast/engine%d/", rand.Uint32())
	e := &engineRig{step: step, begins: map[string]time.Time{}, ends: map[string]time.Time{}, after: map[string]string{}}
	e.open = func() store.Store {
		c, err := etcdstore.Open(etcdstore.Options{Endpoints: r.urls, TLS: r.tls, Prefix: prefix, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		return c
	}
	e.admin = e.open()
	for h := range hosts {
		for n := range steps {
			id := fmt.Sprintf("h%d/step%d", h, n)
			e.steps = append(e.steps, job.Step{ID: id, Host: cluster.HostID(fmt.Sprintf("h%d", h)), Kind: "bench", Timeout: time.Minute})
			if n > 0 {
				e.after[id] = fmt.Sprintf("h%d/step%d", h, n-1)
			}
		}
	}
	var err error
	if e.plan, err = json.Marshal(e.steps); err != nil {
		t.Fatal(err)
	}
	return e
}

// run does the job, of a large plan the part of the first hosts, and returns how
// long it took, how many seconds of processor time this process needed, and how
// long single transactions took meanwhile, ms.
func (e *engineRig) run(t *testing.T) (took time.Duration, cpu float64, txns series) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), engineWithin)
	defer cancel()
	term, _, err := e.admin.Txn(ctx, nil, []store.Op{{Key: "state/coordinator", Value: []byte("{}")}})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	work, stop := context.WithCancel(ctx)
	for h := range engineHosts {
		w := engine.NewWorker(engine.WorkerOptions{
			Store: e.open(), Host: cluster.HostID(fmt.Sprintf("h%d", h)), Instance: fmt.Sprint(h), Boot: "1", Dir: t.TempDir(),
			Executors: map[string]engine.Executor{"bench": e}, Coordinator: func() (int64, string, bool) { return 0, "", false },
			Handover: time.Minute, Now: time.Now, Rand: rand.Float64, Log: slog.New(slog.DiscardHandler),
		})
		all.Go(func() {
			if err := w.Run(work); err != nil {
				t.Error(err)
			}
		})
	}
	c := engine.NewScheduler(engine.SchedulerOptions{
		Store: e.open(), Coordinator: func() (int64, string, bool) { return term, "state/coordinator", true },
		Planners: map[job.Kind]func([]byte) (job.Planner, error){"bench": newChains},
		Hosts:    func() map[cluster.HostID]job.HostState { return nil }, Now: time.Now, Rand: rand.Float64, Log: slog.New(slog.DiscardHandler),
	})
	all.Go(func() { c.Run(work) })
	clock.Sleep(t.Context(), 2*time.Second) // connections and watches stand
	began, before := time.Now(), cpuSeconds(t)
	if err := engine.Submit(ctx, e.admin, job.Job{ID: "b1", Kind: "bench", Began: time.Now()}, e.plan, e.steps, engine.Also{}); err != nil {
		t.Fatal(err)
	}
	for {
		asked := time.Now()
		if _, _, err := e.admin.Txn(ctx, nil, []store.Op{{Key: "other", Value: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		txns = append(txns, float64(time.Since(asked).Microseconds())/1000)
		kv, ok, err := e.admin.Get(ctx, "job/run/bench")
		var j job.Job
		if err != nil || !ok || json.Unmarshal(kv.Value, &j) != nil {
			t.Fatalf("read the job: %v", err)
		}
		if j.State == job.Ended {
			break
		}
		clock.Sleep(t.Context(), 100*time.Millisecond)
	}
	took, cpu = time.Since(began), cpuSeconds(t)-before
	stop()
	all.Wait()
	return took, cpu, txns
}

func cpuSeconds(t *testing.T) float64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// Do implements engine.Executor.
func (e *engineRig) Do(ctx context.Context, t engine.Task) error {
	e.mu.Lock()
	e.begins[t.Step.ID] = time.Now()
	e.mu.Unlock()
	if e.step > 0 {
		if !clock.Sleep(ctx, e.step/2+rand.N(e.step)) { // else all hosts end at the same moment
			return context.Cause(ctx)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ends[t.Step.ID] = time.Now()
	return nil
}

// Probe implements engine.Executor.
func (e *engineRig) Probe(context.Context, engine.Task) (engine.Probed, error) {
	return engine.CanNotTell, nil
}

// gaps are the times between a step's end and the next one's beginning, in ms.
func (e *engineRig) gaps() series {
	var out series
	for id, before := range e.after {
		begin, ok := e.begins[id]
		if end, too := e.ends[before]; ok && too {
			out = append(out, float64(begin.Sub(end).Microseconds())/1000)
		}
	}
	return out
}

// chains is a Planner: the steps of each of the first hosts one after the other.
// The others' are looked at in each decision, and never granted.
type chains struct {
	steps []job.Step
	here  map[cluster.HostID]bool // that have a worker
}

func newChains(plan []byte) (job.Planner, error) {
	c := chains{here: map[cluster.HostID]bool{}}
	if err := json.Unmarshal(plan, &c.steps); err != nil {
		return nil, err
	}
	for h := range engineHosts {
		c.here[cluster.HostID(fmt.Sprintf("h%d", h))] = true
	}
	return c, nil
}

func (c chains) Steps() []job.Step { return c.steps }

func (c chains) Next(j job.Job, recs map[string]job.Record, _ map[cluster.HostID]job.HostState, _ time.Time) job.Decision {
	var d job.Decision
	busy := map[cluster.HostID]bool{}
	over := true
	for _, s := range c.steps {
		r := recs[s.ID]
		if r.State.Over() || busy[s.Host] || !c.here[s.Host] {
			continue
		}
		busy[s.Host], over = true, false
		if r.State == job.Pending {
			d.Grant = append(d.Grant, s.ID)
		}
	}
	if over {
		j.State, j.Result = job.Ended, "done"
		d.Job = &j
	}
	return d
}
