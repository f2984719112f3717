package storage

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("PROBE_DIR"); dir != "" {
		if err := Touch(dir, "h1"); err != nil {
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
	go func() { defer close(done); p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return p
}

func until(t *testing.T, p *Prober, what string, ok func(State) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(p.State()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: %+v", what, p.State())
		}
	}
}

func TestAStorageThatAnswersWellIsWell(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PROBE_DIR", dir)
	p := run(t, Options{Command: []string{os.Args[0]}, Interval: time.Millisecond, Timeout: 10 * time.Second})
	until(t, p, "the probe's file", func(State) bool {
		b, err := os.ReadFile(filepath.Join(dir, ".holdfast-probe-h1"))
		return err == nil && len(b) > 10
	})
	until(t, p, "well", func(s State) bool { return s == State{} })
}

func TestAnErrorOfTheStorageIsTold(t *testing.T) {
	t.Setenv("PROBE_DIR", "/nonexistent/shared")
	p := run(t, Options{Command: []string{os.Args[0]}, Interval: time.Millisecond, Timeout: 10 * time.Second})
	until(t, p, "the error", func(s State) bool { return !s.Hangs && strings.Contains(s.Why, "no such file") })
}

// A FIFO that nobody reads blocks its writer as a dead server does.
func TestAStorageThatHangsIsSaidToHangUntilItAnswers(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := run(t, Options{Command: []string{"/bin/sh", "-c", "echo x >" + fifo}, Interval: time.Millisecond, Timeout: 50 * time.Millisecond})
	until(t, p, "hangs", func(s State) bool { return s.Hangs && s.Why != "" })
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	until(t, p, "well again", func(s State) bool { return s == State{} })
}

func TestAProbeThatDoesNotStartIsTold(t *testing.T) {
	p := run(t, Options{Command: []string{"/nonexistent/probe"}, Interval: time.Millisecond, Timeout: time.Second})
	until(t, p, "the error", func(s State) bool { return strings.Contains(s.Why, "does not start") })
}
