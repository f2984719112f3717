package rest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/server"
	"holdfast/internal/web/rest"
	"holdfast/testbed/try"
)

// procedures are all of the API.
func procedures() []string {
	var out []string
	for _, f := range api.Files {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				out = append(out, "/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name()))
			}
		}
	}
	return out
}

// TestEveryProcedureOfUsersHasAResource: or it is stated why it has none; and what only hosts may call has none.
func TestEveryProcedureOfUsersHasAResource(t *testing.T) {
	has := map[string]bool{}
	for _, r := range rest.Routes() {
		has[r.Procedure] = true
	}
	for _, p := range procedures() {
		_, users := server.LeastRole(p)
		why := rest.Without()[p]
		switch {
		case users && !has[p] && why == "":
			t.Errorf("%s: users may call it, and it has no resource and no reason for that", p)
		case has[p] && why != "":
			t.Errorf("%s: it has a resource, and a reason for having none", p)
		case has[p] && !users:
			t.Errorf("%s: it has a resource, and only hosts may call it", p)
		}
	}
	for _, p := range procedures() { // the transcoder takes a rule for all procedures that begin so
		for _, other := range procedures() {
			if p != other && has[p] && strings.HasPrefix(other, p) {
				t.Errorf("the name of %s begins with that of %s", other, p)
			}
		}
	}
}

// TestRoles: through every resource a token may what the table of rights says, and no more.
func TestRoles(t *testing.T) {
	for _, r := range rest.Routes() {
		least, _ := server.LeastRole(r.Procedure)
		for _, role := range append([]cluster.Role{""}, cluster.Roles...) {
			x := newSite(t)
			path, body := strings.NewReplacer("{host}", "node2", "{id}", "none", "{name}", "none", "{number}", "1").Replace(r.Path), ""
			if r.Method == http.MethodPost || r.Method == http.MethodPut {
				body = "{}"
			}
			a := x.ask(role, r.Method, path, body)
			var e struct {
				Error struct{ Code, Message string }
			}
			if a.code >= 400 {
				if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Error.Code == "" || e.Error.Message == "" {
					t.Errorf("%s %s as %q: %d in another form: %s", r.Method, path, role, a.code, a.body)
				}
			}
			switch {
			case role == "":
				a.want(t, http.StatusUnauthorized)
			case !role.May(least):
				a.want(t, http.StatusForbidden, "and "+string(least)+" is needed")
			case a.code == http.StatusUnauthorized || a.code == http.StatusForbidden || a.code >= 500:
				t.Errorf("%s %s as %s: %d: %s", r.Method, path, role, a.code, a.body)
			}
			x.end()
		}
	}
}

// TestATokenThatEnds: one that was revoked, or whose time is over, is none any more.
func TestATokenThatEnds(t *testing.T) {
	x := newSite(t)
	x.ask(cluster.Viewer, "GET", "/api/v1/version", "").want(t, 200, `"version":"1.0.0"`)
	try.Must(t, x.access.RevokeToken(t.Context(), "root", x.ids[cluster.Viewer]))
	x.ask(cluster.Viewer, "GET", "/api/v1/version", "").want(t, 401, "was revoked")
	for _, header := range []string{"Bearer", "Bearer ", "Basic eDp5", x.tokens[cluster.Admin], "Bearer " + x.tokens[cluster.Admin] + "x"} {
		x.ask("", "GET", "/api/v1/version", "", "Authorization", header).want(t, 401)
	}
	x.ask("", "GET", "/api/v1/version", "", "Cookie", "__Host-holdfast="+x.tokens[cluster.Admin]).want(t, 401)
}
