package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

const coordKey = "state/coordinator"

// world is some hosts with agents (a scheduler and a worker each) on one store.
// What is outside of the agents, effects and boots, survives their end.
type world struct {
	t     *testing.T
	open  func(host string) store.Store // a connection for an agent
	admin store.Store
	dir   string

	mu       sync.Mutex
	machine  map[cluster.HostID]*machine
	leader   cluster.HostID
	term     int64
	stays    bool                                         // the coordinator's host is elected again
	effects  map[string]int                               // by step
	ran      []string                                     // "step attempt" in the order in which Do was called
	bodies   map[string]func(context.Context, Task) error // what Do does, by step
	serial   int
	over     bool           // no agent begins any more
	later    sync.WaitGroup // what after has begun
	all      []*process
	glance   time.Duration // between two looks at the journal
	faster   time.Duration // divides the times of the Executors
	handover time.Duration
}

// machine is a host.
type machine struct {
	name cluster.HostID
	boot int
	proc *process             // nil: its agent does not run
	bomb *bomb                // shared by its processes
	kids map[string]time.Time // programs that outlive agents: step to end

	mu       sync.Mutex
	onTxn    txnHook
	stubborn bool // does not learn that it coordinates no more

	reboots    bool // its agent is gone, for the time of a reboot
	generation int  // of its agent, from the next boot on; 0: job.Generation
	reports    int  // what it reports of that
}

// txnHook comes before a transaction of a host's agent, and in place of it when
// done is true.
type txnHook func(ctx context.Context, st store.Store, conds []store.Cmp, ops []store.Op) (rev int64, ok bool, err error, done bool)

func (m *machine) hook() txnHook {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.onTxn
}

// before calls f once, before the first transaction of the host that writes the
// record of a step in a state.
func (w *world) before(h cluster.HostID, step string, state job.StepState, f func()) {
	m := w.machine[h]
	m.set(func(_ context.Context, _ store.Store, _ []store.Cmp, ops []store.Op) (int64, bool, error, bool) {
		if writes(ops, step, state) {
			m.set(nil)
			f()
		}
		return 0, false, nil, false
	})
}

func (m *machine) set(h txnHook) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onTxn = h
}

// beStubborn keeps a host from learning that it coordinates no more.
func (w *world) beStubborn(h cluster.HostID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.machine[h].stubborn = true
}

func writes(ops []store.Op, step string, state job.StepState) bool {
	return slices.ContainsFunc(ops, func(op store.Op) bool {
		var r job.Record
		return strings.HasSuffix(op.Key, "/"+step) && json.Unmarshal(op.Value, &r) == nil && r.State == state
	})
}

// put writes a record behind the agents' backs.
func (w *world) put(id string, r job.Record) {
	if _, _, err := w.admin.Txn(context.Background(), nil, []store.Op{{Key: stepKey(id, r.Step), Value: encode(r)}}); err != nil {
		w.t.Error(err)
	}
}

// process is the process of an agent.
type process struct {
	m      *machine
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	dead   bool
	store  store.Store
	boot   string
	serial int
}

// mortal is the store as a process sees it: after its death nothing gets through.
type mortal struct{ p *process }

var (
	errDead = fmt.Errorf("process is dead: %w", store.ErrRetry)
	errLost = fmt.Errorf("answer lost: %w", store.ErrUnknown)
)

func (s mortal) alive() bool {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return !s.p.dead
}

func (s mortal) Get(ctx context.Context, key string) (store.KV, bool, error) {
	if !s.alive() {
		return store.KV{}, false, errDead
	}
	return s.p.store.Get(ctx, key)
}

func (s mortal) List(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	if !s.alive() {
		return nil, 0, errDead
	}
	return s.p.store.List(ctx, prefix)
}

func (s mortal) Txn(ctx context.Context, conds []store.Cmp, ops []store.Op) (rev int64, ok bool, err error) {
	if h := s.p.m.hook(); h != nil {
		if rev, ok, err, done := h(ctx, s.p.store, conds, ops); done {
			return rev, ok, err
		}
	}
	switch s.p.meet(func() string { return nameOf(ops) }, true, func() { rev, ok, err = s.p.store.Txn(ctx, conds, ops) }) {
	case passes:
		return rev, ok, err
	case replyLost, requestLost:
		return 0, false, errLost
	}
	return 0, false, errDead
}

func (s mortal) Watch(ctx context.Context, prefix string, from int64) store.Watcher {
	return s.p.store.Watch(ctx, prefix, from)
}

func (s mortal) Close() error { return nil }

func newWorld(t *testing.T, open func(string) store.Store, hosts ...cluster.HostID) *world {
	w := &world{
		t: t, open: open, admin: open("admin"), dir: t.TempDir(), machine: map[cluster.HostID]*machine{},
		effects: map[string]int{}, bodies: map[string]func(context.Context, Task) error{},
		glance: 50 * time.Millisecond, faster: 1, handover: 8 * time.Second,
	}
	for _, h := range hosts {
		w.machine[h] = &machine{name: h, bomb: &bomb{}, kids: map[string]time.Time{}}
	}
	return w
}

// memWorld is a world on a store in memory.
func memWorld(t *testing.T, hosts ...cluster.HostID) (*world, *storetest.Mem) {
	mem := storetest.NewMem()
	return newWorld(t, func(name string) store.Store { return mem.NewClient(name) }, hosts...), mem
}

// elect makes a host the coordinator.
func (w *world) elect(h cluster.HostID) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rev, _, err := w.admin.Txn(ctx, nil, []store.Op{{Key: coordKey, Value: encode(cluster.Coordinator{Host: h})}})
	if err != nil {
		w.t.Errorf("elect %s: %v", h, err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leader, w.term = h, rev
}

// boot starts the agent of a host.
func (w *world) boot(h cluster.HostID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	m := w.machine[h]
	w.serial++
	ctx, cancel := context.WithCancel(context.Background())
	m.reports = m.generation
	p := &process{m: m, cancel: cancel, done: make(chan struct{}), store: w.open(fmt.Sprintf("%s.%d", h, w.serial)),
		boot: fmt.Sprintf("boot-%d", m.boot)}
	m.proc, w.all = p, append(w.all, p)
	m.bomb.blow = func(fate) { w.crash(h) }
	var led int64 // the last term of this host
	coordinator := func() (int64, string, bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.leader == h {
			led = w.term
		} else if m.stubborn && led != 0 {
			return led, coordKey, true
		}
		return w.term, coordKey, w.leader == h && m.proc == p
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("ENGINE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", h, "process", w.serial)
	}
	con := NewScheduler(SchedulerOptions{
		Store: mortal{p}, Host: h, Coordinator: coordinator, Hosts: w.hosts, Generation: m.generation, Now: time.Now,
		Rand: rand.Float64, Log: log,
		Planners: map[job.Kind]func([]byte) (job.Planner, error){job.Upgrade: newToyPlanner, "other": newToyPlanner},
	})
	work := NewWorker(WorkerOptions{
		Store: w.limited(p, h), Host: h, Instance: fmt.Sprintf("%s-%d", h, w.serial), Boot: p.boot, Dir: w.dir + "/" + string(h),
		Executors: w.executors(p), Coordinator: coordinator, Handover: w.handover, Generation: m.generation,
		Now: time.Now, Rand: rand.Float64, Log: log,
	})
	go func() {
		defer close(p.done)
		var both sync.WaitGroup
		both.Go(func() { con.Run(ctx) })
		both.Go(func() {
			if err := work.Run(ctx); err != nil {
				w.t.Error(err)
			}
		})
		both.Wait()
	}()
}

// limited lets a worker write what one may that never coordinates; the steps without a
// host are the coordinator's.
func (w *world) limited(p *process, h cluster.HostID) store.Store {
	return storetest.Limited{
		Store: mortal{p}, Host: string(h),
		Permits: func(a store.Attempt) error {
			var r job.Record
			if json.Unmarshal(a.Old, &r) == nil && r.Work != nil && r.Work.Host == "" {
				return nil
			}
			_, err := Permits(a)
			return err
		},
		Refused: func(a store.Attempt, err error) {
			w.t.Errorf("%s may not write %s: %v, there is %s", h, a.Key, err, a.Old)
		},
	}
}

func (w *world) hosts() map[cluster.HostID]job.HostState {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[cluster.HostID]job.HostState{}
	for h, m := range w.machine {
		out[h] = job.HostState{Up: m.proc != nil, Boot: fmt.Sprintf("boot-%d", m.boot), Version: "1", Generation: m.reports}
	}
	return out
}

// kill ends an agent's process as a power cut would: nothing that it does from
// then on has an effect.
func (w *world) kill(h cluster.HostID) *process {
	w.mu.Lock()
	p := w.machine[h].proc
	w.machine[h].proc = nil
	w.mu.Unlock()
	if p != nil {
		p.mu.Lock()
		p.dead = true
		p.mu.Unlock()
		p.cancel()
	}
	return p
}

// crash ends an agent and lets the world go on: another coordinator is elected
// after a while, and a new process begins.
func (w *world) crash(h cluster.HostID) {
	w.mu.Lock()
	p := w.machine[h].proc
	w.machine[h].proc = nil
	w.mu.Unlock()
	if p == nil {
		return // it has crashed already
	}
	p.cancel()
	w.comeBack(h)
}

func (w *world) comeBack(h cluster.HostID) {
	w.mu.Lock()
	led := w.leader == h
	w.mu.Unlock()
	if led && !w.stays {
		w.after(4*time.Second, func() { w.elect(w.other(h)) })
	}
	w.after(1500*time.Millisecond, func() { w.boot(h) })
}

// after calls f later, unless the world has stopped by then; stop waits for it.
func (w *world) after(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		w.mu.Lock()
		if w.over {
			w.mu.Unlock()
			return
		}
		w.later.Add(1)
		w.mu.Unlock()
		defer w.later.Done()
		f()
	})
}

func (w *world) other(h cluster.HostID) cluster.HostID {
	for _, o := range []cluster.HostID{"h1", "h2", "h3"} {
		if o != h {
			return o
		}
	}
	return h
}

// stop ends all agents in an orderly way, and waits for those that were killed.
func (w *world) stop() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.later.Wait()
	w.mu.Lock()
	all := slices.Clone(w.all)
	w.mu.Unlock()
	for _, p := range all {
		p.cancel()
		<-p.done
	}
}

func (w *world) submit(j job.Job, steps []toyStep) {
	w.t.Helper()
	plan := encode(steps)
	if err := Submit(w.t.Context(), w.admin, j, plan, plain(steps), Also{}); err != nil {
		w.t.Fatal(err)
	}
}

func upgradeJob(id string) job.Job {
	return job.Job{ID: id, Kind: job.Upgrade, Title: "2.0 to 3.0", User: "root", Began: time.Now()}
}

// await waits until the journal is as wanted.
func (w *world) await(id string, within time.Duration, what string, ok func(Journal) bool) Journal {
	w.t.Helper()
	deadline := time.Now().Add(within)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		j, err := Load(ctx, w.admin, id)
		cancel()
		if err == nil && ok(j) {
			return j
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not %s within %s: %v\n%s", what, within, err, j.text())
		}
		time.Sleep(w.glance)
	}
}

func (j Journal) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s (%s)\n", j.Job.ID, j.Job.State, j.Job.Result, reason.Text(j.Job.Why...))
	for _, s := range slices.Sorted(maps.Keys(j.Records)) {
		r := j.Records[s]
		fmt.Fprintf(&b, "  %-14s %-8s attempt %d %s %s\n", s, r.State, r.Attempt, r.Instance, r.Why)
	}
	return b.String()
}

func ended(j Journal) bool { return j.Job.State == job.Ended }

func stateIs(step string, s job.StepState) func(Journal) bool {
	return func(j Journal) bool { return j.Records[step].State == s }
}

func (w *world) order(c job.Command, id, step, reason string) {
	w.t.Helper()
	if _, err := Command(w.t.Context(), w.admin, Order{Job: id, Command: c, Step: step, User: "op", Reason: reason,
		Now: time.Now()}); err != nil {
		w.t.Fatal(err)
	}
}
