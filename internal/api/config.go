package api

import (
	"context"
	"time"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
)

// Config returns the cluster's configuration of a number; 0: the current one.
func (c *Client) Config(ctx context.Context, number int) (config.Revision, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.rpc.GetConfig(ctx, &apiv1.GetConfigRequest{Number: int64(number)})
	if err != nil {
		return config.Revision{}, fromWire(ctx, c.target, err)
	}
	return Decode[config.Revision](resp.Revision), nil
}

// Configs returns what is kept of the configurations, newest first, without their
// text.
func (c *Client) Configs(ctx context.Context) ([]config.Revision, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.rpc.ListConfigs(ctx, &apiv1.ListConfigsRequest{})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	return Decode[[]config.Revision](resp.Revisions), nil
}

// ImportConfig gives the cluster another configuration, or says what that would do.
// Keys as with Start.
func (c *Client) ImportConfig(ctx context.Context, in config.Import) (config.Imported, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.rpc.ImportConfig(ctx, &apiv1.ImportConfigRequest{
		IdempotencyKey: keyOr(in.Key), Name: in.Name, Text: in.Text, Base: int64(in.Base), Check: in.Check, Swap: in.Swap,
	})
	if err != nil {
		return config.Imported{}, fromWire(ctx, c.target, err)
	}
	return Decode[config.Imported](resp), nil
}

// ResetPassword gives root of the management VM another password, and tells where.
func (c *Client) ResetPassword(ctx context.Context, password string) (cluster.Reset, error) {
	ctx, cancel := within(ctx, resetTimeout)
	defer cancel()
	resp, err := c.rpc.ResetPassword(ctx, &apiv1.ResetPasswordRequest{Password: password})
	if err != nil {
		return cluster.Reset{}, fromWire(ctx, c.target, err)
	}
	return Decode[cluster.Reset](resp), nil
}

// resetTimeout is longer than an agent waits for the guest's agent and for another
// host's.
const resetTimeout = 20 * time.Second
