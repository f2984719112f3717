package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestRealVMs drives libvirt and QEMU on the laboratory's hosts.
func TestRealVMs(t *testing.T) {
	need.Drill(t, "P1: the demo with a real VM recovers from a loss of power with a proof, and leaves nothing, also "+
		"after a signal", func() error { return lookAround().refuse() })
	dir := t.TempDir()
	self := filepath.Join(dir, "holdfast-lab")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir, "holdfast/cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs that the hosts run: %v: %s", err, out)
	}
	t.Run("recover from a power loss", func(t *testing.T) { recoversForReal(t, self) })
	t.Run("leave nothing after a signal", func(t *testing.T) { endsForReal(t, self) })
}

// leavesNothing fails when the demo whose files are in dir has left some, or a
// process that names them. Other laboratories may live beside it.
func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); dir == "" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory %q: %v, want none", dir, err)
	}
	mounts := must[[]byte](t)(os.ReadFile("/proc/self/mountinfo"))
	if bytes.Contains(mounts, []byte(dir)) {
		t.Errorf("a mount of %s is left", dir)
	}
	for pid, line := range try.Processes(t, dir+"/") {
		t.Errorf("process %d: %q", pid, line)
	}
}

func recoversForReal(t *testing.T, self string) {
	var out, note bytes.Buffer
	began := time.Now()
	result, err := Run(t.Context(), Options{Fault: PowerLoss, Real: true, JSON: true, Out: &out, Err: &note,
		Exe: filepath.Join(filepath.Dir(self), "holdfast"), Self: self, Dial: dialAgent})
	if err != nil {
		t.Fatal(err)
	}
	if err := result.Err(); err != nil {
		for _, line := range summary(result, func(begin, text string) string { return begin + text }) {
			t.Log(line)
		}
		t.Fatal(err)
	}
	var read Result
	if err := json.Unmarshal(out.Bytes(), &read); err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("output: %v: %s", err, out.String())
	}
	p := read.Phases
	if read.Driver != "libvirt" || read.MaxHolders != 1 || p.DetectMS <= 0 || p.ProofMS <= 0 || p.StartMS <= 0 || p.AnswerMS <= 0 {
		t.Errorf("%s", out.String())
	}
	// The proof is the deadline: lease (6 s) and guard (2 s) have passed since the
	// last renewal, which was a keepalive interval (2 s) before the fault at most.
	if least := int64(6000); p.DetectMS+p.ProofMS < least || read.OutageMS < least {
		t.Errorf("taken over after %d ms, outage %d ms: earlier than a proof allows", p.DetectMS+p.ProofMS, read.OutageMS)
	}
	leavesNothing(t, labDir(note.String()))
	t.Logf("outage %d ms, %+v, at most %d, %v in all", read.OutageMS, p, read.MaxHolders, time.Since(began).Round(time.Second))
}

// labDir finds the laboratory's directory in the line that says how to remove it.
func labDir(note string) string {
	_, rest, _ := strings.Cut(note, "holdfast-lab --dir ")
	dir, _, _ := strings.Cut(rest, " down")
	return dir
}

// endsForReal interrupts the demo in the middle.
func endsForReal(t *testing.T, self string) {
	cmd := exec.Command(self, "demo", "--real", "--fault", "none", "-o", "json")
	note := new(lockedBuffer)
	cmd.Stderr = note
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It cleans up however this test ends.
	end := sync.OnceValue(func() error {
		return errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	})
	t.Cleanup(func() { _ = end() }) // judged below, unless the test has failed already
	var dir string
	within(t, 5*limit, "the VM runs", func() bool {
		if dir = labDir(note.String()); dir == "" {
			return false
		}
		l, err := lab.Open(dir)
		if err != nil {
			return false // it is just being made
		}
		st, err := l.Status(t.Context())
		return err == nil && slices.ContainsFunc(st.Hosts, func(h lab.HostStatus) bool { return h.Guests > 0 })
	})
	if err := end(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(note.String(), "interrupted") {
		t.Errorf("it ended with %v, want exit code 1: %s", err, note)
	}
	leavesNothing(t, dir)
}

// lockedBuffer may be written and read at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
