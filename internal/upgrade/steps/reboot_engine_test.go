package steps

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade"
)

// rebootPlan is steps of host h1, one after the other.
type rebootPlan []job.Step

func (p rebootPlan) Steps() []job.Step { return p }

func (p rebootPlan) Next(j job.Job, recs map[string]job.Record, _ map[cluster.HostID]job.HostState, _ time.Time) job.Decision {
	for _, s := range p {
		switch r := recs[s.ID]; {
		case r.State.Over():
			continue
		case r.State == job.Pending:
			return job.Decision{Grant: []string{s.ID}}
		}
		return job.Decision{}
	}
	j.State, j.Result = job.Ended, "done"
	return job.Decision{Job: &j}
}

// rebootLab is host h1 with agents that come and go, and a coordinator elsewhere.
type rebootLab struct {
	t         *testing.T
	store     store.Store
	world     *rebootWorld
	executors map[string]engine.Executor
	dir       string
	stop      func() // the agent's process
	loops     sync.WaitGroup
}

func newRebootLab(t *testing.T) *rebootLab {
	mem := storetest.NewMem()
	w, d := newRebootWorld(t)
	l := &rebootLab{t: t, store: mem.NewClient("h1"), world: w, dir: t.TempDir()}
	l.executors = map[string]engine.Executor{upgrade.KindReboot: d, upgrade.KindVerify: &Verify{
		Boot: w.Boot,
		Record: func(ctx context.Context, id, step string) (job.Record, bool, error) {
			j, err := engine.Load(ctx, l.store, id)
			return j.Records[step], err == nil, err
		},
		Kernel: func(context.Context) (string, error) { return "5.10", nil },
		Pools:  func(context.Context) ([]pools.Pool, error) { return nil, nil },
	}}
	const key = "state/coordinator"
	term, _, err := l.store.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte("h2")}})
	if err != nil {
		t.Fatal(err)
	}
	verify, err := json.Marshal(upgrade.VerifyArgs{Reboot: "h1/reboot", Kernel: "5.10"})
	if err != nil {
		t.Fatal(err)
	}
	plan := rebootPlan{
		{ID: "h1/reboot", Host: "h1", Kind: upgrade.KindReboot, Args: []byte("{}"), Timeout: 45 * time.Minute},
		{ID: "h1/verify", Host: "h1", Kind: upgrade.KindVerify, Args: verify, Timeout: 10 * time.Minute, Idempotent: true},
	}
	raw, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	j := job.Job{ID: "up-1", Kind: job.Upgrade, Title: "test", User: "test", Began: time.Now()}
	if err := engine.Submit(t.Context(), l.store, j, raw, plan, engine.Also{}); err != nil {
		t.Fatal(err)
	}
	lead := engine.NewScheduler(engine.SchedulerOptions{
		Store: mem.NewClient("h2"), Coordinator: func() (int64, string, bool) { return term, key, true },
		Planners: map[job.Kind]func([]byte) (job.Planner, error){job.Upgrade: func(b []byte) (job.Planner, error) {
			var p rebootPlan
			return p, json.Unmarshal(b, &p)
		}},
		Hosts:  func() map[cluster.HostID]job.HostState { return nil },
		Retain: func(context.Context) ([]string, error) { return nil, nil },
		Now:    time.Now, Rand: rand.Float64, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	l.loops.Go(func() { lead.Run(ctx) })
	t.Cleanup(func() {
		l.end()
		cancel()
		l.loops.Wait()
	})
	return l
}

// agent begins a process of h1's agent, in place of the one before.
func (l *rebootLab) agent(instance string) {
	l.end()
	boot, err := l.world.Boot()
	if err != nil {
		l.t.Fatal(err)
	}
	w := engine.NewWorker(engine.WorkerOptions{
		Store: l.store, Host: "h1", Instance: instance, Boot: boot, Dir: l.dir, Executors: l.executors,
		Coordinator: func() (int64, string, bool) { return 0, "", false },
		Handover:    time.Minute, Now: time.Now, Rand: rand.Float64, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(l.t.Context())
	ended := make(chan error, 1)
	l.loops.Go(func() { ended <- w.Run(ctx) })
	l.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Error(err)
		}
	}
}

func (l *rebootLab) end() {
	if l.stop != nil {
		l.stop()
	}
	l.stop = nil
}

// want fails unless a step has come to a state.
func (l *rebootLab) want(step string, state job.StepState) job.Record {
	l.t.Helper()
	j, err := engine.Load(l.t.Context(), l.store, "up-1")
	r := j.Records[step]
	if err != nil || r.State != state {
		l.t.Errorf("%s is %q (%s %s), %v; want %q", step, r.State, r.Note, r.Why, err, state)
	}
	return r
}

func (l *rebootLab) orders(want int) {
	l.t.Helper()
	l.world.mu.Lock()
	defer l.world.mu.Unlock()
	if l.world.orders != want {
		l.t.Errorf("%d orders to reboot, want %d", l.world.orders, want)
	}
}

func TestEngineRebootsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRebootLab(t)
		l.world.quorum = rebootQuorum(3, 1, true)
		l.agent("one")
		time.Sleep(time.Minute)
		r := l.want("h1/reboot", job.Running)
		enginetest.Has(t, "note", r.Note, "waits: without this host")
		l.agent("two") // before the order: it begins again
		time.Sleep(time.Minute)
		l.orders(0)
		l.world.mu.Lock()
		l.world.quorum = rebootQuorum(3, 2, true)
		l.world.mu.Unlock()
		time.Sleep(time.Minute)
		l.orders(1)
		l.agent("three") // while the host goes down: it must not order again
		time.Sleep(time.Minute)
		l.orders(1)
		r = l.want("h1/reboot", job.Running)
		enginetest.Has(t, "note", r.Note, "the reboot is ordered")
		l.end()
		l.world.booted("b2")
		time.Sleep(time.Hour) // beyond the step's timeout
		l.agent("four")
		time.Sleep(time.Minute)
		l.want("h1/reboot", job.Done)
		l.want("h1/verify", job.Done)
		l.orders(1)
	})
}

func TestEngineAsksAnOperatorAboutALateReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRebootLab(t)
		l.agent("one")
		time.Sleep(time.Minute)
		l.agent("two")
		time.Sleep(rebootWithin)
		r := l.want("h1/reboot", job.Unknown)
		enginetest.Has(t, "why", r.Why, "nobody can tell", "the host has not gone down")
		l.orders(1)
		order := func(c job.Command, step, reason string) {
			t.Helper()
			if _, err := engine.Command(t.Context(), l.store,
				engine.Order{Job: "up-1", Command: c, Step: step, User: "eve", Reason: reason, Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		order(job.Skip, "h1/reboot", "later")
		time.Sleep(time.Minute)
		r = l.want("h1/verify", job.Failed)
		enginetest.Has(t, "why", r.Why, "not rebooted", "skipped by eve (later)")
		l.end()
		l.world.booted("b2") // by hand
		l.agent("three")
		order(job.Retry, "h1/verify", "")
		time.Sleep(time.Minute)
		l.want("h1/verify", job.Done)
		l.orders(1)
	})
}
