package engine

import (
	"context"
	"fmt"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/store"
)

// OpenWork is what a host was told to do, of one kind of step, and has not ended yet.
func OpenWork(ctx context.Context, st store.Store, h cluster.HostID, kind string) (open []job.Step, err error) {
	todos, _, err := st.List(ctx, todosKey(h))
	if err != nil {
		return nil, fmt.Errorf("read what host %s has to do: %w", h, err)
	}
	for _, kv := range todos {
		t, err := decodeTodo(kv)
		if err != nil {
			return nil, err
		}
		for _, step := range t.Steps {
			kv, there, err := st.Get(ctx, stepKey(t.Job, step))
			if err != nil {
				return nil, fmt.Errorf("read step %s of %s: %w", step, t.Job, err)
			}
			if !there {
				continue
			}
			r, err := decodeRecord(step, kv)
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
