package group

import (
	"context"
	"errors"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
)

// Change gives the group other data and members while it goes on: the core knows nothing of this
// node until the next look. before is called while nothing else is under way on this node, and nothing else
// begins: it ends here what the group has no more. serves says that the group runs here by a license, so
// before may start what it gets, too. When before fails, nothing is changed.
func (d *Driver) Change(ctx context.Context, data Data, members []Member, before func(ctx context.Context, serves bool) error) (err error) {
	serves := false
	for held := false; !held; {
		if err := d.ask(ctx, func() {
			m := d.m
			if held = d.ready && !d.held && m.Acting == nil && (m.Phase == pair.Serving || m.Phase == pair.Ended); held {
				d.held, serves = true, m.Serves()
			}
		}); err != nil {
			return err
		}
		if !held && !clock.Sleep(ctx, stepEvery) {
			return fail.Errorf(fail.Unavailable, "this node is busy, or its copy can not be looked at")
		}
	}
	defer func() { err = errors.Join(err, d.release(ctx)) }()
	if err := before(ctx, serves); err != nil {
		return err
	}
	now := &parts{data, members}
	return d.ask(context.WithoutCancel(ctx), func() {
		d.now.Store(now)
		d.m.Changed(now.specs())
	})
}
