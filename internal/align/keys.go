package align

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/align/column"
	"holdfast/internal/align/sqlexpr"
)

// Merged gives the old values of a kind of IDs that become one new value, each group of
// them once. folded: whether new values that differ by case only are one. Where all
// become different values, it gives none.
type Merged func(kind string, folded bool) [][]string

// Collision is a unique key of the target that rows may break: the source has no such
// key, or compares texts in another way.
type Collision struct {
	Index   string // its name; PRIMARY
	Columns []string
	list    func(Merged) string
}

// List is the statement for the values that come more than once, with how often, some of
// them. It needs no staged IDs: values that are looked up are compared and listed as
// the source has them, and those that become one count as the same.
func (c Collision) List(m Merged) string { return c.list(m) }

// Orphan is a foreign key of the target that rows may break.
type Orphan struct {
	Columns []string
	Parent  string // table of the target, as in the mapping
	Kinds   string // not "": what it refers to is looked up otherwise than itself, so that only the target can tell
	count   func(Merged) string
}

// Count is the statement that counts the rows that have no parent, "" where Kinds is
// not. It needs no staged IDs.
func (o Orphan) Count(m Merged) string {
	if o.Kinds != "" {
		return ""
	}
	return o.count(m)
}

// listed is how many values or keys a list of them has at most.
const listed = 20

// value is the SQL of what a column of the target gets, "" for nothing; where it is
// looked up, of the old value, and its kind. "" also where a part of it is looked up:
// only the target can tell what such values are.
func (p *Planned) value(name string) (sql, kind string) {
	for _, lookups := range [][]Lookup{p.Lookups, p.Others} {
		for _, l := range lookups {
			switch {
			case l.Column != name:
			case l.Within:
				return "", ""
			default:
				return l.value, l.Kind
			}
		}
	}
	if i := slices.Index(p.Columns, name); i >= 0 {
		return p.Values[i], ""
	}
	return "", ""
}

// old writes an old value so that values which become one are equal.
func old(value, kind string, folded bool, m Merged) string {
	v := asID(value)
	var whens []string
	if m != nil {
		for _, group := range m(kind, folded) {
			var list []string
			for _, g := range group {
				list = append(list, sqlexpr.Literal(g))
			}
			whens = append(whens, "WHEN "+v+" IN ("+strings.Join(list, ", ")+") THEN "+list[0])
		}
	}
	if len(whens) == 0 {
		return v
	}
	return "(CASE " + strings.Join(whens, " ") + " ELSE " + v + " END) COLLATE utf8mb4_bin"
}

// compared writes a value as a column of the target compares it.
func (x *planner) compared(value string, to *column.Column) string {
	if to.Type.Kind != column.Char || to.Collation == "" {
		return value
	}
	set, collation := x.source.collation(to.Charset, to.Collation)
	return "CONVERT(" + value + " USING " + set + ") COLLATE " + collation
}

// collation is how a server writes a collation of another one. Where it does not know
// it, it is one that finds equal at least what differs by case and accents only, or
// for a binary one by nothing.
func (s Side) collation(set, name string) (string, string) {
	for _, n := range []string{name, strings.Replace(name, "utf8_", "utf8mb3_", 1), strings.Replace(name, "utf8mb3_", "utf8_", 1)} {
		if s.Collations == nil || s.Collations[n] {
			return set, n
		}
	}
	if strings.HasSuffix(name, "_bin") {
		return "utf8mb4", "utf8mb4_bin"
	}
	return "utf8mb4", "utf8mb4_unicode_ci"
}

// folds reports whether a column of the target finds texts equal that differ by case.
func folds(c *column.Column) bool {
	return c.Type.Kind == column.Char && !strings.HasSuffix(c.Collation, "_bin") && !strings.Contains(c.Collation, "_cs")
}

func (x *planner) collisions() (out []Collision) {
	keys := x.to.Unique
	if len(x.to.Key) > 0 {
		keys = append([]Unique{{"PRIMARY", x.to.Key}}, keys...)
	}
	for _, k := range keys {
		if !x.unique(k.Columns) && !slices.ContainsFunc(k.Columns, func(c string) bool { v, _ := x.out.value(c); return v == "" }) {
			p := &x.out // as it is when the list is asked for: a copy of it is in the plan
			out = append(out, Collision{Index: k.Name, Columns: k.Columns, list: func(m Merged) string { return x.collide(p, k.Columns, m) }})
		}
	}
	return out
}

// unique reports whether the source has a key by which values of these columns of the
// target never come twice.
func (x *planner) unique(columns []string) bool {
	if len(x.t.Join) > 0 {
		return false // it may double rows
	}
	var same []string // columns of the source that are here as they are, and compare as there
	for _, c := range columns {
		to, _ := x.to.column(c)
		for _, from := range x.from.Columns {
			value, kind := x.out.value(c)
			if kind == "" && value == sqlexpr.Quote(Main)+"."+sqlexpr.Quote(from.Name) && from.Type.Kind == to.Type.Kind && alike(from, to) {
				same = append(same, from.Name)
			}
		}
	}
	for _, k := range append([]Unique{{"PRIMARY", x.from.Key}}, x.from.Unique...) {
		if len(k.Columns) > 0 && !slices.ContainsFunc(k.Columns, func(c string) bool { return !slices.Contains(same, c) }) {
			return true
		}
	}
	return false
}

// alike reports whether two columns order and compare their values alike.
func alike(a, b column.Column) bool {
	if a.Type.Kind != b.Type.Kind {
		return false
	}
	rule := func(c column.Column) string { // a collation without the name of a set of Unicode
		for _, set := range []string{"utf8mb4_", "utf8mb3_", "utf8_"} {
			if r, ok := strings.CutPrefix(c.Collation, set); ok {
				return r
			}
		}
		return c.Collation
	}
	switch a.Type.Kind {
	case column.Decimal, column.DateTime, column.Stamp, column.Time:
		return a.Type.Scale == b.Type.Scale
	case column.Bytes:
		return a.Type.Text == b.Type.Text
	case column.Char:
		return rule(a) == rule(b)
	case column.Enum, column.Set:
		return slices.Equal(a.Type.Words, b.Type.Words)
	}
	return true
}

func (x *planner) collide(p *Planned, columns []string, m Merged) string {
	var values, names, there []string
	for i, c := range columns {
		to, _ := x.to.column(c)
		v, kind := p.value(c)
		as := fmt.Sprintf("c%d", i+1)
		if kind != "" {
			v = old(v, kind, folds(&to), m)
		} else {
			v = x.compared(v, &to)
		}
		values, names, there = append(values, v+" AS "+as), append(names, as), append(there, as+" IS NOT NULL")
	}
	n := strings.Join(names, ", ")
	return fmt.Sprintf("SELECT %s, COUNT(*) FROM (SELECT %s%s) AS r WHERE %s GROUP BY %s HAVING COUNT(*) > 1 ORDER BY %s LIMIT %d",
		n, strings.Join(values, ", "), p.unstaged(), strings.Join(there, " AND "), n, n, listed)
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
			if o, ok := t.withoutParent(ref, &p.Tables[k]); ok {
				t.Orphans = append(t.Orphans, o)
			}
		}
	}
}

func (p *Planned) withoutParent(ref Ref, parent *Planned) (Orphan, bool) {
	o := Orphan{Columns: ref.Columns, Parent: ref.Table}
	for i := range ref.Columns {
		c, kind := p.value(ref.Columns[i])
		a, its := parent.value(ref.To[i])
		if c == "" || a == "" {
			return o, false
		}
		if kind != its {
			o.Kinds = strings.Trim(kind+" "+its, " ")
		}
	}
	o.count = func(m Merged) string { return p.countOrphans(ref, parent, m) }
	return o, true
}

func (p *Planned) countOrphans(ref Ref, parent *Planned, m Merged) string {
	var child, above, same, there []string
	for i := range ref.Columns {
		c, kind := p.value(ref.Columns[i])
		a, _ := parent.value(ref.To[i])
		if to, _ := parent.planner.to.column(ref.To[i]); kind != "" {
			c, a = old(c, kind, folds(&to), m), old(a, kind, folds(&to), m)
		} else {
			c, a = p.planner.compared(c, &to), p.planner.compared(a, &to)
		}
		child, above = append(child, fmt.Sprintf("%s AS c%d", c, i+1)), append(above, fmt.Sprintf("%s AS p%d", a, i+1))
		same, there = append(same, fmt.Sprintf("p.p%d = c.c%d", i+1, i+1)), append(there, fmt.Sprintf("c.c%d IS NOT NULL", i+1))
	}
	// DISTINCT has the server make a table of the parents, with a key, instead of reading
	// all of them for each child.
	return fmt.Sprintf("SELECT COUNT(*) FROM (SELECT %s%s) AS c LEFT JOIN (SELECT DISTINCT %s%s) AS p ON %s WHERE %s AND p.p1 IS NULL",
		strings.Join(child, ", "), p.unstaged(), strings.Join(above, ", "), parent.unstaged(), strings.Join(same, " AND "), strings.Join(there, " AND "))
}

// Orphans is the statement that counts the rows of a table, as in the mapping, that refer
// by a foreign key of it to a row that is not there.
func (s Side) Orphans(t string, r Ref) string {
	on, there := make([]string, 0, len(r.Columns)), make([]string, 0, len(r.Columns))
	for i, c := range r.Columns {
		on = append(on, "p."+sqlexpr.Quote(r.To[i])+" = c."+sqlexpr.Quote(c))
		there = append(there, "c."+sqlexpr.Quote(c)+" IS NOT NULL")
	}
	return "SELECT COUNT(*) FROM " + s.name(t) + " AS c LEFT JOIN " + s.name(r.Table) + " AS p ON " + strings.Join(on, " AND ") +
		" WHERE " + strings.Join(there, " AND ") + " AND p." + sqlexpr.Quote(r.To[0]) + " IS NULL"
}
