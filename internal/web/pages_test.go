package web

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// TestOrders: each role may do on the console what it may do by the API, and nothing else.
func TestOrders(t *testing.T) {
	x := newSite(t)
	try.Must(t, func() error {
		_, err := x.access.SetUser(t.Context(), "root", cluster.UserChange{Name: "mallory", Role: cluster.Viewer, Password: secret})
		return err
	}())
	orders := map[string]struct {
		least  cluster.Role
		path   string
		fields []string
	}{
		"/hosts/{host}/maintenance":  {cluster.Operator, "/hosts/node3/maintenance", []string{"on", "true"}},
		"/users":                     {cluster.Admin, "/users", []string{"name", "mallory", "role", "viewer"}},
		"/users/{name}/remove":       {cluster.Admin, "/users/mallory/remove", []string{"again", "mallory"}},
		"/tokens":                    {cluster.Admin, "/tokens", []string{"name", "a program", "role", "viewer", "days", "1"}},
		"/tokens/{id}/revoke":        {cluster.Admin, "/tokens/nothing/revoke", nil},
		"/notifications/{name}/test": {cluster.Operator, "/notifications/ops/test", nil},
	}
	for path := range x.console.orders() {
		o, known := orders[path]
		if !known {
			t.Errorf("%s: who may give that order is not said here", path)
			continue
		}
		for _, role := range cluster.Roles {
			code, body, _ := x.post(x.as("the-"+string(role)), o.path, o.fields...)
			if refused := code == http.StatusForbidden; refused == role.May(o.least) {
				t.Errorf("%s as %s: %d: %s", path, role, code, body)
			}
		}
		if code, _, to := x.post(x.browser(), o.path, o.fields...); code != http.StatusSeeOther || !strings.HasPrefix(to, "/login") {
			t.Errorf("%s, unknown: %d, to %q", path, code, to)
		}
	}
}

// TestPages: each page answers whom it is for, and refuses others; what is not there has no page.
func TestPages(t *testing.T) {
	x := newSite(t)
	at := time.Unix(1_800_000_000, 5)
	x.cluster.Log(cluster.Event{Kind: cluster.EvTakeover, Time: at, Host: "node2", To: "node1", Wait: 9 * time.Second,
		Proof: cluster.ProofDeadline})
	x.cluster.SetConfig("{}", "root", at)
	paths := map[string]string{"/{$}": "/", configurationPage.path + "/revisions/{number}": configurationPage.path + "/revisions/1",
		"/help/{name...}": "/help/pair", "/hosts/{host}": "/hosts/node2", "/failovers/{at}": fmt.Sprintf("/failovers/%d", at.UnixNano())}
	try.Until(t, "the takeover is known", func() bool {
		code, _, _ := x.get(x.as("the-viewer"), paths["/failovers/{at}"])
		return code == http.StatusOK
	})
	for _, p := range pages {
		path := paths[p.path]
		if p.path == "/jobs/{id}" {
			continue // there is none here: see TestUnderWay
		}
		if path == "" {
			path = p.path
		}
		for _, role := range cluster.Roles {
			want := http.StatusOK
			if p.least != "" && !role.May(p.least) {
				want = http.StatusForbidden
			}
			if code, body, _ := x.get(x.as("the-"+string(role)), path); code != want {
				t.Errorf("%s as %s: %d, want %d: %.300s", path, role, code, want, body)
			}
		}
	}
	c := x.as("the-viewer")
	for _, path := range []string{"/hosts/nobody", "/failovers/1", "/failovers/x", "/live/hosts/x/y", "/users/../nothing"} {
		if code, body, _ := x.get(c, path); code != http.StatusNotFound && code != http.StatusTemporaryRedirect {
			t.Errorf("%s: %d: %s", path, code, body)
		}
	}
	if _, body, _ := x.get(c, "/"); strings.Contains(body, `href="/users"`) {
		t.Error("a viewer is led to the users")
	}
}

// TestUsersPage: an admin makes a user, whose password is shown once, and a token; both end by his hand.
func TestUsersPage(t *testing.T) {
	x := newSite(t)
	c := x.as("the-admin")
	code, body, _ := x.post(c, "/users", "name", "bob", "role", "operator")
	if _, found := x.access.User("bob"); code != http.StatusOK || !found || !strings.Contains(body, `class="secret"`) {
		t.Fatalf("%d: %s", code, body)
	}
	if _, body, _ := x.get(c, "/users"); !strings.Contains(body, "bob") || strings.Contains(body, `class="secret"`) {
		t.Error(body)
	}
	if code, _, _ := x.post(c, "/users", "name", "bob", "role", "viewer"); code != http.StatusSeeOther {
		t.Error(code)
	}
	try.Until(t, "bob is a viewer", func() bool { u, _ := x.access.User("bob"); return u.Role == cluster.Viewer })
	for _, fields := range [][]string{{"name", "no role", "role", "king"}, {"name", "", "role", "viewer"}, {"name", "a b", "role", "viewer"}} {
		if code, body, _ := x.post(c, "/users", fields...); code != http.StatusBadRequest {
			t.Errorf("%q: %d: %s", fields, code, body)
		}
	}
	if code, body, _ := x.post(c, "/users/bob/remove", "again", "bo"); code != http.StatusBadRequest || !strings.Contains(body, "bob") {
		t.Errorf("%d: %s", code, body)
	}
	if code, _, _ := x.post(c, "/users/bob/remove", "again", "bob"); code != http.StatusSeeOther {
		t.Error(code)
	}
	try.Until(t, "bob is gone", func() bool { _, found := x.access.User("bob"); return !found })

	for _, days := range []string{"", "0", "x", "1e9", "-1"} {
		if code, body, _ := x.post(c, "/tokens", "name", "a", "role", "viewer", "days", days); code != http.StatusBadRequest {
			t.Errorf("%q days: %d: %s", days, code, body)
		}
	}
	if code, body, _ := x.post(c, "/tokens", "name", "a program", "role", "viewer", "days", "3"); code != http.StatusOK ||
		!strings.Contains(body, "holdfast_") {
		t.Errorf("%d: %s", code, body)
	}
	tokens, err := x.access.Tokens(t.Context())
	try.Must(t, err)
	if code, _, _ := x.post(c, "/tokens/"+tokens[0].ID+"/revoke"); code != http.StatusSeeOther {
		t.Error(code)
	}
	tokens, err = x.access.Tokens(t.Context())
	if try.Must(t, err); len(tokens) != 0 {
		t.Errorf("%+v", tokens)
	}
}

// TestEvents: they are found by words, kind and host, part by part, and come as files.
func TestEvents(t *testing.T) {
	x := newSite(t)
	for i := range 250 {
		x.cluster.Log(cluster.Event{Kind: cluster.EvRefused, Host: "node2", Detail: fmt.Sprintf("reason %d", i)})
	}
	x.cluster.Log(cluster.Event{Kind: cluster.EvTakeover, Host: "node3", To: "node1", Detail: "=1+1"})
	c := x.as("the-viewer")
	shown := func(path string) (rows int, body string) {
		_, body, _ = x.get(c, path)
		return strings.Count(body, "<td class=\"t\">"), body
	}
	for path, want := range map[string]int{"/events": 100, "/events?page=3": 51, "/events?page=99": 51, "/events?page=x": 100,
		"/events?host=node3": 1, "/events?kind=takeover": 1, "/events?q=REASON+249": 1, "/events?q=nothing": 0,
		"/events?host=node2&kind=takeover": 0} {
		try.Until(t, fmt.Sprintf("%d events by %s", want, path), func() bool { n, _ := shown(path); return n == want })
	}
	if _, body := shown("/events?host=node2&page=2"); !strings.Contains(body, "/events?host=node2&amp;page=3") {
		t.Error(body)
	}
	_, body, _ := x.get(c, "/export/events/json?host=node3")
	var all []cluster.Event
	if err := json.Unmarshal([]byte(body), &all); err != nil || len(all) != 1 || all[0].To != "node1" {
		t.Errorf("%v: %s", err, body)
	}
	_, body, _ = x.get(c, "/export/events/csv")
	rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if err != nil || len(rows) != 252 || slices.ContainsFunc(rows, func(r []string) bool { return strings.HasPrefix(r[2], "=") }) {
		t.Errorf("%v, %d rows", err, len(rows))
	}
}
