package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// choice says which drills are run, and in which order.
type choice struct {
	only   *regexp.Regexp
	budget time.Duration // no drill is begun that would end later; 0: no limit
	seed   string        // an order drawn by it; "": what passed longest ago first
	known  bool          // only those that passed when they ran last: what is known to fail stands on the page
	now    func() time.Time
}

// raceDrill is what a pass of a package's tests under the race detector proves.
const raceDrill = "P3: no data race among the goroutines of this package"

// runsOthers is a package whose tests run the commands of those below it, which begin goroutines.
const runsOthers = "cli"

// drillsOf are all drills of the tree, by name.
func drillsOf(all []*pkg) []drill {
	var out []drill
	for _, p := range all {
		out = append(out, p.drills...)
		out = append(out, p.fuzz...)
		if slices.Contains(p.own, "More") {
			out = append(out, p.rest())
		}
		name := strings.TrimPrefix(short(p.ImportPath), "internal/")
		if (p.goes || name == runsOthers) && len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 {
			out = append(out, drill{Name: "race/" + name, Proves: raceDrill, pkg: p.ImportPath,
				args: slices.Concat([]string{"test"}, race, []string{"-timeout=1h", p.ImportPath})})
		}
	}
	out = append(out,
		drill{Name: "arm64/build", Proves: "hosts of arm64: the tree builds for them",
			args: []string{"build", "-o", os.DevNull, "./cmd/holdfast"}},
		drill{Name: "arm64/vet", Proves: "hosts of arm64: all tests compile for them", args: []string{"vet", "-buildtag", "./..."}},
		drill{Name: "staticcheck", Proves: "no fault that a linter of the whole tree finds",
			args: []string{"run", "honnef.co/go/tools/cmd/staticcheck@v0.8.2", "-tags", "bench", "./..."}})
	slices.SortFunc(out, func(a, b drill) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// environment is what go gets for a drill besides its own.
func (d drill) environment(tmp string) []string {
	kind, _, _ := strings.Cut(d.Name, "/")
	switch {
	case kind == "race":
		return []string{"CGO_ENABLED=1", "HOLDFAST_TESTS=real", "TMPDIR=" + tmp}
	case kind == "arm64":
		return []string{"GOARCH=arm64"}
	}
	return []string{"HOLDFAST_TESTS=drills", "TMPDIR=" + tmp}
}

// isTest says whether go reports events for the drill.
func (d drill) isTest() bool { return len(d.args) > 0 && d.args[0] == "test" }

func (d drill) fuzzes() bool {
	return strings.HasPrefix(d.Name[strings.LastIndexByte(d.Name, '/')+1:], "Fuzz")
}

// unknownLength is what a drill is taken for that was never run.
const unknownLength = 5 * time.Minute

// runDrills runs those that are chosen, each alone.
func runDrills(ctx context.Context, out io.Writer, c choice) error {
	all, err := packages(ctx)
	if err != nil {
		return err
	}
	book, err := readLedger(ledgerFile)
	if err != nil {
		return err
	}
	todo := slices.DeleteFunc(drillsOf(all), func(d drill) bool { return !c.wants(d, book) })
	if len(todo) == 0 && !c.known {
		return wrong{fmt.Errorf("-only %q matches no drill; `runtests list` shows their names", c.only)}
	}
	if err := snapshot(ctx); err != nil {
		return err
	}
	g := git{ctx: ctx}
	order(todo, book, g.changed, c.seed)
	began := c.now()
	var passed, failed, skipped, unstable int
	for i, d := range todo {
		length := book.length(d.Name)
		if c.budget > 0 && c.now().Sub(began)+length > c.budget {
			skipped++
			continue
		}
		fmt.Fprintf(out, "[%d/%d] %s: %s\n", i+1, len(todo), d.Name, d.Proves)
		var results []entry
		for try := 1; try <= 2 && (len(results) == 0 || results[0].Result == failedResult); try++ {
			e, err := d.run(ctx, out, try)
			if ctx.Err() != nil {
				return ctx.Err() // it is not in the ledger, so the next run begins with it
			}
			if err != nil {
				return err
			}
			if e.Result == failedResult { // what it left is told of it only
				if err := snapshot(ctx); err != nil {
					return err
				}
			}
			e.Commit, e.Machine = g.head(), machine()
			results = append(results, e)
			book = append(book, e)
			if err := appendLedger(ledgerFile, e); err != nil {
				return err
			}
		}
		switch end := results[len(results)-1]; {
		case end.Result == passedResult && len(results) == 2:
			passed, unstable = passed+1, unstable+1
			fmt.Fprintf(out, "UNSTABLE %s: it failed, and passed when it was run again (%s)\n", d.Name, results[0].Logs)
		case end.Result == passedResult:
			passed++
			fmt.Fprintf(out, "ok %s %.0fs\n", d.Name, end.Seconds)
		case end.Result == failedResult:
			failed++
			fmt.Fprintf(out, "FAIL %s: twice (%s)\n", d.Name, end.Logs)
		default:
			skipped++
			fmt.Fprintf(out, "not run: %s: %s: %s\n", d.Name, end.Result, end.Said)
		}
	}
	if skipped > 0 && c.budget > 0 {
		fmt.Fprintf(out, "drills: %d of %d begun within %s\n", len(todo)-skipped, len(todo), c.budget)
	}
	if unstable > 0 {
		fmt.Fprintf(out, "unstable: %d, each a defect to be mended\n", unstable)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if failed > 0 || passed == 0 && c.budget == 0 && !c.known {
		return errRed
	}
	return nil
}

// order sorts drills: those that changed since they passed last or that never passed first, then the one
// that passed longest ago. A seed draws the order within both halves instead.
func order(todo []drill, book ledger, changed func(since string, d drill) bool, seed string) {
	if seed != "" {
		h := fnv.New64a()
		h.Write([]byte(seed))
		r := rand.New(rand.NewPCG(h.Sum64(), 0))
		r.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	}
	type rank struct {
		late bool
		at   time.Time
	}
	ranks := map[string]rank{}
	for _, d := range todo {
		last, ok := book.passed(d.Name)
		ranks[d.Name] = rank{ok && !changed(last.Commit, d), last.At}
	}
	slices.SortStableFunc(todo, func(a, b drill) int {
		x, y := ranks[a.Name], ranks[b.Name]
		if x.late != y.late {
			if y.late {
				return -1
			}
			return 1
		}
		if seed != "" {
			return 0
		}
		return cmp.Or(x.at.Compare(y.at), strings.Compare(a.Name, b.Name))
	})
}

// logsDir has a folder for each drill that failed.
const logsDir = "out/drills"

// keptDir is where tests of e2e put what explains a failure.
const keptDir = "out/kept"

// run runs a drill once.
func (d drill) run(ctx context.Context, out io.Writer, try int) (e entry, err error) {
	began := time.Now()
	dir := filepath.Join(logsDir, fmt.Sprintf("%s-%s-%d",
		strings.ReplaceAll(d.Name, "/", "."), began.UTC().Format("20060102T150405"), try))
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.RemoveAll(keptDir)); err != nil {
		return e, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return e, err
	}
	defer log.Close()
	// In /var/tmp, as programs in /tmp may be forbidden to run. Paths of sockets are to be short.
	tmp, err := os.MkdirTemp("/var/tmp", "d")
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	// Daemons that a test starts may give up their rights before they read their files, as dnsmasq does.
	if err := os.Chmod(tmp, 0o711); err != nil {
		return e, err
	}

	e = entry{Drill: d.Name, At: began.UTC().Truncate(time.Second), Try: try, Logs: dir}
	args := slices.Clone(d.args)
	if d.isTest() {
		args = slices.Insert(args, 1, "-json", "-vet=off")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	c, err := reported(cmd, log, d.environment(tmp), func(string, string, float64) {})
	if err != nil {
		return e, err
	}
	switch {
	case d.fuzzes(): // a fuzzing process may be killed when its time is over, and leaves its files
		c.outOfTime()
		err = errors.Join(os.RemoveAll(tmp), leavings(ctx, log, c))
	case d.isTest():
		err = errors.Join(emptied(tmp, c), leavings(ctx, log, c))
	}
	if err != nil {
		return e, err
	}
	e.Seconds = float64(time.Since(began).Round(100*time.Millisecond)) / float64(time.Second)
	e.Seed = c.seed
	switch {
	case len(c.Damaged) > 0:
		e.Result, e.Said = damagedResult, c.Damaged[0]
	case len(c.Failed) > 0:
		e.Result = failedResult
		if _, err := os.Stat(keptDir); err == nil {
			err = os.Rename(keptDir, filepath.Join(dir, "kept"))
			if err != nil {
				return e, err
			}
		}
		for _, l := range expected(c.Failed) {
			fmt.Fprintln(out, "   ", l)
		}
	case d.isTest() && c.Passed == 0:
		e.Result, e.Said = skippedResult, "no test ran"
		if len(c.Skipped) > 0 {
			_, e.Said, _ = strings.Cut(c.Skipped[0], ": ")
		}
	default:
		e.Result, e.Logs = passedResult, ""
	}
	if e.Result == failedResult || e.Result == damagedResult {
		return e, nil
	}
	return e, os.RemoveAll(dir)
}

// outOfTime counts a fuzz test as passed that "failed" only as its time was over: Go before 1.27 takes the end of -fuzztime
// for a failure now and then (https://go.dev/issue/75804). An input that fails, or hangs, says more.
func (c *counts) outOfTime() {
	all := len(c.Failed)
	c.Failed = slices.DeleteFunc(c.Failed, func(f failure) bool {
		said := slices.DeleteFunc(strings.Split(strings.TrimSpace(f.Said), "\n"), progress.MatchString)
		return len(said) == 1 && strings.TrimSpace(said[0]) == "context deadline exceeded"
	})
	c.Passed += all - len(c.Failed)
}

// progress is a line that says nothing of why a fuzz test failed.
var progress = regexp.MustCompile(`^(=== (RUN|NAME).*|--- FAIL: Fuzz\w+ \(.*\)|fuzz: elapsed: .*|\.\.\.)$`)

// emptied removes the folder that a drill had for its files. What is still in it is a failed test.
func emptied(tmp string, c *counts) error {
	left, err := os.ReadDir(tmp)
	for _, f := range left {
		c.Failed = append(c.Failed, failure{Name: "what is left", Said: "left in the folder for temporary files: " + f.Name()})
	}
	return errors.Join(err, os.RemoveAll(tmp))
}

// wants reports whether a drill is chosen.
func (c choice) wants(d drill, book ledger) bool {
	last, _ := book.last(d.Name)
	return c.only.MatchString(d.Name) && (!c.known || last.Result == passedResult)
}

// expected is what failed tests expected and saw: their first message and their last two, each with its last lines.
func expected(all []failure) []string {
	var messages [][]string
	for _, f := range all {
		for l := range strings.Lines(f.Said) {
			l = strings.TrimSpace(l)
			switch k := len(messages) - 1; {
			case said.MatchString(l):
				messages = append(messages, []string{l})
			case k >= 0 && !strings.HasPrefix(l, "--- ") && !strings.HasPrefix(l, "=== "):
				messages[k] = append(messages[k], l)
			}
		}
	}
	if len(messages) == 0 && len(all) > 0 { // a panic, or no test
		said := strings.Split(strings.TrimSpace(all[0].Said), "\n")
		return said[:min(3, len(said))]
	}
	if len(messages) > 3 {
		messages = slices.Delete(messages, 1, len(messages)-2)
	}
	const more = 5
	for i, m := range messages {
		messages[i] = append(m[:1:1], m[max(1, len(m)-more):]...)
	}
	return slices.Concat(messages...)
}

// said is a line of testing.T's Log or Error.
var said = regexp.MustCompile(`^\w+\.go:\d+: `)

// list prints all drills.
func list(out io.Writer) error {
	all, err := packages(context.Background())
	if err != nil {
		return err
	}
	for _, d := range drillsOf(all) {
		fmt.Fprintf(out, "%-60s %s\n", d.Name, d.Proves)
	}
	return nil
}
