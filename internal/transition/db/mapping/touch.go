package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/sqlexpr"
)

// Touch is one way in which a changed row of the source changes rows of a target's
// table.
type Touch struct {
	Main    bool     // the row is itself one of those that the target's are made of: Columns are its key
	Columns []string // of the changed row that tell which rows of the target's source it concerns
	keys    func(rows [][]string) (string, error)
}

// Keys is the statement for the keys of the rows of Planned.Source that changed rows
// concern: of each there is the SQL of Columns, before or after the change; both must be asked.
// However many they are, the server reads the tables that it has to look through once.
func (t Touch) Keys(rows [][]string) (string, error) { return t.keys(rows) }

// Touched tells how a row of a source's table (as in the mapping) concerns the target's
// rows; nil: not at all.
func (p *Planned) Touched(table string) (out []Touch) {
	x := p.planner
	if table == p.Source {
		out = append(out, Touch{Main: true, Columns: p.Key})
	}
	for _, r := range x.parents {
		if r.parent.Source == table {
			out = append(out, Touch{Columns: r.names(), keys: func(rows [][]string) (string, error) { return r.touched(x, rows) }})
		}
		for _, above := range r.parent.Touched(table) { // whether the parent is there may depend on it, and so on upwards
			if !above.Main {
				out = append(out, Touch{Columns: above.Columns, keys: func(rows [][]string) (string, error) { return r.below(x, above, rows) }})
			}
		}
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
		out = append(out, Touch{Columns: cols, keys: func(rows [][]string) (string, error) { return x.touchedBy(j, cols, rows) }})
	}
	return out
}

// touchedBy takes values of changed rows in place of the table that j brings in.
func (x *planner) touchedBy(j Join, cols []string, rows [][]string) (string, error) {
	again := *x
	again.used = map[string]bool{} // of the plan, which is made
	x = &again
	from := " FROM " + x.source.Name(x.t.From) + " AS " + sqlexpr.Quote(Main)
	for _, k := range x.t.Join {
		if k.As == j.As {
			break // those after it do not tell which rows it belongs to
		}
		on, err := k.on.SQL(&scope{planner: x})
		if err != nil {
			return "", err
		}
		from += " LEFT JOIN " + x.source.Name(k.Table) + " AS " + sqlexpr.Quote(k.As) + " ON " + on
	}
	on, err := j.on.SQL(&scope{planner: x, find: &j})
	if err != nil {
		return "", err
	}
	selects := make([]string, 0, len(rows))
	for _, values := range rows {
		if len(cols) != len(values) {
			return "", fmt.Errorf("%d values for %d columns of %s", len(values), len(cols), j.Table)
		}
		row := make([]string, 0, len(cols))
		for i, v := range values {
			c, _ := x.source.Tables[j.Table].column(cols[i])
			row = append(row, asColumn(v, &c)+" AS "+sqlexpr.Quote(c.Name))
		}
		selects = append(selects, "SELECT "+cmp.Or(strings.Join(row, ", "), "1"))
	}
	return "SELECT DISTINCT " + strings.Join(owns(x.from.Key), ", ") + from + " JOIN (" +
		strings.Join(selects, " UNION ALL ") + ") AS " + sqlexpr.Quote(j.As) + " ON " + on, nil
}

// asColumn writes a value so that it compares as the column does that it is of.
func asColumn(value string, c *column.Column) string {
	switch k := c.Type.Kind; {
	case c.Collation != "" && (k == column.Char || k == column.Enum || k == column.Set):
		return "CONVERT(" + value + " USING " + c.Charset + ") COLLATE " + c.Collation
	case k == column.Date:
		return "CAST(" + value + " AS DATE)"
	case k == column.DateTime, k == column.Stamp:
		return fmt.Sprintf("CAST(%s AS DATETIME(%d))", value, c.Type.Scale)
	case k == column.Time:
		return fmt.Sprintf("CAST(%s AS TIME(%d))", value, c.Type.Scale)
	}
	return value
}
