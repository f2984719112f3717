package rest_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// follow opens a stream of Server-Sent Events. next waits for the next line that begins so; "": the stream has ended.
func (x *site) follow(role cluster.Role, method, path, body string, headers ...string) (next func(begin string) string, end func()) {
	x.t.Helper()
	r, err := http.NewRequestWithContext(x.t.Context(), method, x.URL+path, strings.NewReader(body))
	try.Must(x.t, err)
	r.Header.Set("Authorization", "Bearer "+x.tokens[role])
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := x.Client().Do(r)
	try.Must(x.t, err)
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" || resp.StatusCode != http.StatusOK {
		x.t.Fatalf("%s %s: %d, %s", method, path, resp.StatusCode, got)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return func(begin string) string {
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), begin) {
				return lines.Text()
			}
		}
		return ""
	}, func() { try.Must(x.t, resp.Body.Close()) }
}

// TestWatch: a stream tells of each change, and ends with its token.
func TestWatch(t *testing.T) {
	x := newSite(t)
	next, end := x.follow(cluster.Viewer, "GET", "/api/v1/status:watch", "")
	defer end()
	if line := next("data: "); !strings.HasPrefix(line, `data: {"time":"`) || !strings.Contains(line, `"hosts":[{"name":"node1"`) {
		t.Error(line)
	}
	x.cluster.Update(func(s *cluster.Status) { s.Waiting = "for a test" })
	for line := next("data: "); !strings.Contains(line, "for a test"); line = next("data: ") {
		if line == "" {
			t.Fatal("it has ended")
		}
	}
	try.Must(t, x.access.RevokeToken(t.Context(), "root", x.ids[cluster.Viewer]))
	if line := next("event: error"); line == "" || !strings.Contains(next("data: "), "was revoked") {
		t.Errorf("%q", line)
	}
	if line := next(""); line != "" && next("") != "" {
		t.Errorf("it goes on with %q", line)
	}
}

// TestEventsGoOn: who comes back with the last ID gets what came after it.
func TestEventsGoOn(t *testing.T) {
	x := newSite(t)
	for _, what := range []string{"one", "two", "three"} {
		x.cluster.Log(cluster.Event{Kind: cluster.EvRefused, Detail: what})
	}
	next, end := x.follow(cluster.Viewer, "GET", "/api/v1/events:watch", "")
	if id, data := next("id: "), next("data: "); id != "id: 3" || !strings.Contains(data, `"detail":"three"`) {
		t.Errorf("%s, %s", id, data)
	}
	end()
	next, end = x.follow(cluster.Viewer, "GET", "/api/v1/events:watch?after=1", "", "Last-Event-ID", "2")
	defer end()
	if data := next("data: "); !strings.Contains(data, "three") || strings.Contains(data, "two") {
		t.Error(data)
	}
	x.ask(cluster.Viewer, "GET", "/api/v1/events:watch?after=-7", "").want(t, 400, "after -7: want a revision")
	x.ask(cluster.Viewer, "GET", "/api/v1/events:watch", "", "Last-Event-ID", "x").want(t, 400, "after: x: want a whole number")
}

// TestMigrate: progress, then that it is done; an error before the first answer has its code.
func TestMigrate(t *testing.T) {
	x := newSite(t)
	x.cluster.Obey(func(f *serverFake, w cluster.Want) {
		f.Update(func(s *cluster.Status) {
			s.Owner.Host, s.Owner.Epoch.Seq, s.Want = w.MoveTo, s.Owner.Epoch.Seq+1, cluster.Want{Run: true}
		})
		f.Log(cluster.Event{Kind: cluster.EvMigrated, Host: w.MoveTo})
	})
	defer x.cluster.Wait()
	x.ask(cluster.Operator, "POST", "/api/v1/management-vm:migrate", `{"host":"none"}`).want(t, 400, "none")
	x.ask(cluster.Operator, "POST", "/api/v1/management-vm:migrate", `{"host":5}`).want(t, 400, "host: 5: want a text")
	next, end := x.follow(cluster.Operator, "POST", "/api/v1/management-vm:migrate", `{"host":"node2"}`)
	defer end()
	for line := next("data: "); !strings.Contains(line, `"done":true`); line = next("data: ") {
		if line == "" {
			t.Fatal("it has ended")
		}
	}
	if line := next("data: "); line != "" {
		t.Error(line)
	}
}

// TestETag: who has an answer is told that it is still the same.
func TestETag(t *testing.T) {
	x := newSite(t)
	first := x.ask(cluster.Admin, "GET", "/api/v1/users", "")
	first.want(t, 200, `{"users":[]}`)
	tag := first.header.Get("ETag")
	if tag == "" {
		t.Fatal("no ETag")
	}
	for _, list := range []string{tag, `"other", W/` + tag, "*"} {
		a := x.ask(cluster.Admin, "GET", "/api/v1/users", "", "If-None-Match", list)
		if a.code != 304 || a.body != "" || a.header.Get("ETag") != tag {
			t.Errorf("%s: %d: %q", list, a.code, a.body)
		}
	}
	x.ask(cluster.Viewer, "GET", "/api/v1/users", "", "If-None-Match", tag).want(t, 403)
	x.ask(cluster.Admin, "PUT", "/api/v1/users/alice", `{"role":"viewer"}`).want(t, 200, `"name":"alice"`, `"password":"`)
	x.ask(cluster.Admin, "GET", "/api/v1/users", "", "If-None-Match", tag).want(t, 200, "alice")
	if a := x.ask(cluster.Admin, "HEAD", "/api/v1/users", ""); a.code != 200 || a.body != "" {
		t.Errorf("HEAD: %d: %q", a.code, a.body)
	}
	x.ask(cluster.Admin, "PUT", "/api/v1/users/alice", `{"role":"admin"}`, "If-Match", tag).want(t, 400, "If-Match")
}

// TestIdempotency: under one key a request is carried out once; without one, each time; and no call lets somebody believe in a
// key that it does not keep.
func TestIdempotency(t *testing.T) {
	x := newSite(t)
	on := func(want int, body string, headers ...string) {
		t.Helper()
		x.ask(cluster.Operator, "PUT", "/api/v1/hosts/node3/maintenance", body, headers...).want(t, 200)
		if got := len(x.cluster.Users()); got != want {
			t.Errorf("%d requests were carried out, want %d", got, want)
		}
	}
	on(1, `{"on":true}`, "Idempotency-Key", "k1")
	on(1, `{"on":true}`, "Idempotency-Key", `"k1"`)
	on(1, `{"on":true,"idempotency_key":"k1"}`)
	on(1, `{"on":true,"idempotency_key":"other"}`, "Idempotency-Key", "k1") // the header counts
	on(2, `{"on":true,"idempotency_key":"k2"}`)
	on(3, `{"on":true}`)
	on(4, `{"on":true}`)
	x.ask(cluster.Operator, "PUT", "/api/v1/hosts/node3/maintenance", `{"on":true}`, "Idempotency-Key", "a b").want(t, 400, "idempotency_key")
	x.ask(cluster.Admin, "POST", "/api/v1/tokens", `{"name":"n","role":"viewer","days":1}`, "Idempotency-Key", "k3").
		want(t, 400, "Idempotency-Key: POST /api/v1/tokens takes none")
	tokens, err := x.access.Tokens(t.Context())
	if err != nil || len(tokens) != len(cluster.Roles) {
		t.Errorf("%d tokens, %v", len(tokens), err)
	}
}

// TestLists are cut into pages, and chosen by values.
func TestLists(t *testing.T) {
	x := newSite(t)
	x.ask(cluster.Viewer, "GET", "/api/v1/hosts?limit=2", "").want(t, 200, `"name":"node1"`, `"name":"node2"`, `"next_page":"node2"`)
	x.ask(cluster.Viewer, "GET", "/api/v1/hosts?limit=2&page=node2", "").want(t, 200, `"name":"node3"`, `"name":"node4"`)
	if a := x.ask(cluster.Viewer, "GET", "/api/v1/hosts?limit=2&page=node2", ""); strings.Contains(a.body, "next_page") {
		t.Errorf("the last page: %s", a.body)
	}
	x.ask(cluster.Viewer, "GET", "/api/v1/hosts?page=gone", "").want(t, 409, "it is not there any more")
	x.ask(cluster.Viewer, "GET", "/api/v1/hosts?limit=0", "").want(t, 400, "want 1 to 1000")
	x.ask(cluster.Viewer, "GET", "/api/v1/hosts?up=maybe", "").want(t, 400, "want true or false")
	if a := x.ask(cluster.Viewer, "GET", "/api/v1/hosts?name=node3", ""); strings.Count(a.body, `"name":"node`) != 1 {
		t.Error(a.body)
	}
	x.cluster.Log(cluster.Event{Kind: cluster.EvRefused, Detail: "a"})
	x.cluster.Log(cluster.Event{Kind: cluster.EvMigrated, Detail: "b"})
	if a := x.ask(cluster.Viewer, "GET", "/api/v1/events?kind="+string(cluster.EvMigrated), ""); strings.Contains(a.body, `"a"`) ||
		!strings.Contains(a.body, `"b"`) || !strings.Contains(a.body, `"next":2`) {
		t.Error(a.body)
	}
	x.ask(cluster.Viewer, "GET", "/api/v1/events?after=1&limit=1", "").want(t, 200, `"detail":"b"`)
}

// TestAnAgentThatFailsInACall: it is told, and not taken for an answer.
func TestAnAgentThatFailsInACall(t *testing.T) {
	x := newSite(t)
	x.panics.Store(true)
	x.ask(cluster.Viewer, "GET", "/api/v1/upgrade", "").want(t, 500, "the agent failed inside", "see its journal")
	x.ask(cluster.Operator, "POST", "/api/v1/upgrade:report", "{}").want(t, 500, "the agent failed inside")
}
