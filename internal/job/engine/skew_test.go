package engine

import (
	"context"
	"encoding/json"
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

// ofGenerations runs a test on hosts with agents of these generations, in virtual
// time; h1 coordinates.
func ofGenerations(t *testing.T, generations []int, f func(*world, *storetest.Mem)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hosts := []cluster.HostID{"h1", "h2", "h3"}[:len(generations)]
		w, mem := memWorld(t, hosts...)
		w.glance = time.Second
		for i, h := range hosts {
			w.machine[h].generation = generations[i]
		}
		w.elect("h1")
		for _, h := range hosts {
			w.boot(h)
		}
		defer w.stop()
		f(w, mem)
	})
}

// reboot starts the agent of a host anew, of another generation.
func (w *world) reboot(h cluster.HostID, generation int) {
	p := w.kill(h)
	<-p.done
	w.machine[h].generation = generation
	w.boot(h)
}

// begunBy is a job that an agent of a generation has submitted.
func begunBy(generation int) job.Job {
	j := upgradeJob("u1")
	j.Generation = generation
	return j
}

// tells reports whether one of the waits has all the words.
func tells(words ...string) func(Journal) bool {
	return func(j Journal) bool {
		for _, line := range j.Waits {
			n := 0
			for _, word := range words {
				if strings.Contains(reason.Text(line), word) {
					n++
				}
			}
			if n == len(words) {
				return true
			}
		}
		return false
	}
}

// TestNeighbourGenerationsWorkTogether: also with records that say none.
func TestNeighbourGenerationsWorkTogether(t *testing.T) {
	for _, generations := range [][]int{{1, 2}, {2, 1}, {3, 2}, {0, 2}, {2, 0}} {
		ofGenerations(t, generations, func(w *world, _ *storetest.Mem) {
			w.submit(begunBy(generations[1]), []toyStep{free("h1/a", "h1"), free("h2/b", "h2", "h1/a"), free("c", "", "h2/b")})
			j := w.await("u1", 20*time.Second, "ended", ended)
			if r := j.Records["h2/b"]; r.State != job.Done || r.Generation != max(generations[0], 1) || j.Job.Generation != max(generations[1], 1) {
				w.t.Errorf("generations %v: job of %d, %+v", generations, j.Job.Generation, r)
			}
			if len(j.Waits) > 0 {
				w.t.Errorf("generations %v: waits %q", generations, j.Waits)
			}
		})
	}
}

// TestHostThatIsApartGetsNoSteps: it is told why, the others go on, and its steps
// begin when its agent is updated.
func TestHostThatIsApartGetsNoSteps(t *testing.T) {
	ofGenerations(t, []int{1, 1, 3}, func(w *world, mem *storetest.Mem) {
		w.submit(upgradeJob("u1"), []toyStep{free("h3/a", "h3"), free("h2/b", "h2"), free("h2/c", "h2", "h3/a")})
		j := w.await("u1", 20*time.Second, "told", tells("the agent of h3 (1, generation 3)",
			"the agent of h1 (1, generation 1)", "bring the agent of h3", "generation 1 to 2"))
		j = w.await("u1", 20*time.Second, "the other", stateIs("h2/b", job.Done))
		rev := mem.Rev()
		time.Sleep(time.Minute)
		if j = w.await("u1", time.Second, "there", stateIs("h3/a", job.Pending)); len(j.Records) != 1 || j.Job.State != job.Active {
			w.t.Errorf("%s", j.text())
		}
		if now := mem.Rev(); now != rev {
			w.t.Errorf("%d writes while nothing can be done", now-rev)
		}
		w.reboot("h3", 2)
		j = w.await("u1", 20*time.Second, "ended", ended)
		if r := j.Records["h3/a"]; r.State != job.Done || r.Attempt != 1 {
			w.t.Errorf("%+v", r)
		}
	})
}

// TestPlanMakersGenerationCounts: the coordinator stands between the agent that has
// made the plan and the one that would have to read its steps.
func TestPlanMakersGenerationCounts(t *testing.T) {
	ofGenerations(t, []int{2, 3}, func(w *world, _ *storetest.Mem) {
		w.submit(begunBy(1), []toyStep{free("h2/a", "h2")})
		j := w.await("u1", 20*time.Second, "told", tells("the agent of h2 (1, generation 3)", "this job (generation 1)", "generation 1 to 2"))
		if len(j.Records) > 0 {
			w.t.Errorf("%s", j.text())
		}
	})
}

// TestAbortDoesNotWaitForAHostThatIsApart: what it would restore there is left
// undone by the planner as on a host that is away.
func TestAbortDoesNotWaitForAHostThatIsApart(t *testing.T) {
	ofGenerations(t, []int{1, 1}, func(w *world, _ *storetest.Mem) {
		undo := free("h2/undo", "h2")
		undo.Undo = true
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2"), undo, free("h2/b", "h2", "h2/a")})
		w.body("h2/b", until)
		w.await("u1", 20*time.Second, "begun", stateIs("h2/b", job.Running))
		w.reboot("h2", 3)
		w.await("u1", 20*time.Second, "unknown", stateIs("h2/b", job.Unknown))
		w.order(job.Abort, "u1", "", "")
		// The toy's word for a host that is away, beside the cause.
		j := w.await("u1", 20*time.Second, "told", tells("h2/undo waits for h2"))
		if !tells("the agent of h2 (1, generation 3)")(j) || j.Records["h2/undo"].State != job.Pending {
			w.t.Errorf("waits %q, %s", j.Waits, j.text())
		}
	})
}

// TestSchedulerLeavesAJobAloneThatIsApart: it says so once and writes nothing else,
// and another coordinator goes on with the job.
func TestSchedulerLeavesAJobAloneThatIsApart(t *testing.T) {
	ofGenerations(t, []int{3, 2}, func(w *world, mem *storetest.Mem) {
		w.elect("h2")
		w.body("h2/a", func(ctx context.Context, _ Task) error { clock.Sleep(ctx, 5*time.Minute); return nil })
		long := free("h2/a", "h2")
		long.Timeout = 10 * time.Minute
		w.submit(begunBy(1), []toyStep{long, free("h1/b", "h1"), free("h2/b", "h2", "h2/a")})
		w.await("u1", 20*time.Second, "told", tells("the agent of h1 (1, generation 3) gets no steps"))
		w.await("u1", 20*time.Second, "begun", stateIs("h2/a", job.Running))
		link := w.machine["h1"].proc.store.(*storetest.Client)
		link.HoldWrites(true) // whether it has said so is not known at first
		w.elect("h1")
		time.Sleep(10 * time.Second)
		link.HoldWrites(false)
		w.await("u1", 20*time.Second, "told",
			tells("the agent of h1 (1, generation 3)", "does not lead", "an agent of generation 1", "bring the agent of h1", "generation 1 to 2"))
		w.order(job.Pause, "u1", "", "")
		rev := mem.Rev()
		time.Sleep(time.Minute)
		j := w.await("u1", time.Second, "running", stateIs("h2/a", job.Running))
		if now := mem.Rev(); now != rev || len(j.Waits) != 1 || j.Job.Mod != rev {
			w.t.Errorf("%d writes about a job that is not led: waits %q", now-rev, j.Waits)
		}
		w.order(job.Resume, "u1", "", "")
		time.Sleep(10 * time.Second)
		if j = w.await("u1", time.Second, "active", func(j Journal) bool { return j.Job.State == job.Active }); len(j.Records) != 1 {
			w.t.Errorf("%s", j.text())
		}
		w.elect("h2")
		w.await("u1", 6*time.Minute, "goes on", stateIs("h2/b", job.Done))
	})
}

// TestWorkerLeavesAGrantAloneThatIsApart: whatever the scheduler thinks, here one
// that takes the host for older than it is.
func TestWorkerLeavesAGrantAloneThatIsApart(t *testing.T) {
	ofGenerations(t, []int{1, 3}, func(w *world, _ *storetest.Mem) {
		w.mu.Lock()
		w.machine["h2"].reports = 1
		w.mu.Unlock()
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		w.await("u1", 20*time.Second, "granted", stateIs("h2/a", job.Granted))
		time.Sleep(time.Minute)
		j := w.await("u1", time.Second, "granted", stateIs("h2/a", job.Granted))
		if len(w.ran) > 0 || j.Records["h2/a"].Generation != 1 {
			w.t.Errorf("ran %q, %s", w.ran, j.text())
		}
		// The report comes, and the grant is taken back, with the reason.
		w.mu.Lock()
		w.machine["h2"].reports = 3
		w.mu.Unlock()
		w.await("u1", 20*time.Second, "taken back", stateIs("h2/a", job.Pending))
		w.await("u1", 20*time.Second, "told", tells("the agent of h2 (1, generation 3)"))
		w.reboot("h1", 2) // coordinates still
		w.await("u1", 20*time.Second, "told", tells("this job (generation 1)"))
		w.reboot("h2", 2)
		w.await("u1", 20*time.Second, "ended", ended)
		if len(w.ran) != 1 {
			w.t.Errorf("ran %q", w.ran)
		}
	})
}

// TestRecordsWithoutAGenerationAreOfTheFirst: what agents have written that do not
// count them yet.
func TestRecordsWithoutAGenerationAreOfTheFirst(t *testing.T) {
	for generation, begins := range map[int]bool{1: true, 2: true, 3: false} {
		ofGenerations(t, []int{generation}, func(w *world, _ *storetest.Mem) {
			w.elect("h9") // nobody: the worker is alone with the record
			s := free("h1/a", "h1")
			w.submit(begunBy(1), []toyStep{s})
			strip(w, runKey(job.Upgrade))
			r := job.Grant(job.Record{}, "h1/a", 1, 0)
			r.Work = &s.Step
			if text := string(encode(r)); strings.Contains(text, "generation") {
				w.t.Fatal(text)
			}
			w.put("u1", r)
			t := todo{Job: "u1", Kind: job.Upgrade, State: job.Active, Steps: []string{"h1/a"}}
			if _, _, err := w.admin.Txn(w.t.Context(), nil, []store.Op{{Key: todosKey("h1") + "upgrade", Value: encode(t)}}); err != nil {
				w.t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
			want := map[bool]job.StepState{true: job.Done, false: job.Granted}[begins]
			w.await("u1", time.Second, string(want), stateIs("h1/a", want))
			if n := len(w.ran); n != map[bool]int{true: 1, false: 0}[begins] {
				w.t.Errorf("generation %d: %d steps ran", generation, n)
			}
		})
	}
}

// strip takes the generation out of a record in the store.
func strip(w *world, key string) {
	w.t.Helper()
	kv, _, err := w.admin.Get(w.t.Context(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(kv.Value, &fields); err != nil {
		w.t.Fatal(err)
	}
	if fields["generation"] == nil {
		w.t.Fatalf("%s does not say its generation: %s", key, kv.Value)
	}
	delete(fields, "generation")
	if _, _, err := w.admin.Txn(w.t.Context(), nil, []store.Op{{Key: key, Value: encode(fields)}}); err != nil {
		w.t.Fatal(err)
	}
}
