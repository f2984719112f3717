package survey

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// querier is a connection, or a transaction on it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// ask gives the rows of a statement, whose values are texts; NULL is the text NULL. It is
// an error when there are fewer than want columns.
func ask(ctx context.Context, q querier, query string, want int) (out [][]string, err error) {
	err = walk(ctx, q, query, want, func(row []string) error {
		out = append(out, slices.Clone(row))
		return nil
	})
	return out, err
}

// walk hands over each row, which is good until f returns.
func walk(ctx context.Context, q querier, query string, want int, f func(row []string) error) error {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	err = scan(rows, want, f)
	return errors.Join(err, rows.Close())
}

func scan(rows *sql.Rows, want int, f func(row []string) error) error {
	cols, err := rows.Columns()
	if err != nil {
		return err
	}
	if len(cols) < want {
		return fmt.Errorf("an answer of %d columns: want %d", len(cols), want)
	}
	raw, into, row := make([]sql.RawBytes, len(cols)), make([]any, len(cols)), make([]string, len(cols))
	for i := range raw {
		into[i] = &raw[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, v := range raw {
			if row[i] = string(v); v == nil {
				row[i] = "NULL"
			}
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return rows.Err()
}

func numbers(row []string) ([]int64, error) {
	out := make([]int64, 0, len(row))
	for _, v := range row {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("answer %q: want a number", v)
		}
		out = append(out, n)
	}
	return out, nil
}

// each calls f for 0 to n-1, several at once. The first error stops them all.
func each(ctx context.Context, parallel, n int, f func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(parallel, n) {
		wg.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// quote shows a value to people.
func quote(v string) string {
	if !server.Readable(v) {
		return fmt.Sprintf("X'%X'", strictyaml.Shorten(v))
	}
	return strconv.Quote(strictyaml.Shorten(v))
}

// some shows the first values of a list.
func some(list []string, first int) string {
	if len(list) <= first {
		return strings.Join(list, "; ")
	}
	return strings.Join(list[:first], "; ") + "; ..."
}

func sizes(ctx context.Context, s *server.Server, databases []string) (map[string]size, error) {
	names := make([]string, 0, len(databases))
	for _, db := range databases {
		names = append(names, sqlexpr.Literal(db))
	}
	out := map[string]size{}
	rows, err := s.DB.QueryContext(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(TABLE_ROWS, 0), "+
		"COALESCE(DATA_LENGTH, 0) FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ("+strings.Join(names, ", ")+")")
	if err != nil {
		return nil, fmt.Errorf("%s: sizes of tables: %w", s.Role, err)
	}
	for rows.Next() {
		var db, table string
		var x size
		if err := rows.Scan(&db, &table, &x.rows, &x.bytes); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: sizes of tables: %w", s.Role, err), rows.Close())
		}
		out[db+"."+table] = x
	}
	return out, errors.Join(rows.Err(), rows.Close())
}
