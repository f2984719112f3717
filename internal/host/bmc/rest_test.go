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
		asked = append(asked, strings.TrimSpace(strings.Join([]string{r.Method, r.URL.RequestURI(), string(body), r.Header.Get("If-Match")}, " ")))
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

func TestResetTypesOfActionInfo(t *testing.T) {
	for answer, want := range map[string]string{
		`{"Parameters": [{"Name": "x", "AllowableValues": ["a"]}, {"Name": "ResetType", "DataType": "String", "AllowableValues": ["On", "ForceOff"]}]}`: "[On ForceOff] <nil>",
		`{"Parameters": [{"Name": "ResetType", "DataType": "Number"}]}`:                                                                                 "[] /i has no values of ResetType",
		`404gone`: "[] 404: gone",
	} {
		r, _ := service(t, map[string]string{"GET /s": `{"Id": "1", "Actions": {"#ComputerSystem.Reset": {"target": "/r", "@Redfish.ActionInfo": "/i"}}}`, "GET /i": answer})
		s, err := r.system(context.Background(), "/s")
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.resets(context.Background(), s)
		if text := fmt.Sprint(got, " ", err); text != want {
			t.Errorf("%s: %s, want %s", answer, text, want)
		}
	}
}

// TestResetNamesTheVersion, and does without it where the service will not have it.
func TestResetNamesTheVersion(t *testing.T) {
	for status, want := range map[string]string{
		"204": `POST /r {"ResetType":"On"} "v1"`,
		"412": `POST /r {"ResetType":"On"} "v1"; POST /r {"ResetType":"On"}`,
	} {
		r, asked := service(t, map[string]string{"GET /s": `{"@odata.etag": "\"v1\"", "Actions": {"#ComputerSystem.Reset": {"target": "/r"}}}`, `POST /r "v1"`: status, "POST /r ": "202"})
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
		"GET /s": `{"Members": [{"@odata.id": "/s/1"}], "Members@odata.nextLink": "/s?skip=1"}`, "GET /s?skip=1": `{"Members": [{"@odata.id": "/s/2"}]}`,
		"GET /s/1": `{"Id": "1"}`, "GET /s/2": `{"Id": "2"}`,
		"GET /loop": `{"Members": [{"@odata.id": "/s/1"}], "Members@odata.nextLink": "/loop"}`, "GET /none": `{"Members": [], "Members@odata.nextLink": "/none"}`,
	})
	all, err := r.systems(context.Background(), "/s")
	if err != nil || len(all) != 2 || all[1].ID != "2" || all[1].path != "/s/2" {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := r.systems(context.Background(), "/loop"); !errors.Is(err, ErrRefused) {
		t.Errorf("a loop: %v", err)
	}
	if all, err := r.systems(context.Background(), "/none"); err != nil || len(all) != 0 {
		t.Errorf("none: %v, %v", all, err)
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
