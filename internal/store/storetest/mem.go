// Package storetest is a store in memory with faults, for tests and for the
// simulator, and the contract suite that every store passes.
//
// The memory store uses channels, mutexes and timers of contexts only, so it
// works inside testing/synctest bubbles when the Mem is made in the bubble.
package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"

	"holdfast/internal/store"
)

// Mem is one store in memory. Its clients are the connections to it.
type Mem struct {
	mu        sync.Mutex
	rev       int64
	kvs       map[string]store.KV
	history   []change // in order of revision
	compacted int64    // changes of this revision and earlier are gone
	moved     chan struct{}
}

// change is one entry of the history. Values are never altered once stored.
type change struct {
	rev int64
	ch  store.Change
}

// NewMem makes an empty store at revision 1.
func NewMem() *Mem {
	return &Mem{rev: 1, kvs: map[string]store.KV{}, moved: make(chan struct{})}
}

// Copy is another store with the same records at the same revision, as after a Compact:
// watches from an earlier revision end with store.ErrCompacted.
func (m *Mem) Copy() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Mem{rev: m.rev, kvs: maps.Clone(m.kvs), compacted: m.rev, moved: make(chan struct{})}
}

// NewClient makes a connection. name is in its errors.
func (m *Mem) NewClient(name string) *Client {
	return &Client{mem: m, name: name, changed: make(chan struct{})}
}

// Rev is the revision of the last change.
func (m *Mem) Rev() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rev
}

// Compact forgets the changes before rev, as a store does now and then. A watch
// that has not delivered them yet ends with store.ErrCompacted.
func (m *Mem) Compact(rev int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compacted = max(m.compacted, min(rev, m.rev)-1)
	i := sort.Search(len(m.history), func(i int) bool { return m.history[i].rev > m.compacted })
	m.history = slices.Clone(m.history[i:])
	m.wake()
}

// wake tells the watches that there is something new. The caller holds mu.
func (m *Mem) wake() {
	close(m.moved)
	m.moved = make(chan struct{})
}

func (m *Mem) get(key string) (store.KV, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kv, ok := m.kvs[key]
	return clone(kv), ok
}

func (m *Mem) list(prefix string) ([]store.KV, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []store.KV
	for key, kv := range m.kvs {
		if strings.HasPrefix(key, prefix) {
			out = append(out, clone(kv))
		}
	}
	slices.SortFunc(out, func(a, b store.KV) int { return strings.Compare(a.Key, b.Key) })
	return out, m.rev
}

// check refuses what etcd refuses too.
func check(conds []store.Cmp, ops []store.Op) error {
	for _, c := range conds {
		if c.Key == "" {
			return fmt.Errorf("condition on an empty key: %w", store.ErrDefinite)
		}
	}
	seen := map[string]bool{}
	for _, op := range ops {
		if op.Key == "" {
			return fmt.Errorf("write of an empty key: %w", store.ErrDefinite)
		}
		if seen[op.Key] {
			return fmt.Errorf("two writes of key %q: %w", op.Key, store.ErrDefinite)
		}
		seen[op.Key] = true
	}
	return nil
}

func (m *Mem) txn(conds []store.Cmp, ops []store.Op) (rev int64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range conds {
		kv := m.kvs[c.Key] // absent: revisions 0
		have := kv.ModRev
		if c.Create {
			have = kv.CreateRev
		}
		if have != c.Rev {
			return m.rev, false
		}
	}
	next := m.rev + 1
	for _, op := range ops {
		kv, exists := m.kvs[op.Key]
		switch {
		case op.Value != nil:
			if !exists {
				kv = store.KV{Key: op.Key, CreateRev: next}
			}
			kv.Value, kv.ModRev = copyOf(op.Value), next
			m.kvs[op.Key] = kv
			m.history = append(m.history, change{next, store.Change{KV: kv}})
		case exists:
			delete(m.kvs, op.Key)
			m.history = append(m.history, change{next, store.Change{KV: store.KV{Key: op.Key, ModRev: next}, Deleted: true}})
		default:
			continue // nothing to delete, no change
		}
		m.rev = next
	}
	if m.rev == next {
		m.wake()
	}
	return m.rev, true
}

// since copies the changes of keys with the prefix from revision from on, whole
// transactions, at most about limit changes. rev is the revision up to which
// nothing is missing. moved closes when there is more.
func (m *Mem) since(prefix string, from int64, limit int) (out []store.Change, rev int64, moved <-chan struct{}, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if from <= m.compacted {
		return nil, 0, nil, fmt.Errorf("watch from revision %d, the first one kept is %d: %w", from, m.compacted+1, store.ErrCompacted)
	}
	i := sort.Search(len(m.history), func(i int) bool { return m.history[i].rev >= from })
	last := int64(0)
	for ; i < len(m.history); i++ {
		h := m.history[i]
		if len(out) >= limit && h.rev != last {
			return out, last, m.moved, nil
		}
		if strings.HasPrefix(h.ch.KV.Key, prefix) {
			c := h.ch
			c.KV = clone(c.KV)
			out = append(out, c)
		}
		last = h.rev
	}
	return out, max(m.rev, from-1), m.moved, nil
}

func clone(kv store.KV) store.KV {
	if kv.Value != nil {
		kv.Value = copyOf(kv.Value)
	}
	return kv
}

// copyOf never returns nil, so that an empty value stays one.
func copyOf(b []byte) []byte { return append([]byte{}, b...) }

var _ store.Store = (*Client)(nil)

// Get implements store.Store.
func (c *Client) Get(ctx context.Context, key string) (store.KV, bool, error) {
	if err := c.reach(ctx); err != nil {
		return store.KV{}, false, c.failed("get "+key, err)
	}
	if key == "" {
		return store.KV{}, false, c.failed("get", fmt.Errorf("empty key: %w", store.ErrDefinite))
	}
	kv, ok := c.mem.get(key)
	if err := c.answer(store.ErrRetry); err != nil {
		return store.KV{}, false, c.failed("get "+key, err)
	}
	return kv, ok, nil
}

// List implements store.Store.
func (c *Client) List(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	if err := c.reach(ctx); err != nil {
		return nil, 0, c.failed("list "+prefix, err)
	}
	kvs, rev := c.mem.list(prefix)
	if err := c.answer(store.ErrRetry); err != nil {
		return nil, 0, c.failed("list "+prefix, err)
	}
	return kvs, rev, nil
}

// Txn implements store.Store.
func (c *Client) Txn(ctx context.Context, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	if store.IsStale(ctx) {
		return 0, false, c.failed("transaction", fmt.Errorf("by what may be old: %w", store.ErrDefinite))
	}
	if err := c.reach(ctx); err != nil {
		return 0, false, c.failed("transaction", err)
	}
	if err := check(conds, ops); err != nil {
		return 0, false, c.failed("transaction", err)
	}
	if c.hold(conds, ops) {
		return 0, false, c.failed("transaction", fmt.Errorf("on its way: %w", store.ErrUnknown))
	}
	rev, ok := c.mem.txn(conds, ops)
	if err := c.answer(store.ErrUnknown); err != nil {
		return 0, false, c.failed("transaction", err)
	}
	return rev, ok, nil
}

// Compact forgets old changes; see Mem.Compact.
func (c *Client) Compact(ctx context.Context, rev int64) error {
	if err := c.reach(ctx); err != nil {
		return c.failed("compact", err)
	}
	c.mem.Compact(rev)
	return nil
}
