package ids

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file is about the IDs of a copy that has begun: those that it began with count.

// ErrChanged is that a file of IDs is not what a copy was begun with: lines were changed or
// taken away.
var ErrChanged = errors.New("lines may be added, not changed")

// Fixed is what may not change of the IDs while a copy goes on, by their kinds: nothing of
// those that a query gives (whether it was asked yet or not), where they come from only;
// all of those with a value for all others, which a further line changes; of others,
// that they are given. It is made to be written as JSON.
func Fixed(m *mapping.Mapping, sets map[string]Set) map[string]any {
	out := map[string]any{}
	for _, k := range m.IDs {
		switch set, given := sets[k.Kind]; {
		case given && set.From == fromQuery, !given && k.Query != "":
			out[k.Kind] = fromQuery
		case given && set.Default != nil:
			out[k.Kind] = []any{*set.Default, set.Pairs}
		case given:
			out[k.Kind] = nil
		}
	}
	return out
}

// Staged reads the IDs that are staged for a copy to target (see Owned), by their kinds;
// those of which there are none are missing, and all where nobody knows any more which of
// them had a value for all others. Of another copy they are ErrOwner.
func Staged(ctx context.Context, source *server.Server, kinds []mapping.Kind, target string) (map[string]Set, error) {
	if err := Owned(ctx, source, target); err != nil {
		return nil, err
	}
	var out map[string]Set
	var err error
	for range 5 { // what a run that has died had begun last may end meanwhile
		if out, err = readStaged(ctx, source.DB, kinds); !server.Absent(err) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: staged IDs: %w", source.Role, err)
	}
	return out, nil
}

// readStaged is Staged of whatever copy. That a table is absent which was there a moment
// before is an error.
func readStaged(ctx context.Context, db *sql.DB, kinds []mapping.Kind) (map[string]Set, error) {
	tables, err := staged(ctx, db)
	if err != nil {
		return nil, err
	}
	out := map[string]Set{}
	fallbacks := counts(tables, defaults)
	if fallbacks == "" {
		return out, nil
	}
	for _, k := range kinds {
		table := counts(tables, prefix+k.Kind)
		if table == "" {
			continue
		}
		pairs, err := pairsOf(ctx, db, "SELECT `old`, `new` FROM "+named(table))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.Kind, err)
		}
		fallback, err := pairsOf(ctx, db, "SELECT `kind`, `new` FROM "+named(fallbacks)+" WHERE `kind` = "+sqlexpr.Literal(k.Kind))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.Kind, err)
		}
		set := Set{Pairs: pairs}
		if other, ok := fallback[k.Kind]; ok {
			set.Default = &other
		}
		out[k.Kind] = set
	}
	return out, nil
}

// counts is the table that has what a staged one had before the server died in the middle
// of renaming (see torn); without such an accident the staged one; "" when it is not there.
func counts(tables []string, table string) string {
	was := table + replaced
	switch {
	case len(torn(tables)) > 0 && slices.Contains(tables, was):
		return was
	case slices.Contains(tables, table):
		return table
	}
	return ""
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

// Resume is Ask for a copy that has begun with the IDs that Staged gave. Those count: what
// a query gives now is taken for values that had none, and a query that can not be
// answered any more (the new platform has more rows by now) only leads to a note. Lines of
// files may have been added meanwhile; else it is ErrChanged. notes are what people should
// know. sets that are complete are asked for nothing.
func Resume(ctx context.Context, m *mapping.Mapping, sets, staged map[string]Set, target *server.Server,
	side mapping.Side) (notes []string, err error) {
	for _, k := range m.IDs {
		was, had := staged[k.Kind]
		set, given := sets[k.Kind]
		if !given && k.Query != "" {
			set, err = asked(ctx, k, target, side)
			switch {
			case err != nil && (!had || gone(err)):
				return nil, err
			case err != nil:
				set = Set{From: fromQuery}
				notes = append(notes, "what the copy began with counts, the target can not be asked anew: "+err.Error())
			}
			given = true
		}
		switch {
		case !given:
			continue
		case !had:
			notes = append(notes, "the source has the IDs of "+
				k.Kind+" no more: they are staged anew of what is given, and verify tells whether they are the same")
		case set.From == fromQuery:
			set = merged(was, set)
		default:
			if err := added(k.Kind, was.Pairs, set.Pairs); err != nil {
				return nil, err
			}
		}
		sets[k.Kind] = set
	}
	return notes, nil
}

// merged are the IDs that a query gave before, with those that it gives now for values
// that had none.
func merged(was, now Set) Set {
	out := Set{Pairs: maps.Clone(was.Pairs), Default: was.Default, From: fromQuery}
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
		return fmt.Errorf("IDs of %s: the copy was begun with %q for %q, which %s: %w", kind, was[old], old, is, ErrChanged)
	}
	return nil
}
