package agent

import (
	"crypto/tls"
	"path/filepath"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/fleet/aid"
	"holdfast/internal/ha/loop"
	"holdfast/internal/install/certificates"
	"holdfast/internal/inventory/report"
	pair "holdfast/internal/pair/host"
	"holdfast/internal/store"
	"holdfast/internal/transition/steps"
	"holdfast/internal/upgrade/service"
)

// Other agents, as the tools know them.
var (
	_ aid.Peer          = (*api.Client)(nil)
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

// others are the other hosts, as they report.
type others struct {
	*report.View
	client *tls.Config
}

// others follows them; nil where no hypervisor runs guests.
func (nd *node) others(st store.Store) *others {
	if nd.n.Driver == "process" {
		return nil
	}
	names, err := report.OpenNames(filepath.Join(nd.n.DataDir, "reported.json"))
	if err != nil {
		nd.Log.Warn("after a restore of the store, a host may count as an operator", "err", err)
	}
	return &others{&report.View{Store: st, Asked: nd.n.GuestsOnly, Log: nd.Log, Names: names}, nd.client}
}

// dial connects to the agent of a host at an address.
func (o *others) dial(host cluster.HostID, at string) (*api.Client, error) {
	return api.DialHost(host, at, o.client, nil)
}

// reach connects to the agent of a host.
func (o *others) reach(host cluster.HostID) (*api.Client, error) {
	seen, _ := o.Seen()
	at, err := report.AgentAt(seen, host)
	if err != nil {
		return nil, err
	}
	return o.dial(host, at)
}
