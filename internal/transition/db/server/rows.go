package server

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/mapping"
)

// Querier is a server's connections, one of them, or a transaction on it.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// ErrEnough ends a Walk without an error.
var ErrEnough = errors.New("no more rows are wanted")

// Walk hands over each row of a statement, which is good until f returns. An error of f
// ends it.
func Walk(ctx context.Context, q Querier, query string, f func(row []sql.RawBytes) error) error {
	ctx, cancel := context.WithCancel(ctx) // else what f does not want would be read, too
	defer cancel()
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	cols, err := rows.Columns()
	if err != nil {
		return errors.Join(err, rows.Close())
	}
	row, into := make([]sql.RawBytes, len(cols)), make([]any, len(cols))
	for i := range row {
		into[i] = &row[i]
	}
	for rows.Next() {
		err := rows.Scan(into...)
		if err != nil {
			return errors.Join(err, rows.Close())
		}
		if err = f(row); err != nil {
			cancel()
			_ = rows.Close() // says that it was cancelled
			if errors.Is(err, ErrEnough) {
				return nil
			}
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// Named reads all rows of a statement, by the names of the columns in small letters; NULL has no entry.
func Named(ctx context.Context, q Querier, query string) (out []map[string]string, err error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := map[string]string{}
		for i, v := range values {
			if v.Valid {
				row[strings.ToLower(names[i])] = v.String
			}
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// Key is the SQL of each value of a row's key, whose kinds are given and which the row
// begins with.
func Key(kinds []column.Kind, row []sql.RawBytes) []string {
	key := make([]string, 0, len(kinds))
	for i, k := range kinds {
		key = append(key, Literal(row[i], k))
	}
	return key
}

// Bound gives the key (SQL of each column) of the last of the next n rows of the source
// after a key, nil: from the first; nil when none is left.
func Bound(ctx context.Context, source Querier, t *mapping.Planned, after []string, n int) (key []string, err error) {
	err = Walk(ctx, source, t.Bound(after, n), func(row []sql.RawBytes) error {
		key = Key(t.KeyKinds(), row)
		return nil
	})
	return key, err
}
