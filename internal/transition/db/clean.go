package db

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file removes what the work has left.

// Left is what the work has left.
type Left struct {
	What    string          // the databases that are there, "" when none is
	Journal *copier.Journal // nil: there is none
	Open    bool            // the copy has not ended
	Tables  []Filled        // of the target that have rows, in the order in which they are emptied
}

// Filled is a table of the target that has rows.
type Filled struct {
	Table string // as in the mapping
	Rows  int64
}

// Clean drops what the work has left. sure is called before, unless there is nothing; its
// error ends it. Of x, nil for none, the tables of the target that its mapping fills are emptied, too.
func (s *Servers) Clean(ctx context.Context, x *Alignment, sure func(context.Context, Left) error) (was Left, err error) {
	ctx, unlock, err := s.lock(ctx)
	if err != nil {
		return was, err
	}
	defer unlock()
	j, err := copier.ReadJournal(ctx, s.target.DB)
	if err != nil {
		return was, err
	}
	if err := s.cleanable(ctx, j); err != nil {
		return was, err
	}
	was.Journal, was.Open = j, j != nil && (j.State == copier.Copying || j.Follows && j.State != copier.Done)
	if was.What, err = s.left(ctx); err != nil {
		return was, err
	}
	if x != nil {
		if was.Tables, err = x.filled(ctx); err != nil {
			return was, err
		}
	}
	if was.What != "" || len(was.Tables) > 0 {
		if err := sure(ctx, was); err != nil {
			return was, err
		}
	}
	// The journal first: without it nothing goes on with IDs that are gone.
	if err := copier.Drop(ctx, s.target); err != nil {
		return was, err
	}
	if len(was.Tables) > 0 {
		if err := x.empty(ctx, was.Tables); err != nil {
			return was, err
		}
	}
	return was, ids.Drop(ctx, s.source)
}

// filled are the tables that the mapping fills and that have rows, children first. Where
// others than these would lose rows or what rows refer to, it is an error.
func (x *Alignment) filled(ctx context.Context) ([]Filled, error) {
	same, err := server.Same(ctx, x.source, x.target)
	if err != nil {
		return nil, err
	}
	from, read := mapping.Side{Databases: x.sourceDBs}, map[string]bool{}
	for _, t := range x.mapping.Reads() {
		read[from.Name(t)] = true
	}
	order, err := x.childrenFirst()
	if err != nil {
		return nil, err
	}
	var out []Filled
	for _, t := range order {
		if same && read[x.targetSide.Name(t)] {
			return nil, fail.Errorf(fail.Refused, "table %s is read as one of the source, which is the same server: "+
				"it is not emptied", t).With("name the target's own databases: --target-db NAME=REAL")
		}
		f := Filled{Table: t}
		if err := x.target.DB.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+x.targetSide.Name(t)).Scan(&f.Rows); err != nil {
			return nil, fmt.Errorf("target: rows of %s: %w", t, err)
		}
		if f.Rows > 0 {
			out = append(out, f)
		}
	}
	for _, t := range slices.Sorted(maps.Keys(x.targetSide.Tables)) {
		for _, r := range x.targetSide.Tables[t].Refs {
			if slices.Contains(order, t) || !slices.ContainsFunc(out, func(f Filled) bool { return f.Table == r.Table }) {
				continue
			}
			var any bool
			if err := x.target.DB.QueryRowContext(ctx,
				"SELECT EXISTS (SELECT 1 FROM "+x.targetSide.Name(t)+" WHERE "+sqlexpr.Quote(r.Columns[0])+" IS NOT NULL)").Scan(&any); err != nil {
				return nil, fmt.Errorf("target: rows of %s: %w", t, err)
			}
			if any {
				return nil, fail.Errorf(fail.Refused, "rows of table %s, which the mapping does not fill, refer to "+
					"rows of %s: nothing was emptied", t,
					r.Table).With("look whose rows they are: the new platform has worked with these tables; else " +
					"make its databases anew with its own tools")
			}
		}
	}
	return out, nil
}

// childrenFirst are the tables that the mapping fills, each before those that it refers to.
func (x *Alignment) childrenFirst() (out []string, err error) {
	fills := map[string]bool{}
	for _, t := range x.mapping.Tables {
		if fills[t.Target] = true; x.targetSide.Tables[t.Target] == nil {
			return nil, fail.Errorf(fail.Invalid, "the target has no table %s",
				t.Target).With("make the new platform's databases with its own tools first; or leave the table out: --skip " + t.Target)
		}
	}
	state := map[string]int{} // 1: being placed, 2: placed
	var place func(t string) error
	place = func(t string) error {
		state[t] = 1
		for _, r := range x.targetSide.Tables[t].Refs {
			switch {
			case !fills[r.Table] || r.Table == t:
			case state[r.Table] == 1:
				return fail.Errorf(fail.Refused, "tables %s and %s of the target refer to each other: empty them by hand", t, r.Table)
			case state[r.Table] == 0:
				if err := place(r.Table); err != nil {
					return err
				}
			}
		}
		state[t] = 2
		out = append(out, t)
		return nil
	}
	for _, t := range slices.Sorted(maps.Keys(fills)) {
		if state[t] == 0 {
			if err := place(t); err != nil {
				return nil, err
			}
		}
	}
	slices.Reverse(out)
	return out, nil
}

// emptiedAtOnce is how many rows one transaction takes away.
const emptiedAtOnce = 10_000

// empty takes the rows of tables away. Of one that refers to itself, the server is not let
// look at its keys, as no order of its rows would do.
func (x *Alignment) empty(ctx context.Context, tables []Filled) (err error) {
	conn, err := x.target.DB.Conn(ctx)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, f := range tables {
		itself := slices.ContainsFunc(x.targetSide.Tables[f.Table].Refs, func(r mapping.Ref) bool { return r.Table == f.Table })
		if _, err := conn.ExecContext(ctx, fmt.Sprintf("SET SESSION foreign_key_checks = %t", !itself)); err != nil {
			return fmt.Errorf("target: %w", err)
		}
		for left := int64(1); left > 0; {
			r, err := conn.ExecContext(ctx, fmt.Sprintf("DELETE FROM %s LIMIT %d", x.targetSide.Name(f.Table), emptiedAtOnce))
			if err == nil {
				left, err = r.RowsAffected()
			}
			if err != nil {
				return fmt.Errorf("target: empty table %s: %w", f.Table, err)
			}
		}
	}
	_, err = conn.ExecContext(ctx, "SET SESSION foreign_key_checks = 1") // the connection is used again
	return err
}

// left names the databases of a copy that are there, "" when none is.
func (s *Servers) left(ctx context.Context) (string, error) {
	var out []string
	for _, x := range []struct {
		at *server.Server
		db string
	}{{s.source, ids.Database}, {s.target, copier.Database}} {
		is, err := x.at.Has(ctx, x.db)
		if err != nil {
			return "", err
		}
		if is {
			out = append(out, x.db+" on the "+x.at.Role)
		}
	}
	return strings.Join(out, ", "), nil
}

// cleanable looks whether the staged IDs and the journal are of one copy: nobody drops
// those of another, which may be under way.
func (s *Servers) cleanable(ctx context.Context, j *copier.Journal) error {
	if j != nil {
		err := sameSource(j, s.source, "; when it is gone for good: DROP DATABASE "+copier.Database+" on the target by hand")
		if err != nil {
			return err
		}
	}
	err := ids.OwnedAt(ctx, s.source, s.target.Name())
	if errors.Is(err, ids.ErrOwner) {
		return fail.Errorf(fail.Refused, "%w", err).With("give its --target; when that is gone for good, and no copy " +
			"needs the IDs: DROP DATABASE " + ids.Database + " on the source by hand")
	}
	return err
}
