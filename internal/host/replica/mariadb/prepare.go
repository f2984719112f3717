package mariadb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
)

// setting is a variable of the server.
type setting struct {
	name, want string
	fixed      bool // only a restart changes it
}

// settings are what replication without loss needs, from MariaDB's documentation of its
// system variables: a crash of the primary keeps what was acknowledged (sync_binlog,
// innodb_flush_log_at_trx_commit), and a lost peer is seen after 4 s. sync_relay_log is left
// alone: a replica that was started anew is not promoted, whatever its relay log kept, and with
// 1 it can be slower than its primary and never catch up.
var settings = []setting{
	{"log_bin", "1", true},
	{"log_slave_updates", "1", true},
	{"relay_log_recovery", "1", true},
	{"gtid_strict_mode", "1", false},
	{"gtid_domain_id", "0", false},
	{"binlog_format", "ROW", false},
	{"sync_binlog", "1", false},
	{"innodb_flush_log_at_trx_commit", "1", false},
	{"rpl_semi_sync_master_wait_point", "AFTER_SYNC", false},
	{"rpl_semi_sync_slave_kill_conn_timeout", "1", false},
	{"slave_net_timeout", "4", false},
}

// Options are the lines for the section [mysqld] of the option file of the node whose number
// is id: 1 to 4294967295, another one on each node. The server starts read-only with them.
func Options(id uint32) []string {
	out := []string{fmt.Sprintf("server_id=%d", id), "log_bin=bin", "relay_log=relay", "skip_slave_start=ON",
		"read_only=ON", "skip_name_resolve=ON"}
	for _, s := range settings {
		if s.name != "log_bin" {
			out = append(out, s.name+"="+s.want)
		}
	}
	return out
}

// Prepare checks and sets what replication needs, and makes the account of replication where
// this node may write; a replica gets it with the data. It leaves alone whether commits wait.
func (d *Driver) Prepare(ctx context.Context) error {
	ctx, done := d.begin(ctx)
	defer done()
	var names []string
	for _, s := range settings {
		names = append(names, "@@"+s.name+" AS "+s.name)
	}
	v, err := d.row(ctx, d.db, "SELECT "+strings.Join(names, ", ")+", @@server_id AS id, @@read_only AS ro, @@datadir AS datadir")
	if err != nil {
		return err
	}
	var wrong []error
	if v["id"] != d.node() {
		wrong = append(wrong, fmt.Errorf("server_id is %s: want %s", v["id"], d.node()))
	}
	if strings.TrimRight(v["datadir"], "/") != d.cfg.Datadir {
		wrong = append(wrong, fmt.Errorf("datadir is %s: want %s", v["datadir"], d.cfg.Datadir))
	}
	var set []string
	for _, s := range settings {
		switch {
		case v[s.name] == s.want:
		case s.fixed:
			wrong = append(wrong, fmt.Errorf("%s is %s: want %s, in the option file, and a restart", s.name, v[s.name], s.want))
		default:
			set = append(set, "SET GLOBAL "+s.name+"="+s.want)
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return fail.Errorf(fail.Refused, "the settings of the database are not those of replication: %w", err)
	}
	if err := d.exec(ctx, d.db, set...); err != nil {
		return err
	}
	if err := d.needLossless(ctx, d.db); err != nil {
		return err
	}
	if v["ro"] != "0" {
		return nil
	}
	return d.account(ctx)
}

// account makes the account of replication, unless it works: the binary log gets nothing
// that is not needed.
func (d *Driver) account(ctx context.Context) error {
	password, err := d.cfg.Replication.password()
	if err != nil {
		return err
	}
	db, err := open(d.cfg.Replication, "unix", d.cfg.Socket)
	if err != nil {
		return err
	}
	defer closed(db)
	// An error here is a login that is refused, or a server that the statements below
	// do not reach either.
	if rows, err := d.rows(ctx, db, "SHOW GRANTS"); err == nil {
		for _, r := range rows {
			for _, grant := range r {
				if strings.Contains(grant, "REPLICATION SLAVE") || strings.Contains(grant, "ALL PRIVILEGES ON *.*") {
					return nil
				}
			}
		}
	}
	who := text(d.cfg.Replication.User) + "@'%'"
	return d.exec(ctx, d.db, "CREATE USER IF NOT EXISTS "+who+" IDENTIFIED BY "+text(password),
		"ALTER USER "+who+" IDENTIFIED BY "+text(password), "GRANT REPLICATION SLAVE ON *.* TO "+who)
}

// Detach ends replication. The primary goes on and waits for nobody; a replica keeps what it
// has and stays read-only: nothing but Promote, or a person, makes it write.
func (d *Driver) Detach(ctx context.Context) error {
	ctx, done := d.begin(ctx)
	defer done()
	d.prove(nil)
	return d.exec(ctx, d.db, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL rpl_semi_sync_slave_enabled=OFF",
		"SET GLOBAL rpl_semi_sync_master_wait_no_slave=OFF", "SET GLOBAL rpl_semi_sync_master_enabled=OFF")
}

// Leave makes a copy a database of its own, as Found found it: it has applied all that it has
// received, replicates from nobody, and has no accounts of this package. It is read-only; one that
// does not run is started for that. It ends then. One that has left already stays as it is.
// fail.Refused: it is a primary, or does not apply what it has received; it goes on as it was.
func (d *Driver) Leave(ctx context.Context) error {
	ctx, done := d.begin(ctx)
	defer done()
	f, err := d.awake(ctx, func(ctx context.Context) error { return d.start(ctx, "MASTER") })
	if denied(err) {
		return d.quit(ctx) // an earlier call has taken the accounts away, which was its last step
	}
	if err != nil {
		return err
	}
	if !f.readOnly {
		return fail.Errorf(fail.Refused, "this database is a primary: demote it first")
	}
	if err := d.part(ctx, f); err != nil {
		return err
	}
	c, err := d.conn(ctx)
	if err != nil {
		return err
	}
	err = d.exec(ctx, c, "SET SESSION sql_log_bin=0",
		"DROP USER IF EXISTS "+text(d.cfg.Replication.User)+"@'%', "+text(d.cfg.Admin.User)+"@localhost", "FLUSH TABLES")
	if err = errors.Join(err, c.Close()); err != nil {
		return err
	}
	return d.quit(ctx)
}

// quit has a server end by itself on which no commit waits: its next start has nothing to recover.
// It is killed when ctx ends before.
func (d *Driver) quit(ctx context.Context) error {
	id, err := d.server.Process(ctx)
	if err == nil {
		err = proc.Here.Signal(id, unix.SIGTERM)
	}
	if err != nil && !errors.Is(err, proc.ErrGone) {
		return fmt.Errorf("end the database: %w", err)
	}
	for {
		if run, err := d.run(ctx); err != nil || run == "" {
			return err
		}
		if !clock.Sleep(ctx, interval) {
			return d.end(ctx)
		}
	}
}

// Found makes the accounts of this package on a server that is not replicated yet, by the
// account root and the socket, as distributions set it up. The server must not run by anybody
// else; it is started for that, and ended. Nothing of it comes into the binary log.
func (d *Driver) Found(ctx context.Context) (err error) {
	ctx, done := d.begin(ctx)
	defer done()
	admin, err := d.cfg.Admin.password()
	if err != nil {
		return err
	}
	repl, err := d.cfg.Replication.password()
	if err != nil {
		return err
	}
	root, err := open(Account{User: "root"}, "unix", d.cfg.Socket)
	if err != nil {
		return err
	}
	defer closed(root)
	if err := d.end(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.end(ctx)) }()
	if err := d.launch(ctx, root, "--skip-log-bin", "--read-only=OFF", "--skip-networking", "--skip-slave-start"); err != nil {
		return err
	}
	own, other := text(d.cfg.Admin.User)+"@localhost", text(d.cfg.Replication.User)+"@'%'"
	err = d.exec(ctx, root,
		"CREATE USER IF NOT EXISTS "+own, "ALTER USER "+own+" IDENTIFIED BY "+text(admin), "GRANT ALL ON *.* TO "+own+" WITH GRANT OPTION",
		"CREATE USER IF NOT EXISTS "+other, "ALTER USER "+other+" IDENTIFIED BY "+text(repl), "GRANT REPLICATION SLAVE ON *.* TO "+other,
		"FLUSH TABLES")
	if err != nil {
		return fmt.Errorf("make the accounts of replication as root of the database: %w", err)
	}
	return nil
}
