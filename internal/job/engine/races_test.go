package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// TestClaimComparesTheJob pauses the job between a worker's look and its claim.
func TestClaimComparesTheJob(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.before("h2", "h2/a", job.Running, func() { w.order(job.Pause, "u1", "", "") })
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		time.Sleep(10 * time.Second)
		w.await("u1", time.Second, "taken back", stateIs("h2/a", job.Pending))
		if len(w.ran) > 0 {
			w.t.Errorf("ran %q", w.ran)
		}
	})
}

// TestClaimComparesTheStep changes the record between a worker's look and its
// claim.
func TestClaimComparesTheStep(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.before("h2", "h2/a", job.Running, func() {
			w.put("u1", job.Record{Step: "h2/a", State: job.Skipped, Attempt: 1, Why: "by hand"})
		})
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		j := w.await("u1", 10*time.Second, "ended", ended)
		if j.Records["h2/a"].Why != "by hand" || len(w.ran) > 0 {
			w.t.Errorf("%s ran %q", j.text(), w.ran)
		}
	})
}

// TestClaimComparesTheTerm elects another coordinator between the look of the
// coordinator's worker and its claim of a step without a host.
func TestClaimComparesTheTerm(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.beStubborn("h1")
		hosts := make(chan string, 10)
		w.body("c/a", func(_ context.Context, t Task) error {
			hosts <- string(t.Host)
			return nil
		})
		w.before("h1", "c/a", job.Running, func() { w.elect("h2") })
		w.submit(upgradeJob("u1"), []toyStep{free("c/a", "")})
		w.await("u1", 10*time.Second, "ended", ended)
		if h := <-hosts; h != "h2" || len(w.ran) != 1 {
			w.t.Errorf("done by %s; ran %q", h, w.ran)
		}
	})
}

// TestResultComparesTheClaim changes the record just before the result is written.
func TestResultComparesTheClaim(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.body("h2/a", func(context.Context, Task) error { return nil })
		w.before("h2", "h2/a", job.Done, func() {
			w.put("u1", job.Record{Step: "h2/a", State: job.Unknown, Attempt: 1, Why: "by hand"})
		})
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		time.Sleep(10 * time.Second)
		j := w.await("u1", time.Second, "unknown", stateIs("h2/a", job.Unknown))
		if j.Records["h2/a"].Why != "by hand" || len(w.ran) != 1 {
			w.t.Errorf("%s", j.text())
		}
	})
}

// TestDeposedCoordinatorLeavesItsStep: its worker ends, without a result, what it
// did as the coordinator; the next one asks before it does anything.
func TestDeposedCoordinatorLeavesItsStep(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		cause := make(chan error, 1)
		w.body("c/a", func(ctx context.Context, _ Task) error {
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return context.Cause(ctx)
		})
		w.submit(upgradeJob("u1"), []toyStep{free("c/a", "")})
		w.await("u1", 10*time.Second, "running", stateIs("c/a", job.Running))
		w.elect("h2")
		if err := <-cause; !errors.Is(err, ErrDeposed) {
			w.t.Errorf("cause %v", err)
		}
		j := w.await("u1", 20*time.Second, "unknown", stateIs("c/a", job.Unknown))
		if r := j.Records["c/a"]; r.Host != "h2" || len(w.ran) != 1 {
			w.t.Errorf("%s ran %q", j.text(), w.ran)
		}
	})
}

// TestHandover: a coordinator that does not know yet that it was deposed goes on
// with its step for a while, and the next one does not do it beside it.
func TestHandover(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.beStubborn("h1")
		s := free("c/a", "")
		s.Kind = "child" // takes more than 4 s, and a probe on another host finds nothing
		w.submit(upgradeJob("u1"), []toyStep{s})
		w.await("u1", 10*time.Second, "begun", func(Journal) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.effects["c/a"] > 0
		})
		w.elect("h2")
		j := w.await("u1", 20*time.Second, "ended", ended)
		if r := j.Records["c/a"]; w.effects["c/a"] != 1 || r.Host != "h1" {
			w.t.Errorf("%s effects %v", j.text(), w.effects)
		}
	})
}

// TestGrantOnItsWayIsVoid: the outcome of a grant is not known, the reasons for it
// go, and then it arrives.
func TestGrantOnItsWayIsVoid(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		arrive := make(chan func() (int64, bool, error), 1)
		m := w.machine["h1"]
		m.set(func(_ context.Context, st store.Store, conds []store.Cmp, ops []store.Op) (int64, bool, error, bool) {
			if !writes(ops, "h2/a", job.Granted) {
				return 0, false, nil, false
			}
			m.set(nil)
			arrive <- func() (int64, bool, error) { return st.Txn(context.Background(), conds, ops) }
			w.mu.Lock()
			w.machine["h2"].proc = nil // counts as gone
			w.mu.Unlock()
			return 0, false, fmt.Errorf("answer lost: %w", store.ErrUnknown), true
		})
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		time.Sleep(10 * time.Second)
		if _, ok, err := (<-arrive)(); ok || err != nil {
			w.t.Errorf("a grant from a decision that is void was taken: %v", err)
		}
		if len(w.ran) > 0 {
			w.t.Errorf("ran %q", w.ran)
		}
	})
}

// TestGrantComparesTheStep: a scheduler whose grant was taken, and which does not
// see it yet, does not grant the step again.
func TestGrantComparesTheStep(t *testing.T) {
	inWorld(t, func(w *world, _ *storetest.Mem) {
		w.body("h2/a", func(ctx context.Context, _ Task) error { clock.Sleep(ctx, 20*time.Second); return nil })
		w.before("h1", "h2/a", job.Granted, func() {
			s := free("h2/a", "h2").Step
			w.put("u1", job.Record{Step: "h2/a", State: job.Running, Attempt: 1, Work: &s, Host: "h2", Instance: "another"})
		})
		w.submit(upgradeJob("u1"), []toyStep{free("h2/a", "h2")})
		j := w.await("u1", 30*time.Second, "asked about", stateIs("h2/a", job.Unknown))
		if len(w.ran) > 0 {
			w.t.Errorf("%s ran %q", j.text(), w.ran)
		}
	})
}
