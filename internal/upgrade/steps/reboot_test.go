package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/reboot"
	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
	"holdfast/internal/upgrade"
)

// rebootWorld is a host that counts the orders it gets.
type rebootWorld struct {
	mu     sync.Mutex
	boot   string
	orders int
	err    error // of the order
	guests []string
	next   string // kernel
	quorum func() (voters, healthy int, member bool, err error)
}

func (w *rebootWorld) Boot() (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.boot, nil
}

func (w *rebootWorld) Reboot(_ context.Context, r reboot.Request) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case r.Boot != w.boot:
		return fmt.Errorf("%w: %w: it is %s", reboot.ErrNotOrdered, reboot.ErrDone, w.boot)
	case len(r.Guests) > 0:
		return fmt.Errorf("%w: %w: %s", reboot.ErrNotOrdered, reboot.ErrGuests, strings.Join(r.Guests, ", "))
	}
	w.orders++
	return w.err
}

func (w *rebootWorld) booted(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.boot = id
}

func newRebootWorld(t *testing.T) (*rebootWorld, *Reboot) {
	w := &rebootWorld{boot: "b1", quorum: func() (int, int, bool, error) { return 5, 4, true, nil }}
	return w, &Reboot{
		Host:       w,
		Guests:     func(context.Context) ([]string, error) { return w.guests, nil },
		NextKernel: func(context.Context) (string, error) { return w.next, nil },
		Quorum:     func(context.Context) (int, int, bool, error) { w.mu.Lock(); defer w.mu.Unlock(); return w.quorum() },
		File:       filepath.Join(t.TempDir(), "upgrade", "reboot.json"),
		Clock:      func() cluster.Instant { return cluster.Instant(time.Now().UnixNano()) },
	}
}

func TestRebootIsDoneByTheNextProcess(t *testing.T) {
	dir := t.TempDir()
	boot, called := filepath.Join(dir, "boot_id"), filepath.Join(dir, "called")
	write := func(id string) {
		if err := os.WriteFile(boot, []byte(id+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("b1")
	host, err := reboot.New(reboot.Options{Command: []string{"sh", "-c", "echo now >> " + called}, BootID: boot})
	if err != nil {
		t.Fatal(err)
	}
	_, d := newRebootWorld(t)
	d.Host, d.Clock = host, nil
	task, heard := enginetest.Task(t, "reboot", upgrade.RebootArgs{})
	enginetest.Probed(t, d, task, engine.NotDone)
	ctx, stop := context.WithCancelCause(t.Context())
	note := task.Note
	task.Note = func(what string, percent int) {
		note(what, percent)
		if strings.Contains(what, "is ordered") {
			stop(engine.ErrStopping)
		}
	}
	if err := d.Do(ctx, task); !errors.Is(err, engine.ErrStopping) || errors.Is(err, engine.ErrUnclear) {
		t.Errorf("the host goes down: %v, want ErrStopping", err)
	}
	enginetest.Has(t, "log", heard.Log(), "orders the reboot of boot b1")
	enginetest.Probed(t, d, task, engine.StillRunning)
	other := task
	other.Attempt = 2
	enginetest.Probed(t, d, other, engine.NotDone)
	write("b2")
	enginetest.Probed(t, d, task, engine.ProbedDone)
	if err := d.Do(t.Context(), task); err != nil {
		t.Errorf("once more for boot b1: %v", err)
	}
	if text, err := os.ReadFile(called); err != nil || string(text) != "now\n" {
		t.Errorf("the command was called: %q, %v; want once", text, err)
	}
}

func TestRebootThatDoesNotComeIsUnclear(t *testing.T) {
	for name, told := range map[string]error{"heard": nil, "exit code": errors.New("exit status 1: Failed to connect to bus")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, d := newRebootWorld(t)
				w.err = told
				task, heard := enginetest.Task(t, "reboot", upgrade.RebootArgs{})
				began := time.Now()
				done := make(chan error)
				go func() { done <- d.Do(t.Context(), task) }()
				time.Sleep(rebootWithin - time.Second)
				enginetest.Probed(t, d, task, engine.StillRunning)
				err := <-done
				if !errors.Is(err, engine.ErrUnclear) || time.Since(began) != rebootWithin {
					t.Errorf("after %v: %v, want ErrUnclear after %v", time.Since(began), err, rebootWithin)
				}
				enginetest.Has(t, "error", err.Error(), "5m0s", "b1")
				if told != nil {
					enginetest.Has(t, "log", heard.Log(), told.Error())
					enginetest.Has(t, "error", err.Error(), told.Error())
				}
				if p, err := d.Probe(t.Context(), task); p != engine.CanNotTell || err == nil {
					t.Errorf("probe: %v, %v; want CanNotTell and why", p, err)
				}
				w.booted("b2")
				enginetest.Probed(t, d, task, engine.ProbedDone)
				if w.orders != 1 {
					t.Errorf("%d orders", w.orders)
				}
			})
		})
	}
}

func TestRebootThatWasOrderedIsNotTakenBack(t *testing.T) {
	for _, cause := range []error{engine.ErrCancelled, engine.ErrTimeout} {
		synctest.Test(t, func(t *testing.T) {
			_, d := newRebootWorld(t)
			task, _ := enginetest.Task(t, "reboot", upgrade.RebootArgs{})
			ctx, end := context.WithTimeoutCause(t.Context(), time.Minute, cause)
			defer end()
			if err := d.Do(ctx, task); !errors.Is(err, engine.ErrUnclear) || !errors.Is(err, cause) {
				t.Errorf("%v after the order: %v, want ErrUnclear", cause, err)
			}
			enginetest.Probed(t, d, task, engine.StillRunning)
		})
	}
}

func TestRebootOutlivedByItsProcessIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newRebootWorld(t)
		task, _ := enginetest.Task(t, "reboot", upgrade.RebootArgs{})
		time.AfterFunc(time.Minute, func() { w.booted("b2") })
		if err := d.Do(t.Context(), task); err != nil {
			t.Error(err)
		}
	})
}

func TestRebootIsRefusedBeforeTheOrder(t *testing.T) {
	for name, c := range map[string]struct {
		args  upgrade.RebootArgs
		world func(w *rebootWorld, d *Reboot)
		want  []string
	}{
		"guests": {world: func(w *rebootWorld, _ *Reboot) { w.guests = []string{"a", "b"} },
			want: []string{"guests run on this host: a, b", "retry"}},
		"guests asked": {world: func(_ *rebootWorld, d *Reboot) { d.Guests = rebootNoAnswer },
			want: []string{"ask which guests run", "no answer"}},
		"kernel": {args: upgrade.RebootArgs{Kernel: "5.10"},
			world: func(w *rebootWorld, _ *Reboot) { w.next = "4.14" }, want: []string{"kernel 4.14 would start, want 5.10", "boot loader"}},
		"two voters": {world: func(w *rebootWorld, _ *Reboot) { w.quorum = rebootQuorum(2, 1, true) },
			want: []string{"one of 2 voters", "by hand"}},
		"one voter": {world: func(w *rebootWorld, _ *Reboot) { w.quorum = rebootQuorum(1, 0, true) }, want: []string{"one of 1 voters"}},
		"not run": {world: func(w *rebootWorld, _ *Reboot) {
			w.err = fmt.Errorf("%w: no program /x", reboot.ErrNotOrdered)
		}, want: []string{"/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, d := newRebootWorld(t)
			c.world(w, d)
			task, _ := enginetest.Task(t, "reboot", c.args)
			err := d.Do(t.Context(), task)
			if err == nil || errors.Is(err, engine.ErrUnclear) {
				t.Fatalf("%v, want a clear error", err)
			}
			enginetest.Has(t, "error", err.Error(), c.want...)
			if w.err == nil && w.orders != 0 {
				t.Errorf("%d orders", w.orders)
			}
			enginetest.Probed(t, d, task, engine.NotDone)
		})
	}
}

func rebootNoAnswer(context.Context) ([]string, error) { return nil, errors.New("no answer") }

func rebootQuorum(voters, healthy int, member bool) func() (int, int, bool, error) {
	return func() (int, int, bool, error) { return voters, healthy, member, nil }
}

func TestRebootGoesWhenTheStoreCanMissTheHost(t *testing.T) {
	for _, c := range []struct {
		voters, healthy int
		member, goes    bool
	}{
		{3, 2, true, true}, {3, 1, true, false}, {5, 3, true, true}, {5, 2, true, false}, {4, 3, true, true}, {4, 2, true, false},
		{3, 1, false, true}, {0, 0, false, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, d := newRebootWorld(t)
			w.quorum = rebootQuorum(c.voters, c.healthy, c.member)
			task, heard := enginetest.Task(t, "reboot", upgrade.RebootArgs{})
			ctx, end := context.WithTimeoutCause(t.Context(), 3*time.Minute, engine.ErrTimeout)
			defer end()
			err := d.Do(ctx, task)
			if (w.orders == 1) != c.goes || !errors.Is(err, engine.ErrTimeout) || errors.Is(err, engine.ErrUnclear) != c.goes {
				t.Errorf("%+v: %d orders, %v", c, w.orders, err)
			}
			if !c.goes {
				want := fmt.Sprintf("waits: without this host the store has %d healthy members of %d and needs %d", c.healthy, c.voters, c.voters/2+1)
				enginetest.Has(t, "note", heard.Noted(), want)
				if n := strings.Count(heard.Log(), want); n != 1 {
					t.Errorf("the log says %d times why it waits", n)
				}
				enginetest.Probed(t, d, task, engine.NotDone)
			}
		})
	}
}

func TestRebootWaitsUntilTheStoreIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newRebootWorld(t)
		began := time.Now()
		w.quorum = func() (int, int, bool, error) {
			switch since := time.Since(began); {
			case since < 20*time.Second:
				return 0, 0, false, errors.New("no leader")
			case since < 40*time.Second:
				return 3, 1, true, nil
			}
			return 3, 2, true, nil
		}
		task, heard := enginetest.Task(t, "reboot", upgrade.RebootArgs{Kernel: "5.10"})
		time.AfterFunc(time.Minute, func() { w.booted("b2") })
		if err := d.Do(t.Context(), task); err != nil || w.orders != 1 {
			t.Errorf("%d orders, %v", w.orders, err)
		}
		enginetest.Has(t, "log", heard.Log(), "no leader", "1 healthy members of 3 and needs 2", "can not be told")
	})
}

// Without knowing whether it was ordered, nobody may order it: the first one may
// still come.
func TestRebootMarkThatCanNotBeReadIsNoAnswer(t *testing.T) {
	w, d := newRebootWorld(t)
	task, _ := enginetest.Task(t, "reboot", upgrade.RebootArgs{})
	if err := d.mark(task); err != nil {
		t.Fatal(err)
	}
	enginetest.Probed(t, d, task, engine.StillRunning) // the order may have been given
	if err := os.WriteFile(d.File, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := d.Probe(t.Context(), task); p != engine.CanNotTell || err == nil {
		t.Errorf("a broken mark: %v, %v; want CanNotTell", p, err)
	}
	task.Boot = ""
	if p, err := d.Probe(t.Context(), task); p != engine.CanNotTell || err == nil {
		t.Errorf("no boot id: %v, %v; want CanNotTell", p, err)
	}
	if w.orders != 0 {
		t.Errorf("%d orders", w.orders)
	}
}

// A guest that appears after the first look stops the order, and so does a second
// look that fails.
func TestRebootLooksForGuestsOnceMore(t *testing.T) {
	for want, last := range map[string]func(context.Context) ([]string, error){
		"guests run on this host: late": func(context.Context) ([]string, error) { return []string{"late"}, nil },
		"no answer":                     rebootNoAnswer,
	} {
		synctest.Test(t, func(t *testing.T) {
			w, d := newRebootWorld(t)
			looks := 0
			d.Guests = func(ctx context.Context) ([]string, error) {
				if looks++; looks == 1 {
					return nil, nil
				}
				return last(ctx)
			}
			task, _ := enginetest.Task(t, "reboot", upgrade.RebootArgs{})
			err := d.Do(t.Context(), task)
			if err == nil || errors.Is(err, engine.ErrUnclear) || !strings.Contains(err.Error(), want) || w.orders != 0 {
				t.Errorf("%d orders, %v; want none and %q", w.orders, err, want)
			}
			enginetest.Probed(t, d, task, engine.NotDone)
		})
	}
}

// rebootLate is a host whose step ends right before the order.
type rebootLate struct {
	*reboot.Host
	end func()
}

func (h rebootLate) Reboot(ctx context.Context, r reboot.Request) error {
	h.end()
	return h.Host.Reboot(ctx, r)
}

// Between the mark and the command the step ends: that is no order.
func TestRebootThatWasNotOrderedIsNotUnclear(t *testing.T) {
	dir := t.TempDir()
	boot, called := filepath.Join(dir, "boot_id"), filepath.Join(dir, "called")
	if err := os.WriteFile(boot, []byte("b1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		cause   error // with which the step ends; nil: it does not
		program string
	}{{engine.ErrCancelled, "sh"}, {engine.ErrTimeout, "sh"}, {nil, filepath.Join(dir, "none")}} {
		host, err := reboot.New(reboot.Options{Command: []string{x.program, "-c", "echo now >> " + called}, BootID: boot})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancelCause(t.Context())
		_, d := newRebootWorld(t)
		d.Host = rebootLate{host, func() {
			if x.cause != nil {
				end(x.cause)
			}
		}}
		task, _ := enginetest.Task(t, "reboot", upgrade.RebootArgs{})
		if err := d.Do(ctx, task); !errors.Is(err, reboot.ErrNotOrdered) || !errors.Is(err, x.cause) &&
			x.cause != nil || errors.Is(err, engine.ErrUnclear) {
			t.Errorf("%+v: %v, want that no reboot was ordered", x, err)
		}
		enginetest.Probed(t, d, task, engine.NotDone)
		end(nil)
	}
	if _, err := os.Stat(called); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the command was called: %v", err)
	}
}
