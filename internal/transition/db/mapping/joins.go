package mapping

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/sqlexpr"
)

// leftOut writes the looks at rows that a join leaves out: those of the source for which
// it finds nothing, and earlier joins do. Of the mapping's where, what reads no later table counts.
func (x *planner) leftOut() (out []RowCheck) {
	if x.out.Unclear {
		return nil
	}
	keys := strings.Join(owns(x.out.Key), ", ")
	for i, j := range x.t.Join {
		if j.Optional {
			continue
		}
		var conds []string
		if x.t.where != nil {
			for _, c := range x.t.where.And() {
				if !x.readsOne(c, x.t.Join[i:]) {
					conds = append(conds, x.sql("", c))
				}
			}
		}
		conds = append(conds, "NOT EXISTS (SELECT 1 FROM "+x.source.Name(j.Table)+" AS "+sqlexpr.Quote(j.As)+" WHERE "+x.sql("", j.on)+")")
		from := " FROM " + x.source.Name(x.t.From) + " AS " +
			sqlexpr.Quote(Main) + strings.Join(x.joins[:i], "") + " WHERE " + strings.Join(conds, " AND ")
		out = append(out, RowCheck{
			Have:  fmt.Sprintf("no row of %s (join %s), and are left out", j.Table, j.As),
			Count: "SELECT COUNT(*)" + from,
			Keys:  fmt.Sprintf("SELECT %s%s ORDER BY %s LIMIT %d", keys, from, keys, listed),
		})
	}
	return out
}

// readsOne reports whether an expression reads one of some joined tables, by itself or by
// what it asks of find.
func (x *planner) readsOne(e sqlexpr.Expr, joins []Join) bool {
	columns := e.Columns()
	if slices.Contains(e.Calls(), "FOUND") {
		for _, f := range x.t.Find {
			columns = append(columns, f.on.Columns()...)
		}
	}
	return slices.ContainsFunc(columns, func(c sqlexpr.Column) bool {
		return slices.ContainsFunc(joins, func(j Join) bool { return j.As == c.Table })
	})
}
