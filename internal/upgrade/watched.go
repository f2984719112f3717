package upgrade

import (
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
)

// watched puts what is done on a host between the begin of a pin of its bridges and its end, and that between two
// looks at what its guests lose. A rollback has no limit of what they may lose, and no pin that can not be had keeps it
// from going on.
func (b *builder) watched(work string, h *inventory.Host, c Chain) Chain {
	if b.o.Mode == manifest.Offline || len(c.Steps) == 0 {
		return c
	}
	around := func(add func(begin, end *chain)) {
		begin, end := b.chain(h), b.chain(h)
		add(begin, end)
		c.Steps = slices.Concat(begin.Steps, c.Steps, end.Steps)
	}
	back := b.plan.Purpose == ForRollback
	if b.pins() {
		around(func(begin, end *chain) {
			pin := begin.add(KindPin, PinArgs{Bridges: b.o.Pin}, timePin, "pin", work)
			pin.Soft = back
			end.add(KindPin, PinArgs{Bridges: b.o.Pin, End: true}, timePin, "unpin", work).Restores = []string{pin.ID}
		})
	}
	if b.o.LossLimit != 0 && !back {
		around(func(begin, end *chain) {
			begin.add(KindLosses, LossesArgs{Work: work, Begin: true}, timeLosses, "losses-before", work)
			end.add(KindLosses, LossesArgs{Work: work, Limit: b.o.LossLimit}, timeLosses, "losses", work)
		})
	}
	return c
}

// pins reports whether bridges are pinned while their host is worked on.
func (b *builder) pins() bool {
	return len(b.o.Pin) > 0 && b.o.KeepGuests && b.o.Mode == manifest.Rolling
}

// lossy are the hosts whose guests, one of them, lost more than half of the limit of packets while the host was worked
// on, one for each time. They slow the run down before the limit stops it.
func (r *run) lossy() (out []cluster.HostID) {
	limit := r.plan.Options.LossLimit
	if limit == 0 {
		return nil
	}
	for _, s := range r.steps {
		if s.Kind == KindLosses && r.recs[s.ID].Count > limit/2 {
			out = append(out, s.Host)
		}
	}
	return out
}

// slower is how many hosts are worked on at once of as many as may be: half of them for each of the lossy ones, at
// least 1.
func (r *run) slower(limit int) int {
	for range r.lossy() {
		limit = max(1, limit/2)
	}
	return limit
}

// slowed says that n hosts are as many as may be at once: why, unless fewer may be than was planned.
func (r *run) slowed(n int, asPlanned bool, why reason.Reason) reason.Reason {
	if asPlanned {
		return why
	}
	return reason.Slowed.With(n, joinHosts(slices.Compact(r.lossy())))
}
