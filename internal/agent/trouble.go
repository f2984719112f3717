package agent

import (
	"slices"
	"strings"
	"time"

	"holdfast/internal/ha/loop"
	"holdfast/internal/host/facts"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/internal/server"
	"holdfast/internal/web"
)

// troubles tells what does not work on this host though a guest could be
// started: a member of the store that is down costs the cluster its redundancy
// without any other sign.
func (nd *node) troubles(srv *server.Server, console *web.Console, a *loop.Agent) string {
	var all []string
	timeServers := a.TimeServers()
	if mib, here := a.GuestMemory(); mib > 0 && !here {
		has, err := facts.AvailableMiB()
		if t := facts.Scarce(mib, has, err); t != "" {
			all = append(all, t)
		}
	}
	all = append(all, a.PlainDisks()...)
	if nd.keeper != nil {
		if t := nd.keeper.Warning(); t != "" {
			all = append(all, t)
		}
	}
	if slices.Contains(timeServers, nd.n.Addr) || slices.Contains(timeServers, nd.n.Host) {
		sources, err := facts.TimeSources()
		if t := facts.TimeFromItself(sources, err, nd.n.Addr, nd.n.Host, "127.0.0.1", "::1", "localhost"); t != "" {
			all = append(all, t)
		}
	}
	for _, c := range nd.children() {
		if t := supervise.Trouble(c, time.Now()); t != "" {
			all = append(all, t)
		}
	}
	if t := a.Crowded(); t != "" {
		all = append(all, t)
	}
	if t := srv.Trouble(); t != "" {
		all = append(all, t)
	}
	if console != nil {
		if t := console.Trouble(); t != "" {
			all = append(all, t)
		}
	}
	return strings.Join(all, "; ")
}
