package etcdstore

import (
	"context"
	"errors"
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
		}{Prefer(near, m.NewClient("far")), near}
	})
}

func TestPreferLeavesAStoreThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMem()
		near, far := m.NewClient("near"), m.NewClient("far")
		s := Prefer(near, far)
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
		far.Refuse(true)
		time.Sleep(avoid)
		if err := put(); err != nil {
			t.Errorf("near is asked again after a while: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
