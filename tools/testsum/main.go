// Command testsum counts what `go test -json` reports.
//
//	go test -json ./... | testsum -into FILE    show the run, append its counts
//	testsum -again FILE                         print what may be run again, "PACKAGE TEST" in a line
//	testsum -total FILE                         print the sum of all runs
//
// While it reads it prints one line for each package, and the whole output of
// what failed. The last line of -total is "N passed, N failed, N skipped". Before it
// stand the slowest tests, those that were skipped, with their reasons, those that
// were repeated (which they tell by the attribute "repeated" and a reason), and those
// that failed. The exit code is 1 when something failed or nothing ran.
//
// A test that failed and passes in a later run of the same file counts as repeated, not as
// failed, unless its failure is final (again.go).
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
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

// counts are what one run adds to the file.
type counts struct {
	Passed   int
	Done     []string `json:",omitempty"` // those of them that are no subtests, "PACKAGE TEST"
	Failed   []failure
	Skipped  []string // names with reasons
	Repeated []string `json:",omitempty"` // names with reasons
	Slow     []slow   `json:",omitempty"` // the slowest ones, in order

	final   map[string]string // while the run is read: by "PACKAGE TEST", why it is final
	started map[string]bool   // the same: packages that have not ended
}

// failure is a test that failed, or a package of which no test is known to have failed.
type failure struct {
	Name  string // "PACKAGE TEST", "PACKAGE"
	Said  string // the beginning and the end of its output
	Final string `json:",omitempty"` // why another run says nothing of it
}

// first and last are how many lines of what a failed test said are shown again at the end.
const first, last = 10, 30

// slowest is how many of the slowest tests are told.
const slowest = 10

// slow is how long a test took, without its subtests.
type slow struct {
	Test, Package string
	Seconds       float64
}

func main() {
	into := flag.String("into", "", "append the counts of the run on standard input to `FILE`")
	again := flag.String("again", "", "print the tests in `FILE` that failed and may be run again")
	total := flag.String("total", "", "print the sum of the runs in `FILE`")
	flag.Parse()
	ok, err := false, errors.New("want -into, -again or -total")
	switch {
	case *into != "":
		ok, err = record(os.Stdin, os.Stdout, *into)
	case *again != "":
		ok, err = list(os.Stdout, *again)
	case *total != "":
		ok, err = sum(os.Stdout, *total)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// record reads a run. A line that is no event is output of the build.
func record(in io.Reader, out io.Writer, file string) (bool, error) {
	c := counts{final: map[string]string{}, started: map[string]bool{}}
	output := map[string][]string{}
	own := map[slow]float64{} // by test and package
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(out, line)
			} else {
				c.take(out, e, output)
				count(own, e)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, err
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(c.started)) { // go test was ended
		fmt.Fprintf(out, "FAIL  %s: it has not ended\n", pkg)
		unended(out, pkg, output)
		c.Failed = append(c.Failed, failure{pkg, "it has not ended\n", ""})
	}
	c.slowestOf(own)
	for i, f := range c.Failed {
		c.Failed[i].Final = c.final[top(f.Name)]
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return false, err
	}
	err = json.NewEncoder(f).Encode(c)
	return len(c.Failed) == 0, errors.Join(err, f.Close())
}

func (c *counts) take(out io.Writer, e event, output map[string][]string) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "start":
		c.started[e.Package] = true
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "output":
		output[key] = append(output[key], e.Output)
		if why := dead(e.Output); why != "" {
			c.final[top(key)] = why
		}
	case "pass":
		if e.Test != "" {
			c.Passed++
			if !strings.Contains(e.Test, "/") {
				c.Done = append(c.Done, key)
			}
		} else {
			fmt.Fprintf(out, "ok    %s %.1fs\n", e.Package, e.Elapsed)
		}
	case "skip":
		if e.Test != "" {
			c.Skipped = append(c.Skipped, key+": "+reason(output[key]))
		}
	case "attr":
		switch e.Key {
		case "repeated":
			c.Repeated = append(c.Repeated, key+": "+e.Value)
			fmt.Fprintf(out, "repeated: %s: %s\n", key, e.Value)
		case "final":
			c.final[top(key)] = e.Value
		}
	case "fail":
		said := verdictFirst(output[key])
		fmt.Fprint(out, strings.Join(said, ""))
		if e.Test != "" || !slices.ContainsFunc(c.Failed, func(f failure) bool { return strings.HasPrefix(f.Name, e.Package+" ") }) {
			c.Failed = append(c.Failed, failure{strings.TrimSpace(key), ends(said), ""})
		}
		if e.Test == "" {
			unended(out, e.Package, output)
			fmt.Fprintf(out, "FAIL  %s %.1fs\n", e.Package, e.Elapsed)
		}
	}
	if e.Test == "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
		delete(c.started, e.Package)
	}
	if e.Action != "output" && e.Action != "attr" {
		delete(output, key)
	}
}

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

// unended shows what tests of a package said that have not ended: its process has died.
func unended(out io.Writer, pkg string, output map[string][]string) {
	for _, key := range slices.Sorted(maps.Keys(output)) {
		if strings.HasPrefix(key, pkg+" ") && key != pkg+" " {
			fmt.Fprint(out, strings.Join(output[key], ""))
			delete(output, key)
		}
	}
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

// slowestOf keeps the slowest tests.
func (c *counts) slowestOf(own map[slow]float64) {
	for s, seconds := range own {
		s.Seconds = seconds
		c.Slow = append(c.Slow, s)
	}
	c.sortSlow()
}

func (c *counts) sortSlow() {
	slices.SortFunc(c.Slow, func(a, b slow) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(a.Package, b.Package), cmp.Compare(a.Test, b.Test))
	})
	c.Slow = c.Slow[:min(len(c.Slow), slowest)]
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

func sum(out io.Writer, file string) (bool, error) {
	runs, err := read(file)
	if err != nil {
		return false, err
	}
	forgive(runs)
	var all counts
	for _, c := range runs {
		all.Passed += c.Passed
		all.Failed = append(all.Failed, c.Failed...)
		all.Skipped = append(all.Skipped, c.Skipped...)
		all.Repeated = append(all.Repeated, c.Repeated...)
		all.Slow = append(all.Slow, c.Slow...)
	}
	all.sortSlow()
	all.print(out)
	return len(all.Failed) == 0 && all.Passed > 0, nil
}

// read gives the runs in a file, in order.
func read(file string) (runs []*counts, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var c counts
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			return runs, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		runs = append(runs, &c)
	}
}

func (c *counts) print(out io.Writer) {
	for _, s := range c.Slow {
		fmt.Fprintf(out, "slow: %s %s %.1fs\n", s.Test, s.Package, s.Seconds)
	}
	for _, s := range c.Skipped {
		fmt.Fprintln(out, "skipped:", s)
	}
	for _, s := range c.Repeated {
		fmt.Fprintln(out, "repeated:", s)
	}
	if len(c.Failed) > 0 {
		fmt.Fprintln(out, "FAIL") // what looks for failures in a long log finds these ones last
	}
	for _, f := range c.Failed {
		fmt.Fprintln(out, "failed:", f.Name)
		if f.Final != "" {
			fmt.Fprintln(out, "  final:", f.Final)
		}
		for l := range strings.Lines(f.Said) {
			fmt.Fprintf(out, "  %.300s\n", strings.TrimRight(l, "\n"))
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", c.Passed, len(c.Failed), len(c.Skipped))
}
