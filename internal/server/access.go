package server

import (
	"context"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
)

// Access has the users and tokens. All methods may be called concurrently. Errors that are the caller's are *fail.Error.
type Access interface {
	Users(ctx context.Context) ([]cluster.User, error)
	// SetUser makes a user or changes one, by the password that was chosen, or by a one-time one where one is needed, which
	// it returns.
	SetUser(ctx context.Context, by string, c cluster.UserChange) (password string, err error)
	User(name string) (cluster.User, bool)
	RemoveUser(ctx context.Context, by, name string) error
	Tokens(ctx context.Context) ([]cluster.Token, error)
	CreateToken(ctx context.Context, by, note string, role cluster.Role, days int) (t cluster.Token, secret string, err error)
	RevokeToken(ctx context.Context, by, id string) error
}

// accessHandler answers calls about users and tokens.
type accessHandler struct{ access Access }

// ListUsers tells all users.
func (h *accessHandler) ListUsers(ctx context.Context, _ *apiv1.ListUsersRequest) (*apiv1.ListUsersResponse, error) {
	all, err := h.access.Users(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.ListUsersResponse{Users: api.Encode[[]*apiv1.User](all)}, nil
}

// SetUser makes a user, or changes one.
func (h *accessHandler) SetUser(ctx context.Context, req *apiv1.SetUserRequest) (*apiv1.SetUserResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	password, err := h.access.SetUser(ctx, who.user,
		cluster.UserChange{Name: req.Name, Role: cluster.Role(req.Role), NewPassword: req.NewPassword, Password: req.Password})
	if err != nil {
		return nil, err
	}
	u, _ := h.access.User(req.Name)
	return &apiv1.SetUserResponse{User: api.Encode[*apiv1.User](u), Password: password}, nil
}

// RemoveUser ends a user.
func (h *accessHandler) RemoveUser(ctx context.Context, req *apiv1.RemoveUserRequest) (*apiv1.RemoveUserResponse, error) {
	who, err := callerOf(ctx)
	if err == nil {
		err = h.access.RemoveUser(ctx, who.user, req.Name)
	}
	return &apiv1.RemoveUserResponse{}, err
}

// ListTokens tells all tokens.
func (h *accessHandler) ListTokens(ctx context.Context, _ *apiv1.ListTokensRequest) (*apiv1.ListTokensResponse, error) {
	all, err := h.access.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.ListTokensResponse{Tokens: api.Encode[[]*apiv1.Token](all)}, nil
}

// CreateToken makes a token.
func (h *accessHandler) CreateToken(ctx context.Context, req *apiv1.CreateTokenRequest) (*apiv1.CreateTokenResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	t, secret, err := h.access.CreateToken(ctx, who.user, req.Name, cluster.Role(req.Role), int(req.Days))
	if err != nil {
		return nil, err
	}
	return &apiv1.CreateTokenResponse{Token: api.Encode[*apiv1.Token](t), Secret: secret}, nil
}

// RevokeToken ends a token.
func (h *accessHandler) RevokeToken(ctx context.Context, req *apiv1.RevokeTokenRequest) (*apiv1.RevokeTokenResponse, error) {
	who, err := callerOf(ctx)
	if err == nil {
		err = h.access.RevokeToken(ctx, who.user, req.Id)
	}
	return &apiv1.RevokeTokenResponse{}, err
}
