package drain

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
)

// Forget removes the words about guests that nobody needs any more when a host is gone for
// good. A word that
// tells on which host a guest is, or that it must run, is a reason to refuse: without
// it nobody would know why the guest stands still there, when the host comes back.
func Forget(ctx context.Context, st store.Store, host cluster.HostID, force bool, log *slog.Logger) ([]store.Op, error) {
	var ops []store.Op
	all, _, err := st.List(ctx, carryKeys)
	if err != nil {
		return nil, fmt.Errorf("list the records of moved guests: %w", err)
	}
	for _, kv := range all {
		var c carry
		err := json.Unmarshal(kv.Value, &c)
		to := strings.HasPrefix(kv.Key, carryPrefix(host))
		switch {
		case err != nil && !to, err == nil && !to && c.From != host:
		case force:
			log.Warn("a word about a guest is removed with its host", "key", kv.Key, "word", string(kv.Value))
			ops = append(ops, store.Op{Key: kv.Key})
		case err != nil:
			return nil, fail.Errorf(fail.Refused, "the record %s can not be read: %w", kv.Key, err).With(forceForget(host))
		case c.Live || c.Start:
			return nil, fail.Errorf(fail.Refused, "guest %s was moved from %s to %s, and it is not known that it runs",
				c.Name, c.From, path.Dir(strings.TrimPrefix(kv.Key, carryKeys))).
				With(forceForget(host))
		case to:
			ops = append(ops, store.Op{Key: kv.Key})
		}
	}
	return ops, nil
}

func forceForget(host cluster.HostID) string {
	return fmt.Sprintf("see that it runs on one host only; then: holdfast host forget %s --force", host)
}
