package rebuild

import (
	"context"

	"github.com/gophercloud/gophercloud/v2"

	"holdfast/internal/transition/net/neutron"
)

// API is where Neutron's API is, http://HOST:PORT, and how to log in to its Keystone; nil: it has none (auth_strategy =
// noauth).
type API struct {
	Endpoint string
	Login    *gophercloud.AuthOptions
}

// LoginFrom reads API.Login from the variables of an environment, as neutron.LoginFrom says.
func LoginFrom(getenv func(string) string) (*gophercloud.AuthOptions, error) {
	return neutron.LoginFrom(getenv)
}

func (a API) client(ctx context.Context) (*neutron.Client, error) {
	c, err := neutron.New(a.Endpoint)
	if err == nil && a.Login != nil {
		err = c.Login(ctx, a.Login)
	}
	return c, err
}
