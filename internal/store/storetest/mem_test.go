package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/store"
)

func TestMemContract(t *testing.T) {
	mem := NewMem()
	Contract(t, func(*testing.T) store.Store { return mem.NewClient("c") })
}

func put(ctx context.Context, c *Client, key, value string) (int64, error) {
	rev, _, err := c.Txn(ctx, nil, []store.Op{{Key: key, Value: []byte(value)}})
	return rev, err
}

func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := NewMem()
		a, b := mem.NewClient("a"), mem.NewClient("b")
		w := a.Watch(t.Context(), "", 1)
		a.Partition(true)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := put(ctx, a, "k", "a"); !errors.Is(err, store.ErrRetry) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut off: %v", err)
		}
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("failed after %s", d)
		}
		rev, err := put(t.Context(), b, "k", "b")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case got := <-w.C():
			t.Errorf("watch delivered %+v while cut off", got)
		default:
		}
		// A call that waits goes on when the network heals.
		got := make(chan error, 1)
		go func() {
			_, _, err := a.Get(t.Context(), "k")
			got <- err
		}()
		synctest.Wait()
		a.Partition(false)
		if err := <-got; err != nil {
			t.Errorf("after healing: %v", err)
		}
		if batch := <-w.C(); batch.Rev != rev || len(batch.Changes) != 1 || string(batch.Changes[0].KV.Value) != "b" {
			t.Errorf("after healing the watch delivered %+v", batch)
		}
		closeAll(t, a, b)
		if _, open := <-w.C(); open {
			t.Error("watch outlives its connection")
		}
	})
}

func closeAll(t *testing.T, clients ...*Client) {
	t.Helper()
	for _, c := range clients {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewMem().NewClient("c")
		w := c.Watch(t.Context(), "", 1)
		c.Refuse(true)
		if _, err := put(t.Context(), c, "k", "v"); !errors.Is(err, store.ErrRetry) {
			t.Errorf("got %v", err)
		}
		if _, open := <-w.C(); open || !errors.Is(w.Err(), store.ErrRetry) {
			t.Errorf("watch: open %v, %v", open, w.Err())
		}
		c.Refuse(false)
		if _, ok, err := c.Get(t.Context(), "k"); ok || err != nil {
			t.Errorf("a refused write was applied: %v, %v", ok, err)
		}
		closeAll(t, c)
	})
}

func TestLoseReplies(t *testing.T) {
	c := NewMem().NewClient("c")
	c.LoseReplies(true)
	if _, err := put(t.Context(), c, "k", "v"); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("write: %v", err)
	}
	if _, _, err := c.Get(t.Context(), "k"); !errors.Is(err, store.ErrRetry) {
		t.Errorf("get: %v", err)
	}
	if _, _, err := c.List(t.Context(), ""); !errors.Is(err, store.ErrRetry) {
		t.Errorf("list: %v", err)
	}
	c.LoseReplies(false)
	if kv, ok, err := c.Get(t.Context(), "k"); !ok || err != nil || string(kv.Value) != "v" {
		t.Errorf("not applied: %+v, %v", kv, err)
	}
	closeAll(t, c)
}

func TestHoldWrites(t *testing.T) {
	mem := NewMem()
	a, b := mem.NewClient("a"), mem.NewClient("b")
	first, err := put(t.Context(), a, "k", "1")
	if err != nil {
		t.Fatal(err)
	}
	a.HoldWrites(true)
	if _, err := put(t.Context(), a, "late", "x"); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("held: %v", err)
	}
	cond := []store.Cmp{{Key: "k", Rev: first}}
	if _, _, err := a.Txn(t.Context(), cond, []store.Op{{Key: "k", Value: []byte("2")}}); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("held: %v", err)
	}
	if _, ok, err := b.Get(t.Context(), "late"); ok || err != nil {
		t.Errorf("arrived too early: %v", err)
	}
	if _, err := put(t.Context(), b, "k", "3"); err != nil {
		t.Fatal(err)
	}
	a.HoldWrites(false)
	if _, ok, err := b.Get(t.Context(), "late"); !ok || err != nil {
		t.Errorf("did not arrive: %v", err)
	}
	if kv, _, err := b.Get(t.Context(), "k"); err != nil || string(kv.Value) != "3" {
		t.Errorf("late write ignored its condition: %+v, %v", kv, err)
	}
	closeAll(t, a, b)
}

func TestSlowReaderIsCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := NewMem()
		c := mem.NewClient("c")
		c.Partition(true)
		w := c.Watch(t.Context(), "", 1)
		writer := mem.NewClient("w")
		for i := range 10 {
			if _, err := put(t.Context(), writer, fmt.Sprint(i), "v"); err != nil {
				t.Fatal(err)
			}
		}
		mem.Compact(mem.Rev())
		c.Partition(false)
		if _, open := <-w.C(); open || !errors.Is(w.Err(), store.ErrCompacted) {
			t.Errorf("watch: open %v, %v", open, w.Err())
		}
		closeAll(t, c, writer)
	})
}
