package upgrade

import (
	"slices"

	"holdfast/internal/inventory"
	"holdfast/internal/upgrade/manifest"
)

// watched puts what is done on a host between the begin of a pin of its bridges and its end, and that between two
// looks at what its guests lose.
func (b *builder) watched(work string, h *inventory.Host, c Chain) Chain {
	if b.o.Mode == manifest.Offline || b.plan.Purpose == ForRollback || len(c.Steps) == 0 {
		return c
	}
	around := func(add func(begin, end *chain)) {
		begin, end := b.chain(h), b.chain(h)
		add(begin, end)
		c.Steps = slices.Concat(begin.Steps, c.Steps, end.Steps)
	}
	if len(b.o.Pin) > 0 && b.o.KeepGuests {
		around(func(begin, end *chain) {
			begin.add(KindPin, PinArgs{Bridges: b.o.Pin}, timePin, "pin", work)
			end.add(KindPin, PinArgs{Bridges: b.o.Pin, End: true}, timePin, "unpin", work)
		})
	}
	if b.o.LossLimit != 0 {
		around(func(begin, end *chain) {
			begin.add(KindLosses, LossesArgs{Work: work, Begin: true}, timeLosses, "losses-before", work)
			end.add(KindLosses, LossesArgs{Work: work, Limit: b.o.LossLimit}, timeLosses, "losses", work)
		})
	}
	return c
}
