package action

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/testbed/try"
)

// appctlRig has a package and an engine of version 24.12.B010. Their scripts do what the
// file does says, in shell, with $D the engine and $P the package.
func appctlRig(t *testing.T) *rig {
	r := newRig(t)
	r.host.Packages = filepath.Join(r.root, "packages")
	for d := r.root; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		try.Must(t, os.Chmod(d, 0o755))
	}
	script := "D=" + r.root + "/opt/engine; P=$(cd \"$(dirname \"$0\")/..\"; pwd); echo \"$P $*\" >> " +
		r.root + "/calls\n. " + r.root + "/does\n"
	r.inBundle("engine/action/appctl.sh", script, 0o644)
	r.inBundle("engine/action/env.sh", "ORDER=(\"a\" \"b\")\n", 0o644)
	r.inBundle("other", "x", 0o644)
	r.write("opt/engine/action/appctl.sh", script, 0o400)
	r.write("opt/engine/action/env.sh", "cantian_user=\"cantian\"\n", 0o600)
	r.write("opt/engine/versions.yml", "SYS:\n  Version: 24.12.B010\n", 0o600)
	r.change = func(s *Step) {
		s.Values.From, s.Values.Version, s.Values.Mode, s.Values.Array = "24.12.B010", "25.06.B001", manifest.Offline, "10.0.0.200"
	}
	return r
}

// verb is an action that calls one.
func (r *rig) verb(call ...string) manifest.Action {
	return manifest.Action{Appctl: &manifest.Appctl{Package: "engine/", Home: r.root + "/opt/engine", Call: call}}
}

const saysSuccess = "echo \"[INFO ] Execute cantian-common $1.sh return success. [Line:114, File:appctl.sh]\"\n"

// TestAppctlSuccess: it is done when the script has said so and what it has brought about
// was read back, whatever its exit code is.
func TestAppctlSuccess(t *testing.T) {
	r := appctlRig(t)
	replaced := "sed -i s/24.12.B010/25.06.B001/ $D/versions.yml\n"
	for name, c := range map[string]struct {
		does string
		call []string
		why  string
	}{
		"well":         {saysSuccess, []string{"pre_upgrade", "offline"}, ""},
		"exit code":    {saysSuccess + "exit 3", []string{"pre_upgrade", "offline"}, "exit code 3"},
		"nothing said": {"echo well", []string{"pre_upgrade", "offline"}, "did not say that pre_upgrade was a success"},
		"failed, exit 0": {"echo '[ERROR] Execute cantian-common upgrade_commit.sh return failed.'",
			[]string{"upgrade_commit", "offline"}, "return failed"},
		"another verb":     {"echo Execute cantian-common check_status.sh return success", []string{"check_point"}, "about another action"},
		"nothing replaced": {saysSuccess, []string{"upgrade", "offline"}, `says "24.12.B010", want "25.06.B001"`},
		"replaced":         {replaced + saysSuccess, []string{"upgrade", "offline"}, ""},
		"not rolled back": {"mkdir -p $D/upgrade_backup/x;" + replaced + saysSuccess, []string{"rollback", "offline"},
			`says "25.06.B001", want "24.12.B010"`},
		"no terminal": {"[ -t 0 ] || exit 4\n" + saysSuccess, []string{"check_status"}, ""},
	} {
		t.Run(name, func(*testing.T) {
			r.write("opt/engine/versions.yml", "SYS:\n  Version: 24.12.B010\n", 0o600)
			r.write("opt/engine/upgrade_backup/cantian_upgrade_bak_24.12.B010/backup_success", "", 0o400)
			r.write("does", c.does, 0o600)
			r.do(r.verb(c.call...), c.why)
		})
	}
}

// TestAppctlPackageIsCopied: its scripts change the copy only, which the engine's accounts
// can read; the checks before an upgrade begin with a new one.
func TestAppctlPackageIsCopied(t *testing.T) {
	r := appctlRig(t)
	r.write("does", "echo \"$2\" >> $P/config; sed -i 's/\"a\"//' $P/action/env.sh; chmod 0400 $P/action/*\n[ $(id "+
		"-u) != 0 ] || su nobody -s /bin/sh -c \"test -x $P/action && test ! -r $P/action/env.sh\" || exit 5\n"+saysSuccess, 0o600)
	r.do(r.verb("pre_upgrade", "{appctlMode}"), "")
	r.do(r.verb("stop", "second", "{array}"), "")
	copied := "packages/bundle/engine"
	if got := r.read(copied + "/config"); got != "offline\nsecond\n" {
		t.Errorf("one copy is used by all verbs: %q", got)
	}
	if got, want := r.calls(), r.root+"/"+copied+" stop second 10.0.0.200\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	r.change = func(s *Step) { s.Values.Mode = manifest.Rolling }
	r.do(r.verb("pre_upgrade", "{appctlMode}", "{array}"), "")
	if got := r.read(copied + "/config"); got != "rollup\n" || !strings.HasSuffix(r.calls(), " pre_upgrade rollup\n") {
		t.Errorf("the checks begin with a new copy, and empty arguments are left out: %q, %s", got, r.calls())
	}
	if got := r.read("packages/bundle/other"); got != "x" {
		t.Errorf("what is beside the package is copied, too: %q", got)
	}
	if got := r.read("bundle/engine/action/env.sh"); got != "ORDER=(\"a\" \"b\")\n" {
		t.Errorf("the bundle was changed: %s", got)
	}
	r.write("bundle/engine/action/env.sh", "ORDER=(\"a\" \"c\")\n", 0o644)
	r.do(r.verb("pre_upgrade"), "is not what the manifest says")
}

// TestAppctlInstalled: the installed script is called in its own directory.
func TestAppctlInstalled(t *testing.T) {
	r := appctlRig(t)
	r.write("does", "pwd; touch $D/check_point.success\n"+saysSuccess, 0o600)
	a := r.verb("check_point")
	a.Appctl.Installed = true
	r.do(a, "")
	if _, err := os.Stat(filepath.Join(r.root, "opt/engine/check_point.success")); !os.IsNotExist(err) {
		t.Errorf("the guide has the mark removed: %v", err)
	}
	if !strings.Contains(r.log.String(), r.root+"/opt/engine/action") {
		t.Errorf("log: %s", r.log.String())
	}
	a.Appctl.Home = r.root + "/opt/none"
	r.do(a, "opt/none/action/appctl.sh")
}

// TestAppctlStart: one that runs is not started.
func TestAppctlStart(t *testing.T) {
	r := appctlRig(t)
	r.write("does", "[ $1 = start ] && touch $D/runs\n[ -e $D/runs ] || exit 1\n"+saysSuccess, 0o600)
	a := r.verb("start")
	a.Appctl.Installed = true
	for _, want := range []string{"check_status,start", "check_status,start,check_status"} {
		r.do(a, "")
		if got := strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(r.calls(), r.root+"/opt/engine ", "")), "\n", ","); got != want {
			t.Errorf("called %s, want %s", got, want)
		}
	}
}

// TestAppctlRollbackOfNothing: the package's own rollback refuses where no backup was made.
func TestAppctlRollbackOfNothing(t *testing.T) {
	r := appctlRig(t)
	r.write("does", saysSuccess, 0o600)
	r.do(r.verb("rollback", "offline"), "")
	if _, err := os.Stat(filepath.Join(r.root, "calls")); !os.IsNotExist(err) ||
		!strings.Contains(r.log.String(), "there is nothing to roll back") {
		t.Errorf("it was called: %v: %s", err, r.log.String())
	}
	r.write("opt/engine/upgrade_backup/cantian_upgrade_bak_24.12.B010/backup_success", "", 0o400)
	r.do(r.verb("rollback", "offline"), "")
	if got := r.calls(); !strings.Contains(got, "rollback offline") {
		t.Errorf("called %s", got)
	}
}

// TestAppctlCommitIsReadBack: from the engine's own tool, as its account.
func TestAppctlCommitIsReadBack(t *testing.T) {
	r := appctlRig(t)
	r.write("does", saysSuccess, 0o600)
	for told, why := range map[string]string{
		"mem version:25.6.0.\ngcc version:25.6.0.": "", "gcc version:25.6.1.": "want 25.06.B001",
		"gcc version:24.12.0.": "tells gcc version:24.12.0, want 25.06.B001",
		"cms is busy":          `ended with 0 and said "cms is busy`,
	} {
		r.tool("su", "[ \"$*\" = '-s /bin/bash - cantian -c cms version' ] || exit 9\nprintf '"+strings.ReplaceAll(told, "\n", `\n`)+"\\n'")
		r.do(r.verb("upgrade_commit", "offline"), why)
	}
	r.change = func(s *Step) { s.Values.Version = "2.0.3.B516" }
	r.tool("su", "echo gcc version:2.0.3.")
	r.do(r.verb("upgrade_commit", "offline"), "")
	r.tool("su", "exit 7")
	r.do(r.verb("upgrade_commit", "offline"), "ended with 7")
}

// TestAppctlCommitOfTheDatabaseIsReadBack: where the password of sys is in the credentials file.
func TestAppctlCommitOfTheDatabaseIsReadBack(t *testing.T) {
	const secret = "sys-geheim"
	r := appctlRig(t)
	r.write("does", saysSuccess, 0o600)
	answers := func(told string) {
		r.tool("su", `[ "$*" = '-s /bin/bash - cantian -c cms version' ] && echo gcc version:25.6.0. && exit
[ "$*" = '-s /bin/bash - cantian -c ctsql sys@127.0.0.1:1611 -q -c "SELECT * FROM SYS.DV_CTRL_VERSION"' ] || exit 9
read -r password; echo "Please enter password: "; [ "$password" = `+secret+` ] || { echo "CT-00329, Incorrect user or password $password"; exit 1; }
printf 'connected.\n\nSQL> \nVERSION   \n-----------\n`+told+`\n\n1 rows fetched.\n\n'`)
	}
	commit := r.verb("upgrade_commit", "offline")
	answers("24.12.0.2 ")
	for _, credentials := range []string{"", "secrets: {array: array-geheim}\n"} { // nobody is asked
		r.log.Reset()
		r.change = func(s *Step) {
			s.Values.Version, s.Credentials = "25.06.B001", ""
			if credentials != "" {
				s.Credentials = r.write("credentials", credentials, 0o600)
			}
		}
		r.do(commit, "")
		if log := r.log.String(); strings.Count(log, "DV_CTRL_VERSION was not read back") != 1 ||
			!strings.Contains(log, "secrets: {sys: PASSWORD}") || strings.Contains(r.calls(), "ctsql") {
			t.Errorf("log: %s, calls: %s", log, r.calls())
		}
	}
	r.log.Reset()
	r.change = func(s *Step) {
		s.Values.Version, s.Credentials = "25.06.B001", r.write("credentials", "secrets: {sys: "+secret+"}\n", 0o600)
	}
	for told, why := range map[string]string{
		"25.6.0.2  ": "", "25.6.0.11": "", "24.12.0.2 ": "DV_CTRL_VERSION of ctsql tells 24.12.0.2, want 25.06.B001",
		"": "DV_CTRL_VERSION of ctsql ended with 0 and said", "125.6.0": "ended with 0 and said",
	} {
		answers(told)
		res := r.do(commit, why)
		r.probe(commit, res.State)
	}
	r.change = func(s *Step) {
		s.Values.Version, s.Credentials = "25.06.B001", r.write("credentials", "secrets: {sys: other-geheim}\n", 0o600)
	}
	if res := r.do(commit, "ended with 1 and said"); strings.Contains(res.Why, "geheim") ||
		!strings.Contains(res.Why, "CT-00329, Incorrect user or password ***") {
		t.Errorf("got %+v", res)
	}
	if strings.Contains(r.log.String()+r.calls(), "geheim") || strings.Contains(r.log.String(), "was not read") {
		t.Errorf("log: %s, calls: %s", r.log.String(), r.calls())
	}
	r.change = func(s *Step) {
		s.Values.Version, s.Credentials = "25.06.B001", r.write("credentials", "secrets: {", 0o600)
	}
	r.do(commit, "credentials")
}

// TestAppctlIsJudgedLater: by an agent that has not seen it run.
func TestAppctlIsJudgedLater(t *testing.T) {
	r := appctlRig(t)
	upgrade := r.verb("upgrade", "offline")
	r.write("does", "sed -i s/24.12.B010/25.06.B001/ $D/versions.yml\n"+saysSuccess, 0o600)
	r.do(upgrade, "")
	r.probe(upgrade, program.Done)
	r.write("opt/engine/versions.yml", "SYS:\n  Version: 24.12.B010\n", 0o600)
	r.probe(upgrade, program.Failed)
	for _, c := range []struct {
		verb, installed string
		want            program.State
	}{{"upgrade", "25.06.B001", program.Done}, {"upgrade", "24.12.B010", program.Unknown}, {"rollback", "24.12.B010", program.Unknown}} {
		r.write("opt/engine/versions.yml", "SYS:\n  Version: "+c.installed+"\n", 0o600)
		s := r.same()
		got, err := r.host.Look(r.ctx(), r.verb(c.verb), s, program.Result{State: program.Unknown})
		if err != nil || got.State != c.want {
			t.Errorf("%s whose end is unknown, with %s installed: %v, %v", c.verb, c.installed, got, err)
		}
	}
}

// TestAppctlAsksForPasswordsBefore: what check_point and upgrade will ask on node 0 is wanted with the
// checks before, when applications still run.
func TestAppctlAsksForPasswordsBefore(t *testing.T) {
	const sys = "secrets: {s: pw}\nexpect:\n- {regexp: \"(?i)cantian_sys_pwd\", secret: s}\n"
	const array = "- {regexp: dorado_user, text: admin}\n- {regexp: dorado_pwd, secret: s}\n"
	for name, c := range map[string]struct{ node, deploy, credentials, why string }{
		"no file":                {"0", "file", "", `asked "please enter cantian_sys_pwd: "`},
		"no answer":              {"0", "file", "expect: [{prompt: other, text: x}]\n", `asked "please enter cantian_sys_pwd: "`},
		"another prompt":         {"0", "file", "secrets: {s: pw}\nexpect: [{prompt: cantian_sys_pwd again, secret: s}]\n", "cantian_sys_pwd"},
		"answered":               {"0", "file", sys, ""},
		"array":                  {"0", "dbstor", sys, `asked "please enter dorado_user: "`},
		"array without password": {"0", "combined", sys + "- {regexp: dorado_user, text: admin}\n", `asked "please enter dorado_pwd: "`},
		"array answered":         {"0", "dbstor", sys + array, ""},
		"snapshots made by hand": {"0", "dbstor", sys + "- {regexp: \"(?i)continue upgrade please input yes\", text: \"yes\"}\n", ""},
		"another node":           {"1", "dbstor", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := appctlRig(t)
			r.write("opt/engine/config/deploy_param.json",
				`{"node_id": "`+c.node+`", "cms_ip": "10.0.0.1;10.0.0.2", "deploy_mode": "`+c.deploy+`"}`, 0o600)
			r.write("does", saysSuccess, 0o600)
			was := r.change
			r.change = func(s *Step) {
				was(s)
				if c.credentials != "" {
					s.Credentials = r.write("credentials", c.credentials, 0o600)
				}
			}
			var s Step
			s.Values.Mode = manifest.Offline
			r.change(&s)
			need := fact.Need{Module: "engine", Engine: r.verb("pre_upgrade").Appctl.Home, Mode: string(s.Values.Mode)}
			if why := r.host.Unmet(t.Context(), need, s.Credentials); (why != "") != (c.why != "") || !strings.Contains(why, c.why) {
				t.Errorf("before the run: %q, want %q", why, c.why)
			}
			if need.SnapshotsDone = true; name == "array" && r.host.Unmet(t.Context(), need, s.Credentials) != "" {
				t.Error("an operator's word about the snapshots does not count")
			}
			r.do(r.verb("pre_upgrade", "{appctlMode}"), c.why)
			if called := r.calls() != ""; called != (c.why == "") {
				t.Errorf("calls: %s", r.calls())
			}
		})
	}
}

// TestAppctlCopyThatNobodyMayEnter: the engine's accounts would fail in the middle of the upgrade.
func TestAppctlCopyThatNobodyMayEnter(t *testing.T) {
	r := appctlRig(t)
	r.write("does", saysSuccess, 0o600)
	for _, dir := range []string{"closed", "closed/data"} {
		r.host.Packages = filepath.Join(r.root, "closed/data/packages")
		try.Must(t, os.MkdirAll(r.host.Packages, 0o755))
		try.Must(t, os.Chmod(filepath.Join(r.root, dir), 0o750))
		closed := "can not enter " + filepath.Join(r.root, dir) + ", which has mode 0750"
		if why := r.host.Unmet(t.Context(), fact.Need{Engine: r.verb("pre_upgrade").Appctl.Home, Mode: "rolling"},
			""); !strings.Contains(why, closed) {
			t.Errorf("before the run: %q, want %q", why, closed)
		}
		r.do(r.verb("pre_upgrade"), closed)
		try.Must(t, os.Chmod(filepath.Join(r.root, dir), 0o711))
		r.do(r.verb("pre_upgrade"), "")
	}
}
