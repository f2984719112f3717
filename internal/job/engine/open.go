package engine

import (
	"context"
	"fmt"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/store"
)

// OpenWork is what a host was told to do, of one kind of step, and has not ended yet.
func OpenWork(ctx context.Context, st store.Store, h cluster.HostID, kind string) (open []job.Step, err error) {
	return OpenIn(func(key string) ([]store.KV, error) {
		if strings.HasSuffix(key, "/") {
			kvs, _, err := st.List(ctx, key)
			return kvs, err
		}
		kv, there, err := st.Get(ctx, key)
		if err != nil || !there {
			return nil, err
		}
		return []store.KV{kv}, nil
	}, h, kind)
}

// OpenIn is OpenWork with another reader of records, as store.Attempt.Read is one.
func OpenIn(read func(key string) ([]store.KV, error), h cluster.HostID, kind string) (open []job.Step, err error) {
	todos, err := read(todosKey(h))
	if err != nil {
		return nil, fmt.Errorf("read what host %s has to do: %w", h, err)
	}
	for _, kv := range todos {
		t, err := decodeTodo(kv)
		if err != nil {
			return nil, err
		}
		for _, step := range t.Steps {
			kvs, err := read(stepKey(t.Job, step))
			if err != nil {
				return nil, fmt.Errorf("read step %s of %s: %w", step, t.Job, err)
			}
			if len(kvs) == 0 {
				continue
			}
			r, err := decodeRecord(step, kvs[0])
			if err != nil {
				return nil, err
			}
			if holds(r, string(h)) && r.Work.Kind == kind {
				open = append(open, *r.Work)
			}
		}
	}
	return open, nil
}
