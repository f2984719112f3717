package rest_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/server"
	"holdfast/internal/server/servertest"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/internal/web/access"
	"holdfast/internal/web/rest"
	"holdfast/testbed/try"
)

// site serves the resources, with a token of each role.
type site struct {
	*httptest.Server
	t        *testing.T
	end      func()
	cluster  *servertest.Fake
	panics   atomic.Bool // calls of upgrades fail inside
	upgrades *servertest.Upgrades
	access   *access.Service
	tokens   map[cluster.Role]string
	ids      map[cluster.Role]string
}

func newSite(t *testing.T) *site {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	x := &site{t: t, cluster: servertest.New(servertest.Three(time.Unix(1_800_000_000, 0))), tokens: map[cluster.Role]string{},
		ids: map[cluster.Role]string{}}
	x.access = access.New(storetest.NewMem().NewClient("node1"), "node1", log)
	x.cluster.SetConfig(`{"type":"FileConf"}`, "root", time.Unix(1_800_000_000, 0))
	jobs := &servertest.Jobs{Now: time.Unix(1_800_000_000, 0)}
	x.upgrades = servertest.NewUpgrades(jobs)
	to, err := server.New(x.cluster, server.Options{Socket: filepath.Join(try.ShortDir(t), "s"), Version: "1.0.0", Log: log,
		Notices: &servertest.Notices{}, Access: x.access, Jobs: jobs, Upgrade: &failing{x.upgrades, &x.panics},
		Pair: servertest.NewPair(x.cluster), Certificates: jobs})
	try.Must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { try.Must(t, x.access.Run(ctx)) })
	x.Server = httptest.NewTLSServer(rest.New(to, x.access, log))
	x.end = sync.OnceFunc(func() {
		cancel()
		x.CloseClientConnections()
		x.Close()
		wg.Wait()
	})
	t.Cleanup(x.end)
	for _, r := range cluster.Roles {
		token, secret, err := x.access.CreateToken(t.Context(), "root", "script "+string(r), r, 1)
		try.Must(t, err)
		x.tokens[r], x.ids[r] = secret, token.ID
	}
	return x
}

// failing are upgrades whose calls may fail inside.
type failing struct {
	*servertest.Upgrades
	on *atomic.Bool
}

func (f *failing) Upgrade(ctx context.Context) (request.Standing, error) {
	if f.on.Load() {
		panic("a fault of the program")
	}
	return f.Upgrades.Upgrade(ctx)
}

func (f *failing) ReportUpgrade(ctx context.Context) (check.Report, error) {
	if f.on.Load() {
		panic("a fault of the program")
	}
	return f.Upgrades.ReportUpgrade(ctx)
}

type serverFake = servertest.Fake

// answer is what came back.
type answer struct {
	code   int
	body   string
	header http.Header
}

// ask sends a request; headers are names and values.
func (x *site) ask(role cluster.Role, method, path, body string, headers ...string) answer {
	x.t.Helper()
	r, err := http.NewRequestWithContext(x.t.Context(), method, x.URL+path, strings.NewReader(body))
	try.Must(x.t, err)
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+x.tokens[role])
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := x.Client().Do(r)
	try.Must(x.t, err)
	b := []byte(nil)
	if resp.Header.Get("Content-Type") != "text/event-stream" { // which does not end
		b, err = io.ReadAll(resp.Body)
		try.Must(x.t, err)
	}
	try.Must(x.t, resp.Body.Close())
	return answer{resp.StatusCode, string(b), resp.Header}
}

func (a answer) want(t *testing.T, code int, has ...string) {
	t.Helper()
	if a.code != code {
		t.Errorf("code %d, want %d: %s", a.code, code, a.body)
	}
	for _, h := range has {
		if !strings.Contains(a.body, h) {
			t.Errorf("%d without %s: %s", a.code, h, a.body)
		}
	}
}

func TestStatus(t *testing.T) {
	x := newSite(t)
	x.ask(cluster.Viewer, "GET", "/api/v1/status", "").want(t, 200, `"cluster":"`, `"hosts":[{"name":"node1"`, `"silent_ns":`)
	x.ask("", "GET", "/api/v1/status", "").want(t, 401, `"code":"unauthenticated"`, `"remedy":"send the header`)
	x.ask("", "GET", "/api/v1/nothing", "").want(t, 401)
	x.ask("", "GET", "/api/v1/status", "", "Authorization", "Bearer holdfast_x_y").want(t, 401, "none of this cluster")
	x.ask(cluster.Viewer, "GET", "/api/v1/nothing", "").want(t, 404, "no such resource")
	x.ask(cluster.Viewer, "DELETE", "/api/v1/status", "").want(t, 405, "want GET")
	x.ask(cluster.Viewer, "PUT", "/api/v1/hosts/node3/maintenance", `{"on":true}`).want(t, 403, "operator is needed", "ask an admin")
	x.ask(cluster.Operator, "PUT", "/api/v1/hosts/node3/maintenance", `{"on":true}`).want(t, 200)
	x.ask(cluster.Operator, "PUT", "/api/v1/hosts/node3/maintenance", `{"off":true}`).want(t, 400, "off: there is no such field")
	x.ask(cluster.Operator, "PUT", "/api/v1/hosts/node3/maintenance", `{"on":3}`).want(t, 400, "on: 3: want true or false")
	x.ask(cluster.Viewer, "GET", "/api/v1/events?limit=0x", "").want(t, 400)
	x.ask(cluster.Viewer, "GET", "/api/v1/events?limit=-1", "").want(t, 400, "limit")
	x.ask(cluster.Viewer, "GET", "/api/v1/events?what=1", "").want(t, 400, "what")
	if got := x.cluster.Users(); len(got) != 1 || got[0] != "script operator (token, 127.0.0.1)" {
		t.Errorf("in the audit: %q", got)
	}
}

// TestResources: each has a role and says what it does.
func TestResources(t *testing.T) {
	for _, r := range rest.Resources() {
		if r.Role == "" || !strings.Contains(r.Text, " ") {
			t.Errorf("%+v", r)
		}
	}
}

// TestWithoutAQuorum: what is told is told with its age, and nothing is promised.
func TestWithoutAQuorum(t *testing.T) {
	x := newSite(t)
	x.cluster.Update(func(s *cluster.Status) {
		s.Connected, s.StoreError, s.AsOf = false, "2 of 3 members are silent", s.Time.Add(-time.Minute)
	})
	a := x.ask(cluster.Viewer, "GET", "/api/v1/jobs", "")
	a.want(t, 200)
	if age := a.header.Get("Holdfast-Age-Ns"); age != "60000000000" {
		t.Errorf("age %q", age)
	}
	x.ask(cluster.Viewer, "GET", "/api/v1/status", "").want(t, 200, `"connected":false`, `"as_of":"`)
	x.ask(cluster.Operator, "POST", "/api/v1/management-vm:stop", "{}").want(t, 409, "reaches no quorum", `"remedy":"see which hosts`)
}

// TestBounds: a body that is larger than what its call takes is refused, also from an admin.
func TestBounds(t *testing.T) {
	x := newSite(t)
	large := `{"host":"` + strings.Repeat("x", 1<<20) + `"}`
	x.ask(cluster.Admin, "POST", "/api/v1/pair:resolve", large).want(t, 413)
	x.ask(cluster.Admin, "POST", "/api/v1/management-vm:migrate", large).want(t, 413)
	x.ask(cluster.Viewer, "POST", "/api/v1/pair:resolve", large).want(t, 403)
}
