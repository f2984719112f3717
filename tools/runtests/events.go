package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is a line of `go test -json`.
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
	Key     string // of an attribute
	Value   string
}

// counts are what `go test -json` reported.
type counts struct {
	Passed  int
	Failed  []failure
	Skipped []string // names with reasons; those that are not wanted here are left out
	Damaged []string // tests that did not count, as an emulator was damaged, with the proof
	Slow    []slow

	seed     string // that a test drew, by its attribute
	unwanted int    // tests that need.Variable leaves out
	tests    int    // top-level tests that ended
	started  map[string]bool
	output   map[string][]string // by "PACKAGE TEST", of what has not ended
	own      map[slow]float64    // by test and package
}

// failure is a test that failed, or a package of which no test is known to have failed.
type failure struct {
	Name string // "PACKAGE TEST", "PACKAGE"
	Said string // the beginning and the end of its output
}

// slow is how long a test took, without its subtests.
type slow struct {
	Test, Package string
	Seconds       float64
}

// first and last are how many lines of what a failed test said are shown again at the end.
const first, last = 10, 30

// long is how many seconds a test takes, without those of its package, that is told of when it ends.
const long = 10.0

// verdictKey is the attribute by which a test says that it does not count; its value is "damaged: " and the proof.
const verdictKey = "verdict"

// seedKey is the attribute by which a test tells the seed that it drew.
const seedKey = "seed"

// read takes events until the end of in. Each package that ends, and each long
// test, is told to done; what failed is shown on out as a whole.
// A line that is no event is output of the build.
func (c *counts) read(in io.Reader, out io.Writer, done func(pkg, how string, seconds float64)) error {
	c.started, c.output, c.own = map[string]bool{}, map[string][]string{}, map[slow]float64{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(out, line)
			} else {
				c.take(out, e, done)
				count(c.own, e)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(c.started)) { // go test was ended
		said := c.unended(out, pkg)
		c.Failed = append(c.Failed, failure{pkg, "it has not ended\n" + ends(said)})
		done(pkg, "FAIL", 0)
	}
	for s, seconds := range c.own {
		s.Seconds = seconds
		c.Slow = append(c.Slow, s)
	}
	c.own = nil
	return nil
}

func (c *counts) take(out io.Writer, e event, done func(pkg, how string, seconds float64)) {
	key := e.Package + " " + e.Test
	if e.Test != "" && !strings.Contains(e.Test, "/") && (e.Action == "pass" || e.Action == "fail") {
		c.tests++
		if e.Elapsed >= long {
			done(key, strings.Replace(e.Action, "pass", "ok", 1), e.Elapsed)
		}
	}
	switch e.Action {
	case "start":
		c.started[e.Package] = true
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "output":
		c.output[key] = append(c.output[key], e.Output)
	case "pass":
		if e.Test != "" {
			c.Passed++
		} else {
			done(e.Package, "ok", e.Elapsed)
		}
	case "skip":
		switch why := reason(c.output[key]); {
		case e.Test == "":
		case strings.Contains(why, notWanted):
			c.unwanted++
		default:
			c.Skipped = append(c.Skipped, key+": "+why)
		}
	case "attr":
		switch e.Key {
		case verdictKey:
			c.Damaged = append(c.Damaged, key+": "+e.Value)
		case seedKey:
			c.seed = e.Value
		}
	case "fail":
		said := verdictFirst(c.output[key])
		fmt.Fprint(out, strings.Join(said, ""))
		if e.Test == "" {
			said = append(said, c.unended(out, e.Package)...)
		}
		if e.Test != "" || !slices.ContainsFunc(c.Failed, func(f failure) bool { return strings.HasPrefix(f.Name, e.Package+" ") }) {
			c.Failed = append(c.Failed, failure{strings.TrimSpace(key), ends(said)})
		}
		if e.Test == "" {
			done(e.Package, "FAIL", e.Elapsed)
		}
	}
	if e.Test == "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
		delete(c.started, e.Package)
	}
	if e.Action != "output" && e.Action != "attr" {
		delete(c.output, key)
	}
}

// notWanted is in the reason of a test that need.Variable leaves out.
const notWanted = "not wanted here (HOLDFAST_TESTS)"

// needsRoot is the end of the reason of a test that is skipped as need.Root fails.
const needsRoot = "missing: this needs root"

// ends are the first and the last lines of what a test said.
func ends(said []string) string {
	if len(said) > first+last {
		said = slices.Concat(said[:first], []string{"...\n"}, said[len(said)-last:])
	}
	return strings.Join(said, "")
}

// verdictFirst puts the line that tells the failure before what the test said, as go test does
// where it does not report events.
func verdictFirst(output []string) []string {
	if i := slices.IndexFunc(output, func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), "--- FAIL") }); i > 0 {
		return slices.Concat(output[i:i+1], output[:i], output[i+1:])
	}
	return output
}

// unended shows what tests of a package said that have not ended, and returns it: its process has died.
func (c *counts) unended(out io.Writer, pkg string) (said []string) {
	for _, key := range slices.Sorted(maps.Keys(c.output)) {
		if strings.HasPrefix(key, pkg+" ") && key != pkg+" " {
			fmt.Fprint(out, strings.Join(c.output[key], ""))
			said = append(said, c.output[key]...)
			delete(c.output, key)
		}
	}
	return said
}

// count adds the time of a test that is over to its own, and takes it from that of the test
// whose subtest it is.
func count(own map[slow]float64, e event) {
	if e.Test == "" || e.Action != "pass" && e.Action != "fail" {
		return
	}
	own[slow{Test: e.Test, Package: e.Package}] += e.Elapsed
	if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
		own[slow{Test: e.Test[:i], Package: e.Package}] -= e.Elapsed
	}
}

// reason is what a skipped test said.
func reason(output []string) string {
	for _, l := range output {
		if l = strings.TrimSpace(l); !strings.HasPrefix(l, "---") && !strings.HasPrefix(l, "===") {
			return l
		}
	}
	return "no reason given"
}

// add is the sum of two runs.
func (c *counts) add(o *counts) {
	c.Passed += o.Passed
	c.tests += o.tests
	c.unwanted += o.unwanted
	c.Failed = append(c.Failed, o.Failed...)
	c.Skipped = append(c.Skipped, o.Skipped...)
	c.Damaged = append(c.Damaged, o.Damaged...)
	c.Slow = append(c.Slow, o.Slow...)
}

// insist makes a failure of each test that was skipped as a program is missing: packaging/test-deps.sh was to install it.
func (c *counts) insist() {
	c.Skipped = slices.DeleteFunc(c.Skipped, func(s string) bool {
		name, why, ok := strings.Cut(s, ": ")
		if ok = ok && strings.Contains(why, " missing: "); ok {
			c.Failed = append(c.Failed, failure{name, why + "\n"})
		}
		return ok
	})
}

// slowest is how many of the slowest tests are told.
const slowest = 10

// print tells the slowest tests, what was skipped and why, what failed, and last the sum.
func (c *counts) print(out io.Writer) {
	slices.SortFunc(c.Slow, func(a, b slow) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(a.Package, b.Package), cmp.Compare(a.Test, b.Test))
	})
	for _, s := range c.Slow[:min(len(c.Slow), slowest)] {
		fmt.Fprintf(out, "slow: %s %s %.1fs\n", s.Test, short(s.Package), s.Seconds)
	}
	rootless := 0
	for _, s := range c.Skipped {
		if strings.HasSuffix(s, needsRoot) {
			rootless++
			continue
		}
		fmt.Fprintln(out, "skipped:", short(s))
	}
	if rootless > 0 {
		fmt.Fprintf(out, "left out, as this is not root: %d tests, most on real components\n", rootless)
	}
	for _, s := range c.Damaged {
		fmt.Fprintln(out, "does not count:", short(s))
	}
	if len(c.Failed) > 0 {
		fmt.Fprintln(out, "FAIL") // what looks for failures in a long log finds these ones last
	}
	for _, f := range c.Failed {
		fmt.Fprintln(out, "failed:", short(f.Name))
		for l := range strings.Lines(f.Said) {
			fmt.Fprintf(out, "  %.300s\n", strings.TrimRight(l, "\n"))
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", c.Passed, len(c.Failed), len(c.Skipped)+c.unwanted)
}

// short is a name without the module's.
func short(name string) string { return strings.TrimPrefix(name, "holdfast/") }
