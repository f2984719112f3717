package check

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/upgrade/check/faults"
)

// Journal is what a run has left behind, as far as reports tell of it.
type Journal struct {
	State string    // of the cluster: normal, rollup, prepared, commit, rolldown
	Steps []StepEnd // in the order of the plan
}

// StepEnd is how a step of a run stands.
type StepEnd struct {
	Step    string // id
	Host    cluster.HostID
	Module  string
	Phase   string
	State   StepState
	Soft    bool // its failure fails nothing
	Attempt int  // counts from 1
	Exit    int  // of a program that was run
	Why     string
	By      string        // operator who skipped it
	Tail    string        // end of its log
	Found   []job.Finding // what its program has said of trouble
}

// StepState is how far a step has come.
type StepState string

// States of steps.
const (
	StepPending StepState = "pending" // also of steps that another has made needless
	StepRunning StepState = "running"
	StepDone    StepState = "done"
	StepFailed  StepState = "failed"
	StepUnknown StepState = "unknown" // begun, and nobody can tell whether it was done
	StepSkipped StepState = "skipped"
)

// Steps counts the steps of a run by their states.
type Steps struct {
	All     int `json:"all"`
	Done    int `json:"done"`
	Failed  int `json:"failed,omitempty"`
	Unknown int `json:"unknown,omitempty"`
	Skipped int `json:"skipped,omitempty"`
	Running int `json:"running,omitempty"`
	Pending int `json:"pending,omitempty"`
}

// Failure is a step that was not done as it should be.
type Failure struct {
	Step    string         `json:"step"`
	Host    cluster.HostID `json:"host,omitempty"`
	State   StepState      `json:"state"` // failed, unknown or skipped; done: with Faults to be looked at
	Level   Level          `json:"level"` // Warn: it stops nothing
	Attempt int            `json:"attempt,omitempty"`
	Exit    int            `json:"exit,omitempty"` // of a program that was run
	Why     string         `json:"why,omitempty"`
	By      string         `json:"by,omitempty"`     // operator who skipped it
	Tail    string         `json:"tail,omitempty"`   // end of its log
	Faults  []faults.Hit   `json:"faults,omitempty"` // by what its program has said, its log and why it failed
}

// Failed returns what was not done as it should be, what stops the run first, with
// what is known of it, and what was done while its program has spoken of trouble. known may
// be nil: nothing is known.
func Failed(j Journal, known *faults.Catalogue) ([]Failure, error) {
	var out []Failure
	for i := range j.Steps {
		s := &j.Steps[i]
		f := Failure{Step: s.Step, Host: s.Host, State: s.State, Level: Fail, Attempt: s.Attempt, Exit: s.Exit,
			Why: s.Why, By: s.By, Tail: s.Tail}
		switch s.State {
		case StepFailed, StepUnknown:
			if s.Soft {
				f.Level = Warn
			}
		case StepSkipped:
			f.Level = Warn
		case StepDone:
			if len(s.Found) == 0 {
				continue
			}
			f.Level, f.Tail = Warn, "" // the lines that count are among the faults
		default:
			continue
		}
		for _, x := range s.Found {
			f.Faults = append(f.Faults, faults.Hit{ID: x.Fault, Level: faults.Level(x.Level),
				Causes: known.Causes(x.Fault), Text: x.Text, File: x.File})
		}
		if known != nil && s.State != StepDone {
			hits, err := known.Match(faults.Source{Module: s.Module, Phase: s.Phase}, strings.NewReader(s.Tail+"\n"+s.Why))
			if err != nil {
				return nil, fmt.Errorf("look at the log of %s: %w", s.Step, err)
			}
			f.Faults = append(f.Faults, slices.DeleteFunc(hits, func(h faults.Hit) bool {
				return slices.ContainsFunc(f.Faults, func(x faults.Hit) bool { return x.ID == h.ID })
			})...)
		}
		out = append(out, f)
	}
	byLevel(out, func(f Failure) Level { return f.Level })
	return out, nil
}

// CountSteps counts the steps of a run.
func CountSteps(j Journal) Steps {
	n := Steps{All: len(j.Steps)}
	for i := range j.Steps {
		switch j.Steps[i].State {
		case StepDone:
			n.Done++
		case StepFailed:
			n.Failed++
		case StepUnknown:
			n.Unknown++
		case StepSkipped:
			n.Skipped++
		case StepRunning:
			n.Running++
		default:
			n.Pending++
		}
	}
	return n
}

// String writes 57 of 60 done, 1 failed, 2 not begun.
func (n Steps) String() string {
	parts := []string{fmt.Sprintf("%d of %d done", n.Done, n.All)}
	for _, p := range []struct {
		n    int
		word string
	}{{n.Failed, "failed"}, {n.Unknown, "unclear"}, {n.Skipped, "skipped"}, {n.Running, "under way"}, {n.Pending, "not begun"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	return strings.Join(parts, ", ")
}

// Worst returns the worst level among the findings and the failures of the run.
func (r *Report) Worst() Level {
	w := Worst(r.Findings)
	for _, f := range r.Failures {
		if f.Level.rank() < w.rank() {
			w = f.Level
		}
	}
	return w
}

// String says in a sentence what became of the step.
func (f Failure) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Step %s", f.Step)
	if f.Host != "" {
		fmt.Fprintf(&b, " of host %s", f.Host)
	}
	switch f.State {
	case StepUnknown:
		b.WriteString(" may or may not have been done")
	case StepSkipped:
		b.WriteString(" was skipped")
		if f.By != "" {
			b.WriteString(" by " + f.By)
		}
	case StepDone:
		b.WriteString(" was done, and its program has reported faults")
	default:
		b.WriteString(" failed")
	}
	var more []string
	if f.Attempt > 1 {
		more = append(more, fmt.Sprintf("attempt %d", f.Attempt))
	}
	if f.Exit != 0 {
		more = append(more, fmt.Sprintf("exit code %d", f.Exit))
	}
	if len(more) > 0 {
		b.WriteString(" (" + strings.Join(more, ", ") + ")")
	}
	if f.Why != "" {
		b.WriteString(": " + f.Why)
	}
	return b.String()
}

// About returns the findings about one host and what is on it, and an ok for each
// check that found nothing to warn of there or in the cluster.
func About(fs []Finding, h cluster.HostID) []Finding {
	bad := map[string]bool{}
	for _, f := range fs {
		if (f.Host == h || f.Host == "") && (f.Level == Warn || f.Level == Fail) {
			bad[f.Check] = true
		}
	}
	var out []Finding
	seen := map[string]bool{}
	for _, f := range fs {
		if f.Host == h {
			out = append(out, f)
		}
		if !bad[f.Check] && !seen[f.Check] {
			seen[f.Check] = true
			out = append(out, Finding{Check: f.Check, Scope: ScopeCluster, Level: OK, Text: titleOf(f.Check)})
		}
	}
	Sort(out)
	return out
}

// titleOf returns the title of a check, its id when it is not one of ours.
func titleOf(id string) string {
	list := List()
	if i := slices.IndexFunc(list, func(c Check) bool { return c.ID == id }); i >= 0 {
		return list[i].Title
	}
	return id
}
