package server

import (
	"context"
	"fmt"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/config"
	"holdfast/internal/fail"
)

// GetConfig returns a configuration of the cluster.
func (h *handler) GetConfig(ctx context.Context, req *apiv1.GetConfigRequest) (*apiv1.GetConfigResponse, error) {
	if req.Number < 0 {
		return nil, fail.Errorf(fail.Invalid, "number %d: want that of a revision, or 0 for the current configuration", req.Number)
	}
	r, err := h.cluster.ReadConfig(ctx, int(req.Number))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return &apiv1.GetConfigResponse{Revision: api.Encode[*apiv1.ConfigRevision](r)}, nil
}

// ListConfigs returns what is kept of the configurations.
func (h *handler) ListConfigs(ctx context.Context, _ *apiv1.ListConfigsRequest) (*apiv1.ListConfigsResponse, error) {
	all, err := h.cluster.Configs(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the configurations: %w", err)
	}
	return &apiv1.ListConfigsResponse{Revisions: api.Encode[[]*apiv1.ConfigRevision](all)}, nil
}

// ImportConfig gives the cluster another configuration, in the caller's name.
func (h *handler) ImportConfig(ctx context.Context, req *apiv1.ImportConfigRequest) (*apiv1.ImportConfigResponse, error) {
	who, err := callerOf(ctx)
	if err == nil {
		err = checkKey(req.IdempotencyKey)
	}
	if err == nil {
		err = checkQuorum("import a configuration", h.cluster.Status())
	}
	if err != nil {
		return nil, err
	}
	in := config.Import{Key: req.IdempotencyKey, Name: req.Name, Text: req.Text, Base: int(req.Base), Check: req.Check}
	out, err := h.cluster.ImportConfig(ctx, who.user, in)
	if err != nil {
		return nil, fmt.Errorf("import a configuration: %w", err)
	}
	return api.Encode[*apiv1.ImportConfigResponse](out), nil
}
