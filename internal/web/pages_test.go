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
	"holdfast/internal/inventory"
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
		"/hosts/{host}/certificates": {cluster.Admin, "/hosts/node1/certificates", nil},
		"/hosts/{host}/fence":        {cluster.Operator, "/hosts/node3/fence", nil},
		"/store/backups":             {cluster.Admin, "/store/backups", nil},
		"/support":                   {cluster.Admin, "/support", []string{"host", "node1", "days", "1"}},
		"/users":                     {cluster.Admin, "/users", []string{"name", "mallory", "role", "viewer"}},
		"/users/{name}/remove":       {cluster.Admin, "/users/mallory/remove", []string{"again", "mallory"}},
		"/tokens":                    {cluster.Admin, "/tokens", []string{"name", "a program", "role", "viewer", "days", "1"}},
		"/tokens/{id}/revoke":        {cluster.Admin, "/tokens/nothing/revoke", nil},
		"/vm/start":                  {cluster.Operator, "/vm/start", nil},
		"/vm/stop":                   {cluster.Operator, "/vm/stop", []string{"sure", "yes"}},
		"/vm/suspend":                {cluster.Operator, "/vm/suspend", []string{"sure", "yes"}},
		"/vm/move":                   {cluster.Operator, "/vm/move", []string{"sure", "yes", "host", "node2"}},
		"/vm/move/cancel":            {cluster.Operator, "/vm/move/cancel", nil},
		"/hosts/{host}/drain":        {cluster.Operator, "/hosts/node3/drain", []string{"sure", "yes"}},
		"/hosts/{host}/off":          {cluster.Operator, "/hosts/node3/off", []string{"again", "node3"}},
		"/hosts/{host}/forget":       {cluster.Operator, "/hosts/node4/forget", []string{"again", "node4"}},
		"/pair/switch":               {cluster.Operator, "/pair/switch", []string{"sure", "yes"}},
		"/pair/stop":                 {cluster.Operator, "/pair/stop", []string{"sure", "yes"}},
		"/pair/start":                {cluster.Operator, "/pair/start", nil},
		"/pair/resolve":              {cluster.Admin, "/pair/resolve", []string{"keep", "node1", "again", "node1"}},
		"/pair/begin":                {cluster.Admin, "/pair/begin", []string{"again", "node1"}},
		"/pair/partition":            {cluster.Operator, "/pair/partition", []string{"name", "a", "disk", "/dev/sdb", "unmanaged", "yes"}},
		"/pair/partition/remove":     {cluster.Operator, "/pair/partition/remove", []string{"name", "a", "again", "a"}},
		"/notifications/{name}/test": {cluster.Operator, "/notifications/ops/test", nil},

		"/guests/{uuid}/screen/ticket": {cluster.Operator, "/guests/5eed0001/screen/ticket", nil},
		"/vm/screen/ticket":            {cluster.Operator, "/vm/screen/ticket", nil},
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
		"/help/{name...}": "/help/pair", "/hosts/{host}": "/hosts/node2",
		"/hosts/{host}/log": "/hosts/node2/log", "/hosts/{host}/fence": "/hosts/node2/fence",
		"/hosts/{host}/drain": "/hosts/node2/drain", "/hosts/{host}/off": "/hosts/node2/off", "/hosts/{host}/forget": "/hosts/node4/forget",
		"/guests/{uuid}/screen": "/guests/5eed0001/screen",
		"/failovers/{at}":       fmt.Sprintf("/failovers/%d", at.UnixNano())}
	try.Until(t, "the takeover is known", func() bool {
		code, _, _ := x.get(x.as("the-viewer"), paths["/failovers/{at}"])
		return code == http.StatusOK
	})
	for _, p := range pages {
		path := paths[p.path]
		if strings.HasPrefix(p.path, "/jobs/") {
			continue // there is none here: see TestUnderWay
		}
		if path == "" {
			path = p.path
		}
		for _, role := range cluster.Roles {
			want := http.StatusOK
			if p.least != "" && !role.May(p.least) {
				want = http.StatusForbidden
			} else if p.pair { // this cluster is none
				want = http.StatusConflict
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

// TestGuests: those of all hosts are found by words, host and state, part by part, and what a host names itself or a guest is text.
func TestGuests(t *testing.T) {
	x := newSite(t)
	for i := range 250 {
		x.up.Jobs.VMs = append(x.up.Jobs.VMs, inventory.Guest{Name: fmt.Sprintf("vm%d", i), Host: "node1", State: inventory.GuestRuns})
	}
	x.up.Jobs.VMs = append(x.up.Jobs.VMs, inventory.Guest{Name: "<script>alert(1)</script>", Host: `c1"><script>`,
		State: inventory.GuestUnknown, Silent: 3 * time.Minute, Fixed: []string{"<script>"}})
	x.up.Jobs.Reported = []inventory.Summary{{Name: "node1", Up: true, Guests: 250}, {Name: "c2", Addr: "10.0.9.2", Problem: "<script>"}}
	c := x.as("the-viewer")
	for path, want := range map[string]int{"/guests": 100, "/guests?page=3": 51, "/guests?page=99": 51, "/guests?page=-1": 100,
		"/guests?q=VM249": 1, "/guests?host=node2": 0, "/guests?state=unknown": 1, "/guests?q=node1&state=running&page=2": 100} {
		code, body, _ := x.get(c, path)
		raw := strings.Contains(body, "<script>a") || strings.Contains(body, `c1"><script`)
		if n := strings.Count(body, `<th scope="row"`); code != http.StatusOK || n != want || raw {
			t.Errorf("%s: %d, %d guests, want %d", path, code, n, want)
		}
	}
	for path, want := range map[string]string{"/guests?state=unknown": "unknown 3m", "/guests?q=node1&page=2": "/guests?page=3&amp;q=node1",
		"/hosts": `href="/hosts/c2"`, "/hosts?q=10.0.9": `href="/hosts/c2"`, "/hosts/c2": "runs guests only",
		"/hosts/node1": "/guests?host=node1"} {
		code, body, _ := x.get(c, path)
		if code != http.StatusOK || !strings.Contains(body, want) || strings.Contains(body, "<td class=\"warn\"><script>") {
			t.Errorf("%s: %d, want %s:\n%s", path, code, want, body)
		}
	}
	if _, body, _ := x.get(c, "/hosts?q=c3"); strings.Contains(body, `href="/hosts/c2"`) {
		t.Error("a host is shown that was not asked for")
	}
	if code, body, _ := x.get(c, "/guests?state=dead"); code != http.StatusBadRequest || !strings.Contains(body, "want running, paused") {
		t.Errorf("%d: %s", code, body)
	}
	x.up.Jobs.Unread(fmt.Errorf("not read yet"))
	if code, body, _ := x.get(c, "/hosts"); code != http.StatusOK || !strings.Contains(body, "Which hosts run guests only is not known") {
		t.Errorf("%d: %s", code, body)
	}
}
