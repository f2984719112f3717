package verify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// CheckResult is something that must hold of the target.
type CheckResult struct {
	Name   string `json:"name"`
	Broken int64  `json:"broken"` // rows; of IDs, values
	Holds  bool   `json:"holds"`

	Columns []string `json:"columns,omitempty"` // what Keys are made of
	Keys    []string `json:"keys,omitempty"`    // of the first 20 rows, where the check tells rows

	Error string `json:"error,omitempty"` // why it could not be looked at, or which values have no ID, or what can not be read (the first 20); then it does not hold
}

type check struct {
	query string
	out   CheckResult
	ids   bool   // query gives the source's values without an ID, not a number
	rows  bool   // query gives the rows that break it
	want  string // values of the source, each of which query is to give
}

// checks are those of the mapping, the foreign keys of the tables of the plan (a copy made
// while they were off, or a later hand, may have broken them), and the IDs: a value without
// one is NULL by the source's own statement, so that the rows would be equal.
func (v *verifier) checks(m *mapping.Mapping, p *mapping.Plan, target mapping.Side) (out []*check) {
	for _, c := range m.Checks {
		if c.OfTarget() {
			out = append(out, &check{query: target.Fill(c.Query + c.Rows + c.Target), rows: c.Rows != "", want: p.FillSource(c.Source), out: CheckResult{Name: c.Name}})
		}
	}
	for i := range p.Tables {
		t := p.Tables[i].Target
		schema := target.Tables[t]
		if schema == nil {
			continue // a part, whose table comes without its name, too; or the plan has an error
		}
		for _, r := range schema.Refs {
			if target.Tables[r.Table] != nil {
				name := fmt.Sprintf("reference %s (%s) to %s", t, strings.Join(r.Columns, ", "), r.Table)
				out = append(out, &check{query: target.Orphans(t, r), rows: true, out: CheckResult{Name: name}})
			}
		}
	}
	for i := range p.Tables {
		out = append(out, lookups(&p.Tables[i])...)
	}
	return out
}

// lookups are the checks of a table's values that are looked up, also of those that are
// only a part of what a column gets, as the copy ends at one without an ID. A value that
// is looked up several times for a column is asked for once.
func lookups(t *mapping.Planned) (out []*check) {
	asked, named := map[string]bool{}, map[string]int{}
	for _, l := range t.Lookups {
		what := fmt.Sprintf("values of %s in %s.%s have IDs", l.Kind, t.Target, l.Column)
		if asked[what+l.Values] {
			continue
		}
		asked[what+l.Values] = true
		if named[what]++; named[what] > 1 {
			what += fmt.Sprintf(" (%d)", named[what])
		}
		out = append(out, &check{query: l.Missing, out: CheckResult{Name: what}, ids: true})
	}
	return out
}

// known asks the source for values that have no ID.
func (v *verifier) known(ctx context.Context, c *check) error {
	var first []string
	err := server.Walk(ctx, v.source.DB, c.query, func(row []sql.RawBytes) error {
		if c.out.Broken++; len(first) < toldValues {
			first = append(first, strconv.Quote(string(row[0])))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("source: check %q: %w", c.out.Name, err)
	}
	if c.out.Holds = c.out.Broken == 0; !c.out.Holds {
		c.out.Error = fmt.Sprintf("%d have none: %s", c.out.Broken, strings.Join(first, ", "))
		if c.out.Broken > toldValues {
			c.out.Error += ", ..."
		}
	}
	return nil
}

// check asks in a transaction in which nothing can be written, whatever the statement is.
func (v *verifier) check(ctx context.Context, c *check) error {
	if c.ids {
		return v.known(ctx, c)
	}
	tx, err := v.target.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	broken := server.Broken{}
	switch {
	case c.want != "":
		err = v.among(ctx, tx, c, &broken)
	case c.rows:
		err = broken.Ask(ctx, tx, c.query, toldKeys)
	default:
		broken.Rows, err = count(ctx, tx, c.query)
	}
	var refused *mysql.MySQLError
	switch end := tx.Rollback(); {
	case errors.As(err, &refused) && !server.Passing(err), errors.Is(err, errNoNumber):
		c.out.Error = err.Error()
	case err != nil || end != nil:
		return fmt.Errorf("target: check %q: %w", c.out.Name, errors.Join(err, end))
	default:
		c.out.Broken, c.out.Holds, c.out.Keys = broken.Rows, broken.Rows == 0, broken.Keys
		if broken.Keys != nil {
			c.out.Columns = broken.Columns
		}
	}
	return nil
}

// among looks which values of the source the target does not have.
func (v *verifier) among(ctx context.Context, tx *sql.Tx, c *check, broken *server.Broken) error {
	want := map[string]bool{}
	err := server.Walk(ctx, v.source.DB, c.want, func(row []sql.RawBytes) error {
		want[string(row[0])] = true
		return nil
	})
	if err == nil {
		err = server.Walk(ctx, tx, c.query, func(row []sql.RawBytes) error {
			delete(want, string(row[0]))
			return nil
		})
	}
	broken.Rows, broken.Columns = int64(len(want)), []string{"value"}
	for _, value := range slices.Sorted(maps.Keys(want))[:min(len(want), toldKeys)] {
		broken.Keys = append(broken.Keys, server.ForPeople(value))
	}
	return err
}

var errNoNumber = errors.New("want a statement that gives one row of one number")

// count reads the answer of a check.
func count(ctx context.Context, tx *sql.Tx, query string) (n int64, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	cols, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	if len(cols) != 1 {
		return 0, fmt.Errorf("%d columns: %w", len(cols), errNoNumber)
	}
	if !rows.Next() {
		return 0, errors.Join(fmt.Errorf("no row: %w", errNoNumber), rows.Err())
	}
	var value sql.NullString
	if err := rows.Scan(&value); err != nil {
		return 0, err
	}
	if n, err = strconv.ParseInt(value.String, 10, 64); err != nil {
		return 0, fmt.Errorf("answer %q: %w", value.String, errNoNumber)
	}
	if rows.Next() {
		return 0, fmt.Errorf("more than one row: %w", errNoNumber)
	}
	return n, rows.Err()
}
