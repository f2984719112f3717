package proctable

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStatReadsANameWithBlanksAndParentheses(t *testing.T) {
	line := "4711 (a) b (c) T 12 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2"
	p, err := parseStat([]byte(line))
	want := Proc{PID: 4711, PPID: 12, State: 'T', Started: 987654}
	if err != nil || p != want {
		t.Fatalf("got %+v, %v; want %+v", p, err, want)
	}
	if !p.Stopped() || p.Dead() {
		t.Errorf("state T: stopped %v, dead %v", p.Stopped(), p.Dead())
	}
}

func TestParseStatRefusesWhatIsNotOne(t *testing.T) {
	for _, line := range []string{"", "1 sh S 1", "1 (sh) S 1 2", "x (sh) S 1 1 1 0 -1 1 1 2 3 4 5 6 7 8 20 0 1 0 9", ") 1 ("} {
		if p, err := parseStat([]byte(line)); err == nil {
			t.Errorf("%q: got %+v, want an error", line, p)
		}
	}
}

func TestReadFindsThisProcessAndItsParent(t *testing.T) {
	p, err := Read(os.Getpid())
	if err != nil || p.PPID != os.Getppid() || p.Dead() || p.Kernel || p.Started == 0 {
		t.Fatalf("got %+v, %v", p, err)
	}
	img, err := ReadImage(os.Getpid())
	if err != nil || img.Args[0] != os.Args[0] {
		t.Fatalf("got %+v, %v", img.Args, err)
	}
}

func TestHandleSeesTheEndOfAProcessAndReapsIt(t *testing.T) {
	h := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := h.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("wait for a living process: %v", err)
	}
	if err := h.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := h.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if p, err := Read(h.Proc().PID); err != nil || !p.Dead() {
		t.Fatalf("before it is collected: %+v, %v", p, err)
	}
	for range 2 { // the second time there is nothing to collect
		if err := h.Reap(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Read(h.Proc().PID); !errors.Is(err, ErrGone) {
		t.Fatalf("after it was collected: %v", err)
	}
	if err := h.Signal(unix.SIGTERM); !errors.Is(err, ErrGone) {
		t.Fatalf("signal to a process that is gone: %v", err)
	}
	if _, err := Open(h.Proc()); !errors.Is(err, ErrGone) {
		t.Fatalf("open of a process that is gone: %v", err)
	}
}

func TestOpenRefusesAnotherProcessWithTheSamePid(t *testing.T) {
	p := start(t).Proc()
	p.Started--
	if _, err := Open(p); !errors.Is(err, ErrGone) {
		t.Fatalf("got %v, want ErrGone", err)
	}
}

func TestCloseEndsAWait(t *testing.T) {
	h := start(t)
	done := make(chan error, 1)
	go func() { done <- h.Wait(t.Context()) }()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err == nil {
			t.Fatal("wait returned nil although the process lives")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("wait goes on after close")
	}
}

func start(t *testing.T) *Handle {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test may have ended and collected it already.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p, err := Read(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() }) // a second close says so
	return h
}
