package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStatReadsANameWithBlanksAndParentheses(t *testing.T) {
	line := "4711 ((a) b (c) T 12 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2"
	p, err := parseStat([]byte(line))
	want := Proc{ID: ID{4711, 987654}, PPID: 12, Session: 4711, Threads: 1, Name: "(a) b (c", State: 'T'}
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
	p, err := Here.Read(os.Getpid())
	if err != nil || p.PPID != os.Getppid() || p.Dead() || p.Kernel || p.Started == 0 {
		t.Fatalf("got %+v, %v", p, err)
	}
	img, err := Here.ReadImage(os.Getpid())
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
	if p, err := Here.Read(h.id.PID); err != nil || !p.Dead() {
		t.Fatalf("before it is collected: %+v, %v", p, err)
	}
	for range 2 { // the second time there is nothing to collect
		if err := h.Reap(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Here.Read(h.id.PID); !errors.Is(err, ErrGone) {
		t.Fatalf("after it was collected: %v", err)
	}
	if err := h.Signal(unix.SIGTERM); !errors.Is(err, ErrGone) {
		t.Fatalf("signal to a process that is gone: %v", err)
	}
	if _, err := Here.Open(h.id); !errors.Is(err, ErrGone) {
		t.Fatalf("open of a process that is gone: %v", err)
	}
}

func TestOpenRefusesAnotherProcessWithTheSamePid(t *testing.T) {
	id := start(t).id
	id.Started--
	if _, err := Here.Open(id); !errors.Is(err, ErrGone) {
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
	p, err := Here.Read(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Here.Open(p.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() }) // a second close says so
	return h
}

// fixture makes a process table with one process, whose threads are in these states.
func fixture(t *testing.T, states string) Table {
	t.Helper()
	dir := t.TempDir()
	for i, state := range states {
		text := fmt.Sprintf("%d (qemu) %c 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 %d 0 %d 1", 40+i, state, len(states), 77+i)
		at := []string{filepath.Join(dir, "40/task", strconv.Itoa(40+i))}
		if i == 0 {
			at = append(at, filepath.Join(dir, "40"))
		}
		for _, d := range at {
			line := ""
			if state != 'Z' {
				line = fmt.Sprintf("qemu\x00-%c\x00\x00", state)
			}
			if err := errors.Join(os.MkdirAll(d, 0o700), os.WriteFile(filepath.Join(d, "stat"), []byte(text), 0o600),
				os.WriteFile(filepath.Join(d, "cmdline"), []byte(line), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return Table(dir)
}

func TestAProcessLivesAsLongAsOneOfItsThreads(t *testing.T) {
	for states, want := range map[string]struct {
		alive bool
		args  string
	}{
		"S": {true, `["qemu" "-S" ""]`}, "SD": {true, `["qemu" "-S" ""]`}, "Z": {false, "[]"}, "X": {false, `["qemu" "-X" ""]`},
		"ZD": {true, `["qemu" "-D" ""]`}, "ZZ": {false, "[]"}, "ZZS": {true, `["qemu" "-S" ""]`},
	} {
		table := fixture(t, states)
		if alive, err := table.Alive(ID{40, 77}); alive != want.alive || err != nil {
			t.Errorf("%s: alive %v, %v", states, alive, err)
		}
		if args, err := table.Args(40); fmt.Sprintf("%q", args) != want.args || err != nil {
			t.Errorf("%s: %q, %v; want %s", states, args, err, want.args)
		}
		for _, id := range []ID{{40, 78}, {41, 77}} {
			if alive, err := table.Alive(id); alive || err != nil {
				t.Errorf("%s: another one lives: %v, %v", states, alive, err)
			}
		}
	}
}

func TestWhatCanNotBeReadIsNoAnswer(t *testing.T) {
	for _, file := range []string{"stat", "task/41/stat", "task"} {
		table := fixture(t, "ZZ")
		path := filepath.Join(string(table), "40", file)
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte("40 (qemu S"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if alive, err := table.Alive(ID{40, 77}); err == nil {
			t.Errorf("%s: alive %v and no error", file, alive)
		}
	}
	if pids, err := Table(t.TempDir() + "/none").PIDs(); err == nil {
		t.Errorf("no table: %v and no error", pids)
	}
}

func TestKillProvesTheEnd(t *testing.T) {
	h := start(t)
	if err := Here.Kill(t.Context(), ID{h.id.PID, h.id.Started - 1}); err != nil {
		t.Errorf("of an earlier process with that pid: %v", err)
	}
	if alive, err := Here.Alive(h.id); !alive || err != nil {
		t.Fatalf("another one was killed: %v, %v", alive, err)
	}
	if err := Here.Signal(h.id, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is gone
		if err := Here.Kill(t.Context(), h.id); err != nil {
			t.Fatal(err)
		}
		if alive, err := Here.Alive(h.id); alive || err != nil {
			t.Errorf("after the kill: %v, %v", alive, err)
		}
	}
}

func TestAHandleThatNobodyAsksIsClosed(t *testing.T) {
	h := start(t)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Wait(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("wait after close: %v", err)
	}
}

func TestTheListHasThisProcessAndWhatItHasOpen(t *testing.T) {
	pids, err := Here.PIDs()
	if err != nil || !slices.Contains(pids, os.Getpid()) || !slices.IsSorted(pids) {
		t.Errorf("%v, %v", pids, err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, want := range map[string]bool{f.Name(): true, f.Name() + "x": false} {
		if has, err := Here.HasOpen(os.Getpid(), name); has != want || err != nil {
			t.Errorf("%s: %v, %v", name, has, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("4711 ((a) b (c) T 12 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2"))
	f.Add([]byte(") 1 ("))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := parseStat(data); err != nil && p != (Proc{}) {
			t.Errorf("%+v with %v", p, err)
		}
	})
}
