package web

import (
	"net/http"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// TestMetricsAreForThoseWhoMayLook: a token or a login lets in, and nothing else does.
func TestMetricsAreForThoseWhoMayLook(t *testing.T) {
	x := newSite(t)
	ask := func(c *http.Client, authorization string) (int, string) {
		r := x.request(http.MethodGet, "/metrics")
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		code, body, _ := x.do(c, r)
		return code, body
	}
	token := func(role cluster.Role) (id, secret string) {
		made, secret, err := x.access.CreateToken(t.Context(), "root", "prometheus", role, 1)
		try.Must(t, err)
		return made.ID, secret
	}
	id, viewer := token(cluster.Viewer)
	_, admin := token(cluster.Admin)
	for _, secret := range []string{viewer, admin} {
		if code, body := ask(x.browser(), "Bearer "+secret); code != http.StatusOK || !strings.Contains(body, "\nholdfast_resource_up 1\n") {
			t.Errorf("with a token: %d: %.200s", code, body)
		}
	}
	if code, body := ask(x.as("the-viewer"), ""); code != http.StatusOK || !strings.Contains(body, "\nholdfast_takeover_possible 1\n") {
		t.Errorf("logged in: %d: %.200s", code, body)
	}
	try.Must(t, x.access.RevokeToken(t.Context(), "root", id))
	once, err := x.access.SetUser(t.Context(), "root", cluster.UserChange{Name: "the-viewer", NewPassword: true})
	try.Must(t, err)
	c := x.browser()
	x.post(c, "/login", "name", "the-viewer", "password", once)
	if code, body := ask(c, ""); code != http.StatusUnauthorized || strings.Contains(body, "holdfast_resource") {
		t.Errorf("by a password that only lets in who gives another one: %d: %.200s", code, body)
	}
	for what, authorization := range map[string]string{
		"nothing": "", "a revoked token": "Bearer " + viewer, "another's": "Bearer " + viewer[:len(viewer)-1] + "x", "no token": "Bearer ",
		"a password": "Basic dGhlLXZpZXdlcjpjb3JyZWN0",
	} {
		if code, body := ask(x.browser(), authorization); code != http.StatusUnauthorized || strings.Contains(body, "node") {
			t.Errorf("%s: %d: %.200s", what, code, body)
		}
	}
}
