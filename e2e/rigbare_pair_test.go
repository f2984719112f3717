package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/testbed/need"
)

// What the nodes of this pair have, on their own disks: the rename that puts a copy into the
// place of the data directory does not work on the view of the system that they have.
const (
	pairBase   = "/srv/host/pair"
	pairSocket = "/run/mysqld/mysqld.sock"
)

// pairCluster is a pair of the first two hosts, as docs/pair.md has it, but for the places of its files.
func (b *bareRig) pairCluster() config.Cluster {
	call := func(verb string) []string { return []string{pairBase + "/service", verb} }
	hosts := b.lab.BareCluster()
	cl := config.Cluster{
		Type: config.PairConf, Fencing: hosts.Fencing, Node: hosts.Node,
		Pair: &config.Pair{
			Nodes: b.lab.Hosts()[:2],
			Database: &config.PairDatabase{
				OptionFile: pairBase + "/my.cnf", Datadir: pairBase + "/mysql",
				Admin:       config.PairAccount{User: "holdfast", Credential: "file:/etc/holdfast/database-admin"},
				Replication: config.PairAccount{User: "holdfast-replication", Credential: "file:/etc/holdfast/database-replication"},
			},
			Group: []config.PairMember{
				{Name: "service", Start: call("start"), Stop: call("stop"), Status: call("status")},
				{Name: "webip", VIP: b.lab.FloatingAddr().String() + "/24"},
			},
		},
	}
	if len(cl.Node) == 2 {
		cl.Pair.Arbiter = &config.PairArbiter{Fence: true}
	}
	return cl
}

// setupArgs writes what a set-up reads onto h1, and gives its flags.
func (b *bareRig) setupArgs(t *testing.T) (args []string) {
	t.Helper()
	files := b.files(t, "h1", b.pairCluster())
	cl := b.pairCluster()
	p := *cl.Pair
	db := *p.Database
	db.Admin, db.Replication = config.PairAccount{}, config.PairAccount{}
	for name, v := range map[string]any{"group.json": map[string]any{"Database": map[string]any{"OptionFile": db.OptionFile,
		"Datadir": db.Datadir}, "Group": p.Group[:1]}, "fencing.json": cl.Fencing} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b.lab.HostPath("h1", name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < len(files); i++ {
		switch files[i] {
		case "-c":
			i++
		case "--allow-undersized":
		default:
			args = append(args, files[i])
		}
	}
	args = append(args, "pair", "setup", "--vip", b.lab.FloatingAddr().String()+"/24", "--peer", b.lab.Addr("h2").String(),
		"--hosts", "4", "--vms", "20", "--group", "/srv/host/group.json", "--fencing", "/srv/host/fencing.json")
	if hosts := b.lab.Hosts(); len(hosts) > 2 {
		return append(args, "--arbiter", "quorum:"+b.lab.Addr(hosts[2]).String())
	}
	return append(args, "--arbiter", "fence", "--second-path", b.secondPath())
}

// secondPath are the addresses of the first two hosts at the second switch.
func (b *bareRig) secondPath() string {
	return b.lab.SecondAddr("h1").String() + "," + b.lab.SecondAddr("h2").String()
}

// setup runs a set-up on h1.
func (b *bareRig) setup(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return b.setupOn(t, "h1", args...)
}

func (b *bareRig) setupOn(t *testing.T, host string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	cmd, err := b.lab.Command(ctx, host, append([]string{b.exe}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// newPairNodes makes hosts the first two of which have a database as distributions set it up.
func newPairNodes(t *testing.T, hosts int) *bareRig {
	t.Helper()
	b := newBareRig(t, hosts)
	for _, h := range b.lab.Hosts() {
		b.sh(t, h, `set -e
mkdir -p /vms
mount -t tmpfs -o size=40g tmpfs /vms
tr -d - </srv/host/machine-uuid >/etc/machine-id
[ ! -e /sys/class/dmi/id/product_uuid ] || mount --bind /srv/host/machine-uuid /sys/class/dmi/id/product_uuid`)
	}
	for _, h := range b.lab.Hosts()[:2] {
		b.sh(t, h, `set -e
getent passwd mysql >/dev/null || useradd --system --user-group --no-create-home mysql
mkdir -p `+pairBase+` && cd `+pairBase+`
printf '[mysqld]\ninnodb_buffer_pool_size=32M\ninnodb_log_file_size=8M\nperformance_schema=OFF\ntmpdir=/tmp\n' >my.cnf
cat >service <<'END'
#!/bin/sh
case $1 in start) touch /run/service;; stop) rm -f /run/service;; status) [ -e /run/service ] || exit 3;; esac
END
chmod 755 service . && chmod 755 /srv/host
mariadb-install-db --no-defaults --user=mysql --datadir=`+pairBase+`/mysql --skip-test-db --auth-root-authentication-method=socket >/dev/null`)
	}
	return b
}

// TestPairSetup takes three hosts, two of which have a database as distributions set it up, to
// a pair that serves by one command, which is killed in the middle and called again; and back.
func TestPairSetup(t *testing.T) {
	need.Drill(t, "P3: two hosts with databases become a pair by one command, killed in the middle and called again, and go back")
	b := newPairNodes(t, 3)
	args := b.setupArgs(t)
	files := b.files(t, "h1", b.pairCluster())
	for _, c := range []struct {
		what, want string
		args       []string
	}{
		{"without the word", "give --yes CONFIRM", args},
		{"another word", "want the word CONFIRM", slices.Concat(args, []string{"--yes", "confirm"})},
		{"two arbiters", "a pair has one arbiter", slices.Concat(args, []string{"--arbiter", "ping:192.0.2.1,192.0.2.2"})},
	} {
		if out, err := b.setup(t, c.args...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v: %s", c.what, err, out)
		}
	}
	args = append(args, "--yes", "CONFIRM")
	for _, until := range []string{"h2: files", "h2: start", "waiting: h2"} {
		ctx, cancel := waiting(t)
		err := b.killedWhen(ctx, t, "h1", args, until, "[p]air setup")
		cancel()
		if err == nil {
			t.Error("it was killed and ended well")
		}
	}
	// The other node begins one against this one's.
	across := slices.Clone(args)
	across[slices.Index(across, "--peer")+1] = b.lab.Addr("h1").String()
	for _, name := range []string{"group.json", "fencing.json"} {
		if raw, err := os.ReadFile(b.lab.HostPath("h1", name)); err != nil || os.WriteFile(b.lab.HostPath("h2", name), raw, 0o600) != nil {
			t.Fatal(name, err)
		}
	}
	b.files(t, "h2", b.pairCluster())
	if out, err := b.setupOn(t, "h2", across...); err == nil ||
		!strings.Contains(out, "a set-up was begun, and has not come to its end there") {
		t.Errorf("a set-up of h2 against that of h1: %v: %s", err, out)
	}
	if out, err := b.setup(t, slices.Concat(args, []string{"--vip", "192.0.2.9/24"})...); err == nil ||
		!strings.Contains(out, "was begun here") {
		t.Errorf("other values than those that were begun with: %v: %s", err, out)
	}
	out, err := b.setup(t, args...)
	if err != nil || !strings.Contains(out, "goes on with the set-up of") ||
		!strings.Contains(out, "webip  : ["+b.lab.FloatingAddr().String()+"] Started h1") {
		t.Fatalf("the set-up: %v: %s", err, out)
	}
	t.Log(out)
	b.exe = install.Command
	b.pairHealthy(t)
	b.sql(t, "h1", "CREATE DATABASE app; CREATE TABLE app.log (id INT PRIMARY KEY); INSERT INTO app.log VALUES (7)")
	if owner := b.sh(t, "h2", "stat -c %U "+pairBase+"/mysql "+pairBase+"/mysql/ibdata1"); owner != "mysql\nmysql\n" {
		t.Errorf("the copy belongs to %q", owner)
	}
	out = b.command(t, "h3", "pair", "switch")
	if !strings.Contains(out, "h2 serves in place of h1 after ") {
		t.Errorf("the switch said %s", out)
	}
	if got := b.sql(t, "h2", "SELECT id FROM app.log"); got != "7" {
		t.Errorf("after the switch the row is %q", got)
	}
	b.pairHealthy(t)
	var well install.Report
	if err := json.Unmarshal([]byte(b.command(t, "h2", "doctor", "-o", "json")), &well); err != nil || !well.OK {
		t.Errorf("doctor on the active node: %v, %+v", err, fails(well))
	}

	b.recovered(t)
	if got := b.sql(t, "h1", "SELECT id FROM app.log"); got != "7" {
		t.Errorf("after the recovery the row on h1 is %q", got)
	}
	b.uninstall(t, "h1", files...)
	for _, h := range b.lab.Hosts()[:2] {
		if left := b.pairLeft(t, h); left != "" {
			t.Errorf("%s: left are %s", h, left)
		}
		if _, err := os.Stat(b.lab.HostPath(h, "pair", "mysql", "ibdata1")); err != nil {
			t.Errorf("the data: %v", err)
		}
	}
}

// pairLeft lists what a pair has left on a host that it should not.
func (b *bareRig) pairLeft(t *testing.T, h string) string {
	t.Helper()
	return b.sh(t, h, "ip -o addr show | grep -F '"+b.lab.FloatingAddr().String()+"' || true; ls /run/service "+
		"2>/dev/null || true; grep -l mariadbd /proc/[0-9]*/comm || true")
}

// recovered gives h1, which does not serve, an empty disk and a database of its own, as a machine
// that was installed anew has, and makes it the standby again.
func (b *bareRig) recovered(t *testing.T) {
	t.Helper()
	var ssh []string
	files := b.files(t, "h2", b.pairCluster())
	for i := 2; i < len(files); i++ { // -c FILE is first
		if files[i] != "--allow-undersized" {
			ssh = append(ssh, files[i])
		}
	}
	run := func(addr string) (string, error) {
		ctx, cancel := waiting(t)
		defer cancel()
		cmd, err := b.lab.Command(ctx, "h2", slices.Concat([]string{b.exe, "pair", "recover", addr, "--yes"}, ssh)...)
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	h1 := b.lab.Addr("h1").String()
	if out, err := run(h1); err == nil || !strings.Contains(out, "h1 is well and has all data") {
		t.Errorf("a recovery onto a node that is well: %v: %s", err, out)
	}
	if out, err := run("192.0.2.1"); err == nil || !strings.Contains(out, "the address of h1") {
		t.Errorf("a recovery onto nobody: %v: %s", err, out)
	}
	b.sh(t, "h1", "systemctl disable --now holdfast.service; pkill -9 -f '[h]oldfast "+
		"(store-member|watchdog-holder)'; pkill -9 '^mariadbd$'; rm -rf /opt/holdfast /etc/holdfast /var/lib/holdfast /run/holdfast")
	if len(b.lab.Hosts()) == 2 {
		// The other node switches it off, and goes on alone.
		b.until(t, "h2 to serve alone", func(ctx context.Context) (string, bool) {
			cmd, err := b.lab.Command(ctx, "h2", b.exe, "pair", "status")
			if err != nil {
				return err.Error(), false
			}
			out, err := cmd.CombinedOutput()
			return fmt.Sprintf("%v: %s", err, out), strings.Contains(string(out), "this node goes on alone") &&
				strings.Contains(string(out), "Master: [h2]")
		})
		if err := b.lab.On(t.Context(), "h1"); err != nil {
			t.Fatal(err)
		}
	} else {
		time.Sleep(6 * time.Second) // a watchdog that was armed resets it
	}
	b.until(t, "h1 to be there", func(ctx context.Context) (string, bool) {
		out, err := b.lab.Exec(ctx, "h1", "/bin/sh", "-c",
			"nft flush ruleset; rm -rf "+pairBase+"/mysql; mariadb-install-db --no-defaults --user=mysql --datadir="+
				pairBase+"/mysql --skip-test-db --auth-root-authentication-method=socket >/dev/null")
		return fmt.Sprint(out, err), err == nil
	})
	out, err := run(h1)
	if err != nil || !strings.Contains(out, "-----CVM Master/Slave Restore Success-----\n") || !strings.Contains(out, "complete  h1, h2\n") {
		t.Fatalf("the recovery: %v: %s", err, out)
	}
	t.Log(out)
	b.pairHealthy(t)
}

// pairHealthy waits until the other node could take the group over.
func (b *bareRig) pairHealthy(t *testing.T) {
	t.Helper()
	p := &pairRig{rig: b.rig}
	if st := p.healthy(t); st.Guarantee != cluster.Safe {
		t.Errorf("the guarantee is %q", st.Guarantee)
	}
}
