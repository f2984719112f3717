package copier

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/align/server"
)

// apart refuses to write into a table that rows are read from, as when both sides are
// one server and a database has the same name on both: what follows would delete rows
// of the old platform.
func (r *run) apart(ctx context.Context) error {
	same, err := server.Same(ctx, r.source, r.target)
	if err != nil || !same {
		return err
	}
	var fold bool
	if err := r.target.DB.QueryRowContext(ctx, "SELECT @@lower_case_table_names <> 0").Scan(&fold); err != nil {
		return fmt.Errorf("target: ask for its settings: %w", err)
	}
	name := func(db, table string) string {
		if fold {
			return strings.ToLower(db + "." + table)
		}
		return db + "." + table
	}
	read := map[string]bool{}
	for i := range r.plan.Tables {
		t := &r.plan.Tables[i]
		for _, from := range t.Reads() {
			read[name(t.SourceName(from))] = true
		}
	}
	var both []string
	for i := range r.plan.Tables {
		if n := name(r.plan.Tables[i].OnTarget()); read[n] {
			both = append(both, n)
		}
	}
	if len(both) == 0 {
		return nil
	}
	slices.Sort(both)
	return fmt.Errorf("source and target are one server, and rows of %s would be read and written: want another name of the database by --source-db or --target-db", strings.Join(both, ", "))
}
