package copier

import (
	"context"
	"fmt"
	"strings"

	"holdfast/internal/transition/db/server"
)

// apart refuses to write into a table that rows are read from, as when both sides are
// one server and a database has the same name on both: what follows would delete rows
// of the old platform.
func (r *run) apart(ctx context.Context) error {
	same, err := server.Same(ctx, r.source, r.target)
	if err != nil || !same {
		return err
	}
	both := r.plan.Both()
	if len(both) == 0 {
		return nil
	}
	return fmt.Errorf("source and target are one server, and rows of %s would be read and written: want another name "+
		"of the database by --source-db or --target-db", strings.Join(both, ", "))
}
