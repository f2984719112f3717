//go:build !race

package mutants

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"holdfast/testbed/need"
	"holdfast/testbed/sim/explore"
	"holdfast/testbed/sim/mutants/search/order"
)

// bug is one mutant, and how it must be found: in at least one of the
// three ways, and in each that is given.
type bug struct {
	name   string
	breaks string // the sentence of the safety model
	edits  []edit
	rules  string // of the invariants, by one of which it must be found
	focus  string // random scenarios of that focus; "-": not looked for so
	search *explore.Options
	test   string // package and test that fails, "ha TestDecide"
}

// edit replaces a text that occurs once in a file.
type edit struct{ file, old, new string }

const (
	// runs is how many random scenarios a bug gets.
	runs = 3000
	// depth is more than any bug needs.
	depth = 60
)

// sample has one bug for each place in which bugs are found, and for each core. The tests that
// find those of pairs are units here.
var sample = map[string]string{
	"late-deadline":            "ha TestARenewalCountsFromWhenItWasDecided", // also by random scenarios, and by the search
	"fence-of-the-newest":      "ha TestAFenceAnswerCountsForTheRecordOfItsOrder",
	"double-claim":             "",
	"pair-unlicensed":          "pair TestRandomCourses",
	"arbiter-stale-cold-start": "pair/arbiter TestOneGoesOnAlone/fence",
}

// TestPlantedBugsAreFound takes a sample.
func TestPlantedBugsAreFound(t *testing.T) {
	need.Seconds(t)
	var some []bug
	for _, b := range bugs() {
		if test, ok := sample[b.name]; ok {
			b.test = test
			some = append(some, b)
		}
	}
	if len(some) != len(sample) {
		t.Errorf("%d of %d bugs are there", len(some), len(sample))
	}
	find(t, some)
}

// TestEachPlantedBugFits: the source has what each of them changes.
func TestEachPlantedBugFits(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bugs() {
		t.Run(b.name, func(t *testing.T) { b.overlay(t, root, t.TempDir()) })
	}
}

func TestAllPlantedBugsAreFound(t *testing.T) {
	need.Drill(t, "P1, P2: simulator, search and tests find each bug that breaks a sentence of the safety model")
	all := bugs()
	if len(all) < 35 {
		t.Errorf("%d bugs: want at least 35", len(all))
	}
	find(t, all)
}

// find builds and hunts as many at once as there are processors.
func find(t *testing.T, all []bug) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	slots := make(chan struct{}, runtime.NumCPU())
	for _, b := range all {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			b.find(t, root)
		})
	}
}

// TestNothingIsFoundWithoutABug: the search finds nothing in the source as it is.
func TestNothingIsFoundWithoutABug(t *testing.T) {
	need.Seconds(t)
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	r := search(t, build(t, root, t.TempDir(), nil), order.Order{
		Rules: strings.Fields(safety + " not-up not-stopped not-settled"), Runs: 100, Search: &explore.Options{Depth: 8},
	})
	if r != (order.Result{}) {
		t.Errorf("found %+v", r)
	}
}

func (b *bug) find(t *testing.T, root string) {
	dir := t.TempDir()
	overlay := b.overlay(t, root, dir)
	if b.test != "" {
		failing(t, root, overlay, b.test)
	}
	o := order.Order{Rules: strings.Fields(b.rules), Focus: b.focus, Runs: runs, Search: b.search}
	if b.focus == "-" {
		o.Focus, o.Runs = "", 0
	}
	if o.Runs == 0 && o.Search == nil {
		if b.test == "" {
			t.Error("nothing says how it is to be found")
		}
		return
	}
	if o.Search != nil {
		o.Search.Depth, o.Search.Workers = depth, 1
	}
	r := search(t, build(t, root, dir, overlay), o)
	if o.Runs > 0 && r.Random == "" {
		t.Errorf("%s: not found in %d random scenarios", b.breaks, o.Runs)
	}
	if o.Search != nil && r.Search == "" {
		t.Errorf("%s: not found by the search", b.breaks)
	}
	t.Logf("%s\n\trandom: %s\n\tsearch: %s", b.breaks, r.Random, r.Search)
}

// overlay writes the patched files and the list that the compiler wants.
func (b *bug) overlay(t *testing.T, root, dir string) []string {
	t.Helper()
	replace := map[string]string{}
	for _, e := range b.edits {
		file := filepath.Join(root, e.file)
		from := file
		if done, ok := replace[file]; ok {
			from = done
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), e.old); n != 1 {
			t.Fatalf("%s has %d times %q: want it once", e.file, n, e.old)
		}
		to := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if done, ok := replace[file]; ok {
			to = done
		}
		if err := os.WriteFile(to, []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[file] = to
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-overlay", file}
}

// build gives the hunting program.
func build(t *testing.T, root, dir string, flags []string) string {
	t.Helper()
	exe := filepath.Join(dir, "search")
	run(t, root, append(append([]string{"build", "-ldflags=-s", "-o", exe}, flags...), "./testbed/sim/mutants/search")...)
	return exe
}

func run(t *testing.T, root string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func search(t *testing.T, exe string, o order.Order) order.Result {
	t.Helper()
	in, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var r order.Result
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// failing runs one test with the bug, which must fail.
func failing(t *testing.T, root string, overlay []string, what string) {
	t.Helper()
	pkg, name, _ := strings.Cut(what, " ")
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"test"}, overlay...), "-count=1", "-vet=off",
		"-ldflags=-s", "-run", "^"+strings.ReplaceAll(name, "/", "$/^")+"$", "./internal/"+pkg)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: "+name) {
		t.Errorf("%s does not find it: %v\n%s", what, err, out)
	}
}
