//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/bench/pacemaker"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

// pairContestant keeps a database, a service and an address up on h1 and h2.
type pairContestant struct {
	name    string
	lab     *lab.Lab
	client  *pairClient
	down    func(context.Context) error
	settled func(context.Context) error                    // why it is not as it should be
	mend    func(context.Context) error                    // brings hosts and processes back
	swap    func(_ context.Context, from, to string) error // the planned switch
	swapped func(_ context.Context, from, to string) error // what has to be done after it, if anything
	copies  bool                                           // the data are on both nodes
	bare    bool                                           // nothing starts a service again

	repaired chan error // of the fault before
}

// pairService answers a page; it is the member of the group that is killed.
const pairService = `#!/bin/sh
pid=/run/service.pid
alive() { [ -s $pid ] && [ "$(cat /proc/$(cat $pid)/comm 2>/dev/null)" = busybox ]; }
case $1 in
start)
  alive && exit 0
  mkdir -p /run/service
  echo up >/run/service/index.html
  setsid busybox httpd -f -p 80 -h /run/service </dev/null >/dev/null 2>&1 &
  echo $! >$pid
  for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    busybox wget -q -O /dev/null http://127.0.0.1/ 2>/dev/null && exit 0
    sleep 0.05
  done
  exit 1
  ;;
stop | kill)
  alive || exit 0
  kill -9 $(cat $pid)
  while alive; do sleep 0.01; done
  ;;
status) alive || exit 3 ;;
esac
`

// appStatements make what the client needs.
var appStatements = []string{
	"CREATE DATABASE app", "CREATE TABLE app.log (id BIGINT PRIMARY KEY) ENGINE=InnoDB",
	"CREATE USER app@'%' IDENTIFIED BY 'app'", "GRANT SELECT, INSERT ON *.* TO app@'%'",
}

// template makes a data directory with the client's table and the account of
// Pacemaker's agent. Its binary log is not empty: the agent wants a position.
func template(ctx context.Context, dir string) (err error) {
	run := func(name string, args ...string) error {
		if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return nil
	}
	if err := run("mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+dir, "--skip-test-db",
		"--auth-root-authentication-method=socket"); err != nil {
		return err
	}
	socket := filepath.Join(dir, "socket")
	server := exec.CommandContext(ctx, "mariadbd", "--no-defaults", "--user=root", "--datadir="+dir, "--socket="+socket, "--skip-networking",
		"--innodb-log-file-size=8M", "--server-id=9", "--log-bin=binlog", "--pid-file="+filepath.Join(dir, "pid"))
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) }
	if err := server.Start(); err != nil {
		return err
	}
	for range 600 {
		if _, err = os.Stat(socket); err == nil || !clock.Sleep(ctx, 50*time.Millisecond) {
			break
		}
	}
	u := fmt.Sprintf("%s@'%%' IDENTIFIED BY '%s'", pacemaker.DatabaseUser, pacemaker.DatabasePassword)
	for _, s := range append([]string{"CREATE USER " + u, "GRANT ALL ON *.* TO " + pacemaker.DatabaseUser + "@'%'",
		"SET GLOBAL gtid_slave_pos=@@gtid_binlog_pos"}, appStatements...) {
		if err == nil {
			err = run("mariadb", "--no-defaults", "--socket="+socket, "-e", s)
		}
	}
	if err == nil { // again: the position of all
		err = run("mariadb", "--no-defaults", "--socket="+socket, "-e", "SET GLOBAL gtid_slave_pos=@@gtid_binlog_pos")
	}
	if err == nil {
		err = run("mariadb-admin", "--no-defaults", "--socket="+socket, "shutdown")
	}
	if err != nil {
		err = errors.Join(err, server.Process.Kill())
	}
	return errors.Join(err, server.Wait())
}

// repairHosts powers on what is off and joins what is cut.
func repairHosts(ctx context.Context, l *lab.Lab) (err error) {
	for _, h := range l.Hosts() {
		err = errors.Join(err, l.On(ctx, h), l.Heal(ctx, h))
	}
	return err
}

// pairByHoldfast: profile fast, fence devices, three voters.
func pairByHoldfast(t *testing.T, ctx context.Context) pairContestant {
	t.Helper()
	l, err := lab.Up(ctx, programs(lab.Options{Dir: labDir(t), Agents: true, BMCs: true, Work: lab.WorkPair, Profile: config.ProfileFast}))
	if err != nil {
		t.Fatal(err)
	}
	c := pairContestant{name: "Holdfast fast", lab: l, down: l.Down, copies: true}
	t.Cleanup(c.end(t))
	for _, h := range l.Hosts()[:2] {
		if err := os.WriteFile(l.HostPath(h, "service"), []byte(pairService), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.settled = func(ctx context.Context) error {
		st, err := holdfast{lab: l}.pairStatus(ctx)
		if err != nil {
			return err
		}
		if st.Health != cluster.Healthy {
			return fmt.Errorf("%s: %v", st.Health, st.Why)
		}
		return nil
	}
	c.mend = func(ctx context.Context) error { return repairHosts(ctx, l) }
	c.swap = func(ctx context.Context, from, to string) error {
		_, err := l.Exec(ctx, from, l.Exe(), "pair", "switch", to, "--timeout", "60s")
		return err
	}
	begin := func(ctx context.Context) error {
		_, err := l.Exec(ctx, "h1", l.Exe(), "pair", "begin")
		return err
	}
	if err := errors.Join(patient(ctx, begin), patient(ctx, c.settled)); err != nil {
		t.Fatal(err)
	}
	for _, s := range appStatements {
		must(t, l, "h1", "mariadb", "--socket="+lab.PairSocket, "-e", s)
	}
	c.client = newPairClient(t, l)
	return c
}

// pairState is what `pair status -o json` tells.
type pairState struct {
	Health cluster.Health `json:"health"`
	Why    []string       `json:"why"`
	Nodes  []struct {
		Host string    `json:"host"`
		Time time.Time `json:"time"`
		Copy *pairCopy `json:"copy"`
	} `json:"nodes"`
}

// pairCopy is how far the copy of a node is.
type pairCopy struct {
	Stage   string        `json:"stage"`
	Bytes   int64         `json:"bytes"`
	Elapsed time.Duration `json:"elapsed_ns"`
}

// pairStatus is what any host tells; the exit code is about the pair.
func (h holdfast) pairStatus(ctx context.Context) (st pairState, err error) {
	for _, x := range h.lab.Hosts() {
		actx, cancel := context.WithTimeout(ctx, 2*time.Second)
		out, xerr := h.lab.Exec(actx, x, h.lab.Exe(), "pair", "status", "-o", "json")
		cancel()
		st = pairState{}
		if err = json.Unmarshal([]byte(out), &st); err == nil {
			return st, nil
		}
		err = errors.Join(xerr, err)
	}
	return pairState{}, fmt.Errorf("no host tells of the pair: %w", err)
}

// pairByPacemaker: ocf:heartbeat:mariadb, a service and IPaddr2, fence devices by
// a script, and a third host that votes.
func pairByPacemaker(t *testing.T, ctx context.Context, data string, p pacemaker.Profile, w pacemaker.Work) pairContestant {
	t.Helper()
	cl, err := pacemaker.Up(ctx, pacemaker.Options{Lab: programs(lab.Options{Dir: labDir(t)}), Profile: p, Work: w,
		Data: data, Service: pairService})
	if err != nil {
		t.Fatal(err)
	}
	c := pairContestant{name: "Pacemaker " + p.Name, lab: cl.Lab(), down: cl.Down, settled: cl.Settle, mend: cl.Repair,
		copies: w == pacemaker.Database,
		swap:   func(ctx context.Context, _, to string) error { return cl.Switch(ctx, to) }, swapped: cl.Unmove}
	t.Cleanup(c.end(t))
	c.client = newPairClient(t, cl.Lab())
	return c
}

// keepalivedStart is what a node runs by itself: the database, which takes writes
// on both, the service, and keepalived, which moves the address. No node waits for
// another one or is fenced.
const keepalivedStart = `until [ -e /srv/host/ready ]; do sleep 0.1; done
case $1 in
service) mkdir -p /run/service; echo up >/run/service/index.html
  while [ -e /run/service.off ]; do sleep 0.1; done; exec busybox httpd -f -p 80 -h /run/service ;;
keepalived) mkdir -p /run/keepalived; exec keepalived -n -P -D -f /srv/host/keepalived.conf -p /run/keepalived/pid -r /run/keepalived/vrrp.pid ;;
esac`

// pairByKeepalived: advert is VRRP's interval.
func pairByKeepalived(t *testing.T, ctx context.Context, data, name string, advert float64) pairContestant {
	t.Helper()
	o := programs(lab.Options{Dir: labDir(t), Hosts: 2})
	o.Daemons = []lab.Daemon{pacemaker.DatabaseDaemon()}
	for _, d := range []string{"service", "keepalived"} {
		o.Daemons = append(o.Daemons, lab.Daemon{Name: d, Argv: []string{"/bin/sh", "-c", keepalivedStart, d, d}, Restart: true})
	}
	l, err := lab.Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	c := pairContestant{name: "keepalived " + name, lab: l, down: l.Down, bare: true}
	t.Cleanup(c.end(t))
	for i, h := range l.Hosts() {
		conf := fmt.Sprintf(`global_defs {
  script_user root
  vrrp_version 3
}
vrrp_script service {
  script "/usr/bin/pgrep -x busybox"
  interval 1
}
vrrp_instance pair {
  state BACKUP
  nopreempt
  interface br0
  virtual_router_id 51
  priority %d
  advert_int %v
  virtual_ipaddress {
    %s/24 dev br0
  }
  track_script {
    service
  }
}
`, 150-10*i, advert, l.FloatingAddr())
		out, err := exec.CommandContext(ctx, "cp", "-a", data, l.HostPath(h, "database")).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, f := range [][2]string{{"keepalived.conf", conf},
			{"my.cnf", pacemaker.DatabaseOptions(strings.TrimPrefix(h, "h"))}, {"ready", ""}} {
			if err := os.WriteFile(l.HostPath(h, f[0]), []byte(f[1]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.settled = func(ctx context.Context) error {
		for _, h := range l.Hosts() {
			if _, err := l.Page(ctx, l.Addr(h), "/", time.Second); err != nil {
				return err
			}
			if _, err := l.Exec(ctx, h, "mariadb", "--socket="+lab.PairSocket, "-e", "SELECT 1"); err != nil {
				return err
			}
			if _, err := l.Exec(ctx, h, "pgrep", "-x", "keepalived"); err != nil {
				return err
			}
		}
		_, _, err := c.active(ctx)
		return err
	}
	c.mend = func(ctx context.Context) error {
		err := repairHosts(ctx, l)
		for _, h := range l.Hosts() {
			_, rerr := l.Exec(ctx, h, "rm", "-f", "/run/service.off")
			err = errors.Join(err, rerr)
		}
		return err
	}
	c.swap = func(ctx context.Context, from, _ string) error {
		_, err := l.Exec(ctx, from, "sh", "-c", "kill -TERM $(cat /run/keepalived/pid)")
		return err
	}
	if err := patient(ctx, c.settled); err != nil {
		t.Fatal(err)
	}
	c.client = newPairClient(t, l)
	return c
}

// end takes the laboratory away, whatever has ended the test.
func (c pairContestant) end(t *testing.T) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := c.down(ctx); err != nil {
			t.Error(err)
		}
	}
}

// active is the node that has the address, and the other one.
func (c pairContestant) active(ctx context.Context) (active, standby string, err error) {
	hosts, err := c.lab.WhoHas(ctx, c.lab.FloatingAddr())
	if err == nil && len(hosts) != 1 {
		err = fmt.Errorf("the address is on %d hosts: %s", len(hosts), strings.Join(hosts, ", "))
	}
	if err != nil {
		return "", "", err
	}
	if hosts[0] == "h1" {
		return "h1", "h2", nil
	}
	return "h2", "h1", nil
}

// patient repeats what fails, for 2 minutes.
func patient(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil || !clock.Sleep(ctx, 250*time.Millisecond) {
			return err
		}
	}
}
