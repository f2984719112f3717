package explore

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// ViolationError says that the search has found a rule broken. What it was has
// been printed; callers exit with status 1.
type ViolationError struct{ Count int }

func (e ViolationError) Error() string {
	return fmt.Sprintf("%d rules of the safety model were broken in the explored states", e.Count)
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
