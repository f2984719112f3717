package api

import (
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

// Begun is the answer to RunUpgrade. Without a job, Plan or Report say what stands
// in the way.
type Begun struct {
	Job    *job.View
	Plan   upgrade.Plan
	Report *check.Report // of the checks before
}
