package replicate

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// This file compares tables in which rows gave way to others as they were copied. Where a
// unique value went from one row to another the log has it. Where two rows have the same,
// it has nothing: one of them is missing, and the target must be made to say so.

// comparedAtOnce is how many keys of the source are compared at a time.
const comparedAtOnce = 10_000

// gaveWay is a table of the plan whose rows gave way to others.
type gaveWay struct {
	planned int
	after   []string // SQL of the key up to which it was compared; nil: not at all
}

// gaveWay asks the journal which tables are to be compared.
func (f *follower) gaveWay(ctx context.Context) error {
	targets, err := copier.GaveWay(ctx, f.target.DB)
	if err != nil {
		return err
	}
	for _, t := range targets {
		i := slices.IndexFunc(f.plan.Tables, func(p mapping.Planned) bool { return p.Target == t })
		if i < 0 {
			return fmt.Errorf("target: the journal has table %s, whose rows gave way to others: want a plan with it", t)
		}
		f.gave = append(f.gave, gaveWay{planned: i})
	}
	f.holes = len(targets) > 0
	return nil
}

// compare brings the keys of rows that differ into the batch. From there the usual way
// makes them anew, or says why not; the transaction that does takes the journal's marks
// away. Rows that only the target has were changed meanwhile: the log has them.
func (f *follower) compare(ctx context.Context) error {
	for len(f.gave) > 0 {
		if err := f.hold(ctx); err != nil {
			return err
		}
		g := &f.gave[0]
		f.tell("compares table " + f.plan.Tables[g.planned].Target + ", whose rows gave way to others")
		more, err := f.comparePart(ctx, g)
		if err != nil {
			return fmt.Errorf("%s: compare: %w", f.plan.Tables[g.planned].Target, err)
		}
		if !more {
			f.gave = f.gave[1:]
		}
		f.good = time.Now()
	}
	if f.batch.size > 0 || !f.holes {
		return nil
	}
	return f.write(ctx, copier.Following)
}

// comparePart compares the next rows of a table, and notes how far it came.
func (f *follower) comparePart(ctx context.Context, g *gaveWay) (more bool, err error) {
	t := &f.plan.Tables[g.planned]
	upTo, err := server.Bound(ctx, f.source.DB, t, g.after, comparedAtOnce)
	switch {
	case err != nil:
		return false, fmt.Errorf("source: %w", err)
	case upTo == nil:
		return false, nil
	}
	differ, err := f.differ(ctx, t, mapping.Between(mapping.Main, t.Key, g.after, upTo))
	if err != nil {
		return false, err
	}
	for _, key := range differ {
		f.batch.key(g.planned, key)
		if f.crowded() {
			if err := f.relieve(ctx); err != nil {
				return false, err
			}
		}
	}
	g.after = upTo
	return true, nil
}

// differ gives the keys (SQL of each column) of the source's rows of a condition that the
// target has not, or not so.
func (f *follower) differ(ctx context.Context, t *mapping.Planned, cond string) ([][]string, error) {
	want, keys := map[string]string{}, [][]string{}
	err := walk(ctx, f.source.DB, t, t.SourceRows(cond), func(key []string, digest string) {
		keys = append(keys, key)
		want[strings.Join(key, ", ")] = digest
	})
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	same := map[string]bool{}
	for part := range slices.Chunk(keys, keysAtOnce) {
		there := make([][]string, 0, len(part))
		for _, key := range part {
			there = append(there, t.There(key))
		}
		err := walk(ctx, f.target.DB, t, t.TargetRows(mapping.AnyOf("", t.Kept, there)), func(key []string, digest string) {
			id := strings.Join(key, ", ")
			same[id] = want[id] == digest
		})
		if err != nil {
			return nil, fmt.Errorf("target: %w", err)
		}
	}
	return slices.DeleteFunc(keys, func(key []string) bool { return same[strings.Join(key, ", ")] }), nil
}

// walk hands over the key (SQL of each column) and the digest of each row.
func walk(ctx context.Context, db *sql.DB, t *mapping.Planned, query string, f func(key []string, digest string)) error {
	kinds := t.KeyKinds()
	return server.Walk(ctx, db, query, func(row []sql.RawBytes) error {
		f(server.Key(kinds, row), string(row[len(kinds)]))
		return nil
	})
}
