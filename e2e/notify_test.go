package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/testbed/demo"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// noticed is what a webhook was told.
type noticed struct {
	ID, Subject, Text string
	Test              bool
}

// restAsk asks the REST API of a cluster, and reads its answer, if there is one, into a value.
func restAsk(t *testing.T, c *http.Client, l demo.Login, method, path string, body, into any) {
	t.Helper()
	if status, answer := restTry(t, c, l, method, path, body, into); status != http.StatusOK {
		t.Fatalf("%s %s: %d: %s", method, path, status, answer)
	}
}

// restTry asks the REST interface, and reads an answer that is well into into.
func restTry(t *testing.T, c *http.Client, l demo.Login, method, path string, body, into any) (status int, answer []byte) {
	t.Helper()
	b, err := json.Marshal(body)
	try.Must(t, err)
	r, err := http.NewRequestWithContext(try.Context(t), method, strings.TrimSuffix(l.Console, "/")+"/api/v1"+path, bytes.NewReader(b))
	try.Must(t, err)
	r.Header.Set("Authorization", "Bearer "+l.Token)
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodGet {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	resp, err := c.Do(r)
	try.Must(t, err)
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	try.Must(t, err)
	if into != nil && resp.StatusCode == http.StatusOK {
		try.Must(t, json.Unmarshal(answer, into))
	}
	return resp.StatusCode, answer
}

// TestNotifications: a cluster is given a receiver, which is tested and then told once of what somebody does; one that refuses
// is shown to fail, with the reason.
func TestNotifications(t *testing.T) {
	need.Real(t, built)
	var mu sync.Mutex
	var got []noticed
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuses" {
			http.Error(w, "not today", http.StatusServiceUnavailable)
			return
		}
		var x noticed
		if err := json.NewDecoder(r.Body).Decode(&x); err != nil || r.Header.Get("Authorization") != "Bearer it" {
			t.Errorf("%v: %v", err, r.Header)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, x)
	}))
	defer srv.Close()
	l := standing(t, "none")
	c := client(t, l)
	dir := t.TempDir()
	receiver := func(name, path string) map[string]any {
		file := filepath.Join(dir, name)
		try.Must(t, os.WriteFile(file, []byte(srv.URL+path+"\nBearer it\n"), 0o600))
		return map[string]any{"Name": name, "Service": "webhook", "Credential": "file:" + file, "Severity": "info",
			"Events": []string{"requested"}, "Group": "1s"}
	}
	var now struct{ Config map[string]any }
	restAsk(t, c, l, http.MethodGet, "/config", nil, &now)
	conf := now.Config
	conf["Notifications"] = map[string]any{"Console": "https://192.0.2.1",
		"Receivers": []any{receiver("well", "/"), receiver("ill", "/refuses")}}
	text, err := json.Marshal(conf)
	try.Must(t, err)
	try.Until(t, "the configuration is taken", func() bool { // not while the holder is silent: hosts of a busy machine are
		status, answer := restTry(t, c, l, http.MethodPut, "/config", map[string]any{"name": "new.json", "text": string(text)}, nil)
		if status != http.StatusOK && !strings.Contains(string(answer), "wait until it is over, and ask again") {
			t.Fatalf("%d: %s", status, answer)
		}
		return status == http.StatusOK
	})

	var said struct{ Said string }
	try.Until(t, "the receiver is there", func() bool {
		var all struct{ Receivers []struct{ Name string } }
		restAsk(t, c, l, http.MethodGet, "/notifications", nil, &all)
		return len(all.Receivers) == 2
	})
	restAsk(t, c, l, http.MethodPost, "/notifications/well:test", map[string]any{}, &said)
	mu.Lock()
	if said.Said != "200 OK" || len(got) != 1 || !got[0].Test || !strings.Contains(got[0].Text, "This is a test of the receiver well.") {
		t.Errorf("the test: %q, %+v", said.Said, got)
	}
	got = nil
	mu.Unlock()

	// New receivers are told from now on: it is done again until they are there.
	n := 0
	try.Until(t, "somebody is told", func() bool {
		n++
		restAsk(t, c, l, http.MethodPut, "/hosts/h3/maintenance", map[string]any{"on": n%2 == 1}, nil)
		mu.Lock()
		defer mu.Unlock()
		return len(got) > 0
	})
	mu.Lock()
	first := got[0]
	mu.Unlock()
	if first.Test || first.ID == "" || !strings.Contains(first.Text, "h3") || !strings.Contains(first.Text, "Console: https://192.0.2.1") {
		t.Errorf("%+v", first)
	}
	try.Until(t, "it is seen how it goes", func() bool {
		var all struct{ Receivers []map[string]any }
		restAsk(t, c, l, http.MethodGet, "/notifications", nil, &all)
		well, ill := all.Receivers[0], all.Receivers[1]
		return well["sent"] != nil && well["failing"] == nil && strings.Contains(fmt.Sprint(ill["why"]), "503 Service Unavailable: not today")
	})
	mu.Lock()
	defer mu.Unlock()
	ids := map[string]bool{}
	for _, x := range got {
		if ids[x.ID] {
			t.Errorf("message %s came twice", x.ID)
		}
		ids[x.ID] = true
	}
}
