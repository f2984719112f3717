package engine

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade"
)

// upWorld is a world whose hosts are those of a plant, with plans and the planner of
// package upgrade.
type upWorld struct {
	*world
	t        *testing.T
	mem      *storetest.Mem
	plant    *plant
	order    []cluster.HostID // in which hosts coordinate
	passes   int              // points that were passed on all hosts
	at       int              // the pass before which then is called; 0: never
	then     func()
	passing  func(pass int)              // called before each; nil: nothing is
	planners map[string]*upgrade.Planner // by plan

	course  *course   // of a trial; nil: this is none
	touched time.Time // when a host, or its next process, has begun to coordinate
}

// newUpWorld makes one whose logs are in dir: files that are there already cost the
// next world less.
func newUpWorld(t *testing.T, p *plant, dir string) *upWorld {
	return upWorldOn(t, storetest.NewMem(), p, dir)
}

func upWorldOn(t *testing.T, mem *storetest.Mem, p *plant, dir string) *upWorld {
	w := newWorld(t, func(name string) store.Store { return mem.NewClient(name) }, plantHosts()...)
	w.dir, w.handover, w.glance = dir, 2*time.Second, 500*time.Millisecond
	for _, m := range w.machine {
		m.bomb.terse = true
	}
	return &upWorld{world: w, t: t, mem: mem, plant: p, order: plantHosts(), planners: map[string]*upgrade.Planner{}}
}

// pass counts what happens in the whole cluster.
func (w *upWorld) pass() {
	w.mu.Lock()
	w.passes++
	pass := w.passes
	w.mu.Unlock()
	if w.passing != nil {
		w.passing(pass)
	}
	if pass == w.at {
		w.then()
	}
}

// start begins all agents. The first host coordinates, unless one does already.
func (w *upWorld) start() {
	if w.leader == "" {
		w.elect(w.order[0])
	}
	for _, h := range w.order {
		w.machine[h].set(func(context.Context, store.Store, []store.Cmp, []store.Op) (int64, bool, error, bool) {
			w.pass()
			return 0, false, nil, false
		})
		w.boot(h)
	}
}

// boot starts the agent of a host.
func (w *upWorld) boot(h cluster.HostID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machine[h]
	if w.over || m.proc != nil {
		return
	}
	w.serial++
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{m: m, cancel: cancel, done: make(chan struct{}), store: w.open(fmt.Sprintf("%s.%d", h, w.serial)),
		boot: fmt.Sprintf("boot-%d", m.boot), serial: w.serial}
	m.proc, w.all = p, append(w.all, p)
	if m.reboots = false; w.leader == h {
		w.touched = time.Now()
	}
	m.bomb.blow = func(f fate) { w.ends(h, 300*time.Millisecond, f == endsBeforeStays || f == endsAfterStays) }
	coordinator := func() (int64, string, bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.term, coordKey, w.leader == h && m.proc == p
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("ENGINE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", h, "process", w.serial)
	}
	con := NewScheduler(SchedulerOptions{
		Store: mortal{p}, Coordinator: coordinator, Hosts: w.hosts, Now: time.Now, Rand: rand.Float64, Log: log,
		Planners: map[job.Kind]func([]byte) (job.Planner, error){job.Upgrade: w.planner},
	})
	work := NewWorker(WorkerOptions{
		Store: mortal{p}, Host: h, Instance: fmt.Sprintf("%s-%d", h, w.serial), Boot: p.boot, Dir: w.dir + "/" + string(h),
		Executors: w.hands(p), Coordinator: coordinator, Handover: w.handover, Now: time.Now, Rand: rand.Float64, Log: log,
	})
	go func() { // awaited by stop
		defer close(p.done)
		conducted := make(chan struct{})
		go func() {
			defer close(conducted)
			con.Run(ctx)
		}()
		if err := work.Run(ctx); err != nil {
			w.t.Error(err)
		}
		<-conducted
	}()
}

// down is the reboot of the host of a process, which ends with it.
func (w *upWorld) down(p *process) {
	w.mu.Lock()
	p.m.boot++
	p.m.reboots = true
	w.mu.Unlock()
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	w.ends(p.m.name, rebootTakes, false)
}

// ends ends an agent, which comes back after a while. Another host coordinates
// meanwhile, unless it is elected again.
func (w *upWorld) ends(h cluster.HostID, back time.Duration, stays bool) {
	w.mu.Lock()
	p := w.machine[h].proc
	w.machine[h].proc = nil
	led := w.leader == h
	w.mu.Unlock()
	if p == nil {
		return // it has ended already
	}
	p.cancel()
	w.after(back, func() { w.boot(h) })
	if !led || stays {
		return
	}
	w.after(time.Second, func() {
		w.elect(w.successor(h))
		if w.course != nil && !w.course.first {
			w.after(calm, w.home)
		}
	})
}

func (w *upWorld) elect(h cluster.HostID) {
	w.world.elect(h)
	w.touch()
}

// successor is the next host whose agent is there.
func (w *upWorld) successor(h cluster.HostID) cluster.HostID {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.order, h)
	for n := range w.order {
		if o := w.order[(i+n+1)%len(w.order)]; w.machine[o].proc != nil {
			return o
		}
	}
	return h
}

// planner reads each plan once: a planner keeps nothing but its plan.
func (w *upWorld) planner(plan []byte) (job.Planner, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.planners[string(plan)]; p != nil {
		return p, nil
	}
	p, err := upgrade.NewPlanner(plan)
	if err == nil {
		w.planners[string(plan)] = p
	}
	return p, err
}

// begin submits a job.
func (w *upWorld) begin(id string, plan *upgrade.Plan) {
	w.t.Helper()
	if plan.Blocked() {
		w.t.Fatalf("%s is blocked: %+v", id, plan.Findings)
	}
	text, err := plan.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.plant.begin(plan, id)
	if err := Submit(w.t.Context(), w.admin, upgradeJob(id), text, plan.Steps(), Also{}); err != nil {
		w.t.Fatal(err)
	}
}

// watch waits until a job has ended, as an operator who looks what steps with an
// unknown outcome have done. It returns when the job has paused for another reason.
// unknown are the steps that were looked at.
func (w *upWorld) watch(id string) (j Journal, unknown []string) {
	for deadline := time.Now().Add(10 * time.Minute); ; time.Sleep(w.glance) {
		now, err := Find(w.t.Context(), w.admin, id)
		switch {
		case err != nil:
			w.t.Fatal(err)
		case now.State == job.Ended:
			return w.journal(id), unknown
		case now.State == job.Paused:
			j := w.journal(id)
			looked := w.answer(j)
			if unknown = append(unknown, looked...); len(looked) == 0 {
				return j, unknown
			}
			w.say(job.Resume, id)
		case time.Now().After(deadline):
			j := w.journal(id)
			w.t.Fatalf("%s does not end: waits %v\n%s", id, j.Waits, j.text())
		}
	}
}

func (w *upWorld) journal(id string) Journal {
	j, err := Load(w.t.Context(), w.admin, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// answer says of steps with an unknown outcome what has become of them.
func (w *upWorld) answer(j Journal) (looked []string) {
	for _, s := range w.plant.plan.Steps() {
		r := j.Records[s.ID]
		if r.State != job.Unknown {
			continue
		}
		looked = append(looked, s.ID)
		w.mu.Lock()
		boot := fmt.Sprintf("boot-%d", w.machine[r.Host].boot)
		w.mu.Unlock()
		if w.plant.did(s, r, boot) {
			w.world.order(job.Skip, j.Job.ID, s.ID, "it was done")
		} else {
			w.world.order(job.Retry, j.Job.ID, s.ID, "")
		}
	}
	return looked
}

func (w *upWorld) say(c job.Command, id string) { w.world.order(c, id, "", "") }

func (w *upWorld) status(j Journal) upgrade.Status {
	st, err := upgrade.StatusOf(w.plant.plan, j.Job)
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}
