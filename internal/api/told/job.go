package told

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/job"
)

// JobState is the state, or the result of a job that has ended.
func JobState(j job.View) Cell {
	switch {
	case j.State != "ended":
		return Cell{Clean(j.State), Warn}
	case j.Result == "done":
		return Cell{"done", Good}
	}
	return Cell{Or(j.Result, "ended"), Bad}
}

// StepState is the state of a step.
func StepState(s job.StepView) Cell {
	switch s.State {
	case "done":
		return Cell{"done", Good}
	case "failed", "unknown":
		return Cell{s.State, Bad}
	case "running":
		if s.Percent == 0 { // most never tell
			return Cell{"running", Warn}
		}
		return Cell{fmt.Sprintf("running %d %%", s.Percent), Warn}
	}
	return Cell{Clean(s.State), Plain}
}

// StuckSteps are those that an operator has to decide about.
func StuckSteps(j job.View) []job.StepView {
	var out []job.StepView
	for _, s := range j.Steps {
		if s.State == "failed" || s.State == "unknown" {
			out = append(out, s)
		}
	}
	return out
}

// Stuck says why a step is stuck.
func Stuck(s job.StepView) Line {
	word := s.State
	if word == "unknown" {
		word = "unclear"
	}
	text := Clean(s.ID)
	if s.Why != "" {
		text += ": " + Clean(s.Why)
	}
	return Line{word, Bad, text}
}

// LastLines are the last lines of the end of a log, at most so many, without empty ones.
func LastLines(tail string, most int) []string {
	log := strings.Split(strings.TrimRight(tail, "\n"), "\n")
	var out []string
	for _, l := range log[max(0, len(log)-most):] {
		if l != "" {
			out = append(out, Clean(l))
		}
	}
	return out
}

// Speaking are the steps that run and have said something.
func Speaking(j job.View) []job.StepView {
	return slices.DeleteFunc(slices.Clone(j.Steps), func(s job.StepView) bool {
		return s.State != "running" || s.Said.IsZero() || strings.TrimSpace(s.Tail) == ""
	})
}

// maxNames of what is said of several.
const maxNames = 20

// Together makes one text of those that say the same of several hosts, or of steps: "h1, h2: it is down" of
// "h1: it is down" and "h2: it is down". The name is before the first colon, or, behind a command, before the second.
func Together(texts []string) []string {
	type group struct {
		parts []string // of the first text, at colons
		at    int      // part that has the names; -1: none differed yet
		names []string
	}
	var groups []*group
	for _, t := range texts {
		parts := strings.SplitN(t, ": ", 3)
		found := false
		for _, g := range groups {
			if len(g.parts) != len(parts) {
				continue
			}
			var differ []int
			for i := range parts {
				if parts[i] != g.parts[i] {
					differ = append(differ, i)
				}
			}
			last := len(parts) - 1
			switch {
			case len(differ) == 0:
				found = true
			case len(differ) == 1 && differ[0] < last && !strings.Contains(parts[differ[0]], " ") && (g.at < 0 || g.at == differ[0]):
				found, g.at = true, differ[0]
				if len(g.names) == 0 {
					g.names = []string{g.parts[g.at]}
				}
				if !slices.Contains(g.names, parts[g.at]) {
					g.names = append(g.names, parts[g.at])
				}
			}
			if found {
				break
			}
		}
		if !found {
			groups = append(groups, &group{parts: parts, at: -1})
		}
	}
	out := make([]string, len(groups))
	for i, g := range groups {
		if g.at >= 0 {
			if more := len(g.names) - maxNames; more > 0 {
				g.names = append(g.names[:maxNames], fmt.Sprintf("and %d more", more))
			}
			g.parts[g.at] = strings.Join(g.names, ", ")
		}
		out[i] = strings.Join(g.parts, ": ")
	}
	return out
}
