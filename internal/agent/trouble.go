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
		all = append(all, facts.Scarce(mib, has, err))
	}
	all = append(all, a.PlainDisks()...)
	if nd.keeper != nil {
		all = append(all, nd.keeper.Warning())
	}
	if slices.Contains(timeServers, nd.n.Addr) || slices.Contains(timeServers, nd.n.Host) {
		sources, err := facts.TimeSources()
		all = append(all, facts.TimeFromItself(sources, err, nd.n.Addr, nd.n.Host, "127.0.0.1", "::1", "localhost"))
	}
	for _, c := range nd.children() {
		all = append(all, supervise.Trouble(c, time.Now()))
	}
	all = append(all, a.Crowded(), srv.Trouble(), console.Trouble())
	return strings.Join(slices.DeleteFunc(all, func(t string) bool { return t == "" }), "; ")
}
