package api

import (
	"context"
	"time"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
)

// JobToProto makes the wire form.
func JobToProto(j job.View) *apiv1.Job {
	m := &apiv1.Job{
		Id: text(j.ID), Kind: text(j.Kind), Title: text(j.Title), User: text(j.User), State: text(j.State), Result: text(j.Result),
		Why: text(j.Why), BeganNs: timeToProto(j.Began), ChangedNs: timeToProto(j.Changed),
	}
	for _, s := range j.Steps {
		m.Steps = append(m.Steps, &apiv1.JobStep{
			Id: text(s.ID), Host: text(s.Host), Kind: text(s.Kind), State: text(s.State), Attempt: int64(s.Attempt), Percent: int64(s.Percent),
			Note: text(s.Note), Why: text(s.Why), Tail: text(s.Tail), Exit: int64(s.Exit), By: text(s.By),
			BeganNs: timeToProto(s.Began), EndedNs: timeToProto(s.Ended),
		})
	}
	for _, w := range j.Waits {
		m.Waits = append(m.Waits, text(w))
	}
	return m
}

func jobFromProto(m *apiv1.Job) job.View {
	j := job.View{
		ID: m.GetId(), Kind: m.GetKind(), Title: m.GetTitle(), User: m.GetUser(), State: m.GetState(), Result: m.GetResult(),
		Why: m.GetWhy(), Began: timeFromProto(m.GetBeganNs()), Changed: timeFromProto(m.GetChangedNs()), Waits: m.GetWaits(),
	}
	for _, s := range m.GetSteps() {
		j.Steps = append(j.Steps, job.StepView{
			ID: s.GetId(), Host: cluster.HostID(s.GetHost()), Kind: s.GetKind(), State: s.GetState(), Attempt: int(s.GetAttempt()),
			Percent: int(s.GetPercent()), Note: s.GetNote(), Why: s.GetWhy(), Tail: s.GetTail(), Exit: int(s.GetExit()), By: s.GetBy(),
			Began: timeFromProto(s.GetBeganNs()), Ended: timeFromProto(s.GetEndedNs()),
		})
	}
	return j
}

// DrainHost begins to move all guests off a host.
func (c *Client) DrainHost(ctx context.Context, host string) (job.View, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.DrainHost(ctx, &apiv1.DrainHostRequest{Host: host})
	if err != nil {
		return job.View{}, fromWire(ctx, c.target, err)
	}
	return jobFromProto(resp.GetJob()), nil
}

// Jobs lists the jobs that run and the last that ran, newest first, without
// their steps.
func (c *Client) Jobs(ctx context.Context) ([]job.View, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.ListJobs(ctx, &apiv1.ListJobsRequest{})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	jobs := []job.View{}
	for _, m := range resp.GetJobs() {
		jobs = append(jobs, jobFromProto(m))
	}
	return jobs, nil
}

// Job returns one job with its steps.
func (c *Client) Job(ctx context.Context, id string) (job.View, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.GetJob(ctx, &apiv1.GetJobRequest{Id: id})
	if err != nil {
		return job.View{}, fromWire(ctx, c.target, err)
	}
	return jobFromProto(resp.GetJob()), nil
}

// CommandJob gives a job, or one of its steps, an order: pause, resume, retry,
// skip, abort.
func (c *Client) CommandJob(ctx context.Context, id, command, step, reason string) (job.View, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.CommandJob(ctx, &apiv1.CommandJobRequest{Id: id, Command: command, Step: step, Reason: reason})
	if err != nil {
		return job.View{}, fromWire(ctx, c.target, err)
	}
	return jobFromProto(resp.GetJob()), nil
}

// HostToProto makes the wire form.
func HostToProto(h inventory.Summary) *apiv1.GuestHost {
	return &apiv1.GuestHost{
		Name: text(h.Name), Addr: text(h.Addr), Agent: text(h.Agent), Up: h.Up, SilentNs: h.Silent.Nanoseconds(),
		Guests: int64(h.Guests), Problem: text(h.Problem),
	}
}

// GuestHosts lists the hosts that report their guests, in the order of their names.
func (c *Client) GuestHosts(ctx context.Context) ([]inventory.Summary, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.ListHosts(ctx, &apiv1.ListHostsRequest{})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	var out []inventory.Summary
	for _, m := range resp.GetHosts() {
		out = append(out, inventory.Summary{
			Name: cluster.HostID(m.GetName()), Addr: m.GetAddr(), Agent: m.GetAgent(), Up: m.GetUp(), Silent: time.Duration(m.GetSilentNs()),
			Guests: int(m.GetGuests()), Problem: m.GetProblem(),
		})
	}
	return out, nil
}

// ForgetHost removes what is known of a host that is gone for good; with force also
// when it is not known whether guests that were moved from or to it run.
func (c *Client) ForgetHost(ctx context.Context, host string, force bool) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if _, err := c.jobs.ForgetHost(ctx, &apiv1.ForgetHostRequest{Host: host, Force: force}); err != nil {
		return fromWire(ctx, c.target, err)
	}
	return nil
}
