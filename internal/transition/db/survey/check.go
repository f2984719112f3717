package survey

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// toldRows is how many rows that something is wrong with are told with their keys; the others are counted.
const toldRows = 1000

// unreadable asks the source the mapping's checks that are for it: what the new platform
// could not work with is an error.
func (s *surveyor) unreadable(ctx context.Context) (out []Finding, err error) {
	checks := s.mapping.OfSource()
	found := make([][]Finding, len(checks))
	err = each(ctx, parallel, len(checks), func(ctx context.Context, i int) (err error) {
		found[i], err = s.check(ctx, checks[i])
		return err
	})
	for _, f := range found {
		out = append(out, f...)
	}
	return out, err
}

// check asks the source for the rows that break a check, in a transaction in which nothing
// can be written.
func (s *surveyor) check(ctx context.Context, c mapping.Check) ([]Finding, error) {
	tx, err := s.source.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	var broken server.Broken
	err = errors.Join(broken.Ask(ctx, tx, s.from.Fill(c.Rows), toldRows), tx.Rollback())
	f := Finding{Finding: mapping.Finding{Table: c.Table}}
	var told *mysql.MySQLError
	switch {
	case errors.As(err, &told) && !server.Passing(err):
		f.Text = fmt.Sprintf("%s: the source's server refuses the statement of this check: %s", c.Name, message(told))
	case err != nil:
		return nil, fmt.Errorf("source: check %q: %w", c.Name, err)
	case broken.Rows == 0:
		return nil, nil
	default:
		f.Keys = broken.Keys
		f.Text = fmt.Sprintf("%s: %d rows of the source break it (%s of the first: %s)", c.Name, broken.Rows, strings.Join(broken.Columns, ", "), some(f.Keys, 5))
		if c.Remedy != "" {
			f.Text += ": " + s.from.Fill(c.Remedy)
		}
	}
	return []Finding{f}, nil
}
