package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// furnished is a site that has something to show on each page but those of a pair.
func furnished(t testing.TB) *site {
	t.Helper()
	x := newSite(t)
	at := time.Unix(1_800_000_000, 5)
	x.cluster.Log(cluster.Event{Kind: cluster.EvTakeover, Time: at, Host: "node2", To: "node1", Wait: 9 * time.Second,
		Proof: cluster.ProofDeadline})
	x.cluster.SetConfig("{}", "root", at)
	x.up.Show(underWay())
	x.up.Other = otherSites()
	_, err := x.up.RunTransition(t.Context(), "anna", []byte(siteA))
	try.Must(t, err)
	_, err = x.access.SetUser(t.Context(), "root", cluster.UserChange{Name: "mallory", Role: cluster.Viewer, Password: secret})
	try.Must(t, err)
	c := x.as("the-admin")
	try.Until(t, "the takeover is known", func() bool {
		code, _, _ := x.get(c, fmt.Sprintf("/failovers/%d", at.UnixNano()))
		return code == http.StatusOK
	})
	return x
}

// shownAt are the addresses of all pages of a furnished site: those of a pair, or the others.
func shownAt(t testing.TB, pair bool) []string {
	t.Helper()
	filled := strings.NewReplacer("{$}", "", "{number}", "1", "{name...}", "pair", "{host}", "node2", "{uuid}", "5eed0001",
		"{at}", fmt.Sprint(time.Unix(1_800_000_000, 5).UnixNano()), "{id}", "upgrade-7", "{name}", "mallory")
	var out []string
	for _, p := range pages {
		if p.pair != pair {
			continue
		}
		path := filled.Replace(p.path)
		if p.path == "/hosts/{host}/forget" {
			path = "/hosts/node4/forget"
		}
		if p.path == stepPage.path {
			path += "?step=cvk-2/install/cas"
		}
		if strings.ContainsAny(path, "{}") {
			t.Errorf("%s: what stands there is not said here", p.path)
			continue
		}
		out = append(out, path)
	}
	return out
}

// walk visits all pages, first as those of a cluster that is no pair.
func (x *site) walk(visit func(path string)) {
	x.t.Helper()
	for _, path := range append(shownAt(x.t, false), "/password") {
		visit(path)
	}
	x.lay(pairStates["partitioned"])
	for _, path := range shownAt(x.t, true) {
		visit(path)
	}
}

// linksOf are where a page leads, on this console.
func linksOf(t testing.TB, page string) []string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	try.Must(t, err)
	var out []string
	for n := range doc.Descendants() {
		for _, a := range n.Attr {
			if (a.Key == "href" || a.Key == "src") && strings.HasPrefix(a.Val, "/") {
				path, _, _ := strings.Cut(a.Val, "#")
				out = append(out, path)
			}
		}
	}
	return out
}
