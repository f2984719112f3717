package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/lab"
)

// Versions of the configuration of the database cluster.
const (
	galeraOld = "1.0"
	galeraNew = "2.0"
)

// galeraSettings are what differs between the versions.
func galeraSettings(version string) []string {
	if version == galeraNew {
		return []string{"@FLUSH@", "2", "@CONNECTIONS@", "222", "@GCACHE@", "64M"}
	}
	return []string{"@FLUSH@", "1", "@CONNECTIONS@", "111", "@GCACHE@", "32M"}
}

// galeraConf makes the package with the configuration of all nodes.
func galeraConf(t testing.TB, dir, version string) string {
	return makeDeb(t, dir, "galera-conf", version, map[string]string{
		"/etc/mysql/mariadb.conf.d/70-galera-conf.cnf": filled(t, "testdata/dbcluster/70-galera-conf.cnf", galeraSettings(version)...),
	})
}

// galeraBundle builds the bundle dbcluster, which takes nodes from galeraOld to
// galeraNew, rolling or offline, and returns its file.
func galeraBundle(t testing.TB, key releaseKey) string {
	t.Helper()
	const conf = "70-galera-conf.cnf"
	dir := copied(t, "dbcluster", conf, galeraSettings(galeraNew)...)
	err := errors.Join(os.Rename(filepath.Join(dir, conf), filepath.Join(dir, "db", conf)), os.Remove(filepath.Join(dir, "90-node.cnf")))
	if err != nil {
		t.Fatal(err)
	}
	galeraConf(t, filepath.Join(dir, "db"), galeraNew)
	return build(t, dir, key)
}

// galeraPackages are the files of Debian's packages that a node needs and this
// machine does not have. They are installed in the hosts only. They are got once,
// and kept beside the laboratory's guests.
func galeraPackages(t testing.TB) []string {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Skipf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	// The server must be of the version of its core, which is installed.
	version := run("dpkg-query", "-W", "-f", "${Version}", "mariadb-server-core")
	cache := filepath.Join(lab.DefaultCache, "galera-"+strings.ReplaceAll(version, ":", "-"))
	if _, err := os.Stat(cache); err != nil {
		tmp, err := os.MkdirTemp(filepath.Dir(cache), ".galera-")
		if err == nil {
			err = errors.Join(os.Chmod(tmp, 0o755), os.Mkdir(filepath.Join(tmp, "partial"), 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(tmp)
		apt := []string{"-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Dir::Cache::archives=" + tmp, "-o", "APT::Sandbox::User=root"}
		run("apt-get", append(apt, "--no-install-recommends", "--download-only", "install", "galera-4", "rsync", "socat")...)
		run("sh", "-c", `cd "$1" && apt-get -q -o APT::Sandbox::User=root download "$2"`, "sh", tmp, "mariadb-server="+version)
		if err := os.Rename(tmp, cache); err != nil {
			t.Fatal(err)
		}
	}
	debs, err := filepath.Glob(filepath.Join(cache, "*.deb"))
	if err != nil || len(debs) == 0 {
		t.Fatalf("no packages in %s (%v): remove it, and they are got again", cache, err)
	}
	return debs
}

// ownTemp keeps MariaDB's temporary files apart: hosts have process ids in common,
// by which it names them, and one /tmp.
const ownTemp = `
export TMPDIR=/srv/host/tmp
mkdir -p -m 1777 $TMPDIR
`

// dbCluster is a Galera cluster with a node on each host of a laboratory. Its data
// are in /srv/host/db, and nothing but db.sh of the bundle starts it.
type dbCluster struct {
	*rig
	script string // db.sh as the hosts see it
	rows   int    // that were written
}

// newDBCluster makes the cluster with the configuration galeraOld, whatever the
// hosts had, with the table app.log. It ends with the test.
func newDBCluster(t testing.TB, r *rig) *dbCluster {
	t.Helper()
	c := &dbCluster{rig: r, script: path.Join(lab.HostDir, "db-tools/db.sh")}
	debs, conf := galeraPackages(t), galeraConf(t, t.TempDir(), galeraOld)
	t.Cleanup(func() { c.end(t) })
	c.end(t)
	begin := time.Now()
	r.everywhere(t, "install MariaDB", func(ctx context.Context, h string) error {
		dir, err := r.give(h, "debs", debs...)
		if err != nil {
			return err
		}
		// libdbi-perl is wanted by a tool that is not used here. No manual is read.
		_, err = r.script(ctx, h, ownTemp+`
			dpkg-query -W -f '${db:Status-Status}\n' mariadb-server 2>/dev/null | grep -qx installed ||
				dpkg --force-depends --force-unsafe-io --path-exclude='/usr/share/man/*' --path-exclude='/usr/share/doc/*' -i "$1"/*.deb`, dir)
		return err
	})
	t.Logf("MariaDB is installed after %.1f s", time.Since(begin).Seconds())
	nodes := c.settings(t)
	r.everywhere(t, "make the node", func(ctx context.Context, h string) error { return c.makeNode(ctx, h, conf, nodes[h]) })
	for i, h := range r.lab.Hosts() {
		mode := "rolling"
		if i == 0 {
			mode = "offline" // the first begins the cluster
		}
		if out, err := c.do(t.Context(), h, "start", mode); err != nil {
			t.Fatalf("start the node: %v: %s: %s", err, out, c.log(h))
		}
	}
	c.sql(t, r.lab.Hosts()[0], `CREATE DATABASE app; CREATE TABLE app.log (n BIGINT PRIMARY KEY, node VARCHAR(8), at TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6)) ENGINE=InnoDB`)
	for _, h := range r.lab.Hosts() {
		if out, err := c.do(t.Context(), h, "check", galeraOld); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Logf("the cluster is whole after %.1f s", time.Since(begin).Seconds())
	return c
}

// settings are the files with what each node has for itself.
func (c *dbCluster) settings(t testing.TB) map[string]string {
	t.Helper()
	var all []string
	for _, h := range c.lab.Hosts() {
		all = append(all, c.lab.Addr(h).String())
	}
	files := map[string]string{}
	for _, h := range c.lab.Hosts() {
		files[h] = filepath.Join(t.TempDir(), "90-node.cnf")
		writeFile(t, files[h], filled(t, "testdata/dbcluster/90-node.cnf", "@ALL@", strings.Join(all, ","),
			"@HOST@", h, "@ADDRESS@", c.lab.Addr(h).String(), "@NUMBER@", h[1:]))
	}
	return files
}

// makeNode makes the empty data and the settings of a node. By their files, all
// nodes may begin a new cluster; the first one does.
func (c *dbCluster) makeNode(ctx context.Context, h, conf, node string) error {
	dir, err := c.give(h, "db-tools", conf, node, "testdata/dbcluster/db/db.sh")
	if err != nil {
		return err
	}
	_, err = c.rig.script(ctx, h, installDeb+ownTemp+`
		cp "$2/90-node.cnf" /etc/mysql/mariadb.conf.d/
		install -d -o mysql -g mysql /srv/host/db /srv/host/db/tmp
		mariadb-install-db --no-defaults --user=mysql --datadir=/srv/host/db/data --skip-test-db >/srv/host/db/install.log 2>&1
		printf '# GALERA saved state\nversion: 2.1\nuuid: 00000000-0000-0000-0000-000000000000\nseqno: -1\nsafe_to_bootstrap: 1\n' >/srv/host/db/data/grastate.dat
		chown mysql:mysql /srv/host/db/data/grastate.dat`, path.Join(dir, filepath.Base(conf)), dir)
	return err
}

// end ends the nodes and removes their data. MariaDB stays installed.
func (c *dbCluster) end(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, h := range c.lab.Hosts() {
		if t.Failed() {
			t.Logf("%s: %s", h, c.log(h))
		}
		if _, err := c.rig.script(ctx, h, `
			pids=$(pidof mariadbd) && kill -KILL $pids
			while pidof mariadbd >/dev/null; do sleep 0.05; done
			rm -rf /srv/host/db`); err != nil {
			t.Logf("end the database on %s: %v", h, err)
		}
	}
}

// log is the end of what a node has written.
func (c *dbCluster) log(h string) string {
	text, err := os.ReadFile(c.lab.HostPath(h, "db", "log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// do calls db.sh on a host, as a step of the bundle does, in a session of its own.
func (c *dbCluster) do(ctx context.Context, h string, args ...string) (string, error) {
	return c.lab.Exec(ctx, h, append([]string{c.script}, args...)...)
}

// sql asks a node, and returns what it says without the last line's end.
func (c *dbCluster) sql(t testing.TB, h, query string) string {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	out, err := c.lab.Exec(ctx, h, "mariadb", "-N", "-B", "-e", query)
	if err != nil {
		t.Fatalf("%s: %s: %v: %s", h, query, err, out)
	}
	return strings.TrimRight(out, "\n")
}

// has fails unless every node runs with the configuration of a version.
func (c *dbCluster) has(t testing.TB, version string) {
	t.Helper()
	want := map[string]string{galeraOld: "111 1 32M", galeraNew: "222 2 64M"}[version]
	for _, h := range c.lab.Hosts() {
		got := c.sql(t, h, `SELECT CONCAT(@@global.max_connections, ' ', @@global.innodb_flush_log_at_trx_commit, ' ',
			REGEXP_SUBSTR(REGEXP_SUBSTR(@@global.wsrep_provider_options, 'gcache.size = [^;]*'), '[^ ]*$'))`)
		if got != want {
			t.Errorf("%s runs with %s, want %s", h, got, want)
		}
		if out, err := c.do(t.Context(), h, "check", version); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// holds fails unless every node has the rows that were acknowledged, each, and no
// other one.
func (c *dbCluster) holds(t testing.TB) {
	t.Helper()
	n := c.rows
	for _, h := range c.lab.Hosts() {
		// The node first applies all that was written before.
		got := c.sql(t, h, `SET SESSION wsrep_sync_wait = 1; SELECT CONCAT(COUNT(*), ' ', MIN(n), ' ', MAX(n)) FROM app.log`)
		if want := fmt.Sprintf("%d 1 %d", n, n); got != want {
			t.Errorf("%s has the rows %s (count, first, last), want %s", h, got, want)
		}
	}
	if n < 10 {
		t.Errorf("only %d rows were written", n)
	}
}
