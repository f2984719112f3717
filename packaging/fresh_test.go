package packaging_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"holdfast/testbed/need"
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

// TestLastLineOfCI lets the two calls of make end in different ways: the sum of both is always the last line, a failure of
// either is in it, and the exit code is that of the last one that failed.
func TestLastLineOfCI(t *testing.T) {
	need.Seconds(t)
	const good, red, none = "echo '3 passed, 0 failed, 1 skipped'",
		"echo '4 passed, 2 failed, 1 skipped'; echo 'make: *** Error 1' >&2; exit 2", "echo 'make: *** Error 1' >&2; exit 3"
	for name, c := range map[string]struct {
		test, drills string
		last         string
		code         int
	}{
		"all pass":              {good, good, "6 passed, 0 failed, 2 skipped", 0},
		"a test fails":          {red, good, "7 passed, 2 failed, 2 skipped", 2},
		"a drill fails":         {good, red, "7 passed, 2 failed, 2 skipped", 2},
		"no test is begun":      {none, none, "0 passed, 1 failed, 0 skipped", 3},
		"only drills are begun": {none, good, "3 passed, 1 failed, 1 skipped", 3},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, d := range []string{"/.ci", "/packaging", "/bin"} {
				if err := os.Mkdir(dir+d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			script, err := os.ReadFile("../.ci/run")
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir+"/.ci/run", string(script), 0o755)
			write(t, dir+"/packaging/fresh.sh", "#!/bin/sh\nexec \"$@\"\n", 0o755)
			write(t, dir+"/bin/make", "#!/bin/sh\ncase \"$*\" in\n*' drills KNOWN=1 BUDGET='*) "+
				c.drills+" ;;\n*' test') "+c.test+" ;;\n*) exit 9 ;;\nesac\n", 0o755)
			cmd := exec.Command(dir + "/.ci/run")
			cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			code := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if last := lines[len(lines)-1]; last != c.last || code != c.code {
				t.Errorf("exit code %d, want %d, last line %q, want %q: %s", code, c.code, last, c.last, out)
			}
		})
	}
}
