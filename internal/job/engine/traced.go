package engine

import (
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/lib/traces"
)

// toldJob tells a collector of traces, where one is set, of a job that has ended.
func toldJob(j job.Job) {
	why := ""
	if j.Result != "done" {
		why = j.Result + ": " + reason.Text(j.Why...)
	}
	traces.Job(traces.Work{Job: j.ID, Name: "job " + string(j.Kind), Began: j.Began, Ended: j.Changed, Why: why, Facts: []traces.Pair{
		{Name: "holdfast.job.kind", Value: string(j.Kind)}, {Name: "holdfast.job.result", Value: j.Result},
		{Name: "holdfast.user", Value: j.User}}})
}

// toldStep tells of an attempt at a step of a job, which has ended as r says.
func toldStep(k *task, r job.Record, kind string) {
	why := ""
	if r.State != job.Done {
		why = string(r.State) + ": " + r.Why
	}
	undo := ""
	if r.Undo {
		undo = "yes"
	}
	traces.Step(traces.Work{Job: k.job, Name: "step " + kind, Began: r.Began, Ended: r.Ended, Why: why, Facts: []traces.Pair{
		{Name: "holdfast.job.kind", Value: string(k.kind)}, {Name: "holdfast.step", Value: r.Step}, {Name: "holdfast.step.kind", Value: kind},
		{Name: "holdfast.host", Value: string(r.Host)}, {Name: "holdfast.step.undo", Value: undo},
		traces.Number("holdfast.step.attempt", r.Attempt)}})
}
