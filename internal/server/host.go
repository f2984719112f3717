package server

import (
	"context"
	"io"

	"connectrpc.com/connect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// Aid is what helps those who look for a fault on a host. All methods may be called concurrently. Errors that are the
// caller's are *fail.Error.
type Aid interface {
	// HostLog tells lines of the log of a host's agent, without secrets.
	HostLog(ctx context.Context, q cluster.LogQuery) (cluster.HostLog, error)
	// Report has a host make its archive for those who help, with the logs of some days, and writes it.
	Report(ctx context.Context, host cluster.HostID, days int, to io.Writer) error
}

// hostHandler answers what is asked of one host.
type hostHandler struct {
	cluster Cluster
	aid     Aid // nil: there is none
}

// errNoAid is for a host that has none.
var errNoAid = fail.Errorf(fail.Refused, "this agent tells nothing of its host")

// GetHostLog tells lines of a log.
func (h *hostHandler) GetHostLog(ctx context.Context, req *apiv1.GetHostLogRequest) (*apiv1.GetHostLogResponse, error) {
	if h.aid == nil {
		return nil, errNoAid
	}
	l, err := h.aid.HostLog(ctx, api.Decode[cluster.LogQuery](req))
	if err != nil {
		return nil, err
	}
	return &apiv1.GetHostLogResponse{Log: api.Encode[*apiv1.HostLog](l)}, nil
}

// TestFence asks fence devices for their state.
func (h *hostHandler) TestFence(ctx context.Context, req *apiv1.TestFenceRequest) (*apiv1.TestFenceResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	t, err := h.cluster.TestFence(ctx, who.user, cluster.HostID(req.Host))
	if err != nil {
		return nil, err
	}
	return &apiv1.TestFenceResponse{Test: api.Encode[*apiv1.FenceTest](t)}, nil
}

// maxReportDays bounds the days whose logs are taken.
const (
	maxReportDays = 365
	reportDays    = 7
)

// GetReport sends an archive.
func (h *hostHandler) GetReport(ctx context.Context, req *apiv1.GetReportRequest,
	out *connect.ServerStream[apiv1.GetReportResponse]) error {
	days := int(req.Days)
	if days == 0 {
		days = reportDays
	}
	switch {
	case h.aid == nil:
		return errNoAid
	case days < 1 || days > maxReportDays:
		return fail.Errorf(fail.Invalid, "days: value %d: want 1 to %d", days, maxReportDays)
	}
	return h.aid.Report(ctx, cluster.HostID(req.Host), days,
		chunks(func(b []byte) error { return out.Send(&apiv1.GetReportResponse{Chunk: b}) }))
}
