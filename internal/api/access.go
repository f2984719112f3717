package api

import (
	"context"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
)

// Users are those of the console.
func (c *Client) Users(ctx context.Context) ([]cluster.User, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := c.access.ListUsers(ctx, &apiv1.ListUsersRequest{})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	return Decode[[]cluster.User](r.Users), nil
}

// SetUser makes a user, or gives one another role or password; a one-time password is returned.
func (c *Client) SetUser(ctx context.Context, x cluster.UserChange) (u cluster.User, password string, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := c.access.SetUser(ctx, &apiv1.SetUserRequest{Name: x.Name, Role: string(x.Role),
		NewPassword: x.NewPassword, Password: x.Password})
	if err != nil {
		return u, "", fromWire(ctx, c.target, err)
	}
	return Decode[cluster.User](r.User), r.Password, nil
}

// RemoveUser ends a user and his sessions.
func (c *Client) RemoveUser(ctx context.Context, name string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := c.access.RemoveUser(ctx, &apiv1.RemoveUserRequest{Name: name})
	return fromWire(ctx, c.target, err)
}

// Tokens are those of programs.
func (c *Client) Tokens(ctx context.Context) ([]cluster.Token, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := c.access.ListTokens(ctx, &apiv1.ListTokensRequest{})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	return Decode[[]cluster.Token](r.Tokens), nil
}

// CreateToken makes a token for some days. The secret is told once.
func (c *Client) CreateToken(ctx context.Context, name string, role cluster.Role, days int) (t cluster.Token, secret string, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := c.access.CreateToken(ctx, &apiv1.CreateTokenRequest{Name: name, Role: string(role), Days: int32(days)})
	if err != nil {
		return t, "", fromWire(ctx, c.target, err)
	}
	return Decode[cluster.Token](r.Token), r.Secret, nil
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := c.access.RevokeToken(ctx, &apiv1.RevokeTokenRequest{Id: id})
	return fromWire(ctx, c.target, err)
}
