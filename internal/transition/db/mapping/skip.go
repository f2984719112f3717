package mapping

import (
	"fmt"
	"slices"
	"strings"
)

// This file leaves tables of a mapping out, which a platform fills by itself.

// shownNear is how many names an error tells instead of one that is not there.
const shownNear = 5

// Skip leaves tables of the target (DATABASE.TABLE as in the mapping, with all their
// parts) out of the mapping. One that the mapping does not have is an error, which tells
// those that are written nearly so; then nothing is left out. Checks, and rows that refer to
// such a table, stay: its rows are to be there by then.
func (m *Mapping) Skip(targets []string) error {
	for _, name := range targets {
		if !m.fills(name) {
			return fmt.Errorf("the mapping fills no table %q: want %s", name, strings.Join(m.near(name), " or "))
		}
	}
	var left []Table
	skipped := slices.Clone(m.skipped)
	for _, t := range m.Tables {
		if slices.Contains(targets, t.Target) {
			skipped = append(skipped, t)
		} else {
			left = append(left, t)
		}
	}
	if len(left) == 0 {
		return fmt.Errorf("all %d tables of the mapping would be left out: want one at least that is not", len(m.Tables))
	}
	m.Tables, m.skipped = left, skipped
	return nil
}

func (m *Mapping) fills(target string) bool {
	return slices.ContainsFunc(m.Tables, func(t Table) bool { return t.Target == target })
}

// skips reports whether a table of the target, or a part of one by its name, was left out.
func (m *Mapping) skips(target string) bool {
	return slices.ContainsFunc(m.skipped, func(t Table) bool { return t.Target == target || t.Name() == target })
}

// near are the targets of the mapping that have the same name in whatever database, or
// else those that begin like a name for the longest.
func (m *Mapping) near(name string) (out []string) {
	most, bare := 0, name[strings.IndexByte(name, '.')+1:]
	add := func(t string) {
		if len(out) < shownNear && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	for _, t := range m.Tables {
		if _, table, _ := strings.Cut(t.Target, "."); table == bare {
			add(t.Target)
		}
		most = max(most, together(t.Target, name))
	}
	if len(out) > 0 {
		return out
	}
	for _, t := range m.Tables {
		if together(t.Target, name) == most {
			add(t.Target)
		}
	}
	return out
}

// together is with how many bytes two names begin alike.
func together(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// afterSkipped warns of tables that are to come after one that was left out. Of foreign
// keys more is known: see Orphan.
func (p *Plan) afterSkipped(m *Mapping, target Side) {
	for i := range m.Tables {
		t := &m.Tables[i]
		for _, a := range t.After {
			refers := func(r Ref) bool { return r.Table == a }
			if s := target.Tables[t.Target]; m.skips(a) && (s == nil || !slices.ContainsFunc(s.Refs, refers)) {
				p.Warnings = append(p.Warnings, Finding{Table: t.Name(),
					Text: fmt.Sprintf("is to come after %s, which is skipped: its rows are to be there by then", a)})
			}
		}
	}
}
