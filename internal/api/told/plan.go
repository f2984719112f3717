package told

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

// PlanTitle names a plan.
func PlanTitle(p *upgrade.Plan) string {
	return Clean(fmt.Sprintf("%s %s: %s %s of %d hosts, from %s", p.Bundle, p.To, p.Options.Mode, p.Purpose, len(p.Hosts), p.From))
}

// PlanEstimate says what a plan is expected to take.
func PlanEstimate(p *upgrade.Plan) string {
	e := p.Estimate
	return fmt.Sprintf("%d steps; guests that move: %d (%d GiB), that stop for a while: %d; about %s",
		e.Steps, e.Moves, e.MovedMiB>>10, e.Stops, Ago(e.Total))
}

// PlanFindings are what stands in the way first, and of the findings of a rule at most so many; more says how many others
// there are.
func PlanFindings(p *upgrade.Plan, most int, more func(rule string, n int) string) []Line {
	words := []struct {
		level upgrade.Level
		word  string
		tone  Tone
	}{{upgrade.Block, "blocked", Bad}, {upgrade.Warn, "warning", Warn}, {upgrade.Info, "note", Plain}}
	var out []Line
	for _, w := range words {
		var rules []string
		of := map[string]int{}
		for _, f := range p.Findings {
			if f.Level != w.level {
				continue
			}
			if of[f.Rule]++; of[f.Rule] > most {
				if !slices.Contains(rules, f.Rule) {
					rules = append(rules, f.Rule)
				}
				continue
			}
			text := f.Rule
			for _, about := range []string{string(f.Host), f.VM} {
				if about != "" {
					text += " " + about
				}
			}
			text += ": " + f.Text
			if f.Remedy != "" {
				text += " What to do: " + f.Remedy + "."
			}
			out = append(out, Line{w.word, w.tone, Clean(text)})
		}
		for _, rule := range rules {
			out = append(out, Line{w.word, w.tone, more(Clean(rule), of[rule]-most)})
		}
	}
	return out
}

// StageRules says in words which rules hold for a stage.
func StageRules(p *upgrade.Plan, s *upgrade.Stage) string {
	switch {
	case s.Kind == upgrade.Turn:
		return fmt.Sprintf("leave service, %d at once", p.Options.MaxUnavailable.Of(len(p.Hosts)))
	case s.Kind == upgrade.Change && s.Limit > 0:
		return fmt.Sprintf("changed, %d at once", s.Limit)
	case s.Kind == upgrade.Change:
		return "changed"
	case s.Kind == upgrade.Close:
		return "restored"
	}
	return "nothing is changed"
}

// CheckFinding says what a check has found, where, and what to do.
func CheckFinding(f check.Finding) string {
	text := f.Check
	if f.Host != "" {
		text += " " + string(f.Host)
	}
	if f.Where != "" && f.Where != string(f.Host) {
		text += " " + f.Where
	}
	text += ": " + f.Text + "."
	if f.Remedy != "" {
		text += " What to do: " + f.Remedy + "."
	}
	return Clean(text)
}

// SourceText says from which versions a bundle upgrades, and how.
func SourceText(s manifest.Source) string {
	var modes []string
	for _, mode := range s.Modes {
		modes = append(modes, string(mode))
	}
	text := Clean(s.Version) + ": " + strings.Join(modes, ", ")
	if s.ChangeSystemTables {
		text += "; changes system tables"
	}
	return text
}
