package web

import (
	"context"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
)

// hostsPart is the part of the page of hosts: members, and those that run guests only as far as the address asks for them.
func hostsPart(ctx context.Context, v *view) (templ.Component, error) {
	var others []inventory.Summary
	var unread error
	if v.works {
		others, unread = guestHosts(ctx, v)
	}
	total := len(others)
	words := strings.Fields(strings.ToLower(v.query("q")))
	others = slices.DeleteFunc(others, func(h inventory.Summary) bool {
		text := strings.ToLower(string(h.Name) + " " + h.Addr)
		return slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
	})
	return hosts(v, others, total, unread), nil
}

// guestHosts are the hosts that run guests only, by name.
func guestHosts(ctx context.Context, v *view) ([]inventory.Summary, error) {
	all, err := v.api.GuestHosts(ctx)
	members := map[cluster.HostID]bool{}
	for _, h := range v.Status.Hosts {
		members[h.Name] = true
	}
	for _, h := range v.Status.Members {
		members[h] = true
	}
	return slices.DeleteFunc(all, func(h inventory.Summary) bool { return members[h.Name] }), err
}

// hostPart is the part of a host's page.
func hostPart(ctx context.Context, v *view) (templ.Component, error) {
	name := cluster.HostID(v.arg("host"))
	v.Title = string(name)
	all := told.Hosts(v.Status)
	i := slices.IndexFunc(all, func(h cluster.HostStatus) bool { return h.Name == name })
	if !v.works && i < 0 {
		return nil, errNoPage
	}
	if !v.works {
		return host(v, all[i], v.Report.Hosts[i].Notes, nil, nil), nil
	}
	hosts, err := v.api.GuestHosts(ctx)
	var reported *inventory.Summary
	if j := slices.IndexFunc(hosts, func(h inventory.Summary) bool { return h.Name == name }); j >= 0 {
		reported = &hosts[j]
	}
	switch {
	case i >= 0:
		return host(v, all[i], v.Report.Hosts[i].Notes, reported, err), nil
	case err != nil:
		return nil, err
	case reported == nil:
		return nil, errNoPage
	}
	return guestHost(v, *reported), nil
}

// heard says whether a host that runs guests only is heard.
func heard(h inventory.Summary) (told.Tone, string) {
	if h.Up {
		return told.Good, "alive"
	}
	return told.Bad, "silent " + told.Ago(h.Silent)
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
