package check

import (
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
)

// Begun is the answer to RunUpgrade. Without a job, Plan or Report say what stands
// in the way.
type Begun struct {
	Job    *job.View
	Plan   upgrade.Plan
	Report *Report // of the checks before
}
