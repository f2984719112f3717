package web

import (
	"context"
	"slices"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
)

// hostPart is the part of a host's page.
func hostPart(ctx context.Context, v *view) (templ.Component, error) {
	name := cluster.HostID(v.arg("host"))
	all := told.Hosts(v.Status)
	i := slices.IndexFunc(all, func(h cluster.HostStatus) bool { return h.Name == name })
	if i < 0 {
		return nil, errNoPage
	}
	v.Title = string(name)
	if !v.works {
		return host(v, all[i], v.Report.Hosts[i].Notes, nil, nil), nil
	}
	hosts, err := v.api.GuestHosts(ctx)
	var reported *inventory.Summary
	if j := slices.IndexFunc(hosts, func(h inventory.Summary) bool { return h.Name == name }); j >= 0 {
		reported = &hosts[j]
	}
	return host(v, all[i], v.Report.Hosts[i].Notes, reported, err), nil
}

// certTone is that of a certificate's state.
func certTone(c inventory.Certificate) told.Tone {
	switch {
	case c.State == inventory.CertExpired:
		return told.Bad
	case c.State == inventory.CertSoon, c.Problem != "":
		return told.Warn
	}
	return told.Plain
}

// vote says what a host's member of the store is for the quorum.
func vote(h cluster.HostStatus) told.Line {
	switch h.Vote {
	case "":
		return told.Line{Text: "not known"}
	case cluster.Votes, cluster.NoMember:
		return told.Line{Text: h.Vote}
	}
	return told.Line{Tone: told.Warn, Text: told.Clean(h.Vote)}
}
