package survey

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

const (
	maxOutside = 10_000 // values that are looked for in a table that the mapping does not fill
	together   = 200    // of them in one statement
)

// outside asks the target for what rows refer to in a table that the mapping does not
// fill: its rows must be there already.
func (s *surveyor) outside(ctx context.Context, l *look, column string, o mapping.Orphan) error {
	news := map[string]bool{}
	err := walk(ctx, l.tx, o.Outside.Values, 1, func(row []string) error {
		v, ok := row[0], true
		if o.Outside.Kind != "" {
			v, ok = s.ids.kinds[o.Outside.Kind].now(trim(v)) // one without an ID is told elsewhere
		}
		if ok && len(news) <= maxOutside {
			news[v] = true
		}
		return nil
	})
	if err != nil {
		return l.refused(column, "values that refer to "+o.Parent, err)
	}
	if len(news) > maxOutside {
		l.warn(column, "whether rows of %s are there for it is not looked at, since it has more than %d different values", o.Parent, maxOutside)
		return nil
	}
	gone, err := s.absent(ctx, o.Outside, slices.Sorted(maps.Keys(news)))
	var e *mysql.MySQLError
	switch {
	case errors.As(err, &e) && !server.Passing(err): // such as for characters that the column's set does not have
		l.warn(column, "whether rows of %s are there for it is not looked at: the target's server refuses the "+
			"statement: %s (error %d)", o.Parent, e.Message, e.Number)
		return nil
	case err != nil:
		return fmt.Errorf("target: rows of %s: %w", o.Parent, err)
	}
	if len(gone) > 0 {
		quoted := make([]string, 0, len(gone))
		for _, v := range gone {
			quoted = append(quoted, quote(v))
		}
		tell, why := l.error, "the mapping does not fill it"
		if o.Skipped {
			tell, why = l.warn, "it is skipped: they are to be there by the run"
		}
		tell(column, "%d values refer to rows of %s that the target does not have, and %s: %s", len(gone), o.Parent,
			why, some(quoted, shown)).Values = gone
	}
	return nil
}

// absent are the values that the target does not have, asked in a transaction in which
// nothing can be written.
func (s *surveyor) absent(ctx context.Context, o *mapping.Outside, values []string) (out []string, err error) {
	tx, err := s.target.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	for part := range slices.Chunk(values, together) {
		rows, err := ask(ctx, tx, o.There(part), len(part))
		if err != nil {
			return nil, err
		}
		for i, v := range part {
			if rows[0][i] == "0" {
				out = append(out, v)
			}
		}
	}
	return out, nil
}
