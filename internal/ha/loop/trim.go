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
	trimAtOnce   = 100 // keys deleted by one transaction; etcd allows 128
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
	var old []store.KV
	if prefix == records.KeyLog {
		var order []cluster.HostID
		a.ask(ctx, func() { order = a.s.core.Order })
		foreign := func(kv store.KV) bool { return !slices.Contains(order, cluster.HostID(WriterOf(kv.Key))) }
		guests := 0
		for _, kv := range slices.Backward(kvs) {
			if foreign(kv) {
				if guests++; guests > keepGuests {
					old = append(old, kv)
				}
			}
		}
		kvs = slices.DeleteFunc(kvs, foreign)
	}
	old = append(old, kvs[:max(0, len(kvs)-keep)]...)
	for chunk := range slices.Chunk(old, trimAtOnce) {
		var ops []store.Op
		for _, kv := range chunk {
			ops = append(ops, store.Op{Key: kv.Key})
		}
		if _, _, err := a.Store.Txn(ctx, nil, ops); err != nil {
			return fmt.Errorf("delete %d of %s: %w", len(ops), prefix, err)
		}
	}
	return nil
}
