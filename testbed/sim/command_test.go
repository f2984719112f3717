package sim

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
)

// TestBadInputOfSimulate is told in one error that names what is wrong, and is of
// the kind that the program ends with 2 for.
func TestBadInputOfSimulate(t *testing.T) {
	dir := t.TempDir()
	folder := func(name, text string) string {
		d := filepath.Join(dir, name)
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, scenarioFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return d
	}
	broken := folder("broken", "hosts h1\nend x\n")
	unknown := folder("unknown", "hosts h1\nat 1s power h9 off\nend 5s\n")
	file := filepath.Join(unknown, scenarioFile)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{filepath.Join(dir, "none")}, []string{filepath.Join(dir, "none"), "no such file", scenarioFile}},
		{[]string{t.TempDir()}, []string{"neither", scenarioFile}},
		{[]string{file}, []string{file, "not a directory"}},
		{[]string{broken}, []string{filepath.Join(broken, scenarioFile), "line 2", `"x"`}},
		{[]string{unknown}, []string{file, "power h9"}},
		{[]string{dir}, []string{filepath.Join(broken, scenarioFile)}},
		{[]string{"--exhaustive", "--depth", "-1"}, []string{"--depth -1", "at least 1"}},
		{[]string{"--exhaustive", "--depth", "0"}, []string{"--depth 0", "at least 1"}},
	} {
		out, err := simulate(t, c.args...)
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != fail.Invalid {
			t.Errorf("%v: %v, want an error of kind %s", c.args, err, fail.Invalid)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v: %q does not name %q", c.args, err, w)
			}
		}
		if out != "" {
			t.Errorf("%v: printed %q", c.args, out)
		}
	}
}
