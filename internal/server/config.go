package server

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
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
	in := config.Import{Key: req.IdempotencyKey, Name: req.Name, Text: req.Text, Base: int(req.Base), Check: req.Check, Swap: req.Swap}
	out, err := h.cluster.ImportConfig(ctx, who.user, in)
	if err != nil {
		return nil, fmt.Errorf("import a configuration: %w", err)
	}
	return api.Encode[*apiv1.ImportConfigResponse](out), nil
}

// maxPassword bounds a password, bytes.
const maxPassword = 128

// ResetPassword gives root of the guest another password. It is in no log, no event
// and no error.
func (h *handler) ResetPassword(ctx context.Context, req *apiv1.ResetPasswordRequest) (*apiv1.ResetPasswordResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if p := req.Password; p == "" || len(p) > maxPassword || !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl) {
		return nil, fail.Errorf(fail.Invalid, "password (not shown): want 1 to %d bytes of UTF-8 without control characters", maxPassword)
	}
	if err := checkQuorum("reset the password", h.cluster.Status()); err != nil {
		return nil, err
	}
	r, err := h.cluster.ResetPassword(ctx, who.user, req.Password)
	if err != nil {
		return nil, fmt.Errorf("reset the password: %w", err)
	}
	return api.Encode[*apiv1.ResetPasswordResponse](r), nil
}
