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

// Schema is what a server tells of a table.
type Schema struct {
	Columns []column.Column // in their order
	Key     []string        // of the primary key
	Unique  []Unique        // the other unique keys
	Refs    []Ref           // foreign keys
	Engine  string          // as the server names it: InnoDB

	Expressions []string  // unique keys that are not of columns: their names
	Triggers    []Trigger // that this account may see
	Rules       []Rule    // CHECK constraints that the server enforces
}

// Unique is a unique key.
type Unique struct {
	Name    string
	Columns []string
	Lengths []int // how much of each column's beginning counts, in letters, of bytes in bytes; 0: all of it; nil: all of each
}

// Trigger is a trigger of a table.
type Trigger struct {
	Name string
	When string // such as BEFORE INSERT
}

// Rule is a CHECK constraint.
type Rule struct{ Name, Clause string }

// Ref is a foreign key.
type Ref struct {
	Name    string
	Columns []string
	Table   string // to which it refers, DATABASE.TABLE as in the mapping
	To      []string
}

func (s *Schema) column(name string) (column.Column, bool) {
	i := slices.IndexFunc(s.Columns, func(c column.Column) bool { return c.Name == name })
	if i < 0 {
		return column.Column{}, false
	}
	return s.Columns[i], true
}

// Side is the databases of one platform.
type Side struct {
	Tables     map[string]*Schema // by DATABASE.TABLE, databases as in the mapping
	Databases  map[string]string  // names on the server, by those of the mapping; missing: the same
	Collations map[string]bool    // that the server knows; nil: not asked, all
}

// Name writes a table's name on the server.
func (s Side) Name(t string) string {
	db, tab := s.split(t)
	return sqlexpr.Quote(db) + "." + sqlexpr.Quote(tab)
}

// Fill writes a statement of a mapping for this side: {nova} stands for the database nova,
// quoted. Braces around anything else are left.
func (s Side) Fill(query string) string {
	return braces().ReplaceAllStringFunc(query, func(b string) string {
		db := b[1 : len(b)-1]
		for t := range s.Tables {
			if strings.HasPrefix(t, db+".") {
				return sqlexpr.Quote(cmp.Or(s.Databases[db], db))
			}
		}
		return b
	})
}

var braces = text.Pattern(`\{[a-z][a-z0-9_]*\}`)

// IDs is what is known of a kind of values: without a file they stay as they are.
type IDs struct {
	Given   bool // there is a file
	Default bool // which has a line for all others
}

// Finding is something that people must know of a plan.
type Finding struct {
	Table  string `json:"table"` // of the target
	Column string `json:"column,omitempty"`
	Text   string `json:"text"`
}

// Line is the finding after the place that it is about.
func (f Finding) Line() string {
	if where := strings.TrimSpace(f.Table + " " + f.Column); where != "" {
		return where + ": " + f.Text
	}
	return f.Text
}

// Plan is how a mapping is carried out on given databases. With Errors it is not.
type Plan struct {
	Tables   []Planned
	Errors   []Finding
	Warnings []Finding

	unplanned []string // tables of the target that errors keep out of Tables
}

// Planned is one table of a plan.
type Planned struct {
	Target, Source string   // as in the mapping; of a part, Target is DATABASE.TABLE#PART
	Table          string   // of the target, as in the mapping
	Columns        []string // of the target
	Values         []string // SQL of each
	Key            []string // columns of the source's primary key, by which its rows are taken in chunks
	Kept           []string // columns of the target that hold Key, one each, and are its primary key; nil: there are none
	Lookups        []Lookup // of kinds whose IDs are a list of all
	Others         []Lookup // of kinds that have a line for all others
	Checks         []RowCheck
	Zeros          []RowCheck // dates that are none: they are carried over as they are
	Collisions     []Collision
	Orphans        []Orphan
	Left           []Left     // rows that are left out, as they refer to nothing
	LeftOut        []RowCheck // rows that a join leaves out, of each that is not optional
	Unclear        bool       // an expression could not be written: its statements can not be carried out
	lost           []string   // columns of the target of which errors keep the values from being known
	into, from     string
	bare           string            // from, without the staged IDs
	bares          map[string]string // values of columns of which a part is looked up, with that as it was
	where          []string
	kinds          []column.Column // of the target, as Columns
	planner        *planner
	window         window
}

// staging is the database in which values are looked up. Its tables are ids_KIND
// (old, new) and ids_default (kind, new).
const staging = "migrate_ids"

// Select is the statement that makes the rows; more is a further condition, "" for all.
func (p *Planned) Select(more string) string {
	return "SELECT " + strings.Join(p.Values, ", ") + p.rows(more)
}

// Statement is the whole copy on one server.
func (p *Planned) Statement(more string) string {
	names := make([]string, 0, len(p.Columns))
	for _, c := range p.Columns {
		names = append(names, sqlexpr.Quote(c))
	}
	return "INSERT INTO " + p.into + " (" + strings.Join(names, ", ") + ") " + p.Select(more)
}

// Count is the statement that counts the rows. Like all statements that look at the
// source's rows it needs no staged IDs: they neither add rows nor take any away.
func (p *Planned) Count() string { return "SELECT COUNT(*)" + p.unstaged("") }

func (p *Planned) rows(more ...string) string { return p.from + p.conditions(more) }

// unstaged is rows for values that are not looked up.
func (p *Planned) unstaged(more ...string) string { return p.bare + p.conditions(more) }

func (p *Planned) conditions(more []string) string {
	conds := slices.DeleteFunc(slices.Concat(p.where, more), func(s string) bool { return s == "" })
	if len(conds) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(conds, " AND ")
}

// MakePlan plans a mapping. It tells all that is wrong at once.
func MakePlan(m *Mapping, source, target Side, ids map[string]IDs) Plan {
	var p Plan
	tables, err := m.order()
	if err != nil {
		p.Errors = append(p.Errors, Finding{Text: err.Error()})
		for _, t := range m.Tables {
			p.unplanned = append(p.unplanned, t.Target)
		}
	}
	for _, k := range m.IDs {
		if k.Must && k.Query == "" && !ids[k.Kind].Given {
			p.Errors = append(p.Errors, Finding{Text: fmt.Sprintf("there are no IDs of %s: want a file %s.csv or %s.yaml", k.Kind, k.Kind, k.Kind)})
		}
	}
	used := map[string]map[string]bool{}
	for _, t := range tables {
		if used[t.From] == nil {
			used[t.From] = map[string]bool{}
		}
		x := &planner{plan: &p, t: t, source: source, target: target, ids: ids, kinds: m.kinds(),
			noZeroDates: m.NoZeroDates, used: used[t.From], all: m.Tables, leave: m.leaveOrphans}
		x.table()
	}
	for _, t := range m.skipped { // what it would have used is not known
		used[t.From] = map[string]bool{"": true}
	}
	p.nowhere(tables, source, used)
	p.amongParts()
	p.orphans(m)
	p.afterSkipped(m, target)
	return p
}

// nowhere looks for columns of the source that nobody thought of: what several tables
// are made of counts as used when one of them does.
func (p *Plan) nowhere(tables []*Table, source Side, used map[string]map[string]bool) {
	seen := map[string]bool{}
	for _, t := range tables {
		s := source.Tables[t.From]
		if s == nil || seen[t.From] || used[t.From][""] {
			continue
		}
		seen[t.From] = true
		var drop []string
		for _, x := range tables {
			if x.From == t.From {
				drop = append(drop, x.Drop...)
			}
		}
		for _, c := range s.Columns {
			if !used[t.From][c.Name] && !slices.Contains(drop, c.Name) {
				p.Errors = append(p.Errors, Finding{Table: t.Target,
					Text: fmt.Sprintf("column %s of table %s of the source goes nowhere: use it, or name it in drop", c.Name, t.From)})
			}
		}
		for _, name := range drop {
			switch _, ok := s.column(name); {
			case !ok:
				p.Errors = append(p.Errors, Finding{Table: t.Target,
					Text: fmt.Sprintf("table %s of the source has no column %s to be dropped", t.From, name)})
			case used[t.From][name]:
				p.Errors = append(p.Errors, Finding{Table: t.Target,
					Text: fmt.Sprintf("column %s of table %s of the source is used, and is to be dropped", name, t.From)})
			}
		}
	}
}

// planner plans one table.
type planner struct {
	plan           *Plan
	t              *Table
	source, target Side
	ids            map[string]IDs
	from, to       *Schema
	kinds          []string // of IDs
	noZeroDates    bool
	used           map[string]bool // columns of the source's table, by all that is made of it
	out            Planned
	all            []Table // of the mapping
	joins          []string
	leave          bool        // rows out that refer to nothing: by ...
	parents        []reference // ... these
	staged         []string    // joins of the staged IDs, by which no row is chosen
}

func (x *planner) error(column, format string, args ...any) {
	x.plan.Errors = append(x.plan.Errors, Finding{x.t.Name(), column, fmt.Sprintf(format, args...)})
}

// lost is an error of a column after which its values are not known.
func (x *planner) lost(column, format string, args ...any) {
	x.error(column, format, args...)
	x.out.lost = append(x.out.lost, column)
}

func (x *planner) table() {
	t := x.t
	x.from, x.to = x.source.Tables[t.From], x.target.Tables[t.Target]
	if x.from == nil {
		x.error("", "the source has no table %s", t.From)
	}
	if x.to == nil {
		x.error("", "the target has no such table")
	}
	if x.from == nil || x.to == nil || !x.tablesOfJoins() {
		x.used[""] = true // it can not be said which columns go nowhere
		x.plan.unplanned = append(x.plan.unplanned, t.Target)
		return
	}
	if len(x.from.Key) == 0 {
		x.error("", "table %s of the source has no primary key: its rows can not be taken in chunks", t.From)
	}
	for _, k := range x.from.Key {
		if c, ok := x.from.column(k); ok && !ordered(c.Type.Kind) {
			x.error("", "column %s of the primary key of table %s of the source is %s: its rows can not be taken in chunks", k, t.From, c.Type.Text)
		}
	}
	x.out = Planned{Target: t.Name(), Table: t.Target, Source: t.From, Key: x.from.Key, into: x.target.Name(t.Target),
		bares: map[string]string{}}
	for i := range t.Join {
		x.join(&t.Join[i])
	}
	for i := range t.Columns {
		x.column(&t.Columns[i])
	}
	x.windowed(x.all)
	if t.where != nil {
		x.out.where = append(x.out.where, x.sql("", *t.where))
	}
	x.out.bare = " FROM " + x.source.Name(t.From) + " AS " + sqlexpr.Quote(Main) + strings.Join(x.joins, "")
	x.out.from = x.out.bare + strings.Join(x.staged, "")
	if x.leave {
		x.withParents()
	}
	x.complete()
	x.finish()
	x.out.LeftOut = x.leftOut()
	x.out.planner = x
	x.plan.Tables = append(x.plan.Tables, x.out)
}

// ordered reports whether a value of a kind, written in a statement, compares as rows are
// ordered: not so floating numbers, and words that are stored as numbers.
func ordered(k column.Kind) bool {
	switch k {
	case column.Float, column.Enum, column.Set, column.Bit, column.JSON, column.Other:
		return false
	}
	return true
}

func (x *planner) tablesOfJoins() bool {
	ok := true
	for _, j := range slices.Concat(x.t.Join, x.t.Find) {
		if x.source.Tables[j.Table] == nil {
			x.error("", "the source has no table %s", j.Table)
			ok = false
		}
	}
	return ok
}

func (x *planner) join(j *Join) {
	how := " JOIN "
	if j.Optional {
		how = " LEFT JOIN "
	}
	x.joins = append(x.joins, how+x.source.Name(j.Table)+" AS "+sqlexpr.Quote(j.As)+" ON "+x.sql("", j.on))
}

// sql writes an expression; what it names and is not there is an error of the plan.
// Values that are looked up within it are written as they were.
func (x *planner) sql(column string, e sqlexpr.Expr) string {
	return x.write(column, e, &scope{planner: x, column: column, bare: true})
}

func (x *planner) write(column string, e sqlexpr.Expr, s *scope) string {
	text, err := e.SQL(s)
	if err != nil {
		x.error(column, "%v", err)
		x.out.Unclear = true
	}
	return text
}

// column plans one column, or those that are copied.
func (x *planner) column(c *Column) {
	for _, name := range c.Copy {
		if from, ok := x.from.column(name); !ok {
			x.lost(name, "table %s of the source has no such column", x.t.From)
		} else {
			x.used[name] = true
			value := own(name)
			if to := x.put(name, x.dated(value, name, &from)); to != nil {
				x.fits(value, &from, to)
			}
		}
	}
	if len(c.Copy) > 0 {
		return
	}
	value := x.sql(c.To, c.value)
	if _, ok := x.to.column(c.To); !ok && c.Maybe {
		return
	}
	if c.Map != "" && x.ids[c.Map].Given {
		if to := x.put(c.To, x.lookup(Lookup{Kind: c.Map, Column: c.To, value: value})); to != nil {
			x.mayNotBeNull(to, value)
		}
		return
	}
	from, plain := x.plain(c.value)
	with := value
	if slices.Contains(c.value.Calls(), "MAPPED") && !x.out.Unclear {
		with = x.write(c.To, c.value, &scope{planner: x, column: c.To})
		x.out.bares[c.To] = value
	}
	if plain {
		with = x.dated(value, c.To, &from)
	}
	switch to := x.put(c.To, with); {
	case to == nil:
	case plain:
		x.fits(value, &from, to)
	default:
		x.made(value, to)
		x.notMeasured(to)
	}
}

// plain is the column that an expression is, if it is nothing else.
func (x *planner) plain(e sqlexpr.Expr) (column.Column, bool) {
	name, ok := e.Column()
	if !ok {
		return column.Column{}, false
	}
	s := (&scope{planner: x}).table(name.Table)
	if s == nil {
		return column.Column{}, false
	}
	col, ok := s.column(name.Name)
	if slices.ContainsFunc(x.t.Join, func(j Join) bool { return j.As == name.Table && j.Optional }) {
		col.Nullable = true
	}
	return col, ok
}

// put gives a column of the target its value. It returns the column, nil when it can
// not be given this value.
func (x *planner) put(name, value string) *column.Column {
	to, ok := x.to.column(name)
	switch {
	case !ok:
		x.lost(name, "the target has no such column")
		return nil
	case slices.Contains(x.out.Columns, name):
		x.error(name, "is given twice")
		return nil
	case to.Generated:
		x.error(name, "the server makes the values of this column")
		return nil
	}
	x.out.Columns, x.out.Values, x.out.kinds = append(x.out.Columns, name), append(x.out.Values, value), append(x.out.kinds, to)
	return &to
}

// complete looks for columns that nobody thought of.
func (x *planner) complete() {
	for _, c := range x.to.Columns {
		if !slices.Contains(x.out.Columns, c.Name) && !c.Nullable && c.Default == nil && !c.Auto && !c.Generated {
			x.lost(c.Name, "may not be NULL, has no default, and the mapping has no value for it")
		}
	}
	for _, name := range x.t.Measure {
		if !slices.Contains(x.out.Columns, name) {
			x.error(name, "is to be measured, and has no value")
		}
	}
}
