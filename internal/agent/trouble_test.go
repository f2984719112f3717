package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/facts"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/testbed/try"
)

// kept keeps a program running until the test ends.
func kept(t *testing.T, exe string, args ...string) supervise.Spec {
	t.Helper()
	spec := supervise.Spec{Name: "store", Exe: exe, Args: args, Env: os.Environ(), Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- supervise.Keep(ctx, spec) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		sctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := supervise.Stop(sctx, spec.Dir, spec.Name); err != nil {
			t.Error(err)
		}
	})
	return spec
}

func TestAChildThatCanNotRunIsTold(t *testing.T) {
	spec := kept(t, "/bin/sh", "-c", "echo 'holdfast: port 2379 is taken' >&2; echo noise; exit 3")
	text := ""
	try.Until(t, "trouble that names the reason", func() bool {
		text = childTrouble(spec, time.Now())
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
		"empty":                   {"", ""},
		"chatter":                 {"{\"level\":\"warn\",\"msg\":\"slow\",\"error\":\"x\"}\nhello\n", ""},
		"our own, then chatter":   {"holdfast: start: port is taken\n{\"level\":\"warn\",\"msg\":\"slow\"}\n", "start: port is taken"},
		"the last of two":         {"holdfast: first\nholdfast: second\n", "second"},
		"logged before the panic": {"{\"level\":\"panic\",\"msg\":\"failed to create WAL\",\"error\":\"no space left\"}\npanic: failed to create WAL\ngoroutine 1 [running]:\n", "failed to create WAL: no space left"},
		"panic":                   {"panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n", "boom"},
		"long":                    {"holdfast: " + strings.Repeat("x", 1000) + "\n", strings.Repeat("x", maxReason)},
		"behind much else":        {strings.Repeat("noise\n", logTail) + "holdfast: late\n", "late"},
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
		s, err := supervise.Read(spec.Dir, spec.Name)
		return err == nil && s.PID != 0
	})
	if text := childTrouble(spec, time.Now()); text != "" {
		t.Errorf("got %q", text)
	}
}

func TestAHostThatIsATimeServerDoesNotAskItself(t *testing.T) {
	names := []string{"192.0.2.11", "node-1", "127.0.0.1"}
	other, own := facts.TimeSource{Name: "time.example.org"}, facts.TimeSource{Name: "192.0.2.11", File: "own.sources", Line: "server 192.0.2.11 iburst"}
	for _, c := range []struct {
		sources []facts.TimeSource
		err     error
		want    string
	}{
		{nil, nil, ""},
		{[]facts.TimeSource{other}, nil, ""},
		{[]facts.TimeSource{other, own}, errors.New("denied"), "own.sources: server 192.0.2.11 iburst"},
		{[]facts.TimeSource{other}, errors.New("denied"), "can not be read: denied"},
	} {
		if got := timeFromItself(c.sources, c.err, names...); (got == "") != (c.want == "") || !strings.HasSuffix(got, c.want) {
			t.Errorf("%v, %v: %q, want %q", c.sources, c.err, got, c.want)
		}
	}
}

func TestAHostWithLittleMemoryIsTold(t *testing.T) {
	const want = "less of this host's memory is available than the 8192 MiB that the management VM begins with: the kernel may end it, or something else"
	if got := scarce(8192, 4096, nil); got != want {
		t.Errorf("%q", got)
	}
	if got := scarce(8192, 8192, nil); got != "" {
		t.Errorf("%q", got)
	}
	if got := scarce(8192, 0, errors.New("denied")); got != "how much memory is available is not known: denied" {
		t.Errorf("%q", got)
	}
}
