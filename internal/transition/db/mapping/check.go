package mapping

import "fmt"

// This file is about what must hold beside what columns and keys want.

// Check is what must hold: of the target when the rows are there, of the source before they
// are copied, or of both.
type Check struct {
	Name   string `json:"name"`
	Rows   string `json:"rows,omitempty"`   // a row for each that breaks it, of what people find it by, its key first; see Side.Fill
	Source string `json:"source,omitempty"` // instead of Rows: values of the source, a few thousand at most, of which ...
	Target string `json:"target,omitempty"` // ... each is to be among these of the target
	Asks   Asked  `json:"asks,omitempty"`   // whose databases Rows is about; "": the target's
	Table  string `json:"table,omitempty"`  // of the target, which it is about, and to which the source's rows of Rows go; "": see About
	Remedy string `json:"remedy,omitempty"` // what to do about the source's rows; see Side.Fill
}

// Asked is where a check is asked.
type Asked string

// Where checks are asked. The source is asked by the plan, the target is when it is verified.
// What is asked of the target alone, the plan asks of the rows that the mapping makes: see
// Plan.Made.
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
		if c.Source+c.Target != "" {
			r.query(at+".source", c.Source)
			r.query(at+".target", c.Target)
		} else {
			r.query(at+".rows", c.Rows)
		}
		ofTarget := c.Asks == "" || c.Asks == AsksTarget
		switch {
		case c.Rows != "" && c.Source+c.Target != "":
			r.fault(at+".rows", c.Rows, "want rows, or source with target: one of them")
		case !ofTarget && c.Asks != AsksSource && c.Asks != AsksBoth:
			r.fault(at+".asks", string(c.Asks), "want target, source or both")
		case !ofTarget && c.Rows == "":
			r.fault(at+".rows", "", "want it where the source is asked: people are to find the rows")
		case !targets[c.Table] && (c.Table != "" || !ofTarget):
			r.fault(at+".table", c.Table, "want the target of this mapping to which the rows go")
		}
	}
}
