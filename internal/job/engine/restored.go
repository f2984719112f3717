package engine

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/store"
)

// Restored pauses the jobs that have not ended in a store that was restored from a backup, and returns their ids: they may
// have ended since, and their next steps would be done a second time, on hosts that are elsewhere by now. A step that ran
// then is asked how far it has come, as after any crash, and is not begun anew.
func Restored(ctx context.Context, st store.Store, now time.Time) (paused []string, err error) {
	jobs, err := List(ctx, st)
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		if j.State == job.Ended {
			continue
		}
		_, err := Amend(ctx, st, j.ID, now, func(j job.Job) (job.Job, error) {
			j.Because(reason.Restored.With(j.State, j.ID))
			j.State = job.Paused
			return j, nil
		})
		if err != nil {
			return nil, fmt.Errorf("pause what may have ended since the backup: %w", err)
		}
		paused = append(paused, j.ID)
	}
	return paused, nil
}
