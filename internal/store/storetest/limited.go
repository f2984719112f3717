package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/store"
)

// Limited is a connection of a host whose writes are judged by a rule, as a member of
// etcd judges those of hosts that run guests only. A write that is refused fails with
// store.ErrDefinite.
type Limited struct {
	store.Store
	Host    string
	Permits func(store.Attempt) error
	Exempt  func() bool                // the rule is not asked now; nil: it always is
	Refused func(store.Attempt, error) // told of each refusal
}

// Txn implements store.Store.
func (l Limited) Txn(ctx context.Context, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	if l.Exempt == nil || !l.Exempt() {
		with := map[string][]byte{}
		for _, op := range ops {
			if op.Value != nil {
				with[op.Key] = op.Value
			}
		}
		for _, op := range ops {
			if err := l.judge(ctx, conds, op, with); err != nil {
				return 0, false, err
			}
		}
	}
	return l.Store.Txn(ctx, conds, ops)
}

func (l Limited) judge(ctx context.Context, conds []store.Cmp, op store.Op, with map[string][]byte) error {
	a := store.Attempt{Host: l.Host, Key: op.Key, Value: op.Value, With: with}
	_, refused, err := store.Judge(a, l.Permits, func(a *store.Attempt) (bool, error) {
		kv, ok, err := l.Get(ctx, op.Key)
		if ok {
			a.Old = kv.Value
		}
		for _, c := range conds {
			if c.Key == op.Key && !c.Create {
				a.Guarded = c.Rev == kv.ModRev
				return !a.Guarded, err // the condition is broken: nothing will be written
			}
		}
		return false, err
	}, func(key string) (kvs []store.KV, void bool, err error) {
		if strings.HasSuffix(key, "/") {
			kvs, _, err = l.List(ctx, key)
			return kvs, false, err
		}
		kv, is, err := l.Get(ctx, key)
		if is {
			kvs = []store.KV{kv}
		}
		void = !is && slices.ContainsFunc(conds, func(c store.Cmp) bool { return c.Key == key && c.Rev != 0 })
		return kvs, void && err == nil, err
	})
	if refused != nil {
		l.Refused(a, refused)
		return fmt.Errorf("%s writes %s: %w: %w", l.Host, a.Key, refused, store.ErrDefinite)
	}
	return err
}

// AsGuestHost is the store of a host that runs guests only, with the rights that a function
// of this form gives it. What it is refused fails the test: all that such a host does must
// be permitted.
func AsGuestHost(t testing.TB, host string, st store.Store, permits func(store.Attempt) (known bool, err error)) store.Store {
	return Limited{
		Store: st, Host: host,
		Permits: func(a store.Attempt) error { _, err := permits(a); return err },
		Refused: func(a store.Attempt, err error) {
			t.Errorf("%s may not write %s: %v", host, a.Key, err)
		},
	}
}
