package drain

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
)

// atOnce is how many guests leave a host at once when an operator empties it.
const atOnce = 2

// Begin begins to empty a host, in a user's name, and returns the job's ID. alone are the kinds
// of jobs beside which no host is emptied so.
func Begin(ctx context.Context, st store.Store, seen func() (map[cluster.HostID]report.Seen, bool), user string,
	host cluster.HostID, alone ...job.Kind) (string, error) {
	reports, ok := seen()
	if !ok {
		return "", fmt.Errorf("the hosts' reports are not read yet: %w", store.ErrRetry)
	}
	if _, known := reports[host]; !known {
		return "", fail.Errorf(fail.Invalid, "host %q: no host of that name reports", host)
	}
	plan, steps, err := evacuate.HostPlan(host, atOnce)
	if err != nil {
		return "", err
	}
	now := time.Now().UTC()
	j := job.Job{
		ID: engine.NewID("drain", now), Kind: evacuate.HostJob,
		Title: "empty host " + string(host), User: user, Began: now,
	}
	if err := engine.Submit(ctx, st, j, plan, steps, engine.Also{Alone: alone}); err != nil {
		return "", engine.Explain(err)
	}
	return j.ID, nil
}
