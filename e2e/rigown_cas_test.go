package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// casBundle makes a package of CAS with a version such as e0509h01, and the signature over
// it. One that lies says that all is well, and changes nothing.
func casBundle(t testing.TB, key releaseKey, version string, lies bool) (file, signature string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cas")
	if err := os.CopyFS(dir, os.DirFS("testdata/cas")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "version"), strings.ToUpper(version))
	if lies {
		writeFile(t, filepath.Join(dir, "lies"), "")
	}
	file = filepath.Join(t.TempDir(), "cas-"+version+".tar.gz")
	if err := packTar(file, dir, "upgrade."+version+"/"); err != nil {
		t.Fatal(err)
	}
	here(t, "bundle", "sign", file, "--key", key.secret)
	return file, file + ".minisig"
}

// casOld is the version that installCAS brings.
const casOld = "E0306"

// casPlatform is the platform file. It is wrong about the active manager, which is the
// second host.
const casPlatform = `format: 1
hosts:
- {name: @ONE@, roles: [manager, host]}
- {name: @TWO@, roles: [manager, host]}
ha: {switchOff: [/srv/host/cas/ha.sh, "off"], switchOn: [/srv/host/cas/ha.sh, "on"], status: [/srv/host/cas/ha.sh, status]}
status: {versionFile: /etc/cas_cvk-version}
pair:
  nodes: [@ONE@, @TWO@]
  active: @ONE@
  switch: [/srv/host/cas/crm.sh, switch]
  start: [/srv/host/cas/crm.sh, start]
  status: [/srv/host/cas/crm.sh, status]
`

// installCAS makes a platform of CAS of all hosts, of the version casOld, with HA on. The
// first two are a hot-standby pair, of which the second one is active.
func (r *rig) installCAS(t testing.TB) {
	t.Helper()
	hosts := r.lab.Hosts()
	said := filepath.Join(t.TempDir(), "platform.yaml")
	writeFile(t, said, strings.NewReplacer("@ONE@", hosts[0], "@TWO@", hosts[1]).Replace(casPlatform))
	if _, err := r.script(t.Context(), hosts[0], "rm -rf /srv/shared/cas; mkdir -p /srv/shared/cas/running; echo $1 "+
		">/srv/shared/cas/active; touch /srv/shared/cas/ha", hosts[1]); err != nil {
		t.Fatal(err)
	}
	r.everywhere(t, "install the platform", func(ctx context.Context, h string) error {
		if _, err := r.give(h, "cas", said, "testdata/casplatform/crm.sh", "testdata/casplatform/ha.sh"); err != nil {
			return err
		}
		_, err := r.script(ctx, h, `
			mine=/srv/shared/cas/hosts/$(hostname)
			mkdir -p $mine
			echo "V500R001B01D006 V3.0 $1 Enterprise 45807." >$mine/version
			ln -sfn $mine/version /etc/cas_cvk-version`, casOld)
		if err == nil && slices.Contains(hosts[:2], h) {
			_, err = r.script(ctx, h, "/srv/host/cas/crm.sh start")
		}
		return err
	})
}

// casVersions wants all hosts to have one version.
func (r *rig) casVersions(t testing.TB, want string) {
	t.Helper()
	r.everywhere(t, "read the version", func(ctx context.Context, h string) error {
		got, err := r.lab.Exec(ctx, h, "cat", "/etc/cas_cvk-version")
		if !strings.Contains(got, " "+want+" ") {
			t.Errorf("%s has %s, want %s", h, got, want)
		}
		return err
	})
}

// TestUpgradeOfACASPackage runs packages whose upgrade.sh changes all hosts and ends with 0
// whatever has happened. One finds no database, then says that all is well and changes
// nothing: the run stops both times and goes back. A good one, in the mode that nobody has
// chosen, changes the software of all hosts with guests running, and the hosts are rebooted
// one after the other, the standby manager before the active one; the platform's HA is off
// meanwhile.
func TestUpgradeOfACASPackage(t *testing.T) {
	need.Drill(t, "P4: packages of CAS: bad ones stop the run and go back, a good one is rolled out with reboots",
		need.Programs("tgt", "tgtd"))
	onLab(t, owned, upgradeOfACASPackage)
}

func upgradeOfACASPackage(t testing.TB, r *rig) {
	r.installCAS(t)
	r.withSAN(t)
	before := r.guests(t)
	boots := r.bootIDs(t)
	hosts := r.lab.Hosts()
	key := newKey(t)
	run := func(version string, lies bool) []string {
		file, signature := casBundle(t, key, version, lies)
		return slices.Concat([]string{"upgrade", "run", "--version", casOld, "--yes", "--signature",
			lab.HostDir + "/incoming/" + filepath.Base(signature),
			"--platform", lab.HostDir + "/cas/platform.yaml", "-o", "json"}, r.bundleOn(t, hosts[0], file, key, signature))
	}
	ha := func() bool {
		_, err := r.lab.Exec(t.Context(), hosts[2], "/srv/host/cas/ha.sh", "status")
		return err == nil
	}
	r.casFails(t, run("e0503", true))
	if !ha() {
		t.Error("HA stays off after the way back")
	}
	r.casVersions(t, casOld)
	for h, boot := range r.bootIDs(t) {
		if boot != boots[h] {
			t.Errorf("%s was rebooted", h)
		}
	}

	good := run("e0509h01", false)
	var p upgrade.Plan
	if err := lab.ReadTold([]byte(r.command(t, hosts[0], slices.Concat(good, []string{"--dry-run"})...)), &p); err != nil {
		t.Fatal(err)
	}
	taken := 0
	for _, s := range p.Steps() {
		if s.Kind == upgrade.KindStorageDetach && strings.Contains(string(s.Args), `"san"`) {
			taken++
		}
	}
	if taken != len(hosts) {
		t.Errorf("the pool on the SAN is taken off %d of %d hosts before their reboot", taken, len(hosts))
	}
	r.command(t, hosts[0], good...)
	off := false
	u := r.awaitUpgrade(t, "the upgrade", func(u request.Standing) bool {
		off = off || !ha()
		return ended(u) || u.Job.State == "paused"
	})
	if u.ClusterState != upgrade.Prepared || u.Job.Result != "done" || u.Mode != "reboot" || !off || !ha() {
		t.Fatalf("upgraded, HA was off: %t, and is on: %t: %+v, job %+v", off, ha(), u, u.Job)
	}
	r.casVersions(t, "E0509H01")
	for h, boot := range r.bootIDs(t) {
		if boot == boots[h] {
			t.Errorf("%s was not rebooted", h)
		}
	}
	for i, want := range []string{"0", "3"} { // they have changed places, and both are well
		out, err := r.script(t.Context(), hosts[i], "/srv/host/cas/crm.sh status >/dev/null && echo 0 || echo $?")
		if strings.TrimSpace(out) != want {
			t.Errorf("the pair's services on %s: %s, want %s (%v)", hosts[i], out, want, err)
		}
	}
	if out, err := r.script(t.Context(), hosts[1], "cat /var/log/upgrade/postcheck-report_*.txt"); err != nil ||
		!strings.Contains(out, "Upgrade CAS(E0509H01) is done!") {
		t.Errorf("the package's own report: %s, %v", out, err)
	}
	if found, err := filepath.Glob(r.lab.HostPath("*", "data", "upgrade", "reports",
		"postcheck-report_*.txt")); err != nil || len(found) == 0 {
		t.Errorf("no report of ours: %v", err)
	}
	r.unbroken(t, before)
	r.sanIsThere(t)
	r.command(t, hosts[2], "upgrade", "commit", "--yes", "-o", "json")
	if u = r.awaitUpgrade(t, "the commit", ended); u.ClusterState != upgrade.Normal || u.Version != "E0509H01" || !u.Committed {
		t.Errorf("committed: %+v, job %+v", u, u.Job)
	}
}

// casFails runs a package that fails with exit code 0 in two ways, and goes back.
func (r *rig) casFails(t testing.TB, run []string) {
	t.Helper()
	hosts := r.lab.Hosts()
	r.refused(t, hosts[0], 2, []string{"mode rolling does not fit the bundle"}, slices.Concat(run, []string{"--mode", "rolling"})...)
	if _, err := r.script(t.Context(), hosts[0], "touch /srv/shared/cas/mysql-away"); err != nil {
		t.Fatal(err)
	}
	r.command(t, hosts[0], run...)
	stopped := func(words ...string) {
		t.Helper()
		u := r.awaitUpgrade(t, "the run stops", func(u request.Standing) bool { return ended(u) || u.Job.State == "paused" })
		for _, w := range append(words, hosts[1]+"/install/cas", "exit code 0") {
			if !strings.Contains(u.Job.Why, w) {
				t.Errorf("it does not say %q: %s", w, u.Job.Why)
			}
		}
		if u.ClusterState != upgrade.Rollup || ended(u) {
			t.Fatalf("%+v, job %+v", u, u.Job)
		}
	}
	stopped("Can't connect to local MySQL server", "cvm_resource_start.sh")
	if _, err := r.script(t.Context(), hosts[0], "rm /srv/shared/cas/mysql-away"); err != nil {
		t.Fatal(err)
	}
	r.command(t, hosts[0], "upgrade", "retry", hosts[1]+"/install/cas")
	r.command(t, hosts[0], "upgrade", "resume")
	stopped("not all hosts report version E0503", hosts[4]+" has "+casOld)
	r.command(t, hosts[0], "upgrade", "abort")
	r.awaitUpgrade(t, "the abort", ended)
	r.command(t, hosts[0], "upgrade", "rollback", "--yes", "-o", "json")
	if u := r.awaitUpgrade(t, "the way back", ended); u.ClusterState != upgrade.Normal || u.Job.Result != "done" {
		t.Fatalf("rolled back: %+v, job %+v", u, u.Job)
	}
}
