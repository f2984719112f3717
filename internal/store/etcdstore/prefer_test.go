package etcdstore

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

func TestPreferPassesTheContract(t *testing.T) {
	storetest.Contract(t, func(t *testing.T) store.Store {
		m := storetest.NewMem()
		near := m.NewClient("near")
		return struct {
			store.Store
			storetest.Compacter
		}{Prefer(near, m.NewClient("far"), nil), near}
	})
}

func TestPreferLeavesAStoreThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMem()
		near, far := m.NewClient("near"), m.NewClient("far")
		s := Prefer(near, far, nil)
		put := func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, _, err := s.Txn(ctx, nil, []store.Op{{Key: "k", Value: []byte("v")}})
			return err
		}
		far.Refuse(true)
		if err := put(); err != nil {
			t.Errorf("near answers, and was not asked: %v", err)
		}
		far.Refuse(false)
		near.Partition(true)
		for range avoidAfter {
			if err := put(); !errors.Is(err, store.ErrRetry) && !errors.Is(err, store.ErrUnknown) {
				t.Errorf("a call to a store that is cut off: %v", err)
			}
		}
		if err := put(); err != nil {
			t.Errorf("the next one goes to the others: %v", err)
		}
		near.Partition(false)
		time.Sleep(2 * avoid)
		if err := put(); err != nil {
			t.Errorf("near is tried: %v", err)
		}
		synctest.Wait()
		far.Refuse(true)
		if err := put(); err != nil {
			t.Errorf("near is asked again after a while: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestPreferReadsWhileTheOwnMemberHangs: a read with a long deadline does not wait for it, and only tries do again.
func TestPreferReadsWhileTheOwnMemberHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMem()
		near, far := m.NewClient("near"), m.NewClient("far")
		s := Prefer(near, far, nil)
		read := func() (took time.Duration) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			began := time.Now()
			if _, _, err := s.List(ctx, "k"); err != nil {
				t.Errorf("list: %v", err)
			}
			if _, _, err := s.Get(ctx, "k"); err != nil {
				t.Errorf("get: %v", err)
			}
			return time.Since(began)
		}
		near.Partition(true)
		if d := read(); d != 2*slow {
			t.Errorf("the first two reads took %s", d)
		}
		for range 30 { // the store is left alone for longer than once
			if d := read(); d != 0 {
				t.Errorf("reads took %s", d)
			}
			time.Sleep(time.Second)
		}
		far.Partition(true)
		near.Partition(false)
		time.Sleep(2 * avoid)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, _, _ = s.Get(ctx, "k") // which lets near be tried, or finds far silent
		cancel()
		time.Sleep(slow)
		if d := read(); d != 0 {
			t.Errorf("near answers again, and reads took %s", d)
		}
		near.Refuse(true)
		ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, _, err := s.Get(ctx, "k"); !errors.Is(err, store.ErrRetry) {
			t.Errorf("nobody answers: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestPreferAsksNobodyWithAnotherStore: while the others have a store of their own a read, a write and a watch end with the own
// member's error, and a watch that had begun at the others tells nothing of what happens there since then.
func TestPreferAsksNobodyWithAnotherStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMem()
		near, far := m.NewClient("near"), m.NewClient("far")
		var apart atomic.Bool
		s := Prefer(near, far, func() bool { return !apart.Load() })
		put := func(to store.Store) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _, err := to.Txn(ctx, nil, []store.Op{{Key: "k", Value: []byte("v")}})
			return err
		}
		near.Refuse(true)
		for range avoidAfter {
			if err := put(s); err == nil {
				t.Error("near refuses, and a write was done")
			}
		}
		w := s.Watch(t.Context(), "k", 1)
		if err := put(s); err != nil {
			t.Errorf("the others have the same store: %v", err)
		}
		if b := <-w.C(); len(b.Changes) != 1 {
			t.Errorf("watched: %+v", b)
		}
		apart.Store(true)
		if err := put(far); err != nil { // a write in the other store
			t.Fatal(err)
		}
		if b, more := <-w.C(); more || !errors.Is(w.Err(), store.ErrRetry) {
			t.Errorf("of another store: %+v, %v", b, w.Err())
		}
		for range 2 * avoidAfter {
			if err := put(s); !errors.Is(err, store.ErrRetry) {
				t.Errorf("a write: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if _, _, err := s.Get(ctx, "k"); !errors.Is(err, store.ErrRetry) {
				t.Errorf("a read: %v", err)
			}
			if _, _, err := s.List(ctx, "k"); !errors.Is(err, store.ErrRetry) {
				t.Errorf("a list: %v", err)
			}
			cancel()
		}
		near.Refuse(false)
		if err := put(s); err != nil {
			t.Errorf("near answers again: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// partsMeanwhile is a store that turns out to be another one while it is read.
type partsMeanwhile struct {
	store.Store
	apart *atomic.Bool
}

func (p partsMeanwhile) Get(ctx context.Context, key string) (store.KV, bool, error) {
	kv, ok, err := p.Store.Get(ctx, key)
	p.apart.Store(true)
	return kv, ok, err
}

// TestPreferForgetsTheAnswerOfAnotherStore: what is read at the others does not count when they have a store of their own by then.
func TestPreferForgetsTheAnswerOfAnotherStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMem()
		near, far := m.NewClient("near"), m.NewClient("far")
		var apart atomic.Bool
		s := Prefer(near, partsMeanwhile{far, &apart}, func() bool { return !apart.Load() })
		near.Refuse(true)
		for range 2 * avoidAfter { // beside near, and then without it
			apart.Store(false)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if kv, ok, err := s.Get(ctx, "k"); !errors.Is(err, store.ErrRetry) {
				t.Errorf("another store's answer counts: %+v, %v, %v", kv, ok, err)
			}
			cancel()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
