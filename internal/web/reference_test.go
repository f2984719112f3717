package web

import (
	"net/http"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// TestPrograms: the console serves the API for programs, with tokens only, and shows to people what it has.
func TestPrograms(t *testing.T) {
	x := newSite(t)
	_, secret, err := x.access.CreateToken(t.Context(), "root", "a script", cluster.Operator, 1)
	try.Must(t, err)
	r := x.request(http.MethodPost, "/api/v1/management-vm:stop")
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "cross-site") // a page of another site that was given a token may use it
	if code, body, _ := x.do(x.browser(), r); code != http.StatusOK {
		t.Errorf("%d: %s", code, body)
	}
	admin := x.as("the-admin")
	if code, body, _ := x.post(admin, "/api/v1/management-vm:start"); code != http.StatusUnauthorized {
		t.Errorf("a session: %d: %s", code, body)
	}
	if got := x.cluster.Users(); len(got) != 1 || got[0] != "a script (token, 127.0.0.1)" {
		t.Errorf("%q", got)
	}
	if code, body, _ := x.get(admin, "/reference"); code != http.StatusOK || !strings.Contains(body, "/api/v1/hosts/{host}/maintenance") ||
		!strings.Contains(body, "/api/openapi.json") {
		t.Errorf("%d: %s", code, body)
	}
	if code, _, to := x.get(x.browser(), "/reference"); code != http.StatusSeeOther || !strings.HasPrefix(to, "/login") {
		t.Errorf("%d, to %q", code, to)
	}
	if code, body, _ := x.get(x.browser(), "/api/openapi.json"); code != http.StatusOK || !strings.Contains(body, `"openapi": "3.1.0"`) {
		t.Errorf("%d: %s", code, body)
	}
}
