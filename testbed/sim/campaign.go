package sim

import (
	"fmt"
	"strings"
	"time"
)

// Failure is a run that broke a rule, with what is needed to repeat it.
type Failure struct {
	Seed      uint64    `json:"seed,omitempty"` // of the run; 0: from a scenario folder
	Name      string    `json:"name,omitempty"` // of the scenario folder
	Violation Violation `json:"violation"`
	Scenario  string    `json:"scenario"` // the text that repeats it
	Trace     []string  `json:"trace"`    // the last events before it
}

// String gives all of it for a person.
func (f Failure) String() string {
	return fmt.Sprintf("seed %d %s: %s at T+%.3f: %s\n--- scenario\n%s--- trace\n%s\n", f.Seed, f.Name,
		f.Violation.Rule, f.Violation.At.Seconds(), f.Violation.Detail, f.Scenario, strings.Join(f.Trace, "\n"))
}

// Report sums up simulations.
type Report struct {
	Runs    int
	Steps   int64
	Failed  []Failure
	Outage  time.Duration // the longest time in which the guest was wanted, could run and did not
	Longest uint64        // the seed of that run
	Fenced  int           // hosts that a fence device switched off
	False   int           // of them, those that were healthy
}

// traceKept is how many lines before a violation a failure shows.
const traceKept = 400

// Campaign runs random scenarios with the seeds seed, seed+1 ... It stops after
// the first ten that break a rule.
func Campaign(seed uint64, runs int) (Report, error) {
	const stop = 10
	var r Report
	for i := range runs {
		s, err := Parse(Random(seed + uint64(i)))
		if err != nil {
			return r, fmt.Errorf("make scenario of seed %d: %w", seed+uint64(i), err)
		}
		if _, err := r.add(s, ""); err != nil {
			return r, err
		}
		if len(r.Failed) >= stop {
			break
		}
	}
	return r, nil
}

// add runs one scenario and returns its events. One that breaks a rule which it
// does not expect is run again with a trace.
func (r *Report) add(s Scenario, name string) ([]Line, error) {
	res, err := Run(s, false)
	if err != nil {
		return nil, fmt.Errorf("run scenario %s of seed %d: %w", name, s.Seed, err)
	}
	r.Runs++
	r.Steps += res.Steps
	r.Fenced += res.Fenced
	r.False += res.False
	if res.Outage > r.Outage {
		r.Outage, r.Longest = res.Outage, s.Seed
	}
	found := Violation{}
	if len(res.Violations) > 0 {
		found = res.Violations[0]
	} else if s.Expect != "" {
		found = Violation{"expected-" + s.Expect, s.End, "the scenario expects a violation, and there was none"}
	}
	if found.Rule == s.Expect {
		return res.Lines, nil
	}
	again, err := Run(s, true)
	if err != nil {
		return nil, fmt.Errorf("repeat scenario %s of seed %d: %w", name, s.Seed, err)
	}
	f := Failure{Seed: s.Seed, Name: name, Violation: found, Scenario: s.String()}
	for _, l := range again.Lines[max(0, len(again.Lines)-traceKept):] {
		f.Trace = append(f.Trace, l.String())
	}
	r.Failed = append(r.Failed, f)
	return res.Lines, nil
}
