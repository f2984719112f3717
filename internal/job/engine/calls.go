package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// Deadlines of calls to the store, and the pause after one that failed.
const (
	callWithin = 5 * time.Second
	listWithin = 30 * time.Second
	pause      = 200 * time.Millisecond
)

func get(ctx context.Context, st store.Store, key string) (store.KV, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	return st.Get(ctx, key)
}

func list(ctx context.Context, st store.Store, prefix string) ([]store.KV, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	return st.List(ctx, prefix)
}

func txn(ctx context.Context, st store.Store, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	return st.Txn(ctx, conds, ops)
}

// settle makes a transaction that writes value to key, among others, and finds
// out what became of it when the answer was lost: the conditions must include the
// key's revision, so that of several attempts at most one is applied. ok is false
// when a condition did not hold, or the key was changed again since.
func settle(ctx context.Context, st store.Store, key string, value []byte, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	for unsure := false; ; {
		rev, ok, err := txn(ctx, st, conds, ops)
		if errors.Is(err, store.ErrUnknown) {
			unsure = true
		}
		if !unsure || ok && err == nil {
			return rev, ok, err
		}
		kv, exists, gerr := get(ctx, st, key)
		switch {
		case gerr == nil && exists && bytes.Equal(kv.Value, value):
			return kv.ModRev, true, nil
		case gerr == nil && err == nil:
			return rev, false, nil
		case gerr != nil && !errors.Is(gerr, store.ErrRetry):
			return 0, false, fmt.Errorf("%w, and it can not be read back: %w", store.ErrUnknown, gerr)
		}
		if !clock.Sleep(ctx, pause) {
			return 0, false, fmt.Errorf("%w: %w", store.ErrUnknown, context.Cause(ctx))
		}
	}
}
