// Package need is where a test says when it runs and what it needs.
//
//	go test -short ./...               units that take moments
//	go test ./...                      all units: anybody may run them, and they leave the machine as it is
//	HOLDFAST_TESTS=real go test ...    also one test or more of each port on the real component (make test)
//	HOLDFAST_TESTS=drills go test ...  also the drills, one by one (make drills)
//
// A test that starts a daemon, or makes a namespace, a mount or a link, calls [Real] first. One that takes long, or
// needs the machine for itself, is a drill and calls [Drill]: it is a top-level test function, and the
// call is a statement of its own body, as tools/runtests reads the sources to find drills and what they prove.
package need

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Variable is the environment variable that says which tests run besides units.
const Variable = "HOLDFAST_TESTS"

// level is how much runs.
type level int

const (
	units level = iota
	realOnes
	drills
)

// wanted reads Variable. Another value than those above is an error of whoever set it.
func wanted() (level, error) {
	switch v := os.Getenv(Variable); v {
	case "":
		return units, nil
	case "real":
		return realOnes, nil
	case "drills":
		return drills, nil
	default:
		return units, fmt.Errorf("%s=%q: want real, drills, or nothing", Variable, v)
	}
}

// A Need is something that a machine may lack: it returns what is missing and how to get it.
type Need func() error

// Root is the superuser.
func Root() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("this needs root")
	}
	return nil
}

// Programs are programs of a Debian package. They are looked for in /usr/sbin, too, which is not in everybody's PATH.
func Programs(debian string, names ...string) Need {
	return func() error {
		for _, n := range names {
			if _, err := exec.LookPath(n); err == nil {
				continue
			}
			if _, err := exec.LookPath("/usr/sbin/" + n); err != nil {
				return fmt.Errorf("%s is not installed (Debian: %s)", n, debian)
			}
		}
		return nil
	}
}

// Seconds is for units that take some: the loop while you work (`make test-fast`) leaves them out.
func Seconds(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
}

// Real is for tests on real components. It skips the test unless such tests are wanted and the
// machine has what they need.
func Real(t testing.TB, needs ...Need) {
	t.Helper()
	ask(t, realOnes, "on real components", needs)
}

// More is for tests of seconds that are too many for `make test`: all of a package that are no drills run together as
// one drill, which has the package's name and proves what the first sentence of its comment says.
func More(t testing.TB, needs ...Need) {
	t.Helper()
	ask(t, drills, "more", needs)
}

// Drill is for what `make drills` runs, each alone on the machine. proves is a constant: which promise, or
// what of a source document, a pass is evidence for.
func Drill(t testing.TB, proves string, needs ...Need) {
	t.Helper()
	ask(t, drills, "a drill", needs)
}

func ask(t testing.TB, at level, what string, needs []Need) {
	t.Helper()
	have, err := wanted()
	if err != nil {
		t.Fatal(err)
	}
	if testing.Short() || have < at {
		t.Skip(what + ": not wanted here (" + Variable + ")")
	}
	for _, n := range needs {
		if err := n(); err != nil {
			t.Skipf("missing: %v", err)
		}
	}
}
