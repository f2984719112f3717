package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"holdfast/internal/store"
)

// watchBatch is about how many changes a batch has at most.
const watchBatch = 100

// Client is a connection to a Mem. Each has faults of its own, which may be
// combined and switched at any time.
type Client struct {
	mem  *Mem
	name string

	mu          sync.Mutex
	closed      bool
	partitioned bool
	refusing    bool
	losing      bool
	holding     bool
	standing    bool
	held        []heldTxn
	changed     chan struct{} // closed and replaced when one of the above changes
	watches     sync.WaitGroup
}

// heldTxn is a transaction that was sent and has not arrived.
type heldTxn struct {
	conds []store.Cmp
	ops   []store.Op
}

// Partition cuts the connection off like a network that swallows packets: calls
// wait until their context ends and fail with store.ErrRetry, or go on when the
// network heals; watches stand still and lose nothing.
func (c *Client) Partition(on bool) { c.set(func() { c.partitioned = on }) }

// Refuse makes calls, but for stale reads, fail at once with store.ErrRetry, like a store whose
// members have no leader. Watches break with store.ErrRetry.
func (c *Client) Refuse(on bool) { c.set(func() { c.refusing = on }) }

// LoseReplies lets calls reach the store and loses the answers: a transaction is
// applied (when its conditions hold) and fails with store.ErrUnknown, a read
// fails with store.ErrRetry.
func (c *Client) LoseReplies(on bool) { c.set(func() { c.losing = on }) }

// HoldWatches lets watches stand still, and lose nothing, while calls reach the store: as with a member that
// hangs, when another one answers calls.
func (c *Client) HoldWatches(on bool) { c.set(func() { c.standing = on }) }

// HoldWrites makes transactions fail with store.ErrUnknown at once while they
// are still on their way. Switched off, those held arrive in their order.
func (c *Client) HoldWrites(on bool) {
	c.set(func() { c.holding = on })
	if on {
		return
	}
	c.mu.Lock()
	held := c.held
	c.held = nil
	c.mu.Unlock()
	for _, h := range held {
		c.mem.txn(h.conds, h.ops)
	}
}

func (c *Client) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) failed(what string, err error) error {
	return fmt.Errorf("%s by %s: %w", what, c.name, err)
}

// reach returns nil when a call gets through to the store.
func (c *Client) reach(ctx context.Context) error {
	for {
		c.mu.Lock()
		closed, refusing, partitioned, changed := c.closed, c.refusing, c.partitioned, c.changed
		c.mu.Unlock()
		switch {
		case closed:
			return fmt.Errorf("connection is closed: %w", store.ErrDefinite)
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", store.ErrRetry, context.Cause(ctx))
		case refusing && !store.IsStale(ctx):
			return fmt.Errorf("no leader: %w", store.ErrRetry)
		case !partitioned:
			return nil
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// answer returns nil when the store's answer gets back to the caller.
func (c *Client) answer(lost error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.losing {
		return fmt.Errorf("answer lost: %w", lost)
	}
	return nil
}

func (c *Client) hold(conds []store.Cmp, ops []store.Op) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holding {
		own := make([]store.Op, len(ops))
		for i, op := range ops {
			own[i] = store.Op{Key: op.Key}
			if op.Value != nil {
				own[i].Value = copyOf(op.Value)
			}
		}
		c.held = append(c.held, heldTxn{slices.Clone(conds), own})
	}
	return c.holding
}

// Close ends the connection and its watches. Transactions that are held stay so.
func (c *Client) Close() error {
	c.set(func() { c.closed = true })
	c.watches.Wait()
	return nil
}

// Watch implements store.Store.
func (c *Client) Watch(ctx context.Context, prefix string, from int64) store.Watcher {
	w := &memWatch{out: make(chan store.Batch)}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.watches.Add(1)
	}
	c.mu.Unlock()
	if closed {
		w.err = c.failed("watch "+prefix, fmt.Errorf("connection is closed: %w", store.ErrDefinite))
		close(w.out)
		return w
	}
	go func() {
		defer c.watches.Done()
		defer close(w.out)
		if err := w.run(ctx, c, prefix, max(from, 1)); err != nil {
			w.err = c.failed("watch "+prefix, err)
		}
	}()
	return w
}

type memWatch struct {
	out chan store.Batch
	err error // written before out closes
}

func (w *memWatch) C() <-chan store.Batch { return w.out }

func (w *memWatch) Err() error { return w.err }

func (w *memWatch) run(ctx context.Context, c *Client, prefix string, from int64) error {
	for {
		c.mu.Lock()
		changed, standing := c.changed, c.standing
		c.mu.Unlock()
		if err := c.reach(ctx); err != nil {
			return watchEnd(ctx, err)
		}
		if standing {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			}
			continue
		}
		changes, rev, moved, err := c.mem.since(prefix, from, watchBatch)
		if err != nil {
			return err
		}
		if rev < from {
			select {
			case <-ctx.Done():
			case <-moved:
			case <-changed:
			}
			continue
		}
		// A batch may be empty: others' changes move the revision too, as in etcd.
		// What is on its way when the network is cut is dropped and read again after
		// it heals, so a partitioned reader sees nothing.
		select {
		case <-ctx.Done():
		case <-changed:
		case w.out <- store.Batch{Rev: rev, Changes: changes}:
			from = rev + 1
		}
	}
}

// watchEnd is nil when the watch's own context ended it.
func watchEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, store.ErrDefinite) {
		return nil
	}
	return err
}
