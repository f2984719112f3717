package web

import (
	"net/http"
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
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/try"
)

// underWay is an upgrade of four hosts: one is done, one is worked on, two wait.
func underWay() *request.Standing {
	now := time.Now()
	began := now.Add(-11 * time.Minute)
	u := &request.Standing{ClusterState: upgrade.Rollup, Version: "E0705", To: "E0710", Purpose: upgrade.ForUpgrade,
		Mode: "rolling", Run: "upgrade-7",
		Stage: "hosts", Bundle: &request.BundleInfo{SHA256: "ab", Name: "cas", Version: "E0710", KeyID: "0123456789ABCDEF"},
		Job: &job.View{ID: "upgrade-7", Kind: "upgrade", Title: "upgrade to cas E0710", User: "anna", State: "active", Began: began,
			Changed: now}}
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
	u.Found = []request.Found{{Step: s.ID, Host: "cvk-2", Fault: "no-space", Level: "fail", Text: "no space left on device",
		Remedy: "free 10 GiB below /var"}}
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
	const run = "/jobs/upgrade-7/"
	paused := stuck()
	paused.Job.WhyCodes = []reason.Reason{reason.PausedBy.With("ann")}
	for name, c := range map[string]struct {
		show  *request.Standing
		says  []string
		links []string // of who may act
		not   []string
	}{
		"never": {&request.Standing{ClusterState: upgrade.Normal, Version: "1.0.0"},
			[]string{"No upgrade has been run yet.", "normal, version 1.0.0", "An upgrade begins with a bundle"},
			[]string{`href="/upgrade/begin"`}, []string{run}},
		"active": {underWay(), []string{"Upgrade to E0710: 1 of 4 hosts are done.", "active", "62 %", "cvk-2/install/cas: last line",
			"Upgrading kernel",
			"cvm-2/drain: cvm-2 is not approved", "Hosts that can be rolled back to E0705 until the commit: 2", "16 of 32 steps", `title="pending"`},
			[]string{run + "pause", run + "abort", "/upgrade/hosts/cvm-2/approve",
				"Stop the running steps, and run only steps that restore order"},
			[]string{run + "resume", run + "retry", "/upgrade/commit", "/upgrade/hosts/cvm-1/approve"}},
		"failed": {stuck(), []string{"paused", "cvk-2/install/cas: exit code 7", "no space left on device", "free 10 GiB below /var", "✗"},
			[]string{run + "retry?step=cvk-2%2Finstall%2Fcas", run + "skip?step=cvk-2%2Finstall%2Fcas", run + "resume", run + "abort"},
			[]string{run + "pause", "/approve"}},
		"paused": {paused, []string{"paused by ann"}, []string{run + "resume"}, []string{run + "pause"}},
		"prepared": {prepared(), []string{"The upgrade to E0710 is done, and not committed yet.", "until the commit: 4"},
			[]string{`href="/upgrade/commit"`, `href="/upgrade/rollback"`}, []string{run + "pause", run + "abort"}},
		"aborted": {ended(upgrade.Rollup, upgrade.ForUpgrade, "aborted", false),
			[]string{"The upgrade to E0710 has not been done to its end.", "aborted by anna",
				"cvk-2/storage-attach: it failed: exit code 1"}, []string{`href="/upgrade/begin"`, `href="/upgrade/rollback"`},
			[]string{`href="/upgrade/commit"`}},
		"rolled back": {ended(upgrade.Normal, upgrade.ForRollback, "done", false), []string{"The hosts are rolled back to E0710."},
			[]string{`href="/upgrade/report"`}, []string{"until the commit"}},
		"committed": {ended(upgrade.Normal, upgrade.ForCommit, "done", true), []string{"The cluster has version E0705."},
			[]string{`href="/upgrade/report"`}, []string{"until the commit"}},
		"old": {unread(), []string{"The store has no quorum. This is 90s old.", "Upgrade to E0710"}, nil, []string{run, "/approve"}},
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
	for _, r := range []string{"POST /jobs/upgrade-7/pause", "POST /jobs/upgrade-7/resume",
		"POST /jobs/upgrade-7/abort",
		"POST /jobs/upgrade-7/retry", "POST /jobs/upgrade-7/skip", "GET /jobs/upgrade-7/abort",
		"POST /upgrade/hosts/cvm-2/approve",
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
	x.up.SetReport(check.Report{Cluster: evil, From: evil, To: evil, Bundle: evil, State: evil, Hosts: []check.HostRow{{Name: evil,
		Version: evil, Note: evil}},
		Findings: []check.Finding{{Check: evil, Host: evil, Where: evil, Level: check.Fail, Text: evil, Remedy: evil}},
		Losses:   []check.Loss{{Guest: evil, Note: evil}}, Failures: []check.Failure{{Step: evil, Host: evil, Why: evil, Tail: evil}}})
	c := x.as("the-operator")
	for _, path := range []string{"/upgrade", "/", "/jobs/" + "x", "/upgrade/begin?bundle=" + strings.ReplaceAll(evil, " ", "%20"),
		"/jobs/x/skip?step=" + strings.ReplaceAll(evil, " ", "%20")} {
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
	known := regexp.MustCompile(`^(Holdfast|English|prod|node|the|operator|cvk|cvm|` +
		`cas|anna|upgrade|rolling|install|drain|KEY|ABCDEF|UTC|package|of|INFO|` +
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
	for name, u := range map[string]*request.Standing{"never": {ClusterState: upgrade.Normal, Version: "1"}, "active": underWay(),
		"stuck": stuck(), "prepared": prepared(),
		"aborted": ended(upgrade.Rollup, upgrade.ForUpgrade, "aborted", false), "committed": ended(upgrade.Normal, upgrade.ForCommit,
			"done", true), "old": unread()} {
		x.up.Show(u)
		pages(name, "/upgrade")
	}
	x.up.Show(stuck())
	pages("stuck", "/upgrade/begin", "/jobs/upgrade-7/abort", "/jobs/upgrade-7/skip?step=cvk-2/install/cas",
		"/upgrade/hosts/cvm-2/drop")
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
	for _, want := range []string{`href="/upgrade"`, "upgrade to cas E0710", `href="/jobs/` + j.ID + `"`, "empty host node2",
		`max="100" value="51"`, `max="100" value="50"`} {
		if !strings.Contains(body, want) {
			t.Errorf("without %q: %s", want, body)
		}
	}
	_, body, _ = x.get(c, "/jobs/upgrade-7?host=cvk-2")
	if said := text(t, body); !strings.Contains(said, "Steps on cvk-2") || !strings.Contains(said,
		"cvk-2/install/cas running 62 %") || strings.Contains(said, "cvk-1/install") {
		t.Error(said)
	}
	x.up.Show(prepared())
	if _, body, _ := x.get(c, "/"); strings.Contains(body, "upgrade to cas E0710") {
		t.Error("a job that has ended is under way")
	}
}
