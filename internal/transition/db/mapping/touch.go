package mapping

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/sqlexpr"
)

// Touch is one way in which a changed row of the source changes rows of a target's
// table.
type Touch struct {
	Main    bool     // the row is itself one of those that the target's are made of: Columns are its key
	Columns []string // of the changed row that tell which rows of the target's source it concerns
	keys    func(values []string) (string, error)
}

// Keys is the statement for the keys of the rows of Planned.Source that a changed row
// concerns: values are the SQL of its Columns, before or after the change; both must be asked.
func (t Touch) Keys(values []string) (string, error) { return t.keys(values) }

// Touched tells how a row of a source's table (as in the mapping) concerns the target's
// rows; nil: not at all.
func (p *Planned) Touched(table string) (out []Touch) {
	x := p.planner
	if table == p.Source {
		out = append(out, Touch{Main: true, Columns: p.Key})
	}
	for _, j := range slices.Concat(x.t.Join, x.t.Find) {
		if j.Table != table {
			continue
		}
		var cols []string
		for _, c := range j.on.Columns() {
			if c.Table == j.As && !slices.Contains(cols, c.Name) {
				cols = append(cols, c.Name)
			}
		}
		out = append(out, Touch{Columns: cols, keys: func(values []string) (string, error) { return x.touchedBy(j, cols, values) }})
	}
	return out
}

// touchedBy takes the changed row's values in place of the table that j brings in.
func (x *planner) touchedBy(j Join, cols, values []string) (string, error) {
	if len(cols) != len(values) {
		return "", fmt.Errorf("%d values for %d columns of %s", len(values), len(cols), j.Table)
	}
	again := *x
	again.used = map[string]bool{} // of the plan, which is made
	x = &again
	var with []string
	for _, k := range x.t.Join {
		if k.As == j.As {
			break // those after it do not tell which rows it belongs to
		}
		on, err := k.on.SQL(&scope{planner: x})
		if err != nil {
			return "", err
		}
		with = append(with, " LEFT JOIN "+x.source.name(k.Table)+" AS "+sqlexpr.Quote(k.As)+" ON "+on)
	}
	cond, err := j.on.SQL(&given{scope{planner: x, find: &j}, j.As, cols, values})
	if err != nil {
		return "", err
	}
	return "SELECT DISTINCT " + strings.Join(owns(x.from.Key), ", ") + " FROM " + x.source.name(x.t.From) + " AS " + sqlexpr.Quote(Main) + strings.Join(with, "") + " WHERE " + cond, nil
}

// given writes the columns of one table as values.
type given struct {
	scope
	as           string
	cols, values []string
}

// Column implements sqlexpr.Names.
func (g *given) Column(c sqlexpr.Column) (string, error) {
	if c.Table == g.as {
		return g.values[slices.Index(g.cols, c.Name)], nil
	}
	return g.scope.Column(c)
}
