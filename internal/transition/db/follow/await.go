package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/sleep"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/server"
)

// ErrEnded is that no run follows the source, and not all is carried over.
var ErrEnded = errors.New("no run follows the source any more, and not all that was written there is in the target")

// gone is for how long no run may be seen before there is none: one that lost its connection
// to the target takes the lock again.
const gone = 10 * time.Second

// Await waits until a run that is under way, in whatever process, has carried over all that the
// source's binary log has now. It waits as long as that run is there.
func Await(ctx context.Context, source, target *server.Server) error {
	end, err := now(ctx, source)
	if err != nil {
		return err
	}
	for seen := time.Now(); ; {
		there, err := copier.Locked(ctx, target) // before the journal: a run that ends writes there first
		if err != nil {
			return err
		}
		j, err := copier.ReadJournal(ctx, target.DB)
		switch {
		case err != nil:
			return err
		case j != nil && !(place{j.File, j.Pos}).before(end):
			return nil
		case there:
			seen = time.Now()
		case time.Since(seen) >= gone:
			return fmt.Errorf("up to position %s of the source's binary log: %w", end, ErrEnded)
		}
		if !sleep.For(ctx, askEvery) {
			return ctx.Err()
		}
	}
}
