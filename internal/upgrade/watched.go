package upgrade

import (
	"slices"

	"holdfast/internal/inventory"
	"holdfast/internal/upgrade/manifest"
)

// watched puts what is done on a host between two looks at what its guests lose, and its bridges are pinned meanwhile.
func (b *builder) watched(work string, h *inventory.Host, c Chain) Chain {
	c = b.pinned(work, h, c)
	if b.o.LossLimit == 0 || b.o.Mode == manifest.Offline || b.plan.Purpose == ForRollback || len(c.Steps) == 0 {
		return c
	}
	begin, end := b.chain(h), b.chain(h)
	begin.add(KindLosses, LossesArgs{Work: work, Begin: true}, timeLosses, "losses-before", work)
	end.add(KindLosses, LossesArgs{Work: work, Limit: b.o.LossLimit}, timeLosses, "losses", work)
	c.Steps = slices.Concat(begin.Steps, c.Steps, end.Steps)
	return c
}

// pinned puts what is done on a host between the begin of a pin and its end.
func (b *builder) pinned(work string, h *inventory.Host, c Chain) Chain {
	if len(b.o.Pin) == 0 || !b.o.KeepGuests || b.o.Mode == manifest.Offline || b.plan.Purpose == ForRollback || len(c.Steps) == 0 {
		return c
	}
	begin, end := b.chain(h), b.chain(h)
	begin.add(KindPin, PinArgs{Bridges: b.o.Pin}, timePin, "pin", work)
	end.add(KindPin, PinArgs{Bridges: b.o.Pin, End: true}, timePin, "unpin", work)
	c.Steps = slices.Concat(begin.Steps, c.Steps, end.Steps)
	return c
}
