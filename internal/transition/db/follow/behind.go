package follow

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/sqlexpr"
)

// This file knows the views and triggers by which a statement changes rows of tables that it
// does not name. Where a session logs row events, those tell; where it logs statements,
// nothing else does.

// asked are the statements for what the source has of them: as statements that would make
// them. Triggers that this account may not see are not there, views without their text.
var asked = []struct{ what, query string }{
	{"views", "SELECT TABLE_SCHEMA, 'VIEW', TABLE_NAME, COALESCE(VIEW_DEFINITION, '') FROM information_schema.VIEWS WHERE (COALESCE(IS_UPDATABLE, '') <> 'NO' OR COALESCE(VIEW_DEFINITION, '') = '') AND TABLE_SCHEMA NOT IN " + servers},
	{"triggers", "SELECT EVENT_OBJECT_SCHEMA, 'TRIGGER t ON', EVENT_OBJECT_TABLE, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA NOT IN " + servers},
}

// servers are the servers' own databases.
const servers = "('information_schema', 'performance_schema', 'mysql', 'sys')"

// kept is a statement that has made a view, or a trigger of a table, by which no mapped rows
// change. They do when a later one makes a view or a trigger of what it names.
type kept struct {
	name         [2]string // of the view, or the table, as a key
	schema, text string
}

// mostKept is how many of them are kept.
const mostKept = 10_000

// behinds asks the source for views and triggers.
func (f *follower) behinds(ctx context.Context) error {
	for _, a := range asked {
		rows, err := f.source.DB.QueryContext(ctx, a.query)
		if err != nil {
			return fmt.Errorf("source: its %s: %w", a.what, err)
		}
		defer rows.Close()
		for rows.Next() {
			var db, kind, name, text string
			if err := rows.Scan(&db, &kind, &name, &text); err != nil {
				return fmt.Errorf("source: its %s: %w", a.what, err)
			}
			if text == "" { // nobody knows of what
				f.behind[f.key(db, name)] = true
			}
			f.others = append(f.others, kept{f.key(db, name), db, "CREATE " + kind + " " + sqlexpr.Quote(db) + "." + sqlexpr.Quote(name) + " " + text})
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("source: its %s: %w", a.what, err)
		}
	}
	f.spread()
	f.forget()
	return nil
}

// learn notes the view or the trigger that a statement makes, or gives another name, if
// there is one by which mapped rows change. One that is taken away stays known.
func (f *follower) learn(schema, query string) {
	before := len(f.behind)
	if db, table := through(schema, query, func(string, string) bool { return true }); table != "" {
		f.keep(kept{f.key(db, table), schema, query})
	}
	for _, r := range renamed(schema, query) {
		old, now := f.key(r[0][0], r[0][1]), f.key(r[1][0], r[1][1])
		if f.behind[old] {
			f.behind[now] = true
		}
		for _, k := range f.others { // its triggers go with a table
			if k.name == old {
				f.keep(kept{now, k.schema, k.text})
			}
		}
	}
	if len(f.behind) > before {
		f.spread()
	}
	f.forget()
}

// keep notes that mapped rows change by a view or a trigger, or keeps its statement.
func (f *follower) keep(k kept) {
	switch {
	case f.reaches(k):
		f.behind[k.name] = true
	case !slices.Contains(f.others, k):
		f.others = append(f.others, k)
	}
}

// reaches reports whether mapped rows change by a view or a trigger, as far as is known.
func (f *follower) reaches(k kept) bool {
	_, table := through(k.schema, k.text, func(db, table string) bool { return f.mapped(db, table) || f.hidden(db, table) })
	return table != ""
}

// spread asks the statements that are kept again, until no more of them reach mapped rows:
// a view may be of views, and a trigger may change rows that have triggers.
func (f *follower) spread() {
	for grown := true; grown; {
		before := len(f.behind)
		f.others = slices.DeleteFunc(f.others, func(k kept) bool {
			if !f.behind[k.name] && f.reaches(k) {
				f.behind[k.name] = true
			}
			return f.behind[k.name]
		})
		grown = len(f.behind) > before
	}
}

// forget forgets the oldest statements when more are kept than memory should hold.
func (f *follower) forget() {
	n := len(f.others)
	if n <= mostKept {
		return
	}
	f.others = slices.Clone(f.others[n-mostKept/2:])
	f.opt.Log.Warn("the source has more views and triggers than are kept in mind: of a logged statement (binlog_format is not ROW) it may stay unnoticed that it changes mapped rows by several of the oldest", "kept", len(f.others), "forgotten", n-len(f.others))
}

// hidden reports whether rows of mapped tables change when those of a table, or a view, do.
func (f *follower) hidden(db, table string) bool { return f.behind[f.key(db, table)] }

// key is how a table is found by its names on the source's server.
func (f *follower) key(db, table string) [2]string {
	if f.fold {
		db, table = strings.ToLower(db), strings.ToLower(table)
	}
	return [2]string{db, table}
}
