package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// which says how much runs.
type which bool

const (
	fast       which = false // units that take moments
	everything which = true  // every layer
)

// takes is how long a run of everything took where the compiler's cache is warm, and where it is empty (bench/RESULTS.md).
const takes = "about 12 minutes on two quiet cores, 25 where nothing was compiled before"

// layer is a part of a run. All packages of one are one call of `go test`.
type layer struct {
	name string
	pkgs []string
	args []string // of go test
	env  []string
}

// races are the packages whose tests run under the race detector in each run, as goroutines meet there all the time. All
// others do in a drill.
var races = []string{"ha/loop", "job/engine", "host/heartbeat", "server", "lib/admit", "agent", "store/storetest"}

// race is what go test gets for the race detector. -cpu=1: with more, two threads use one context of it for the timers of a
// bubble (testing/synctest), and the program ends by a signal, 3 of 40 runs of a test with Go 1.26; a race is found by the
// order of what happens, for which one processor is enough.
var race = []string{"-race", "-cpu=1", "-count=1"}

// limit is how long the tests of one package may take, and the only bound of most of them.
const limit = "-timeout=20m"

// plan says what a run does, in order.
func plan(all []*pkg, much which) (out []layer) {
	real := realOnes(all)
	units, raced, ports, ends := layer{name: "units"}, layer{name: "race detector"}, layer{name: "real components"}, layer{name: "end to end"}
	for _, p := range all {
		switch path := p.ImportPath; {
		case len(p.TestGoFiles)+len(p.XTestGoFiles) == 0:
		case much == fast:
			units.pkgs = append(units.pkgs, path)
		case path == "holdfast/e2e":
			ends.pkgs = append(ends.pkgs, path)
		case real[path]:
			ports.pkgs = append(ports.pkgs, path)
		default:
			units.pkgs = append(units.pkgs, path)
		}
		if slices.Contains(races, strings.TrimPrefix(p.ImportPath, "holdfast/internal/")) {
			raced.pkgs = append(raced.pkgs, p.ImportPath)
		}
	}
	units.args = []string{fmt.Sprintf("-p=%d", 2*runtime.NumCPU())} // a third of what they take is waiting
	if much == fast {
		units.args = append(units.args, "-short")
		return []layer{units}
	}
	raced.args, raced.env = append(slices.Clone(race), "-short"), []string{"CGO_ENABLED=1"}
	ports.args = []string{"-count=1", "-p=2"}       // on a large machine, too: etcd and libvirtd wait for its one disk
	ends.args = []string{"-count=1", "-timeout=1h"} // one wait that is not met takes ten minutes of it
	ports.env = []string{"HOLDFAST_TESTS=real"}
	ends.env = ports.env
	return []layer{units, raced, ports, ends}
}

// layers runs the tests, one layer after the other.
func layers(ctx context.Context, out io.Writer, much which) error {
	began := time.Now()
	all, err := packages(ctx)
	if err != nil {
		return err
	}
	if much == everything {
		if err := snapshot(ctx); err != nil {
			return err
		}
	}
	todo := plan(all, much)
	if much == everything {
		fmt.Fprintf(out, "%d layers: %s\n", len(todo), takes)
	}
	var sum counts
	var times strings.Builder
	for i, l := range todo {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		from, busy := time.Now(), busySeconds()
		done := 0
		c, err := goTest(ctx, out, l.args, l.env, l.pkgs, func(p, how string, seconds float64) {
			place := "       " // of a test
			if !strings.Contains(p, " ") {
				done++
				place = fmt.Sprintf("%3d/%d", done, len(l.pkgs))
			}
			fmt.Fprintf(out, "[%d/%d %s] %s %-4s %6.1fs  %s  (%s)\n",
				i+1, len(todo), l.name, place, how, seconds, short(p), clock(time.Since(began)))
		})
		if err != nil {
			return err
		}
		if l.env != nil && os.Geteuid() == 0 { // units are for every machine
			c.insist()
		}
		sum.add(c)
		fmt.Fprintf(&times, "layer: %-16s %8s %6.0f processor seconds, %d tests, %d failed\n", l.name,
			clock(time.Since(from)), busySeconds()-busy, c.tests, len(c.Failed))
	}
	if much == everything {
		if err := leavings(ctx, out, &sum); err != nil {
			return err
		}
	}
	fmt.Fprint(out, times.String())
	if sum.unwanted > 0 && much == everything {
		fmt.Fprintf(out, "left to `make drills`: %d\n", sum.unwanted)
	}
	sum.print(out)
	if len(sum.Failed) > 0 || sum.Passed == 0 {
		return errRed
	}
	return nil
}

// goTest runs `go test -json` on packages, and gives what it reported. It ends go test's whole
// process group when ctx does.
func goTest(ctx context.Context, out io.Writer, args, env, pkgs []string, done func(pkg, how string, seconds float64)) (*counts, error) {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"test", "-json", "-vet=off", "-ldflags=-s", limit}, args, pkgs)...)
	return reported(cmd, out, env, done)
}

func reported(cmd *exec.Cmd, out io.Writer, env []string, done func(pkg, how string, seconds float64)) (*counts, error) {
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 2 * time.Minute // tests clean up
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	c := new(counts)
	rerr := c.read(r, out, done)
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if len(c.Failed) == 0 { // the build has failed, or go test was killed
			c.Failed = append(c.Failed, failure{strings.Join(cmd.Args, " "), exit.String() + "\n"})
		}
		err = nil
	}
	return c, errors.Join(rerr, err)
}

// clock is a time as m:ss.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// ticks is how many units of /proc/stat make a second: USER_HZ, which is 100 wherever Go runs.
const ticks = 100

// busySeconds is what the processors of this machine have worked since its start, see proc(5). On a machine that does nothing
// else, a difference counts daemons that a test has begun, too, which wait(2) does not.
func busySeconds() float64 {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var sum float64
	for i, f := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // the name, idle, iowait; guests are counted in user
			continue
		}
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0
		}
		sum += n
	}
	return sum / ticks
}
