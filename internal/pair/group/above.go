package group

import (
	"context"
	"time"
)

// Above is a member that may have files on a mount below it: while the device holds writes
// back, its processes do not end by SIGKILL either.
type Above struct {
	Member
	Mount *Mount
}

// hungAfter is how long a hard stop may take before it is asked whether writes are held back.
const hungAfter = 2 * time.Second

// StartWithin is the member's.
func (a *Above) StartWithin() time.Duration { return startWithin(a.Member) }

// Stop is the member's. A hard one that hangs because writes are held back gives the whole
// mount up: all that use it are killed, then their writes end, and nobody is told.
func (a *Above) Stop(ctx context.Context, hard bool) error {
	if !hard {
		return a.Member.Stop(ctx, false)
	}
	first, cancel := context.WithTimeout(ctx, hungAfter)
	defer cancel()
	if err := a.Member.Stop(first, true); err == nil {
		return nil
	}
	if a.Mount.Frozen == nil { // nothing is held back
		return a.Member.Stop(ctx, true)
	}
	frozen, err := a.Mount.Frozen(ctx)
	if err == nil && frozen {
		err = a.Mount.Stop(ctx, true)
	}
	if err != nil {
		return err
	}
	return a.Member.Stop(ctx, true)
}
