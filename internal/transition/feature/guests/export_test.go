package guests

import (
	"context"

	"holdfast/internal/transition/feature"
)

// Away moves a guest cold to the target of an order, leaves it off there as a run does that breaks off, and puts
// everything back.
func Away(ctx context.Context, o feature.Order) (left []string, err error) {
	r := newRun(o)
	defer r.close()
	if _, err := r.begin(ctx); err != nil {
		return nil, err
	}
	r.Later("it is on the target", r.home)
	if err := r.here.ColdMove(ctx, r.was.UUID, o.Target, r.shutdown()); err != nil {
		return nil, err
	}
	return r.Restore(ctx), nil
}
