package web

import (
	"context"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/web/provider"
	"holdfast/testbed/try"
)

// idp is an OpenID provider: that of zitadel/oidc with the storage of its example. Who logs in there has no password.
type idp struct {
	*httptest.Server
	*storage.Storage
	user   string              // who logs in next
	groups map[string][]string // by user
	broken atomic.Bool         // answers 502
}

func (p *idp) GetUserByID(id string) *storage.User {
	return &storage.User{ID: id, Username: id, Password: secret, Email: id + "@example.org"}
}
func (p *idp) GetUserByUsername(name string) *storage.User { return p.GetUserByID(name) }
func (p *idp) ExampleClientID() string                     { return "none" }

// SetUserinfoFromToken tells of the groups, too.
func (p *idp) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, token, subject, origin string) error {
	if err := p.Storage.SetUserinfoFromToken(ctx, info, token, subject, origin); err != nil {
		return err
	}
	info.AppendClaims("groups", p.groups[subject])
	return nil
}

// newIDP is a provider, and a console that has it.
func newIDP(t *testing.T) (*idp, *site) {
	t.Helper()
	p := &idp{groups: map[string][]string{"vera": {"staff", "look"}, "otto": {"look", "work"}, "anna": {"rule", "look"}, "nora": {"staff"}}}
	p.Server = httptest.NewUnstartedServer(nil)
	dir := t.TempDir()
	conf := &config.OIDC{Issuer: "https://" + p.Listener.Addr().String(), ClientID: "holdfast", Claim: "groups",
		SecretFile: filepath.Join(dir, "secret"), CA: filepath.Join(dir, "ca.pem"),
		Roles: map[string]string{"look": "viewer", "work": "operator", "rule": "admin"}}
	x := newSiteBy(t, func(at string) *config.OIDC { conf.URL = at; return conf })
	p.Storage = storage.NewStorageWithClients(p, map[string]*storage.Client{
		"holdfast": storage.WebClient("holdfast", "the-secret", x.URL+provider.Callback)})
	var key [32]byte
	rand.Read(key[:])
	server, err := op.NewProvider(&op.Config{CryptoKey: key, CodeMethodS256: true, AuthMethodPost: true}, p, op.StaticIssuer(conf.Issuer))
	try.Must(t, err)
	back := op.AuthCallbackURL(server)
	mux := http.NewServeMux()
	mux.Handle("/login/username", op.NewIssuerInterceptor(server.IssuerFromRequest).HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.FormValue("authRequestID")
		if err := p.CheckUsernamePassword(p.user, secret, id); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, back(r.Context(), id), http.StatusFound)
	}))
	mux.Handle("/", server)
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	})
	p.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	p.StartTLS()
	t.Cleanup(p.Close)
	try.Must(t, os.WriteFile(conf.SecretFile, []byte("the-secret\n"), 0o600))
	try.Must(t, os.WriteFile(conf.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600))
	return p, x
}

// follow goes where a console or a provider sends a browser, until the address that holds a text.
func (x *site) follow(c *http.Client, at, until string) string {
	x.t.Helper()
	for range 10 {
		if strings.Contains(at, until) {
			return at
		}
		if strings.HasPrefix(at, "/") {
			at = x.URL + at
		}
		resp, err := c.Get(at)
		try.Must(x.t, err)
		body, err := io.ReadAll(resp.Body)
		try.Must(x.t, err)
		try.Must(x.t, resp.Body.Close())
		to, err := resp.Location()
		if err != nil {
			x.t.Fatalf("%s leads nowhere: %d: %s", at, resp.StatusCode, body)
		}
		at = to.String()
	}
	x.t.Fatalf("%s is not reached", until)
	return ""
}

// by begins a login by the provider, and returns the path by which it sends the browser back.
func (x *site) by(c *http.Client, p *idp, user, next string) string {
	x.t.Helper()
	p.user = user
	return strings.TrimPrefix(x.follow(c, oidcPath+"?next="+url.QueryEscape(next), provider.Callback+"?"), x.URL)
}

// TestLoginByAProvider: each has the highest role of the groups, and stands in the audit as one of the provider.
func TestLoginByAProvider(t *testing.T) {
	p, x := newIDP(t)
	if _, body, _ := x.get(x.browser(), "/login"); !strings.Contains(body, "Log in with "+p.Listener.Addr().String()) ||
		!strings.Contains(body, `name="password"`) {
		t.Error(body)
	}
	for _, c := range []struct {
		user string
		role cluster.Role
	}{{"vera", cluster.Viewer}, {"otto", cluster.Operator}, {"anna", cluster.Admin}} {
		b, asked := x.browser(), len(x.cluster.Users())
		code, body, to := x.get(b, x.by(b, p, c.user, "/hosts"))
		if code != http.StatusSeeOther || to != "/hosts" {
			t.Fatalf("%s: %d, to %q: %s", c.user, code, to, body)
		}
		_, body, _ = x.get(b, "/hosts")
		if !strings.Contains(body, "oidc:"+c.user) || strings.Contains(body, `href="/password"`) {
			t.Errorf("%s: %s", c.user, body)
		}
		code, _, _ = x.post(b, "/hosts/node3/maintenance", "on", "true")
		want, asks := http.StatusForbidden, 0
		if c.role.May(cluster.Operator) {
			want, asks = http.StatusSeeOther, 1
		}
		if code != want || len(x.cluster.Users()) != asked+asks {
			t.Errorf("%s: %d, %q", c.user, code, x.cluster.Users())
		}
		if code, _, _ := x.get(b, "/users"); (code == http.StatusOK) != c.role.May(cluster.Admin) {
			t.Errorf("%s asks for the users: %d", c.user, code)
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if code, body, _ := x.do(b, x.request(method, "/password")); code == http.StatusOK || !strings.Contains(body, "has your password") {
				t.Errorf("%s: %d: %s", c.user, code, body)
			}
		}
		if code, _, to := x.post(b, "/logout"); code != http.StatusSeeOther || to != "/login?left" {
			t.Errorf("%d, to %q", code, to)
		}
		if _, body, _ := x.get(b, "/login?left"); !strings.Contains(body, "goes on") {
			t.Error(body)
		}
		if _, _, to := x.get(b, "/hosts"); !strings.HasPrefix(to, "/login") {
			t.Errorf("after the logout: to %q", to)
		}
	}
	if got := x.cluster.Users(); !slices.Equal(got, []string{"oidc:otto (console, 127.0.0.1)", "oidc:anna (console, 127.0.0.1)"}) {
		t.Errorf("in the audit: %q", got)
	}
}

// TestWithoutAGroup nobody is let in, and is told which claim is wanted.
func TestWithoutAGroup(t *testing.T) {
	p, x := newIDP(t)
	b := x.browser()
	code, body, _ := x.get(b, x.by(b, p, "nora", "/"))
	if code != http.StatusForbidden || !strings.Contains(body, "oidc:nora may not use this console: no group in the claim groups") {
		t.Errorf("%d: %s", code, body)
	}
	if _, _, to := x.get(b, "/"); to != "/login" {
		t.Errorf("to %q", to)
	}
	for _, evil := range []string{"<script>alert(1)</script>", strings.Repeat("x", 10<<10), "a (console, 10.0.0.1)", "a\u202eb"} {
		p.groups[evil] = []string{"rule"}
		code, body, _ := x.get(b, x.by(b, p, evil, "/"))
		if code != http.StatusForbidden || !strings.Contains(body, "gives you no name") || strings.Contains(body, "<script>alert") {
			t.Errorf("%.40s: %d: %s", evil, code, body)
		}
	}
	p.groups["the-admin"] = []string{"look"} // is no user of the cluster
	c := x.browser()
	x.get(c, x.by(c, p, "the-admin", "/"))
	if code, _, _ := x.get(c, "/users"); code != http.StatusForbidden {
		t.Errorf("the-admin of the provider asks for the users: %d", code)
	}
}

// TestAnAnswerServesOnce and one browser only; another cookie comes of it.
func TestAnAnswerServesOnce(t *testing.T) {
	p, x := newIDP(t)
	const begun = "was not begun in this browser"
	refused := func(what string, b *http.Client, path string) {
		t.Helper()
		if code, body, _ := x.get(b, path); code != http.StatusForbidden || !strings.Contains(body, begun) {
			t.Errorf("%s: %d: %s", what, code, body)
		}
	}
	b, thief := x.browser(), x.browser()
	back := x.by(b, p, "anna", "/")
	refused("another browser", thief, back)
	x.by(thief, p, "vera", "/") // has begun one, too
	refused("another browser's answer", thief, back)
	refused("no answer", x.browser(), provider.Callback)
	if code, _, to := x.get(b, back); code != http.StatusSeeOther || to != "/" {
		t.Fatalf("%d, to %q", code, to)
	}
	refused("once more", b, back)
	at, _ := url.Parse(x.URL)
	c := x.as("the-viewer")
	session := func(c *http.Client) string {
		for _, k := range c.Jar.Cookies(at) {
			if k.Name == "__Host-holdfast" {
				return k.Value
			}
		}
		return ""
	}
	before := session(c)
	if code, _, to := x.get(c, oidcPath+"?next=/hosts"); code != http.StatusSeeOther || to != "/hosts" || session(c) != before {
		t.Errorf("who is logged in: %d, to %q", code, to)
	}
	wrong := x.browser()
	back = x.by(wrong, p, "anna", "/")
	u, _ := url.Parse(back)
	q := u.Query()
	q.Set("state", "x")
	refused("another state", wrong, provider.Callback+"?"+q.Encode())
	refused("and then the right one", wrong, back)
	x.by(wrong, p, "anna", "/")
	// The provider's code of another login, with the state of this one: PKCE and the nonce are of another one.
	other := x.browser()
	stolen, _ := url.Parse(x.by(other, p, "anna", "/"))
	mine, _ := url.Parse(x.by(wrong, p, "vera", "/"))
	q = mine.Query()
	q.Set("code", stolen.Query().Get("code"))
	if code, body, _ := x.get(wrong, provider.Callback+"?"+q.Encode()); code != http.StatusForbidden ||
		!strings.Contains(body, "lets nobody in") {
		t.Errorf("another's code: %d: %s", code, body)
	}
	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "javascript:alert(1)"} {
		e := x.browser()
		if code, _, to := x.get(e, x.by(e, p, "vera", next)); code != http.StatusSeeOther || to != "/" {
			t.Errorf("next %q leads to %q, %d", next, to, code)
		}
	}
}

// TestASessionOfAProviderEnds in time, and with the settings; a login as a user of the cluster takes its place.
func TestASessionOfAProviderEnds(t *testing.T) {
	p, x := newIDP(t)
	b := x.browser()
	x.get(b, x.by(b, p, "anna", "/"))
	if code, _, _ := x.get(b, "/users"); code != http.StatusOK {
		t.Fatal(code)
	}
	kept := func(until time.Time, stamp string) string {
		return fmt.Sprintf(`{"name":"oidc:anna","role":"admin","until":%q,"stamp":%q}`, until.Format(time.RFC3339), stamp)
	}
	now, stamp := time.Now(), x.console.provider.Stamp()
	if u, is := x.console.byProvider(kept(now.Add(time.Hour), stamp)); !is || u.Name != "oidc:anna" || u.Role != cluster.Admin {
		t.Errorf("%+v, %v", u, is)
	}
	for _, s := range []string{kept(now.Add(time.Hour), "other"), kept(now.Add(-time.Hour), stamp), `{`, `{}`} {
		if u, is := x.console.byProvider(s); is {
			t.Errorf("%s: %+v", s, u)
		}
	}
	if code, _, to := x.post(b, "/login", "name", "the-viewer", "password", secret); code != http.StatusSeeOther || to != "/" {
		t.Fatalf("%d, to %q", code, to)
	}
	if code, body, _ := x.get(b, "/users"); code != http.StatusForbidden || strings.Contains(body, "oidc:anna") {
		t.Errorf("%d: %s", code, body)
	}
	x.console.provider = nil // as after a start without
	c := x.browser()
	if code, _, _ := x.get(c, "/login"); code != http.StatusOK {
		t.Error(code)
	}
}

// TestAProviderThatIsAway keeps nobody else out.
func TestAProviderThatIsAway(t *testing.T) {
	p, x := newIDP(t)
	p.broken.Store(true)
	b := x.browser()
	code, body, _ := x.get(b, oidcPath)
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "does not answer as one, or not in time") ||
		!strings.Contains(body, "log in as a user of this cluster") || !strings.Contains(body, `name="password"`) {
		t.Errorf("%d: %s", code, body)
	}
	if code, _, to := x.post(b, "/login", "name", "the-admin", "password", secret); code != http.StatusSeeOther || to != "/" {
		t.Errorf("%d, to %q", code, to)
	}
	p.broken.Store(false)
	c := x.browser()
	if code, _, to := x.get(c, x.by(c, p, "vera", "/")); code != http.StatusSeeOther || to != "/" {
		t.Errorf("it is there again: %d, to %q", code, to)
	}
	c = x.browser()
	back := x.by(c, p, "vera", "/")
	p.broken.Store(true)
	if code, body, _ := x.get(c, back); code != http.StatusServiceUnavailable || strings.Contains(body, "502") {
		t.Errorf("%d: %s", code, body)
	}
	code, body, _ = x.get(c, provider.Callback+"?state=x&error=%3Cscript%3Ealert(1)%3C/script%3E")
	if code != http.StatusForbidden || strings.Contains(body, "<script>alert") {
		t.Errorf("%d: %s", code, body)
	}
}
