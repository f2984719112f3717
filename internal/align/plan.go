package align

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"holdfast/internal/align/column"
	"holdfast/internal/align/sqlexpr"
)

// Schema is what a server tells of a table.
type Schema struct {
	Columns []column.Column // in their order
	Key     []string        // of the primary key
	Unique  []Unique        // the other unique keys
	Refs    []Ref           // foreign keys
}

// Unique is a unique key.
type Unique struct {
	Name    string
	Columns []string
}

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
	Tables    map[string]*Schema // by DATABASE.TABLE, databases as in the mapping
	Databases map[string]string  // names on the server, by those of the mapping; missing: the same
}

// name writes a table's name on the server.
func (s Side) name(t string) string {
	db, tab, _ := strings.Cut(t, ".")
	return sqlexpr.Quote(cmp.Or(s.Databases[db], db)) + "." + sqlexpr.Quote(tab)
}

// Fill writes a statement of a mapping for this side: {nova} stands for the database nova,
// quoted. Braces around anything else are left.
func (s Side) Fill(query string) string {
	return braces.ReplaceAllStringFunc(query, func(b string) string {
		db := b[1 : len(b)-1]
		for t := range s.Tables {
			if strings.HasPrefix(t, db+".") {
				return sqlexpr.Quote(cmp.Or(s.Databases[db], db))
			}
		}
		return b
	})
}

var braces = regexp.MustCompile(`\{[a-z][a-z0-9_]*\}`)

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

// Plan is how a mapping is carried out on given databases. With Errors it is not.
type Plan struct {
	Tables   []Planned
	Errors   []Finding
	Warnings []Finding
}

// Planned is one table of a plan.
type Planned struct {
	Target, Source string   // as in the mapping
	Columns        []string // of the target
	Values         []string // SQL of each
	Key            []string // columns of the source's primary key, by which its rows are taken in ranges
	Kept           []string // columns of the target that hold Key, one each, and are its primary key; nil: there are none
	Lookups        []Lookup
	Checks         []RowCheck
	Collisions     []Collision
	Orphans        []Orphan
	into, from     string
	where          []string
	kinds          []column.Column // of the target, as Columns
	planner        *planner
}

// Lookup is a value that must have a line among the IDs of its kind.
type Lookup struct {
	Kind, Column string
	Missing      string // statement: the values that have none, each once
	value, found string // SQL
}

// RowCheck is what types do not tell: there must be no rows that have something.
type RowCheck struct {
	Column string
	Have   string // what, for people
	Count  string // statement: how many rows have it
	cond   string // SQL
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

// Count is the statement that counts the rows.
func (p *Planned) Count() string { return "SELECT COUNT(*)" + p.rows("") }

func (p *Planned) rows(more ...string) string {
	conds := slices.DeleteFunc(slices.Concat(p.where, more), func(s string) bool { return s == "" })
	if len(conds) == 0 {
		return p.from
	}
	return p.from + " WHERE " + strings.Join(conds, " AND ")
}

// MakePlan plans a mapping. It tells all that is wrong at once.
func MakePlan(m *Mapping, source, target Side, ids map[string]IDs) Plan {
	var p Plan
	tables, err := m.order()
	if err != nil {
		p.Errors = append(p.Errors, Finding{Text: err.Error()})
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
		x := &planner{plan: &p, t: t, source: source, target: target, ids: ids, used: used[t.From]}
		x.table()
	}
	p.nowhere(tables, source, used)
	p.orphans()
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
				p.Errors = append(p.Errors, Finding{Table: t.Target, Text: fmt.Sprintf("column %s of table %s of the source goes nowhere: use it, or name it in drop", c.Name, t.From)})
			}
		}
		for _, name := range drop {
			switch _, ok := s.column(name); {
			case !ok:
				p.Errors = append(p.Errors, Finding{Table: t.Target, Text: fmt.Sprintf("table %s of the source has no column %s to be dropped", t.From, name)})
			case used[t.From][name]:
				p.Errors = append(p.Errors, Finding{Table: t.Target, Text: fmt.Sprintf("column %s of table %s of the source is used, and is to be dropped", name, t.From)})
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
	used           map[string]bool // columns of the source's table, by all that is made of it
	out            Planned
	joins          []string
}

func (x *planner) error(column, format string, args ...any) {
	x.plan.Errors = append(x.plan.Errors, Finding{x.t.Target, column, fmt.Sprintf(format, args...)})
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
		return
	}
	if len(x.from.Key) == 0 {
		x.error("", "table %s of the source has no primary key: its rows can not be taken in ranges", t.From)
	}
	x.out = Planned{Target: t.Target, Source: t.From, Key: x.from.Key, into: x.target.name(t.Target)}
	for i := range t.Join {
		x.join(&t.Join[i])
	}
	for i := range t.Columns {
		x.column(&t.Columns[i])
	}
	if t.where != nil {
		x.out.where = append(x.out.where, x.sql("", *t.where))
	}
	x.out.from = " FROM " + x.source.name(t.From) + " AS " + sqlexpr.Quote(Main) + strings.Join(x.joins, "")
	x.complete()
	x.finish()
	x.out.planner = x
	x.plan.Tables = append(x.plan.Tables, x.out)
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
	x.joins = append(x.joins, how+x.source.name(j.Table)+" AS "+sqlexpr.Quote(j.As)+" ON "+x.sql("", j.on))
}

// sql writes an expression; what it names and is not there is an error of the plan.
func (x *planner) sql(column string, e sqlexpr.Expr) string {
	s, err := e.SQL(&scope{planner: x})
	if err != nil {
		x.error(column, "%v", err)
	}
	return s
}

// column plans one column, or those that are copied.
func (x *planner) column(c *Column) {
	for _, name := range c.Copy {
		if from, ok := x.from.column(name); !ok {
			x.error(name, "table %s of the source has no such column", x.t.From)
		} else {
			x.used[name] = true
			x.put(name, sqlexpr.Quote(Main)+"."+sqlexpr.Quote(name), &from)
		}
	}
	if len(c.Copy) > 0 {
		return
	}
	value := x.sql(c.To, c.value)
	if _, ok := x.to.column(c.To); !ok && c.Maybe {
		return
	}
	var from *column.Column
	if col, ok := x.plain(c.value); ok && c.Map == "" {
		from = &col
	}
	if c.Map != "" && x.ids[c.Map].Given {
		value = x.lookup(c, value)
	}
	x.put(c.To, value, from)
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
	return s.column(name.Name)
}

// put gives a column of the target its value. from is the column that it is, nil for
// anything else.
func (x *planner) put(name, value string, from *column.Column) {
	to, ok := x.to.column(name)
	switch {
	case !ok:
		x.error(name, "the target has no such column")
		return
	case slices.Contains(x.out.Columns, name):
		x.error(name, "is given twice")
		return
	case to.Generated:
		x.error(name, "the server makes the values of this column")
		return
	}
	x.out.Columns, x.out.Values, x.out.kinds = append(x.out.Columns, name), append(x.out.Values, value), append(x.out.kinds, to)
	if from == nil {
		return
	}
	fit := column.Fits(*from, to)
	if slices.Contains(x.t.Measure, name) {
		x.measure(name, value, *from, to)
	} else {
		for _, why := range fit.Narrow {
			x.error(name, "%s", why)
		}
	}
	for _, what := range fit.Changes {
		x.plan.Warnings = append(x.plan.Warnings, Finding{x.t.Target, name, what})
	}
	if from.Nullable && !to.Nullable {
		x.out.Checks = append(x.out.Checks, RowCheck{Column: name, Have: "NULL, which the target does not allow", cond: value + " IS NULL"})
	}
}

// measure has the rows of a column looked at whose type is too narrow.
func (x *planner) measure(name, value string, from, to column.Column) {
	if from.Type.Kind != column.Char || to.Type.Kind != column.Char || !word.MatchString(to.Charset) {
		x.error(name, "%s can not be measured for %s: only texts can", from.Type.Text, to.Type.Text)
		return
	}
	over := fmt.Sprintf("CHAR_LENGTH(%s) > %d", value, to.Type.Length)
	if to.Type.Length == 0 {
		over = fmt.Sprintf("LENGTH(CONVERT(%s USING %s)) > %d", value, to.Charset, to.Type.Limit)
	}
	x.out.Checks = append(x.out.Checks, RowCheck{Column: name, Have: "a text that is too long for " + to.Type.Text, cond: over})
}

// lookup looks a value up among the IDs of a kind. NULL stays NULL.
func (x *planner) lookup(c *Column, value string) string {
	as := sqlexpr.Quote(fmt.Sprintf("ids%d", len(x.out.Lookups)+1))
	x.joins = append(x.joins, " LEFT JOIN "+sqlexpr.Quote(staging)+"."+sqlexpr.Quote("ids_"+c.Map)+" AS "+as+" ON "+as+".`old` = CONVERT("+value+" USING utf8mb4) COLLATE utf8mb4_bin")
	found := as + ".`new`"
	if x.ids[c.Map].Default {
		other := "(SELECT `new` FROM " + sqlexpr.Quote(staging) + ".`ids_default` WHERE `kind` = " + sqlexpr.Literal(c.Map) + ")"
		return "IF(" + value + " IS NULL, NULL, COALESCE(" + found + ", " + other + "))"
	}
	x.out.Lookups = append(x.out.Lookups, Lookup{Kind: c.Map, Column: c.To, value: value, found: found})
	return found
}

// complete looks for columns that nobody thought of.
func (x *planner) complete() {
	for _, c := range x.to.Columns {
		if !slices.Contains(x.out.Columns, c.Name) && !c.Nullable && c.Default == nil && !c.Auto && !c.Generated {
			x.error(c.Name, "may not be NULL, has no default, and the mapping has no value for it")
		}
	}
	for _, name := range x.t.Measure {
		if !slices.Contains(x.out.Columns, name) {
			x.error(name, "is to be measured, and has no value")
		}
	}
}

// finish writes the statements that look at the rows.
func (x *planner) finish() {
	p := &x.out
	p.Kept = x.kept()
	p.Collisions = x.collisions()
	for i := range p.Checks {
		p.Checks[i].Count = "SELECT COUNT(*)" + p.rows(p.Checks[i].cond)
	}
	for i := range p.Lookups {
		l := &p.Lookups[i]
		l.Missing = "SELECT DISTINCT " + l.value + p.rows(l.value+" IS NOT NULL", l.found+" IS NULL")
	}
}

// scope says what names mean in the expressions of a table.
type scope struct {
	*planner
	find *Join // its expression alone may name it
}

// table is the schema behind a name, nil when there is none.
func (s *scope) table(as string) *Schema {
	if as == "" || as == Main {
		return s.from
	}
	if s.find != nil && s.find.As == as {
		return s.source.Tables[s.find.Table]
	}
	if i := slices.IndexFunc(s.t.Join, func(j Join) bool { return j.As == as }); i >= 0 {
		return s.source.Tables[s.t.Join[i].Table]
	}
	return nil
}

// Column implements sqlexpr.Names.
func (s *scope) Column(c sqlexpr.Column) (string, error) {
	t := s.table(c.Table)
	if t == nil {
		return "", fmt.Errorf("%s: %s is no table of this mapping's: want %s, or the name of a join", c, c.Table, Main)
	}
	if _, ok := t.column(c.Name); !ok {
		return "", fmt.Errorf("%s: there is no such column", c)
	}
	if c.Table == "" || c.Table == Main {
		s.used[c.Name] = true
	}
	return sqlexpr.Quote(cmp.Or(c.Table, Main)) + "." + sqlexpr.Quote(c.Name), nil
}

// Call implements sqlexpr.Names: the functions of mappings.
func (s *scope) Call(name string, args []string) (string, bool, error) {
	switch name {
	case "BOOL": // JSON's true or false: the server would write a number, or a text
		if len(args) != 1 {
			return "", false, errors.New("function BOOL: want one condition")
		}
		return "JSON_EXTRACT(IF(" + args[0] + ", 'true', 'false'), '$')", true, nil
	case "FOUND":
		sql, err := s.found(args)
		return sql, true, err
	case "NAMED_UUID":
		if len(args) == 0 {
			return "", false, errors.New("function NAMED_UUID: want what it is made of")
		}
		return namedUUID(s.t.Target, args), true, nil
	}
	return "", false, nil
}

// found is whether there is a row of another table.
func (s *scope) found(args []string) (string, error) {
	i := slices.IndexFunc(s.t.Find, func(j Join) bool { return len(args) == 1 && args[0] == sqlexpr.Literal(j.As) })
	if i < 0 || s.find != nil {
		return "", errors.New("function FOUND: want one of find, as a text")
	}
	j := &s.t.Find[i]
	on, err := j.on.SQL(&scope{s.planner, j})
	return "EXISTS (SELECT 1 FROM " + s.source.name(j.Table) + " AS " + sqlexpr.Quote(j.As) + " WHERE " + on + ")", err
}

// namedUUID makes a UUID of version 3 (RFC 9562) of a table and values: the same for a
// row each time, so that a copy may be repeated and compared.
func namedUUID(target string, args []string) string {
	h := "MD5(CONCAT_WS(':', " + sqlexpr.Literal("holdfast "+target) + ", " + strings.Join(args, ", ") + "))"
	part := func(from, n int) string { return fmt.Sprintf("SUBSTRING(%s, %d, %d)", h, from, n) }
	variant := "SUBSTRING('89ab', 1 + (INSTR('0123456789abcdef', " + part(17, 1) + ") - 1) % 4, 1)"
	return "CONCAT(" + strings.Join([]string{part(1, 8), "'-'", part(9, 4), "'-3'", part(14, 3), "'-'", variant, part(18, 3), "'-'", part(21, 12)}, ", ") + ")"
}
