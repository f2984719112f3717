package agent

import (
	"holdfast/internal/api"
	"holdfast/internal/ha/loop"
	"holdfast/internal/install/certificates"
	pair "holdfast/internal/pair/host"
	"holdfast/internal/transition/steps"
	"holdfast/internal/upgrade/service"
)

// Other agents, as the tools know them.
var (
	_ loop.Peer         = (*api.Client)(nil)
	_ certificates.Peer = (*api.Client)(nil)
	_ pair.Peer         = (*api.Client)(nil)
	_ steps.Peer        = (*api.Client)(nil)
	_ service.Peer      = (*api.Client)(nil)
)

// as is a client as one of these; nil beside an error, since a nil client in an interface is no nil.
func as[P any](c *api.Client, err error) (p P, _ error) {
	if err == nil {
		p = any(c).(P)
	}
	return p, err
}
