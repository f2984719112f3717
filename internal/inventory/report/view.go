package report

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/text"
	"holdfast/internal/store"
)

const listWithin = 10 * time.Second

// View follows the hosts' records.
type View struct {
	Store store.Store
	Asked bool // follow only while somebody asks: thousands of hosts that all follow each other are too much for one store
	Log   *slog.Logger
	Names *Names // takes the names of hosts that report; nil: none are remembered

	unread store.Unread

	mu    sync.Mutex
	seen  map[cluster.HostID]Seen
	gone  map[cluster.HostID]bool // forgotten; none of them is in seen
	ready bool
	last  time.Time     // somebody asked
	calls chan struct{} // holds a value when somebody has asked; made by the first who needs it
	read  chan struct{} // closed when the records have been read; likewise
}

// idle is how long records are followed after somebody asked last.
const idle = time.Minute

// readWithin is how long who asks first waits for the records.
const readWithin = 5 * time.Second

// Seen returns the records as they are now; ok is false before the first listing.
// With Asked, who asks first waits for that, at most 5 s.
func (v *View) Seen() (seen map[cluster.HostID]Seen, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.Asked {
		v.ask()
	}
	return maps.Clone(v.seen), v.ready
}

// Forgotten tells whether a name that Seen does not have is that of a host that was forgotten, by a person or by a store that
// was restored.
func (v *View) Forgotten(h cluster.HostID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.gone[h] || v.Names.has(h)
}

// remember keeps the names of hosts that have records.
func (v *View) remember(keys []string) {
	if v.Names == nil {
		return
	}
	var hosts []cluster.HostID
	for _, k := range keys {
		hosts = append(hosts, hostOf(k))
	}
	if err := v.Names.add(hosts); err != nil {
		v.Log.Warn("after a restore of the store, a host may count as an operator", "err", err)
	}
}

// Where tells on which host a guest runs, by the reports of those that are up: one that
// is silent may have lost it long ago.
func (v *View) Where(uuid string) (cluster.HostID, bool) {
	seen, _ := v.Seen()
	now := time.Now()
	for name, h := range seen {
		if h.Up(now) && slices.ContainsFunc(h.VMs, func(vm inventory.VM) bool { return vm.UUID == uuid && vm.Running }) {
			return name, true
		}
	}
	return "", false
}

// ask wakes Run, and waits until the records have been read. The caller holds mu.
func (v *View) ask() {
	v.prepare()
	v.last = time.Now()
	select {
	case v.calls <- struct{}{}:
	default:
	}
	if v.ready {
		return
	}
	read := v.read
	v.mu.Unlock()
	select {
	case <-read:
	case <-time.After(readWithin):
	}
	v.mu.Lock()
}

// prepare makes the channels. The caller holds mu.
func (v *View) prepare() {
	if v.calls == nil {
		v.calls, v.read = make(chan struct{}, 1), make(chan struct{})
	}
}

// Run follows until ctx ends. When the watch breaks it lists anew.
func (v *View) Run(ctx context.Context) {
	const means = "the hosts' reports are not read just now"
	if !v.Asked {
		store.Again(ctx, v.Log, means, v.follow)
		return
	}
	v.mu.Lock()
	v.prepare()
	calls := v.calls
	v.mu.Unlock()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-calls:
		}
		fctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { store.Again(fctx, v.Log, means, v.follow) })
		v.wait(ctx)
		cancel()
		wg.Wait()
		v.rest()
	}
}

// wait returns when nobody has asked for a while.
func (v *View) wait(ctx context.Context) {
	for {
		v.mu.Lock()
		left := idle - time.Since(v.last)
		v.mu.Unlock()
		if left <= 0 {
			return
		}
		if !clock.Sleep(ctx, left) {
			return
		}
	}
}

// rest notes that the records are not followed any more. They are kept: one that
// has not changed when they are read again tells of a host that is silent.
func (v *View) rest() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ready, v.read = false, make(chan struct{})
}

func (v *View) follow(ctx context.Context) error {
	return store.Follow(ctx, v.Store, Prefix, listWithin, func(kvs []store.KV) {
		v.relist(kvs)
		var keys []string
		for _, kv := range kvs {
			keys = append(keys, kv.Key)
		}
		v.remember(keys)
	}, func(b store.Batch) {
		var keys []string
		for _, c := range b.Changes {
			v.change(c)
			keys = append(keys, c.KV.Key)
		}
		v.remember(keys)
	})
}

// relist takes a listing in. A record that has not changed since keeps the time
// at which it was seen to.
func (v *View) relist(kvs []store.KV) {
	next := make(map[cluster.HostID]Seen, len(kvs))
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone = map[cluster.HostID]bool{}
	for _, kv := range kvs {
		v.take(next, kv)
		h := hostOf(kv.Key)
		if old, ok := v.seen[h]; ok && old.Mod == kv.ModRev {
			next[h] = old
		}
	}
	if v.read != nil && !v.ready {
		close(v.read)
	}
	v.seen, v.ready = next, true
}

func (v *View) change(c store.Change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c.Deleted {
		delete(v.seen, hostOf(c.KV.Key))
		delete(v.gone, hostOf(c.KV.Key))
		return
	}
	v.take(v.seen, c.KV)
}

// take puts one record in. The host of one that can not be read is as it was before, falls silent, and tells it as its problem. The
// caller holds mu.
func (v *View) take(into map[cluster.HostID]Seen, kv store.KV) {
	h := hostOf(kv.Key)
	r, err := DecodeRecord(kv.Key, kv.Value)
	delete(v.gone, h)
	switch {
	case err == nil && r.Forgotten:
		delete(into, h)
		if v.gone == nil {
			v.gone = map[cluster.HostID]bool{}
		}
		v.gone[h] = true
		return
	case err == nil:
		into[h] = Seen{r, time.Now(), kv.ModRev}
		return
	}
	v.unread.Tell(v.Log, kv.Key, string(h), err)
	last, known := v.seen[h]
	if !known {
		last = Seen{Record: Record{Host: inventory.Host{Name: h}, Unobservable: true}, SeenAt: time.Now().Add(-Silent)}
	}
	last.Mod, last.Unobservable = kv.ModRev, true // its guests are not those of this revision
	last.Problem = text.Cut("its report can not be read: "+err.Error(), maxText)
	into[h] = last
}

func hostOf(key string) cluster.HostID { return cluster.HostID(strings.TrimPrefix(key, Prefix)) }
