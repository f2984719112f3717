package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store/storetest"
)

// free is a step whose Executor runs the test's own function.
func free(id string, host cluster.HostID, after ...string) toyStep {
	return toyStep{Step: job.Step{ID: id, Host: host, Kind: "free", Timeout: time.Minute}, After: after}
}

// inWorld runs a test on two hosts in virtual time; h1 coordinates.
func inWorld(t *testing.T, f func(*world, *storetest.Mem)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, mem := memWorld(t, "h1", "h2")
		w.elect("h1")
		w.boot("h1")
		w.boot("h2")
		defer w.stop()
		f(w, mem)
	})
}

func (w *world) body(step string, f func(context.Context, Task) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bodies[step] = f
}

// until is a body that ends with its context.
func until(ctx context.Context, _ Task) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestResults(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.glance = time.Second
		w.body("h2/ok", func(_ context.Context, t Task) error {
			fmt.Fprint(t.Log, "all is\x00 well\xff\r\n")
			t.Note("nearly", 99)
			t.Count(7)
			return nil
		})
		w.body("h2/exit", func(context.Context, Task) error {
			return fmt.Errorf("run it: %w", &Exit{Code: 3, Err: errors.New("exit status 3")})
		})
		w.body("h2/panic", func(context.Context, Task) error { panic("oh") })
		w.body("h2/unclear", func(context.Context, Task) error { return fmt.Errorf("call libvirt: %w", ErrUnclear) })
		w.body("h2/slow", until)
		w.body("h2/late", func(ctx context.Context, t Task) error { return fmt.Errorf("a stays on h2: %w", until(ctx, t)) })
		w.body("h2/cut", func(ctx context.Context, t Task) error { return errors.Join(until(ctx, t), errors.New("p1 is in use")) })
		w.body("h2/deaf", func(context.Context, Task) error { time.Sleep(5 * time.Minute); return nil })
		steps := []toyStep{free("h2/ok", "h2"), free("h2/exit", "h2"), free("h2/panic", "h2"), free("h2/unclear", "h2"),
			free("h2/slow", "h2"), free("h2/late", "h2"), free("h2/cut", "h2"), free("h2/deaf", "h2"), free("h2/none", "h2")}
		steps[8].Kind = "unheard"
		w.submit(upgradeJob("u1"), steps)
		want := map[string]struct {
			state job.StepState
			exit  int
			why   string
		}{
			"h2/ok":      {job.Done, 0, ""},
			"h2/exit":    {job.Failed, 3, "run it: exit status 3"},
			"h2/panic":   {job.Failed, 0, "the agent failed in it: oh"},
			"h2/unclear": {job.Unknown, 0, "call libvirt: its outcome is not known"},
			"h2/slow":    {job.Failed, 0, "timed out after 1m0s"},
			"h2/late":    {job.Failed, 0, "timed out after 1m0s: a stays on h2"},
			"h2/cut":     {job.Failed, 0, "timed out after 1m0s: p1 is in use"},
			"h2/deaf":    {job.Unknown, 0, "timed out after 1m0s, but it has not ended"},
			"h2/none":    {job.Failed, 0, `this host's agent knows no steps of kind "unheard"`},
		}
		j := w.await("u1", 3*time.Minute, "all over", func(j Journal) bool {
			return len(j.Records) == 9 && !slices.ContainsFunc(slices.Sorted(maps.Keys(want)),
				func(s string) bool { return isOpen(j.Records[s].State) })
		})
		for step, e := range want {
			r := j.Records[step]
			if r.State != e.state || r.Exit != e.exit || r.Why != e.why || r.Attempt != 1 || r.Host != "h2" || r.Ended.IsZero() {
				w.t.Errorf("%s: %+v, want %+v", step, r, e)
			}
		}
		if r := j.Records["h2/ok"]; r.Tail != "all is. well.\n" || r.Percent != 100 || r.Count != 7 || r.Boot != "boot-0" || r.Work != nil {
			w.t.Errorf("record %+v", r)
		}
		if b, err := os.ReadFile(LogFile(w.dir+"/h2", "u1", "h2/ok", 1)); err != nil || string(b) != "all is\x00 well\xff\r\n" {
			w.t.Errorf("log %q, %v", b, err)
		}
		if tail := j.Records["h2/panic"].Tail; !strings.Contains(tail, "panic: oh") && !strings.Contains(tail, "worker_test.go") {
			w.t.Errorf("a panic's stack is not in the log: %q", tail)
		}
		// An Executor that does not end blocks a second attempt, but not the agent.
		w.order(job.Retry, "u1", "h2/deaf", "")
		w.await("u1", 10*time.Second, "granted", stateIs("h2/deaf", job.Granted))
		w.await("u1", 5*time.Minute, "claimed", stateIs("h2/deaf", job.Running))
		w.await("u1", 11*time.Minute, "unknown again", stateIs("h2/deaf", job.Unknown))
		time.Sleep(5 * time.Minute)
	})
}

func TestNotesAreWrittenOnceASecond(t *testing.T) {
	inWorld(t, func(w *world, mem *storetest.Mem) {
		w.body("h2/a", func(ctx context.Context, t Task) error {
			for n := range 1000 { // for 10 s
				t.Note(fmt.Sprintf("block %d", n), n/10)
				clock.Sleep(ctx, 10*time.Millisecond)
			}
			return nil
		})
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		w.await("u1", 10*time.Second, "running", stateIs("h2/a", job.Running))
		before := mem.Rev()
		j := w.await("u1", 9*time.Second, "half", func(j Journal) bool { return j.Records["h2/a"].Percent >= 50 })
		if !strings.HasPrefix(j.Records["h2/a"].Note, "block ") {
			w.t.Errorf("record %+v", j.Records["h2/a"])
		}
		w.await("u1", 9*time.Second, "ended", ended)
		if n := mem.Rev() - before; n < 7 || n > 16 {
			w.t.Errorf("%d writes in 10 s", n)
		}
	})
}

// What a program says is seen while it runs, with the time of its last word, and costs a write for
// some seconds of it.
func TestOutputIsSeenWhileAStepRuns(t *testing.T) {
	inWorld(t, func(w *world, mem *storetest.Mem) {
		var last time.Time
		w.body("h2/a", func(ctx context.Context, t Task) error {
			for n := range 1000 { // for 10 s
				last = time.Now()
				fmt.Fprintf(t.Log, "line %d\n", n)
				clock.Sleep(ctx, 10*time.Millisecond)
			}
			clock.Sleep(ctx, 30*time.Second)
			return nil
		})
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		w.await("u1", 10*time.Second, "running", stateIs("h2/a", job.Running))
		before := mem.Rev()
		w.await("u1", 9*time.Second, "half", func(j Journal) bool { return strings.Contains(j.Records["h2/a"].Tail, "\nline 5") })
		time.Sleep(20 * time.Second)
		j := w.await("u1", time.Second, "quiet", stateIs("h2/a", job.Running))
		if r := j.Records["h2/a"]; !strings.HasSuffix(r.Tail, "line 999\n") || !r.Said.Equal(last) {
			w.t.Errorf("said %s, want %s; tail %.100q", r.Said, last, r.Tail)
		}
		if n := mem.Rev() - before; n > 6 {
			w.t.Errorf("%d writes", n)
		}
		w.await("u1", 6*time.Minute, "ended", ended)
	})
}

func TestAbortCancelsAndRestoresOrder(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		first, second, third := free("h2/undo", "h2"), free("h1/undo", "h1"), free("h2/undo2", "h2", "h1/undo")
		first.Undo, second.Undo, third.Undo = true, true, true
		w.body("h1/long", until)
		w.body("h2/undo", func(ctx context.Context, _ Task) error {
			if !clock.Sleep(ctx, 10*time.Second) {
				return context.Cause(ctx)
			}
			return nil
		})
		w.submit(upgradeJob("u1"), []toyStep{free("h1/long", "h1"), free("h1/next", "h1", "h1/long"), first, second, third})
		w.await("u1", 10*time.Second, "running", stateIs("h1/long", job.Running))
		w.order(job.Abort, "u1", "", "")
		j := w.await("u1", time.Minute, "ended", ended)
		long, next := j.Records["h1/long"], j.Records["h1/next"]
		if j.Job.Result != "aborted" || long.State != job.Failed || long.Why != "cancelled" || next.State != job.Pending {
			w.t.Errorf("%s", j.text())
		}
		for _, s := range []toyStep{first, second, third} {
			if r := j.Records[s.ID]; r.State != job.Done || !r.Undo {
				w.t.Errorf("%s: %+v", s.ID, r)
			}
		}
		time.Sleep(3 * time.Second)
		if kvs, _, err := w.admin.List(w.t.Context(), keyTodo); err != nil || len(kvs) > 0 {
			w.t.Errorf("todos are left: %v, %v", kvs, err)
		}
	})
}

func TestPauseTakesGrantsBack(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.body("h1/a", func(ctx context.Context, _ Task) error { clock.Sleep(ctx, 10*time.Second); return nil })
		// A host that is cut off does not claim its grant.
		link := w.machine["h2"].proc.store.(*storetest.Client)
		link.Partition(true)
		w.submit(upgradeJob("u1"), []toyStep{free("h1/a", "h1"), free("h2/b", "h2"), free("h1/c", "h1", "h1/a")})
		w.await("u1", 10*time.Second, "granted", stateIs("h2/b", job.Granted))
		w.await("u1", 10*time.Second, "running", stateIs("h1/a", job.Running))
		w.order(job.Pause, "u1", "", "")
		w.await("u1", 3*time.Second, "taken back", stateIs("h2/b", job.Pending))
		link.Partition(false)
		time.Sleep(30 * time.Second)
		j := w.await("u1", time.Second, "paused", func(j Journal) bool { return j.Job.State == job.Paused })
		if j.Records["h1/a"].State != job.Done || j.Records["h2/b"].State != job.Pending ||
			j.Records["h1/c"].State != job.Pending || reason.Text(j.Job.Why...) != "paused by op" {
			w.t.Errorf("%s", j.text())
		}
		w.order(job.Resume, "u1", "", "")
		j = w.await("u1", 10*time.Second, "ended", ended)
		if j.Records["h2/b"].Attempt != 1 || len(w.ran) != 3 {
			w.t.Errorf("%s ran %q", j.text(), w.ran)
		}
	})
}

func TestRetryAndSkip(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.body("h1/a", func(_ context.Context, t Task) error {
			if t.Attempt == 1 {
				return errors.New("no")
			}
			return nil
		})
		w.body("h1/b", func(context.Context, Task) error { return errors.New("never") })
		w.submit(upgradeJob("u1"), []toyStep{free("h1/a", "h1"), free("h1/b", "h1", "h1/a")})
		w.await("u1", 10*time.Second, "failed", stateIs("h1/a", job.Failed))
		ctx := w.t.Context()
		for _, o := range []Order{
			{Job: "u1", Command: job.Skip, Step: "h1/a", User: "op"},
			{Job: "u1", Command: job.Skip, Step: "h1/b", User: "op", Reason: "why not"},
			{Job: "u1", Command: job.Retry, Step: "h9/none", User: "op"},
			{Job: "u1", Command: job.Resume, User: "op"},
		} {
			if _, err := Command(ctx, w.admin, o); !errors.Is(err, ErrRefused) {
				w.t.Errorf("%+v: %v", o, err)
			}
		}
		all := Jobs{Store: w.admin, Planners: map[job.Kind]func([]byte) (job.Planner, error){job.Upgrade: newToyPlanner}}
		for _, command := range []job.Command{job.Retry, job.Skip} {
			for step, want := range map[string]fail.Kind{"h9/none": fail.Invalid, "h1/b": fail.Refused} {
				var e *fail.Error
				if _, err := all.Order(ctx, "op", "u1", string(command), step, "why not"); !errors.As(err, &e) || e.Kind != want {
					w.t.Errorf("%s %s: %v, want it %s", command, step, err, want)
				}
			}
		}
		if _, err := Command(ctx, w.admin, Order{Job: "u9", Command: job.Pause}); !errors.Is(err, ErrNoJob) {
			w.t.Errorf("no job: %v", err)
		}
		w.order(job.Retry, "u1", "h1/a", "")
		w.await("u1", 10*time.Second, "failed", stateIs("h1/b", job.Failed))
		w.order(job.Skip, "u1", "h1/b", "not needed")
		j := w.await("u1", 10*time.Second, "ended", ended)
		if a, b := j.Records["h1/a"], j.Records["h1/b"]; a.Attempt != 2 || a.By != "op" || b.State != job.Skipped || b.Why != "not needed" {
			w.t.Errorf("%s", j.text())
		}
		if !slices.Equal(w.ran, []string{"h1/a 1", "h1/a 2", "h1/b 1"}) {
			w.t.Errorf("ran %q", w.ran)
		}
	})
}

// TestResultIsWrittenWhenTheStoreIsBack cuts the host off while its Executor ends.
func TestResultIsWrittenWhenTheStoreIsBack(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.body("h2/a", func(ctx context.Context, _ Task) error { clock.Sleep(ctx, 10*time.Second); return nil })
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		w.await("u1", 10*time.Second, "running", stateIs("h2/a", job.Running))
		link := w.machine["h2"].proc.store.(*storetest.Client)
		link.Partition(true)
		time.Sleep(time.Minute)
		w.await("u1", time.Second, "running", stateIs("h2/a", job.Running))
		link.Partition(false)
		w.await("u1", 10*time.Second, "ended", ended)
		if !slices.Equal(w.ran, []string{"h2/a 1"}) {
			w.t.Errorf("ran %q", w.ran)
		}
	})
}

// TestLostClaim changes a record behind the worker's back.
func TestLostClaim(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		cause := make(chan error, 1)
		w.body("h2/a", func(ctx context.Context, _ Task) error {
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return errors.New("not to be written")
		})
		w.body("h1/b", func(ctx context.Context, _ Task) error { clock.Sleep(ctx, 20*time.Second); return nil })
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2"), free("h1/b", "h1")})
		w.await("u1", 10*time.Second, "running", stateIs("h2/a", job.Running))
		w.put("u1", job.Record{Step: "h2/a", State: job.Skipped, Attempt: 1, Why: "by hand"})
		if err := <-cause; !errors.Is(err, ErrLost) {
			w.t.Errorf("cause %v", err)
		}
		j := w.await("u1", 30*time.Second, "ended", ended)
		if j.Records["h2/a"].Why != "by hand" {
			w.t.Errorf("%s", j.text())
		}
	})
}

// TestStopLeavesWhatRuns ends the agent in an orderly way.
func TestStopLeavesWhatRuns(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		cause := make(chan error, 1)
		w.body("h2/a", func(ctx context.Context, _ Task) error {
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return context.Cause(ctx)
		})
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		w.await("u1", 10*time.Second, "running", stateIs("h2/a", job.Running))
		p := w.machine["h2"].proc
		p.cancel()
		<-p.done
		if err := <-cause; !errors.Is(err, ErrStopping) || errors.Is(err, ErrDeposed) {
			w.t.Errorf("cause %v", err)
		}
		j := w.await("u1", 5*time.Second, "as it was", stateIs("h2/a", job.Running))
		first := j.Records["h2/a"].Instance
		w.boot("h2") // nobody can tell whether a free step was done
		j = w.await("u1", 10*time.Second, "unknown", stateIs("h2/a", job.Unknown))
		if first != "h2-2" || j.Records["h2/a"].Attempt != 1 {
			w.t.Errorf("%s, by %s before", j.text(), first)
		}
	})
}

// TestAbortOfWhatAnEarlierProcessBegan: with and without a way to stop it.
func TestAbortOfWhatAnEarlierProcessBegan(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		a, b := free("h2/a", "h2"), free("h2/b", "h2")
		a.Kind, b.Kind = "stoppable", "child"
		w.submit(upgradeJob("u1"), []toyStep{a, b})
		w.await("u1", 10*time.Second, "begun", func(Journal) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.effects["h2/a"]+w.effects["h2/b"] == 2
		})
		w.mu.Lock()
		for step := range w.machine["h2"].kids {
			w.machine["h2"].kids[step] = time.Now().Add(time.Hour)
		}
		w.mu.Unlock()
		p := w.kill("h2")
		<-p.done
		w.boot("h2")
		time.Sleep(5 * time.Second)
		w.await("u1", time.Second, "running", stateIs("h2/a", job.Running))
		w.order(job.Abort, "u1", "", "")
		j := w.await("u1", 10*time.Second, "ended", ended)
		if a, b := j.Records["h2/a"], j.Records["h2/b"]; a.State != job.Failed || a.Why != "cancelled" ||
			b.State != job.Unknown || !strings.HasPrefix(b.Why, "cancelled, but") {
			w.t.Errorf("%s", j.text())
		}
		if w.effects["h2/a"] != 1 || w.effects["h2/b"] != 1 {
			w.t.Errorf("effects %v", w.effects)
		}
	})
}

func TestLogIsBounded(t *testing.T) {
	file := LogFile(t.TempDir(), "u1", "h1/a.b/c", 2)
	if !strings.HasSuffix(file, "/jobs/u1/h1~a.b~c.2.log") {
		t.Errorf("file %s", file)
	}
	l, err := openLog(file, 1000)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte("0123456789ä\n")
	for range 200 {
		if n, err := l.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	l.Write([]byte("the end €"))
	tail := l.tail()
	if !strings.HasSuffix(tail, "the end €") || len(tail) > job.MaxTail || len(tail) < job.MaxTail-8 || !utf8.ValidString(tail) {
		t.Errorf("tail of %d bytes %q", len(tail), tail)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(file)
	if err != nil || len(b) > 1100 || !strings.HasSuffix(string(b), "not kept]\n") {
		t.Errorf("%d bytes in the file, %v", len(b), err)
	}
	// Another process goes on with it.
	l, err = openLog(file, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if !strings.Contains(l.tail(), "not kept") {
		t.Errorf("tail %q", l.tail())
	}
}

func TestOldLogsGo(t *testing.T) {
	dir := t.TempDir()
	for n := range 25 {
		file := LogFile(dir, fmt.Sprintf("u%02d", n), "a", 1)
		l, err := openLog(file, 10)
		if err != nil {
			t.Fatal(err)
		}
		l.close()
		at := time.Unix(int64(1000+n), 0)
		if err := os.Chtimes(dir+"/jobs/"+fmt.Sprintf("u%02d", n), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := pruneLogs(dir); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir + "/jobs")
	if err != nil || len(left) != 20 || left[0].Name() != "u05" {
		t.Errorf("%d left, first %v, %v", len(left), left[0], err)
	}
}
