package rebuild

import (
	"context"

	"github.com/gophercloud/gophercloud/v2"

	"holdfast/internal/transition/net/neutron"
)

// API is where Neutron's API is, http://HOST:PORT, and how to log in to its Keystone; nil: it has none (auth_strategy =
// noauth). keystone.From reads that from an environment.
type API struct {
	Endpoint string
	Login    *gophercloud.AuthOptions
}

func (a API) client(ctx context.Context) (*neutron.Client, error) {
	c, err := neutron.New(a.Endpoint)
	if err == nil && a.Login != nil {
		err = c.Login(ctx, a.Login)
	}
	return c, err
}
