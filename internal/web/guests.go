package web

import (
	"context"
	"net/url"
	"strings"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
)

// guestsPart is the part of the page of guests, as far as the address asks for them.
func guestsPart(ctx context.Context, v *view) (templ.Component, error) {
	q := inventory.GuestQuery{Search: strings.TrimSpace(v.query("q")), Host: cluster.HostID(strings.TrimSpace(v.query("host"))),
		State: inventory.GuestState(v.query("state")), Limit: listShown}
	q.Offset = (pageNumber(v) - 1) * listShown
	p, err := v.api.Guests(ctx, q)
	if err != nil {
		return nil, err
	}
	if last := pagesOf(p.Total); q.Offset >= last*listShown { // there are fewer than there were
		q.Offset = (last - 1) * listShown
		if p, err = v.api.Guests(ctx, q); err != nil {
			return nil, err
		}
	}
	return guests(v, q, p), nil
}

// guestsURL is the page of the guests of a host.
func guestsURL(h cluster.HostID) templ.SafeURL {
	return templ.SafeURL("/guests?" + url.Values{"host": {string(h)}}.Encode())
}

// guestSays is the state of a guest; of an unknown one, with its age.
func guestSays(g inventory.Guest) string {
	if g.State == inventory.GuestUnknown {
		return "unknown " + told.Ago(g.Silent)
	}
	return string(g.State)
}

// guestTone is that of a guest's state.
func guestTone(g inventory.Guest) told.Tone {
	return map[inventory.GuestState]told.Tone{inventory.GuestRuns: told.Good, inventory.GuestPaused: told.Warn,
		inventory.GuestUnknown: told.Bad}[g.State]
}
