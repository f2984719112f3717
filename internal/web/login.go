package web

import (
	"net/http"

	"holdfast/internal/lib/fail"
	"holdfast/internal/web/access"
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
		v.fail(err)
	case !any:
		v.Message = v.T("There is no user yet. Make the first one on a host: holdfast user add NAME --role admin")
	}
	c.show(w, r, http.StatusOK, loginForm(v, "", local(r.URL.Query().Get("next"))))
}

// login lets somebody in.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	v := c.view(r)
	v.Title = v.T("Log in")
	name, next := r.FormValue("name"), local(r.FormValue("next"))
	u, err := c.access.Login(r.Context(), name, r.FormValue("password"), source(r))
	if err == nil {
		err = c.sessions.RenewToken(r.Context()) // nobody who knew the cookie before has it now
	}
	if err != nil {
		v.fail(err)
		c.Log.Info("console: a login failed", "user", name, "from", access.Address(r), "err", err)
		c.show(w, r, httpCode(err), loginForm(v, name, next))
		return
	}
	c.sessions.Put(r.Context(), sessionUser, u.Name)
	c.sessions.Put(r.Context(), sessionStamp, u.Stamp)
	c.Log.Info("console: a login", "user", u.Name, "from", access.Address(r))
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// logout ends the session.
func (c *Console) logout(w http.ResponseWriter, r *http.Request, _ *view) {
	if err := c.sessions.Destroy(r.Context()); err != nil {
		c.fails(w, r, err)
		return
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
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
		v.fail(err)
		c.show(w, r, httpCode(err), passwordForm(v))
		return
	}
	u, _ := c.access.User(v.User.Name)
	c.sessions.Put(r.Context(), sessionStamp, u.Stamp)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
