package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"holdfast/internal/sim/explore"
)

// Found tells how the search for one planted bug ended.
type Found struct {
	Name   string `json:"name"`
	Breaks string `json:"breaks"`         // the sentence of the safety model
	Seed   uint64 `json:"seed,omitempty"` // of the run that found it; 0: none did
	Rule   string `json:"rule,omitempty"` // the invariant that did not hold
	Detail string `json:"detail,omitempty"`
	Runs   int    `json:"runs"` // random scenarios that were tried

	// Exhaustive is how the search of all courses found it.
	Exhaustive *Explored `json:"exhaustive,omitempty"`
	OutOfScope string    `json:"out_of_scope,omitempty"` // why that can not reach it
}

// Explored is an exhaustive search that ended at a violation.
type Explored struct {
	Depth  int    `json:"depth"`
	States int64  `json:"states"`
	Rule   string `json:"rule"`
}

// explore looks for the bug among all courses of a small cluster.
func (f *Found) explore(ctx context.Context) error {
	o, why, ok := explore.Scope(f.Name)
	if !ok {
		if f.OutOfScope = why; why == "" {
			f.OutOfScope = "the explorer does not model what it breaks"
		}
		return nil
	}
	r, err := explore.Run(ctx, o)
	if err != nil {
		return fmt.Errorf("explore with bug %s: %w", f.Name, err)
	}
	if len(r.Violations) > 0 {
		f.Exhaustive = &Explored{r.Depth, r.States, r.Violations[0].Rule}
	}
	return nil
}

// missed reports that a search that could have found the bug did not.
func (f *Found) missed() bool { return f.Seed == 0 || f.Exhaustive == nil && f.OutOfScope == "" }

// Planted looks for each planted bug in at most limit random scenarios, with the
// seeds 1, 2 ... A bug is found when a rule is broken by which it must be.
func Planted(limit int) ([]Found, error) {
	var out []Found
	for _, b := range bugs() {
		f, err := b.search(limit)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func (b Bug) search(limit int) (Found, error) {
	f := Found{Name: b.Name, Breaks: b.Breaks}
	for seed := uint64(1); f.Seed == 0 && f.Runs < limit; seed++ {
		s, err := Parse(random(seed, b.focus))
		if err != nil {
			return f, fmt.Errorf("make scenario of seed %d for bug %s: %w", seed, b.Name, err)
		}
		s.Steps = append(s.Steps, Step{Before: true, Words: []string{"plant", b.Name}})
		res, err := Run(s, false)
		if err != nil {
			return f, fmt.Errorf("run scenario of seed %d with bug %s: %w", seed, b.Name, err)
		}
		f.Runs++
		for _, v := range res.Violations {
			if f.Seed == 0 && slices.Contains(b.Rules, v.Rule) {
				f.Seed, f.Rule, f.Detail = seed, v.Rule, v.Detail
			}
		}
	}
	return f, nil
}

// MissedError says that planted bugs were not found. Callers exit with status 1.
type MissedError struct{ Names []string }

func (e MissedError) Error() string {
	return fmt.Sprintf("%d planted bugs were not found: %s", len(e.Names), strings.Join(e.Names, ", "))
}

// plantedRuns is how many random scenarios a planted bug gets.
const plantedRuns = 3000

// printPlanted searches and writes the result in the format text or json. It
// fails when a bug was not found.
func printPlanted(ctx context.Context, out io.Writer, format string) error {
	found, err := Planted(plantedRuns)
	if err != nil {
		return err
	}
	var missed []string
	for i := range found {
		if err := found[i].explore(ctx); err != nil {
			return err
		}
		if found[i].missed() {
			missed = append(missed, found[i].Name)
		}
	}
	if format == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(struct {
			Planted int     `json:"planted"`
			Found   int     `json:"found"`
			Bugs    []Found `json:"bugs"`
		}{len(found), len(found) - len(missed), found})
	} else {
		err = textPlanted(out, found, len(missed))
	}
	if err != nil {
		return fmt.Errorf("print planted bugs: %w", err)
	}
	if len(missed) > 0 {
		return MissedError{missed}
	}
	return nil
}

func textPlanted(out io.Writer, found []Found, missed int) error {
	for _, f := range found {
		says := fmt.Sprintf("NOT FOUND in %d runs", f.Runs)
		if f.Seed != 0 {
			says = fmt.Sprintf("found by seed %d: %s: %s", f.Seed, f.Rule, f.Detail)
		}
		every := "exhaustive search: out of scope: " + f.OutOfScope
		if x := f.Exhaustive; x != nil {
			every = fmt.Sprintf("exhaustive search: %s at depth %d, after %d states", x.Rule, x.Depth, x.States)
		} else if f.OutOfScope == "" {
			every = "exhaustive search: NOT FOUND"
		}
		if _, err := fmt.Fprintf(out, "%-22s %s\n%22s %s\n%22s %s\n", f.Name, f.Breaks, "", says, "", every); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%d planted, %d found\n", len(found), len(found)-missed)
	return err
}
