package mapping

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file leaves rows out that refer to rows which will not be there.

// Left are the rows of a table that are left out, as by a foreign key of the target they refer
// to rows that will not be there.
type Left struct {
	Columns []string // of the target, that refer
	Parent  string   // table of the target, as in the mapping
	Rows    string   // statement: their keys, as Planned.Key has them
}

// LeaveOrphans leaves such rows out of the copy: see Planned.Left.
func (m *Mapping) LeaveOrphans() { m.leaveOrphans = true }

// reference is a foreign key of the target that columns of the source have already, so that its
// server tells which rows refer to nothing.
type reference struct {
	Ref
	parent   *Planned
	from, to []column.Column // of the source: of the row, and of the one that it refers to
}

// reference finds out what a foreign key of the target is in the source. It is none when values
// are looked up or made, or when several parts, or the table itself, give the rows it refers to.
func (x *planner) reference(ref Ref) (r reference, ok bool) {
	parents := x.plan.parts(ref.Table)
	parts := 0
	for _, t := range x.all {
		if t.Target == ref.Table {
			parts++
		}
	}
	if parts != 1 || len(parents) != 1 || ref.Table == x.t.Target {
		return r, false
	}
	r = reference{Ref: ref, parent: parents[0]}
	for i := range ref.Columns {
		from, here := x.out.copied(ref.Columns[i], x.from)
		to, there := parents[0].copied(ref.To[i], parents[0].planner.from)
		if !here || !there {
			return r, false
		}
		r.from, r.to = append(r.from, from), append(r.to, to)
	}
	return r, true
}

// copied is the column of the source's own table that a column of the target gets as it is.
func (p *Planned) copied(name string, from *Schema) (column.Column, bool) {
	value, kind := p.value(name)
	i := slices.IndexFunc(from.Columns, func(c column.Column) bool { return kind == "" && value == own(c.Name) })
	if i < 0 {
		return column.Column{}, false
	}
	return from.Columns[i], true
}

// withParents leaves rows out that refer to rows which will not be there.
func (x *planner) withParents() {
	keys := strings.Join(owns(x.out.Key), ", ")
	for _, ref := range x.to.Refs {
		r, ok := x.reference(ref)
		if !ok {
			continue // what refers to nothing is an error of the plan
		}
		var child, above, isNull, notNull, there []string
		for i, from := range r.from {
			c, a := r.compare(x, i, own(r.to[i].Name))
			child, above = append(child, c), append(above, a)
			isNull, notNull, there = append(isNull, own(from.Name)+" IS NULL"),
				append(notNull, own(from.Name)+" IS NOT NULL"), append(there, a+" IS NOT NULL")
		}
		which, parents := "("+strings.Join(child, ", ")+")", "(SELECT "+strings.Join(above, ", ")+r.parent.unstaged(there...)+")"
		x.out.Left = append(x.out.Left, Left{Columns: ref.Columns, Parent: ref.Table,
			Rows: "SELECT " + keys + x.out.unstaged(append(notNull,
				strings.Join([]string{which, "NOT IN", parents}, " "))...) + " ORDER BY " + keys})
		x.out.where = append(x.out.where, "("+strings.Join(append(isNull, strings.Join([]string{which, "IN", parents}, " ")), " OR ")+")")
		x.parents = append(x.parents, r)
	}
}

// compare writes a column of the row, and what is compared with it, a value of the column that
// it refers to, so that they compare as in the target.
func (r *reference) compare(x *planner, i int, value string) (child, above string) {
	from := r.from[i]
	child, above = own(from.Name), value
	if to, _ := r.parent.planner.to.column(r.To[i]); !alike(from, r.to[i]) || !alike(from, to) {
		child, above = x.compared(child, &to), x.compared(above, &to)
	}
	return child, above
}

// below is the statement for the keys of the rows whose parents a changed row concerns. The
// parents are those that the source has now: any that came or went has changed itself.
func (r *reference) below(x *planner, t Touch, rows [][]string) (string, error) {
	const parent, concerned = "parent", "concerned"
	above, err := t.Keys(rows)
	if err != nil {
		return "", err
	}
	var keys, refs []string
	for _, k := range r.parent.Key {
		keys = append(keys, sqlexpr.Quote(parent)+"."+sqlexpr.Quote(k)+" = "+sqlexpr.Quote(concerned)+"."+sqlexpr.Quote(k))
	}
	for i := range r.from {
		c, a := r.compare(x, i, sqlexpr.Quote(parent)+"."+sqlexpr.Quote(r.to[i].Name))
		refs = append(refs, c+" = "+a)
	}
	return "SELECT DISTINCT " + strings.Join(owns(x.from.Key), ", ") + " FROM (" + above + ") AS " + sqlexpr.Quote(concerned) +
		" JOIN " + x.source.Name(r.parent.Source) + " AS " + sqlexpr.Quote(parent) + " ON " + strings.Join(keys, " AND ") +
		" JOIN " + x.source.Name(x.t.From) + " AS " + sqlexpr.Quote(Main) + " ON " + strings.Join(refs, " AND "), nil
}

// Loose is a foreign key of the target by which no rows are left out, so that following may
// bring rows that refer to nothing.
type Loose struct {
	Ref
	On   string // table of the target, as in the mapping
	Rows string // statement: the target's rows that refer to nothing: their primary keys, and what they refer to
}

// Loose are those foreign keys between tables of the plan. Where rows are left out by others,
// these are those to the table itself, back in a circle, and of values that the source's server
// does not have as they are.
func (p *Plan) Loose() (out []Loose) {
	for i := range p.Tables {
		x := p.Tables[i].planner
		for _, ref := range x.to.Refs {
			held := len(p.parts(ref.Table)) == 0 || slices.ContainsFunc(x.parents, func(r reference) bool { return r.Name == ref.Name })
			if !held && !slices.ContainsFunc(out, func(l Loose) bool { return l.On == x.t.Target && l.Name == ref.Name }) {
				out = append(out, Loose{ref, x.t.Target, x.target.Orphans(x.t.Target, ref)})
			}
		}
	}
	return out
}

// LeavesOrphans reports whether rows that refer to nothing are left out, by what foreign keys
// they can be.
func (p *Plan) LeavesOrphans() bool {
	return slices.ContainsFunc(p.Tables, func(t Planned) bool { return t.planner.leave })
}

// touched is the statement for the keys of the rows that refer to changed ones.
func (r *reference) touched(x *planner, rows [][]string) (string, error) {
	ors := make([]string, 0, len(rows))
	for _, values := range rows {
		if len(values) != len(r.to) {
			return "", fmt.Errorf("%d values for %d columns of %s", len(values), len(r.to), r.parent.Source)
		}
		ands := make([]string, 0, len(values))
		for i, v := range values {
			c, a := r.compare(x, i, asColumn(v, &r.to[i]))
			ands = append(ands, c+" = "+a)
		}
		ors = append(ors, strings.Join(ands, " AND "))
	}
	return "SELECT DISTINCT " + strings.Join(owns(x.from.Key), ", ") + " FROM " + x.source.Name(x.t.From) + " AS " +
		sqlexpr.Quote(Main) + " WHERE (" + strings.Join(ors, ") OR (") + ")", nil
}

// names are the columns of the parent.
func (r *reference) names() (out []string) {
	for _, c := range r.to {
		out = append(out, c.Name)
	}
	return out
}

// Orphans is the statement for the rows of a table, as in the mapping, that refer by a
// foreign key of it to a row that is not there: their primary keys, and what they refer to.
func (s Side) Orphans(t string, r Ref) string {
	var on, there, tell []string
	for _, c := range slices.Concat(s.Tables[t].Key, r.Columns) {
		if c = "c." + sqlexpr.Quote(c); !slices.Contains(tell, c) {
			tell = append(tell, c)
		}
	}
	for i, c := range r.Columns {
		on = append(on, "p."+sqlexpr.Quote(r.To[i])+" = c."+sqlexpr.Quote(c))
		there = append(there, "c."+sqlexpr.Quote(c)+" IS NOT NULL")
	}
	return "SELECT " + strings.Join(tell, ", ") + " FROM " + s.Name(t) + " AS c LEFT JOIN " +
		s.Name(r.Table) + " AS p ON " + strings.Join(on, " AND ") +
		" WHERE " + strings.Join(there, " AND ") + " AND p." + sqlexpr.Quote(r.To[0]) + " IS NULL"
}
