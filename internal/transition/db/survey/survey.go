// Package survey makes the plan of a mapping on real servers: it asks both for their
// schemas and the source for what its rows have, and writes nothing anywhere. Not even
// IDs are staged: what is looked up is compared here.
package survey

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// parallel is how many tables are looked at at once, each on a connection of its own.
const parallel = 4

// bytesPerSecond is what a copy brings over at the least, by which its time is estimated.
const bytesPerSecond = 20 << 20

// Table is what is to be known of one table of the plan.
type Table struct {
	Target    string `json:"target"` // as in the mapping
	Source    string `json:"source"`
	Rows      int64  `json:"rows"`      // that will be copied
	Statement string `json:"statement"` // that copies them all, on one server
	// by the size of the source's table that its server tells, the share of its rows that are copied, and 20 MB/s; 0:
	// unknown
	Seconds float64 `json:"estimated_seconds"`
}

// Finding is something that people must know.
type Finding struct {
	mapping.Finding
	Values   []string `json:"values,omitempty"`  // all that it is about; the text has the first of them
	Columns  []string `json:"columns,omitempty"` // what Keys are made of
	Keys     []string `json:"keys,omitempty"`    // of the first rows of the source that it is about
	NotEmpty bool     `json:"-"`                 // the target's table has rows already
	Right    bool     `json:"-"`                 // a right is missing; Values may be statements that give it
}

// Result is what a survey found. With Errors the mapping can not be carried out. No list is nil.
type Result struct {
	Tables   []Table   `json:"tables"` // in the order of the plan
	Errors   []Finding `json:"errors"`
	Warnings []Finding `json:"warnings"`
}

// Plan makes the plan of a mapping, and tells all that is wrong with it at once. The
// databases are the servers' own names, by those of the mapping; what is missing has the
// same. sets are all IDs that there are, also those that ids.Ask has asked for.
//
// An error is a server that can not be asked. All else is in the result: also statements
// that the source's server refuses.
func Plan(ctx context.Context, m *mapping.Mapping, source, target *server.Server, sourceDBs,
	targetDBs map[string]string, sets map[string]ids.Set) (*Result, *mapping.Plan, error) {
	from, to, err := sides(ctx, m, source, target, sourceDBs, targetDBs)
	if err != nil {
		return nil, nil, err
	}
	p := mapping.MakePlan(m, from, to, ids.Known(sets))
	s := &surveyor{mapping: m, plan: &p, source: source, target: target, from: from, to: to, ids: newIDs(sets)}
	if s.sizes, err = sizes(ctx, source, slices.Sorted(maps.Values(from.Databases))); err != nil {
		return nil, nil, err
	}
	if s.same, err = server.Same(ctx, source, target); err != nil {
		return nil, nil, err
	}
	r, err := s.run(ctx)
	return r, &p, err
}

// sides reads both schemas.
func sides(ctx context.Context, m *mapping.Mapping, source, target *server.Server, sourceDBs,
	targetDBs map[string]string) (from, to mapping.Side, err error) {
	here, there := server.Databases(m)
	if from, err = source.Side(ctx, named(here, sourceDBs)); err != nil {
		return from, to, err
	}
	if from.Collations, err = collations(ctx, source); err != nil {
		return from, to, err
	}
	to, err = target.Side(ctx, named(there, targetDBs))
	return from, to, err
}

// named gives all databases a name.
func named(all []string, given map[string]string) map[string]string {
	out := map[string]string{}
	for _, db := range all {
		out[db] = cmp.Or(given[db], db)
	}
	return out
}

// surveyor looks at the tables of a plan.
type surveyor struct {
	mapping        *mapping.Mapping
	plan           *mapping.Plan
	source, target *server.Server
	from, to       mapping.Side
	sizes          map[string]size // by DATABASE.TABLE, names on the server
	ids            *knownIDs
	same           bool // source and target are one server
}

// look is what was found of a table.
type look struct {
	t                *mapping.Planned
	again            bool    // the target's table was looked at already: this is another part of it
	tx               *sql.Tx // of the source
	out              Table
	errors, warnings []Finding
}

func (l *look) error(column, format string, args ...any) *Finding {
	l.errors = append(l.errors, Finding{Finding: mapping.Finding{Table: l.t.Target, Column: column, Text: fmt.Sprintf(format, args...)}})
	return &l.errors[len(l.errors)-1]
}

func (l *look) warn(column, format string, args ...any) *Finding {
	l.warnings = append(l.warnings, Finding{Finding: mapping.Finding{Table: l.t.Target, Column: column, Text: fmt.Sprintf(format, args...)}})
	return &l.warnings[len(l.warnings)-1]
}

// refused makes a finding of a statement that the server does not carry out, such as for a
// function that its version does not have. Any other error stays one.
func (l *look) refused(column, what string, err error) error {
	var e *mysql.MySQLError
	if err == nil || server.Passing(err) || !errors.As(err, &e) {
		return err
	}
	l.error(column, "%s: the source's server refuses the statement: %s (error %d)", what, e.Message, e.Number)
	return nil
}

func (s *surveyor) run(ctx context.Context) (*Result, error) {
	looks, seen := make([]*look, len(s.plan.Tables)), map[string]bool{}
	for i := range looks {
		t := &s.plan.Tables[i]
		looks[i] = &look{t: t, again: seen[t.Table]}
		seen[t.Table] = true
	}
	// All values are known only after the first walk, and keys depend on which of them
	// become one.
	for _, walk := range []func(context.Context, *look) error{s.rows, s.keys} {
		if err := each(ctx, parallel, len(looks), func(ctx context.Context, i int) error { return s.within(ctx, looks[i], walk) }); err != nil {
			return nil, err
		}
	}
	r := &Result{Tables: []Table{}, Errors: plain(s.plan.Errors), Warnings: plain(s.plan.Warnings)}
	err := s.servers(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, l := range looks {
		r.Tables, r.Errors, r.Warnings = append(r.Tables, l.out), append(r.Errors, l.errors...), append(r.Warnings, l.warnings...)
	}
	if r.Errors, err = s.grants(ctx, r.Errors); err != nil {
		return nil, err
	}
	unread, later, err := s.unreadable(ctx)
	if err != nil {
		return nil, err
	}
	r.Errors, r.Warnings = append(r.Errors, unread...), append(r.Warnings, later...)
	r.Warnings = append(r.Warnings, s.ids.warnings()...)
	behind, err := s.behind(ctx)
	if err != nil {
		return nil, err
	}
	r.Warnings = append(r.Warnings, behind...)
	follow, err := s.follow(ctx)
	r.Warnings = append(r.Warnings, follow...)
	return r, err
}

func plain(list []mapping.Finding) []Finding {
	out := make([]Finding, 0, len(list))
	for _, f := range list {
		out = append(out, Finding{Finding: f})
	}
	return out
}

// within looks at a table in a transaction of the source in which nothing can be written.
func (s *surveyor) within(ctx context.Context, l *look, walk func(context.Context, *look) error) error {
	tx, err := s.source.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	l.tx = tx
	return errors.Join(walk(ctx, l), tx.Rollback())
}

// rows looks at a table and its rows one by one.
func (s *surveyor) rows(ctx context.Context, l *look) error {
	l.out = Table{Target: l.t.Target, Source: l.t.Source}
	s.engines(l)
	if err := s.place(ctx, l); err != nil {
		return err
	}
	if l.t.Unclear {
		return nil // told by the plan
	}
	l.out.Statement = l.t.Statement("")
	if err := s.counts(ctx, l); err != nil {
		return err
	}
	if err := l.leftOut(ctx); err != nil {
		return err
	}
	l.out.Seconds = s.seconds(l)
	for _, x := range slices.Concat(l.t.Lookups, l.t.Others) {
		if err := s.lookup(ctx, l, x); err != nil {
			return err
		}
	}
	return nil
}

// engines wants tables that know transactions.
func (s *surveyor) engines(l *look) {
	for _, t := range l.t.Reads() {
		if e := s.from.Tables[t].Engine; !strings.EqualFold(e, "InnoDB") {
			l.error("", "table %s of the source has engine %s: want InnoDB, which can be read as it is at one moment", t, e)
		}
	}
	if e := s.to.Tables[l.t.Table].Engine; !strings.EqualFold(e, "InnoDB") {
		l.error("", "the target's table has engine %s: want InnoDB, which has transactions", e)
	}
}

// counts counts the rows, and those that have something.
func (s *surveyor) counts(ctx context.Context, l *look) error {
	n, err := l.numbers(ctx)
	if err != nil {
		return l.refused("", "rows of "+l.t.Source, err)
	}
	l.out.Rows = n[0]
	for i, c := range l.t.Checks {
		if k := n[1+i]; k > 0 {
			var f *Finding
			if c.Becomes != "" && s.same {
				f = l.warn(c.Column, "%d rows have %s: %s", k, c.Have, c.Becomes)
			} else {
				f = l.error(c.Column, "%d rows have %s", k, c.Have)
			}
			if err := l.keysOf(ctx, f, c); err != nil {
				return err
			}
		}
	}
	for i, c := range l.t.Zeros {
		if k := n[1+len(l.t.Checks)+i]; k > 0 {
			f := l.warn(c.Column, "%d rows have %s: %s", k, c.Have, c.Becomes)
			if err := l.keysOf(ctx, f, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// spacious is how many rows are asked about at a time where the server keeps their values.
const spacious = 5_000

// numbers are what mapping.Planned.Looks gives.
func (l *look) numbers(ctx context.Context) ([]int64, error) {
	if !l.t.Spacious() {
		return l.numbersOf(ctx, "")
	}
	all := make([]int64, 1+len(l.t.Checks)+len(l.t.Zeros))
	var after []string
	for {
		upTo, err := server.Bound(ctx, l.tx, l.t, after, spacious)
		if err != nil || upTo == nil {
			return all, err
		}
		n, err := l.numbersOf(ctx, mapping.Between(mapping.Main, l.t.Key, after, upTo))
		if err != nil {
			return nil, err
		}
		for i := range all {
			all[i] += n[i]
		}
		after = upTo
	}
}

// numbersOf asks for the numbers of the rows of a condition, "" for all.
func (l *look) numbersOf(ctx context.Context, cond string) ([]int64, error) {
	rows, err := ask(ctx, l.tx, l.t.Looks(cond), 1+len(l.t.Checks)+len(l.t.Zeros))
	if err != nil {
		return nil, err
	}
	return numbers(rows[0])
}

// keysOf tells the first rows that a finding is about.
func (l *look) keysOf(ctx context.Context, f *Finding, c mapping.RowCheck) error {
	rows, err := ask(ctx, l.tx, c.Keys, len(l.t.Key))
	if err != nil {
		return l.refused(c.Column, "keys of rows that have "+c.Have, err)
	}
	f.Columns = l.t.Key
	for _, r := range rows {
		for i := range r {
			r[i] = server.ForPeople(r[i])
		}
		f.Keys = append(f.Keys, strings.Join(r, ", "))
	}
	f.Text += fmt.Sprintf(" (%s of the first: %s)", strings.Join(l.t.Key, ", "), some(f.Keys, 5))
	return nil
}

// leftOut counts the rows that joins leave out.
func (l *look) leftOut(ctx context.Context) error {
	for _, c := range l.t.Left {
		var orphans server.Broken
		if err := orphans.Ask(ctx, l.tx, c.Rows, toldRows); err != nil {
			if err = l.refused(strings.Join(c.Columns, ", "), "foreign key to "+c.Parent, err); err != nil {
				return err
			}
		}
		if orphans.Rows > 0 {
			f := l.warn(strings.Join(c.Columns, ", "),
				"%d rows refer to rows of %s that will not be there, and are left out (%s of the first: %s)",
				orphans.Rows, c.Parent, strings.Join(l.t.Key, ", "), some(orphans.Keys, 5))
			f.Columns, f.Keys = l.t.Key, orphans.Keys
		}
	}
	for _, c := range l.t.LeftOut {
		rows, err := ask(ctx, l.tx, c.Count, 1)
		switch {
		case err != nil:
			if err := l.refused("", "rows that have "+c.Have, err); err != nil {
				return err
			}
		case rows[0][0] != "0":
			f := l.warn("", "%s rows have %s", rows[0][0], c.Have)
			if err := l.keysOf(ctx, f, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// seconds estimates the time that a table takes.
func (s *surveyor) seconds(l *look) float64 {
	db, table, _ := strings.Cut(l.t.Source, ".")
	size := s.sizes[cmp.Or(s.from.Databases[db], db)+"."+table]
	if size.rows <= 0 {
		return 0
	}
	share := min(1, float64(l.out.Rows)/size.rows)
	return math.Round(size.bytes*share/bytesPerSecond*100) / 100
}

// keys looks for rows that break unique and foreign keys of the target.
func (s *surveyor) keys(ctx context.Context, l *look) error {
	if l.t.Unclear {
		return nil
	}
	for _, c := range l.t.Collisions {
		name := fmt.Sprintf("unique key %s (%s) of the target", c.Index, strings.Join(c.Columns, ", "))
		if c.Joins != nil {
			name = "join " + strings.Join(c.Joins, ", ")
		}
		rows, err := ask(ctx, l.tx, c.List(s.ids.merged), len(c.Columns)+1)
		switch {
		case err != nil:
			if err := l.refused("", name, err); err != nil {
				return err
			}
		case len(rows) > 0:
			l.collide(name, c, rows)
		}
	}
	for _, o := range l.t.Orphans {
		if err := s.orphan(ctx, l, o); err != nil {
			return err
		}
	}
	return nil
}

func (l *look) collide(name string, c mapping.Collision, rows [][]string) {
	var values []string
	for _, r := range rows {
		shown := make([]string, 0, len(r))
		for _, v := range r[:len(r)-1] {
			shown = append(shown, quote(v))
		}
		values = append(values, fmt.Sprintf("%s (%s times)", strings.Join(shown, ", "), r[len(r)-1]))
	}
	list := strings.Join(values, "; ")
	switch {
	case c.Joins != nil:
		l.error("", "%s: want at most one row for each row of %s: these have several (%s): %s", name, l.t.Source,
			strings.Join(c.Columns, ", "), list).Values = values
	case c.Rough != "":
		l.warn("", "%s: values that may count as the same, which the source's server can not tell, as it does not "+
			"know collation %s: %s", name, c.Rough, list).Values = values
	default:
		l.error("", "%s: values that come more than once: %s", name, list).Values = values
	}
}

func (s *surveyor) orphan(ctx context.Context, l *look, o mapping.Orphan) error {
	column := strings.Join(o.Columns, ", ")
	if o.Unknown != "" {
		l.warn(column, "whether rows of %s are there for it is not looked at: %s", o.Parent, o.Unknown)
		return nil
	}
	if o.Outside != nil {
		return s.outside(ctx, l, column, o)
	}
	if o.Kinds != "" {
		l.warn(column, "whether rows of %s are there for it is not looked at, since only one of both is looked up "+
			"(%s): verify tells", o.Parent, o.Kinds)
		return nil
	}
	if i := slices.IndexFunc(s.plan.Tables, func(t mapping.Planned) bool { return t.Table == o.Parent }); s.plan.Tables[i].Unclear {
		return nil
	}
	var orphans server.Broken
	if err := orphans.Ask(ctx, l.tx, o.Rows(s.ids.merged), toldRows); err != nil {
		return l.refused(column, "foreign key to "+o.Parent, err)
	}
	if orphans.Rows > 0 {
		f := l.error(column, "%d rows refer to rows of %s that will not be there (%s of the first: %s)", orphans.Rows,
			o.Parent, strings.Join(l.t.Key, ", "), some(orphans.Keys, 5))
		if f.Columns, f.Keys = l.t.Key, orphans.Keys; o.MayGo {
			f.Text += ": mend them, or have them left out: --leave-out-orphans"
		}
	}
	return nil
}

// follow tells why the source's changes could not be followed.
func (s *surveyor) follow(ctx context.Context) ([]Finding, error) {
	const not = ": run --follow is not possible"
	_, _, ok, err := s.source.Position(ctx)
	if err != nil {
		return nil, err
	}
	if !ok {
		return warning("the source has no binary log, or this account may not ask for it" + not), nil
	}
	rows, err := ask(ctx, s.source.DB, "SELECT @@GLOBAL.binlog_format, @@GLOBAL.binlog_row_image", 2)
	switch {
	case err != nil:
		return nil, fmt.Errorf("source: form of the binary log: %w", err)
	case !strings.EqualFold(rows[0][0], "ROW") || !strings.EqualFold(rows[0][1], "FULL"):
		return warning(fmt.Sprintf("the source's binary log has binlog_format %s and binlog_row_image %s: want "+
			"ROW and FULL%s", rows[0][0], rows[0][1], not)), nil
	}
	return nil, nil
}

func warning(text string) []Finding { return []Finding{{Finding: mapping.Finding{Text: text}}} }

// collations are those that a server knows.
func collations(ctx context.Context, s *server.Server) (map[string]bool, error) {
	rows, err := ask(ctx, s.DB, "SELECT CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY", 2)
	if err != nil {
		return nil, fmt.Errorf("%s: collations: %w", s.Role, err)
	}
	out := map[string]bool{}
	for _, r := range rows {
		out[r[1]] = true
		out[r[0]+"_"+r[1]] = true // MariaDB tells some without the set's name
	}
	return out, nil
}

// size is what a server tells of a table: rows and bytes, neither of them exact.
type size struct{ rows, bytes float64 }
