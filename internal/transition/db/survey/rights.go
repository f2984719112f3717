package survey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// Rights are the GRANTs that the two accounts lack for a run, as statements to be pasted by
// who administers the servers, those of each after a comment; none: they lack none. The
// databases are the servers' own names, by those of the mapping.
func Rights(ctx context.Context, m *mapping.Mapping, source, target *server.Server, sourceDBs,
	targetDBs map[string]string) ([]string, error) {
	here, there := mapping.Side{Databases: sourceDBs}, mapping.Side{Databases: targetDBs}
	read, filled, asked := m.Reads(), []string{}, []string{}
	for _, t := range m.Tables {
		filled = append(filled, t.Target)
	}
	_, names := server.Databases(m)
	for _, db := range names {
		if !slices.ContainsFunc(filled, func(t string) bool { return strings.HasPrefix(t, db+".") }) {
			asked = append(asked, db+".try")
		}
	}
	write := []string{"INSERT INTO %s () VALUES ()", "DELETE FROM %s WHERE FALSE"}
	var out []string
	for _, x := range []struct {
		at   *server.Server
		need []wanted
	}{
		{source, append(needs(here, read, "SELECT"), makes(ids.Database))},
		{target, append(slices.Concat(needs(there, filled, "SELECT, INSERT, DELETE", write...),
			needs(there, asked, "SELECT")), makes(copier.Database))},
	} {
		var account string
		if err := x.at.DB.QueryRowContext(ctx, "SELECT CURRENT_USER()").Scan(&account); err != nil {
			return nil, fmt.Errorf("%s: its account: %w", x.at.Role, err)
		}
		user := account[:max(0, strings.LastIndexByte(account, '@'))]
		host := account[strings.LastIndexByte(account, '@')+1:]
		to := " TO " + sqlexpr.Literal(user) + "@" + sqlexpr.Literal(host) + ";"
		var lacks []string
		for _, n := range x.need {
			grant := "GRANT " + n.right + " ON " + n.on + to
			if slices.Contains(lacks, grant) {
				continue
			}
			why, err := denied(ctx, x.at, n.try)
			if err != nil {
				return nil, err
			}
			if why != "" {
				lacks = append(lacks, grant)
			}
		}
		if x.at == source {
			var logs bool
			_, _, ok, err := source.Position(ctx)
			if err = errors.Join(err, source.DB.QueryRowContext(ctx, "SELECT @@GLOBAL.log_bin").Scan(&logs)); err != nil {
				return nil, fmt.Errorf("source: its binary log: %w", err)
			}
			if logs && !ok {
				lacks = append(lacks, "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.*"+to+" -- for run --follow only")
			}
		}
		if len(lacks) > 0 {
			out = append(append(out, "-- on the "+x.at.Role), lacks...)
		}
	}
	return out, nil
}

// wanted is a right, and a statement that is refused without it.
type wanted struct{ try, right, on string }

// needs are those of tables, one of each database: of them no rows need to be there.
func needs(s mapping.Side, tables []string, right string, more ...string) (out []wanted) {
	for _, t := range tables {
		db, _, _ := strings.Cut(t, ".")
		real := db
		if s.Databases[db] != "" {
			real = s.Databases[db]
		}
		for _, try := range append([]string{"SELECT 1 FROM %s"}, more...) {
			out = append(out, wanted{try: fmt.Sprintf(try, s.Name(t)), right: right, on: sqlexpr.Quote(real) + ".*"})
		}
	}
	return out
}

// makes is what is wanted of a database of this program's.
func makes(database string) wanted {
	return wanted{try: "CREATE TABLE " + sqlexpr.Quote(database) + ".`try` (`a` INT)", right: "ALL", on: database + ".*"}
}
