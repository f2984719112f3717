package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// Versions of the engine of the appctl package.
const (
	engineOld = "24.12.B010"
	engineNew = "25.06.B001"
)

// appctlScripts names a directory with the deploy scripts of a published package
// (action, config, common, versions.yml), to run these tests on them in place of the
// stand-in.
const appctlScripts = "HOLDFAST_APPCTL_PACKAGE"

// appctlPackage is a copy of the unpacked package, in a directory with what belongs beside it.
func appctlPackage(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cantian_connector")
	from := cmp.Or(os.Getenv(appctlScripts), "testdata/appctl")
	for _, cmd := range [][]string{{"cp", "-r", from, dir}, {"testdata/appctl-node/leaves.sh", dir}} {
		if out, err := exec.CommandContext(t.Context(), cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", cmd, err, out)
		}
	}
	return filepath.Dir(dir)
}

// appctlBundle makes a package of the appctl layout of a directory, and the signature over it.
func appctlBundle(t testing.TB, key releaseKey, dir string) (file, signature string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "engine.tar.gz")
	if err := packTar(file, dir, ""); err != nil {
		t.Fatal(err)
	}
	here(t, "bundle", "sign", file, "--key", key.secret)
	return file, file + ".minisig"
}

// installEngine makes every host a node of the engine, installed by the scripts of the
// package. The numbers of the nodes are not in the order of the hosts' names.
func (r *rig) installEngine(t testing.TB, dir string) {
	t.Helper()
	hosts := r.lab.Hosts()
	for _, h := range hosts {
		to := r.lab.HostPath(h, "engine")
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		for from, below := range map[string]string{filepath.Join(dir, "cantian_connector"): "package", "testdata/appctl-node": "node"} {
			if out, err := exec.CommandContext(t.Context(), "sh", "-c", `mkdir -p "$2" && cp -r "$1" "$2/$3"`, "sh",
				from, to, below).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	r.everywhere(t, "install the engine", func(ctx context.Context, h string) error {
		node := (slices.Index(hosts, h) + 1) % len(hosts)
		out, err := r.script(ctx, h, `/srv/host/engine/node/node.sh /srv/host/engine/package "$1" "$2" "$3" 2>&1`,
			fmt.Sprint(node), fmt.Sprint(len(hosts)), engineOld)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// engineState is what a node of the engine has: versions by several words, and what runs.
func (r *rig) engineState(ctx context.Context, h string) (string, error) {
	out, err := r.script(ctx, h, `cd /opt/cantian
sed -n 's/.*Version: //p' versions.yml
cat cms/service/bin/cantiand cantian/server/bin/cantiand
ls repo; cat /var/lib/engine-rpms | sort
for m in cms cantian ct_om cantian_exporter; do engine-process $m check_status && echo $m runs; done
ls /var/lib/engine-units`)
	return strings.Join(strings.Fields(out), " "), err
}

func engineWhole(version string) string {
	short, _, _ := strings.Cut(version, ".B")
	return fmt.Sprintf("%s cantiand %s cantiand %s cantian-%s.x86_64.rpm ct_om-%s.x86_64.rpm cantian-%s.x86_64 "+
		"ct_om-%s.x86_64 cms runs cantian runs ct_om runs cantian_exporter runs "+
		"cantian.timer.active cantian.timer.enabled cantian_logs_handler.timer.active "+
		"cantian_logs_handler.timer.enabled", version, short, short, short, short, short, short)
}

// engines wants all hosts to have one version of the engine, whole and running.
func (r *rig) engines(t testing.TB, version string) {
	t.Helper()
	r.everywhere(t, "look at the engine", func(ctx context.Context, h string) error {
		got, err := r.engineState(ctx, h)
		if want := engineWhole(version); got != want {
			t.Errorf("%s has\n%s\nwant\n%s", h, got, want)
		}
		return err
	})
}

// enginePlatform is what only people know.
const enginePlatform = `format: 1
engine: {array: 10.0.0.200}
applications: {switchOff: [/usr/bin/touch, /srv/host/applications-off], switchOn: [/usr/bin/rm, -f, /srv/host/applications-off]}
backups:
- {name: ct, provider: ctbackup, settings: {choice: done, sysPassword: /srv/host/sys, storagePath: /srv/host/ct}}
`

// appctlPassword is that of the engine's user sys.
const appctlPassword = "Gauss@123 or so"

// appctlCredentials is a credentials file that answers it.
const appctlCredentials = `secrets: {sys: "` + appctlPassword + `"}
expect:
- {regexp: "(?i)cantian_sys_pwd", secret: sys}
`

func (r *rig) prepareEngine(t testing.TB, dir string) (bundle []string, platform string) {
	t.Helper()
	r.installEngine(t, dir)
	hosts := r.lab.Hosts()
	for _, h := range hosts {
		r.giveCredentials(t, h)
		writeFile(t, r.lab.HostPath(h, "ct/backup"), "a backup\n")
		if err := os.WriteFile(r.lab.HostPath(h, "sys"), []byte(appctlPassword), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, r.lab.HostPath(hosts[0], "platform.yaml"), enginePlatform)
	key := newKey(t)
	file, signature := appctlBundle(t, key, dir)
	bundle = append(r.bundleOn(t, hosts[0], file, key, signature), "--signature", lab.HostDir+"/incoming/"+filepath.Base(signature))
	return bundle, lab.HostDir + "/platform.yaml"
}

// settled waits for the end of a run, or for its pause.
func (r *rig) settled(t testing.TB, what string, want upgrade.ClusterState) request.Standing {
	t.Helper()
	u := r.awaitUpgrade(t, what, func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	if u.ClusterState != want || !ended(u) || u.Bundle.Unsigned {
		t.Fatalf("%s: %+v, job %+v", what, u, u.Job)
	}
	return u
}

// removeEngine takes away what installEngine has made.
func (r *rig) removeEngine(t testing.TB) {
	t.Helper()
	r.everywhere(t, "remove the engine", func(ctx context.Context, h string) error {
		_, err := r.script(ctx, h, "/srv/host/engine/node/remove.sh; rm -rf /srv/host/engine")
		return err
	})
}

// TestUpgradeOfAnAppctlPackage runs the scripts of a package unchanged: rolling until a node
// fails and back, then offline, while the array does not answer, and committed.
func TestUpgradeOfAnAppctlPackage(t *testing.T) {
	need.Drill(t, "P4: the scripts of an appctl package, unchanged: rolling until a node fails and back, then offline, and committed")
	onLab(t, owned, upgradeOfAnAppctlPackage)
}

func upgradeOfAnAppctlPackage(t testing.TB, r *rig) {
	r.spent(t, false)
	bundle, platform := r.prepareEngine(t, appctlPackage(t))
	hosts := r.lab.Hosts()
	run := slices.Concat([]string{"upgrade", "run", "--platform", platform, "--yes", "-o", "json"}, bundle)
	r.until(t, "the hosts report their engines", func(ctx context.Context) (string, bool) {
		out, err := r.lab.Exec(ctx, hosts[0], slices.Concat([]string{r.exe}, run, []string{"--mode", "rolling", "--dry-run"})...)
		return fmt.Sprint(out, err), err == nil
	})

	// Node 0 is on the last host.
	failing := hosts[0]
	writeFile(t, r.lab.HostPath(failing, "no-ct_om"), "")
	r.command(t, hosts[0], slices.Concat(run, []string{"--mode", "rolling", "--backup", "engine=ct"})...)
	u := r.awaitUpgrade(t, "the rolling upgrade", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
	if u.ClusterState != upgrade.Rollup || !strings.Contains(u.Job.Why, failing+"/install/engine failed") ||
		!r.says(t, hosts[3], "ct_om upgrade failed") {
		t.Fatalf("it should have stopped at %s: %+v, job %+v", failing, u, u.Job)
	}
	if got, err := r.engineState(t.Context(), hosts[len(hosts)-1]); got != engineWhole(engineNew) {
		t.Errorf("node 0: %s, %v", got, err)
	}
	if err := os.Remove(r.lab.HostPath(failing, "no-ct_om")); err != nil {
		t.Fatal(err)
	}
	r.command(t, hosts[1], "upgrade", "abort")
	r.awaitUpgrade(t, "the abort", ended)
	r.command(t, hosts[1], "upgrade", "rollback", "--yes", "-o", "json")
	r.settled(t, "the way back", upgrade.Normal)
	r.engines(t, engineOld)

	for _, h := range hosts {
		writeFile(t, r.lab.HostPath(h, "array-is-away"), "")
	}
	r.command(t, hosts[0], slices.Concat(run, []string{"--mode", "offline", "--confirmed", "array-snapshots-done"})...)
	r.settled(t, "the offline upgrade", upgrade.Prepared)
	r.engines(t, engineNew)
	if _, err := os.Stat(r.lab.HostPath(hosts[0], "applications-off")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the applications are off: %v", err)
	}
	r.command(t, hosts[1], "upgrade", "commit", "--yes", "-o", "json")
	r.settled(t, "the commit", upgrade.Normal)
	if asked, err := r.script(t.Context(), hosts[0], "cat /mnt/dbdata/remote/ctsql-audit"); err != nil ||
		strings.TrimSpace(asked) != "cantian SELECT * FROM SYS.DV_CTRL_VERSION" {
		t.Errorf("the database was asked %q, %v", asked, err)
	}
	r.engines(t, engineNew)
	r.removeEngine(t)
}
