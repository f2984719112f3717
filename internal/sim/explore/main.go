package explore

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// ViolationError says that the search has found a rule broken. What it was has
// been printed; callers exit with status 1.
type ViolationError struct{ Count int }

func (e ViolationError) Error() string {
	return fmt.Sprintf("%d rules of the safety model were broken in the explored states", e.Count)
}

// AddFlags adds the flags of a search to a command, but for the output format.
// --depth has no short form; its default is DefaultDepth.
func AddFlags(cmd *cobra.Command, o *Options) {
	f := cmd.Flags()
	f.IntVar(&o.Depth, "depth", DefaultDepth, "exhaustive: steps of a path, at most")
	f.IntVar(&o.Faults, "faults", DefaultFaults, "exhaustive: faults on one path, at most (-1: none)")
	f.IntVar(&o.Delays, "delays", DefaultDelays, "exhaustive: delays on one path, at most (-1: none)")
	f.IntVar(&o.Orders, "orders", 0, "exhaustive: requests of operators on one path, at most")
	f.BoolVar(&o.Skew, "skew", false, "exhaustive: one host's clock may lose a tick")
	f.BoolVar(&o.AnyOrder, "any-order", false, "exhaustive: what is due happens in every order")
	f.StringSliceVar(&o.Begin, "begin", nil, "exhaustive: begin states, of "+strings.Join(BeginNames(), ", ")+" (all)")
	f.StringSliceVar(&o.Only, "only", nil, "exhaustive: faults and delays that may happen, of "+strings.Join(KindNames(), ", ")+" (all)")
	f.StringVar(&o.Plant, "plant", "", "exhaustive: put a bug in, to see it found: "+strings.Join(PlantNames(), ", "))
	f.IntVar(&o.Workers, "workers", DefaultWorkers, "exhaustive: goroutines")
	f.IntVar(&o.MaxStates, "max-states", DefaultMaxStates, "exhaustive: begin no deeper level after so many states")
	f.DurationVar(&o.Limit, "limit", DefaultLimit, "exhaustive: end after this time")
}

// Main explores and prints the result to out, as format says: text or json. It
// returns a ViolationError when a rule was broken.
func Main(ctx context.Context, out io.Writer, o Options, format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("output format %q: want text or json", format)
	}
	r, err := Run(ctx, o)
	if err != nil {
		return err
	}
	if format == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		_, err = io.WriteString(out, r.text())
	}
	if err != nil {
		return fmt.Errorf("print what was explored: %w", err)
	}
	if n := len(r.Violations); n > 0 {
		return ViolationError{n}
	}
	return nil
}

// text tells a result to people.
func (r *Result) text() string {
	var b strings.Builder
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "VIOLATION %s: %s\n%s\n\n", v.Rule, v.Detail, strings.Join(v.Path, "\n"))
	}
	how := "not all of the next level"
	switch {
	case r.Closed:
		how = "nothing is left beyond"
	case r.Complete:
		how = "complete"
	case len(r.Violations) > 0:
		how = "ended at the first violation"
	}
	fmt.Fprintf(&b, "depth %d (%s), %d states, %d transitions, %d violations, %.1f s\n",
		r.Depth, how, r.States, r.Transitions, len(r.Violations), r.Seconds)
	return b.String()
}
