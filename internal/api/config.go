package api

import (
	"context"

	apiv1 "holdfast/internal/api/v1"
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
		IdempotencyKey: keyOr(in.Key), Name: in.Name, Text: in.Text, Base: int64(in.Base), Check: in.Check,
	})
	if err != nil {
		return config.Imported{}, fromWire(ctx, c.target, err)
	}
	return Decode[config.Imported](resp), nil
}
