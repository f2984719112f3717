package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/cli/command"
	"holdfast/internal/lib/fail"
)

// checkPipe begins a check of a pipe. Nobody has opened it for writing yet.
func checkPipe(t *testing.T) (pipe string, stop func(), ended chan error, out *bytes.Buffer) {
	t.Helper()
	pipe = filepath.Join(t.TempDir(), "pipe.json")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	out = &bytes.Buffer{}
	root := New(command.Env{Stdin: strings.NewReader(""), Stdout: out, Stderr: out})
	root.SetArgs([]string{"config", "check", pipe})
	ctx, stop := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() { ended <- root.ExecuteContext(ctx) }()
	return pipe, stop, ended, out
}

func within(t *testing.T, ended chan error) error {
	t.Helper()
	return <-ended
}

func TestCheckOfASilentPipeCanBeInterrupted(t *testing.T) {
	_, stop, ended, _ := checkPipe(t)
	stop()
	var e *fail.Error
	if err := within(t, ended); !errors.As(err, &e) || e.Kind != fail.Canceled || !strings.Contains(e.Message, "pipe.json: interrupted") {
		t.Errorf("got %v", err)
	}
}

func TestCheckReadsAPipe(t *testing.T) {
	pipe, stop, ended, out := checkPipe(t)
	defer stop()
	// Opening waits for the reader.
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString(`{"Nodes": 1}`); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := within(t, ended); fail.ExitCode(err) != fail.ExitInvalid || !strings.Contains(out.String(), "unknown field") {
		t.Errorf("got %v: %s", err, out)
	}
}
