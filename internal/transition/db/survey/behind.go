package survey

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// counted is up to how many rows of a table are counted that is not read otherwise.
const counted = 10_000

// behind warns of tables of the source that have rows, and that the mapping neither reads
// nor ignores: one warning for each database, the largest first.
func (s *surveyor) behind(ctx context.Context) ([]Finding, error) {
	left := map[string][]string{} // tables as in the mapping, by their databases' names on the server
	for _, t := range slices.Sorted(maps.Keys(s.from.Tables)) {
		db, name, _ := strings.Cut(t, ".")
		on := cmp.Or(s.from.Databases[db], db)
		if !s.named(on, name) && !slices.ContainsFunc(left[on], func(o string) bool { return strings.HasSuffix(o, "."+name) }) {
			left[on] = append(left[on], t)
		}
	}
	tx, err := s.source.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	var out []Finding
	for _, on := range slices.Sorted(maps.Keys(left)) {
		found, e := s.database(ctx, tx, on, left[on])
		if err = errors.Join(err, e); e != nil {
			break
		}
		out = append(out, found...)
	}
	return out, errors.Join(err, tx.Rollback())
}

// named reports whether the mapping names a table by whatever name it has for the database.
func (s *surveyor) named(on, table string) bool {
	for db, its := range s.from.Databases {
		if its == on && s.mapping.Names(db+"."+table) {
			return true
		}
	}
	return false
}

// database counts the rows of some tables of a database.
func (s *surveyor) database(ctx context.Context, tx *sql.Tx, on string, tables []string) ([]Finding, error) {
	type full struct {
		rows float64
		text string
	}
	var list []full
	for _, t := range tables {
		_, name, _ := strings.Cut(t, ".")
		rows, err := ask(ctx, tx, fmt.Sprintf("SELECT COUNT(*) FROM (SELECT 1 FROM %s.%s LIMIT %d) AS r",
			sqlexpr.Quote(on), sqlexpr.Quote(name), counted+1), 1)
		var told *mysql.MySQLError
		if errors.As(err, &told) && !server.Passing(err) {
			list = append(list, full{0, t + " (" + message(told) + ")"})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("source: rows of %s: %w", t, err)
		}
		n, err := numbers(rows[0])
		switch {
		case err != nil:
			return nil, fmt.Errorf("source: rows of %s: %w", t, err)
		case n[0] > counted:
			about := max(s.sizes[on+"."+name].rows, counted)
			list = append(list, full{about, fmt.Sprintf("%s (about %.0f rows)", t, about)})
		case n[0] > 0:
			list = append(list, full{float64(n[0]), fmt.Sprintf("%s (%d rows)", t, n[0])})
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(list, func(a, b full) int { return cmp.Compare(b.rows, a.rows) })
	var texts []string
	for _, x := range list {
		texts = append(texts, x.text)
	}
	out := warning(fmt.Sprintf("%d tables of the source's database %s have rows, and the mapping neither reads nor "+
		"ignores them: %s", len(texts), on, some(texts, shown)))
	out[0].Values = texts
	return out, nil
}
