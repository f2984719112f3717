package drain

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/inventory/report"
	"holdfast/internal/store"
)

// TestReportsAreReadBeforeAGuestThatArrivesIsHere: it stands still then, and must not
// wait for them.
func TestReportsAreReadBeforeAGuestThatArrivesIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		c := &counted{Store: b.other}
		v := &report.View{Store: c, Asked: true, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { v.Run(ctx) })
		r := b.receiver()
		r.Seen = v.Seen
		b.runs(r)
		b.put(carry{UUID: "uuid-b", Name: "b", Start: true})
		time.Sleep(10 * time.Second)
		if n := c.now(); n != 0 {
			t.Errorf("%d watches for a guest that arrives off", n)
		}
		b.put(carry{UUID: "uuid-a", Name: "a", Live: true, ID: "x"})
		time.Sleep(2 * time.Minute) // it is large
		if n := c.now(); n != 1 {
			t.Errorf("%d watches while a guest arrives, want one", n)
		}
		if _, _, err := b.other.Txn(t.Context(), nil, []store.Op{{Key: "fleet-carry/h2/uuid-a"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if n := c.now(); n != 0 {
			t.Errorf("%d watches when nothing arrives any more", n)
		}
	})
}

// counted counts the watches.
type counted struct {
	store.Store
	mu      sync.Mutex
	watches int
}

func (c *counted) Watch(ctx context.Context, prefix string, from int64) store.Watcher {
	c.mu.Lock()
	c.watches++
	c.mu.Unlock()
	context.AfterFunc(ctx, func() { c.mu.Lock(); c.watches--; c.mu.Unlock() })
	return c.Store.Watch(ctx, prefix, from)
}

func (c *counted) now() int {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watches
}
