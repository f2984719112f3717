package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// TestDeposedSchedulerGrantsNothing runs two conductors that both believe in
// their term; the store knows the later one only.
func TestDeposedSchedulerGrantsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := memWorld(t, "h1")
		w.elect("h0")
		deposed := w.term
		w.elect("h1")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{}, 2)
		begin := func(term int64) {
			c := NewScheduler(SchedulerOptions{
				Store: mem.NewClient(fmt.Sprint("term ", term)), Hosts: w.hosts, Now: time.Now, Rand: rand.Float64, Log: slog.New(slog.DiscardHandler),
				Coordinator: func() (int64, string, bool) { return term, coordKey, true },
				Planners:    map[job.Kind]func([]byte) (job.Planner, error){job.Upgrade: newToyPlanner},
			})
			go func() { c.Run(ctx); done <- struct{}{} }()
		}
		w.machine["h1"].proc = &process{} // counts as up, claims nothing
		begin(deposed)
		w.submit(upgradeJob("u1"), []toyStep{free("h1/a", "h1")})
		time.Sleep(time.Minute)
		j := w.await("u1", time.Second, "there", func(Journal) bool { return true })
		if len(j.Records) > 0 {
			t.Errorf("a deposed scheduler has granted: %s", j.text())
		}
		begin(w.term)
		j = w.await("u1", 5*time.Second, "granted", stateIs("h1/a", job.Granted))
		if j.Records["h1/a"].Term != w.term {
			t.Errorf("granted in term %d, want %d", j.Records["h1/a"].Term, w.term)
		}
		rev := mem.Rev()
		time.Sleep(time.Minute)
		if now := mem.Rev(); now != rev {
			t.Errorf("%d writes when nothing is to be done", now-rev)
		}
		cancel()
		<-done
		<-done
	})
}

// TestLateGrantIsVoid: a grant whose answer is lost and which arrives after the
// job was paused must not begin anything.
func TestLateGrantIsVoid(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.mu.Lock()
		link := w.machine["h1"].proc.store.(*storetest.Client)
		w.mu.Unlock()
		link.HoldWrites(true)
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		time.Sleep(10 * time.Second)
		w.order(job.Pause, "u1", "", "")
		link.HoldWrites(false)
		time.Sleep(10 * time.Second)
		j := w.await("u1", time.Second, "paused", func(j Journal) bool { return j.Job.State == job.Paused })
		if r := j.Records["h2/a"]; r.State != job.Pending || len(w.ran) > 0 {
			w.t.Errorf("%s", j.text())
		}
		w.order(job.Resume, "u1", "", "")
		w.await("u1", 10*time.Second, "ended", ended)
	})
}

// TestFaultyStore does the drill while connections lose answers, hold writes and
// are cut off at random.
func TestFaultyStore(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) {
			w, _ := memWorld(t, "h1", "h2", "h3")
			w.glance = time.Second
			w.elect("h1")
			for _, h := range []cluster.HostID{"h1", "h2", "h3"} {
				w.boot(h)
			}
			w.submit(upgradeJob("u1"), drill())
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				w.disturb(ctx, rand.New(rand.NewPCG(seed, 1)))
			}()
			unknown := w.operate("u1")
			cancel()
			<-done
			w.stop()
			j, err := Load(t.Context(), w.admin, "u1")
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range drill() {
				n, r := w.effects[s.ID], j.Records[s.ID]
				if !r.State.Over() || n < 1 || !s.Idempotent && n != 1 || n > r.Attempt || unknown[s.ID] && s.Kind != "blind" {
					t.Errorf("seed %d: %s was done %d times: %+v", seed, s.ID, n, r)
				}
			}
		})
	}
}

// disturb switches faults on and off, one at a time on each connection.
func (w *world) disturb(ctx context.Context, r *rand.Rand) {
	for {
		h := cluster.HostID(fmt.Sprintf("h%d", 1+r.IntN(3)))
		w.mu.Lock()
		p := w.machine[h].proc
		w.mu.Unlock()
		if p != nil {
			c := p.store.(*storetest.Client)
			f := []func(bool){c.Partition, c.Refuse, c.LoseReplies, c.HoldWrites}[r.IntN(4)]
			f(true)
			clock.Sleep(ctx, time.Duration(r.IntN(3000))*time.Millisecond)
			f(false)
		}
		if !clock.Sleep(ctx, time.Duration(r.IntN(2000))*time.Millisecond) {
			return
		}
	}
}

func TestOneJobOfAKind(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.body("h1/a", until)
		w.submit(upgradeJob("u1"), []toyStep{free("h1/a", "h1")})
		ctx := w.t.Context()
		plan := encode([]toyStep{free("h1/b", "h1")})
		err := Submit(ctx, w.admin, upgradeJob("u2"), plan, nil, Also{})
		if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(),
			"upgrade u1 (2.0 to 3.0), begun by root at 2000-01-01T00:00:00Z, is active") {
			w.t.Errorf("second job: %v", err)
		}
		other := upgradeJob("u3")
		other.Kind = "other"
		if err := Submit(ctx, w.admin, other, plan, nil, Also{}); err != nil {
			w.t.Errorf("job of another kind: %v", err)
		}
		w.order(job.Abort, "u1", "", "")
		w.await("u1", 10*time.Second, "ended", ended)
		time.Sleep(time.Millisecond) // List goes by the time of the beginning
		if err := Submit(ctx, w.admin, upgradeJob("u2"), plan, nil, Also{}); err != nil {
			w.t.Errorf("after the end: %v", err)
		}
		w.await("u2", 10*time.Second, "ended", ended)
		w.await("u3", 10*time.Second, "ended", ended)
		jobs, err := List(ctx, w.admin)
		if err != nil || len(jobs) != 3 || jobs[0].ID != "u2" {
			w.t.Errorf("jobs %+v, %v", jobs, err)
		}
		// What a refused Submit has written is removed.
		if err := Submit(ctx, w.admin, upgradeJob("u1"), plan, nil, Also{}); !errors.Is(err, ErrRefused) {
			w.t.Errorf("an id twice: %v", err)
		}
		if _, err := Load(ctx, w.admin, "u1"); err != nil {
			w.t.Errorf("the old job: %v", err)
		}
	})
}

func TestSubmitRefuses(t *testing.T) {
	mem := storetest.NewMem()
	st := mem.NewClient("api")
	good := upgradeJob("u1")
	for what, f := range map[string]func(*job.Job, *[]job.Step){
		"id":      func(j *job.Job, _ *[]job.Step) { j.ID = "a/b" },
		"kind":    func(j *job.Job, _ *[]job.Step) { j.Kind = "" },
		"state":   func(j *job.Job, _ *[]job.Step) { j.State = job.Ended },
		"sum":     func(j *job.Job, _ *[]job.Step) { j.Plan = "00" },
		"data":    func(j *job.Job, _ *[]job.Step) { j.Data = json.RawMessage("{") },
		"timeout": func(_ *job.Job, s *[]job.Step) { (*s)[0].Timeout = 0 },
		"host":    func(_ *job.Job, s *[]job.Step) { (*s)[0].Host = "." },
		"args":    func(_ *job.Job, s *[]job.Step) { (*s)[0].Args = json.RawMessage("{]") },
		"large": func(_ *job.Job, s *[]job.Step) {
			(*s)[0].Args = json.RawMessage(`"` + strings.Repeat("x", job.MaxArgs) + `"`)
		},
	} {
		j, steps := good, []job.Step{free("h1/a", "h1").Step}
		f(&j, &steps)
		if err := Submit(t.Context(), st, j, []byte("[]"), steps, Also{}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if mem.Rev() != 1 {
		t.Errorf("something was written: revision %d", mem.Rev())
	}
}

// TestLargePlan has a plan of several pieces, and then one piece is changed.
func TestLargePlan(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		noise := make([]byte, 900<<10)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range noise {
			noise[i] = byte('a' + r.IntN(26))
		}
		s := free("h1/a", "h1")
		s.After = []string{string(noise), string(noise[:10])}
		plan := encode([]toyStep{s})
		j := upgradeJob("u1")
		j.State = job.Paused
		if err := Submit(w.t.Context(), w.admin, j, plan, nil, Also{}); err != nil {
			w.t.Fatal(err)
		}
		got, err := Load(w.t.Context(), w.admin, "u1")
		if err != nil || string(got.Plan) != string(plan) || got.Job.Plan != PlanSum(plan) {
			w.t.Errorf("plan of %d bytes, want %d: %v", len(got.Plan), len(plan), err)
		}
		kvs, _, err := w.admin.List(w.t.Context(), plansKey("u1"))
		if err != nil || len(kvs) < 2 || len(kvs[0].Value) >= 512<<10 {
			w.t.Errorf("%d pieces, %v", len(kvs), err)
		}
		kvs[1].Value[1000] ^= 1
		if _, _, err := w.admin.Txn(w.t.Context(), nil, []store.Op{{Key: kvs[1].Key, Value: kvs[1].Value}}); err != nil {
			w.t.Fatal(err)
		}
		if _, err := Load(w.t.Context(), w.admin, "u1"); err == nil {
			w.t.Error("a plan that was altered is read")
		}
		w.kill("h1")
		w.elect("h2") // reads the plan anew
		if _, err := Command(w.t.Context(), w.admin, Order{Job: "u1", Command: job.Resume, User: "op"}); err != nil {
			w.t.Fatal(err)
		}
		state := func() job.Job {
			time.Sleep(5 * time.Second)
			j, err := Find(w.t.Context(), w.admin, "u1")
			if err != nil {
				w.t.Fatal(err)
			}
			return j
		}
		if j := state(); j.State != job.Paused || !strings.Contains(reason.Text(j.Why...), "plan of job u1") {
			w.t.Errorf("with a bad plan: %s, %s", j.State, reason.Text(j.Why...))
		}
		w.order(job.Abort, "u1", "", "")
		if j := state(); j.State != job.Ended || j.Result != "aborted" {
			w.t.Errorf("an abort with a bad plan: %s %s", j.State, j.Result)
		}
	})
}

// wrongPlanner does what a Planner must not.
type wrongPlanner struct{ toyPlanner }

func (p wrongPlanner) Next(j job.Job, _ map[string]job.Record, _ map[cluster.HostID]job.HostState, _ time.Time) job.Decision {
	switch j.Title {
	case "panic":
		panic("oh")
	case "strange":
		return job.Decision{Grant: []string{"h9/none"}}
	case "twice":
		return job.Decision{Grant: []string{"h1/a", "h1/a"}}
	case "paused":
		j.State = job.Paused
		return job.Decision{Grant: []string{"h1/a"}, Job: &j}
	}
	j.ID = "u9"
	return job.Decision{Job: &j}
}

func TestWrongPlannerPausesTheJob(t *testing.T) {
	for title, why := range map[string]string{"panic": "oh", "strange": "h9/none", "twice": "h1/a",
		"paused": "while the job is paused", "other": "another job"} {
		v := &jobView{job: upgradeJob("u1"), steps: map[string]job.Step{"h1/a": free("h1/a", "h1").Step},
			recs: map[string]job.Record{}, planner: wrongPlanner{}}
		v.job.State, v.job.Title = job.Active, title
		c := NewScheduler(SchedulerOptions{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		d := c.decide(v, 1, nil)
		if d.job.State != job.Paused || !strings.Contains(reason.Text(d.job.Why...), why) || len(d.recs) > 0 {
			t.Errorf("%s: %+v", title, d)
		}
	}
}

func TestRecordThatCanNotBeReadIsUnknown(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.body("h1/a", until)
		w.submit(upgradeJob("u1"), []toyStep{free("h1/a", "h1")})
		w.await("u1", 10*time.Second, "running", stateIs("h1/a", job.Running))
		if _, _, err := w.admin.Txn(w.t.Context(), nil, []store.Op{{Key: stepKey("u1", "h1/a"), Value: []byte("{")}}); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.await("u1", time.Second, "unknown", stateIs("h1/a", job.Unknown))
		w.order(job.Skip, "u1", "h1/a", "it was done")
		w.await("u1", 10*time.Second, "ended", ended)
		if len(w.ran) != 1 {
			w.t.Errorf("ran %q", w.ran)
		}
	})
}

// TestOldJobsGo submits more jobs than are kept, and a plan without a job.
func TestOldJobsGo(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		ctx := w.t.Context()
		if _, err := writePlan(ctx, w.admin, "stray", [][]byte{[]byte("x"), []byte("y")}); err != nil {
			w.t.Fatal(err)
		}
		for n := range 25 {
			id := fmt.Sprintf("u%02d", n)
			w.submit(upgradeJob(id), []toyStep{free("h1/a", "h1")})
			w.await(id, 10*time.Second, "ended", ended)
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Second)
		if kvs, _, err := w.admin.List(ctx, plansKey("stray")); err != nil || len(kvs) != 2 {
			w.t.Errorf("a plan that is just being submitted is gone: %v, %v", kvs, err)
		}
		time.Sleep(25 * time.Minute)
		count := map[string]int{}
		kvs, _, err := w.admin.List(ctx, keyAll)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, kv := range kvs {
			count[strings.Split(kv.Key, "/")[1]]++
		}
		if fmt.Sprint(count) != "map[old:20 plan:21 run:1 step:21]" {
			w.t.Errorf("left %v", count)
		}
		if _, err := Find(ctx, w.admin, "u03"); !errors.Is(err, ErrNoJob) {
			w.t.Errorf("job u03: %v", err)
		}
	})
}

// TestSubmitWithFaults: exactly one job comes of it, or none with an error that
// says so.
func TestSubmitWithFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.NewMem()
		st, admin := mem.NewClient("api"), mem.NewClient("admin")
		st.LoseReplies(true)
		time.AfterFunc(time.Second, func() { st.LoseReplies(false) })
		if err := Submit(t.Context(), st, upgradeJob("u1"), []byte("[]"), nil, Also{}); !errors.Is(err, store.ErrRetry) {
			t.Errorf("answers of reads lost: %v", err)
		}
		time.Sleep(2 * time.Second)
		st.HoldWrites(true)
		time.AfterFunc(time.Second, func() { st.HoldWrites(false) })
		if err := Submit(t.Context(), st, upgradeJob("u2"), []byte("[]"), nil, Also{}); err != nil {
			t.Errorf("writes held: %v", err)
		}
		if _, err := Load(t.Context(), admin, "u2"); err != nil {
			t.Error(err)
		}
		st.HoldWrites(true)
		time.AfterFunc(time.Second, func() { st.HoldWrites(false) })
		for _, c := range []job.Command{job.Pause, job.Resume} {
			if _, err := Command(t.Context(), st, Order{Job: "u2", Command: c, User: "op", Now: time.Now()}); err != nil {
				t.Errorf("%s with writes held: %v", c, err)
			}
		}
	})
}

func TestWaitsAreTold(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.submit(upgradeJob("u1"), []toyStep{free("h1/a", "h1"), free("h9/b", "h9", "h1/a")})
		j := w.await("u1", 10*time.Second, "told", func(j Journal) bool { return len(j.Waits) > 0 })
		if want := []reason.Reason{reason.Error.With("h9/b waits for h9")}; !reason.Equal(j.Waits, want) {
			w.t.Errorf("waits %v", j.Waits)
		}
		// What somebody else has written there is put right.
		if _, ok, err := txn(w.t.Context(), w.admin, nil,
			[]store.Op{{Key: waitsKey("upgrade"), Value: []byte(`[{"code":"new"}]`)}}); err != nil || !ok {
			w.t.Fatal(ok, err)
		}
		w.await("u1", 10*time.Second, "told again", func(j Journal) bool { return len(j.Waits) == 1 && j.Waits[0].Is(reason.Error) })
		w.order(job.Abort, "u1", "", "")
		w.await("u1", 10*time.Second, "ended", ended)
		if kvs, _, err := w.admin.List(w.t.Context(), keyWaits); err != nil || len(kvs) > 0 {
			w.t.Errorf("waits of a job that has ended: %v, %v", kvs, err)
		}
	})
}

// TestManyGrants needs several transactions for one decision.
func TestManyGrants(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		var steps []toyStep
		for n := range 300 {
			id := fmt.Sprintf("h%d/s%d", 1+n%2, n)
			w.body(id, func(context.Context, Task) error { return nil })
			steps = append(steps, free(id, cluster.HostID(fmt.Sprintf("h%d", 1+n%2))))
		}
		w.submit(upgradeJob("u1"), steps)
		w.await("u1", 20*time.Second, "ended", ended)
		if len(w.ran) != 300 {
			w.t.Errorf("%d steps ran", len(w.ran))
		}
	})
}
