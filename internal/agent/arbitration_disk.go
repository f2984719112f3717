package agent

import (
	"context"
	"errors"
	"fmt"

	"holdfast/internal/cluster"
	"holdfast/internal/host/votedisk"
	"holdfast/internal/pair/arbiter"
)

// unforced has an arbiter decide that ends nothing at the peer, so that a watchdog has to.
// answers is nil while the arbiter does. guard tells whether a watchdog ends what the peer runs;
// known is false while the store does not answer: then what was told last counts.
func (x *arbitration) unforced(by arbiter.Kind, answers func(context.Context) error, guard func() (works, known bool)) {
	x.by = by
	ends := false // what the peer runs ends without it
	x.check = func(ctx context.Context, _ string) error {
		works, known := guard()
		x.mu.Lock()
		if known {
			ends = works
		}
		alone := ends
		x.mu.Unlock()
		if !alone {
			return fmt.Errorf("%s has no watchdog that works: nothing ends what it runs", x.peer)
		}
		return answers(ctx)
	}
	x.off = func(context.Context, string) error { return errors.New("no fence device belongs to this arbiter") }
}

// byDisk has a disk decide that both nodes can write. guard is that of unforced.
func (x *arbitration) byDisk(d *votedisk.Disk, guard func() (works, known bool)) {
	x.unforced(arbiter.Disk, d.Check, guard)
	x.win = func(ctx context.Context, machine string, gen uint64) (bool, error) {
		if err := x.check(ctx, machine); err != nil {
			return false, err
		}
		return d.Contest(ctx, gen)
	}
}

// guarded reports that a watchdog of the host works, as its record has it.
func guarded(st cluster.Status, host cluster.HostID) (works, known bool) {
	for _, h := range st.Hosts {
		if h.Name == host {
			return h.Guard != 0 && !h.HandsOff, st.Connected && h.Alive
		}
	}
	return false, false
}
