package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
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
	cl := config.Cluster{
		Type: config.PairConf, Fencing: config.Fencing{Hosts: b.cluster().Fencing.Hosts}, Node: b.cluster().Node,
		Pair: &config.Pair{
			Nodes: b.lab.Hosts()[:2],
			Database: &config.PairDatabase{
				OptionFile: pairBase + "/my.cnf", Datadir: pairBase + "/mysql",
				Admin:       config.PairAccount{User: "holdfast", Credential: "file:" + pairBase + "/admin"},
				Replication: config.PairAccount{User: "replication", Credential: "file:" + pairBase + "/replication"},
			},
			Group: []config.PairMember{
				{Name: "service", Start: call("start"), Stop: call("stop"), Status: call("status")},
				{Name: "webip", VIP: b.lab.FloatingAddr().String() + "/24"},
			},
		},
	}
	return cl
}

// TestInstallAPair takes three hosts, two of which have a database as distributions set it up,
// to a pair that serves, and back, by the steps of docs/pair.md.
func TestInstallAPair(t *testing.T) {
	b := newBareRig(t, 3)
	for _, h := range b.lab.Hosts()[:2] {
		b.sh(t, h, `set -e
getent passwd mysql >/dev/null || useradd --system --user-group --no-create-home mysql
mkdir -p `+pairBase+` && cd `+pairBase+`
printf '[mysqld]\ninnodb_buffer_pool_size=32M\ninnodb_log_file_size=8M\nperformance_schema=OFF\ntmpdir=/tmp\n' >my.cnf
umask 077
printf 'an admin'\''s & $(password) "\n' >admin
printf 'a replica'\''s # @ password\n' >replication
cat >service <<'END'
#!/bin/sh
case $1 in start) touch /run/service;; stop) rm -f /run/service;; status) [ -e /run/service ] || exit 3;; esac
END
chmod 755 service . && chmod 755 /srv/host
mariadb-install-db --no-defaults --user=mysql --datadir=`+pairBase+`/mysql --skip-test-db --auth-root-authentication-method=socket >/dev/null`)
	}
	args := b.files(t, "h1", b.pairCluster())

	// A node whose database runs by its distribution is refused; nothing is changed.
	b.sh(t, "h2", "chmod 644 "+pairBase+"/admin")
	res, said, err := b.install(t, "h1", args...)
	if err == nil || !strings.Contains(fmt.Sprint(fails(res.Report)), "h2") {
		t.Errorf("passwords that others may read: %v: %s: %v", err, said, fails(res.Report))
	}
	b.sh(t, "h2", "chmod 600 "+pairBase+"/admin")
	if res, said, err = b.install(t, "h1", args...); err != nil || !res.OK {
		t.Fatalf("install: %v: %s: %v", err, said, fails(res.Report))
	}
	b.exe = install.Command
	b.until(t, time.Minute, "the pair to begin", func(ctx context.Context) (string, bool) {
		out, err := b.lab.Exec(ctx, "h1", b.exe, "pair", "begin")
		return fmt.Sprint(out, err), err == nil
	})
	b.pairHealthy(t)
	sql := func(h, statement string) string {
		return strings.TrimSpace(b.sh(t, h, "mariadb --socket="+pairSocket+` -N -e "`+statement+`"`))
	}
	sql("h1", "CREATE DATABASE app; CREATE TABLE app.log (id INT PRIMARY KEY); INSERT INTO app.log VALUES (7)")
	if owner := b.sh(t, "h2", "stat -c %U "+pairBase+"/mysql "+pairBase+"/mysql/ibdata1"); owner != "mysql\nmysql\n" {
		t.Errorf("the copy belongs to %q", owner)
	}
	out := b.command(t, "h3", "pair", "switch")
	if !strings.Contains(out, "h2 serves in place of h1 after ") {
		t.Errorf("the switch said %s", out)
	}
	if got := sql("h2", "SELECT id FROM app.log"); got != "7" {
		t.Errorf("after the switch the row is %q", got)
	}
	b.pairHealthy(t)
	var well install.Report
	if err := json.Unmarshal([]byte(b.command(t, "h2", "doctor", "-o", "json")), &well); err != nil || !well.OK {
		t.Errorf("doctor on the active node: %v, %+v", err, fails(well))
	}

	b.uninstall(t, "h1", args...)
	for _, h := range b.lab.Hosts()[:2] {
		left := b.sh(t, h, "ip -o addr show | grep -F '"+b.lab.FloatingAddr().String()+"' || true; ls /run/service 2>/dev/null || true; grep -l mariadbd /proc/[0-9]*/comm || true")
		if left != "" {
			t.Errorf("%s: left are %s", h, left)
		}
		if _, err := os.Stat(b.lab.HostPath(h, "pair", "mysql", "ibdata1")); err != nil {
			t.Errorf("the data: %v", err)
		}
	}
}

// pairHealthy waits until the other node could take the group over.
func (b *bareRig) pairHealthy(t *testing.T) {
	t.Helper()
	p := &pairRig{rig: b.rig}
	if st := p.healthy(t); st.Guarantee != cluster.Safe {
		t.Errorf("the guarantee is %q", st.Guarantee)
	}
}
