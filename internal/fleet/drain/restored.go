package drain

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/internal/store"
)

// Restored removes, in a store that was restored from a backup, the words by which a host starts a guest, lets it go on or
// ends it: the guest may have moved on since, and the host where it runs now may not have told so yet. It returns the names
// of the guests, which stay as they are until a person acts. A live move that was not decided keeps its word: the host that
// sent it looks at the guest before it says anything.
func Restored(ctx context.Context, st store.Store) (guests []string, err error) {
	kvs, _, err := st.List(ctx, carryKeys)
	if err != nil {
		return nil, fmt.Errorf("list the records of moved guests: %w", err)
	}
	for _, kv := range kvs {
		var c carry
		if json.Unmarshal(kv.Value, &c) != nil || c.Live && !c.decided() { // what can not be read is told by its host, and not acted on
			continue
		}
		if _, _, err := st.Txn(ctx, nil, []store.Op{{Key: kv.Key}}); err != nil {
			return nil, fmt.Errorf("remove the record of the moved guest %s: %w", c.Name, err)
		}
		guests = append(guests, c.Name)
	}
	return guests, nil
}
