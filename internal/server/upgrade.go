package server

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// Upgrades is what the server needs of this host's part in upgrades. All methods
// may be called concurrently. Errors that are the caller's are *fail.Error.
type Upgrades interface {
	// PutBundle takes a bundle in, after checking all of it.
	PutBundle(ctx context.Context, file io.Reader, trust request.Trust) (request.BundleInfo, error)
	// PlanUpgrade plans and begins nothing.
	PlanUpgrade(ctx context.Context, r request.Request) (upgrade.Plan, error)
	// CheckUpgrade looks at all hosts.
	CheckUpgrade(ctx context.Context, r request.Request) (check.Report, error)
	// RunUpgrade begins an upgrade, a rollback or a commit.
	RunUpgrade(ctx context.Context, user string, r request.Request) (request.Begun, error)
	// Upgrade tells how the last upgrade stands.
	Upgrade(ctx context.Context) (request.Standing, error)
	// AdmitHost approves or drops a host.
	AdmitHost(ctx context.Context, user string, host cluster.HostID, drop bool) error
	// ReportUpgrade makes the report of the last upgrade.
	ReportUpgrade(ctx context.Context) (check.Report, error)
}

// upgradeHandler answers the calls about upgrades.
type upgradeHandler struct{ up Upgrades }

// incoming reads the chunks of a stream.
type incoming struct {
	st   *connect.ClientStream[apiv1.PutBundleRequest]
	rest []byte
}

func (r *incoming) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if !r.st.Receive() {
			if err := r.st.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		r.rest = r.st.Msg().GetChunk()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// PutBundle takes a bundle in.
func (h *upgradeHandler) PutBundle(ctx context.Context,
	st *connect.ClientStream[apiv1.PutBundleRequest]) (*apiv1.PutBundleResponse, error) {
	if !st.Receive() {
		return nil, errors.Join(st.Err(), fail.Errorf(fail.Invalid, "bundle: nothing was sent"))
	}
	first := st.Msg()
	b, err := h.up.PutBundle(ctx, &incoming{st, first.GetChunk()},
		request.Trust{Keys: first.GetKeys(), AllowUnsigned: first.GetAllowUnsigned(), Signature: first.GetSignature()})
	if err != nil {
		return nil, err
	}
	return &apiv1.PutBundleResponse{Bundle: api.Encode[*apiv1.BundleInfo](b)}, nil
}

// asked reads a request.
func asked(m *apiv1.UpgradeRequest) (request.Request, error) {
	if m == nil {
		return request.Request{}, fail.Errorf(fail.Invalid, "upgrade request: there is none, or it is of another version than this agent").
			With("use the holdfast command of this agent's version; see: holdfast version")
	}
	return api.Decode[request.Request](m), nil
}

// PlanUpgrade plans.
func (h *upgradeHandler) PlanUpgrade(ctx context.Context, req *apiv1.PlanUpgradeRequest) (*apiv1.PlanUpgradeResponse, error) {
	r, err := asked(req.GetRequest())
	if err != nil {
		return nil, err
	}
	p, err := h.up.PlanUpgrade(ctx, r)
	if err != nil {
		return nil, err
	}
	return &apiv1.PlanUpgradeResponse{Plan: api.Encode[*apiv1.Plan](p)}, nil
}

// CheckUpgrade looks at all hosts.
func (h *upgradeHandler) CheckUpgrade(ctx context.Context, req *apiv1.CheckUpgradeRequest) (*apiv1.CheckUpgradeResponse, error) {
	r, err := asked(req.GetRequest())
	if err != nil {
		return nil, err
	}
	rep, err := h.up.CheckUpgrade(ctx, r)
	if err != nil {
		return nil, err
	}
	return &apiv1.CheckUpgradeResponse{Report: api.Encode[*apiv1.Report](rep)}, nil
}

// RunUpgrade begins an upgrade, a rollback or a commit, in the caller's name.
func (h *upgradeHandler) RunUpgrade(ctx context.Context, req *apiv1.RunUpgradeRequest) (*apiv1.RunUpgradeResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	r, err := asked(req.GetRequest())
	if err != nil {
		return nil, err
	}
	b, err := h.up.RunUpgrade(ctx, who.user, r)
	if err != nil {
		return nil, err
	}
	return api.Encode[*apiv1.RunUpgradeResponse](b), nil
}

// GetUpgrade tells how the last upgrade stands.
func (h *upgradeHandler) GetUpgrade(ctx context.Context, _ *apiv1.GetUpgradeRequest) (*apiv1.GetUpgradeResponse, error) {
	u, err := h.up.Upgrade(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.GetUpgradeResponse{Upgrade: api.Encode[*apiv1.Standing](u)}, nil
}

// AdmitHost approves or drops a host, in the caller's name.
func (h *upgradeHandler) AdmitHost(ctx context.Context, req *apiv1.AdmitHostRequest) (*apiv1.AdmitHostResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.AdmitHostResponse{}, h.up.AdmitHost(ctx, who.user, cluster.HostID(req.GetHost()), req.GetDrop())
}

// ReportUpgrade makes a report.
func (h *upgradeHandler) ReportUpgrade(ctx context.Context, _ *apiv1.ReportUpgradeRequest) (*apiv1.ReportUpgradeResponse, error) {
	rep, err := h.up.ReportUpgrade(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.ReportUpgradeResponse{Report: api.Encode[*apiv1.Report](rep)}, nil
}
