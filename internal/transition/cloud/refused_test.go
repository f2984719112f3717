package cloud

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
)

// TestLoginRefused: what Keystone says of a login is told, and what can be done.
func TestLoginRefused(t *testing.T) {
	for status, want := range map[int]struct {
		kind   fail.Kind
		text   string
		remedy bool
	}{
		http.StatusUnauthorized:       {fail.Invalid, "status 401: the password has expired", true},
		http.StatusServiceUnavailable: {fail.Unavailable, "status 503: the password has expired", false},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"error": {"message": "the password has expired"}}`))
		}))
		o, err := From(func(name string) string {
			return map[string]string{"OS_AUTH_URL": srv.URL, "OS_USER_ID": "u", "OS_PASSWORD": "p", "OS_PROJECT_ID": "x"}[name]
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Login(t.Context(), o, http.Client{})
		srv.Close()
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != want.kind || !strings.HasSuffix(e.Message, want.text) || (e.Remedy != "") != want.remedy {
			t.Errorf("%d: %+v", status, err)
		}
	}
	_, err := From(func(string) string { return "" })
	var e *fail.Error
	if !errors.As(err, &e) || !strings.Contains(e.Remedy, "--openrc") {
		t.Errorf("%+v", err)
	}
}
