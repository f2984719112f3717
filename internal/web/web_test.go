package web

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/server"
	"holdfast/internal/server/servertest"
	"holdfast/internal/store/storetest"
	"holdfast/testbed/rfb"
	"holdfast/testbed/try"
)

const secret = "correct horse battery staple"

// site is a console with its users, over TLS.
type site struct {
	*httptest.Server
	t       testing.TB
	console *Console
	cluster *servertest.Fake
	up      *servertest.Upgrades
	pair    *servertest.Pair // once something of it is laid
	notices *servertest.Notices
	aid     *servertest.Aid
	guest   *rfb.Server // whose screen is shown
	screens *servertest.Screens
	access  *Users
}

func newSite(t testing.TB) *site {
	t.Helper()
	return newSiteBy(t, func(string) *config.OIDC { return nil })
}

// newSiteBy is a site whose people may log in by a provider, too; its settings are told the address of the console.
func newSiteBy(t testing.TB, oidc func(url string) *config.OIDC) *site {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	x := &site{t: t, notices: &servertest.Notices{}, aid: &servertest.Aid{},
		cluster: servertest.New(servertest.Three(time.Unix(1_800_000_000, 0))),
		up:      servertest.NewUpgrades(&servertest.Jobs{Now: time.Unix(1_800_000_000, 0)})}
	x.pair = servertest.NewPair(x.cluster)
	x.guest = rfb.New(t)
	x.screens = &servertest.Screens{Dial: func() io.ReadWriteCloser { return x.guest.Dial() }}
	x.access = NewUsers(storetest.NewMem().NewClient("node1"), "node1", log)
	api, err := server.New(x.cluster, server.Options{Socket: filepath.Join(try.ShortDir(t), "s"), Log: log, Access: x.access,
		Jobs: x.up, Upgrade: x.up, Pair: x.pair, Notices: x.notices, Aid: x.aid, Screens: x.screens})
	try.Must(t, err)
	x.Server = httptest.NewUnstartedServer(nil)
	x.console = New(Options{Host: "node1", Version: "1.0.0", API: api, Users: x.access, Log: log,
		OIDC: oidc("https://" + x.Listener.Addr().String())})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { try.Must(t, x.access.Run(ctx)) })
	wg.Go(func() { x.console.live.run(ctx) })
	x.Config.Handler = x.console.handler
	x.StartTLS()
	t.Cleanup(func() {
		cancel()
		x.CloseClientConnections()
		x.Close()
		wg.Wait()
	})
	for _, r := range cluster.Roles {
		_, err := x.access.SetUser(t.Context(), "root", cluster.UserChange{Name: "the-" + string(r), Role: r, Password: secret})
		try.Must(t, err)
	}
	try.Until(t, "the status is known", func() bool { _, known := x.console.live.now(); return known })
	return x
}

// browser is a client with cookies of its own, which follows no redirect.
func (x *site) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	try.Must(x.t, err)
	c := *x.Client()
	c.Jar = jar
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// as is a browser in which somebody has logged in.
func (x *site) as(name string) *http.Client {
	x.t.Helper()
	c := x.browser()
	if code, _, to := x.post(c, "/login", "name", name, "password", secret); code != http.StatusSeeOther || to != "/" {
		x.t.Fatalf("%s logs in: %d, to %q", name, code, to)
	}
	return c
}

func (x *site) do(c *http.Client, r *http.Request) (code int, body, location string) {
	x.t.Helper()
	resp, err := c.Do(r)
	try.Must(x.t, err)
	b, err := io.ReadAll(resp.Body)
	try.Must(x.t, err)
	try.Must(x.t, resp.Body.Close())
	return resp.StatusCode, string(b), resp.Header.Get("Location")
}

func (x *site) request(method, path string, fields ...string) *http.Request {
	x.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	r, err := http.NewRequestWithContext(x.t.Context(), method, x.URL+path, strings.NewReader(form.Encode()))
	try.Must(x.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func (x *site) get(c *http.Client, path string) (code int, body, location string) {
	x.t.Helper()
	return x.do(c, x.request(http.MethodGet, path))
}

func (x *site) post(c *http.Client, path string, fields ...string) (code int, body, location string) {
	x.t.Helper()
	return x.do(c, x.request(http.MethodPost, path, fields...))
}

func TestLogin(t *testing.T) {
	x := newSite(t)
	c := x.browser()
	for _, path := range []string{"/", "/hosts", "/events", "/live/", "/password", "/no-such-page"} {
		if code, body, to := x.get(c, path); code != http.StatusSeeOther || !strings.HasPrefix(to, "/login") || strings.Contains(body, "node1") {
			t.Errorf("%s, unknown: %d, to %q: %s", path, code, to, body)
		}
	}
	if code, body, _ := x.post(c, "/login", "name", "the-admin", "password", "wrong"); code != http.StatusForbidden ||
		!strings.Contains(body, "wrong name or password") || strings.Contains(body, `value="wrong"`) {
		t.Errorf("a wrong password: %d: %s", code, body)
	}
	before, _ := url.Parse(x.URL)
	if code, _, to := x.post(c, "/login", "name", "the-admin", "password", secret, "next",
		"/hosts"); code != http.StatusSeeOther || to != "/hosts" {
		t.Errorf("%d, to %q", code, to)
	}
	if k := c.Jar.Cookies(before); len(k) != 1 || k[0].Name != "__Host-holdfast" {
		t.Errorf("%+v", k)
	}
	code, body, _ := x.get(c, "/")
	for _, want := range []string{"The management VM runs on node1.", "possible within 8.6s", "node3", "served by node1", "the-admin"} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%d, without %q: %s", code, want, body)
		}
	}
	if code, _, to := x.post(c, "/logout"); code != http.StatusSeeOther || to != "/login" {
		t.Errorf("%d, to %q", code, to)
	}
	if code, _, to := x.get(c, "/"); code != http.StatusSeeOther || to != "/login" {
		t.Errorf("after the logout: %d, to %q", code, to)
	}
	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "javascript:alert(1)"} {
		if _, _, to := x.post(x.browser(), "/login", "name", "the-admin", "password", secret, "next", next); to != "/" {
			t.Errorf("next %q leads to %q", next, to)
		}
	}
}

// TestASessionIsNotFixed: the cookie of who has not logged in is another one afterwards.
func TestASessionIsNotFixed(t *testing.T) {
	x := newSite(t)
	c := x.as("the-viewer")
	at, _ := url.Parse(x.URL)
	first := c.Jar.Cookies(at)[0].Value
	x.post(c, "/login", "name", "the-viewer", "password", secret)
	if again := c.Jar.Cookies(at)[0].Value; again == first {
		t.Error("the cookie is the same")
	}
	thief := x.browser()
	thief.Jar.SetCookies(at, []*http.Cookie{{Name: "__Host-holdfast", Value: first, Secure: true, Path: "/"}})
	if code, _, to := x.get(thief, "/"); code != http.StatusSeeOther || to != "/login" {
		t.Errorf("the first cookie: %d, to %q", code, to)
	}
}

// TestRoles: who may not do a thing is not shown its button, and is refused when he asks all the same.
func TestRoles(t *testing.T) {
	x := newSite(t)
	for _, c := range []struct {
		role cluster.Role
		may  bool
	}{{cluster.Viewer, false}, {cluster.Operator, true}, {cluster.Admin, true}} {
		b, asked := x.as("the-"+string(c.role)), len(x.cluster.Users())
		_, body, _ := x.get(b, "/hosts")
		if shown := strings.Contains(body, "/hosts/node3/maintenance"); shown != c.may {
			t.Errorf("%s: the button is shown: %v", c.role, shown)
		}
		code, body, _ := x.post(b, "/hosts/node3/maintenance", "on", "true")
		want := http.StatusForbidden
		if c.may {
			want = http.StatusSeeOther
		}
		if code != want || len(x.cluster.Users())-asked != map[bool]int{true: 1}[c.may] {
			t.Errorf("%s: %d, %q: %s", c.role, code, x.cluster.Users(), body)
		}
		if !c.may && !strings.Contains(body, "and operator is needed") {
			t.Errorf("%s is told: %s", c.role, body)
		}
	}
	if got := x.cluster.Users(); got[0] != "the-operator (console, 127.0.0.1)" {
		t.Errorf("in the audit: %q", got)
	}
}

// TestOtherSites can not have a browser that is logged in do anything, nor show these pages in theirs.
func TestOtherSites(t *testing.T) {
	x := newSite(t)
	c := x.as("the-admin")
	for _, site := range []string{"cross-site", "same-site"} {
		for _, path := range append(slices.Sorted(maps.Keys(x.console.orders())), "/logout", "/password", "/login", "/language") {
			r := x.request(http.MethodPost, path, "on", "true", "language", "zh")
			r.Header.Set("Sec-Fetch-Site", site)
			if code, _, _ := x.do(c, r); code != http.StatusForbidden {
				t.Errorf("%s from %s: %d", path, site, code)
			}
		}
	}
	r := x.request(http.MethodPost, "/hosts/node3/maintenance", "on", "true")
	r.Header.Set("Origin", "https://evil.example")
	if code, _, _ := x.do(c, r); code != http.StatusForbidden || len(x.cluster.Users()) != 0 {
		t.Errorf("%d, %q", code, x.cluster.Users())
	}
	for _, path := range []string{"/login", "/", "/static/console.js", "/healthz", "/nothing"} {
		resp, err := c.Get(x.URL + path)
		try.Must(t, err)
		try.Must(t, resp.Body.Close())
		h := resp.Header
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// TestTextsAreNoMarkup: names and texts that hosts have told stay texts.
func TestTextsAreNoMarkup(t *testing.T) {
	x := newSite(t)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	x.cluster.Update(func(s *cluster.Status) {
		s.Hosts[2].Why, s.Hosts[2].Version, s.Hosts[2].Addr, s.Cluster, s.Waiting = evil, evil, evil, evil, evil
		s.Hosts[2].Name = cluster.HostID(evil)
	})
	x.cluster.Log(cluster.Event{Kind: cluster.EvRefused, Detail: evil, User: evil})
	c := x.as("the-admin")
	for _, path := range []string{"/", "/hosts", "/events"} {
		try.Until(t, "it is shown on "+path, func() bool {
			_, body, _ := x.get(c, path)
			if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") {
				t.Fatalf("%s: %s", path, body)
			}
			return strings.Contains(body, "&lt;script&gt;alert")
		})
	}
	if code, body, _ := x.post(x.browser(), "/login", "name", evil, "password", "x"); code != http.StatusForbidden ||
		strings.Contains(body, "<script>alert") {
		t.Errorf("%d: %s", code, body)
	}
	if _, body, _ := x.get(x.browser(), "/login?next="+url.QueryEscape("/"+evil)); strings.Contains(body, "<script>alert") {
		t.Error(body)
	}
}

// TestAPasswordThatWasGiven lets in only who chooses another one.
func TestAPasswordThatWasGiven(t *testing.T) {
	x := newSite(t)
	once, err := x.access.SetUser(t.Context(), "root", cluster.UserChange{Name: "new", Role: cluster.Admin})
	try.Must(t, err)
	c, other := x.browser(), x.browser()
	for _, b := range []*http.Client{c, other} {
		x.post(b, "/login", "name", "new", "password", once)
	}
	for _, path := range []string{"/", "/hosts", "/live/"} {
		if code, _, to := x.get(c, path); code != http.StatusSeeOther || to != "/password" {
			t.Errorf("%s: %d, to %q", path, code, to)
		}
	}
	if code, _, to := x.post(c, "/hosts/node3/maintenance", "on", "true"); code != http.StatusSeeOther ||
		to != "/password" || len(x.cluster.Users()) != 0 {
		t.Errorf("%d, to %q", code, to)
	}
	for says, fields := range map[string][]string{
		"are not the same":       {"old", once, "new", secret, "again", secret + "x"},
		"wrong name or password": {"old", "x", "new", secret, "again", secret},
		"want 15 to 256":         {"old", once, "new", "short", "again", "short"},
	} {
		if code, body, _ := x.post(c, "/password", fields...); code == http.StatusSeeOther || !strings.Contains(body, says) {
			t.Errorf("%q: %d: %s", says, code, body)
		}
	}
	if code, _, to := x.post(c, "/password", "old", once, "new", secret, "again", secret); code != http.StatusSeeOther || to != "/" {
		t.Errorf("%d, to %q", code, to)
	}
	if code, _, _ := x.get(c, "/"); code != http.StatusOK {
		t.Errorf("with the new one: %d", code)
	}
	if code, _, to := x.get(other, "/"); code != http.StatusSeeOther || to != "/login" {
		t.Errorf("another browser goes on with the old one: %d, to %q", code, to)
	}
}

// TestLanguages: by the browser's, and by the switch.
func TestLanguages(t *testing.T) {
	x := newSite(t)
	for asked, want := range map[string]string{"": "en", "zh-CN,zh;q=0.9": "zh-CN", "de": "en", "fr,zh-Hans;q=0.5": "zh-CN", "\x01": "en"} {
		r := x.request(http.MethodGet, "/login")
		r.Header.Set("Accept-Language", asked)
		if asked == "\x01" {
			r.Header["Accept-Language"] = []string{";;;,,,"}
		}
		if _, body, _ := x.do(x.browser(), r); !strings.Contains(body, `<html lang="`+want+`">`) {
			t.Errorf("%q: %.60s", asked, body)
		}
	}
	c := x.as("the-viewer")
	if code, _, to := x.post(c, "/language", "language", "zh", "back", "/hosts"); code != http.StatusSeeOther || to != "/hosts" {
		t.Errorf("%d, to %q", code, to)
	}
	if _, body, _ := x.get(c, "/hosts"); !strings.Contains(body, `lang="zh-CN"`) || !strings.Contains(body, "运行") {
		t.Error(body)
	}
	if code, _, _ := x.post(c, "/language", "language", "xx"); code != http.StatusBadRequest {
		t.Error(code)
	}
}

// follow has the lines of a stream, and reads them until one has a text.
func follow(t *testing.T, stream io.Reader) (lines *bufio.Scanner, until func(what string)) {
	lines = bufio.NewScanner(stream)
	lines.Buffer(nil, 1<<20)
	return lines, func(what string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), what) {
				return
			}
		}
		t.Fatalf("the stream ended before %q: %v", what, lines.Err())
	}
}

// TestLive: a page gets what changes, and ends with the rights of who looks.
func TestLive(t *testing.T) {
	x := newSite(t)
	c := x.as("the-viewer")
	resp, err := c.Get(x.URL + "/live/")
	try.Must(t, err)
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatal(got)
	}
	lines, until := follow(t, resp.Body)
	until("The management VM runs on node1.")
	x.cluster.Update(func(s *cluster.Status) { s.Owner.Host, s.Owner.Epoch.Seq = "node2", 4 })
	until("The management VM runs on node2.")
	x.cluster.Update(func(s *cluster.Status) { s.Connected, s.StoreError = false, "2 of 3 members are silent" })
	until("This host reaches no quorum of the store.")
	until("event: beat")
	try.Must(t, x.access.RemoveUser(t.Context(), "root", "the-viewer"))
	for lines.Scan() { // until it ends
	}
	if lines.Err() != nil {
		t.Error(lines.Err())
	}
	if code, _, to := x.get(c, "/"); code != http.StatusSeeOther || to != "/login" {
		t.Errorf("%d, to %q", code, to)
	}
}

func TestHealth(t *testing.T) {
	x := newSite(t)
	if code, _, _ := x.get(x.browser(), "/healthz"); code != http.StatusOK {
		t.Error(code)
	}
	if code, _, _ := x.get(x.browser(), "/readyz"); code != http.StatusOK {
		t.Error(code)
	}
	x.cluster.Update(func(s *cluster.Status) { s.Connected = false })
	try.Until(t, "it is not ready", func() bool { code, _, _ := x.get(x.browser(), "/readyz"); return code == http.StatusServiceUnavailable })
	if code, _, _ := x.get(x.browser(), "/healthz"); code != http.StatusOK {
		t.Error(code)
	}
	if code, _, _ := x.get(x.browser(), "/static/../web.go"); code == http.StatusOK {
		t.Error("a file beside the pages")
	}
	if code, _, _ := x.post(x.browser(), "/login", "name", strings.Repeat("x", maxForm+1)); code < 400 {
		t.Errorf("a form of %d bytes: %d", maxForm, code)
	}
}
