package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// CheckResult is something that must hold of the target.
type CheckResult struct {
	Name   string `json:"name"`
	Table  string `json:"table,omitempty"` // of the target, that it is about
	Broken int64  `json:"broken"`          // rows; of IDs, values
	Holds  bool   `json:"holds"`

	Columns []string `json:"columns,omitempty"` // what Keys are made of
	Keys    []string `json:"keys,omitempty"`    // of the first 20 rows

	Error string `json:"error,omitempty"` // why it could not be looked at, or what can not be read (the first 20); then it does not hold
}

type check struct {
	ask server.Question
	out CheckResult
	ids bool // ask.Rows gives the source's values without an ID
}

// checks are those of the mapping, the foreign keys of the tables of the plan (a copy made
// while they were off, or a later hand, may have broken them), and the IDs: a value without
// one is NULL by the source's own statement, so that the rows would be equal.
func (v *verifier) checks(m *mapping.Mapping, p *mapping.Plan, target mapping.Side) (out []*check) {
	for _, c := range m.Checks {
		if c.OfTarget() {
			out = append(out, &check{ask: server.Question{Rows: target.Fill(c.Rows + c.Target),
				Want: p.FillSource(c.Source)}, out: CheckResult{Name: c.Name, Table: c.About()}})
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
				out = append(out, &check{ask: server.Question{Rows: target.Orphans(t, r)}, out: CheckResult{Name: name, Table: t}})
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
		out = append(out, &check{ask: server.Question{Rows: l.Missing},
			out: CheckResult{Name: what, Table: t.Target, Columns: []string{l.Column}}, ids: true})
	}
	return out
}

// check asks the target; for values that have no ID, the source.
func (v *verifier) check(ctx context.Context, c *check) error {
	side := v.target
	if c.ids {
		side = v.source
	}
	broken, err := c.ask.Ask(ctx, v.source, side, toldKeys)
	var refused *mysql.MySQLError
	switch {
	case errors.As(err, &refused) && !server.Passing(err) && !c.ids:
		c.out.Error = err.Error()
	case err != nil:
		return fmt.Errorf("%s: check %q: %w", side.Role, c.out.Name, err)
	case broken.Rows == 0:
		c.out.Holds, c.out.Columns = true, nil
	default:
		if c.out.Broken, c.out.Keys = broken.Rows, broken.Keys; c.out.Columns == nil {
			c.out.Columns = broken.Columns
		}
		if c.ids {
			c.out.Error = fmt.Sprintf("%d have none", broken.Rows)
		}
	}
	return nil
}
