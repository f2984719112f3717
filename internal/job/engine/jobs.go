package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
)

// Jobs answers for the jobs of all tools.
type Jobs struct {
	Store    store.Store
	Planners map[job.Kind]func(plan []byte) (job.Planner, error)
}

// List returns the jobs that run and the last that ran, newest first.
func (a Jobs) List(ctx context.Context) ([]job.View, error) {
	jobs, err := List(ctx, a.Store)
	if err != nil {
		return nil, err
	}
	out := make([]job.View, 0, len(jobs))
	for _, j := range jobs {
		out = append(out, Shown(j))
	}
	return out, nil
}

// Get returns one job with its steps, in the order of the plan.
func (a Jobs) Get(ctx context.Context, id string) (job.View, error) {
	j, err := Load(ctx, a.Store, id)
	if err != nil {
		return job.View{}, Explain(err)
	}
	planner := a.Planners[j.Job.Kind]
	if planner == nil {
		return job.View{}, fmt.Errorf("job %s: its kind %q is not known here", id, j.Job.Kind)
	}
	p, err := planner(j.Plan)
	if err != nil {
		return job.View{}, fmt.Errorf("read the plan of %s: %w", id, err)
	}
	out := Shown(j.Job)
	out.Wait(j.Waits)
	leaves := func(job.Step) bool { return false }
	if l, ok := p.(job.Leaver); ok {
		leaves = l.Leaves(j.Job)
	}
	for _, st := range p.Steps() {
		out.Steps = append(out.Steps, ShownStep(j.Job, st, j.Records[st.ID], leaves(st)))
	}
	return out, nil
}

// Order gives a job or one of its steps an order.
func (a Jobs) Order(ctx context.Context, user, id, command, step, reason string) (job.View, error) {
	j, err := Command(ctx, a.Store, Order{Job: id, Command: job.Command(command), Step: step, User: user,
		Reason: reason, Now: time.Now().UTC()})
	if err != nil {
		if step != "" && errors.Is(err, ErrRefused) {
			all, failed := a.Get(ctx, id)
			if failed == nil && !slices.ContainsFunc(all.Steps, func(s job.StepView) bool { return s.ID == step }) {
				return job.View{}, fail.Errorf(fail.Invalid, "%s: %s has no step %q", command, id,
					step).With("its steps are listed by: holdfast jobs show " + id)
			}
		}
		return job.View{}, Explain(err)
	}
	return Shown(j), nil // its steps may be more than an answer holds
}

// Shown is a job without its steps.
func Shown(j job.Job) job.View {
	return job.View{
		ID: j.ID, Kind: string(j.Kind), Title: j.Title, User: j.User, State: string(j.State), Result: j.Result,
		Why: reason.Text(j.Why...), WhyCodes: j.Why,
		Began: j.Began, Changed: j.Changed,
	}
}

// ShownStep is a step with its record. One that was left out is not waited for, nor is any
// after the end of the job: that it runs is only the last that was heard of it then.
func ShownStep(j job.Job, st job.Step, r job.Record, left bool) job.StepView {
	step := job.StepView{
		ID: st.ID, Host: st.Host, Kind: st.Kind, State: string(r.State), Attempt: r.Attempt, Percent: r.Percent, Note: r.Note,
		Why: r.Why, Tail: r.Tail, Said: r.Said, Exit: r.Exit, By: r.By, Began: r.Began, Ended: r.Ended,
	}
	switch {
	case left && !r.State.Over() && !r.State.Stuck():
		step.State = job.Dropped
	case isOpen(r.State) && j.State == job.Ended:
		step.State = string(job.Unknown)
	case r.State == job.Pending:
		step.State = "pending"
	}
	return step
}

// Explain gives errors of the engine the kind that callers act on.
func Explain(err error) error {
	switch {
	case errors.Is(err, ErrNoJob):
		return fail.Errorf(fail.Invalid, "%w", err).With("the jobs are listed by: holdfast jobs list")
	case errors.Is(err, ErrBusy), errors.Is(err, ErrRefused):
		return fail.Errorf(fail.Refused, "%w", err)
	}
	return err
}
