package web

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// TestSupportPage says what is in an archive and what is taken out, and offers the hosts.
func TestSupportPage(t *testing.T) {
	x := newSite(t)
	code, body, _ := x.get(x.as("the-admin"), "/support")
	for _, want := range []string{"What is in it", "What is taken out", `name="host" value="node1" checked`, `name="host" value="node3"`} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%d, without %q: %s", code, want, body)
		}
	}
}

// archives asks for those of hosts.
func (x *site) archives(hosts ...string) (*http.Response, []byte) {
	x.t.Helper()
	form := url.Values{"host": hosts, "days": {"3"}}
	r, err := http.NewRequestWithContext(x.t.Context(), http.MethodPost, x.URL+"/support", strings.NewReader(form.Encode()))
	try.Must(x.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := x.as("the-admin").Do(r)
	try.Must(x.t, err)
	b, err := io.ReadAll(resp.Body)
	try.Must(x.t, errors.Join(err, resp.Body.Close()))
	return resp, b
}

// files are what a file has, by the last part of their names.
func files(t *testing.T, b []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	try.Must(t, err)
	out := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		try.Must(t, err)
		text, err := io.ReadAll(r)
		try.Must(t, errors.Join(err, r.Close()))
		out[f.Name[strings.LastIndex(f.Name, "/")+1:]] = string(text)
	}
	return out
}

// TestSupportArchive: the archives of the hosts that were chosen come in one file, whose index tells what is missing.
func TestSupportArchive(t *testing.T) {
	x := newSite(t)
	large := bytes.Repeat([]byte("archive "), 100_000) // more than one part
	x.aid.SetArchive(large, nil)
	resp, b := x.archives("node1", "node2", "node1")
	if got := resp.Header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment; filename=holdfast-support-") {
		t.Error(got)
	}
	all := files(t, b)
	if len(all) != 3 || all["holdfast-report-node2.tar.gz"] != string(large) ||
		!strings.Contains(all["index.txt"], "node1.tar.gz: 800000 bytes") {
		t.Errorf("%d files, %q", len(all), all["index.txt"])
	}
	x.aid.SetArchive(large, fail.Errorf(fail.Failed, "no disk"))
	_, b = x.archives("node1")
	if all := files(t, b); !strings.Contains(all["index.txt"], "node1.tar.gz: NOT COMPLETE: ") {
		t.Errorf("%q", all)
	}
}

// TestNoSupportArchive: when none was made, the page says why; so it does of what can not be meant.
func TestNoSupportArchive(t *testing.T) {
	x := newSite(t)
	x.aid.SetArchive(nil, fail.Errorf(fail.Unavailable, "it does not answer %s", hostile).With("look at it"))
	for _, hosts := range [][]string{{"node1"}, {"node1", "node2"}, {}, strings.Fields("a b c d e f g h i j k l m n o p q")} {
		resp, b := x.archives(hosts...)
		if resp.StatusCode < 400 || strings.Contains(string(b), hostile) || resp.Header.Get("Content-Disposition") != "" {
			t.Errorf("%q: %d: %s", hosts, resp.StatusCode, b)
		}
	}
	if code, body, _ := x.post(x.as("the-admin"), "/support", "host", "node1", "days", "0"); code != http.StatusBadRequest ||
		!strings.Contains(body, "want 1 to 365") {
		t.Errorf("%d: %s", code, body)
	}
	x.console.archiving.Lock()
	defer x.console.archiving.Unlock()
	if resp, b := x.archives("node1"); resp.StatusCode != http.StatusServiceUnavailable ||
		!strings.Contains(string(b), "Another archive is made") {
		t.Errorf("%d: %s", resp.StatusCode, b)
	}
}
