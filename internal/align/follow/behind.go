package follow

import (
	"context"
	"fmt"
	"strings"

	"holdfast/internal/align/sqlexpr"
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

// behinds asks the source for views and triggers.
func (f *follower) behinds(ctx context.Context) error {
	var made [][2]string // database, statement
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
			made = append(made, [2]string{db, "CREATE " + kind + " " + sqlexpr.Quote(db) + "." + sqlexpr.Quote(name) + " " + text})
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("source: its %s: %w", a.what, err)
		}
	}
	for range made { // a view may be of views
		before := len(f.behind)
		for _, m := range made {
			f.learn(m[0], m[1])
		}
		if len(f.behind) == before {
			break
		}
	}
	return nil
}

// learn notes the view or the trigger that a statement makes, or gives another name, if
// there is one by which mapped rows change. One that is taken away stays known.
func (f *follower) learn(schema, query string) {
	concerns := func(db, table string) bool { return f.mapped(db, table) || f.hidden(db, table) }
	if db, table := through(schema, query, concerns); table != "" {
		f.behind[f.key(db, table)] = true
	}
	for _, r := range renamed(schema, query) {
		if old, now := r[0], r[1]; f.hidden(old[0], old[1]) {
			f.behind[f.key(now[0], now[1])] = true
		}
	}
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
