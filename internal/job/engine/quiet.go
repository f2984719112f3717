package engine

import (
	"context"
	"fmt"

	"holdfast/internal/job"
	"holdfast/internal/store"
)

// Quiet names a job of some kinds that has not ended, "" when there is none. A
// transaction with conds is done only if none has begun since.
func Quiet(ctx context.Context, st store.Store, kinds ...job.Kind) (conds []store.Cmp, what string, err error) {
	for _, k := range kinds {
		kv, found, err := get(ctx, st, runKey(k))
		if err != nil {
			return nil, "", fmt.Errorf("look for jobs: %w", err)
		}
		conds = append(conds, store.Cmp{Key: runKey(k), Rev: kv.ModRev})
		if !found {
			continue
		}
		j, err := decodeJob(kv)
		if err != nil {
			return nil, "", fmt.Errorf("look for jobs: %w", err)
		}
		if j.State != job.Ended {
			return nil, fmt.Sprintf("the job %s (%s) of %s is %s", j.ID, j.Title, j.User, j.State), nil
		}
	}
	return conds, "", nil
}
