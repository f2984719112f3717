package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
)

const (
	listWithin  = 10 * time.Second
	followAgain = time.Second
)

// View follows the hosts' records.
type View struct {
	Store store.Store
	Log   *slog.Logger

	mu    sync.Mutex
	seen  map[cluster.HostID]Seen
	ready bool
}

// Seen returns the records as they are now; ok is false before the first listing.
func (v *View) Seen() (seen map[cluster.HostID]Seen, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.seen), v.ready
}

// Run follows until ctx ends. When the watch breaks it lists anew.
func (v *View) Run(ctx context.Context) {
	again(ctx, v.Log, "the hosts' reports are not followed just now", v.follow)
}

// again calls follow until ctx ends, with a pause between two calls. Its errors are
// told with what they mean.
func again(ctx context.Context, log *slog.Logger, means string, follow func(context.Context) error) {
	for ctx.Err() == nil {
		if err := follow(ctx); err != nil && ctx.Err() == nil {
			log.Debug(means, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(followAgain):
		}
	}
}

func (v *View) follow(ctx context.Context) error {
	lctx, cancel := context.WithTimeout(ctx, listWithin)
	kvs, rev, err := v.Store.List(lctx, keyPrefix)
	cancel()
	if err != nil {
		return fmt.Errorf("list the hosts' reports: %w", err)
	}
	v.relist(kvs)
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := v.Store.Watch(wctx, keyPrefix, rev+1)
	for b := range w.C() {
		for _, c := range b.Changes {
			v.change(c)
		}
	}
	return w.Err()
}

// relist takes a listing in. A record that has not changed since keeps the time
// at which it was seen to.
func (v *View) relist(kvs []store.KV) {
	next := make(map[cluster.HostID]Seen, len(kvs))
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, kv := range kvs {
		v.take(next, kv)
		h := hostOf(kv.Key)
		if old, ok := v.seen[h]; ok && old.Mod == kv.ModRev {
			next[h] = old
		}
	}
	v.seen, v.ready = next, true
}

func (v *View) change(c store.Change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c.Deleted {
		delete(v.seen, hostOf(c.KV.Key))
		return
	}
	v.take(v.seen, c.KV)
}

// take puts one record in. The caller holds mu.
func (v *View) take(into map[cluster.HostID]Seen, kv store.KV) {
	r, err := decodeRecord(kv.Key, kv.Value)
	if err != nil {
		v.Log.Warn("a host's report can not be read", "err", err)
		delete(into, hostOf(kv.Key))
		return
	}
	into[hostOf(kv.Key)] = Seen{r, time.Now(), kv.ModRev}
}

func hostOf(key string) cluster.HostID { return cluster.HostID(strings.TrimPrefix(key, keyPrefix)) }
