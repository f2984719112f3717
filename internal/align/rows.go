package align

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/align/column"
	"holdfast/internal/align/sqlexpr"
)

// This file writes the statements that look at rows: in ranges, whether they collide
// or lack what they refer to, and their checksums.

// Collision is a unique key of the target that rows may break: the source has no such
// key, or compares texts in another way.
type Collision struct {
	Index   string // its name; PRIMARY
	Columns []string
	List    string // statement: the values that come more than once, with how often, some of them
}

// Orphan is a foreign key of the target that rows may break.
type Orphan struct {
	Columns []string
	Parent  string // table of the target, as in the mapping
	Count   string // statement: how many rows have no parent
}

// listed is how many values a list of them has at most.
const listed = 20

// kept tells where the target's primary key is the source's, unchanged.
func (x *planner) kept() []string {
	var out []string
	for _, k := range x.from.Key {
		value := sqlexpr.Quote(Main) + "." + sqlexpr.Quote(k)
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

// value is the SQL of what a column of the target gets, "" for nothing.
func (p *Planned) value(name string) string {
	if i := slices.Index(p.Columns, name); i >= 0 {
		return p.Values[i]
	}
	return ""
}

func (x *planner) collisions() (out []Collision) {
	p := &x.out
	keys := x.to.Unique
	if p.Kept == nil && len(x.to.Key) > 0 {
		keys = append([]Unique{{"PRIMARY", x.to.Key}}, keys...)
	}
	for _, k := range keys {
		var values, names, there []string
		for i, c := range k.Columns {
			v := p.value(c)
			if v == "" {
				break // the server, or a default, gives its value
			}
			to, _ := x.to.column(c)
			as := fmt.Sprintf("c%d", i+1)
			if to.Type.Kind == column.Char && to.Collation != "" {
				v = "CONVERT(" + v + " USING " + to.Charset + ") COLLATE " + to.Collation
			}
			values, names, there = append(values, v+" AS "+as), append(names, as), append(there, as+" IS NOT NULL")
		}
		if len(values) < len(k.Columns) {
			continue
		}
		n := strings.Join(names, ", ")
		out = append(out, Collision{Index: k.Name, Columns: k.Columns, List: fmt.Sprintf(
			"SELECT %s, COUNT(*) FROM (SELECT %s%s) AS r WHERE %s GROUP BY %s HAVING COUNT(*) > 1 ORDER BY %s LIMIT %d",
			n, strings.Join(values, ", "), p.rows(), strings.Join(there, " AND "), n, n, listed)})
	}
	return out
}

// orphans looks at the foreign keys between tables of the plan.
func (p *Plan) orphans() {
	for i := range p.Tables {
		t := &p.Tables[i]
		for _, ref := range t.planner.to.Refs {
			k := slices.IndexFunc(p.Tables, func(x Planned) bool { return x.Target == ref.Table })
			if k < 0 {
				continue
			}
			if count := t.withoutParent(ref, &p.Tables[k]); count != "" {
				t.Orphans = append(t.Orphans, Orphan{Columns: ref.Columns, Parent: ref.Table, Count: count})
			}
		}
	}
}

func (p *Planned) withoutParent(ref Ref, parent *Planned) string {
	var child, above, same, there []string
	for i := range ref.Columns {
		c, a := p.value(ref.Columns[i]), parent.value(ref.To[i])
		if c == "" || a == "" {
			return ""
		}
		child, above = append(child, fmt.Sprintf("%s AS c%d", c, i+1)), append(above, fmt.Sprintf("%s AS p%d", a, i+1))
		same, there = append(same, fmt.Sprintf("p.p%d = c.c%d", i+1, i+1)), append(there, fmt.Sprintf("c.c%d IS NOT NULL", i+1))
	}
	return fmt.Sprintf("SELECT COUNT(*) FROM (SELECT %s%s) AS c LEFT JOIN (SELECT %s%s) AS p ON %s WHERE %s AND p.p1 IS NULL",
		strings.Join(child, ", "), p.rows(), strings.Join(above, ", "), parent.rows(), strings.Join(same, " AND "), strings.Join(there, " AND "))
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
		list, list, p.planner.source.name(p.Source), where, list, n, strings.Join(desc, ", "))
}

// SourceSum is the statement for the number of mapped rows and their checksum (two
// numbers), the same for the same rows in any order; more as for Select.
func (p *Planned) SourceSum(more string) string {
	return "SELECT " + sum(p.kinds, p.Values) + p.rows(more)
}

// TargetSum is SourceSum of the target's rows; more is a condition on its columns.
func (p *Planned) TargetSum(more string) string {
	cols := make([]string, 0, len(p.Columns))
	for _, c := range p.Columns {
		cols = append(cols, sqlexpr.Quote(c))
	}
	where := ""
	if more != "" {
		where = " WHERE " + more
	}
	return "SELECT " + sum(p.kinds, cols) + " FROM " + p.into + where
}

// TargetCount is the statement that counts all rows of the target's table.
func (p *Planned) TargetCount() string { return "SELECT COUNT(*) FROM " + p.into }

// sum writes the checksum of rows. A value is written as the target's type stores it, so
// that the expression that makes it and what was stored give the same text.
func sum(kinds []column.Column, values []string) string {
	quoted := make([]string, 0, len(values))
	for i, v := range values {
		quoted = append(quoted, "QUOTE("+stored(kinds[i].Type, v)+")")
	}
	h := "MD5(CONCAT_WS(',', " + strings.Join(quoted, ", ") + "))"
	return "COUNT(*), COALESCE(SUM(CAST(CONV(LEFT(" + h + ", 15), 16, 10) AS UNSIGNED)), 0), COALESCE(BIT_XOR(CAST(CONV(RIGHT(" + h + ", 16), 16, 10) AS UNSIGNED)), 0)"
}

func stored(t column.Type, v string) string {
	switch t.Kind {
	case column.Bytes:
		return "HEX(" + v + ")"
	case column.Float:
		return "(" + v + ") + 0e0"
	case column.Decimal:
		return fmt.Sprintf("CAST(%s AS DECIMAL(%d, %d))", v, t.Digits, t.Scale)
	case column.Bit:
		return "(" + v + ") + 0"
	case column.DateTime, column.Stamp:
		if t.Scale > 0 {
			return fmt.Sprintf("CAST(%s AS DATETIME(%d))", v, t.Scale)
		}
	}
	return "CONVERT(" + v + " USING utf8mb4)"
}
