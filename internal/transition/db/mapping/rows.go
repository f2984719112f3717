package mapping

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file writes the statements that look at rows: in chunks.

// kept tells where the target's primary key is the source's, unchanged.
func (x *planner) kept() []string {
	var out []string
	for _, k := range x.from.Key {
		value := own(k)
		i := slices.Index(x.out.Values, value)
		for i >= 0 && !slices.Contains(x.to.Key, x.out.Columns[i]) {
			next := slices.Index(x.out.Values[i+1:], value)
			if next < 0 {
				return nil
			}
			i += 1 + next
		}
		if i < 0 {
			return nil
		}
		out = append(out, x.out.Columns[i])
	}
	if len(out) != len(x.to.Key) {
		return nil
	}
	return out
}

// After is the condition that a row's key comes after values (SQL each); the columns
// are those of table as, "" for none.
func After(as string, key, values []string) string { return compare(as, key, values, ">", ">") }

// UpTo is the condition that a row's key does not come after values.
func UpTo(as string, key, values []string) string { return compare(as, key, values, "<", "<=") }

// compare writes the comparison of keys so that servers use the index.
func compare(as string, key, values []string, before, last string) string {
	if as != "" {
		as = sqlexpr.Quote(as) + "."
	}
	var ors []string
	for i := range key {
		op := before
		if i == len(key)-1 {
			op = last
		}
		var ands []string
		for k := range i {
			ands = append(ands, as+sqlexpr.Quote(key[k])+" = "+values[k])
		}
		ors = append(ors, strings.Join(append(ands, as+sqlexpr.Quote(key[i])+" "+op+" "+values[i]), " AND "))
	}
	if len(ors) == 1 {
		return ors[0]
	}
	return "((" + strings.Join(ors, ") OR (") + "))"
}

// Between is the condition that a key comes after one key, and not after another; of nil
// ones nothing is said, "" of two.
func Between(as string, key, after, upTo []string) string {
	var conds []string
	if after != nil {
		conds = append(conds, After(as, key, after))
	}
	if upTo != nil {
		conds = append(conds, UpTo(as, key, upTo))
	}
	return strings.Join(conds, " AND ")
}

// Bound is the statement that gives the key (its columns) of the last of the next n rows
// of the source's table after a key; nil: from the first. No row: none is left. The rows
// are counted before the mapping's where.
func (p *Planned) Bound(after []string, n int) string {
	cols := make([]string, 0, len(p.Key))
	desc := make([]string, 0, len(p.Key))
	for _, k := range p.Key {
		cols, desc = append(cols, sqlexpr.Quote(k)), append(desc, sqlexpr.Quote(k)+" DESC")
	}
	list := strings.Join(cols, ", ")
	where := ""
	if after != nil {
		where = " WHERE " + After("", p.Key, after)
	}
	return fmt.Sprintf("SELECT %s FROM (SELECT %s FROM %s%s ORDER BY %s LIMIT %d) AS r ORDER BY %s LIMIT 1",
		list, list, p.planner.source.Name(p.Source), where, list, n, strings.Join(desc, ", "))
}

// TargetCount is the statement that counts all rows of the target's table.
func (p *Planned) TargetCount() string { return "SELECT COUNT(*)" + p.inTarget("") }

// Chunked reports whether the target's rows of a chunk of the source's keys are those
// whose Kept columns are in it: both sides have the key, and order it alike.
func (p *Planned) Chunked() bool {
	x := p.planner
	for i, k := range p.Kept {
		from, _ := x.from.column(p.Key[i])
		if to, _ := x.to.column(k); !alike(from, to) {
			return false
		}
	}
	return len(p.Kept) > 0
}

// KeyKinds are the kinds of the columns of Key.
func (p *Planned) KeyKinds() []column.Kind {
	out := make([]column.Kind, 0, len(p.Key))
	for _, k := range p.Key {
		c, _ := p.planner.from.column(k)
		out = append(out, c.Type.Kind)
	}
	return out
}
