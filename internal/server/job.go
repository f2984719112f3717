package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
	"holdfast/internal/transition/hostconf"
	"holdfast/internal/transition/net"
)

// Jobs is what the server needs of this host's part in jobs. All methods may be
// called concurrently. Errors that are the caller's are *fail.Error.
type Jobs interface {
	// DrainHost begins to empty a host.
	DrainHost(ctx context.Context, user string, host cluster.HostID) (job.View, error)
	// RunTransition begins to bring the platform to another version, by the text of a file.
	RunTransition(ctx context.Context, user string, file []byte) (job.View, error)
	// PlanTransition says what a run would do with the text of a file, or all that is wrong in it.
	PlanTransition(ctx context.Context, file []byte) (transition.Preview, error)
	// Sites asks the clusters of this host's list how their transitions stand.
	Sites(ctx context.Context) (transition.Sites, error)
	// StepOutput is what a step has said, by the agent of its host.
	StepOutput(ctx context.Context, id, step string) (job.Output, error)
	// CompareFiles compares files of a host with those that it is to have; with keep the
	// host keeps these for WriteFiles.
	CompareFiles(ctx context.Context, host cluster.HostID, files []hostconf.File, keep bool) (hostconf.Answer, error)
	// HostPorts tells what a host has of Neutron's ports, which knows it by that name; "": the kernel's.
	HostPorts(ctx context.Context, host cluster.HostID, name string) (*net.Host, error)
	// WriteFiles begins to write files that hosts have kept, or to take that back.
	WriteFiles(ctx context.Context, user string, o hostconf.Order) (job.View, error)
	// Hosts lists the hosts that report, in the order of their names.
	Hosts(ctx context.Context) ([]inventory.Summary, error)
	// Guests lists those of the guests of all hosts that are asked for.
	Guests(ctx context.Context, q inventory.GuestQuery) (inventory.GuestPage, error)
	// Forget removes what is known of a host that is gone for good; with force also
	// when it is not known whether guests that were moved from or to it run.
	Forget(ctx context.Context, user string, host cluster.HostID, force bool) error
	// List returns the jobs that run and the last that ran, newest first.
	List(ctx context.Context) ([]job.View, error)
	// Get returns one job with its steps.
	Get(ctx context.Context, id string) (job.View, error)
	// Order gives a job or one of its steps an order.
	Order(ctx context.Context, user, id, command, step, reason string) (job.View, error)
}

// jobHandler answers the calls about jobs.
type jobHandler struct{ jobs Jobs }

// maxReason bounds the reason of a skip, bytes.
const maxReason = 500

// DrainHost begins to empty a host, in the caller's name.
func (h *jobHandler) DrainHost(ctx context.Context, req *apiv1.DrainHostRequest) (*apiv1.DrainHostResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	j, err := h.jobs.DrainHost(ctx, who.user, cluster.HostID(req.Host))
	if err != nil {
		return nil, fmt.Errorf("drain host %s: %w", req.Host, err)
	}
	return &apiv1.DrainHostResponse{Job: api.Encode[*apiv1.Job](j)}, nil
}

// RunTransition begins a transition, in the caller's name.
func (h *jobHandler) RunTransition(ctx context.Context, req *apiv1.RunTransitionRequest) (*apiv1.RunTransitionResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	j, err := h.jobs.RunTransition(ctx, who.user, req.File)
	if err != nil {
		return nil, fmt.Errorf("begin a transition: %w", err)
	}
	return &apiv1.RunTransitionResponse{Job: api.Encode[*apiv1.Job](j)}, nil
}

// PlanTransition says what a run would do.
func (h *jobHandler) PlanTransition(ctx context.Context, req *apiv1.PlanTransitionRequest) (*apiv1.PlanTransitionResponse, error) {
	p, err := h.jobs.PlanTransition(ctx, req.File)
	if err != nil {
		return nil, fmt.Errorf("plan a transition: %w", err)
	}
	return api.Encode[*apiv1.PlanTransitionResponse](p), nil
}

// ListSites tells how the transitions of other clusters stand.
func (h *jobHandler) ListSites(ctx context.Context, _ *apiv1.ListSitesRequest) (*apiv1.ListSitesResponse, error) {
	s, err := h.jobs.Sites(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the sites: %w", err)
	}
	return api.Encode[*apiv1.ListSitesResponse](s), nil
}

// GetStepOutput tells what a step has said.
func (h *jobHandler) GetStepOutput(ctx context.Context, req *apiv1.GetStepOutputRequest) (*apiv1.GetStepOutputResponse, error) {
	o, err := h.jobs.StepOutput(ctx, req.Job, req.Step)
	if err != nil {
		return nil, fmt.Errorf("read what step %s has said: %w", req.Step, err)
	}
	return api.Encode[*apiv1.GetStepOutputResponse](o), nil
}

// CompareFiles compares files of a host.
func (h *jobHandler) CompareFiles(ctx context.Context, req *apiv1.CompareFilesRequest) (*apiv1.CompareFilesResponse, error) {
	a, err := h.jobs.CompareFiles(ctx, cluster.HostID(req.Host), api.Decode[[]hostconf.File](req.Files), req.Keep)
	if err != nil {
		return nil, fmt.Errorf("compare the files of %s: %w", req.Host, err)
	}
	return api.Encode[*apiv1.CompareFilesResponse](a), nil
}

// GetHostPorts tells what a host has of Neutron's ports.
func (h *jobHandler) GetHostPorts(ctx context.Context, req *apiv1.GetHostPortsRequest) (*apiv1.GetHostPortsResponse, error) {
	p, err := h.jobs.HostPorts(ctx, cluster.HostID(req.Host), req.Name)
	if err != nil {
		return nil, fmt.Errorf("look at the ports of %s: %w", req.Host, err)
	}
	ports, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("tell the ports of %s: %w", req.Host, err)
	}
	return &apiv1.GetHostPortsResponse{Ports: ports}, nil
}

// WriteFiles begins to write files of hosts, in the caller's name.
func (h *jobHandler) WriteFiles(ctx context.Context, req *apiv1.WriteFilesRequest) (*apiv1.WriteFilesResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if len(req.Title) > maxReason {
		return nil, fail.Errorf(fail.Invalid, "title: %d bytes: want at most %d", len(req.Title), maxReason)
	}
	j, err := h.jobs.WriteFiles(ctx, who.user, api.Decode[hostconf.Order](req))
	if err != nil {
		return nil, fmt.Errorf("write files of hosts: %w", err)
	}
	return &apiv1.WriteFilesResponse{Job: api.Encode[*apiv1.Job](j)}, nil
}

// ListHosts lists the hosts that report.
func (h *jobHandler) ListHosts(ctx context.Context, _ *apiv1.ListHostsRequest) (*apiv1.ListHostsResponse, error) {
	hosts, err := h.jobs.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.ListHostsResponse{Hosts: api.Encode[[]*apiv1.GuestHost](hosts)}, nil
}

// ListGuests lists guests.
func (h *jobHandler) ListGuests(ctx context.Context, req *apiv1.ListGuestsRequest) (*apiv1.ListGuestsResponse, error) {
	q := api.Decode[inventory.GuestQuery](req)
	if err := q.Check(); err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	page, err := h.jobs.Guests(ctx, q)
	if err != nil {
		return nil, err
	}
	return api.Encode[*apiv1.ListGuestsResponse](page), nil
}

// ForgetHost removes what is known of a host, in the caller's name.
func (h *jobHandler) ForgetHost(ctx context.Context, req *apiv1.ForgetHostRequest) (*apiv1.ForgetHostResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.jobs.Forget(ctx, who.user, cluster.HostID(req.Host), req.Force); err != nil {
		return nil, fmt.Errorf("forget host %s: %w", req.Host, err)
	}
	return &apiv1.ForgetHostResponse{}, nil
}

// ListJobs lists the jobs.
func (h *jobHandler) ListJobs(ctx context.Context, _ *apiv1.ListJobsRequest) (*apiv1.ListJobsResponse, error) {
	jobs, err := h.jobs.List(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.ListJobsResponse{Jobs: api.Encode[[]*apiv1.Job](jobs)}, nil
}

// GetJob returns one job.
func (h *jobHandler) GetJob(ctx context.Context, req *apiv1.GetJobRequest) (*apiv1.GetJobResponse, error) {
	j, err := h.jobs.Get(ctx, req.Id)
	if err != nil {
		return nil, err
	}
	return &apiv1.GetJobResponse{Job: api.Encode[*apiv1.Job](j)}, nil
}

// CommandJob passes an order on, in the caller's name.
func (h *jobHandler) CommandJob(ctx context.Context, req *apiv1.CommandJobRequest) (*apiv1.CommandJobResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	orders := []string{"pause", "resume", "retry", "skip", "abort"}
	if !slices.Contains(orders, req.Command) {
		return nil, fail.Errorf(fail.Invalid, "command %.70q: want one of %s", req.Command, strings.Join(orders, ", "))
	}
	if len(req.Reason) > maxReason {
		return nil, fail.Errorf(fail.Invalid, "reason of %d bytes: want at most %d", len(req.Reason), maxReason)
	}
	j, err := h.jobs.Order(ctx, who.user, req.Id, req.Command, req.Step, req.Reason)
	if err != nil {
		return nil, err
	}
	return &apiv1.CommandJobResponse{Job: api.Encode[*apiv1.Job](j)}, nil
}
