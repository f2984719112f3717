package e2e

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/lab"
)

// onLab runs a test, or one run of a drill, on the laboratory of a kind. When it fails, and the
// console of a guest proves that the emulator was damaged (lab.EmulatorFailed), that run tells nothing of us: it does not
// count, and the test says so with the proof, for whoever counts tests (tools/runtests). This is the only place
// where that is decided, and every test that needs a guest goes through it.
func onLab(t *testing.T, k kind, body func(t testing.TB, r *rig)) {
	t.Helper()
	needLab(t)
	judge(t, func(x *trial) { body(x, readyOn(x, k)) })
}

// judge is onLab for a test that makes its laboratory itself.
func judge(t *testing.T, run func(*trial)) {
	t.Helper()
	x := tryOnce(t, run)
	switch {
	case x.failed && x.emulator != "":
		t.Attr("verdict", "damaged: "+strings.Join(strings.Fields(x.emulator), " "))
		if err := takeDown(); err != nil {
			t.Fatal(err)
		}
		t.Skip("the emulator was damaged: ", x.emulator)
	case x.failed:
		if theRig != nil { // it may be gone
			theRig.failed = true
			theRig.mend(t)
		}
		t.FailNow()
	case x.skipped:
		t.SkipNow()
	}
}

// tryOnce is one run.
func tryOnce(t *testing.T, run func(*trial)) *trial {
	t.Helper()
	x := &trial{TB: t}
	var cancel context.CancelFunc
	x.ctx, cancel = context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { // FailNow ends the goroutine that calls it
		defer close(ended)
		defer x.clean()
		defer cancel() // as the context of a test: before its clean-up
		defer x.explain()
		run(x)
	}()
	<-ended
	return x
}

// trial is what a test is given in place of its *testing.T: that it failed is noted, and
// told to the test when it is known whose failure it was.
type trial struct {
	testing.TB
	ctx context.Context

	mu       sync.Mutex
	failed   bool
	skipped  bool
	said     strings.Builder // by Error and Fatal
	cleanups []func()

	emulator string // what a guest's kernel said of the emulator, when the trial has failed
}

func (x *trial) Context() context.Context { return x.ctx }

// Deadline is that of the test.
func (x *trial) Deadline() (at time.Time, ok bool) {
	if d, is := x.TB.(interface{ Deadline() (time.Time, bool) }); is {
		return d.Deadline()
	}
	return at, false
}

func (x *trial) Cleanup(f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cleanups = append(x.cleanups, f)
}

// clean runs what Cleanup was given, the last one first.
func (x *trial) clean() {
	f := x.lastCleanup()
	if f == nil {
		return
	}
	defer x.clean() // also when f ends the goroutine
	f()
}

func (x *trial) lastCleanup() (f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := len(x.cleanups); n > 0 {
		f, x.cleanups = x.cleanups[n-1], x.cleanups[:n-1]
	}
	return f
}

func (x *trial) Fail() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.failed = true
}

func (x *trial) Failed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.failed
}

func (x *trial) FailNow() {
	x.Fail()
	runtime.Goexit()
}

func (x *trial) Error(args ...any) {
	x.TB.Helper()
	x.TB.Log(args...)
	x.note(fmt.Sprintln(args...))
}

func (x *trial) Errorf(format string, args ...any) {
	x.TB.Helper()
	x.TB.Logf(format, args...)
	x.note(fmt.Sprintf(format, args...))
}

func (x *trial) Fatal(args ...any) {
	x.TB.Helper()
	x.Error(args...)
	runtime.Goexit()
}

func (x *trial) Fatalf(format string, args ...any) {
	x.TB.Helper()
	x.Errorf(format, args...)
	runtime.Goexit()
}

// note keeps what a failure said.
func (x *trial) note(text string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.failed = true
	x.said.WriteString(text)
}

func (x *trial) Skip(args ...any) {
	x.TB.Helper()
	x.TB.Log(args...)
	x.SkipNow()
}

func (x *trial) Skipf(format string, args ...any) {
	x.TB.Helper()
	x.TB.Logf(format, args...)
	x.SkipNow()
}

func (x *trial) SkipNow() {
	x.mu.Lock()
	x.skipped = true
	x.mu.Unlock()
	runtime.Goexit()
}

// explain looks at the guests of a trial that has failed, before anything is mended: whether
// the emulator has failed one, what their consoles say, and what QEMU does.
func (x *trial) explain() {
	r := theRig
	if r == nil { // it was not made: the error has the guests' last words
		x.emulator = lab.EmulatorFailed([]byte(x.said.String()))
		return
	}
	if x.Failed() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		guest, said, err := r.emulatorFailed(r.judged)
		if err != nil {
			x.Logf("the guests' consoles: %v", err)
		}
		guests := []string{guest}
		if x.emulator = said; said == "" {
			guests = r.silent(ctx)
		}
		if len(guests) > 0 {
			x.Logf("the guests that have failed, or do not answer: %v\n%s%s", guests, r.lab.LastWords(guests...), r.lab.Autopsy(ctx))
		}
	}
	r.judged = r.consoles(x.TB)
}

// damaged reports whether a run that has failed tells nothing of us, so that its logs need
// not be kept.
func damaged(t testing.TB) bool {
	x, ok := t.(*trial)
	return ok && x.emulator != ""
}

// consoles are the lengths of what the guests have written to their consoles, by file.
func (r *rig) consoles(t testing.TB) map[string]int64 {
	t.Helper()
	all, err := r.lab.Consoles()
	if err != nil {
		t.Logf("the guests' consoles: %v", err)
	}
	sizes := map[string]int64{}
	for _, c := range all {
		sizes[c.File] = c.Size
	}
	return sizes
}

// emulatorFailed looks for a guest whose kernel has told of a failure of the emulator after these lengths of the consoles.
func (r *rig) emulatorFailed(since map[string]int64) (guest, said string, err error) {
	all, err := r.lab.Consoles()
	for _, c := range all {
		text, rerr := c.Since(since[c.File])
		err = errors.Join(err, rerr)
		if said := lab.EmulatorFailed(text); said != "" {
			return c.Guest(), fmt.Sprintf("%s on %s: %s", c.Guest(), c.Host, said), nil
		}
	}
	return "", "", err
}

// silent names the guests that run and do not answer.
func (r *rig) silent(ctx context.Context) (names []string) {
	if _, err := r.lab.Ask(ctx); err != nil {
		names = append(names, cluster.GuestName)
	}
	vms, err := r.lab.Guests(ctx)
	if err != nil {
		return names
	}
	for _, vm := range vms {
		if _, err := r.lab.AskVM(ctx, vm.Name); err != nil && vm.Host != "" {
			names = append(names, vm.Name)
		}
	}
	return names
}

// TestATrialKeepsItsFailures: they are not the test's, and what a guest's kernel said of the
// emulator is found in them when no laboratory stands.
func TestATrialKeepsItsFailures(t *testing.T) {
	if err := takeDown(); err != nil {
		t.Fatal(err)
	}
	var order []string
	x := tryOnce(t, func(x *trial) {
		x.Cleanup(func() { order = append(order, "first", fmt.Sprint(x.Context().Err())) })
		x.Cleanup(func() {
			order = append(order, "second")
			x.FailNow() // the other one is run all the same
		})
		x.Fatalf("vm1 does not answer: %s", "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!")
		order = append(order, "not reached")
	})
	if !x.failed || x.skipped || !strings.HasSuffix(x.emulator, "stuck for 26s!") ||
		strings.Join(order, ", ") != "second, first, context canceled" {
		t.Errorf("failed %t, skipped %t, of the emulator: %q, order %q", x.failed, x.skipped, x.emulator, order)
	}
	if x = tryOnce(t, func(x *trial) { x.Errorf("ours") }); !x.failed || x.emulator != "" {
		t.Errorf("failed %t, of the emulator: %q", x.failed, x.emulator)
	}
	if x = tryOnce(t, func(x *trial) { x.Skip("not here") }); x.failed || !x.skipped {
		t.Errorf("failed %t, skipped %t", x.failed, x.skipped)
	}
	if x = tryOnce(t, func(*trial) {}); x.failed || x.skipped {
		t.Errorf("failed %t, skipped %t", x.failed, x.skipped)
	}
}
