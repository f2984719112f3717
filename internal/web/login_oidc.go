package web

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/web/access"
	"holdfast/internal/web/layout"
	"holdfast/internal/web/provider"
)

// oidcPath begins a login by the OpenID provider.
const oidcPath = "/login/oidc"

// providerHours is how long a session of the provider lasts: then the provider is asked again, and by it the groups.
const providerHours = 8

// who is who has logged in.
type who struct {
	cluster.User
	Provider bool      // by the OpenID provider: the store knows nothing of him
	Until    time.Time // his session's end; of the provider only
}

// ofProvider is what a session keeps of who has logged in by the provider.
type ofProvider struct {
	Name  string       `json:"name"`
	Role  cluster.Role `json:"role"`
	Until time.Time    `json:"until"`
	Stamp string       `json:"stamp"` // of the settings
}

// begunSessions keep what a login by the provider needs until the browser comes back. They have a cookie of their own:
// what a login begins changes nothing of a session in which somebody is logged in.
func begunSessions(store access.Sessions) *scs.SessionManager {
	m := scs.New()
	m.Store = store
	m.Lifetime = provider.BeginWithin
	m.Cookie = scs.SessionCookie{Name: "__Host-holdfast-oidc", Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
	return m
}

// sessionBegun is the key of a provider.Begun in such a session.
const sessionBegun = "begun"

// oidcRoutes are those of a console whose people may log in by a provider.
func (c *Console) oidcRoutes(mux *http.ServeMux) {
	if c.provider == nil {
		return
	}
	mux.Handle("GET "+oidcPath, c.begun.LoadAndSave(http.HandlerFunc(c.beginOIDC)))
	mux.Handle("GET "+provider.Callback, c.begun.LoadAndSave(http.HandlerFunc(c.endOIDC)))
}

// beginOIDC sends the browser to the provider.
func (c *Console) beginOIDC(w http.ResponseWriter, r *http.Request) {
	next := layout.Local(r.URL.Query().Get("next"))
	if _, is := c.user(r.Context()); is {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	to, begun, err := c.provider.Begin(r.Context(), source(r))
	if err != nil {
		c.noLogin(w, r, next, err)
		return
	}
	begun.Next = next
	text, err := json.Marshal(begun)
	if err != nil {
		c.noLogin(w, r, next, err)
		return
	}
	c.begun.Put(r.Context(), sessionBegun, string(text))
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// endOIDC lets in whom the provider sends back.
func (c *Console) endOIDC(w http.ResponseWriter, r *http.Request) {
	var begun provider.Begun
	if text := c.begun.PopString(r.Context(), sessionBegun); text != "" {
		if err := json.Unmarshal([]byte(text), &begun); err != nil {
			c.noLogin(w, r, "/", err)
			return
		}
	}
	next := layout.Local(begun.Next)
	u, err := c.provider.Finish(r.Context(), begun, r.URL.Query())
	if err != nil {
		c.noLogin(w, r, next, err)
		return
	}
	if err := c.enter(r.Context()); err != nil {
		c.noLogin(w, r, next, err)
		return
	}
	until := time.Now().Add(providerHours * time.Hour)
	text, err := json.Marshal(ofProvider{u.Name, u.Role, until, c.provider.Stamp()})
	if err != nil {
		c.noLogin(w, r, next, err)
		return
	}
	c.sessions.SetDeadline(r.Context(), until)
	c.sessions.Put(r.Context(), sessionProvider, string(text))
	c.Log.Info("console: a login", "user", u.Name, "role", string(u.Role), "from", access.Address(r))
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// noLogin shows why a login by the provider did not come about, above the way in for users of the cluster.
func (c *Console) noLogin(w http.ResponseWriter, r *http.Request, next string, err error) {
	v := c.view(r)
	v.Title, v.Path, v.At = v.T("Log in"), "/login", "/login"
	v.Fail(err)
	c.Log.Info("console: a login by the OpenID provider failed", "from", access.Address(r), "err", err)
	c.show(w, r, httpCode(err), loginForm(v, c.issuer(), "", next))
}

// issuer is how people are told of the provider, "" of none.
func (c *Console) issuer() string {
	if c.provider == nil {
		return ""
	}
	return c.provider.Issuer()
}

// enter makes a session one of nobody, with another cookie: nobody who knew the one before has it now.
func (c *Console) enter(ctx context.Context) error {
	if err := c.sessions.RenewToken(ctx); err != nil {
		return err
	}
	return c.sessions.Clear(ctx)
}

// byProvider is who a session of the provider is of, while it lasts and the settings are those of the login.
func (c *Console) byProvider(text string) (who, bool) {
	var s ofProvider
	if c.provider == nil || json.Unmarshal([]byte(text), &s) != nil {
		return who{}, false
	}
	u := who{User: cluster.User{Name: s.Name, Role: s.Role}, Provider: true, Until: s.Until}
	return u, s.Stamp == c.provider.Stamp() && time.Now().Before(s.Until)
}

// own refuses a page that is for users of the cluster only.
func (c *Console) own(page func(http.ResponseWriter, *http.Request, *view)) func(http.ResponseWriter, *http.Request, *view) {
	return func(w http.ResponseWriter, r *http.Request, v *view) {
		if v.User.Provider {
			c.fails(w, r, fail.Errorf(fail.Refused, "the OpenID provider %s has your password, and this console has none", c.issuer()).
				With("change it there"))
			return
		}
		page(w, r, v)
	}
}
