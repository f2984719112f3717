package web

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/check"
	"holdfast/testbed/try"
)

// unsigned builds a bundle that nobody has signed.
func unsigned(t *testing.T, more ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	manifest := "name: app\nversion: \"1.1.0\"\nupgradeFrom:\n- {version: \"1.0.*\", modes: [rolling]}\n" +
		"modules:\n- name: app\n  canRollback: true\n  files: [app/ctl.sh]\n  actions:\n    install: {run: " +
		"[app/ctl.sh, install]}\n    rollback: {run: [app/ctl.sh, rollback]}\n"
	for name, text := range map[string]string{"manifest.yaml": manifest, "app/ctl.sh": "#!/bin/sh\n" + strings.Join(more, "")} {
		try.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		try.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	var out bytes.Buffer
	_, err := bundle.Build(t.Context(), dir, &out, bundle.BuildOptions{Compression: bundle.Zstd})
	try.Must(t, err)
	return out.Bytes()
}

// upload sends a form with files: NAME=TEXT, of which the bundle's and the keys' are files.
func (x *site) upload(c *http.Client, fields ...string) (code int, body, location string) {
	x.t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for i := 0; i < len(fields); i += 2 {
		var part io.Writer
		var err error
		if slices.Contains([]string{"bundle", "keyfile", "signature"}, fields[i]) {
			part, err = w.CreateFormFile(fields[i], fields[i])
		} else {
			part, err = w.CreateFormField(fields[i])
		}
		try.Must(x.t, err)
		_, err = io.WriteString(part, fields[i+1])
		try.Must(x.t, err)
	}
	try.Must(x.t, w.Close())
	r, err := http.NewRequestWithContext(x.t.Context(), http.MethodPost, x.URL+bundlePath, &form)
	try.Must(x.t, err)
	r.Header.Set("Content-Type", w.FormDataContentType())
	return x.do(c, r)
}

// noise is a text that can not be compressed much.
func noise(n int) string {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = 'a' + byte(x>>24)%26
	}
	return "# " + string(b) + "\n"
}

// TestAnUpgradeFromTheBrowser: a bundle that is larger than any form is sent, its content, checks and plan are shown, it begins,
// is committed, and is reported.
func TestAnUpgradeFromTheBrowser(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	file := string(unsigned(t, noise(4*maxForm)))
	if len(file) < 2*maxForm {
		t.Fatalf("%d bytes", len(file))
	}
	code, body, _ := x.upload(c, "bundle", file)
	if code != http.StatusBadRequest || !strings.Contains(body, "bundle: it is not signed") {
		t.Fatalf("without a key: %d: %s", code, text(t, body))
	}
	code, _, to := x.upload(c, "key", "", "unsigned", "yes", "bundle", file)
	if code != http.StatusSeeOther || !strings.HasPrefix(to, "/upgrade/begin?bundle=") {
		t.Fatalf("%d, to %q", code, to)
	}
	sha := strings.TrimPrefix(to, "/upgrade/begin?bundle=")
	_, body, _ = x.get(c, to)
	for _, want := range []string{"app 1.1.0", "UNSIGNED", "1.0.*: rolling", "install, rollback", "Show the plan"} {
		if !strings.Contains(text(t, body), want) {
			t.Errorf("without %q: %s", want, text(t, body))
		}
	}
	_, body, _ = x.get(c, to+"&mode=default&max-unavailable=1&canary=1&approve-per-host=yes")
	for _, want := range []string{"app 1.1.0: rolling upgrade of 3 hosts, from 1.0.0", "leave service, 1 at once", "Begin the upgrade"} {
		if !strings.Contains(text(t, body), want) {
			t.Errorf("the plan is without %q: %s", want, text(t, body))
		}
	}
	asked := x.up.Asked()
	if o := asked[len(asked)-1].Options; o.Canary != 1 || !o.ApprovePerHost || o.MaxUnavailable.Count != 1 || o.Probe {
		t.Errorf("%+v", o)
	}
	code, body, _ = x.post(c, "/upgrade/check", "bundle", sha, "mode", "default")
	if !strings.Contains(text(t, body), "its clock is 2 s late") || !strings.Contains(text(t, body), "let it follow a time server") {
		t.Errorf("the checks: %d: %s", code, text(t, body))
	}
	if code, body, _ := x.post(c, "/upgrade/run", "bundle", sha, "mode", "default"); code != http.StatusBadRequest {
		t.Errorf("nobody was sure: %d: %s", code, text(t, body))
	}
	if code, body, to := x.post(c, "/upgrade/run", "bundle", sha, "mode", "default", "sure",
		"yes"); code != http.StatusSeeOther || to != "/upgrade" {
		t.Fatalf("it begins: %d, to %q: %s", code, to, text(t, body))
	}
	until := func(what string) {
		t.Helper()
		try.Until(t, what, func() bool {
			_, body, _ := x.get(c, "/upgrade")
			return strings.Contains(text(t, body), what)
		})
	}
	until("The upgrade to 1.1.0 is done, and not committed yet.")
	_, body, _ = x.get(c, "/upgrade/commit")
	for _, want := range []string{"Afterwards a rollback is refused.", "Commit: there is no way back"} {
		if !strings.Contains(text(t, body), want) {
			t.Errorf("before the commit: without %q: %s", want, text(t, body))
		}
	}
	if code, _, to := x.post(c, "/upgrade/run", "purpose", "commit", "sure", "yes"); code != http.StatusSeeOther || to != "/upgrade" {
		t.Errorf("the commit: %d, to %q", code, to)
	}
	until("The cluster has version 1.1.0.")
	_, body, _ = x.get(c, "/upgrade/report")
	for _, want := range []string{"Report on the last upgrade", "its clock is 2 s late", "node3"} {
		if !strings.Contains(text(t, body), want) {
			t.Errorf("the report is without %q: %s", want, text(t, body))
		}
	}
	if got := x.up.Asked(); got[len(got)-1].Purpose != upgrade.ForCommit {
		t.Errorf("%+v", got[len(got)-1])
	}
}

// TestWhatStandsInTheWayIsShown: where a check fails nothing begins, and the page says so.
func TestWhatStandsInTheWayIsShown(t *testing.T) {
	x := newSite(t)
	c := x.as("the-admin")
	_, _, to := x.upload(c, "unsigned", "yes", "bundle", string(unsigned(t)))
	x.up.SetReport(check.Report{Findings: []check.Finding{{Check: "free-space", Host: "node2", Level: check.Fail,
		Text: "9 MiB are free", Remedy: "make room"}}})
	code, body, _ := x.post(c, "/upgrade/run", "bundle", strings.TrimPrefix(to, "/upgrade/begin?bundle="), "mode", "rolling", "sure", "yes")
	for _, want := range []string{"Nothing was begun.", "free-space", "9 MiB are free", "make room"} {
		if code != http.StatusConflict || !strings.Contains(text(t, body), want) {
			t.Errorf("%d, without %q: %s", code, want, text(t, body))
		}
	}
}

// TestGraveCommandsAsk: what can not be taken back is asked for twice, and what it does is said before.
func TestGraveCommandsAsk(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	_, _, to := x.upload(c, "unsigned", "yes", "bundle", string(unsigned(t)))
	x.up.FailStep("node1/install/app")
	x.post(c, "/upgrade/run", "bundle", strings.TrimPrefix(to, "/upgrade/begin?bundle="), "mode", "rolling", "sure", "yes")
	var retry string
	try.Until(t, "the step fails", func() bool {
		_, body, _ := x.get(c, "/upgrade")
		retry = regexp.MustCompile(`/jobs/[^/]+/retry[^"]*`).FindString(body)
		return retry != ""
	})
	retry = html.UnescapeString(retry)
	id := strings.Split(retry, "/")[2]
	skip := strings.Replace(retry, "/retry", "/skip", 1)
	_, body, _ := x.get(c, skip)
	for _, want := range []string{"Skip: node1/install/app", "Nobody checks that.", "Skip a step that failed, or that is unknown."} {
		if !strings.Contains(text(t, body), want) {
			t.Errorf("without %q: %s", want, text(t, body))
		}
	}
	if !strings.Contains(body, `name="reason" required`) {
		t.Error(body)
	}
	for _, path := range []string{skip, "/jobs/" + id + "/abort", "/upgrade/hosts/node2/drop"} {
		if code, _, to := x.post(c, path); code != http.StatusSeeOther || to != path {
			t.Errorf("%s at once: %d, to %q", path, code, to)
		}
	}
	_, body, _ = x.get(c, "/jobs/"+id+"/abort")
	if !strings.Contains(text(t, body), "An abort can not be taken back. A pause can.") {
		t.Error(text(t, body))
	}
	for path, want := range map[string]int{"/upgrade/hosts/node1/drop": http.StatusConflict,
		"/upgrade/hosts/nobody/approve": http.StatusBadRequest,
		"/upgrade/hosts/node1/forget":   http.StatusNotFound, "/jobs/none/pause": http.StatusBadRequest,
		"/jobs/" + id + "/explode":                  http.StatusBadRequest,
		"/jobs/" + id + "/retry?step=node1/nothing": http.StatusBadRequest} {
		if code, body, _ := x.post(c, path, "sure", "yes"); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, text(t, body))
		}
	}
	if code, _, to := x.post(c, retry); code != http.StatusSeeOther || to != "/upgrade" {
		t.Errorf("retry: %d, to %q", code, to)
	}
	if code, _, to := x.post(c, "/jobs/"+id+"/abort", "sure", "yes"); code != http.StatusSeeOther || to != "/upgrade" {
		t.Errorf("abort: %d, to %q", code, to)
	}
	if _, body, _ := x.get(c, "/upgrade"); !strings.Contains(text(t, body), "aborted by the-operator (console, 127.0.0.1)") {
		t.Error(text(t, body))
	}
}

// TestBadFormsOfUpgrades are refused with the field, the value and what is allowed.
func TestBadFormsOfUpgrades(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	_, _, begin := x.upload(c, "unsigned", "yes", "bundle", string(unsigned(t)))
	for query, want := range map[string]string{
		"mode=sideways":                     `mode "sideways": want default, rolling, offline or reboot`,
		"mode=rolling&canary=-1":            `canary "-1": want a number from 0 on`,
		"mode=rolling&canary=x":             `canary "x": want a number from 0 on`,
		"mode=rolling&canary=9":             "want at most the 3 hosts",
		"mode=rolling&max-unavailable=many": `max-unavailable "many": want a number of hosts such as 3`,
		"mode=rolling&window=noon":          `window "noon": want a time of the day such as 22:00-05:30`,
		"mode=rolling&drop=node1,node1":     `drop "node1": want each host once`,
		"mode=rolling&drop=nobody":          `"nobody": want a host of the inventory`,
		"mode=rolling&loss-limit=3":         "loss-limit 3: want lost packets measured with it",
		"mode=rolling&purpose=nothing":      `purpose "nothing": want upgrade, commit or rollback`,
		"mode=rolling&bundle=00":            `bundle`,
	} {
		at := begin + "&" + query
		if strings.Contains(query, "bundle=") {
			at = "/upgrade/begin?" + query
		}
		if code, body, _ := x.get(c, at); code != http.StatusBadRequest || !strings.Contains(text(t, html.UnescapeString(body)), want) {
			t.Errorf("%s: %d: want %q: %s", query, code, want, text(t, body))
		}
	}
	for name, fields := range map[string][]string{
		"no file was chosen": {"unsigned", "yes"},
		"want key, keyfile":  {"evil", "x"},
		"want at most 65536": {"key", strings.Repeat("x", maxKey+1)},
		"key 1":              {"keyfile", "no key", "bundle", "x"},
		"bundle":             {"unsigned", "yes", "bundle", "this is no bundle"},
	} {
		if code, body, _ := x.upload(c, fields...); code != http.StatusBadRequest || !strings.Contains(text(t, body), name) {
			t.Errorf("%q: %d: %s", name, code, text(t, body))
		}
	}
	if code, body, _ := x.post(c, bundlePath, "bundle", "x"); code != http.StatusBadRequest || !strings.Contains(text(t, body),
		"the form is none that sends a file") {
		t.Errorf("%d: %s", code, text(t, body))
	}
	if code, _, _ := x.get(c, "/jobs/none"); code != http.StatusBadRequest {
		t.Error(code)
	}
	for _, site := range []string{"cross-site", "same-site"} {
		for _, path := range []string{"/upgrade/run", bundlePath, "/jobs/upgrade-7/abort", "/upgrade/check",
			"/upgrade/hosts/node2/drop"} {
			r := x.request(http.MethodPost, path, "sure", "yes")
			r.Header.Set("Sec-Fetch-Site", site)
			if code, _, _ := x.do(c, r); code != http.StatusForbidden {
				t.Errorf("%s from %s: %d", path, site, code)
			}
		}
	}
}
