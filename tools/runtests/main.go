// Command runtests runs the tests of this tree: one layer after the other, or drill by drill.
//
//	runtests fast                              units that take moments
//	runtests test                              every layer once (make test)
//	runtests drills [-only REGEXP] [-budget D] [-seed S] [-known]   drills, each alone (make drills)
//	runtests list                              all drills, and what each proves
//	runtests report                            the page docs/drills.md, from the ledger
//
// It is started in the root of the tree. What a test needs and whether it is a drill, the test says
// itself (testbed/need); nothing of that stands here.
//
// The last line of fast, test and drills is "N passed, N failed, N skipped"; the exit code is 1 when something
// failed or nothing ran, 2 for a wrong call, 130 when it was interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// errRed is that something failed, which was told already.
var errRed = errors.New("something has failed")

// wrong is a call that can not be understood.
type wrong struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "runtests: interrupted")
		os.Exit(130)
	case errors.Is(err, errRed):
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "runtests:", err)
		if errors.As(err, &wrong{}) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("runtests", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	only := f.String("only", "", "drills whose name matches `REGEXP`")
	budget := f.Duration("budget", 0, "begin no drill that would end after `D`; 0: no limit")
	known := f.Bool("known", false, "only drills that passed when they ran last")
	seed := f.String("seed", "", "an order drawn by `S`, instead of the longest ago first")
	if len(args) == 0 {
		return wrong{errors.New("want fast, test, drills, list or report")}
	}
	if err := f.Parse(args[1:]); err != nil {
		return wrong{fmt.Errorf("%s: %w", args[0], err)}
	}
	given := f.NFlag() > 0
	switch {
	case f.NArg() > 0:
		return wrong{fmt.Errorf("%s: %q: no arguments are taken", args[0], f.Arg(0))}
	case given && args[0] != "drills":
		return wrong{fmt.Errorf("%s takes no flags", args[0])}
	case *budget < 0:
		return wrong{fmt.Errorf("-budget %s: want a time above 0, as 25m or 2h", *budget)}
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return wrong{fmt.Errorf("-only %q: want a regular expression: %w", *only, err)}
	}
	switch args[0] {
	case "fast":
		return layers(ctx, out, fast)
	case "test":
		return layers(ctx, out, everything)
	case "drills":
		return runDrills(ctx, out, choice{only: match, budget: *budget, seed: *seed, known: *known, now: time.Now})
	case "list":
		return list(out)
	case "report":
		return report(ctx, out)
	}
	return wrong{fmt.Errorf("%q: want fast, test, drills, list or report", args[0])}
}
