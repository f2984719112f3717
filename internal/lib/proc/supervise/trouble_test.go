package supervise

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/try"
)

// kept keeps a program running until the test ends.
func kept(t *testing.T, exe string, args ...string) Spec {
	t.Helper()
	spec := Spec{Name: "store", Exe: exe, Args: args, Env: os.Environ(), Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, spec) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		sctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := Stop(sctx, spec.Dir, spec.Name); err != nil {
			t.Error(err)
		}
	})
	return spec
}

func TestAChildThatCanNotRunIsTold(t *testing.T) {
	spec := kept(t, "/bin/sh", "-c", "echo 'holdfast: port 2379 is taken' >&2; echo noise; exit 3")
	text := ""
	try.Until(t, "trouble that names the reason", func() bool {
		text = Trouble(spec, time.Now())
		return strings.Contains(text, "port 2379 is taken")
	})
	for _, want := range []string{"process store has ended", "exit status 3", filepath.Join(spec.Dir, "store.log")} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if strings.Contains(text, "noise") {
		t.Errorf("%q takes any line for the reason", text)
	}
}

func TestTheReasonIsFoundInALog(t *testing.T) {
	for name, c := range map[string]struct{ log, want string }{
		"empty":                 {"", ""},
		"chatter":               {"{\"level\":\"warn\",\"msg\":\"slow\",\"error\":\"x\"}\nhello\n", ""},
		"our own, then chatter": {"holdfast: start: port is taken\n{\"level\":\"warn\",\"msg\":\"slow\"}\n", "start: port is taken"},
		"the last of two":       {"holdfast: first\nholdfast: second\n", "second"},
		"logged before the panic": {"{\"level\":\"panic\",\"msg\":\"failed to create WAL\",\"error\":\"no space " +
			"left\"}\npanic: failed to create WAL\ngoroutine 1 [running]:\n", "failed to create WAL: no space left"},
		"panic":            {"panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n", "boom"},
		"long":             {"holdfast: " + strings.Repeat("x", 1000) + "\n", strings.Repeat("x", maxReason)},
		"behind much else": {strings.Repeat("noise\n", logTail) + "holdfast: late\n", "late"},
	} {
		file := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(file, []byte(c.log), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := lastError(file); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
	}
}

func TestAChildThatRunsIsNoTrouble(t *testing.T) {
	spec := kept(t, "/bin/sleep", "60")
	try.Until(t, "the child", func() bool {
		s, err := Read(spec.Dir, spec.Name)
		return err == nil && s.PID != 0
	})
	if text := Trouble(spec, time.Now()); text != "" {
		t.Errorf("got %q", text)
	}
}
