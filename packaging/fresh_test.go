package packaging_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestFreshRootThatCanNotBeMade runs the command in place, says so in one line, and ends
// as the command does.
func TestFreshRootThatCanNotBeMade(t *testing.T) {
	cmd := exec.Command("./fresh.sh", "sh", "-c", "test -e go.mod && echo in place && exit 7")
	cmd.Env = append(os.Environ(), "FRESH_CACHE=/proc/none")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 || out.String() != "in place\n" {
		t.Errorf("%v: %s", err, out.String())
	}
	if s := said.String(); !strings.HasPrefix(s, "no fresh root: ") || strings.Count(s, "\n") != 1 {
		t.Errorf("it says %q", s)
	}
}

// TestLastLineOfCI lets make end in different ways: the sum is always the last line, and
// the exit code is make's.
func TestLastLineOfCI(t *testing.T) {
	for name, c := range map[string]struct {
		make string
		last string
		code int
	}{
		"all pass":         {"echo '3 passed, 0 failed, 1 skipped'", "3 passed, 0 failed, 1 skipped", 0},
		"a test fails":     {"echo '3 passed, 2 failed, 1 skipped'; echo 'make: *** Error 1' >&2; exit 2", "3 passed, 2 failed, 1 skipped", 2},
		"no test is begun": {"echo 'make: *** Error 1' >&2; exit 2", "0 passed, 1 failed, 0 skipped", 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, d := range []string{"/.ci", "/packaging"} {
				if err := os.Mkdir(dir+d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			script, err := os.ReadFile("../.ci/run")
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir+"/.ci/run", string(script), 0o755)
			write(t, dir+"/packaging/fresh.sh", "#!/bin/sh\n"+c.make+"\n", 0o755)
			out, err := exec.Command(dir + "/.ci/run").CombinedOutput()
			code := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if last := lines[len(lines)-1]; last != c.last || code != c.code || strings.Count(string(out), c.last) > 2 {
				t.Errorf("exit code %d, want %d: %s", code, c.code, out)
			}
		})
	}
}
