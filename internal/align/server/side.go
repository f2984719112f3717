package server

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/align"
	"holdfast/internal/align/column"
)

// Side reads the schemas of databases: their names on the server by those of the
// mapping, "" for the same. All their tables that hold rows of their own are read, no
// views. A database that is not there is an error.
func (s *Server) Side(ctx context.Context, databases map[string]string) (align.Side, error) {
	r := &reader{s: s, ctx: ctx, side: align.Side{Tables: map[string]*align.Schema{}, Databases: map[string]string{}}}
	if err := s.DB.QueryRowContext(ctx, "SELECT @@lower_case_table_names <> 0").Scan(&r.fold); err != nil {
		return align.Side{}, fmt.Errorf("%s: %w", s.Role, err)
	}
	logical := slices.Sorted(maps.Keys(databases))
	for _, name := range logical {
		if err := r.database(name, cmp.Or(databases[name], name)); err != nil {
			return align.Side{}, err
		}
	}
	for _, name := range logical {
		if err := r.schema(name); err != nil {
			return align.Side{}, fmt.Errorf("%s: database %s: %w", s.Role, r.side.Databases[name], err)
		}
	}
	return r.side, nil
}

// reader reads one server's schemas.
type reader struct {
	s    *Server
	ctx  context.Context // of one call of Side
	fold bool            // names of databases and tables are the same in capitals
	side align.Side
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
		take  func(t *align.Schema, v []sql.NullString) error
	}{
		{"SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')", nil},
		{"SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, CHARACTER_SET_NAME, COLLATION_NAME" +
			" FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? ORDER BY TABLE_NAME, ORDINAL_POSITION", r.column},
		{"SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART" +
			" FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND NON_UNIQUE = 0 ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX", index},
		{"SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME" +
			" FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = ? AND REFERENCED_TABLE_NAME IS NOT NULL ORDER BY TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
			func(t *align.Schema, v []sql.NullString) error { return r.ref(logical, t, v) }},
	} {
		err := r.rows(part.query, db, func(v []sql.NullString) error {
			name := logical + "." + v[1].String
			t := r.side.Tables[name]
			switch {
			case v[0].String != db: // another database, whose name is the same in capitals
				return nil
			case part.take == nil:
				r.side.Tables[name] = &align.Schema{Engine: v[2].String}
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
	for _, t := range r.side.Tables {
		whole(t)
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
func (r *reader) column(t *align.Schema, v []sql.NullString) error {
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

// index takes INDEX_NAME, COLUMN_NAME, SUB_PART of a unique key, column by column. One
// that is not of whole columns gets a column without a name.
func index(t *align.Schema, v []sql.NullString) error {
	col := v[1].String // "" for an expression
	if v[2].Valid {
		col = "" // the beginning of the column only
	}
	name := v[0].String
	if name == "PRIMARY" {
		t.Key = append(t.Key, col)
		return nil
	}
	if n := len(t.Unique); n == 0 || t.Unique[n-1].Name != name {
		t.Unique = append(t.Unique, align.Unique{Name: name})
	}
	u := &t.Unique[len(t.Unique)-1]
	u.Columns = append(u.Columns, col)
	return nil
}

// whole leaves out unique keys that are not of whole columns.
func whole(t *align.Schema) {
	if slices.Contains(t.Key, "") {
		t.Key = nil
	}
	t.Unique = slices.DeleteFunc(t.Unique, func(u align.Unique) bool { return slices.Contains(u.Columns, "") })
}

// ref takes CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA,
// REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME of a foreign key, column by column. One
// that leads to a database that was not asked for is left out.
func (r *reader) ref(logical string, t *align.Schema, v []sql.NullString) error {
	to := r.logical(logical, v[2].String)
	if to == "" {
		return nil
	}
	name := v[0].String
	if n := len(t.Refs); n == 0 || t.Refs[n-1].Name != name {
		t.Refs = append(t.Refs, align.Ref{Name: name, Table: to + "." + v[3].String})
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
