package bmc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// service answers by "METHOD PATH", with a status in front unless it is 200, and notes
// the requests with their bodies and versions.
func service(t *testing.T, answers map[string]string) (*rest, *[]string) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a broken one is not what is sent
		asked = append(asked, strings.TrimSpace(strings.Join([]string{r.Method, r.URL.RequestURI(), string(body),
			r.Header.Get("If-Match")}, " ")))
		key := r.Method + " " + r.URL.RequestURI()
		if v, ok := answers[key+" "+r.Header.Get("If-Match")]; ok {
			key = v
		} else {
			key = answers[key]
		}
		var code int
		if n, _ := fmt.Sscanf(key, "%d", &code); n == 1 {
			w.WriteHeader(code)
			key = key[3:]
		}
		_, _ = io.WriteString(w, key) // the client may be gone
	}))
	t.Cleanup(srv.Close)
	return &rest{endpoint: srv.URL, client: srv.Client()}, &asked
}

// TestResetNamesTheVersion, and does without it where the service will not have it.
func TestResetNamesTheVersion(t *testing.T) {
	for status, want := range map[string]string{
		"204": `POST /r {"ResetType":"On"} "v1"`,
		"412": `POST /r {"ResetType":"On"} "v1"; POST /r {"ResetType":"On"} v1; POST /r {"ResetType":"On"}`,
	} {
		r, asked := service(t, map[string]string{"GET /s": `{"@odata.etag": "\"v1\"", "Actions": {"#ComputerSystem.Reset": {"target": "/r"}}}`, `POST /r "v1"`: status, "POST /r v1": "412", "POST /r ": "202"})
		s, err := r.system(context.Background(), "/s")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.reset(context.Background(), s, "On"); err != nil {
			t.Errorf("%s: %v", status, err)
		}
		if got := strings.Join((*asked)[1:], "; "); got != want {
			t.Errorf("%s: %s, want %s", status, got, want)
		}
	}
}

func TestSystemsPageByPage(t *testing.T) {
	r, _ := service(t, map[string]string{
		"GET /s":        `{"Members": [{"@odata.id": "/s/1"}], "Members@odata.nextLink": "/s?skip=1"}`,
		"GET /s?skip=1": `{"Members": [{"@odata.id": "/s/2"}]}`,
		"GET /s/1":      `{"Id": "1"}`, "GET /s/2": `{"Id": "2"}`,
		"GET /loop":  `{"Members": [{"@odata.id": "/s/1"}], "Members@odata.nextLink": "/loop"}`,
		"GET /none":  `{"Members": [], "Members@odata.nextLink": "/none"}`,
		"GET /later": `{"Members": [], "Members@odata.nextLink": "/s"}`,
		"GET /away":  `{"Members": [], "Members@odata.nextLink": "https://192.0.2.1/s"}`,
	})
	all, err := r.systems(context.Background(), "/s")
	if err != nil || len(all) != 2 || all[1].ID != "2" || all[1].path != "/s/2" {
		t.Errorf("%v, %v", all, err)
	}
	if all, err := r.systems(context.Background(), "/later"); err != nil || len(all) != 2 {
		t.Errorf("a first page without any: %v, %v", all, err)
	}
	for _, place := range []string{"/loop", "/none"} {
		if _, err := r.systems(context.Background(), place); !errors.Is(err, ErrRefused) ||
			!strings.Contains(err.Error(), "after 1 pages the next one is "+place) {
			t.Errorf("a loop: %v", err)
		}
	}
	if _, err := r.systems(context.Background(), "/away"); !errors.Is(err, errNoTarget) {
		t.Errorf("a page of another host: %v", err)
	}
}

// TestPlacesElsewhereAreNotAsked: what a service names is a path of its own.
func TestPlacesElsewhereAreNotAsked(t *testing.T) {
	r, asked := service(t, nil)
	for _, place := range []string{"", "@192.0.2.1/x", ".example.org/", ":1/", "https://192.0.2.1/x", "x"} {
		if err := r.get(context.Background(), place, nil); !errors.Is(err, errNoTarget) {
			t.Errorf("%q: %v", place, err)
		}
	}
	if len(*asked) != 0 {
		t.Errorf("asked: %v", slices.Clone(*asked))
	}
}

// TestPlaces: the default port may be left out, and names have no case. All else is elsewhere.
func TestPlaces(t *testing.T) {
	for _, c := range []struct{ endpoint, base, ref, want string }{
		{"https://bmc.example:443", "/a", "https://bmc.example/a/", "/a/"},
		{"https://bmc.example:443", "/a", "https://BMC.example:443/a/?x=1#y", "/a/?x=1"},
		{"https://[2001:db8::1]:443", "/a", "https://[2001:db8::1]/a/", "/a/"},
		{"https://bmc.example:8443", "/a", "https://bmc.example:8443/a/", "/a/"},
		{"https://bmc.example:443", "/a/b", "c/", "/a/c/"},
		{"https://bmc.example:443", "/a/b", "/c", "/c"},
		{"https://bmc.example:443", "/a", "https://bmc.example:8443/a/", ""},
		{"https://bmc.example:8443", "/a", "https://bmc.example/a/", ""},
		{"https://bmc.example:443", "/a", "http://bmc.example/a/", ""},
		{"https://bmc.example:443", "/a", "http://bmc.example:443/a/", ""},
		{"https://bmc.example:443", "/a", "//192.0.2.1/a/", ""},
		{"https://bmc.example:443", "/a", "https://bmc.example.org/a/", ""},
		{"https://bmc.example:443", "/a", "https://x@bmc.example/a/", ""},
		{"https://bmc.example:443", "/a", "https://bmc.example:443@192.0.2.1/a/", ""},
		{"https://bmc.example:443", "/a", "%zz", ""},
	} {
		r := &rest{endpoint: c.endpoint}
		if got, err := r.place(c.base, c.ref); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s%s to %s: %q, %v; want %q", c.endpoint, c.base, c.ref, got, err, c.want)
		}
	}
}

// TestRedirectWithoutPort: a device of the default port leaves it out when it redirects.
func TestRedirectWithoutPort(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a broken one is not what is sent
		if r.URL.Path == "/r" {
			http.Redirect(w, r, "https://example.com/r/", http.StatusMovedPermanently)
		} else if r.Method != http.MethodPost || string(body) != `{"ResetType":"ForceOff"}` || r.Header.Get("X-Auth-Token") != "t" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer srv.Close()
	r := &rest{endpoint: "https://example.com:443", client: srv.Client(), token: "t"} // which is the server, by this client
	r.client.CheckRedirect = stay
	s := &system{}
	s.Actions.Reset.Target = "/r"
	if err := r.reset(t.Context(), s, resetOff); err != nil {
		t.Error(err)
	}
}

// TestRefusalsSayWhy: the reason is not lost behind what services put around it.
func TestRefusalsSayWhy(t *testing.T) {
	around := `{"error": {"code": "Base.1.7.GeneralError", "message": "See ExtendedInfo", "@Message.ExtendedInfo": %s}}`
	info := `{"MessageArgs": ["` + strings.Repeat("x", 600) + `"], "Message": "No more sessions.", "MessageId": "IDRAC.2.4.RAC0218"}`
	for body, want := range map[string]string{
		fmt.Sprintf(around, "["+info+"]"): "HTTP status 503: IDRAC.2.4.RAC0218: No more sessions.",
		fmt.Sprintf(around, info):         "HTTP status 503: Base.1.7.GeneralError: See ExtendedInfo",
		fmt.Sprintf(around, "null"):       "HTTP status 503: Base.1.7.GeneralError: See ExtendedInfo",
		"<html>\nbusy":                    "HTTP status 503: (html) busy",
		"":                                "HTTP status 503: ",
	} {
		if got := (&statusError{http.StatusServiceUnavailable, body}).Error(); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
