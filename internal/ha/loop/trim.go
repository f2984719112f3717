package loop

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/store"
)

// What is kept of the log and of the requests carried out.
const (
	keepEvents   = 2000
	keepGuests   = 500 // of these, events of hosts that run guests only: they do not push out the others
	keepRequests = 1000
	trimEvery    = time.Minute
)

// trim keeps the log and the requests from growing without end. Only the
// coordinator does it; two at once would do no harm.
func (a *Agent) trim(ctx context.Context) {
	every(ctx, trimEvery, func() {
		mine := false
		a.ask(ctx, func() { mine = a.s.core.Coord.Host == a.Host })
		if !mine {
			return
		}
		for prefix, keep := range map[string]int{records.KeyLog: keepEvents, records.KeyRequests: keepRequests} {
			if err := a.trimOnce(ctx, prefix, keep); err != nil && ctx.Err() == nil {
				a.Log.Warn("trim", "err", err)
			}
		}
	})
}

func (a *Agent) trimOnce(ctx context.Context, prefix string, keep int) error {
	ctx, cancel := context.WithTimeout(ctx, trimEvery/2)
	defer cancel()
	kvs, _, err := a.Store.List(ctx, prefix)
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	slices.SortFunc(kvs, func(x, y store.KV) int { return cmp.Compare(x.ModRev, y.ModRev) })
	var guests []store.KV
	if prefix == records.KeyLog {
		var members []cluster.HostID
		if !a.ask(ctx, func() { members = a.s.core.Order }) {
			return nil // the agent is ending
		}
		var own []store.KV
		for _, kv := range kvs {
			if slices.Contains(members, cluster.HostID(writerOf(kv.Key))) {
				own = append(own, kv)
			} else {
				guests = append(guests, kv)
			}
		}
		kvs = own
	}
	old := slices.Concat(kvs[:max(0, len(kvs)-keep)], guests[:max(0, len(guests)-keepGuests)])
	_, err = store.Remove(ctx, a.Store, old)
	return err
}
