package web

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// page is one with a live part, which is made anew with each status, or one that stands still.
type page struct {
	path   string       // a pattern of http.ServeMux
	title  string       // in the menu, and of the page where part gives none
	least  cluster.Role // "": of all who are logged in
	help   string       // the page about it, under /help
	works  bool         // it is about jobs: only of hosts that take part in them
	pair   bool         // it is about a pair: only of a cluster that is one
	guests bool         // it is about guests: only of a cluster that is no pair
	still  bool         // it is made once: somebody reads or types there
	in     *page        // the page of the menu that it belongs to; nil: it is of the menu itself
	// part makes what changes by itself, from the view, and from what else it asks of the API by v.api. It is made once for all
	// who have the same role and language, and has nothing of who looks.
	part func(ctx context.Context, v *view) (templ.Component, error)
}

// pages are all, those of the menu first, in its order; the help is its last entry.
var (
	hostsPage    = &page{path: "/hosts", title: "Hosts", help: "operations#host-table", part: hostsPart}
	overviewPage = &page{path: "/{$}", title: "Overview", help: "operations#what-status-says-and-what-to-do", part: byStatus(overview)}
	eventsPage   = &page{path: "/events", title: "Events", help: "operations#what-happens-when", part: byStatus(events)}
	ofUpgrade    = &page{path: "/upgrade", title: "Upgrade", help: "upgrade", works: true, part: upgradePage}
	guestsPage   = &page{path: "/guests", title: "Guests", help: "console#hosts-and-guests", works: true, guests: true, part: guestsPart}
	noticesPage  = &page{path: noticesPath, title: "Notifications", help: "notifications", part: noticesPart}

	menu = []*page{
		overviewPage,
		hostsPage,
		guestsPage,
		pairPage,
		ofUpgrade,
		transitionPage,
		eventsPage,
	}
	// settings stand below one entry of the menu.
	settings = []*page{
		configurationPage,
		noticesPage,
		{path: "/store", title: "Store", help: "console#store-and-certificates", least: cluster.Operator, part: storePart},
		{path: "/users", title: "Users", help: "console#users", least: cluster.Admin, part: usersPart},
		supportPage,
	}
	pages = slices.Concat(menu, settings, []*page{
		{path: "/hosts/{host}", title: "Host", in: hostsPage, help: "operations#host-table", part: hostPart},
		{path: "/failovers/{at}", title: "Failover", in: eventsPage, help: "safety", part: failoverPart},
		{path: "/jobs/{id}", title: "Job", in: ofUpgrade, help: "upgrade", works: true, part: jobPage},
		stepPage, describePage, transitionFormPage, sitesPage, revisionPage, editPage, helpPage, helpTextPage, referencePage,
	}, orderPages, aidPages, pairPages, screenPages)
)

// byStatus is the part of a page that the status suffices for.
func byStatus(f func(*view) templ.Component) func(context.Context, *view) (templ.Component, error) {
	return func(_ context.Context, v *view) (templ.Component, error) { return f(v), nil }
}

// href is where a page of the menu is.
func (p *page) href() string {
	if p.path == "/{$}" {
		return "/"
	}
	return p.path
}

// back is where the page of the menu is that a page belongs to, or is.
func (p *page) back() string {
	if p.in != nil {
		return p.in.href()
	}
	return p.href()
}

// leads reports whether a page is the one of the menu that another belongs to.
func (p *page) leads(to *page) bool { return to != nil && (to == p || to.in == p) }

// errNoPage is what a page answers about something that there is not.
var errNoPage = fail.Errorf(fail.Invalid, "There is no such page.")

// make fills a view with what is known, and makes the part.
func (p *page) make(ctx context.Context, v *view) (templ.Component, error) {
	v.page, v.Title, v.Report = p, v.T(p.title), told.Status(v.Status, v.T)
	return p.part(ctx, v)
}

// may refuses who has not the role that a page needs, and what the host does not have.
func (p *page) may(v *view) error {
	if p.works && !v.works {
		return fail.Errorf(fail.Refused, "This host takes no part in jobs.")
	}
	if p.least != "" && !v.May(p.least) {
		return fail.Errorf(fail.Denied, "This page is for the role %s; %s has the role %s.", p.least, v.User.Name, v.User.Role).
			With("ask an admin")
	}
	if p.guests && v.Status.OfPair() {
		return fail.Errorf(fail.Refused, "This cluster is a pair, whose hosts run no guests.")
	}
	if p.pair && !v.Status.OfPair() {
		return fail.Errorf(fail.Refused, "This cluster is no pair.").With("how much space a pair needs: /pair/size")
	}
	return nil
}

// whole answers with a whole page.
func (c *Console) whole(p *page) http.Handler {
	return c.loggedIn(func(w http.ResponseWriter, r *http.Request, v *view) {
		if !p.still {
			c.live.look(r.Context())
		}
		c.live.fill(v)
		err := p.may(v)
		var part templ.Component
		if err == nil {
			part, err = p.make(r.Context(), v)
		}
		switch {
		case errors.Is(err, errNoPage):
			c.notFound(w, r, v)
		case err != nil:
			c.fails(w, r, err)
		default:
			c.show(w, r, http.StatusOK, whole(v, part))
		}
	})
}

// tone is the class of a text.
func tone(t told.Tone) string {
	return map[told.Tone]string{told.Plain: "", told.Good: "good", told.Warn: "warn", told.Bad: "bad"}[t]
}
