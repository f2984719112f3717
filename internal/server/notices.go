package server

import (
	"context"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
)

// Notices tell receivers of events. All methods may be called concurrently. Errors that are the caller's are *fail.Error.
type Notices interface {
	Receivers(ctx context.Context) ([]cluster.Receiver, error)
	// Test sends a message to a receiver from this host, and returns what the service said.
	Test(ctx context.Context, user, name string) (said string, err error)
}

// noticesHandler answers calls about receivers of events.
type noticesHandler struct{ notices Notices }

// ListNotifications tells all receivers.
func (h *noticesHandler) ListNotifications(ctx context.Context,
	_ *apiv1.ListNotificationsRequest) (*apiv1.ListNotificationsResponse, error) {
	all, err := h.notices.Receivers(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.ListNotificationsResponse{Receivers: api.Encode[[]*apiv1.Receiver](all)}, nil
}

// TestNotification sends a message that says that it is a test.
func (h *noticesHandler) TestNotification(ctx context.Context,
	req *apiv1.TestNotificationRequest) (*apiv1.TestNotificationResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	said, err := h.notices.Test(ctx, who.user, req.Name)
	if err != nil {
		return nil, err
	}
	return &apiv1.TestNotificationResponse{Said: said}, nil
}
