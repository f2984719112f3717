package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Found tells how the search for one planted bug ended.
type Found struct {
	Name   string `json:"name"`
	Breaks string `json:"breaks"`         // the sentence of the safety model
	Seed   uint64 `json:"seed,omitempty"` // of the run that found it; 0: none did
	Rule   string `json:"rule,omitempty"` // the invariant that did not hold
	Detail string `json:"detail,omitempty"`
	Runs   int    `json:"runs"` // random scenarios that were tried
}

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
func printPlanted(out io.Writer, format string) error {
	found, err := Planted(plantedRuns)
	if err != nil {
		return err
	}
	var missed []string
	for _, f := range found {
		if f.Seed == 0 {
			missed = append(missed, f.Name)
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
		if _, err := fmt.Fprintf(out, "%-22s %s\n%22s %s\n", f.Name, f.Breaks, "", says); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%d planted, %d found\n", len(found), len(found)-missed)
	return err
}
