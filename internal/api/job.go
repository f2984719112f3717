package api

import (
	"context"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
	"holdfast/internal/transition/hostconf"
	"holdfast/internal/transition/net"
)

// DrainHost begins to move all guests off a host.
func (c *Client) DrainHost(ctx context.Context, host string) (job.View, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.DrainHost(ctx, &apiv1.DrainHostRequest{Host: host})
	if err != nil {
		return job.View{}, fromWire(ctx, c.target, err)
	}
	return Decode[job.View](resp.GetJob()), nil
}

// RunTransition begins to bring the platform to another version, by the text of a file.
func (c *Client) RunTransition(ctx context.Context, file []byte) (job.View, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.RunTransition(ctx, &apiv1.RunTransitionRequest{File: file})
	if err != nil {
		return job.View{}, fromWire(ctx, c.target, err)
	}
	return Decode[job.View](resp.GetJob()), nil
}

// PlanTransition says what RunTransition would do with the text of a file, or all that is wrong in it.
func (c *Client) PlanTransition(ctx context.Context, file []byte) (transition.Preview, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.PlanTransition(ctx, &apiv1.PlanTransitionRequest{File: file})
	if err != nil {
		return transition.Preview{}, fromWire(ctx, c.target, err)
	}
	return Decode[transition.Preview](resp), nil
}

// Sites asks how the transitions of the clusters of the agent's list stand.
func (c *Client) Sites(ctx context.Context) (transition.Sites, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.ListSites(ctx, &apiv1.ListSitesRequest{})
	if err != nil {
		return transition.Sites{}, fromWire(ctx, c.target, err)
	}
	return Decode[transition.Sites](resp), nil
}

// StepOutput is what a step has said, by the agent of its host.
func (c *Client) StepOutput(ctx context.Context, id, step string) (job.Output, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.GetStepOutput(ctx, &apiv1.GetStepOutputRequest{Job: id, Step: step})
	if err != nil {
		return job.Output{}, fromWire(ctx, c.target, err)
	}
	return Decode[job.Output](resp), nil
}

// CompareFiles compares files of a host with those that it is to have; with keep the host
// keeps these for WriteFiles.
func (c *Client) CompareFiles(ctx context.Context, host cluster.HostID, files []hostconf.File, keep bool) (hostconf.Answer, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.CompareFiles(ctx, &apiv1.CompareFilesRequest{Host: string(host), Keep: keep, Files: Encode[[]*apiv1.HostFile](files)})
	if err != nil {
		return hostconf.Answer{}, fromWire(ctx, c.target, err)
	}
	return Decode[hostconf.Answer](resp), nil
}

// HostPorts tells what a host has of Neutron's ports, which knows it by that name; "": the kernel's name of it.
func (c *Client) HostPorts(ctx context.Context, host cluster.HostID, name string) (*net.Host, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.GetHostPorts(ctx, &apiv1.GetHostPortsRequest{Host: string(host), Name: name})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	h, err := net.ParseHost("the answer of "+string(host), resp.GetPorts())
	if err != nil {
		return nil, fail.Errorf(fail.Failed, "%w", err)
	}
	return h, nil
}

// WriteFiles begins to write files that hosts have kept, or to take that back.
func (c *Client) WriteFiles(ctx context.Context, o hostconf.Order) (job.View, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.WriteFiles(ctx, Encode[*apiv1.WriteFilesRequest](o))
	if err != nil {
		return job.View{}, fromWire(ctx, c.target, err)
	}
	return Decode[job.View](resp.GetJob()), nil
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
	return append([]job.View{}, Decode[[]job.View](resp.GetJobs())...), nil // never nil: programs read it
}

// Job returns one job with its steps.
func (c *Client) Job(ctx context.Context, id string) (job.View, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.GetJob(ctx, &apiv1.GetJobRequest{Id: id})
	if err != nil {
		return job.View{}, fromWire(ctx, c.target, err)
	}
	return Decode[job.View](resp.GetJob()), nil
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
	return Decode[job.View](resp.GetJob()), nil
}

// GuestHosts lists the hosts that report their guests, in the order of their names.
func (c *Client) GuestHosts(ctx context.Context) ([]inventory.Summary, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.ListHosts(ctx, &apiv1.ListHostsRequest{})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	return Decode[[]inventory.Summary](resp.GetHosts()), nil
}

// Guests lists guests of all hosts.
func (c *Client) Guests(ctx context.Context, q inventory.GuestQuery) (inventory.GuestPage, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.jobs.ListGuests(ctx, Encode[*apiv1.ListGuestsRequest](q))
	if err != nil {
		return inventory.GuestPage{}, fromWire(ctx, c.target, err)
	}
	return Decode[inventory.GuestPage](resp), nil
}

// RenewCertificates renews those of a host now, by its own agent, and returns what it
// has then. Some may be renewed when it fails; GuestHosts tells.
func (c *Client) RenewCertificates(ctx context.Context, host string) ([]inventory.Certificate, error) {
	ctx, cancel := within(ctx, renewWithin)
	defer cancel()
	resp, err := c.rpc.RenewCertificates(ctx, &apiv1.RenewCertificatesRequest{Host: host})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	return Decode[[]inventory.Certificate](resp.GetCertificates()), nil
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
