package progress

import (
	"cmp"
	"fmt"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
)

// whole is how far a job is as a whole, in a line. Its percentage is what an agent takes that runs the command as a step: those in
// the notes of single steps are not of the whole.
func whole(j job.View) string {
	over := 0
	for _, s := range j.Steps {
		if isOver(s) {
			over++
		}
	}
	return fmt.Sprintf("%d of %d steps are over, %d %%", over, len(j.Steps), over*100/max(1, len(j.Steps)))
}

func isOver(s job.StepView) bool {
	return s.State == string(job.Done) || s.State == string(job.Skipped)
}

// hosts are those of a job as parts, in the order in which it comes to them.
func hosts(j job.View) (parts []job.Part) {
	for _, s := range j.Steps {
		name := cmp.Or(s.Host, cluster.HostID("coordinator"))
		at := slices.IndexFunc(parts, func(p job.Part) bool { return p.Name == string(name) })
		if at < 0 {
			at, parts = len(parts), append(parts, job.Part{Name: string(name), State: job.PartWaiting, Unit: "steps"})
		}
		p := &parts[at]
		p.Total++
		switch {
		case isOver(s):
			p.Done++
		case s.State == string(job.Failed) || s.State == string(job.Unknown):
			p.State, p.Note = job.PartFailed, cmp.Or(s.Why, s.Note)
		case s.State == string(job.Running) && p.State != job.PartFailed:
			p.State, p.Note = job.PartRunning, cmp.Or(s.Note, s.ID)
		}
	}
	for i := range parts {
		if parts[i].Done == parts[i].Total {
			parts[i].State = job.PartDone
		}
	}
	return parts
}
