package web

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/a-h/templ"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/admit"
	"holdfast/internal/server"
	"holdfast/internal/web/access"
	"holdfast/internal/web/layout"
)

// view is what every page is made of.
type view struct {
	layout.View
	User   who
	Path   string
	Status cluster.Status
	Report told.Report
	Events []cluster.Event // newest first
	page   *page           // nil: of none that changes by itself

	works bool // this host takes part in jobs

	api *api.Client
	r   *http.Request
}

// arg is what stands in the path in place of a name.
func (v *view) arg(name string) string { return v.r.PathValue(name) }

// query is what the address asks for under a name, "" for nothing.
func (v *view) query(name string) string { return v.r.URL.Query().Get(name) }

// May reports whether the user may do what a role may.
func (v *view) May(r cluster.Role) bool { return v.User.Role.May(r) }

// view makes what all pages have in common.
func (c *Console) view(r *http.Request) *view {
	return &view{View: layout.New(r, string(c.Host), c.Version), Path: strings.TrimPrefix(r.URL.Path, "/live"), r: r, works: c.API.Works()}
}

// Keys of a session.
const (
	sessionUser     = "user"
	sessionStamp    = "stamp"
	sessionProvider = "provider" // of who has logged in by the provider; then there are no others
)

// loggedIn has a page answer who is logged in; who is not is sent to log in, and comes back to a page that he has asked for.
func (c *Console) loggedIn(page func(http.ResponseWriter, *http.Request, *view)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, is := c.user(r.Context())
		if !is {
			to := "/login"
			if r.Method == http.MethodGet && r.URL.Path != "/" && !strings.HasPrefix(r.URL.Path, "/live/") {
				to += "?next=" + url.QueryEscape(r.URL.Path)
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
			return
		}
		if u.Once && r.URL.Path != "/password" && r.URL.Path != "/logout" {
			http.Redirect(w, r, "/password", http.StatusSeeOther)
			return
		}
		v := c.view(r)
		v.User = u
		v.api = c.client(c.audit(r, u.Name), u.Role)
		page(w, r, v)
	})
}

// client calls the API of this host in somebody's name.
func (o Options) client(user string, role cluster.Role) *api.Client {
	return api.Through("the agent of this host", o.API.As(server.Caller{User: user, Role: role}))
}

// user is who is logged in, by the session and by what the store has of him now.
func (c *Console) user(ctx context.Context) (who, bool) {
	if text := c.sessions.GetString(ctx, sessionProvider); text != "" {
		return c.byProvider(text)
	}
	u, found := c.access.User(c.sessions.GetString(ctx, sessionUser))
	return who{User: u}, found && u.Stamp == c.sessions.GetString(ctx, sessionStamp)
}

// audit is how a user stands in the log of events: with where he calls from and by what.
func (c *Console) audit(r *http.Request, name string) string {
	return name + " (console, " + access.Address(r) + ")"
}

// source is what guesses of a password are counted by: the address, or the network of one of IPv6.
func source(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	all := admit.Sources(at.Addr())
	last := all[len(all)-1]
	if last.IsSingleIP() {
		return last.Addr().String()
	}
	return last.String()
}

// show writes a page.
func (c *Console) show(w http.ResponseWriter, r *http.Request, code int, body templ.Component) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	if err := body.Render(r.Context(), w); err != nil {
		c.Log.Debug("console: a page was not taken", "path", r.URL.Path, "err", err)
	}
}
