package store

import (
	"context"
	"fmt"
	"slices"
)

// removeAtOnce is how many keys one transaction deletes; etcd allows 128.
const removeAtOnce = 100

// Remove deletes records, whatever they have become, and returns how many it has deleted when it
// returns an error.
func Remove(ctx context.Context, st Store, kvs []KV) (removed int, err error) {
	for some := range slices.Chunk(kvs, removeAtOnce) {
		var ops []Op
		for _, kv := range some {
			ops = append(ops, Op{Key: kv.Key})
		}
		if _, _, err := st.Txn(ctx, nil, ops); err != nil {
			return removed, fmt.Errorf("delete %s and %d more: %w", ops[0].Key, len(ops)-1, err)
		}
		removed += len(ops)
	}
	return removed, nil
}
