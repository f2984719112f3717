package aid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// reporter is a service whose program is a script.
func reporter(t *testing.T, script string) *Service {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "holdfast")
	try.Must(t, os.WriteFile(exe, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	return &Service{Host: "h1", Exe: exe, File: "/etc/holdfast/agent.json", Socket: "/run/holdfast/holdfast.sock",
		Log: slog.New(slog.DiscardHandler)}
}

// TestReport: the command of this host's program makes it, and writes to nobody but who has asked.
func TestReport(t *testing.T) {
	s := reporter(t, `echo "$@" by $HOLDFAST_SOCKET`)
	var got bytes.Buffer
	try.Must(t, s.Report(t.Context(), "", 3, &got))
	if want := "report --out - --days 3 --config /etc/holdfast/agent.json by /run/holdfast/holdfast.sock\n"; got.String() != want {
		t.Errorf("%q", got.String())
	}
}

// TestAReportThatFails has the reason that the command said.
func TestAReportThatFails(t *testing.T) {
	var got bytes.Buffer
	var e *fail.Error
	err := reporter(t, `echo part; echo no disk >&2; exit 7`).Report(t.Context(), "h1", 7, &got)
	if !errors.As(err, &e) || e.Kind != fail.Failed || !strings.Contains(e.Error(), "no disk") || got.String() != "part\n" {
		t.Errorf("%v, %q", err, got.String())
	}
	s := reporter(t, "")
	s.Exe = "/nothing/is/here"
	if err := s.Report(t.Context(), "h1", 7, &got); err == nil {
		t.Error("a program that there is not has made an archive")
	}
}

// begun tells of the first bytes that are written.
type begun chan string

func (b begun) Write(p []byte) (int, error) {
	b <- string(p)
	return len(p), nil
}

// TestAReportEndsWithWhoAskedForIt, with all that its program has begun; meanwhile nobody else gets one.
func TestAReportEndsWithWhoAskedForIt(t *testing.T) {
	s := reporter(t, `mkfifo "$0.wait"; sh -c 'echo $$; read x <"$0.wait"' "$0"`)
	ctx, cancel := context.WithCancel(t.Context())
	first, ended := make(begun, 16), make(chan error)
	go func() { ended <- s.Report(ctx, "", 7, first) }()
	var pid int
	_, err := fmt.Sscan(<-first, &pid)
	try.Must(t, err)
	var e *fail.Error
	if err := s.Report(t.Context(), "", 7, first); !errors.As(err, &e) || e.Kind != fail.Unavailable {
		t.Errorf("a second one: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	try.Until(t, "the program's child has ended", func() bool { return gone(pid) })
	if err := s.Report(ctx, "", 7, first); !errors.Is(err, context.Canceled) {
		t.Errorf("after the first has ended: %v", err)
	}
}

// gone reports whether a process has ended.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// deaf takes nothing.
type deaf struct{}

func (deaf) Write([]byte) (int, error) { return 0, errors.New("nobody takes it") }

// TestAReportThatNobodyTakes ends.
func TestAReportThatNobodyTakes(t *testing.T) {
	if err := reporter(t, `yes`).Report(t.Context(), "", 7, deaf{}); err == nil || !strings.Contains(err.Error(), "nobody takes it") {
		t.Errorf("%v", err)
	}
	b := &bounded{to: &bytes.Buffer{}, left: 3}
	if _, err := b.Write([]byte("four")); err == nil || b.err == nil {
		t.Error("more is taken than may be")
	}
}
