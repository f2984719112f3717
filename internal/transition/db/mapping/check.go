package mapping

import (
	"fmt"
	"slices"
)

// This file is about what must hold beside what columns and keys want.

// Check is what must hold: of the target when the rows are there, of the source before they
// are copied, or of both.
type Check struct {
	Name   string `json:"name"`
	Query  string `json:"query,omitempty"`  // one number: how many rows break it; see Side.Fill
	Rows   string `json:"rows,omitempty"`   // instead of Query: a row for each that breaks it, of what people find it by, its key first
	Source string `json:"source,omitempty"` // instead of Query: values of the source, a few thousand at most, of which ...
	Target string `json:"target,omitempty"` // ... each is to be among these of the target
	Asks   Asked  `json:"asks,omitempty"`   // whose databases Rows is about; "": the target's
	Table  string `json:"table,omitempty"`  // of the target, to which the source's rows of Rows go
	Remedy string `json:"remedy,omitempty"` // what to do about the source's rows; see Side.Fill
}

// Asked is where a check is asked.
type Asked string

// Where checks are asked. The source is asked by the plan, the target is when it is verified.
const (
	AsksTarget Asked = "target"
	AsksSource Asked = "source"
	AsksBoth   Asked = "both"
)

// OfTarget reports whether the target is asked.
func (c *Check) OfTarget() bool { return c.Asks != AsksSource }

// OfSource are the checks that the source is asked, but for those of tables that Skip left out.
func (m *Mapping) OfSource() (out []Check) {
	for _, c := range m.Checks {
		if (c.Asks == AsksSource || c.Asks == AsksBoth) && !m.skips(c.Table) {
			out = append(out, c)
		}
	}
	return out
}

// FillSource is Side.Fill of the plan's source.
func (p *Plan) FillSource(query string) string {
	if query == "" || len(p.Tables) == 0 {
		return ""
	}
	return p.Tables[0].planner.source.Fill(query)
}

// checks checks the checks.
func (r *reader) checks(targets map[string]bool) {
	names := map[string]bool{}
	for i, c := range r.m.Checks {
		at := fmt.Sprintf("checks[%d]", i)
		if c.Name == "" || names[c.Name] {
			r.fault(at+".name", c.Name, "want a name that no other check has")
		}
		names[c.Name] = true
		switch {
		case c.Source != "" || c.Target != "":
			r.query(at+".source", c.Source)
			r.query(at+".target", c.Target)
		case c.Rows == "":
			r.query(at+".query", c.Query)
		default:
			r.query(at+".rows", c.Rows)
		}
		switch {
		case c.Rows != "" && c.Query != "", c.Source != "" && c.Query+c.Rows != "":
			r.fault(at+".query", c.Query, "want query, rows, or source with target: one of them")
		case c.Asks != "" && !slices.Contains([]Asked{AsksTarget, AsksSource, AsksBoth}, c.Asks):
			r.fault(at+".asks", string(c.Asks), "want target, source or both")
		case c.Asks == "" || c.Asks == AsksTarget:
			if c.Table != "" || c.Remedy != "" {
				r.fault(at+".asks", string(c.Asks), "want source or both where there is a table or a remedy")
			}
		case c.Rows == "":
			r.fault(at+".rows", "", "want it where the source is asked: people are to find the rows")
		case !targets[c.Table]:
			r.fault(at+".table", c.Table, "want the target of this mapping to which the rows go")
		}
	}
}
