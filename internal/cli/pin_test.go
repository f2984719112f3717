package cli

import (
	"context"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/pin"
)

// fakePin pins any bridge but one that is called busy.
func fakePin(_ context.Context, o pin.Order) (*pin.Result, error) {
	if o.Bridge == "busy" {
		return nil, fail.Errorf(fail.Refused, "bridge %s is pinned already, for %s more", o.Bridge,
			time.Minute).With("end that pin first: holdfast transition unpin " + o.Bridge)
	}
	r := &pin.Result{Bridge: o.Bridge, Ports: 2, Flows: 1,
		Notes: []string{"1 flows send packets to the controller, which does not answer while it restarts"}}
	if o.DryRun {
		r.Plan = []string{"flow delete cookie=0x686f6c6466617374/-1", "flow add table=0 actions=drop"}
		return r, nil
	}
	r.Pinned, r.Left = true, int(o.For/time.Second)
	return r, nil
}

// fakeUnpin finds three flows on each bridge that it is forced to unpin, and none elsewhere.
func fakeUnpin(_ context.Context, o pin.Order) (*pin.Result, error) {
	r := &pin.Result{Bridge: o.Bridge}
	if o.Force {
		r.Removed = 3
	}
	if o.Bridge == "damaged" {
		r.Damage = &pin.Damage{Put: 8, Left: 3, EntriesPut: 5}
		r.Notes = []string{r.Damage.String()}
	}
	return r, nil
}
