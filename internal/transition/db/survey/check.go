package survey

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// toldRows is how many rows that something is wrong with are told with their keys; the others are counted.
const toldRows = 1000

// question is a check of the mapping, as the source is asked it.
type question struct {
	check mapping.Check
	ask   server.Question
	made  bool // of the rows that the mapping will make, not of the source's own
}

// unreadable asks the source all checks of the mapping that its rows can break: those that
// are for the source, and of the rows that the mapping will make of it those that are for the
// target alone. What the new platform could not work with is an error. Told are a check that only
// verify can ask, and one that is not asked as the plan has errors of what it asks for.
func (s *surveyor) unreadable(ctx context.Context) (errs, warnings []Finding, err error) {
	var checks []question
	var later, not []string
	for _, c := range s.mapping.OfSource() {
		if faulty := s.mapping.Absent(c.Rows, s.from); len(faulty) > 0 {
			not = append(not, c.Name+" ("+strings.Join(faulty, ", ")+")")
			continue
		}
		checks = append(checks, question{check: c, ask: server.Question{Rows: s.from.Fill(c.Rows)}})
	}
	for _, c := range s.mapping.Checks {
		if c.Asks != "" && c.Asks != mapping.AsksTarget {
			continue
		}
		if faulty := s.plan.Faulty(c.Rows + c.Target); len(faulty) > 0 {
			not = append(not, c.Name+" ("+strings.Join(faulty, ", ")+")")
			continue
		}
		if made := s.plan.Made(c.Rows+c.Target, s.ids.merged); made != "" {
			checks = append(checks, question{c, server.Question{Rows: made, Want: s.plan.FillSource(c.Source)}, true})
		} else {
			later = append(later, c.Name)
		}
	}
	found := make([]*Finding, len(checks))
	err = each(ctx, parallel, len(checks), func(ctx context.Context, i int) (err error) {
		found[i], err = s.check(ctx, checks[i])
		return err
	})
	for i, f := range found {
		switch {
		case f == nil:
		case checks[i].made && len(f.Keys) == 0: // the target may well be asked
			warnings = append(warnings, *f)
		default:
			errs = append(errs, *f)
		}
	}
	if len(not) > 0 {
		warnings = append(warnings, warning("these checks were not asked, as the plan has errors of the tables that "+
			"they ask for: "+strings.Join(not, "; "))...)
	}
	if len(later) > 0 {
		warnings = append(warnings, warning("only verify can ask these checks, as they are about more than the rows "+
			"that the mapping makes: "+strings.Join(later, "; "))...)
	}
	return errs, warnings, err
}

// check asks the source for the rows that break a check; nil: there are none.
func (s *surveyor) check(ctx context.Context, c question) (*Finding, error) {
	broken, err := c.ask.Ask(ctx, s.source, s.source, toldRows)
	f := &Finding{Finding: mapping.Finding{Table: c.check.About()}}
	var told *mysql.MySQLError
	switch {
	case errors.As(err, &told) && !server.Passing(err):
		f.Text = fmt.Sprintf("%s: the source's server refuses the statement of this check: %s", c.check.Name, message(told))
	case err != nil:
		return nil, fmt.Errorf("source: check %q: %w", c.check.Name, err)
	case broken.Rows == 0:
		return nil, nil
	default:
		f.Columns, f.Keys = broken.Columns, broken.Keys
		f.Text = fmt.Sprintf("%s: %d rows of the source break it (%s of the first: %s)", c.check.Name, broken.Rows,
			strings.Join(broken.Columns, ", "), some(f.Keys, 5))
		if c.check.Remedy != "" {
			f.Text += ": " + s.from.Fill(c.check.Remedy)
		}
	}
	return f, nil
}
