package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/align/copier"
	"holdfast/internal/align/ids"
	"holdfast/internal/align/server"
	"holdfast/internal/align/sqlexpr"
	"holdfast/internal/api"
)

// remedyOther is what to do with a journal that is not of this command's copy.
const remedyOther = "go on with what it began with; or begin anew: holdfast transition db clean, then empty the target's tables"

// journal reads the target's journal, nil when there is none. One of a copy that was
// begun with something else is refused; warn gets what people should know.
func (x *alignment) journal(ctx context.Context, hash string, warn func(string)) (*copier.Journal, error) {
	j, err := copier.ReadJournal(ctx, x.target.DB)
	switch {
	case err != nil || j == nil:
		return nil, err
	case j.Mapping != hash:
		return nil, api.Errorf(api.KindRefused, "the target has the journal of a copy that began at %s with another mapping, other databases or other IDs", j.Begun.Format(time.RFC3339)).With(remedyOther)
	}
	if err := ids.Owned(ctx, x.source, x.goal()); err != nil {
		return nil, err
	}
	return j, x.grown(ctx, warn)
}

// stage puts the IDs on the source, where statements look them up, as those of this copy.
// Who calls it holds the source's lock.
func (x *alignment) stage(ctx context.Context) error {
	if err := ids.Claim(ctx, x.source, x.goal()); err != nil {
		return err
	}
	return ids.Stage(ctx, x.source, x.mapping, x.sets)
}

// goal names the target: its server as that calls itself, and the databases.
func (x *alignment) goal() string {
	return fmt.Sprintf("%s, databases %s", x.target.Name(), strings.Join(slices.Sorted(maps.Values(x.targetDBs)), ", "))
}

// asked is what ids.Set says of IDs that a query of the mapping gave.
const asked = "query"

// grown compares the IDs with those that a copy was begun with. Lines of files may have
// been added meanwhile, not changed or taken away. What a query gave counts as it was
// then: the new platform may have more by now.
func (x *alignment) grown(ctx context.Context, warn func(string)) error {
	for _, kind := range slices.Sorted(maps.Keys(x.sets)) {
		was, err := stagedIDs(ctx, x.source.DB, kind)
		switch {
		case err != nil:
			return fmt.Errorf("source: staged IDs of %s: %w", kind, err)
		case was == nil:
			warn("the source has the IDs of " + kind + " no more: they are staged anew of what is given, and verify tells whether they are the same")
		case x.sets[kind].From == asked:
			x.sets[kind] = askedBefore(was, x.sets[kind])
		default:
			if err := added(kind, was.Pairs, x.sets[kind].Pairs); err != nil {
				return err
			}
		}
	}
	return nil
}

// askedBefore are the IDs that a query gave before, with those that it gives now for
// values that had none.
func askedBefore(was *ids.Set, now ids.Set) ids.Set {
	out := ids.Set{Pairs: was.Pairs, Default: was.Default, From: asked}
	if out.Default == nil {
		for old, to := range now.Pairs {
			if _, ok := out.Pairs[old]; !ok {
				out.Pairs[old] = to
			}
		}
		out.Default = now.Default
	}
	return out
}

// added looks whether all pairs that there were are there.
func added(kind string, was, now map[string]string) error {
	for _, old := range slices.Sorted(maps.Keys(was)) {
		to, ok := now[old]
		if ok && to == was[old] {
			continue
		}
		is := "is not there any more"
		if ok {
			is = fmt.Sprintf("is %q now", to)
		}
		return api.Errorf(api.KindRefused, "IDs of %s: the copy was begun with %q for %q, which %s: lines may be added, not changed", kind, was[old], old, is).With(remedyOther)
	}
	return nil
}

// stagedIDs reads the IDs of a kind that are staged; nil: there are none.
func stagedIDs(ctx context.Context, db *sql.DB, kind string) (*ids.Set, error) {
	set := &ids.Set{}
	var err error
	set.Pairs, err = pairsOf(ctx, db, "SELECT `old`, `new` FROM "+ids.Database+"."+sqlexpr.Quote("ids_"+kind))
	if server.Absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	others, err := pairsOf(ctx, db, "SELECT `kind`, `new` FROM "+ids.Database+".`ids_default` WHERE `kind` = "+sqlexpr.Literal(kind))
	if other, ok := others[kind]; ok {
		set.Default = &other
	}
	return set, err
}

func pairsOf(ctx context.Context, db *sql.DB, query string) (pairs map[string]string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	pairs = map[string]string{}
	for rows.Next() {
		var from, to string
		if err := rows.Scan(&from, &to); err != nil {
			return nil, err
		}
		pairs[from] = to
	}
	return pairs, rows.Err()
}
