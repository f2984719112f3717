package group

import (
	"context"
	"errors"
	"fmt"

	"holdfast/internal/ha/records"
	"holdfast/internal/pair"
	"holdfast/internal/store"
)

// Restored takes back, in a store that was restored from a backup, that copies of a pair have every acknowledged write: the
// one that was complete then may have missed all that the other one took since. A person chooses (docs/adr/0048). false: the
// store has no such record.
func Restored(ctx context.Context, st store.Store) (bool, error) {
	kv, found, err := st.Get(ctx, KeySync)
	if err != nil || !found {
		return false, err
	}
	s, err := records.Decode[pair.Sync](kv, false)
	if err != nil {
		return false, err
	}
	s.Complete, s.To, s.Proof = nil, "", ""
	_, ok, err := st.Txn(ctx, []store.Cmp{{Key: KeySync, Rev: kv.ModRev}}, []store.Op{{Key: KeySync, Value: records.Encode(s)}})
	if err == nil && !ok {
		err = errors.New("it has changed meanwhile")
	}
	if err != nil {
		return false, fmt.Errorf("take back which copies are complete: %w", err)
	}
	return true, nil
}
