package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/testbed/need"
)

// actionHosts are the hosts of a cluster: the file "active" names the active manager, and
// the folder "hosts" has a file with the version of each.
type actionHosts struct{ root string }

func (a actionHosts) Active(context.Context) (string, error) {
	text, err := os.ReadFile(filepath.Join(a.root, "active"))
	if active := strings.TrimSpace(string(text)); err == nil && active != "h1" {
		err = errors.New("the active manager is " + active + ", not h1")
	}
	return "h1 is the active manager", err
}

func (a actionHosts) Behind(_ context.Context, job, version string) (bool, string, error) {
	list, err := os.ReadDir(filepath.Join(a.root, "hosts"))
	if err != nil || job != "run-1" {
		return false, "", errors.Join(err, errors.New("of job "+job))
	}
	var hosts []cluster.HostID
	told := map[cluster.HostID]*fact.Facts{}
	for _, e := range list {
		text, err := os.ReadFile(filepath.Join(a.root, "hosts", e.Name()))
		if err != nil {
			return false, "", err
		}
		h := cluster.HostID(e.Name())
		hosts, told[h] = append(hosts, h), &fact.Facts{Version: strings.TrimSpace(string(text))}
	}
	return len(hosts) > 0, upgrade.Behind(version, hosts, told), nil
}

// newAllRig makes the step one that runs a script as upgrade.sh of a package of CAS, in a
// cluster of two hosts with the version before.
func newAllRig(t *testing.T, script string) *runRig {
	t.Helper()
	r := newRunRig(t)
	r.write("active", "h1", 0o600)
	r.write("hosts/h1", "1.0", 0o600)
	r.write("hosts/h2", "1.0", 0o600)
	r.Manifest.Name, r.module().Name = "cas", "cas"
	r.script("upgrade.e0710/upgrade.sh", "echo run >> $R/runs\n"+script)
	r.module().Actions.Install = &manifest.Action{Run: []string{"upgrade.e0710/upgrade.sh"}, Once: true, AllHosts: true}
	r.action(manifest.Install)
	return r
}

// changesAll is what a good upgrade.sh does.
const changesAll = `echo 2.0 > $R/hosts/h1; echo 2.0 > $R/hosts/h2; echo "Upgrade is done!"`

func TestAProgramForAllHosts(t *testing.T) {
	r := newAllRig(t, `[ -x ./upgrade.sh ] || exit 9; [ -t 1 ] || exit 8; `+changesAll)
	if err := r.do(1); err != nil || !strings.HasPrefix(r.log(), "[holdfast: h1 is the active manager]\n") ||
		!strings.HasSuffix(r.log(), "[holdfast: read back: all hosts report 2.0]\n") {
		t.Errorf("%v: %s", err, r.log())
	}
	r.probed(1, engine.ProbedDone)
	if err := r.do(2); err != nil || r.file("runs") != "run\n" {
		t.Errorf("once more: %v, runs %q", err, r.file("runs"))
	}
}

// Whatever such a program does or does not do, the step ends with a reason, and can be
// repeated when the cause is gone.
func TestBadProgramsForAllHosts(t *testing.T) {
	need.Seconds(t)
	for name, c := range map[string]struct{ script, want, log string }{ // one whose words are lost is mended by skip only
		"it changes nothing": {`echo "Upgrade CAS(E0710) is done!"`,
			"exit code 0, but not all hosts report version 2.0: h1 has 1.0, h2 has 1.0. Read what", ""},
		"it changes some": {`echo 2.0 > $R/hosts/h1`, "not all hosts report version 2.0: h2 has 1.0.", ""},
		"it is not active": {`echo "Not find any CVKs, maybe current host is not alive CVM. Please check."`,
			`exit code 0, but has said "Not find any CVKs, maybe current host is not alive CVM. Please check.". The command was run on the manager that is not active`, ""},
		"its database is away":        {changesAll + `; echo "ERROR 2002 (HY000): Can't connect to local MySQL server through socket '/var/run/mysql/mysql.sock' (2)"`, "cvm_resource_start.sh", ""},
		"it fails":                    {`exit 3`, "ended with exit code 3", ""},
		"it asks":                     {`read -p "Continue? [y/n] " x`, `was not given in advance: "Continue? [y/n]"`, ""},
		"it ends its process group":   {`kill -9 0`, "ended by signal 9", ""},
		"it ends its session":         {`[ $(ps -o sid= -p $$) = $$ ] || exit 77; pkill -9 -s 0`, "ended by signal 9", ""},
		"it hangs up on its terminal": {`exec <&- >&- 2>&-; sleep 0.2; exit 4`, "ended with exit code 4", ""},
		"it fills the disk":           {`echo before; until grep -rqsx before $R/up/runs; do sleep 0.02; done; head -c 9000000 /dev/zero > $R/up/full; echo ok`, "not all hosts report version 2.0: h1 has 1.0", "before\n"},
		"it fills the disk with words": {`head -c 9000000 /dev/zero | tr '\0' x; echo; echo ok`,
			"not all hosts report version 2.0: h1 has 1.0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newAllRig(t, c.script)
			if strings.Contains(name, "disk") {
				smallDisk(r)
			}
			r.Credentials = r.write("credentials", "silence: 300ms", 0o600)
			err := r.do(1)
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, engine.ErrUnclear) || !strings.Contains(r.log(), c.log) {
				t.Fatalf("got %v, want %q; log %.2000s", err, c.want, r.log())
			}
			if strings.Contains(name, "disk") {
				if err := os.RemoveAll(filepath.Join(r.up(), "full")); err != nil {
					t.Fatal(err)
				}
			}
			r.write("hosts/h1", "2.0", 0o600)
			r.write("hosts/h2", "2.0", 0o600) // an operator has mended it
			lost := ""
			if strings.Contains(name, "with words") {
				lost = "were not kept"
			}
			if err := r.do(2); (err == nil) != (lost == "") || err != nil && !strings.Contains(err.Error(), lost) || r.file("runs") != "run\n" {
				t.Errorf("mended and repeated: %v, runs %q", err, r.file("runs"))
			}
		})
	}
}

// smallDisk gives the agent's data a file system of its own, of 4 MiB.
func smallDisk(r *runRig) {
	r.Helper()
	need.Real(r, need.Root)
	dir := filepath.Join(r.Root, "up")
	if err := errors.Join(os.MkdirAll(dir, 0o700), unix.Mount("small", dir, "tmpfs", 0, "size=4m")); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			r.Error(err)
		}
	})
}

// Nothing is begun on another manager than the active one, nor while nobody knows which
// hosts have been changed.
func TestAProgramForAllHostsIsNotBegun(t *testing.T) {
	for want, change := range map[string]func(r *runRig){
		"nothing was begun: the active manager is h2, not h1":                   func(r *runRig) { r.write("active", "h2", 0o600) },
		"nothing was begun: the hosts can not be asked for their version: open": func(r *runRig) { r.must1(os.RemoveAll(filepath.Join(r.Root, "hosts"))) },
	} {
		r := newAllRig(t, changesAll)
		change(r)
		if err := r.do(1); err == nil || !strings.Contains(err.Error(), want) || r.file("runs") != "" {
			t.Errorf("got %v, want %q, runs %q", err, want, r.file("runs"))
		}
	}
	r := newAllRig(t, "echo no") // an operator has confirmed that no version can be read
	r.must1(errors.Join(os.RemoveAll(filepath.Join(r.Root, "hosts")), os.Mkdir(filepath.Join(r.Root, "hosts"), 0o700)))
	if err := r.do(1); err != nil || r.file("runs") != "run\n" {
		t.Errorf("%v, runs %q", err, r.file("runs"))
	}
}

func (r *runRig) must1(err error) {
	r.T.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// An agent that comes back judges by the same: what was said, and what hosts report.
func TestAProgramForAllHostsOutlivesTheAgent(t *testing.T) {
	for script, want := range map[string]engine.Probed{changesAll: engine.ProbedDone, "echo done": engine.NotDone,
		changesAll + "; echo Not find any CVKs, maybe current host is not alive CVM": engine.NotDone} {
		r := newAllRig(t, "echo $$ > $R/pid; until [ -e $R/go ]; do sleep 0.02; done; "+script)
		kill := r.agent(1)
		r.await("the program", r.begun)
		kill()
		r.probed(1, engine.StillRunning)
		r.write("go", "", 0o600)
		r.over(1)
		r.probed(1, want)
		if want == engine.NotDone {
			if err := r.do(2); err == nil || !strings.Contains(err.Error(), "exit code 0, but") || r.file("runs") != "run\n" {
				t.Errorf("%s: %v, runs %q", script, err, r.file("runs"))
			}
		}
		r.rebooted(1) // nobody knows how it ended, but what the hosts report
		r.write("hosts/h1", "2.0", 0o600)
		r.write("hosts/h2", "2.0", 0o600)
		r.probed(1, engine.ProbedDone)
		r.write("hosts/h2", "1.0", 0o600)
		r.probed(1, engine.CanNotTell)
	}
}

// announces is what upgrade.sh says of the report that it has written to the file.
const announces = `echo "[WARN] Please see the post-check report for more detailed results:"; echo "$R/postcheck-report_1.txt"; `

// found is what a step has kept of trouble, a line each.
func (r *runRig) found() func() string {
	var kept []job.Finding
	r.Task.Found = func(fs []job.Finding) { kept = fs }
	return func() string {
		var b strings.Builder
		for _, f := range kept {
			b.WriteString(f.Level + " " + f.Text + map[bool]string{true: " (file)"}[f.File != ""] + "\n")
		}
		return b.String()
	}
}

// What the program's own check finds ends the step before any reboot, also with exit code 0 and
// when the hosts have the version, and a repetition does not forget it.
func TestOwnCheckOfAProgramForAllHosts(t *testing.T) {
	report := func(text string) string { return "printf '" + text + "' > $R/postcheck-report_1.txt; " }
	for name, c := range map[string]struct{ script, want, kept string }{
		"on the screen": {`echo "[FAIL] ocfs2 pool p1 is read-only"`,
			`its own check has found a fault: "[FAIL] ocfs2 pool p1 is read-only". Correct`, "fail [FAIL] ocfs2 pool p1 is read-only\n"},
		"in its report": {report(`[ -OK- ] a\n[FAIL] b\n[WARN] c\n`) + announces, `found a fault: "[FAIL] b" in `,
			"fail [FAIL] b (file)\nwarn [WARN] c (file)\n"},
		"in Chinese":     {report(`检查结果: 失败\n`) + announces, `found a fault: "检查结果: 失败" in `, "fail 检查结果: 失败 (file)\n"},
		"report missing": {announces, "can not be read: open ", ""},
		"report old": {report(`[ -OK- ] a\n`) + `touch -d "2 hours ago" $R/postcheck-report_1.txt; ` + announces,
			"before the program began", ""},
		"report empty":     {report(``) + announces, "is empty", ""},
		"report not named": {`echo "[WARN] Please see the post-check report for more detailed results:"`, "its file is not named", ""},
		"only warnings":    {report(`[WARN] c\n[ -OK- ] a\n`) + announces + `echo "The CVK(h2) have single path ocfs2 pools: [x ], please remove them,"`, "", "warn The CVK(h2) have single path ocfs2 pools: [x ], please remove them,\nwarn [WARN] c (file)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newAllRig(t, changesAll+"; "+c.script)
			found := r.found()
			for attempt := 1; attempt <= 2; attempt++ {
				err := r.do(attempt)
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || r.file("runs") != "run\n" {
					t.Fatalf("attempt %d: got %v, want %q; runs %q", attempt, err, c.want, r.file("runs"))
				}
				if err != nil && !strings.Contains(err.Error(), "holdfast upgrade skip h1/install/db --reason WHY") {
					t.Errorf("no way out is named: %v", err)
				}
				if c.kept != "" && found() != c.kept {
					t.Errorf("attempt %d kept\n%swant\n%s", attempt, found(), c.kept)
				}
			}
		})
	}
}

// An agent that comes back, and one that never began the program, look at what it has found.
func TestOwnCheckOutlivesTheAgent(t *testing.T) {
	r := newAllRig(t, "echo $$ > $R/pid; until [ -e $R/go ]; do sleep 0.02; done; "+changesAll+"; echo '[FAIL] p1'")
	found := r.found()
	kill := r.agent(1)
	r.await("the program", r.begun)
	kill()
	r.write("go", "", 0o600)
	r.over(1)
	r.probed(1, engine.NotDone)
	if err := r.do(2); err == nil || !strings.Contains(err.Error(), `found a fault: "[FAIL] p1"`) || found() != "fail [FAIL] p1\n" {
		t.Errorf("%v; %s", err, found())
	}

	r = newAllRig(t, "exit 9")
	r.write("hosts/h1", "2.0", 0o600)
	r.write("hosts/h2", "2.0", 0o600)
	r.write("reports/postcheck-report_1.txt", "[FAIL] old\n", 0o600)
	last := r.write("reports/postcheck-report_2.txt", "[FAIL] b\n", 0o600)
	r.must1(os.Chtimes(filepath.Join(r.Root, "reports/postcheck-report_1.txt"), time.Time{}, time.Now().Add(-time.Hour)))
	r.Reports = filepath.Join(r.Root, "reports/postcheck-report_*.txt")
	if err := r.do(1); err == nil || !strings.Contains(err.Error(), `"[FAIL] b" in `+last) || r.file("runs") != "" {
		t.Errorf("run by hand: %v", err)
	}
	r.write("reports/postcheck-report_2.txt", "[ -OK- ] b\n", 0o600)
	if err := r.do(2); err != nil || r.file("runs") != "" {
		t.Errorf("run by hand, and mended: %v", err)
	}
}

// What is known is looked for in what programs of all kinds have said, also when they succeed.
func TestKnownFaultsOfAStepThatSucceeded(t *testing.T) {
	const says = `echo "[FAIL] optional part"; echo "The CVK(h2) have single path ocfs2 pools: [x ]"`
	const want = "fail [FAIL] optional part\nwarn The CVK(h2) have single path ocfs2 pools: [x ]\n"
	r := newRunRig(t)
	r.installs(says)
	found := r.found()
	if err := r.do(1); err != nil || found() != want {
		t.Errorf("%v; kept %s", err, found())
	}
	found = r.found()
	r.probed(1, engine.ProbedDone)
	if found() != want {
		t.Errorf("probed: kept %s", found())
	}
	r = newRunRig(t)
	r.kind(upgrade.KindHAOff, upgrade.SwitchArgs{Run: []string{r.program("ha", says)}})
	found = r.found()
	if err := r.do(1); err != nil || found() != want {
		t.Errorf("ha: %v; kept %s", err, found())
	}
	r = newRunRig(t)
	r.installs(says + "; exit 3")
	found = r.found()
	if err := r.do(1); err == nil || found() != want {
		t.Errorf("failed: %v; kept %s", err, found())
	}
}
