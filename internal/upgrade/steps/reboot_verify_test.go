package steps

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
	"holdfast/internal/upgrade"
)

// newVerify is a host at boot b2 that was rebooted from b1, with kernel 5.10 and
// pools that are active after 10 s.
func newVerify() *Verify {
	began := time.Now()
	return &Verify{
		Boot: func() (string, error) { return "b2", nil },
		Record: func(_ context.Context, j, step string) (job.Record, bool, error) {
			if j != "up-1" || step != "h1/reboot" {
				return job.Record{}, false, nil
			}
			return job.Record{State: job.Done, Boot: "b1"}, true, nil
		},
		Kernel: func(context.Context) (string, error) { return "5.10", nil },
		Pools: func(context.Context) ([]pools.Pool, error) {
			return []pools.Pool{{Name: "a", Active: true}, {Name: "b", Active: time.Since(began) >= 10*time.Second}}, nil
		},
	}
}

func verifyRecord(r job.Record) func(context.Context, string, string) (job.Record, bool, error) {
	return func(context.Context, string, string) (job.Record, bool, error) { return r, true, nil }
}

func TestVerifyWaitsForPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerify()
		began := time.Now()
		task, heard := enginetest.Task(t, "verify", upgrade.VerifyArgs{Reboot: "h1/reboot", Kernel: "5.10", Pools: []string{"a", "b"}})
		enginetest.Probed(t, v, task, engine.NotDone)
		if err := v.Do(t.Context(), task); err != nil || time.Since(began) != 10*time.Second {
			t.Errorf("after %v: %v, want well after 10 s", time.Since(began), err)
		}
		enginetest.Has(t, "note", heard.Noted(), "waits: storage pool b is not active")
	})
}

func TestVerifyTellsAllThatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerify()
		v.Boot = func() (string, error) { return "b1", nil }
		began := time.Now()
		task, _ := enginetest.Task(t, "verify", upgrade.VerifyArgs{Reboot: "h1/reboot", Kernel: "6.1", Pools: []string{"a", "b", "c"}})
		err := v.Do(t.Context(), task)
		if err == nil || time.Since(began) != 0 {
			t.Fatalf("after %v: %v, want an error at once", time.Since(began), err)
		}
		enginetest.Has(t, "error", err.Error(), "not rebooted", "kernel 5.10 runs, want 6.1", "pool b is not active", "no storage pool c")
	})
}

func TestVerifyOfTheReboot(t *testing.T) {
	for name, c := range map[string]struct {
		record job.Record
		want   string // "": well
	}{
		"done":                 {job.Record{State: job.Done, Boot: "b1"}, ""},
		"done, same boot":      {job.Record{State: job.Done, Boot: "b2"}, "boot id is still b2"},
		"skipped, by hand":     {job.Record{State: job.Skipped, Boot: "b1", By: "eve"}, ""},
		"skipped, same boot":   {job.Record{State: job.Skipped, Boot: "b2", By: "eve", Why: "no time"}, "skipped by eve (no time)"},
		"skipped, never begun": {job.Record{State: job.Skipped, By: "eve"}, "skipped by eve before it began"},
		"never begun":          {job.Record{}, "has not begun"},
	} {
		synctest.Test(t, func(t *testing.T) {
			v := newVerify()
			v.Record = verifyRecord(c.record)
			task, _ := enginetest.Task(t, "verify", upgrade.VerifyArgs{Reboot: "h1/reboot"})
			err := v.Do(t.Context(), task)
			if (err == nil) != (c.want == "") {
				t.Fatalf("%s: %v, want %q", name, err, c.want)
			}
			if err != nil {
				enginetest.Has(t, name, err.Error(), c.want)
			}
		})
	}
}

func TestVerifyGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerify()
		down := errors.New("store is down")
		v.Record = func(context.Context, string, string) (job.Record, bool, error) { return job.Record{}, false, down }
		v.Kernel = func(context.Context) (string, error) { return "", errors.New("no kernel") }
		v.Pools = func(context.Context) ([]pools.Pool, error) { return nil, errors.New("libvirtd is away") }
		began := time.Now()
		task, _ := enginetest.Task(t, "verify", upgrade.VerifyArgs{Reboot: "h1/reboot", Kernel: "5.10", Pools: []string{"a"}})
		err := v.Do(t.Context(), task)
		if !errors.Is(err, down) || time.Since(began) != verifyWait {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
		enginetest.Has(t, "error", err.Error(), "no kernel", "libvirtd is away")
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(engine.ErrStopping) })
		if err := v.Do(ctx, task); !errors.Is(err, engine.ErrStopping) {
			t.Errorf("the agent stops: %v", err)
		}
	})
}
