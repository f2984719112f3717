package replicate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/server"
)

// ErrEnded is that no run follows the source, and not all is carried over.
var ErrEnded = errors.New("no run follows the source any more, and not all that was written there is in the target")

// gone is for how long no run may be seen before there is none: one that lost its connection
// to the target takes the lock again.
const gone = 10 * time.Second

// ErrStill is that a run is there, and does not go on.
var ErrStill = errors.New("the run that follows the source does not go on")

// A run that has not moved for awhile is told of, and one that has not for still is not waited for any longer: it may wait
// for a server that has too much to do, or its process stands still.
const (
	awhile = 2 * time.Second
	still  = 2 * time.Minute
)

// Await waits until a run that is under way, in whatever process, has carried over all that the
// source's binary log has now. tell says what it waits for, when that takes more than a moment.
func Await(ctx context.Context, source, target *server.Server, tell func(string)) error {
	end, err := now(ctx, source)
	if err != nil {
		return err
	}
	var at place
	for seen, moved := time.Now(), time.Now(); ; {
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
		case j != nil && (place{j.File, j.Pos}) != at:
			at, moved = place{j.File, j.Pos}, time.Now()
		}
		switch {
		case there:
			seen = time.Now()
		case time.Since(seen) >= gone:
			return fmt.Errorf("up to position %s of the source's binary log: %w", end, ErrEnded)
		}
		switch since := time.Since(moved); {
		case since >= still:
			return fmt.Errorf("it is at %s of the source's binary log, and has been for %s: %w", at, still, ErrStill)
		case since >= awhile:
			tell(fmt.Sprintf("waits for the run that follows: it is at %s, and has not moved for %s; the "+
				"source is at %s", at, since.Truncate(time.Second), end))
		}
		if !clock.Sleep(ctx, askEvery) {
			return ctx.Err()
		}
	}
}
