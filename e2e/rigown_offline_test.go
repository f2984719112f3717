package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/need"
)

// offlineModules are those of the bundle "service", in the order in which they are
// installed and started. They are stopped in the other one.
var offlineModules = []string{"db", "engine", "app"}

const (
	offlineTrace = "offline-trace" // a file of each host: what its programs were called for
	offlineFail  = "offline-fail"  // the module whose start fails on the host that has it
)

// offlineProgram is the program of all modules. It writes down when it is called for
// what, and on which host.
const offlineProgram = `#!/bin/sh
# svc.sh MODULE PHASE MODE
set -eu
dir=/srv/host/offline
mkdir -p "$dir"
echo "$(date +%s.%N) $HOLDFAST_HOST $1 $2 $3" >>/srv/host/` + offlineTrace + `
case $2 in
stop) rm -f "$dir/$1.running" ;;
start)
	if [ "$(cat /srv/host/` + offlineFail + ` 2>/dev/null)" = "$1" ]; then
		echo "$1: the port is taken"
		exit 3
	fi
	touch "$dir/$1.running"
	;;
backup) cp "$dir/$1.version" "$HOLDFAST_BACKUP/" ;;
install) [ ! -e "$dir/$1.running" ]; echo "$HOLDFAST_VERSION" >"$dir/$1.version" ;;
rollback) [ ! -e "$dir/$1.running" ]; cp "$HOLDFAST_BACKUP/$1.version" "$dir/" ;;
postCheck) [ -e "$dir/$1.running" ] ;;
esac
`

// offlineBundle builds the bundle of a name, which takes the service from 1.0 to 2.0
// offline, with a reboot of each host or without.
func offlineBundle(t testing.TB, key releaseKey, name string, reboot bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\nversion: \"2.0\"\nminSpaceGB: 1\nrequiresReboot: %v\nupgradeFrom:\n- {version: "+
		"\"1.0\", modes: [offline]}\nmodules:\n", name, reboot)
	after := ""
	for _, m := range offlineModules {
		fmt.Fprintf(&b, "- name: %s\n%s  timeout: 1m\n  canRollback: true\n  files: [%s/]\n  actions:\n", m, after, m)
		for _, phase := range []string{"stop", "backup", "install", "start", "postCheck", "rollback"} {
			fmt.Fprintf(&b, "    %s: {run: [%s/svc.sh, %s, %s, \"{mode}\"], idempotent: true}\n", phase, m, m, phase)
		}
		after = "  after: [" + m + "]\n"
		writeFile(t, filepath.Join(dir, m, "svc.sh"), offlineProgram)
		if err := os.Chmod(filepath.Join(dir, m, "svc.sh"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "manifest.yaml"), b.String())
	return build(t, dir, key)
}

// installService brings the service to every host in version 1.0, and forgets what was
// traced before.
func (r *rig) installService(t testing.TB) {
	t.Helper()
	r.everywhere(t, "install the service", func(ctx context.Context, h string) error {
		_, err := r.script(ctx, h, `
			rm -rf /srv/host/offline "/srv/host/$1" "/srv/host/$2"
			mkdir -p /srv/host/offline
			for m in db engine app; do
				echo 1.0 >"/srv/host/offline/$m.version"
				touch "/srv/host/offline/$m.running"
			done`, offlineTrace, offlineFail)
		return err
	})
}

// offers wants the service to run on all hosts in one version.
func (r *rig) offers(t testing.TB, version string) {
	t.Helper()
	want := strings.TrimSpace(strings.Repeat(version+" ", 3) + "3")
	r.everywhere(t, "look at the service", func(ctx context.Context, h string) error {
		out, err := r.script(ctx, h, `cd /srv/host/offline; cat db.version engine.version app.version; ls *.running | wc -l`)
		if got := strings.Join(strings.Fields(out), " "); got != want {
			t.Errorf("%s has the versions and running modules %s, want %s", h, got, want)
		}
		return err
	})
}

// call is a program's own trace of its call.
type call struct{ host, module, phase string }

func (c call) String() string { return c.host + "/" + c.phase + "/" + c.module }

// calls are those of all hosts since they were asked for last, in the order in which
// they were made: hosts have one clock.
func (r *rig) calls(t testing.TB) []call {
	t.Helper()
	var lines []string
	for _, h := range r.lab.Hosts() {
		text, err := os.ReadFile(r.lab.HostPath(h, offlineTrace))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(strings.TrimSpace(string(text)), "\n")...)
		if err := os.RemoveAll(r.lab.HostPath(h, offlineTrace)); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(lines) // by the time, which is as long everywhere
	var out []call
	for _, l := range lines {
		f := strings.Fields(l)
		switch {
		case len(f) == 0:
			continue
		case len(f) != 5 || f[4] != "offline":
			t.Fatalf("a program was called in another mode: %q", l)
		}
		out = append(out, call{f[1], f[2], f[3]})
	}
	return out
}

// stopsFirst wants the modules to be stopped on all hosts, each when the one before is
// stopped everywhere, and before anything else is done. It returns what comes then.
func stopsFirst(t testing.TB, calls []call, hosts []string) []call {
	t.Helper()
	at := 0
	for _, m := range slices.Backward(offlineModules) {
		var stopped []string
		for ; at < len(calls) && calls[at].phase == "stop" && calls[at].module == m; at++ {
			stopped = append(stopped, calls[at].host)
		}
		slices.Sort(stopped)
		if !slices.Equal(stopped, hosts) {
			t.Fatalf("%s is stopped on %v, want %v, and the next after that: %v", m, stopped, hosts, calls)
		}
	}
	return calls[at:]
}

// hostCalls are the calls on a host, as PHASE/MODULE.
func hostCalls(calls []call, host string) (out []string) {
	for _, c := range calls {
		if c.host == host {
			out = append(out, c.phase+"/"+c.module)
		}
	}
	return out
}

// turn is what is called on a host in its turn, after its services were stopped.
func turn(phases ...string) (out []string) {
	for _, p := range phases {
		modules := slices.Clone(offlineModules)
		if p == "rollback" {
			slices.Reverse(modules)
		}
		for _, m := range modules {
			out = append(out, p+"/"+m)
		}
	}
	return out
}

// nodeByNode wants the hosts to have their turns in that order, one after the other.
func nodeByNode(t testing.TB, calls []call, hosts []string, phases ...string) {
	t.Helper()
	var order []string
	for _, c := range calls {
		if len(order) == 0 || order[len(order)-1] != c.host {
			order = append(order, c.host)
		}
	}
	if !slices.Equal(order, hosts) {
		t.Errorf("the turns are %v, want %v: %v", order, hosts, calls)
	}
	for _, h := range hosts {
		if got := hostCalls(calls, h); !slices.Equal(got, turn(phases...)) {
			t.Errorf("%s did %v, want %v", h, got, turn(phases...))
		}
	}
}

// TestOfflineWithGuests stops a service on all hosts and upgrades it, node 0 first,
// while guests go on. A start that fails on the second node stops the run there and says
// why. It is aborted, goes on by a second run, and is rolled back, node 0 first.
func TestOfflineWithGuests(t *testing.T) {
	need.Drill(t, "P4: a service is upgraded offline on all hosts while guests go on; a start that fails stops the "+
		"run, which goes on later, and goes back")
	onLab(t, owned, offlineWithGuests)
}

func offlineWithGuests(t testing.TB, r *rig) {
	r.spent(t, false)
	r.installService(t)
	before := r.guests(t)
	hosts := r.lab.Hosts()
	order := slices.Concat(hosts[2:], hosts[:2]) // node 0 is not the first by name
	if err := os.WriteFile(r.lab.HostPath(order[1], offlineFail), []byte("engine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	bundle := r.bundleOn(t, hosts[0], offlineBundle(t, key, "service", false), key)
	run := slices.Concat([]string{"upgrade", "run", "--mode", "offline", "--version", "1.0", "--yes", "-o", "json",
		"--order", strings.Join(order, ","), "--last", order[len(order)-1]}, bundle)
	r.command(t, hosts[0], run...)
	u := r.awaitUpgrade(t, "the run pauses", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	failed := order[1] + "/start/engine"
	if u.ClusterState != upgrade.Rollup || !strings.Contains(u.Job.Why, failed+" failed") || !r.says(t, hosts[3], "the port is taken") {
		t.Errorf("it should have stopped at %s, and say why: %+v, job %+v", failed, u, u.Job)
	}
	calls := stopsFirst(t, r.calls(t), hosts)
	whole := len(turn("backup", "install", "start", "postCheck"))
	if len(calls) < whole {
		t.Fatalf("only %v was done", calls)
	}
	nodeByNode(t, calls[:whole], order[:1], "backup", "install", "start", "postCheck")
	if got, want := hostCalls(calls[whole:], order[1]),
		append(turn("backup", "install"), "start/db", "start/engine"); !slices.Equal(got, want) || len(calls) != whole+len(want) {
		t.Errorf("%s did %v, want %v and nothing on others: %v", order[1], got, want, calls[whole:])
	}

	r.command(t, hosts[1], "upgrade", "abort")
	u = r.awaitUpgrade(t, "the abort", ended)
	r.goesOnOffline(t, u, order, run)
	r.offers(t, "2.0")
	r.unbroken(t, before)

	r.command(t, hosts[1], "upgrade", "rollback", "--yes", "-o", "json")
	u = r.awaitUpgrade(t, "the way back", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	if u.ClusterState != upgrade.Normal || u.Job.Result != "done" {
		t.Fatalf("rolled back: %+v, job %+v", u, u.Job)
	}
	nodeByNode(t, stopsFirst(t, r.calls(t), hosts), order, "rollback", "start", "postCheck")
	r.offers(t, "1.0")
	r.unbroken(t, before)
}

// says reports whether the status on a host shows a text.
func (r *rig) says(t testing.TB, h, text string) bool {
	t.Helper()
	return strings.Contains(r.command(t, h, "upgrade", "status"), text)
}

// goesOnOffline begins a second run. Node 0, which is done, is looked at and goes on;
// the second node is done again with its backup of before, the others as usual.
func (r *rig) goesOnOffline(t testing.TB, u request.Standing, order, run []string) {
	t.Helper()
	if u.ClusterState != upgrade.Rollup || u.Job.Result != "aborted" {
		t.Fatalf("aborted: %+v, job %+v", u, u.Job)
	}
	key := newKey(t)
	other := r.bundleOn(t, r.lab.Hosts()[1], offlineBundle(t, key, "other", false), key)
	r.refused(t, r.lab.Hosts()[1], 3, []string{"the old bundle", "holdfast upgrade rollback"},
		slices.Concat([]string{"upgrade", "run", "--mode", "offline", "--version", "1.0", "--yes"}, other)...)
	if err := os.Remove(r.lab.HostPath(order[1], offlineFail)); err != nil {
		t.Fatal(err)
	}
	r.command(t, r.lab.Hosts()[0], run...)
	u = r.awaitUpgrade(t, "the second run", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	if u.ClusterState != upgrade.Prepared || u.Job.Result != "done" {
		t.Fatalf("upgraded: %+v, job %+v", u, u.Job)
	}
	calls := r.calls(t)
	if got := hostCalls(calls, order[0]); !slices.Equal(got, turn("postCheck")) {
		t.Errorf("%s is done, and did %v", order[0], got)
	}
	calls = slices.DeleteFunc(calls, func(c call) bool { return c.host == order[0] })
	left := slices.Sorted(slices.Values(order[1:]))
	calls = stopsFirst(t, calls, left)
	again := len(turn("install", "start", "postCheck"))
	nodeByNode(t, calls[:again], order[1:2], "install", "start", "postCheck")
	nodeByNode(t, calls[again:], order[2:], "backup", "install", "start", "postCheck")
}

// TestOfflineWithReboots shuts all guests down, then stops the service, upgrades and
// reboots the hosts, node 0 first, and starts the guests again where they were, the
// management VM among them.
func TestOfflineWithReboots(t *testing.T) {
	need.Drill(t, "P4: guests are shut down, a service is upgraded, hosts are rebooted, and guests start again where they were")
	onLab(t, owned, offlineWithReboots)
}

func offlineWithReboots(t testing.TB, r *rig) {
	r.spent(t, true)
	r.installService(t)
	before := r.guests(t)
	mgmt := r.answer(t)
	boots, placed, hosts := r.bootIDs(t), r.placed(t), r.lab.Hosts()
	key := newKey(t)
	bundle := r.bundleOn(t, hosts[0], offlineBundle(t, key, "service-reboot", true), key)
	r.command(t, hosts[0], slices.Concat([]string{"upgrade", "run", "--mode", "offline", "--version", "1.0", "--yes",
		"-o", "json"}, bundle)...)
	u := r.awaitUpgrade(t, "the upgrade", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	if u.ClusterState != upgrade.Prepared || u.Job.Result != "done" {
		t.Fatalf("upgraded: %+v, job %+v", u, u.Job)
	}
	r.offers(t, "2.0")
	calls := stopsFirst(t, r.calls(t), hosts)
	first := calls[0].host
	var turns []string
	for _, h := range u.Hosts {
		turns = append(turns, string(h.Name))
	}
	if len(turns) != len(hosts) || turns[0] != first {
		t.Errorf("the first turn is that of %s, the plan has %v", first, turns)
	}
	nodeByNode(t, calls, turns, "backup", "install", "start", "postCheck")
	for h, boot := range r.bootIDs(t) {
		if boot == boots[h] {
			t.Errorf("%s was not rebooted", h)
		}
	}
	after := r.guests(t)
	for name, b := range before {
		if a := after[name]; a.Boot == b.Boot {
			t.Errorf("%s was not started anew: before %+v, after %+v", name, b, a)
		}
	}
	if now := r.placed(t); !slices.Equal(now, placed) {
		t.Errorf("guests are on %v, were on %v", now, placed)
	}
	if a, err := r.lab.WaitGuest(t.Context(), patience); err != nil || a.Boot == mgmt.Boot {
		t.Errorf("the management VM: before %+v, after %+v, %v", mgmt, a, err)
	}
	r.command(t, hosts[1], "upgrade", "commit", "--yes", "-o", "json")
	if u = r.awaitUpgrade(t, "the commit", ended); u.ClusterState != upgrade.Normal || u.Version != "2.0" {
		t.Errorf("committed: %+v, job %+v", u, u.Job)
	}
}
