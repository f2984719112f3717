package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/lib/text"
	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/sqlexpr"
)

// Merged gives the old values of a kind of IDs that become one new value, each group of
// them once. folded: whether new values that differ by case only are one. Where all
// become different values, it gives none.
type Merged func(kind string, folded bool) [][]string

// Collision is a unique key of the target that rows may break: the source has no such
// key, or compares texts in another way. Of a table with joins, one is the source's own
// key: it comes more than once where a join finds several rows, which no key of the
// target needs to notice.
type Collision struct {
	Index   string   // its name; PRIMARY; join
	Columns []string // of the target, such as name(10) where its beginning counts; for join, of the source's key
	Joins   []string // for join: the names of all joins, with their tables; else nil
	Rough   string   // not "": a collation that the source does not know, so that what counts as equal may be different
	list    func(Merged) string
}

// List is the statement for the values that come more than once, with how often, some of
// them. It needs no staged IDs: values that are looked up are compared and listed as
// the source has them, and those that become one count as the same.
func (c Collision) List(m Merged) string { return c.list(m) }

// Orphan is a foreign key of the target that rows may break.
type Orphan struct {
	Columns []string
	Parent  string   // table of the target, as in the mapping
	Kinds   string   // not "": what it refers to is looked up otherwise than itself, so that only the target can tell
	Outside *Outside // not nil: the mapping does not fill Parent, so that its rows are there already
	Unknown string   // not "": why it is not looked at
	Skipped bool     // Parent is left out of the mapping: its rows may come later
	MayGo   bool     // Mapping.LeaveOrphans leaves them out
	rows    func(Merged) string
}

// Outside is what rows refer to in a table of the target that the mapping does not fill.
type Outside struct {
	Kind   string // by whose IDs the values are looked up; "": they are as they come
	Values string // statement: the values other than NULL, each once; it needs no staged IDs
	column column.Column
	in     string
}

// There is the statement that asks the target which of some values are in the parent:
// one row with 1 or 0 for each.
func (o *Outside) There(values []string) string {
	asked := make([]string, 0, len(values))
	for _, v := range values {
		literal := sqlexpr.Literal(v)
		if o.column.Type.Kind == column.Bytes {
			literal = fmt.Sprintf("X'%X'", v)
		}
		asked = append(asked, "EXISTS (SELECT 1 FROM "+o.in+" WHERE "+sqlexpr.Quote(o.column.Name)+" = "+literal+")")
	}
	return "SELECT " + strings.Join(asked, ", ")
}

// Rows is the statement for the keys of the rows that have no parent, as Planned.Key has
// them, "" where the source alone can not tell. It needs no staged IDs.
func (o Orphan) Rows(m Merged) string {
	if o.rows == nil || o.Kinds != "" {
		return ""
	}
	return o.rows(m)
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

// within reports whether a part of what a column gets is looked up.
func (p *Planned) within(name string) bool {
	return slices.ContainsFunc(slices.Concat(p.Lookups, p.Others), func(l Lookup) bool { return l.Column == name && l.Within })
}

// gets is value, also of a column that the mapping leaves to its default. why says that it
// is not known what it gets. Nothing at all: it gets NULL, or a number of its own.
func (x *planner) gets(name string) (sql, kind, why string) {
	if sql, kind = x.out.value(name); sql != "" {
		return sql, kind, ""
	}
	to, ok := x.to.column(name)
	switch {
	case slices.Contains(x.out.lost, name):
		return "", "", "the plan has errors of " + name
	case x.out.within(name):
		return "", "", "a part of the value of " + name + " is looked up"
	case !ok, to.Generated:
		return "", "", "the server makes the values of " + name
	case to.Auto, to.Default == nil:
		return "", "", ""
	}
	if sql = constant(&to); sql == "" {
		return "", "", "the default of " + name + " is an expression"
	}
	return sql, "", ""
}

var (
	numeric = text.Pattern(`^-?[0-9]+(\.[0-9]+)?$`)
	moment  = text.Pattern(`^[0-9][0-9 :.-]*$`)
)

// constant is the SQL of a column's default, "" where it may be an expression: servers
// tell those of texts like the texts themselves.
func constant(c *column.Column) string {
	switch d := *c.Default; c.Type.Kind {
	case column.Integer, column.Decimal, column.Float, column.Year:
		if numeric().MatchString(d) {
			return d
		}
	case column.Date, column.DateTime, column.Stamp, column.Time:
		if moment().MatchString(d) {
			return sqlexpr.Literal(d)
		}
	case column.Char, column.Enum, column.Set:
		if !strings.ContainsAny(d, "(`") {
			return sqlexpr.Literal(d)
		}
	}
	return ""
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
	set, collation, _ := x.source.collation(to.Charset, to.Collation)
	return "CONVERT(" + value + " USING " + set + ") COLLATE " + collation
}

// collation is how a server writes a collation of another one. Where it does not know
// it, it is one that finds equal at least what differs by case and accents only, or
// for a binary one by nothing; known is false then.
func (s Side) collation(set, name string) (its, collation string, known bool) {
	for _, n := range []string{name, strings.Replace(name, "utf8_", "utf8mb3_", 1), strings.Replace(name, "utf8mb3_", "utf8_", 1)} {
		if s.Collations == nil || s.Collations[n] {
			return set, n, true
		}
	}
	if strings.HasSuffix(name, "_bin") {
		return "utf8mb4", "utf8mb4_bin", false
	}
	return "utf8mb4", "utf8mb4_unicode_ci", false
}

// folds reports whether a column of the target finds texts equal that differ by case.
func folds(c *column.Column) bool {
	return c.Type.Kind == column.Char && !strings.HasSuffix(c.Collation, "_bin") && !strings.Contains(c.Collation, "_cs")
}

func (x *planner) collisions() (out []Collision) {
	p := &x.out // as it is when the list is asked for: a copy of it is in the plan
	if len(x.t.Join) > 0 && len(x.from.Key) > 0 {
		c := Collision{Index: "join", Columns: x.from.Key, list: func(Merged) string { return x.doubled(p) }}
		for _, j := range x.t.Join {
			c.Joins = append(c.Joins, j.As+" ("+j.Table+")")
		}
		out = append(out, c)
	}
	keys := x.to.Unique
	if len(x.to.Key) > 0 {
		keys = append([]Unique{{Name: "PRIMARY", Columns: x.to.Key}}, keys...)
	}
	for _, k := range keys {
		if x.unique(k) || !x.filled(k) {
			continue
		}
		out = append(out, Collision{Index: k.Name, Columns: k.parts(), Rough: x.rough(k.Columns),
			list: func(m Merged) string { return x.collide(p, k, m) }})
	}
	return out
}

// filled reports whether it is known what all columns of a key get. Where that is not
// so, rows can break it only in the run; but one with NULL in it, or with a number that
// the server counts, nothing breaks.
func (x *planner) filled(k Unique) bool {
	var unknown []string
	for i, c := range k.Columns {
		switch sql, kind, why := x.gets(c); {
		case why != "":
			unknown = append(unknown, why)
		case sql == "":
			return false
		case kind != "" && k.length(i) > 0:
			unknown = append(unknown, "of "+c+" only the beginning counts, and it is looked up")
		}
	}
	if len(unknown) > 0 {
		x.plan.Warnings = append(x.plan.Warnings, Finding{Table: x.t.Name(),
			Text: fmt.Sprintf("unique key %s (%s) is not looked at: %s", k.Name, strings.Join(k.parts(), ", "), strings.Join(unknown, ", "))})
	}
	return len(unknown) == 0
}

// rough is the first collation of a key's columns that the source does not know.
func (x *planner) rough(columns []string) string {
	for _, c := range columns {
		to, _ := x.to.column(c)
		if _, kind, _ := x.gets(c); kind != "" || to.Type.Kind != column.Char || to.Collation == "" {
			continue
		}
		if _, _, known := x.source.collation(to.Charset, to.Collation); !known {
			return to.Collation
		}
	}
	return ""
}

// doubled lists the source's rows that come more than once.
func (x *planner) doubled(p *Planned) string {
	var keys, names []string
	for i, k := range x.from.Key {
		as := fmt.Sprintf("c%d", i+1)
		keys, names = append(keys, own(k)+" AS "+as), append(names, as)
	}
	n := strings.Join(names, ", ")
	return fmt.Sprintf("SELECT %s, COUNT(*) FROM (SELECT %s%s) AS r GROUP BY %s HAVING COUNT(*) > 1 ORDER BY "+
		"%s LIMIT %d", n, strings.Join(keys, ", "), p.unstaged(), n, n, listed)
}

// length is how much of the beginning of a key's column counts; 0: all of it.
func (k Unique) length(i int) int {
	if k.Lengths == nil {
		return 0
	}
	return k.Lengths[i]
}

// parts are the key's columns for people: name(10) where the beginning counts.
func (k Unique) parts() []string {
	out := slices.Clone(k.Columns)
	for i := range out {
		if n := k.length(i); n > 0 {
			out[i] += fmt.Sprintf("(%d)", n)
		}
	}
	return out
}

// unique reports whether the source has a key by which values of a key of the target
// never come twice, as long as no join doubles rows.
func (x *planner) unique(key Unique) bool {
	same := map[string]int{} // columns of the source that are here as they are, and compare as there, with how much of each counts here
	for i, c := range key.Columns {
		to, _ := x.to.column(c)
		for _, from := range x.from.Columns {
			value, kind := x.out.value(c)
			if kind == "" && value == own(from.Name) && from.Type.Kind == to.Type.Kind && alike(from, to) {
				same[from.Name] = key.length(i)
			}
		}
	}
	promised := func(k Unique) bool {
		for i, c := range k.Columns {
			here, ok := same[c]
			// Rows whose beginnings are different there must be different in what counts here.
			if there := k.length(i); !ok || here > 0 && (there == 0 || there > here) {
				return false
			}
		}
		return len(k.Columns) > 0
	}
	return slices.ContainsFunc(append([]Unique{{Name: "PRIMARY", Columns: x.from.Key}}, x.from.Unique...), promised)
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

func (x *planner) collide(p *Planned, k Unique, m Merged) string {
	return twice(k, x.keyed(p, k, m))
}

// keyed is the statement for the values of a key, as columns c1, c2 ....
func (x *planner) keyed(p *Planned, k Unique, m Merged) string {
	var values []string
	for i, c := range k.Columns {
		to, _ := x.to.column(c)
		v, kind, _ := x.gets(c)
		if kind != "" {
			v = old(v, kind, folds(&to), m)
		} else {
			v = beginning(x.compared(v, &to), k.length(i), &to)
		}
		values = append(values, fmt.Sprintf("%s AS c%d", v, i+1))
	}
	return "SELECT " + strings.Join(values, ", ") + p.unstaged()
}

// twice lists the values of a key that a statement of keyed gives more than once.
func twice(k Unique, keyed string) string {
	var names, there []string
	for i := range k.Columns {
		as := fmt.Sprintf("c%d", i+1)
		names, there = append(names, as), append(there, as+" IS NOT NULL")
	}
	n := strings.Join(names, ", ")
	return fmt.Sprintf("SELECT %s, COUNT(*) FROM (%s) AS r WHERE %s GROUP BY %s HAVING COUNT(*) > 1 ORDER BY %s LIMIT %d",
		n, keyed, strings.Join(there, " AND "), n, n, listed)
}

// beginning writes the first letters of a value of a column, or bytes; length 0: all.
func beginning(value string, length int, to *column.Column) string {
	if length == 0 {
		return value
	}
	if to.Type.Kind == column.Bytes {
		value = "CAST(" + value + " AS BINARY)" // else it may be a text, of which letters are counted
	}
	return fmt.Sprintf("LEFT(%s, %d)", value, length)
}

// orphans looks at the foreign keys of the plan's tables.
func (p *Plan) orphans(m *Mapping) {
	for i := range p.Tables {
		t := &p.Tables[i]
		for _, ref := range t.planner.to.Refs {
			parts := p.parts(ref.Table)
			var o Orphan
			var ok bool
			if slices.Contains(p.unplanned, ref.Table) {
				o, ok = Orphan{Columns: ref.Columns, Parent: ref.Table, Unknown: "the plan has errors of it"}, true
			} else if len(parts) == 0 {
				o, ok = t.outside(ref)
			} else if o, ok = t.withoutParent(ref, parts[0]); len(parts) > 1 {
				o.Unknown = cmp.Or(o.Unknown, "they come of several parts: verify tells")
			}
			if len(parts) == 1 && slices.IndexFunc(p.Tables, func(x Planned) bool { return x.Table == ref.Table }) < i { // as withParents finds it
				_, o.MayGo = t.planner.reference(ref)
			}
			if o.Skipped = m.skips(ref.Table); ok {
				t.Orphans = append(t.Orphans, o)
			}
		}
	}
}

// outside is a foreign key to a table that is not filled.
func (p *Planned) outside(ref Ref) (Orphan, bool) {
	x := p.planner
	o := Orphan{Columns: ref.Columns, Parent: ref.Table}
	var value, kind string
	for _, c := range ref.Columns {
		v, k, why := x.gets(c)
		if v == "" && why == "" {
			return o, false // NULL refers to nothing
		}
		value, kind, o.Unknown = v, k, cmp.Or(o.Unknown, why)
	}
	parent := x.target.Tables[ref.Table]
	if parent != nil && len(ref.Columns) == 1 && o.Unknown == "" {
		to, _ := parent.column(ref.To[0])
		asked := value
		if kind != "" {
			asked = asID(value)
		}
		o.Outside = &Outside{Kind: kind, Values: "SELECT DISTINCT " + asked + p.unstaged(value+" IS NOT NULL"),
			column: to, in: x.target.Name(ref.Table)}
	} else {
		o.Unknown = cmp.Or(o.Unknown, "it has several columns")
	}
	return o, true
}

func (p *Planned) withoutParent(ref Ref, parent *Planned) (Orphan, bool) {
	o := Orphan{Columns: ref.Columns, Parent: ref.Table}
	for i := range ref.Columns {
		c, kind, why := p.planner.gets(ref.Columns[i])
		a, its, other := parent.planner.gets(ref.To[i])
		switch {
		case c == "" && why == "":
			return o, false // NULL refers to nothing
		case c == "" || a == "":
			o.Unknown = cmp.Or(o.Unknown, why, other, "the mapping has no value for "+ref.To[i]+" of "+ref.Table)
		}
		if kind != its {
			o.Kinds = strings.Trim(kind+" "+its, " ")
		}
	}
	if o.Unknown == "" {
		o.rows = func(m Merged) string { return p.orphans(ref, parent, m) }
	}
	return o, true
}

func (p *Planned) orphans(ref Ref, parent *Planned, m Merged) string {
	var child, above, same, there, keys []string
	for i, k := range p.Key {
		child, keys = append(child, fmt.Sprintf("%s AS k%d", own(k), i+1)), append(keys, fmt.Sprintf("c.k%d", i+1))
	}
	for i := range ref.Columns {
		c, kind, _ := p.planner.gets(ref.Columns[i])
		a, _, _ := parent.planner.gets(ref.To[i])
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
	list := strings.Join(keys, ", ")
	return fmt.Sprintf("SELECT %s FROM (SELECT %s%s) AS c LEFT JOIN (SELECT DISTINCT %s%s) AS p ON %s WHERE %s AND p.p1 IS NULL ORDER BY %s",
		list, strings.Join(child, ", "), p.unstaged(), strings.Join(above, ", "), parent.unstaged(),
		strings.Join(same, " AND "), strings.Join(there, " AND "), list)
}
