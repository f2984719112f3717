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
	"time"

	"golang.org/x/net/html"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/try"
)

// underWay is an upgrade of four hosts: one is done, one is worked on, two wait.
func underWay() *request.Standing {
	now := time.Now()
	began := now.Add(-11 * time.Minute)
	u := &request.Standing{ClusterState: upgrade.Rollup, Version: "E0705", To: "E0710", Purpose: upgrade.ForUpgrade, Mode: "rolling", Run: "upgrade-7",
		Stage: "hosts", Bundle: &request.BundleInfo{SHA256: "ab", Name: "cas", Version: "E0710", KeyID: "0123456789ABCDEF"},
		Job: &job.View{ID: "upgrade-7", Kind: "upgrade", Title: "upgrade to cas E0710", User: "anna", State: "active", Began: began, Changed: now}}
	hosts := []cluster.HostID{"cvk-1", "cvk-2", "cvm-2", "cvm-1"}
	for i, h := range hosts {
		words := []string{"check", "stage", "backup/cas", "drain", "install/cas", "reboot", "verify", "undrain"}
		for k, w := range words {
			s := job.StepView{ID: string(h) + "/" + w, Host: h, Kind: "action", State: "pending"}
			if k < 2 || i == 0 || i == 1 && k < 4 {
				s.State, s.Attempt, s.Percent = "done", 1, 100
				s.Began = began.Add(time.Duration(i*60+k*20) * time.Second)
				s.Ended = s.Began.Add(time.Duration(4+k*17) * time.Second)
			}
			if i == 1 && k == 4 {
				s.State, s.Attempt, s.Percent, s.Note = "running", 1, 62, "package 41 of 66"
				s.Began, s.Said = now.Add(-95*time.Second), now.Add(-3*time.Second)
				s.Tail = "[INFO] Upgrading package 41 of 66\n[ -OK- ] Stop all services on CVK... Done.\n[INFO] Upgrading kernel ...\n"
			}
			u.Job.Steps = append(u.Job.Steps, s)
			u.Steps.Total++
			if s.State == "done" {
				u.Steps.Over++
			}
		}
		u.Hosts = append(u.Hosts, request.HostStanding{Name: h, Wave: i + 1})
	}
	u.Hosts[0].State, u.Hosts[1].State, u.Hosts[1].Now = upgrade.HostRollupDone, upgrade.HostRollup, "package 41 of 66"
	u.Hosts[0].Approved, u.Hosts[1].Approved = "anna", "anna"
	u.Job.WaitCodes = []reason.Reason{reason.NotApproved.With("cvm-2").At("cvm-2/drain")}
	u.Job.Wait(u.Job.WaitCodes)
	return offering(u)
}

// offering names the commands that may be given.
func offering(u *request.Standing) *request.Standing {
	u.Next = request.Next(u, func(request.Verb, string) bool { return true })
	return u
}

// stuck is the same with a step that has failed.
func stuck() *request.Standing {
	u := underWay()
	i := slices.IndexFunc(u.Job.Steps, func(s job.StepView) bool { return s.State == "running" })
	s := &u.Job.Steps[i]
	s.State, s.Why, s.Exit, s.Note, s.Ended = "failed", "exit code 7", 7, "", s.Began.Add(40*time.Second)
	s.Tail += "no space left on device\n"
	u.Job.State, u.Job.Waits, u.Job.WaitCodes = "paused", nil, nil
	u.Job.WhyCodes = []reason.Reason{reason.StepFailed.With(s.ID, s.Why)}
	u.Job.Why = reason.Text(u.Job.WhyCodes...)
	u.Steps.Failed = 1
	u.Found = []request.Found{{Step: s.ID, Host: "cvk-2", Fault: "no-space", Level: "fail", Text: "no space left on device", Remedy: "free 10 GiB below /var"}}
	u.Hosts[1].Now = "exit code 7"
	return offering(u)
}

// prepared is an upgrade that is done, and not committed.
func prepared() *request.Standing {
	u := underWay()
	for i := range u.Job.Steps {
		s := &u.Job.Steps[i]
		if s.State != "done" {
			s.State, s.Percent, s.Note, s.Tail, s.Began = "done", 100, "", "", u.Job.Began.Add(time.Minute)
			s.Ended = s.Began.Add(50 * time.Second)
		}
	}
	for i := range u.Hosts {
		u.Hosts[i].State, u.Hosts[i].Now = upgrade.HostRollupDone, ""
	}
	u.ClusterState, u.Steps.Over, u.Stage = upgrade.Prepared, u.Steps.Total, ""
	u.Job.State, u.Job.Result, u.Job.Waits, u.Job.WaitCodes = "ended", "done", nil, nil
	return offering(u)
}

// ended is a run that ended so.
func ended(state upgrade.ClusterState, purpose upgrade.Purpose, result string, committed bool) *request.Standing {
	u := prepared()
	u.ClusterState, u.Purpose, u.Job.Result, u.Committed = state, purpose, result, committed
	if result != "done" {
		u.Job.WhyCodes = []reason.Reason{reason.AbortedBy.With("anna")}
		u.Job.Why = reason.Text(u.Job.WhyCodes...)
		u.Undone = []string{"cvk-2/storage-attach: it failed: exit code 1"}
	}
	return offering(u)
}

// unread is one whose store has no quorum.
func unread() *request.Standing {
	u := underWay()
	u.NoQuorum, u.AsOf, u.Next = true, time.Now().Add(-90*time.Second), nil
	return u
}

// TestUpgradeStates: each state of a run is told, with the commands that are possible, to those who may give them.
func TestUpgradeStates(t *testing.T) {
	x := newSite(t)
	viewer, operator := x.as("the-viewer"), x.as("the-operator")
	const run = "/upgrade/jobs/upgrade-7/"
	paused := stuck()
	paused.Job.WhyCodes = []reason.Reason{reason.PausedBy.With("ann")}
	for name, c := range map[string]struct {
		show  *request.Standing
		says  []string
		links []string // of who may act
		not   []string
	}{
		"never": {&request.Standing{ClusterState: upgrade.Normal, Version: "1.0.0"},
			[]string{"No upgrade has been run yet.", "normal, version 1.0.0", "An upgrade begins with a bundle"}, []string{`href="/upgrade/begin"`}, []string{run}},
		"active": {underWay(), []string{"Upgrade to E0710: 1 of 4 hosts are done.", "active", "62 %", "cvk-2/install/cas: last line", "Upgrading kernel",
			"cvm-2/drain: cvm-2 is not approved", "Until the commit 2 hosts can be rolled back to E0705.", "16 of 32 steps", `title="pending"`},
			[]string{run + "pause", run + "abort", "/upgrade/hosts/cvm-2/approve", "Stop the running steps, and run only steps that restore order"},
			[]string{run + "resume", run + "retry", "/upgrade/commit", "/upgrade/hosts/cvm-1/approve"}},
		"failed": {stuck(), []string{"paused", "cvk-2/install/cas: exit code 7", "no space left on device", "free 10 GiB below /var", "✗"},
			[]string{run + "retry?step=cvk-2%2Finstall%2Fcas", run + "skip?step=cvk-2%2Finstall%2Fcas", run + "resume", run + "abort"}, []string{run + "pause", "/approve"}},
		"paused": {paused, []string{"paused by ann"}, []string{run + "resume"}, []string{run + "pause"}},
		"prepared": {prepared(), []string{"The upgrade to E0710 is done, and not committed yet.", "Until the commit 4 hosts"},
			[]string{`href="/upgrade/commit"`, `href="/upgrade/rollback"`}, []string{run + "pause", run + "abort"}},
		"aborted": {ended(upgrade.Rollup, upgrade.ForUpgrade, "aborted", false), []string{"The upgrade to E0710 has not been done to its end.", "aborted by anna",
			"cvk-2/storage-attach: it failed: exit code 1"}, []string{`href="/upgrade/begin"`, `href="/upgrade/rollback"`}, []string{`href="/upgrade/commit"`}},
		"rolled back": {ended(upgrade.Normal, upgrade.ForRollback, "done", false), []string{"The hosts are rolled back to E0710."},
			[]string{`href="/upgrade/report"`}, []string{"Until the commit"}},
		"committed": {ended(upgrade.Normal, upgrade.ForCommit, "done", true), []string{"The cluster has version E0705."}, []string{`href="/upgrade/report"`}, []string{"Until the commit"}},
		"old":       {unread(), []string{"The store has no quorum. This is 90s old.", "Upgrade to E0710"}, nil, []string{run, "/approve"}},
	} {
		x.up.Show(c.show)
		for _, who := range []*http.Client{viewer, operator} {
			code, body, _ := x.get(who, "/upgrade")
			if code != http.StatusOK {
				t.Errorf("%s: %d: %s", name, code, body)
				continue
			}
			for _, want := range c.says {
				if !strings.Contains(body, want) && !strings.Contains(text(t, body), want) {
					t.Errorf("%s: without %q: %s", name, want, text(t, body))
				}
			}
			for _, want := range c.links {
				if strings.Contains(body, want) != (who == operator) {
					t.Errorf("%s: %q is shown to the operator: %v, want the contrary", name, want, who == operator)
				}
			}
			for _, bad := range c.not {
				if strings.Contains(body, bad) {
					t.Errorf("%s: it has %q", name, bad)
				}
			}
		}
	}
}

// text is what a page says, without its head.
func text(t *testing.T, page string) string {
	t.Helper()
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(page))
	skip := 0
	for {
		switch z.Next() {
		case html.ErrorToken:
			return strings.Join(strings.Fields(b.String()), " ")
		case html.StartTagToken:
			if n, _ := z.TagName(); string(n) == "title" || string(n) == "script" {
				skip++
			}
		case html.EndTagToken:
			if n, _ := z.TagName(); string(n) == "title" || string(n) == "script" {
				skip--
			} else if string(n) != "b" {
				b.WriteByte(' ')
			}
		case html.TextToken:
			if skip == 0 {
				b.Write(z.Text())
			}
		}
	}
}

// TestUpgradesAreForOperators: a viewer is refused each page and each command, and nothing happens.
func TestUpgradesAreForOperators(t *testing.T) {
	x := newSite(t)
	x.up.Show(stuck())
	viewer := x.as("the-viewer")
	for _, r := range []string{"POST /upgrade/jobs/upgrade-7/pause", "POST /upgrade/jobs/upgrade-7/resume", "POST /upgrade/jobs/upgrade-7/abort",
		"POST /upgrade/jobs/upgrade-7/retry", "POST /upgrade/jobs/upgrade-7/skip", "GET /upgrade/jobs/upgrade-7/abort", "POST /upgrade/hosts/cvm-2/approve",
		"POST /upgrade/hosts/cvm-2/drop", "GET /upgrade/begin", "POST /upgrade/bundle", "GET /upgrade/commit", "GET /upgrade/rollback",
		"POST /upgrade/check", "POST /upgrade/run", "GET /upgrade/report"} {
		method, path, _ := strings.Cut(r, " ")
		code, body, _ := x.do(viewer, x.request(method, path, "sure", "yes", "step", "cvk-2/install/cas", "reason", "why"))
		if code != http.StatusForbidden || !strings.Contains(body, "is for the role operator") {
			t.Errorf("%s: %d: %s", r, code, text(t, body))
		}
	}
	if asked := x.up.Asked(); len(asked) > 0 || len(x.cluster.Users()) > 0 {
		t.Errorf("%+v", asked)
	}
	for _, path := range []string{"/upgrade", "/jobs/upgrade-7", "/"} {
		if code, _, _ := x.get(viewer, path); code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
	}
}

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
	if code, body, to := x.post(c, "/upgrade/run", "bundle", sha, "mode", "default", "sure", "yes"); code != http.StatusSeeOther || to != "/upgrade" {
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
	x.up.SetReport(check.Report{Findings: []check.Finding{{Check: "free-space", Host: "node2", Level: check.Fail, Text: "9 MiB are free", Remedy: "make room"}}})
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
		retry = regexp.MustCompile(`/upgrade/jobs/[^/]+/retry[^"]*`).FindString(body)
		return retry != ""
	})
	retry = html.UnescapeString(retry)
	id := strings.Split(retry, "/")[3]
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
	for _, path := range []string{skip, "/upgrade/jobs/" + id + "/abort", "/upgrade/hosts/node2/drop"} {
		if code, _, to := x.post(c, path); code != http.StatusSeeOther || to != path {
			t.Errorf("%s at once: %d, to %q", path, code, to)
		}
	}
	_, body, _ = x.get(c, "/upgrade/jobs/"+id+"/abort")
	if !strings.Contains(text(t, body), "An abort can not be taken back. A pause can.") {
		t.Error(text(t, body))
	}
	for path, want := range map[string]int{"/upgrade/hosts/node1/drop": http.StatusConflict, "/upgrade/hosts/nobody/approve": http.StatusBadRequest,
		"/upgrade/hosts/node1/forget": http.StatusNotFound, "/upgrade/jobs/none/pause": http.StatusBadRequest, "/upgrade/jobs/" + id + "/explode": http.StatusBadRequest,
		"/upgrade/jobs/" + id + "/retry?step=node1/nothing": http.StatusBadRequest} {
		if code, body, _ := x.post(c, path, "sure", "yes"); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, text(t, body))
		}
	}
	if code, _, to := x.post(c, retry); code != http.StatusSeeOther || to != "/upgrade" {
		t.Errorf("retry: %d, to %q", code, to)
	}
	if code, _, to := x.post(c, "/upgrade/jobs/"+id+"/abort", "sure", "yes"); code != http.StatusSeeOther || to != "/upgrade" {
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
	if code, body, _ := x.post(c, bundlePath, "bundle", "x"); code != http.StatusBadRequest || !strings.Contains(text(t, body), "the form is none that sends a file") {
		t.Errorf("%d: %s", code, text(t, body))
	}
	if code, _, _ := x.get(c, "/jobs/none"); code != http.StatusBadRequest {
		t.Error(code)
	}
	for _, site := range []string{"cross-site", "same-site"} {
		for _, path := range []string{"/upgrade/run", bundlePath, "/upgrade/jobs/upgrade-7/abort", "/upgrade/check", "/upgrade/hosts/node2/drop"} {
			r := x.request(http.MethodPost, path, "sure", "yes")
			r.Header.Set("Sec-Fetch-Site", site)
			if code, _, _ := x.do(c, r); code != http.StatusForbidden {
				t.Errorf("%s from %s: %d", path, site, code)
			}
		}
	}
}

// TestNamesOfUpgradesAreNoMarkup: what hosts and programs say stays text, also in addresses.
func TestNamesOfUpgradesAreNoMarkup(t *testing.T) {
	x := newSite(t)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	u := stuck()
	u.To, u.Version, u.Bundle.Name, u.Job.Title, u.Job.User, u.Job.ID, u.Stage = evil, evil, evil, evil, evil, evil, evil
	u.Hosts[2].Name, u.Hosts[1].Now, u.Hosts[0].Approved = evil, evil, evil
	u.Undone, u.Blocked = []string{evil}, []string{evil}
	u.Found[0].Text, u.Found[0].Remedy = evil, evil
	for i := range u.Job.Steps {
		s := &u.Job.Steps[i]
		if s.State == "failed" || s.Host == "cvm-2" {
			s.ID, s.Why, s.Tail, s.Note, s.Host = evil+s.ID, evil, evil+"\n", evil, evil
		}
	}
	x.up.Show(offering(u))
	x.up.SetReport(check.Report{Cluster: evil, From: evil, To: evil, Bundle: evil, State: evil, Hosts: []check.HostRow{{Name: evil, Version: evil, Note: evil}},
		Findings: []check.Finding{{Check: evil, Host: evil, Where: evil, Level: check.Fail, Text: evil, Remedy: evil}},
		Losses:   []check.Loss{{Guest: evil, Note: evil}}, Failures: []check.Failure{{Step: evil, Host: evil, Why: evil, Tail: evil}}})
	c := x.as("the-operator")
	for _, path := range []string{"/upgrade", "/", "/jobs/" + "x", "/upgrade/begin?bundle=" + strings.ReplaceAll(evil, " ", "%20"),
		"/upgrade/jobs/x/skip?step=" + strings.ReplaceAll(evil, " ", "%20")} {
		_, body, _ := x.get(c, path)
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") {
			t.Errorf("%s: %s", path, body)
		}
	}
	if _, body, _ := x.get(c, "/upgrade"); strings.Count(body, "&lt;script&gt;alert") < 10 {
		t.Errorf("it is not shown: %s", body)
	}
}

// TestUpgradesInChinese: what the page says of the main states has no English left but names and units.
func TestUpgradesInChinese(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	x.post(c, "/language", "language", "zh", "back", "/")
	latin := regexp.MustCompile(`[A-Za-z][A-Za-z_]+`)
	known := regexp.MustCompile(`^(Holdfast|English|prod|node|the|operator|cvk|cvm|cas|anna|upgrade|rolling|install|drain|KEY|ABCDEF|UTC|package|of|INFO|` +
		`Upgrading|OK|Stop|all|services|on|CVK|Done|kernel|GiB|below|var|free|no|space|left|device|hosts|minisign|HA|storage|attach|ann|MiB|` +
		`exit|code|app|rollback|commit|begin|CPU|default|reboot|offline)$`)
	pages := func(state string, paths ...string) {
		t.Helper()
		for _, path := range paths {
			_, body, _ := x.get(c, path)
			_, main, _ := strings.Cut(body, "<main")
			_, main, _ = strings.Cut(main, ">")
			for _, w := range latin.FindAllString(text(t, main), -1) {
				if !known.MatchString(w) {
					t.Errorf("%s, %s: %q in %s", state, path, w, text(t, main))
				}
			}
		}
	}
	for name, u := range map[string]*request.Standing{"never": {ClusterState: upgrade.Normal, Version: "1"}, "active": underWay(), "stuck": stuck(), "prepared": prepared(),
		"aborted": ended(upgrade.Rollup, upgrade.ForUpgrade, "aborted", false), "committed": ended(upgrade.Normal, upgrade.ForCommit, "done", true), "old": unread()} {
		x.up.Show(u)
		pages(name, "/upgrade")
	}
	x.up.Show(stuck())
	pages("stuck", "/upgrade/begin", "/upgrade/jobs/upgrade-7/abort", "/upgrade/jobs/upgrade-7/skip?step=cvk-2/install/cas", "/upgrade/hosts/cvm-2/drop")
}

// TestUnderWay: the overview has the jobs that have not ended, each with its page.
func TestUnderWay(t *testing.T) {
	x := newSite(t)
	c := x.as("the-viewer")
	if _, body, _ := x.get(c, "/"); !strings.Contains(text(t, body), "Under way Nothing.") {
		t.Error(text(t, body))
	}
	j, err := x.up.DrainHost(t.Context(), "ann", "node2")
	try.Must(t, err)
	x.up.Show(underWay())
	_, body, _ := x.get(c, "/")
	for _, want := range []string{`href="/upgrade"`, "upgrade to cas E0710", `href="/jobs/` + j.ID + `"`, "empty host node2", `max="100" value="51"`, `max="100" value="50"`} {
		if !strings.Contains(body, want) {
			t.Errorf("without %q: %s", want, body)
		}
	}
	_, body, _ = x.get(c, "/jobs/upgrade-7?host=cvk-2")
	if said := text(t, body); !strings.Contains(said, "Steps on cvk-2") || !strings.Contains(said, "cvk-2/install/cas running 62 %") || strings.Contains(said, "cvk-1/install") {
		t.Error(said)
	}
	x.up.Show(prepared())
	if _, body, _ := x.get(c, "/"); strings.Contains(body, "upgrade to cas E0710") {
		t.Error("a job that has ended is under way")
	}
}
