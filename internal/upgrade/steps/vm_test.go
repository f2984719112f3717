package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
	"holdfast/internal/upgrade"
)

// vmWorld is the guests of a host, which take 10 s to shut down and 2 s to start,
// with the behaviour of guests.Fleet as far as these steps use it.
type vmWorld struct {
	mu      sync.Mutex
	vms     []guests.VM
	refuses map[string]bool // by name: it does not shut down, or does not start
	asked   func(uuid string)
	at      int // under way
	most    int
}

func newVMWorld(state guests.VMState, names ...string) *vmWorld {
	w := &vmWorld{refuses: map[string]bool{}}
	for _, n := range names {
		w.vms = append(w.vms, guests.VM{Name: n, UUID: "uuid-" + n, State: state, Persistent: true})
	}
	return w
}

func (w *vmWorld) List(context.Context) ([]guests.VM, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.vms), nil
}

// work lets time pass and then changes the guest.
func (w *vmWorld) work(ctx context.Context, uuid string, d time.Duration, f func(*guests.VM) error) error {
	w.mu.Lock()
	w.at++
	w.most = max(w.most, w.at)
	w.mu.Unlock()
	err := engine.Pause(ctx, d)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at--
	if err != nil {
		return fmt.Errorf("%w: %w", guests.ErrRunning, err)
	}
	return f(vmFind(w.vms, upgrade.Guest{UUID: uuid}))
}

func (w *vmWorld) Shutdown(ctx context.Context, uuid string, opt guests.ShutdownOptions) (bool, error) {
	if w.asked != nil {
		w.asked(uuid)
	}
	clean := true
	err := w.work(ctx, uuid, 10*time.Second, func(vm *guests.VM) error {
		vm.Persistent = true // as the Fleet does, to keep its definition
		if clean = !w.refuses[vm.Name]; !clean && !opt.PowerOff {
			return fmt.Errorf("shut down %s: %w", vm.Name, guests.ErrRunning)
		}
		vm.State = guests.VMOff
		return nil
	})
	return clean, err
}

func (w *vmWorld) Start(ctx context.Context, uuid string, opt guests.StartOptions) error {
	return w.work(ctx, uuid, 2*time.Second, func(vm *guests.VM) error {
		if w.refuses[vm.Name] {
			return fmt.Errorf("start %s: no disk", vm.Name)
		}
		vm.State, vm.Persistent = guests.VMRunning, vm.Persistent && !opt.Transient
		return nil
	})
}

// states are the guests with their states, such as "a off".
func (w *vmWorld) states() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, v := range w.vms {
		out = append(out, v.Name+" "+string(v.State))
	}
	return strings.Join(out, ", ")
}

func vmGuests(names ...string) upgrade.VMArgs {
	var args upgrade.VMArgs
	for _, n := range names {
		args.Guests = append(args.Guests, upgrade.Guest{Name: n, UUID: "UUID-" + n})
	}
	return args
}

func TestVMsStopAndStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"a", "b", "c", "d", "e", "f"}
		w := newVMWorld(guests.VMRunning, append(names, "other")...)
		dir := t.TempDir()
		stop, start := &VMStop{Host: w, Dir: dir}, &VMStart{Host: w, Dir: dir}
		task, heard := enginetest.Task(t, "vm-stop", vmGuests(names...))
		enginetest.Probed(t, stop, task, engine.NotDone)
		enginetest.Probed(t, start, task, engine.ProbedDone)
		began := time.Now()
		if err := stop.Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if w.most != vmParallel || time.Since(began) != 20*time.Second {
			t.Errorf("%d at once, %v; want %d, 20 s", w.most, time.Since(began), vmParallel)
		}
		if got := w.states(); got != "a off, b off, c off, d off, e off, f off, other running" {
			t.Error(got)
		}
		enginetest.Has(t, "note", heard.Noted(), "0 of 6 guests are off; waits for ", "6 of 6 guests are off")
		if heard.Percent() != 100 {
			t.Errorf("%d %%", heard.Percent())
		}
		enginetest.Probed(t, stop, task, engine.ProbedDone)
		enginetest.Probed(t, start, task, engine.NotDone)
		began = time.Now()
		if err := stop.Do(t.Context(), task); err != nil || time.Since(began) != 0 {
			t.Errorf("again: after %v: %v", time.Since(began), err)
		}
		if err := start.Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		enginetest.Probed(t, start, task, engine.ProbedDone)
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
	})
}

func TestVMsAreAllTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVMWorld(guests.VMRunning, "a", "b", "c")
		w.refuses["a"] = true
		dir := t.TempDir()
		stop := &VMStop{Host: w, Dir: dir}
		task, heard := enginetest.Task(t, "vm-stop", vmGuests("a", "b", "c", "gone"))
		err := stop.Do(t.Context(), task)
		if !errors.Is(err, guests.ErrRunning) || w.states() != "a running, b off, c off" {
			t.Errorf("%s: %v", w.states(), err)
		}
		enginetest.Has(t, "error", err.Error(), "a is not off")
		enginetest.Has(t, "log", heard.Log(), "gone: is not on this host", "b: is off")
		stop.Shutdown.PowerOff = true
		if err := stop.Do(t.Context(), task); err != nil {
			t.Error(err)
		}
		enginetest.Has(t, "log", heard.Log(), "a: did not obey and was powered off", "b: was off")

		start := &VMStart{Host: w, Dir: dir}
		w.vms = w.vms[:2] // c is undefined meanwhile
		err = start.Do(t.Context(), task)
		if err == nil || w.states() != "a off, b running" {
			t.Fatalf("%s: %v", w.states(), err)
		}
		enginetest.Has(t, "error", err.Error(), "a is not running: start a: no disk", "c is not running: this host's libvirt does not know it")
		enginetest.Has(t, "log", heard.Log(), "gone: was not stopped by this run")
		enginetest.Probed(t, start, task, engine.NotDone)
	})
}

func TestVMsThatWereTransientAreSoAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVMWorld(guests.VMRunning, "a", "b", "c")
		w.vms[0].Persistent, w.vms[1].Persistent = false, false
		w.refuses["b"] = true
		dir := filepath.Join(t.TempDir(), "vms")
		stop, start := &VMStop{Host: w, Dir: dir}, &VMStart{Host: w, Dir: dir}
		task, _ := enginetest.Task(t, "vm-stop", vmGuests("a", "b", "c"))
		if err := stop.Do(t.Context(), task); err == nil {
			t.Error("b does not obey: no error")
		}
		w.refuses["b"] = false
		task.Attempt = 2
		if err := stop.Do(t.Context(), task); err != nil { // b is persistent by now
			t.Error(err)
		}
		later := task
		later.Job = "up-2"
		if err := start.Do(t.Context(), later); err != nil || w.states() != "a off, b off, c off" {
			t.Errorf("another job: %s, %v; want that it leaves them off", w.states(), err)
		}
		enginetest.Probed(t, start, task, engine.NotDone)
		enginetest.Probed(t, start, later, engine.ProbedDone)
		if err := start.Do(t.Context(), task); err != nil || w.vms[0].Persistent || w.vms[1].Persistent || !w.vms[2].Persistent {
			t.Errorf("%+v, %v; want a and b transient", w.vms, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
	})
}

func TestVMsEndWithTheirStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVMWorld(guests.VMRunning, "a", "b", "c", "d", "e", "f")
		stop := &VMStop{Host: w, Dir: t.TempDir()}
		task, _ := enginetest.Task(t, "vm-stop", vmGuests("a", "b", "c", "d", "e", "f"))
		ctx, end := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Second, func() { end(engine.ErrStopping) })
		began := time.Now()
		err := stop.Do(ctx, task)
		if !errors.Is(err, engine.ErrStopping) || time.Since(began) != 5*time.Second {
			t.Fatalf("after %v: %v, want ErrStopping after 5 s", time.Since(began), err)
		}
		enginetest.Has(t, "error", err.Error(), "a is not off", "f is not off")
	})
}

func TestVMThatIsProtected(t *testing.T) {
	args := upgrade.VMArgs{Guests: []upgrade.Guest{{Name: "mgmt", UUID: "uuid-mgmt", Protected: true}, {Name: "a"}}}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		runs, obeys := true, true
		asked := 0
		power := VMPower{
			Power: func(_ context.Context, run bool) error {
				mu.Lock()
				defer mu.Unlock()
				asked++
				time.AfterFunc(30*time.Second, func() {
					mu.Lock()
					defer mu.Unlock()
					runs = run == obeys
				})
				return nil
			},
			Powered: func(context.Context) (bool, error) {
				mu.Lock()
				defer mu.Unlock()
				return runs, nil
			},
		}
		w := newVMWorld(guests.VMRunning, "mgmt", "a")
		dir := t.TempDir()
		stop, start := &VMStop{Host: w, Dir: dir, Mgmt: power}, &VMStart{Host: w, Dir: dir, Mgmt: power}
		task, _ := enginetest.Task(t, "vm-stop", args)
		if err := stop.Do(t.Context(), task); err != nil || asked != 1 || w.states() != "mgmt running, a off" {
			t.Errorf("asked %d times, %s: %v; want that libvirt is not asked for mgmt", asked, w.states(), err)
		}
		enginetest.Probed(t, stop, task, engine.ProbedDone)
		if err := start.Do(t.Context(), task); err != nil {
			t.Error(err)
		}
		enginetest.Probed(t, start, task, engine.ProbedDone)
		obeys = false
		began := time.Now()
		err := stop.Do(t.Context(), task)
		if err == nil || time.Since(began) != vmPowerWait {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
		enginetest.Has(t, "error", err.Error(), "mgmt is not off", "has not done so yet")
		start.Mgmt.Power = func(context.Context, bool) error { return errors.New("no quorum") }
		if err := start.Do(t.Context(), task); err == nil || !strings.Contains(err.Error(), "no quorum") {
			t.Errorf("%v, want that there is no quorum", err)
		}
		stop.Mgmt.Powered = func(context.Context) (bool, error) { return false, errors.New("no quorum") }
		if p, err := stop.Probe(t.Context(), task); p != engine.CanNotTell || err == nil {
			t.Errorf("probe: %v, %v; want CanNotTell", p, err)
		}
	})
}

// What was off already, or has moved away with or without its definition, is not
// started: it may run elsewhere, on the same disks.
func TestVMsThatWereNotStoppedAreNotStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVMWorld(guests.VMRunning, "a", "off", "moved")
		w.vms[1].State, w.vms[2].State = guests.VMOff, guests.VMOff
		dir := filepath.Join(t.TempDir(), "vms")
		task, heard := enginetest.Task(t, "vm-stop", vmGuests("a", "off", "moved", "away"))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		// A crash has left one that was never put in place.
		if err := os.WriteFile(filepath.Join(dir, ".uuid-off.holdfast"),
			[]byte(`{"job":"up-1","name":"off","uuid":"uuid-off"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		stop, start := &VMStop{Host: w, Dir: dir}, &VMStart{Host: w, Dir: dir}
		noted := 0
		w.asked = func(uuid string) {
			notes, err := vmReadNotes(dir, task.Job)
			if _, ok := notes.of(upgrade.Guest{UUID: uuid}); err == nil && ok {
				noted++
			}
		}
		if err := stop.Do(t.Context(), task); err != nil || w.states() != "a off, off off, moved off" || noted != 1 {
			t.Errorf("%s, %d noted before they were asked: %v", w.states(), noted, err)
		}
		task.Attempt = 2
		if err := stop.Do(t.Context(), task); err != nil { // keeps the note of a
			t.Error(err)
		}
		enginetest.Probed(t, stop, task, engine.ProbedDone)
		enginetest.Probed(t, start, task, engine.NotDone)
		if err := start.Do(t.Context(), task); err != nil || w.states() != "a running, off off, moved off" {
			t.Errorf("%s: %v; want that only a is started", w.states(), err)
		}
		for _, n := range []string{"off", "moved", "away"} {
			enginetest.Has(t, "log", heard.Log(), n+": was not stopped by this run")
		}
		enginetest.Probed(t, start, task, engine.ProbedDone)
	})
}

func TestVMNoteThatCanNotBeReadIsNoAnswer(t *testing.T) {
	w := newVMWorld(guests.VMRunning, "a")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "uuid-a"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	task, _ := enginetest.Task(t, "vm-start", vmGuests("a"))
	stop, start := &VMStop{Host: w, Dir: dir}, &VMStart{Host: w, Dir: dir}
	for _, err := range []error{stop.Do(t.Context(), task), start.Do(t.Context(), task), second(start.Probe(t.Context(), task))} {
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "uuid-a")) {
			t.Errorf("%v, want that the note can not be read", err)
		}
	}
}

// The protected guest is asked off only when it runs, and asked on only then too.
func TestVMThatIsProtectedAndOff(t *testing.T) {
	args := upgrade.VMArgs{Guests: []upgrade.Guest{{Name: "mgmt", UUID: "uuid-mgmt", Protected: true}}}
	for name, x := range map[string]struct {
		answers func(since time.Duration) (bool, error)
		asked   int // by both steps
		fails   string
	}{
		"off":   {answers: func(time.Duration) (bool, error) { return false, nil }},
		"never": {answers: func(time.Duration) (bool, error) { return false, errors.New("no answer") }, fails: "not known whether it runs"},
		"later": {asked: 2, answers: func(since time.Duration) (bool, error) {
			if since < 10*time.Second {
				return false, errors.New("no answer")
			}
			return true, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, asked := time.Now(), 0
				var is *bool // since it was asked
				power := VMPower{
					Power: func(_ context.Context, run bool) error { asked, is = asked+1, &run; return nil },
					Powered: func(context.Context) (bool, error) {
						if is != nil {
							return *is, nil
						}
						return x.answers(time.Since(began))
					},
				}
				w, dir := newVMWorld(guests.VMRunning), t.TempDir()
				stop, start := &VMStop{Host: w, Dir: dir, Mgmt: power}, &VMStart{Host: w, Dir: dir, Mgmt: power}
				task, _ := enginetest.Task(t, "vm-stop", args)
				err := stop.Do(t.Context(), task)
				if (err != nil) != (x.fails != "") || err != nil && !strings.Contains(err.Error(), x.fails) {
					t.Errorf("%v, want %q", err, x.fails)
				}
				if err := start.Do(t.Context(), task); err != nil || asked != x.asked {
					t.Errorf("asked %d times, want %d: %v", asked, x.asked, err)
				}
				enginetest.Probed(t, start, task, engine.ProbedDone)
			})
		})
	}
}
