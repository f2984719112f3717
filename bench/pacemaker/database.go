package pacemaker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"holdfast/testbed/lab"
)

// Accounts of the database that Options.Data must have: the agent's own at the
// socket, which the replica logs in with, too.
const (
	DatabaseUser     = "replication"
	DatabasePassword = "replication"
)

// Names on the hosts of a Database.
const (
	databaseOptions = lab.HostDir + "/my.cnf"
	databasePID     = "/run/database/pid"
	databaseLog     = lab.HostDir + "/log/mariadb.log"
)

// databaseWork is a database with a replica by the agent ocf:heartbeat:mariadb,
// and with the one that takes writes a service and the address. The third host
// only votes. Plain leaves the database out: one that takes writes runs on each
// node by DatabaseDaemon, and no row goes from one to the other.
type databaseWork struct {
	lab   *lab.Lab
	plain bool
}

// DatabaseDaemon is a daemon of a laboratory's host: a database that nobody
// watches, once its option file is there.
func DatabaseDaemon() lab.Daemon {
	return lab.Daemon{Name: "database", Restart: true, Argv: []string{"/bin/sh", "-c",
		"until [ -e " + databaseOptions + " ]; do sleep 1; done; mkdir -p /run/database; exec mariadbd --defaults-file=" +
			databaseOptions + " --user=root"}}
}

// DatabaseOptions is the option file of a database that replicates nothing, on
// the host of a number.
func DatabaseOptions(number string) string {
	return fmt.Sprintf("[mysqld]\ndatadir=%s\nsocket=%s\npid-file=%s\nport=%d\ninnodb_buffer_pool_size=32M\ninnodb_log_file_size=8M\nperformance_schema=OFF\n"+
		"tmpdir=/run\nskip_name_resolve=ON\nserver_id=%s\nlog_bin=binlog\nbinlog_format=ROW\nsync_binlog=1\ninnodb_flush_log_at_trx_commit=1\n",
		lab.PairData, lab.PairSocket, databasePID, lab.PairPort, number)
}

func (w databaseWork) ids() []string { return []string{"service", "vip"} }

// constraints: the group is where the database takes writes, after it.
func (w databaseWork) constraints() string {
	const notOnThird = `<rsc_location id="bench-group-h3" rsc="group" node="h3" score="-INFINITY" resource-discovery="never"/>`
	if w.plain {
		return notOnThird
	}
	return notOnThird + databaseConstraints
}

const databaseConstraints = `<rsc_colocation id="bench-with" rsc="group" with-rsc="db-clone" with-rsc-role="Promoted" score="INFINITY"/>` +
	`<rsc_order id="bench-after" first="db-clone" first-action="promote" then="group" then-action="start"/>` +
	`<rsc_location id="bench-db-h3" rsc="db-clone" node="h3" score="-INFINITY" resource-discovery="never"/>`

func (w databaseWork) resources(o Options) (string, error) {
	if o.Data == "" || o.Service == "" {
		return "", errors.New("a database needs Options.Data and Options.Service")
	}
	db := ""
	if !w.plain {
		db = databaseClone(o.Profile.Monitor)
	}
	return db + `<group id="group">` +
		primitive("service", `class="ocf" provider="bench" type="service"`, []attr{{"program", lab.PairService}}, o.Profile.Monitor) +
		primitive("vip", `class="ocf" provider="heartbeat" type="IPaddr2"`,
			[]attr{{"ip", w.lab.FloatingAddr().String()}, {"cidr_netmask", "24"}, {"nic", "br0"}}, o.Profile.Monitor) +
		`</group>`, nil
}

// databaseClone is the database on two hosts; its monitors of both roles need
// different intervals.
func databaseClone(monitor time.Duration) string {
	var db strings.Builder
	db.WriteString(`<clone id="db-clone"><meta_attributes id="db-meta">`)
	for _, a := range []attr{{"promotable", "true"}, {"clone-max", "2"}, {"notify", "true"}, {"interleave", "true"}} {
		fmt.Fprintf(&db, `<nvpair id="db-meta-%s" name="%s" value="%s"/>`, a.name, a.name, a.value)
	}
	db.WriteString(`</meta_attributes><primitive id="db" class="ocf" provider="heartbeat" type="mariadb"><instance_attributes id="db-attributes">`)
	for _, a := range []attr{
		{"binary", "/usr/sbin/mariadbd"}, {"client_binary", "mariadb"}, {"config", databaseOptions}, {"datadir", lab.PairData},
		{"user", "root"}, {"group", "root"}, {"log", databaseLog}, {"pid", databasePID}, {"socket", lab.PairSocket}, {"node_list", "h1 h2"},
		{"additional_parameters", "--user=root"},
		{"replication_user", DatabaseUser}, {"replication_passwd", DatabasePassword},
		{"test_user", DatabaseUser}, {"test_passwd", DatabasePassword},
	} {
		fmt.Fprintf(&db, `<nvpair id="db-%s" name="%s" value="%s"/>`, a.name, a.name, a.value)
	}
	db.WriteString(`</instance_attributes><operations>`)
	for i, role := range []string{"Unpromoted", "Promoted"} {
		fmt.Fprintf(&db, `<op id="db-monitor-%s" name="monitor" role="%s" interval="%dms" timeout="30s"/>`, role, role,
			monitor.Milliseconds()+int64(i))
	}
	for _, a := range []string{"start", "stop", "promote", "demote", "notify"} {
		fmt.Fprintf(&db, `<op id="db-%s" name="%s" interval="0s" timeout="90s"/>`, a, a)
	}
	db.WriteString(`</operations></primitive></clone>`)
	return db.String()
}

// answer gives the host that answers for the address, once its database sends to
// the replica and waits for it.
func (w databaseWork) answer(ctx context.Context) (string, time.Duration, error) {
	hosts, err := w.lab.WhoHas(ctx, w.lab.FloatingAddr())
	if err != nil || len(hosts) != 1 {
		return "", 0, errors.Join(err, fmt.Errorf("the address is on %d hosts: %v", len(hosts), hosts))
	}
	if w.plain {
		return hosts[0], minUp, nil
	}
	out, err := w.lab.Exec(ctx, hosts[0], "mariadb", "--socket="+lab.PairSocket, "-N", "-e",
		"SHOW STATUS WHERE Variable_name IN ('Rpl_semi_sync_master_clients', 'Rpl_semi_sync_master_status')")
	if err != nil {
		return "", 0, err
	}
	if got := strings.Fields(out); !slices.Equal(got, []string{"Rpl_semi_sync_master_clients", "1", "Rpl_semi_sync_master_status", "ON"}) {
		return "", 0, fmt.Errorf("the database on %s has no replica that it waits for: %v", hosts[0], got)
	}
	return hosts[0], minUp, nil
}

func (w databaseWork) probe(ctx context.Context) (lab.Pings, error) {
	return w.lab.Ping(ctx, w.lab.FloatingAddr())
}

func (w databaseWork) crash(ctx context.Context, host string) error {
	_, err := w.lab.Exec(ctx, host, lab.PairService, "kill")
	return err
}

// prepareDatabase gives a host of a Database, whose database does not run, the
// data of the beginning: it gets all that was written since from the other one.
// The agent has no way back for a database that has more rows than the other.
func (c *Cluster) prepareDatabase(ctx context.Context, host string) error {
	w, ok := c.work.(databaseWork)
	if !ok || host == "h3" {
		return nil
	}
	path := func(name string) string { return c.lab.HostPath(host, strings.TrimPrefix(name, lab.HostDir+"/")) }
	timeout := c.profile.SemiSync
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	conf := DatabaseOptions(strings.TrimPrefix(host, "h"))
	if !w.plain {
		conf += fmt.Sprintf("log_slave_updates=ON\ngtid_strict_mode=ON\nread_only=ON\n"+
			"rpl_semi_sync_master_enabled=ON\nrpl_semi_sync_slave_enabled=ON\nrpl_semi_sync_master_timeout=%d\n", timeout.Milliseconds())
	}
	err := os.RemoveAll(path(lab.PairData))
	if err == nil {
		var out []byte
		if out, err = exec.CommandContext(ctx, "cp", "-a", c.options.Data, path(lab.PairData)).CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err == nil {
		err = errors.Join(os.WriteFile(path(databaseOptions), []byte(conf), 0o644),
			os.WriteFile(path(lab.PairService), []byte(c.options.Service), 0o755))
	}
	if err != nil {
		return fmt.Errorf("prepare the database of %s: %w", host, err)
	}
	return nil
}

// Switch moves the group of a Database or of Plain to the other node, in order.
// The caller ends it with Unmove, when the group has moved.
func (c *Cluster) Switch(ctx context.Context, to string) error {
	args := []string{"crm_resource", "--move", "--node", to, "--resource", "group"}
	if c.replicates() {
		args = []string{"crm_resource", "--move", "--node", to, "--resource", "db-clone", "--promoted"}
	}
	_, err := c.lab.Exec(ctx, to, args...)
	return err
}

func (c *Cluster) replicates() bool {
	w, ok := c.work.(databaseWork)
	return ok && !w.plain
}

// Unmove takes back the rule that Switch left. The agent gives a score only to the
// database that it has chosen itself, so that it would move back: the score is set here.
func (c *Cluster) Unmove(ctx context.Context, from, to string) error {
	if !c.replicates() {
		_, err := c.lab.Exec(ctx, to, "crm_resource", "--clear", "--resource", "group")
		return err
	}
	_, err1 := c.lab.Exec(ctx, to, "crm_attribute", "--node", to, "--promotion=db", "--update", "100")
	_, err2 := c.lab.Exec(ctx, to, "crm_attribute", "--node", from, "--promotion=db", "--delete")
	_, err3 := c.lab.Exec(ctx, to, "crm_resource", "--clear", "--resource", "db-clone")
	return errors.Join(err1, err2, err3)
}
