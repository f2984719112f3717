package storage

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/testbed/try"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("PROBE_DIR"); dir != "" {
		if err := Serve(os.Stdin, os.Stdout, dir, "h1"); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func run(t *testing.T, o Options) *Prober {
	t.Helper()
	p := New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return p
}

// child lets a process check.
func child(o Options, argv ...string) Options {
	c := NewChild(argv...)
	o.Check, o.End = c.Check, c.End
	return o
}

func until(t *testing.T, p *Prober, what string, ok func(State) bool) {
	t.Helper()
	try.Until(t, what, func() bool { return ok(p.State()) })
}

func TestAStorageThatAnswersWellIsWell(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PROBE_DIR", dir)
	p := run(t, child(Options{Interval: time.Millisecond, Timeout: 10 * time.Second}, os.Args[0]))
	until(t, p, "the probe's file", func(State) bool {
		b, err := os.ReadFile(filepath.Join(dir, ".holdfast-probe-h1"))
		return err == nil && len(b) > 10
	})
	until(t, p, "well", func(s State) bool { return s == State{} })
}

func TestAnErrorOfTheStorageIsTold(t *testing.T) {
	t.Setenv("PROBE_DIR", "/nonexistent/shared")
	p := run(t, child(Options{Interval: time.Millisecond, Timeout: 10 * time.Second}, os.Args[0]))
	until(t, p, "the error", func(s State) bool { return !s.Hangs && strings.Contains(s.Why, "no such file") })
}

// A FIFO that nobody reads blocks its writer as a dead server does.
func TestAStorageThatHangsIsSaidToHangUntilItAnswers(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := run(t, child(Options{What: "the fifo", Interval: time.Millisecond, Timeout: 500 * time.Millisecond}, "/bin/sh",
		"-c", "echo x >"+fifo))
	until(t, p, "hangs", func(s State) bool { return s.Hangs && strings.HasPrefix(s.Why, "the fifo has not answered since ") })
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	until(t, p, "well again", func(s State) bool { return s == State{} })
}

func TestAProbeThatDoesNotStartIsTold(t *testing.T) {
	p := run(t, child(Options{Interval: time.Millisecond, Timeout: time.Second}, "/nonexistent/probe"))
	until(t, p, "the error", func(s State) bool { return strings.Contains(s.Why, "does not start") })
}

// The process stays from check to check: one that has ended between two of them is replaced without a word, one that
// is killed in the midst of a check is not there for the next one, and none is left.
func TestTheProcessOfAProbe(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PROBE_DIR", dir)
	c := NewChild(os.Args[0])
	check := func() int {
		t.Helper()
		if err := c.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c.runs.cmd.Process.Pid
	}
	first := check()
	file := filepath.Join(dir, ".holdfast-probe-h1")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if again := check(); again != first {
		t.Errorf("process %d, then %d", first, again)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("it has not looked again: %v", err)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := check()
	if second == first {
		t.Errorf("process %d was killed, and answers", first)
	}
	// What it has to write to does not answer.
	if err := errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fifo.Write(make([]byte, 64<<10)); err != nil { // it is full
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.Check(ctx); !errors.Is(err, context.DeadlineExceeded) || c.runs != nil {
		t.Errorf("%v, and it stays: %v", err, c.runs != nil)
	}
	if err := errors.Join(fifo.Close(), os.Remove(file)); err != nil {
		t.Fatal(err)
	}
	third := check()
	if err := c.End(); err != nil {
		t.Error(err)
	}
	for _, pid := range []int{second, third} {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	if err := c.Check(t.Context()); err == nil {
		t.Error("it goes on after its end")
	}
}

// The process of an earlier version looks once, and ends. One of this version, which an agent of an earlier version
// starts, does the same: nobody asks it again.
func TestTheProcessOfAnEarlierVersion(t *testing.T) {
	c := NewChild("/bin/sh", "-c", "exit 0")
	for range 2 {
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := NewChild("/bin/sh", "-c", "echo it is full >&2; exit 1").Check(t.Context()); err == nil ||
		err.Error() != "exit status 1: it is full" {
		t.Error(err)
	}
	for dir, well := range map[string]bool{t.TempDir(): true, "/nonexistent/shared": false} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PROBE_DIR="+dir)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Run(); (err == nil) != well || strings.Contains(said.String(), "no such file") == well {
			t.Errorf("%s: %v, %s", dir, err, said.String())
		}
	}
}

// server answers each check with what lies in its channel, and hangs while
// nothing does.
type server chan error

func (s server) check(ctx context.Context) error {
	select {
	case err := <-s:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestWhenAStorageHangsAndWhenItIsWellAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := make(server, 1)
		p := run(t, Options{What: "it", Check: s.check, Interval: 5 * time.Second, Timeout: 10 * time.Second})
		at := func(after time.Duration, hangs bool, why string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := p.State(); got.Hangs != hangs || !strings.Contains(got.Why, why) || (why == "") != (got.Why == "") {
				t.Errorf("%+v, want hangs %v, %q", got, hangs, why)
			}
		}
		since := time.Now()
		silent := func() string { return "it has not answered since " + since.Format(time.TimeOnly) }
		at(9999*time.Millisecond, false, "")
		at(time.Millisecond, true, silent())
		at(25*time.Second, true, silent()) // the third check is under way: still since the first
		s <- nil
		at(0, false, "")
		s <- errors.New("refused")
		at(4999*time.Millisecond, false, "")
		at(time.Millisecond, false, "refused") // an answer, though not a good one
		since = time.Now().Add(5 * time.Second)
		at(14999*time.Millisecond, false, "refused")
		at(time.Millisecond, true, silent())
		s <- errors.New("refused")
		at(0, false, "refused")
		if got := p.Recovers(); got != 15*time.Second {
			t.Errorf("recovers within %s", got)
		}
	})
}

// TestACheckThatCanNotBeEnded: no other one begins beside it, and it does not
// hold up the end of the Prober.
func TestACheckThatCanNotBeEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began atomic.Int32
		free := make(chan error)
		p := New(Options{What: "it", Interval: time.Second, Timeout: 10 * time.Second, Check: func(context.Context) error {
			began.Add(1)
			return <-free
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if began.Load() != 1 || !p.State().Hangs {
			t.Errorf("%d checks began, %+v: want one, which hangs", began.Load(), p.State())
		}
		free <- nil // an answer after the timeout is none
		synctest.Wait()
		if began.Load() != 2 || !p.State().Hangs {
			t.Errorf("%d checks began, %+v: want a second one", began.Load(), p.State())
		}
		free <- nil
		synctest.Wait()
		if p.State() != (State{}) {
			t.Errorf("%+v, want it well", p.State())
		}
		time.Sleep(2 * time.Second)
		cancel()
		at := time.Now()
		<-done
		if took := time.Since(at); took != leaveAfter {
			t.Errorf("ended after %s, want %s", took, leaveAfter)
		}
		if began.Load() != 3 {
			t.Errorf("%d checks began, want three", began.Load())
		}
		close(free)
	})
}

// The deadline of a connection is of the same moment as that of its context, and
// another timer: the error may come first.
func TestAnErrorAtTheEndOfTheTimeIsNoAnswer(t *testing.T) {
	check := func(ctx context.Context) error {
		end, _ := ctx.Deadline()
		for time.Now().Before(end) { // as early as can be
		}
		return os.ErrDeadlineExceeded
	}
	p := New(Options{What: "the export", Check: check, Timeout: time.Millisecond})
	for range 200 {
		if p.once(t.Context()) || !p.State().Hangs {
			t.Fatalf("%+v: want a storage that hangs", p.State())
		}
	}
}
