package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc"
	"holdfast/testbed/try"
)

// The test binary plays the parts of the child and of the agent too.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "part" {
		os.Exit(part(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

func part(name string, args []string) int {
	// A test that died must not leave this behind for ever.
	limit := time.After(20 * time.Minute)
	switch name {
	case "fail":
		fmt.Println("about to fail")
		return 3
	case "obedient":
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGTERM)
		select {
		case <-c:
		case <-limit:
		}
		return 0
	case "stubborn":
		signal.Ignore(unix.SIGTERM)
		fmt.Println("deaf")
		<-limit
		return 0
	case "agent":
		var s Spec
		if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		s.Log = slog.New(slog.DiscardHandler)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
		defer cancel()
		if err := Run(ctx, s); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	return 2
}

// newSpec is a spec for a child that plays a part; whatever runs at the end of
// the test is stopped.
func newSpec(t *testing.T, partName string) Spec {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := Spec{Name: "child", Exe: exe, Args: []string{"part", partName}, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { mustStop(t, s) })
	return s
}

func mustStop(t *testing.T, s Spec) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := Stop(ctx, s.Dir, s.Name); err != nil {
		t.Errorf("stop: %v", err)
	}
	if got := state(t, s); got.PID != 0 {
		t.Errorf("after stop: %+v", got)
	}
}

func state(t *testing.T, s Spec) State {
	t.Helper()
	got, err := Read(s.Dir, s.Name)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// keep runs Keep until the returned function is called.
func keep(t *testing.T, s Spec) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, s) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("keep: %v", err)
		}
	}
	t.Cleanup(end)
	return end
}

// await polls until the state is as wanted.
func await(t *testing.T, s Spec, what string, ok func(State) bool) State {
	t.Helper()
	var got State
	try.Until(t, what, func() bool { got = state(t, s); return ok(got) })
	return got
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func running(s State) bool { return s.PID != 0 }

func TestKeepLeavesChildAndAdoptsIt(t *testing.T) {
	s := newSpec(t, "obedient")
	end := keep(t, s)
	first := await(t, s, "start", running)
	if sid, err := unix.Getsid(first.PID); err != nil || sid != first.PID {
		t.Errorf("session %d of child %d, %v", sid, first.PID, err)
	}
	end()
	if got := state(t, s); got.PID != first.PID {
		t.Fatalf("child did not outlive its keeper: %+v", got)
	}
	var log syncBuffer
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	end = keep(t, s)
	await(t, s, "adoption", func(State) bool { return strings.Contains(log.String(), "child adopted") })
	// Its end is seen and it is started again.
	if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := await(t, s, "restart", func(s State) bool { return s.PID != 0 && s.PID != first.PID })
	if second.Restarts != 1 || second.LastExit == "" || second.LastExitAt.IsZero() {
		t.Errorf("got %+v", second)
	}
	end()
	mustStop(t, s)
	if got := state(t, s); got.LastExit != "ended by Stop" {
		t.Errorf("got %+v", got)
	}
}

func TestEndWhileNotKept(t *testing.T) {
	s := newSpec(t, "obedient")
	end := keep(t, s)
	first := await(t, s, "start", running)
	end()
	if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, s, "end", func(s State) bool { return s.PID == 0 })
	keep(t, s)
	second := await(t, s, "start", running)
	if second.Restarts != 1 || second.LastExit == "" {
		t.Errorf("got %+v", second)
	}
}

func TestRestartOfOwnChild(t *testing.T) {
	s := newSpec(t, "obedient")
	keep(t, s)
	first := await(t, s, "start", running)
	if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := await(t, s, "restart", func(s State) bool { return s.PID != 0 && s.PID != first.PID })
	if second.LastExit != "signal: killed" {
		t.Errorf("got %+v", second)
	}
}

func TestFailingChildIsStartedAgainWithPauses(t *testing.T) {
	s := newSpec(t, "fail")
	began := time.Now()
	end := keep(t, s)
	got := await(t, s, "three ends", func(s State) bool { return s.Restarts >= 3 })
	end()
	if got.LastExit != "exit status 3" {
		t.Errorf("got %+v", got)
	}
	// 100 ms and 200 ms lie between three ends.
	if d := time.Since(began); d < 300*time.Millisecond {
		t.Errorf("three ends within %s", d)
	}
	out, err := os.ReadFile(filepath.Join(s.Dir, "child.log"))
	if err != nil || !strings.Contains(string(out), "about to fail") {
		t.Errorf("log %q, %v", out, err)
	}
}

func TestMissingProgramIsTriedAgain(t *testing.T) {
	s := newSpec(t, "obedient")
	exe := s.Exe
	s.Exe = filepath.Join(t.TempDir(), "program")
	keep(t, s)
	if err := os.Symlink(exe, s.Exe); err != nil {
		t.Fatal(err)
	}
	await(t, s, "start", running)
}

// startAgent runs Keep in a process of its own.
func startAgent(t *testing.T, s Spec) *exec.Cmd {
	t.Helper()
	s.Log = nil
	arg, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.Exe, "part", "agent", string(arg))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(t, cmd) })
	return cmd
}

// kill ends an agent as kill -9 does; once more does no harm.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if cmd.ProcessState != nil {
		return
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("kill agent: %v", err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("agent ended by itself")
	}
}

func TestAgentKilled(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("record lost %v", lost), func(t *testing.T) {
			s := newSpec(t, "obedient")
			agent := startAgent(t, s)
			first := await(t, s, "start", running)
			if err := Run(t.Context(), s); !errors.Is(err, ErrKept) {
				t.Fatalf("second keeper: %v", err)
			}
			if err := Stop(t.Context(), s.Dir, s.Name); !errors.Is(err, ErrKept) {
				t.Fatalf("stop while kept: %v", err)
			}
			kill(t, agent)
			if lost {
				// As if the agent was killed between the start and the record of it.
				if err := os.Remove(recordFile(s.Dir, s.Name)); err != nil {
					t.Fatal(err)
				}
			}
			startAgent(t, s)
			second := await(t, s, "adoption", running)
			if second.PID != first.PID {
				t.Errorf("started %d beside the living child %d", second.PID, first.PID)
			}
		})
		// The agent of the subtest is killed by its cleanup before Stop runs: cleanups
		// run in reverse order.
	}
}

func TestAdoptsChildWithOtherArguments(t *testing.T) {
	s := newSpec(t, "obedient")
	end := keep(t, s)
	first := await(t, s, "start", running)
	end()
	var log strings.Builder
	changed := s
	changed.Args = append([]string{}, append(s.Args, "more")...)
	changed.Log = slog.New(slog.NewTextHandler(&log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, changed); err != nil {
		t.Fatal(err)
	}
	if got := state(t, s); got.PID != first.PID {
		t.Errorf("child %d replaced: %+v", first.PID, got)
	}
	if !strings.Contains(log.String(), "other arguments") {
		t.Errorf("no warning: %s", log.String())
	}
}

func TestOtherProcessIsNotAdopted(t *testing.T) {
	s := newSpec(t, "obedient")
	own, err := identOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	args, err := proc.Here.Args(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// The record of a child whose id this process has got since.
	for name, alter := range map[string]func(*record){
		"start": func(r *record) { r.Start++ },
		"boot":  func(r *record) { r.Boot = "another" },
		"args":  func(r *record) { r.Args = append(r.Args, "x") },
	} {
		rec := record{ident: own, Args: append([]string{}, args...)}
		if _, ok, err := fromRecord(rec); !ok || err != nil {
			t.Fatalf("unaltered record: %v, %v", ok, err)
		}
		alter(&rec)
		if err := writeRecord(s.Dir, s.Name, rec); err != nil {
			t.Fatal(err)
		}
		if got := state(t, s); got.PID != 0 {
			t.Errorf("%s: got %+v", name, got)
		}
		// It would end this test.
		if err := Stop(t.Context(), s.Dir, s.Name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStopKillsTheStubborn(t *testing.T) {
	s := newSpec(t, "stubborn")
	end := keep(t, s)
	await(t, s, "deafness", func(st State) bool {
		out, err := os.ReadFile(filepath.Join(s.Dir, "child.log"))
		return st.PID != 0 && err == nil && strings.Contains(string(out), "deaf")
	})
	end()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := Stop(ctx, s.Dir, s.Name); err != nil {
		t.Fatal(err)
	}
	if got := state(t, s); got.PID != 0 || got.LastExit != "killed by Stop" {
		t.Errorf("got %+v", got)
	}
}

func TestStopOfNothing(t *testing.T) {
	if err := Stop(t.Context(), filepath.Join(t.TempDir(), "absent"), "child"); err != nil {
		t.Error(err)
	}
}

func TestChildInheritsNothing(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Without close-on-exec, as a library in C or the parent would leave it.
	fd, err := unix.Open(secret, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("HOLDFAST_TEST_SECRET", "1")
	s := newSpec(t, "obedient")
	s.Env = []string{"GIVEN=1"}
	keep(t, s)
	st := await(t, s, "start", running)
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", st.PID))
	if err != nil {
		t.Fatal(err)
	}
	if e := string(env); strings.Contains(e, "SECRET") || !strings.Contains(e, "GIVEN=1\x00") {
		t.Errorf("environment %q", e)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", st.PID))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, f := range fds {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", st.PID, f.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		seen[f.Name()] = target
		if target == secret || strings.HasSuffix(target, ".lock") {
			t.Errorf("child has %s open", target)
		}
	}
	log := filepath.Join(s.Dir, "child.log")
	if seen["0"] != os.DevNull || seen["1"] != log || seen["2"] != log {
		t.Errorf("child's files: %v", seen)
	}
}

func TestLongLogIsPutAside(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "child.log")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, maxLog+1); err != nil {
		t.Fatal(err)
	}
	f, err := openLog(dir, "child")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err != nil || end != 0 {
		t.Errorf("log begins at %d, %v", end, err)
	}
	if info, err := os.Stat(file + ".1"); err != nil || info.Size() != maxLog+1 {
		t.Errorf("old log: %v, %v", info, err)
	}
}

func TestBadSpec(t *testing.T) {
	good := newSpec(t, "obedient")
	for name, alter := range map[string]func(*Spec){
		"name":  func(s *Spec) { s.Name = "a/b" },
		"empty": func(s *Spec) { s.Name = "" },
		"exe":   func(s *Spec) { s.Exe = "sh" },
		"dir":   func(s *Spec) { s.Dir = "x" },
		"log":   func(s *Spec) { s.Log = nil },
	} {
		s := good
		alter(&s)
		if err := Run(t.Context(), s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
