package copier

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"holdfast/internal/transition/db/mapping"
)

// This file says which tables are copied when.

// order puts tables after those that the mapping wants before them, and after those that
// their foreign keys refer to, as near to the plan's order as can be. Of a circle, and for
// a table that refers to itself, the server can not be let look at the keys as the rows
// come: the plan has looked for orphans. Nor of rows that are followed: a child may come
// whose parent was made after its table was copied, and what follows brings the parent.
func order(p *mapping.Plan, follows bool) []step {
	steps, all := map[string]*step{}, map[string]bool{}
	for i := range p.Tables {
		t := &p.Tables[i]
		all[t.Target] = true
		steps[t.Target] = &step{Planned: t, key: t.KeyColumns()}
	}
	for _, s := range steps { // no circle: a mapping with one is refused
		s.after = slices.DeleteFunc(slices.Clone(s.After()), func(target string) bool { return !all[target] }) // those that are skipped
	}
	for i := range p.Tables {
		s := steps[p.Tables[i].Target]
		var parents []string
		for _, parent := range s.Parents() {
			parents = append(parents, sharing(p, parent)...) // none: it is not ours
		}
		if s.foreign = !follows && !slices.ContainsFunc(parents,
			func(x string) bool { return waits(steps, x, s.Target, map[string]bool{}) }); s.foreign {
			s.after = append(s.after, parents...)
		}
	}
	var out []step
	placed := map[string]bool{}
	var place func(target string)
	place = func(target string) {
		if placed[target] {
			return
		}
		placed[target] = true
		for _, x := range steps[target].after {
			place(x)
		}
		out = append(out, *steps[target])
	}
	for i := range p.Tables {
		place(p.Tables[i].Target)
	}
	return out
}

// waits reports whether one target is to be filled after another, or is that. seen are those
// that were looked at.
func waits(steps map[string]*step, target, other string, seen map[string]bool) bool {
	if target == other {
		return true
	}
	seen[target] = true
	return slices.ContainsFunc(steps[target].after, func(x string) bool { return !seen[x] && waits(steps, x, other, seen) })
}

// sizes asks the source how large its tables are, tells the meter how many rows there are,
// and returns the tables' weights.
func (r *run) sizes(ctx context.Context) (map[string]int64, error) {
	size := map[string]int64{}
	for _, s := range r.order {
		var rows, bytes sql.NullInt64
		db, table := s.OnSource()
		err := r.source.DB.QueryRowContext(ctx, "SELECT TABLE_ROWS, DATA_LENGTH + INDEX_LENGTH FROM "+
			"information_schema.TABLES WHERE TABLE_SCHEMA = "+literal(db)+" AND TABLE_NAME = "+literal(table)).Scan(&rows, &bytes)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("source: size of table %s: %w", s.Source, err)
		}
		r.meter.set(s.Target, rows.Int64)
		size[s.Target] = bytes.Int64
	}
	return weigh(r.order, size), nil
}

// weigh gives each table the bytes that are copied one after another when it is begun: its
// own, and those of the heaviest line of tables that wait for it.
func weigh(order []step, size map[string]int64) map[string]int64 {
	out := map[string]int64{}
	for _, s := range slices.Backward(order) {
		out[s.Target] += size[s.Target]
		for _, parent := range s.after {
			out[parent] = max(out[parent], out[s.Target]) // its own is added when it comes
		}
	}
	return out
}

// rest copies the tables that are not done, several at a time, and returns what the
// journal says in the end. Servers that lock the counter of AUTO_INCREMENT for a whole
// statement take the chunks of a table one after another, but not those of several.
func (r *run) rest(ctx context.Context, have map[string]standing) (map[string]standing, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type end struct {
		target string
		err    error
	}
	ended, running := make(chan end), map[string]bool{}
	var failed error
	for {
		for failed == nil && len(running) < r.opt.Parallel {
			s := r.ready(have, running)
			if s == nil {
				break
			}
			running[s.Target] = true
			go func() { ended <- end{s.Target, r.table(ctx, s)} }()
		}
		if len(running) == 0 {
			left := slices.IndexFunc(r.order, func(s step) bool { return !have[s.Target].done })
			if failed == nil && left >= 0 {
				return nil, fmt.Errorf("table %s waits for others that wait for it", r.order[left].Target)
			}
			return have, failed
		}
		e := <-ended
		delete(running, e.target)
		if e.err == nil && failed == nil {
			// Looked at anew: a target that crashed may have lost the last of what it promised.
			have, e.err = r.tables(ctx)
		}
		if e.err != nil && failed == nil {
			failed = e.err
			cancel(failed)
		}
	}
}

// ready is the heaviest of the tables that may be begun; nil: there is none now.
func (r *run) ready(have map[string]standing, running map[string]bool) (best *step) {
	for i := range r.order {
		s := &r.order[i]
		waits := slices.ContainsFunc(s.after, func(parent string) bool { return !have[parent].done })
		if have[s.Target].done || running[s.Target] || waits {
			continue
		}
		if best == nil || r.weights[s.Target] > r.weights[best.Target] {
			best = s
		}
	}
	return best
}

// serial reports that the chunks of a table come one after another, whoever sends them.
func (r *run) serial(s *step) bool { return r.mover.serial && s.Counts() }
