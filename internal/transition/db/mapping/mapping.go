// Package mapping knows how rows of an old platform's databases become rows of the new
// one's. It reads mappings and makes plans of them: it decides, and touches no
// database.
package mapping

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/lib/text"
	"holdfast/internal/transition/db/sqlexpr"
)

// Format is the version of the form of mappings.
const Format = 1

// Bounds of a mapping.
const (
	maxMapping = 1 << 20 // bytes
	maxTables  = 500
	maxKind    = 56 // letters: with what is put around it, it is the name of a table
)

// Main is the name of a table's source in its expressions.
const Main = "s"

// Mapping says how rows become rows. It is written in YAML with the fields below.
type Mapping struct {
	Format int      `json:"format"`
	Name   string   `json:"name"`
	IDs    []Kind   `json:"ids,omitempty"`
	Tables []Table  `json:"tables"`
	Checks []Check  `json:"checks,omitempty"`
	Advice []string `json:"advice,omitempty"` // what people have to do when the rows are there
	// tables of the source that nobody needs any more: DATABASE.TABLE, with * for any letters in TABLE
	Ignore []string `json:"ignore,omitempty"`

	// Dates that no calendar has, such as 0000-00-00, become NULL where the target allows
	// it, instead of being carried over: for programs that can not read them.
	NoZeroDates bool `json:"no_zero_dates,omitempty"`

	skipped []Table // left out by Skip

	leaveOrphans bool
}

// Kind is a kind of values that are looked up, such as project.
type Kind struct {
	Kind  string `json:"kind"`
	Query string `json:"query,omitempty"` // of the target, for old and new values, where there is no file; see Side.Fill
	Must  bool   `json:"must,omitempty"`  // without a file and a query, values do not stay as they are: it is an error
}

// Table says how the rows of one table of the target are made. Tables are named
// DATABASE.TABLE, databases as in the mapping.
type Table struct {
	Target  string   `json:"target"`
	From    string   `json:"from"`            // of the source; s in expressions, whose bare columns are its
	Where   string   `json:"where,omitempty"` // expression: which of its rows
	Join    []Join   `json:"join,omitempty"`  // at most one row each, or the plan's check of the keys fails
	Find    []Join   `json:"find,omitempty"`  // found('NAME') says whether there is one, gathered('NAME') gives the values of all
	Columns []Column `json:"columns"`
	// columns of the target whose rows are measured, because their type is narrower than the source's
	Measure []string `json:"measure,omitempty"`
	Drop    []string `json:"drop,omitempty"`  // columns of the source that nobody needs any more
	After   []string `json:"after,omitempty"` // tables of the target that must be there before

	// Rows of a further table of the source in the same table of the target: their name, and
	// what is added to the source's key, so that each part has keys of its own.
	Part  string `json:"part,omitempty"`
	Shift int64  `json:"shift,omitempty"`

	where *sqlexpr.Expr
}

// Join brings another table of the source in.
type Join struct {
	As       string `json:"as"` // its name in expressions
	Table    string `json:"table"`
	Match    string `json:"match"`              // expression; not "on", which YAML reads as true
	Optional bool   `json:"optional,omitempty"` // rows without one are taken, too; its columns are NULL then
	Value    string `json:"value,omitempty"`    // of find: expression, what gathered('NAME') takes of each row; NULL is left out

	on    sqlexpr.Expr
	value *sqlexpr.Expr
}

// Column says what one column of the target gets, or with Copy several.
type Column struct {
	Copy  []string `json:"copy,omitempty"`  // columns of the source that keep their names
	To    string   `json:"to,omitempty"`    // column of the target
	Value string   `json:"value,omitempty"` // expression
	Map   string   `json:"map,omitempty"`   // kind of IDs by which the value is looked up; NULL stays NULL
	Maybe bool     `json:"maybe,omitempty"` // not every release of the target has it

	value sqlexpr.Expr
}

// Faults of a mapping, a line each.
type Faults struct {
	File string
	List []strictyaml.Fault
}

func (f *Faults) Error() string { return strictyaml.Lines(f.File, f.List) }

// ParseMapping reads a mapping strictly; name is for errors, which are *Faults with
// all that is wrong in itself. Whether the databases have what it names is Plan's.
func ParseMapping(name string, data []byte) (*Mapping, error) {
	if len(data) > maxMapping {
		return nil, fmt.Errorf("%s: want at most %d bytes", name, maxMapping)
	}
	m := &Mapping{}
	read := strictyaml.Decode(data, m)
	r := &reader{m: m, faults: Faults{File: name, List: read.Faults}}
	if len(r.faults.List) == 0 {
		r.check()
		r.faults.List = read.Locate(r.faults.List)
	}
	if len(r.faults.List) > 0 {
		return nil, &r.faults
	}
	return m, nil
}

// reader checks a mapping.
type reader struct {
	m      *Mapping
	faults Faults
}

func (r *reader) fault(path, value, want string) {
	r.faults.List = append(r.faults.List, strictyaml.Fault{Path: path, Value: strictyaml.Shorten(value), Want: want})
}

var (
	word  = text.Pattern(`^[a-z][a-z0-9_]{0,62}$`)
	reads = text.Pattern(`(?i)^\s*(SELECT|WITH)\s`)
	// what is in quotes, as servers read them: a quote within is written twice, or after a backslash
	quotes = text.Pattern("(?s)'(?:[^'\\\\]|\\\\.)*'|\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`")
	// INTO outside of quotes; servers read a number or \N before it as a word of its own
	into = text.Pattern(`(?i)(^|[^a-z_$])INTO([^a-z0-9_$]|$)`)
	// what makes it unsure what is in quotes: comments, quotes that are not closed, \N
	unsure = text.Pattern("/\\*|#|--([\\x00-\\x20\\x7f]|$)|['\"`\\\\]")
	staged = text.Pattern(`^ids[0-9]+$`) // names that the planner gives
	table  = text.Pattern(`^[a-z][a-z0-9_]{0,62}\.[A-Za-z0-9_$]{1,64}$`)
)

func (r *reader) check() {
	m := r.m
	if m.Format != Format {
		r.fault("format", fmt.Sprint(m.Format), fmt.Sprintf("want %d, the format that this program knows", Format))
	}
	if m.Name == "" {
		r.fault("name", "", "want the mapping's name")
	}
	kinds := m.kinds()
	for i, k := range kinds {
		r.once(fmt.Sprintf("ids[%d].kind", i), k, kinds[:i])
		if k == "default" || len(k) > maxKind {
			r.fault(fmt.Sprintf("ids[%d].kind", i), k,
				fmt.Sprintf("want another word than default, of at most %d letters: it becomes part of a table's name", maxKind))
		}
		if q := m.IDs[i].Query; q != "" {
			r.query(fmt.Sprintf("ids[%d].query", i), q)
		}
	}
	if n := len(m.Tables); n == 0 || n > maxTables {
		r.fault("tables", fmt.Sprint(n), fmt.Sprintf("want 1 to %d tables", maxTables))
	}
	targets := map[string]bool{}
	for i := range m.Tables {
		t, at := &m.Tables[i], fmt.Sprintf("tables[%d]", i)
		if targets[t.Name()] {
			r.fault(at+".target", t.Name(), "is given twice")
		}
		targets[t.Name()] = true
		r.table(at, t)
	}
	r.checks(targets)
	r.parts()
	r.ignored()
	for i := range m.Tables {
		for k, a := range m.Tables[i].After {
			if !targets[a] {
				r.fault(fmt.Sprintf("tables[%d].after[%d]", i, k), a, "want a target of this mapping")
			}
		}
	}
	if _, err := m.order(); err != nil && len(r.faults.List) == 0 {
		r.fault("tables", "", err.Error())
	}
}

// once checks a word of a list.
func (r *reader) once(at, value string, before []string) {
	switch {
	case !word().MatchString(value):
		r.fault(at, value, "want a word of small letters, digits and _")
	case slices.Contains(before, value):
		r.fault(at, value, "is given twice")
	}
}

// query wants a statement that reads. Servers let no row be changed where it is carried
// out; but MariaDB ends a transaction, also a READ ONLY one, to drop a table, and any
// server writes a file for INTO OUTFILE.
func (r *reader) query(at, text string) {
	code := quotes().ReplaceAllString(text, " ")
	switch {
	case !reads().MatchString(text):
		r.fault(at, text, "want a SELECT")
	case unsure().MatchString(code):
		r.fault(at, text, "want no comment in it, no \\ outside of quotes, and each quote closed")
	case into().MatchString(code):
		r.fault(at, text, "want no INTO in it: it only reads")
	}
}

func (r *reader) table(at string, t *Table) {
	for _, f := range []struct{ name, value string }{{"target", t.Target}, {"from", t.From}} {
		if !table().MatchString(f.value) {
			r.fault(at+"."+f.name, f.value, "want DATABASE.TABLE")
		}
	}
	if t.Where != "" {
		e := r.expr(at+".where", t.Where)
		t.where = &e
	}
	names := []string{Main}
	for _, l := range []struct {
		name  string
		joins []Join
	}{{"join", t.Join}, {"find", t.Find}} {
		for i := range l.joins {
			j, at := &l.joins[i], fmt.Sprintf("%s.%s[%d]", at, l.name, i)
			r.once(at+".as", j.As, names)
			if staged().MatchString(j.As) {
				r.fault(at+".as", j.As, "want another word than ids with a number: statements have tables of that name")
			}
			names = append(names, j.As)
			if !table().MatchString(j.Table) {
				r.fault(at+".table", j.Table, "want DATABASE.TABLE")
			}
			if l.name == "find" && j.Optional {
				r.fault(at+".optional", "true", "want it for a join only")
			}
			j.on = r.expr(at+".match", j.Match)
			if l.name == "join" && j.Value != "" {
				r.fault(at+".value", j.Value, "want it for find only")
			}
			if j.Value != "" {
				e := r.expr(at+".value", j.Value)
				j.value = &e
			}
		}
	}
	for i := range t.Columns {
		r.column(fmt.Sprintf("%s.columns[%d]", at, i), &t.Columns[i])
	}
}

func (r *reader) column(at string, c *Column) {
	switch {
	case len(c.Copy) > 0:
		if c.To != "" || c.Value != "" || c.Map != "" || c.Maybe {
			r.fault(at, c.To, "want copy alone, or to with value")
		}
		return
	case c.To == "":
		r.fault(at+".to", "", "want the column of the target, or copy")
	}
	c.value = r.expr(at+".value", c.Value)
	if kinds := r.m.kinds(); c.Map != "" && !slices.Contains(kinds, c.Map) {
		r.fault(at+".map", c.Map, "want one of ids: "+strings.Join(kinds, ", "))
	}
}

func (r *reader) expr(at, text string) sqlexpr.Expr {
	e, err := sqlexpr.Parse(text)
	if err != nil {
		r.fault(at, text, err.Error())
	}
	return e
}

func (m *Mapping) kinds() []string {
	out := make([]string, 0, len(m.IDs))
	for _, k := range m.IDs {
		out = append(out, k.Kind)
	}
	return out
}

// order returns the tables so that each comes after those that it needs, as near to
// the mapping's order as can be.
func (m *Mapping) order() ([]*Table, error) {
	var out []*Table
	state := map[string]int{} // 1: being placed, 2: placed
	var place func(t *Table) error
	place = func(t *Table) error {
		switch state[t.Name()] {
		case 1:
			return fmt.Errorf("the tables that must be there before %s need it themselves", t.Name())
		case 2:
			return nil
		}
		state[t.Name()] = 1
		for _, a := range t.After {
			i := slices.IndexFunc(m.Tables, func(x Table) bool { return x.Name() == a })
			if i < 0 {
				continue // told elsewhere
			}
			if err := place(&m.Tables[i]); err != nil {
				return err
			}
		}
		state[t.Name()] = 2
		out = append(out, t)
		return nil
	}
	for i := range m.Tables {
		if err := place(&m.Tables[i]); err != nil {
			return out, err
		}
	}
	return out, nil
}
