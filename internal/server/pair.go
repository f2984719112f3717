package server

import (
	"context"
	"fmt"
	"io"

	"connectrpc.com/connect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// Pair is the two-node pair that this host belongs to. All methods may be called
// concurrently. Errors that are the caller's are *fail.Error.
type Pair interface {
	// Pair tells the state of the pair.
	Pair(ctx context.Context) (cluster.PairStatus, error)
	// Begin makes this host's copy the one that the pair begins with.
	Begin(ctx context.Context, user string) error
	// Resolve makes this host's copy the one that is kept; keep names this host.
	Resolve(ctx context.Context, user, keep string) error
	// Copy writes a copy of this host's data, of one moment, for the host that asks. Before,
	// it tells about how many bytes will come.
	Copy(ctx context.Context, user string, w io.Writer, about func(bytes int64) error) error
	// Rows reads rows of this host's copy for the host that asks.
	Rows(ctx context.Context, user string, q cluster.RowsQuery) (cluster.RowsPart, error)
	// PeerStatus tells the host that asks what this one has of the store of two voters. It does not
	// need the store.
	PeerStatus(user string) (cluster.PeerStatus, error)
	// AddPartition makes a file system beside the data, on the node that serves.
	AddPartition(ctx context.Context, user string, in cluster.PartitionOrder) error
	// RemovePartition takes it away; left are nodes that do so when they are back.
	RemovePartition(ctx context.Context, user, name string) (left []string, err error)
}

// pairHandler answers calls about the pair.
type pairHandler struct{ pair Pair }

// GetPair tells the state of the pair.
func (h *pairHandler) GetPair(ctx context.Context, _ *apiv1.GetPairRequest) (*apiv1.GetPairResponse, error) {
	st, err := h.pair.Pair(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.GetPairResponse{Pair: api.Encode[*apiv1.PairStatus](st)}, nil
}

// BeginPair begins with this host's copy.
func (h *pairHandler) BeginPair(ctx context.Context, _ *apiv1.BeginPairRequest) (*apiv1.BeginPairResponse, error) {
	who, err := callerOf(ctx)
	if err == nil {
		err = h.pair.Begin(ctx, who.user)
	}
	if err != nil {
		return nil, fmt.Errorf("begin the pair: %w", err)
	}
	return &apiv1.BeginPairResponse{}, nil
}

// ResolvePair keeps this host's copy.
func (h *pairHandler) ResolvePair(ctx context.Context, r *apiv1.ResolvePairRequest) (*apiv1.ResolvePairResponse, error) {
	who, err := callerOf(ctx)
	if err == nil {
		err = h.pair.Resolve(ctx, who.user, r.GetKeep())
	}
	if err != nil {
		return nil, fmt.Errorf("choose the copy that is kept: %w", err)
	}
	return &apiv1.ResolvePairResponse{}, nil
}

// AddPartition makes a file system beside the data.
func (h *pairHandler) AddPartition(ctx context.Context, r *apiv1.AddPartitionRequest) (*apiv1.AddPartitionResponse, error) {
	who, err := callerOf(ctx)
	if err == nil {
		err = h.pair.AddPartition(ctx, who.user, cluster.PartitionOrder{Name: r.GetName(), Disk: r.GetDisk(), Mount: r.GetMount()})
	}
	if err != nil {
		return nil, fmt.Errorf("add the partition: %w", err)
	}
	return &apiv1.AddPartitionResponse{}, nil
}

// RemovePartition takes it away.
func (h *pairHandler) RemovePartition(ctx context.Context, r *apiv1.RemovePartitionRequest) (*apiv1.RemovePartitionResponse, error) {
	who, err := callerOf(ctx)
	var left []string
	if err == nil {
		left, err = h.pair.RemovePartition(ctx, who.user, r.GetName())
	}
	if err != nil {
		return nil, fmt.Errorf("remove the partition: %w", err)
	}
	return &apiv1.RemovePartitionResponse{Left: left}, nil
}

// GetCopy sends a copy of this host's data.
func (h *agentHandler) GetCopy(ctx context.Context, _ *apiv1.GetCopyRequest, out *connect.ServerStream[apiv1.GetCopyResponse]) error {
	if h.pair == nil {
		return fail.Errorf(fail.Refused, "this host belongs to no pair")
	}
	who, err := callerOf(ctx)
	if err == nil {
		to := chunks(func(b []byte) error { return out.Send(&apiv1.GetCopyResponse{Chunk: b}) })
		err = h.pair.Copy(ctx, who.user, to, func(bytes int64) error { return out.Send(&apiv1.GetCopyResponse{About: bytes}) })
	}
	if err != nil {
		return fmt.Errorf("copy the data: %w", err)
	}
	return nil
}

// GetRows reads rows of this host's copy.
func (h *agentHandler) GetRows(ctx context.Context, req *apiv1.GetRowsRequest) (*apiv1.GetRowsResponse, error) {
	if h.pair == nil {
		return nil, fail.Errorf(fail.Refused, "this host belongs to no pair")
	}
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	p, err := h.pair.Rows(ctx, who.user, api.Decode[cluster.RowsQuery](req.GetQuery()))
	if err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	return &apiv1.GetRowsResponse{Part: api.Encode[*apiv1.RowsPart](p)}, nil
}

// GetPeerStatus tells what this host has of the store.
func (h *agentHandler) GetPeerStatus(ctx context.Context, _ *apiv1.GetPeerStatusRequest) (*apiv1.GetPeerStatusResponse, error) {
	if h.pair == nil {
		return nil, fail.Errorf(fail.Refused, "this host belongs to no pair")
	}
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	w, err := h.pair.PeerStatus(who.user)
	if err != nil {
		return nil, fmt.Errorf("tell of the store: %w", err)
	}
	return &apiv1.GetPeerStatusResponse{Status: api.Encode[*apiv1.PeerStatus](w)}, nil
}

// chunks sends what is written, in parts that a message takes.
type chunks func(part []byte) error

func (c chunks) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		part := b[:min(len(b), api.Chunk)]
		if err := c(part); err != nil {
			return n, err
		}
		n, b = n+len(part), b[len(part):]
	}
	return n, nil
}
