package holdfast_test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// adrOfDependencies has a table with a line for each direct dependency.
const adrOfDependencies = "docs/adr/0010-dependencies.md"

func TestEveryDirectDependencyHasItsLine(t *testing.T) {
	required := direct(read(t, "go.mod"))
	said := modules(read(t, adrOfDependencies))
	if len(required) == 0 || len(said) == 0 {
		t.Fatalf("go.mod has %d direct dependencies, %s has %d", len(required), adrOfDependencies, len(said))
	}
	for _, m := range required {
		if !slices.Contains(said, m) {
			t.Errorf("%s has no line for %s, which go.mod requires", adrOfDependencies, m)
		}
	}
	for i, m := range said {
		if !slices.Contains(required, m) {
			t.Errorf("%s has a line for %s, which is no direct dependency in go.mod", adrOfDependencies, m)
		}
		if slices.Contains(said[:i], m) {
			t.Errorf("%s names %s twice", adrOfDependencies, m)
		}
	}
}

// direct are the modules that go.mod requires directly.
func direct(gomod string) []string {
	var out []string
	within := false
	for line := range strings.Lines(gomod) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "require" && f[1] == "(":
			within = true
			continue
		case len(f) == 1 && f[0] == ")":
			within = false
		case len(f) > 2 && f[0] == "require":
			f = f[1:]
		case !within:
			continue
		}
		if len(f) >= 2 && !strings.Contains(line, "// indirect") {
			out = append(out, f[0])
		}
	}
	return out
}

// modules are the names in the first column of the table.
func modules(adr string) []string {
	var out []string
	for line := range strings.Lines(adr) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || cells[0] != "" {
			continue
		}
		for name := range strings.SplitSeq(cells[1], ",") {
			if name = strings.TrimSpace(name); strings.Contains(name, ".") {
				out = append(out, name)
			}
		}
	}
	return out
}

// TestOneReaderOfYAML: whatever reads YAML says where its faults are.
func TestOneReaderOfYAML(t *testing.T) {
	const reader = "holdfast/internal/lib/strictyaml"
	for name, p := range packages(t) {
		for _, i := range p.Imports {
			if name != reader && strings.Contains(i, ".") && strings.Contains(i, "yaml") {
				t.Errorf("%s imports %s: want %s", name, i, reader)
			}
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
