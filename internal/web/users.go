package web

import (
	"context"
	"net/http"
	"strconv"

	"github.com/a-h/templ"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// usersPart is the part of the page of users and tokens.
func usersPart(ctx context.Context, v *view) (templ.Component, error) {
	all, err := v.api.Users(ctx)
	if err != nil {
		return nil, err
	}
	tokens, err := v.api.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	return users(v, all, tokens), nil
}

// setUser makes a user, or gives one another role or a password for once, which is shown on the answer only.
func (c *Console) setUser(w http.ResponseWriter, r *http.Request, v *view) {
	x := cluster.UserChange{Name: r.FormValue("name"), Role: cluster.Role(r.FormValue("role")), NewPassword: r.FormValue("password") == "new"}
	u, password, err := v.api.SetUser(r.Context(), x)
	switch {
	case err != nil:
		c.fails(w, r, err)
	case password != "":
		v.Title = v.T("A password for once")
		c.show(w, r, http.StatusOK, secretPage(v, "/users", u.Name, password,
			v.T("It lets "+u.Name+" in once, to choose another one. It is not shown again.")))
	default:
		http.Redirect(w, r, "/users", http.StatusSeeOther)
	}
}

// removeUser removes a user, whose name was typed again.
func (c *Console) removeUser(w http.ResponseWriter, r *http.Request, v *view) {
	name := r.PathValue("name")
	err := sameName(r, name)
	if err == nil {
		err = v.api.RemoveUser(r.Context(), name)
	}
	c.done(w, r, err, "/users")
}

// createToken makes a token, which is shown on the answer only.
func (c *Console) createToken(w http.ResponseWriter, r *http.Request, v *view) {
	days, err := strconv.Atoi(r.FormValue("days"))
	if err != nil {
		c.fails(w, r, fail.Errorf(fail.Invalid, "days: %q: want a whole number", r.FormValue("days")))
		return
	}
	t, secret, err := v.api.CreateToken(r.Context(), r.FormValue("name"), cluster.Role(r.FormValue("role")), days)
	if err != nil {
		c.fails(w, r, err)
		return
	}
	v.Title = v.T("A token")
	c.show(w, r, http.StatusOK, secretPage(v, "/users", t.Name, secret, v.T("It is not shown again.")))
}

// revokeToken ends a token.
func (c *Console) revokeToken(w http.ResponseWriter, r *http.Request, v *view) {
	c.done(w, r, v.api.RevokeToken(r.Context(), r.PathValue("id")), "/users")
}
