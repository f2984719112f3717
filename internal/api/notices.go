package api

import (
	"context"
	"time"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
)

// testTimeout is of a test of a receiver, whose service may take 20 s.
const testTimeout = 40 * time.Second

// Receivers are who is told of events, and how that goes.
func (c *Client) Receivers(ctx context.Context) ([]cluster.Receiver, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := c.notices.ListNotifications(ctx, &apiv1.ListNotificationsRequest{})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	return Decode[[]cluster.Receiver](r.Receivers), nil
}

// TestReceiver sends a message that says that it is a test from the host that answers, and returns what the service said.
func (c *Client) TestReceiver(ctx context.Context, name string) (said string, err error) {
	ctx, cancel := within(ctx, testTimeout)
	defer cancel()
	r, err := c.notices.TestNotification(ctx, &apiv1.TestNotificationRequest{Name: name})
	if err != nil {
		return "", fromWire(ctx, c.target, err)
	}
	return r.Said, nil
}
