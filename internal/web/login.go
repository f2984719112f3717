package web

import (
	"net/http"

	"holdfast/internal/lib/fail"
	"holdfast/internal/web/access"
	"holdfast/internal/web/layout"
)

// loginPage asks for a name and a password.
func (c *Console) loginPage(w http.ResponseWriter, r *http.Request) {
	v := c.view(r)
	v.Title = v.T("Log in")
	if _, is := c.user(r.Context()); is {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	any, err := c.access.Any(r.Context())
	switch {
	case err != nil:
		v.Fail(err)
	case !any:
		v.Message = v.T("There is no user yet. Make the first one on a host: holdfast user add NAME --role admin")
	case c.provider != nil && r.URL.Query().Has(leftProvider):
		v.Message = v.T("You are logged out here. Your session at " + c.issuer() + " goes on: end it there, too, on a computer that others use.")
	}
	c.show(w, r, http.StatusOK, loginForm(v, c.issuer(), "", layout.Local(r.URL.Query().Get("next"))))
}

// login lets somebody in.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	v := c.view(r)
	v.Title = v.T("Log in")
	name, next := r.FormValue("name"), layout.Local(r.FormValue("next"))
	u, err := c.access.Login(r.Context(), name, r.FormValue("password"), source(r))
	if err == nil {
		err = c.enter(r.Context())
	}
	if err != nil {
		v.Fail(err)
		c.Log.Info("console: a login failed", "user", name, "from", access.Address(r), "err", err)
		c.show(w, r, httpCode(err), loginForm(v, c.issuer(), name, next))
		return
	}
	c.sessions.Put(r.Context(), sessionUser, u.Name)
	c.sessions.Put(r.Context(), sessionStamp, u.Stamp)
	c.Log.Info("console: a login", "user", u.Name, "from", access.Address(r))
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// leftProvider is what the login page is asked with after a logout of who had logged in by the provider.
const leftProvider = "left"

// logout ends the session.
func (c *Console) logout(w http.ResponseWriter, r *http.Request, v *view) {
	if err := c.sessions.Destroy(r.Context()); err != nil {
		c.fails(w, r, err)
		return
	}
	to := "/login"
	if v.User.Provider {
		to += "?" + leftProvider
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// passwordPage asks for another password.
func (c *Console) passwordPage(w http.ResponseWriter, r *http.Request, v *view) {
	v.Title = v.T("Password")
	c.show(w, r, http.StatusOK, passwordForm(v))
}

// password gives the user another one; his other sessions end.
func (c *Console) password(w http.ResponseWriter, r *http.Request, v *view) {
	v.Title = v.T("Password")
	chosen := r.FormValue("new")
	err := error(nil)
	if chosen != r.FormValue("again") {
		err = fail.Errorf(fail.Invalid, "password: the two that you have typed are not the same")
	}
	if err == nil {
		err = c.access.Password(r.Context(), v.User.Name, r.FormValue("old"), chosen, source(r))
	}
	if err == nil {
		err = c.sessions.RenewToken(r.Context())
	}
	if err != nil {
		v.Fail(err)
		c.show(w, r, httpCode(err), passwordForm(v))
		return
	}
	u, _ := c.access.User(v.User.Name)
	c.sessions.Put(r.Context(), sessionStamp, u.Stamp)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
