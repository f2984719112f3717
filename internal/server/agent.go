package server

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory/fact"
)

// Agents is what other agents ask of this one. All methods may be called concurrently.
// Errors that are the caller's are *fail.Error.
type Agents interface {
	// OpenBundle reads the file of a bundle from an offset on; size is that of the
	// whole file.
	OpenBundle(sha256 string, offset int64) (file io.ReadCloser, size int64, err error)
	// GatherFacts looks at this host.
	GatherFacts(ctx context.Context, w fact.Wanted) (fact.Facts, error)
	// SendGuest moves a guest of this host to another one, over the network (a CIDR, ""
	// for any) when that has an address in it.
	SendGuest(ctx context.Context, uuid, name string, to cluster.HostID, network string) error
	// Awaits refuses a guest that no job has host to bring back to itself. It is asked of
	// callers that are limited.
	Awaits(ctx context.Context, to cluster.HostID, uuid string) error
}

// agentHandler answers the calls of other agents.
type agentHandler struct {
	agents       Agents
	certificates Certificates // nil: it signs none
	pair         Pair         // nil: this host belongs to none
	screensHere
}

// GetBundle sends the file of a bundle.
func (h *agentHandler) GetBundle(_ context.Context, req *apiv1.GetBundleRequest,
	out *connect.ServerStream[apiv1.GetBundleResponse]) (err error) {
	f, size, err := h.agents.OpenBundle(req.GetSha256(), req.GetOffset())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := out.Send(&apiv1.GetBundleResponse{Size: size}); err != nil {
		return err
	}
	buf := make([]byte, api.Chunk)
	for {
		n, rerr := api.ReadChunk(f, buf)
		if n > 0 {
			if err := out.Send(&apiv1.GetBundleResponse{Chunk: buf[:n]}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(rerr, io.EOF):
			return nil
		case rerr != nil:
			return rerr
		}
	}
}

// GatherFacts looks at this host.
func (h *agentHandler) GatherFacts(ctx context.Context, req *apiv1.GatherFactsRequest) (*apiv1.GatherFactsResponse, error) {
	f, err := h.agents.GatherFacts(ctx, api.Decode[fact.Wanted](req))
	if err != nil {
		return nil, err
	}
	return &apiv1.GatherFactsResponse{Facts: api.Encode[*apiv1.Facts](f)}, nil
}

// SendGuest moves a guest away.
func (h *agentHandler) SendGuest(ctx context.Context, req *apiv1.SendGuestRequest) (*apiv1.SendGuestResponse, error) {
	to := cluster.HostID(req.GetTo())
	limited, err := mayHave(ctx, to)
	if err == nil && limited {
		err = h.agents.Awaits(ctx, to, req.GetUuid())
	}
	if err != nil {
		return nil, err
	}
	return &apiv1.SendGuestResponse{}, h.agents.SendGuest(ctx, req.GetUuid(), req.GetName(), to, req.GetNetwork())
}
