package agent

import (
	"net/url"
	"path/filepath"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/loop"
	"holdfast/internal/install/certificates"
)

// keep makes the keeper of this host's certificates; nil without any.
func (nd *node) keep(a *loop.Agent, view *others) *certificates.Service {
	if nd.n.TLS.CA == "" {
		return nil
	}
	k := certificates.Service{
		Host: nd.n.Host, Addr: nd.n.Addr, Ports: nd.ports(), Server: nd.server, LibvirtDir: filepath.Dir(nd.n.Libvirt.Socket),
		Leads: func() bool { _, _, ok := a.Coordinator(); return ok },
	}
	if view != nil {
		k.Seen = view.Seen
		k.Peer = func(host cluster.HostID) (certificates.Peer, error) { return as[certificates.Peer](view.reach(host)) }
	}
	return certificates.NewService(k, nd.n.TLS, nd.n.Driver != "process", nd.Log)
}

// ports are where the agent's certificate is presented on this host.
func (nd *node) ports() (out []string) {
	if nd.n.API.Listen != "" {
		out = append(out, nd.apiAddr())
	}
	if m := nd.n.Store.Member; m != nil {
		for _, text := range []string{m.ClientURL, m.PeerURL} {
			if u, err := url.Parse(text); err == nil { // the settings' check has seen it
				out = append(out, u.Host)
			}
		}
	}
	return out
}
