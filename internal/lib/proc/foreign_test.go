package proc

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/testbed/try"
)

// lowered is a soft limit like one of the unit, but so high that also a test with the race detector lives with it.
const lowered = 1 << 50

// confine does to this process what the unit does beside the umask, and returns what the hard limits are, as a shell says it.
func confine(t *testing.T) string {
	t.Helper()
	for what, soft := range map[int]uint64{unix.RLIMIT_DATA: lowered, unix.RLIMIT_CORE: 0} {
		var l unix.Rlimit
		try.Must(t, unix.Getrlimit(what, &l))
		l.Cur = min(soft, l.Max)
		try.Must(t, unix.Setrlimit(what, &l))
	}
	hard, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "ulimit -H -d; ulimit -H -c").Output()
	try.Must(t, err)
	return string(hard)
}

const asks = "umask; ulimit -S -d; ulimit -S -c"

func TestAProgramIsNotConfined(t *testing.T) {
	if !try.UnderUmask(t) {
		return
	}
	hard := confine(t)
	own, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", asks).Output()
	if err != nil || string(own) == "0022\n"+hard {
		t.Fatalf("this process is not confined: %q, %v", own, err)
	}
	got, err := Foreign(t.Context(), "sh", "-c", asks+`; echo "$0 $1"`, "a", "b c").Output()
	if err != nil || string(got) != "0022\n"+hard+"a b c\n" {
		t.Errorf("%q, %v: want the umask 022 and the limits %q", got, err, hard)
	}
	try.Must(t, Unconfine())
	if own, err = exec.CommandContext(t.Context(), "/bin/sh", "-c", asks).Output(); err != nil || string(own) != "0022\n"+hard {
		t.Errorf("after Free: %q, %v", own, err)
	}
}

func TestItsEndIsItsOwn(t *testing.T) {
	var exit *exec.ExitError
	if err := Foreign(t.Context(), "sh", "-c", "exit 7").Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exit code: %v", err)
	}
	if err := Foreign(t.Context(), "sh", "-c", "kill -9 $$").Run(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("signal: %v", err)
	}
	if err := Foreign(t.Context(), "no-such-program").Start(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a program that is not installed: %v", err)
	}
	if err := Foreign(t.Context(), "/no/such/program").Start(); err == nil {
		t.Error("a program that is not there starts")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := Foreign(ctx, "sleep", "60")
	try.Must(t, cmd.Start())
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("it does not end with its context")
	}
}

// TestUnprotect: only what protects is taken away, which needs no rights.
func TestUnprotect(t *testing.T) {
	file := filepath.Join(t.TempDir(), "oom_score_adj")
	for _, c := range []struct{ have, want string }{{"-900\n", "0"}, {"0\n", "0\n"}, {"500\n", "500\n"}, {"x", "x"}} {
		if err := os.WriteFile(file, []byte(c.have), 0o600); err != nil {
			t.Fatal(err)
		}
		err := unprotect(file)
		if got, rerr := os.ReadFile(file); rerr != nil || string(got) != c.want || (err != nil) != (c.want == "x") {
			t.Errorf("%q: %q, want %q; %v, %v", c.have, got, c.want, err, rerr)
		}
	}
	if err := unprotect(file + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
}

func TestAProgramIsNotProtected(t *testing.T) {
	const file = "/proc/self/oom_score_adj"
	old, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte("-900"), 0)
	}
	if err != nil {
		t.Skipf("this process can not be protected: %v", err)
	}
	t.Cleanup(func() { try.Must(t, os.WriteFile(file, old, 0)) })
	for have, want := range map[string]string{"-900": "0\n", "700": "700\n"} {
		try.Must(t, os.WriteFile(file, []byte(have), 0))
		if got, err := Foreign(t.Context(), "cat", file).Output(); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v: want %q", have, got, err, want)
		}
	}
}
