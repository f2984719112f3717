package storetest

import (
	"context"
	"sync"
	"testing/synctest"

	"holdfast/internal/store"
)

// Counted is a store whose open watches are counted.
type Counted struct {
	store.Store
	mu      sync.Mutex
	watches int
}

// Watch implements store.Store.
func (c *Counted) Watch(ctx context.Context, prefix string, from int64) store.Watcher {
	c.mu.Lock()
	c.watches++
	c.mu.Unlock()
	context.AfterFunc(ctx, func() { c.mu.Lock(); c.watches--; c.mu.Unlock() })
	return c.Store.Watch(ctx, prefix, from)
}

// Now is how many are open when all goroutines of the synctest bubble wait.
func (c *Counted) Now() int {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watches
}
