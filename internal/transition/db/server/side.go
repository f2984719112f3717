package server

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/mapping"
)

// Side reads the schemas of databases: their names on the server by those of the
// mapping, "" for the same. All their tables that hold rows of their own are read, no
// views. A database that is not there is an error.
func (s *Server) Side(ctx context.Context, databases map[string]string) (mapping.Side, error) {
	r := &reader{s: s, ctx: ctx, side: mapping.Side{Tables: map[string]*mapping.Schema{}, Databases: map[string]string{}}}
	if err := s.DB.QueryRowContext(ctx, "SELECT @@lower_case_table_names <> 0").Scan(&r.fold); err != nil {
		return mapping.Side{}, fmt.Errorf("%s: %w", s.Role, err)
	}
	logical := slices.Sorted(maps.Keys(databases))
	var missing error
	for _, name := range logical {
		missing = errors.Join(missing, r.database(name, cmp.Or(databases[name], name)))
	}
	if missing != nil {
		return mapping.Side{}, missing
	}
	for _, name := range logical {
		if err := r.schema(name); err != nil {
			return mapping.Side{}, fmt.Errorf("%s: database %s: %w", s.Role, r.side.Databases[name], err)
		}
	}
	for _, t := range r.side.Tables {
		apart(t)
	}
	return r.side, nil
}

// reader reads one server's schemas.
type reader struct {
	s    *Server
	ctx  context.Context // of one call of Side
	fold bool            // names of databases and tables are the same in capitals
	side mapping.Side
}

// is tells whether the server's name is what was asked for: information_schema finds
// names in capitals, too, which may be other databases.
func (r *reader) is(name, asked string) bool {
	return name == asked || r.fold && strings.EqualFold(name, asked)
}

// database finds out the name of a database on the server.
func (r *reader) database(logical, asked string) error {
	err := r.rows("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?", asked, func(v []sql.NullString) error {
		if name := v[0].String; r.is(name, asked) {
			r.side.Databases[logical] = name
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", r.s.Role, err)
	}
	if r.side.Databases[logical] == "" {
		return fmt.Errorf("%s: there is no database %s (%s in the mapping), or %s has no right to it: want its name, by --%s-db %s=NAME",
			r.s.Role, asked, logical, r.s.Config.User, r.s.Role, logical)
	}
	return nil
}

// schema reads the tables of a database. Each statement asks for one database by its
// name: for that, old servers look into one folder only.
func (r *reader) schema(logical string) error {
	db := r.side.Databases[logical]
	for _, part := range []struct {
		query string
		take  func(t *mapping.Schema, v []sql.NullString) error
	}{
		{"SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND " +
			"TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')", nil},
		{"SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, CHARACTER_SET_NAME, COLLATION_NAME" +
			" FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? ORDER BY TABLE_NAME, ORDINAL_POSITION", r.column},
		{"SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART" +
			" FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND NON_UNIQUE = 0 ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX", index},
		{"SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME" +
			" FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = ? AND REFERENCED_TABLE_NAME IS NOT NULL " +
			"ORDER BY TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
			func(t *mapping.Schema, v []sql.NullString) error { return r.ref(logical, t, v) }},
		{"SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION" +
			" FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? ORDER BY EVENT_OBJECT_TABLE, TRIGGER_NAME", trigger},
		{r.rules(), rule},
	} {
		if part.query == "" {
			continue
		}
		err := r.rows(part.query, db, func(v []sql.NullString) error {
			name := logical + "." + v[1].String
			t := r.side.Tables[name]
			switch {
			case v[0].String != db: // another database, whose name is the same in capitals
				return nil
			case part.take == nil:
				r.side.Tables[name] = &mapping.Schema{Engine: v[2].String}
				return nil
			case t == nil: // of a view
				return nil
			}
			if err := part.take(t, v[2:]); err != nil {
				return fmt.Errorf("table %s: %w", v[1].String, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rows runs a statement with one parameter.
func (r *reader) rows(query, parameter string, take func(v []sql.NullString) error) error {
	rows, err := r.s.DB.QueryContext(r.ctx, query, parameter)
	if err != nil {
		return err
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return err
	}
	v, into := make([]sql.NullString, len(cols)), make([]any, len(cols))
	for i := range v {
		into[i] = &v[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := take(v); err != nil {
			return err
		}
	}
	return rows.Err()
}

// column takes COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA,
// CHARACTER_SET_NAME, COLLATION_NAME.
func (r *reader) column(t *mapping.Schema, v []sql.NullString) error {
	typ, err := column.Parse(v[1].String)
	if err != nil {
		return fmt.Errorf("column %s: %w", v[0].String, err)
	}
	extra := strings.ToLower(v[4].String)
	t.Columns = append(t.Columns, column.Column{
		Name: v[0].String, Type: typ, Nullable: v[2].String == "YES", Default: fallback(r.s.Vendor, v[3]),
		Auto:      strings.Contains(extra, "auto_increment"),
		Generated: strings.Contains(extra, "virtual generated") || strings.Contains(extra, "stored generated"),
		Charset:   v[5].String, Collation: v[6].String,
	})
	return nil
}

// fallback is a column's default: of a text the text itself, else the expression. MySQL
// tells texts bare; MariaDB (since 10.2.7) in quotes, and NULL where MySQL has none.
func fallback(vendor string, v sql.NullString) *string {
	if !v.Valid || vendor == MariaDB && strings.EqualFold(v.String, "NULL") {
		return nil
	}
	s := v.String
	if n := len(s); vendor == MariaDB && n >= 2 && s[0] == '\'' && s[n-1] == '\'' {
		s = strings.ReplaceAll(s[1:n-1], "''", "'")
	}
	return &s
}

// primary is the name of the primary key among the others.
const primary = "PRIMARY"

// index takes INDEX_NAME, COLUMN_NAME, SUB_PART of a unique key, column by column. An
// expression is a column without a name.
func index(t *mapping.Schema, v []sql.NullString) error {
	length := 0
	if v[2].Valid {
		n, err := strconv.Atoi(v[2].String)
		if err != nil {
			return fmt.Errorf("key %s: SUB_PART %q: want a number", v[0].String, v[2].String)
		}
		length = n
	}
	if n := len(t.Unique); n == 0 || t.Unique[n-1].Name != v[0].String {
		t.Unique = append(t.Unique, mapping.Unique{Name: v[0].String})
	}
	u := &t.Unique[len(t.Unique)-1]
	u.Columns, u.Lengths = append(u.Columns, v[1].String), append(u.Lengths, length)
	return nil
}

// apart tells unique keys apart: the primary key, if it is of whole columns, and those
// with expressions, of which nothing but the name is kept.
func apart(t *mapping.Schema) {
	var keys []mapping.Unique
	for _, u := range t.Unique {
		if !slices.ContainsFunc(u.Lengths, func(n int) bool { return n > 0 }) {
			u.Lengths = nil
		}
		switch {
		case slices.Contains(u.Columns, ""):
			t.Expressions = append(t.Expressions, u.Name)
		case u.Name == primary && u.Lengths == nil:
			t.Key = u.Columns
		default:
			keys = append(keys, u)
		}
	}
	t.Unique = keys
}

// trigger takes TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION.
func trigger(t *mapping.Schema, v []sql.NullString) error {
	t.Triggers = append(t.Triggers, mapping.Trigger{Name: v[0].String, When: v[1].String + " " + v[2].String})
	return nil
}

// rules is the statement for the CHECK constraints of a database, "" where the server
// has no list of them. Older MySQL has no such constraints; MariaDB before 10.3.10 does not tell.
func (r *reader) rules() string {
	switch {
	case r.s.Vendor == MariaDB && !less(r.s.Version, [3]int{10, 3, 10}):
		return "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, CHECK_CLAUSE" +
			" FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = ? ORDER BY TABLE_NAME, CONSTRAINT_NAME"
	case r.s.Vendor == MySQL && !less(r.s.Version, [3]int{8, 0, 16}):
		return "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.CONSTRAINT_NAME, c.CHECK_CLAUSE FROM information_schema.TABLE_CONSTRAINTS t" +
			" JOIN information_schema.CHECK_CONSTRAINTS c ON c.CONSTRAINT_SCHEMA = t.CONSTRAINT_SCHEMA AND c.CONSTRAINT_NAME = t.CONSTRAINT_NAME" +
			" WHERE t.TABLE_SCHEMA = ? AND t.CONSTRAINT_TYPE = 'CHECK' AND t.ENFORCED = 'YES' ORDER BY t.TABLE_NAME, t.CONSTRAINT_NAME"
	}
	return ""
}

// rule takes CONSTRAINT_NAME, CHECK_CLAUSE.
func rule(t *mapping.Schema, v []sql.NullString) error {
	t.Rules = append(t.Rules, mapping.Rule{Name: v[0].String, Clause: v[1].String})
	return nil
}

// ref takes CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA,
// REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME of a foreign key, column by column. One
// that leads to a database that was not asked for is left out.
func (r *reader) ref(logical string, t *mapping.Schema, v []sql.NullString) error {
	to := r.logical(logical, v[2].String)
	if to == "" {
		return nil
	}
	name := v[0].String
	if n := len(t.Refs); n == 0 || t.Refs[n-1].Name != name {
		t.Refs = append(t.Refs, mapping.Ref{Name: name, Table: to + "." + v[3].String})
	}
	f := &t.Refs[len(t.Refs)-1]
	f.Columns, f.To = append(f.Columns, v[1].String), append(f.To, v[4].String)
	return nil
}

// logical is the mapping's name of a database; where several are the same database, the
// one that is asked from comes first.
func (r *reader) logical(from, db string) string {
	if r.is(r.side.Databases[from], db) {
		return from
	}
	for _, l := range slices.Sorted(maps.Keys(r.side.Databases)) {
		if r.is(r.side.Databases[l], db) {
			return l
		}
	}
	return ""
}
