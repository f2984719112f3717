package mariadb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/internal/host/replica"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
	libtext "holdfast/internal/lib/text"
)

// Numbers of errors, from MariaDB's list of errors.
const (
	errNoSuchThread = 1094   // ER_NO_SUCH_THREAD
	errLocked       = 1205   // ER_LOCK_WAIT_TIMEOUT
	errNoLog        = "1236" // ER_MASTER_FATAL_ERROR_READING_BINLOG: the primary can not serve the position
)

func unknownThread(err error) bool { return isError(err, errNoSuchThread) }

// errReseed says that a node can not follow, and has nothing that the primary has not.
var errReseed = errors.New("the primary has no longer what this database needs to follow")

// Resync makes this node a replica of the primary. A server that does not run, or does not
// answer, is started so that what nobody has acknowledged is cut. What this node has and the
// primary does not is saved; then, and where the primary's logs do not reach back, the data
// are replaced by a copy.
func (d *Driver) Resync(ctx context.Context, from replica.Source) error {
	ctx, done := d.begin(ctx)
	defer done()
	if from.Host == "" || from.Port < 1 || from.Port > 65535 {
		return fail.Errorf(fail.Invalid, "primary %q, port %d: want a name or address, and 1 to 65535", from.Host, from.Port)
	}
	if from.Aside != "" {
		return d.anew(ctx, from)
	}
	// The primary first: what is cut at a start can come back from nowhere else.
	peer, err := d.primary(ctx, from)
	if err != nil {
		return err
	}
	if lost, err := d.lost(ctx); err != nil || lost {
		if err == nil {
			err = d.reseed(ctx, from, peer)
		}
		return err
	}
	f, err := d.awake(ctx, func(ctx context.Context) error { return d.startCut(ctx, from.Save) })
	if err != nil {
		return err
	}
	if !f.readOnly {
		return fail.Errorf(fail.Refused, "this database is a primary: demote it first")
	}
	// A copy of the primary whose position was not set yet, by a call that was cut short.
	if _, fresh, err := d.copied(); err != nil || fresh {
		if err == nil {
			err = d.follow(ctx, from, peer)
		}
		return err
	}
	errant := replica.Errant(f.state, peer)
	switch {
	case len(errant) > 0:
		if err := d.save(ctx, from, f.state, peer, errant); err != nil {
			return Unsaved{err}
		}
		return d.reseed(ctx, from, peer)
	case len(f.state) == 0 && len(f.applied) == 0 && len(peer) > 0:
		return d.reseed(ctx, from, peer) // it has nothing, or what nobody knows
	}
	if err = d.follow(ctx, from, peer); errors.Is(err, errReseed) {
		return d.reseed(ctx, from, peer)
	}
	return err
}

// lost reports that this node's data are gone: no server runs, and the data directory is empty. One
// that is not there is an error: a file system that is not mounted looks the same.
func (d *Driver) lost(ctx context.Context) (bool, error) {
	if run, err := d.run(ctx); err != nil || run != "" {
		return false, err
	}
	entries, err := os.ReadDir(d.cfg.Datadir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, fail.Errorf(fail.Refused, "the data directory %s is not there", d.cfg.Datadir).
			With("mount its file system; or, if its data are lost, make it, empty, with the owner of the database: " +
				"the other node's data are copied into it")
	}
	return err == nil && len(entries) == 0, err
}

// anew makes the node a replica, whatever it was before.
func (d *Driver) anew(ctx context.Context, from replica.Source) error {
	peer, err := d.primary(ctx, from)
	if err != nil {
		return err
	}
	return d.reseed(ctx, from, peer)
}

// primary asks the primary, by the account of replication, what it has.
func (d *Driver) primary(ctx context.Context, from replica.Source) ([]replica.Transaction, error) {
	at := net.JoinHostPort(from.Host, strconv.Itoa(from.Port))
	db, err := open(d.cfg.Replication, "tcp", at)
	if err != nil {
		return nil, err
	}
	defer closed(db)
	v, err := d.row(ctx, db, "SELECT @@server_id AS id, @@read_only AS ro, @@gtid_binlog_state AS state")
	switch {
	case err != nil:
		return nil, fmt.Errorf("primary %s: %w", at, err)
	case v["id"] == d.node():
		return nil, fail.Errorf(fail.Refused, "primary %s is this database itself, or has the same server_id", at)
	case v["ro"] != "0":
		return nil, fail.Errorf(fail.Refused, "primary %s is none: it is read-only", at)
	}
	return parse(v["state"])
}

// PeerAnswers reports that the other server answers now, lets nobody write, and has nothing that this one, its primary, has not.
func (d *Driver) PeerAnswers(ctx context.Context, from replica.Source) error {
	ctx, cancel := context.WithTimeout(ctx, answers)
	defer cancel()
	db, err := open(d.cfg.Replication, "tcp", net.JoinHostPort(from.Host, strconv.Itoa(from.Port)))
	if err != nil {
		return err
	}
	defer closed(db)
	v, err := d.row(ctx, db, "SELECT @@read_only AS ro, @@gtid_binlog_state AS state")
	if err != nil {
		return err
	}
	if v["ro"] == "0" {
		return fail.Errorf(fail.Refused, "it is not read-only")
	}
	theirs, err := parse(v["state"])
	if err != nil {
		return err
	}
	// Asked later: it has all that the other one has received.
	if v, err = d.row(ctx, d.db, "SELECT @@gtid_binlog_state AS state"); err != nil {
		return err
	}
	mine, err := parse(v["state"])
	if err != nil {
		return err
	}
	if errant := replica.Errant(theirs, mine); len(errant) > 0 {
		return fail.Errorf(fail.Refused, "somebody has written to it: it has transactions that this database does "+
			"not have, up to %s", gtids(errant))
	}
	return nil
}

// TakesWrites writes as a client does, so that a lock of all writes is found before anything is stopped that would wait for it. It
// asks a primary whose replica answers: without, the write would wait for that.
func (d *Driver) TakesWrites(ctx context.Context) error {
	there, err := d.rows(ctx, d.db, markerThere)
	if err != nil || len(there) == 0 { // somebody has dropped it
		return err
	}
	err = d.exec(ctx, d.db, "SET STATEMENT lock_wait_timeout=1 FOR "+marker)
	if isError(err, errLocked) {
		return fail.Errorf(fail.Refused, "it takes no writes: a session has a lock of all of them (FLUSH TABLES WITH "+
			"READ LOCK, or a backup); SHOW PROCESSLIST shows who: %w", err)
	}
	return err
}

// follow makes the server follow from where it is, and waits until it is connected. peer is
// the primary's state, of now or of before the copy that this node's data are.
func (d *Driver) follow(ctx context.Context, from replica.Source, peer []replica.Transaction) error {
	if err := d.needLossless(ctx, d.db); err != nil {
		return err
	}
	password, err := d.cfg.Replication.password()
	if err != nil {
		return err
	}
	position, fresh, err := d.copied()
	if err != nil {
		return err
	}
	if err := d.restEvents(ctx, d.db); err != nil {
		return err
	}
	if err := d.exec(ctx, d.db, "SET GLOBAL read_only=ON", "STOP SLAVE", "SET GLOBAL rpl_semi_sync_master_enabled=OFF",
		"SET GLOBAL rpl_semi_sync_slave_enabled=ON"); err != nil {
		return err
	}
	if fresh {
		at, err := parse(position)
		if err != nil {
			return err
		}
		if err := d.exec(ctx, d.db, "RESET MASTER", "SET GLOBAL gtid_binlog_state="+text(gtids(stateAt(at, peer)))); err != nil {
			return err
		}
	} else {
		v, err := d.row(ctx, d.db, "SELECT @@gtid_binlog_pos AS pos")
		if err != nil {
			return err
		}
		position = v["pos"]
	}
	if position != "" {
		if err := d.exec(ctx, d.db, "SET GLOBAL gtid_slave_pos="+text(position)); err != nil {
			return err
		}
	}
	if err := d.exec(ctx, d.db, fmt.Sprintf("CHANGE MASTER TO master_host=%s, master_port=%d, master_user=%s, "+
		"master_password=%s, master_use_gtid=slave_pos, "+
		"master_connect_retry=1, master_heartbeat_period=1", text(from.Host), from.Port, text(d.cfg.Replication.User),
		text(password))); err != nil {
		return err
	}
	if fresh {
		if err := d.used(); err != nil {
			return err
		}
	}
	if err := d.exec(ctx, d.db, "START SLAVE"); err != nil {
		return err
	}
	return d.connected(ctx)
}

// connected waits until the replica receives, applies and acknowledges.
func (d *Driver) connected(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connect)
	defer cancel()
	for {
		f, err := d.look(ctx, d.db)
		switch {
		case err != nil:
			return err
		case f.io == "Yes" && f.sql && f.acknowledges:
			return nil
		case f.io == "No" && f.ioErrno == errNoLog:
			return fmt.Errorf("%w: %s", errReseed, f.problem)
		case !f.sql && f.problem != "":
			// It must not acknowledge to the primary what it can not apply.
			err := fail.Errorf(fail.Failed, "this database can not apply what the primary sends: %s", f.problem)
			return errors.Join(Broken{err}, d.exec(ctx, d.db, "STOP SLAVE"))
		case f.io == "No" && f.problem != "":
			return fail.Errorf(fail.Failed, "this database can not follow the primary: %s", f.problem)
		}
		if !clock.Sleep(ctx, interval) {
			return fmt.Errorf("this database is not connected to the primary: %s: %w", f.problem, ctx.Err())
		}
	}
}

// save writes the errant transactions into a file, as statements with their rows beside
// them, and makes sure that they are in it.
func (d *Driver) save(ctx context.Context, from replica.Source, mine, peer, errant []replica.Transaction) error {
	if from.Save == "" || from.Seed == nil {
		return fail.Errorf(fail.Refused, "this database has transactions that the primary does not have, up to %s: "+
			"want a file to save them, and a copy of the primary", gtids(errant))
	}
	v, err := d.row(ctx, d.db, "SELECT @@log_bin_basename AS base")
	if err != nil {
		return err
	}
	logs, err := d.rows(ctx, d.db, "SHOW BINARY LOGS")
	if err != nil {
		return err
	}
	// In its strict mode it fails where a position is the last one of its domain, as it is of one without errant transactions.
	args := []string{"--no-defaults", "--verbose", "--skip-gtid-strict-mode", "--start-position=" + gtids(common(mine, peer))}
	for _, l := range logs {
		args = append(args, filepath.Join(filepath.Dir(v["base"]), l["log_name"]))
	}
	err = durable.Write(from.Save, 0o600, func(f *os.File) error { return program(ctx, "mariadb-binlog", args, nil, f) })
	if err != nil {
		return fmt.Errorf("save the transactions that the primary does not have, up to %s: %w", gtids(errant), err)
	}
	saved, err := os.ReadFile(from.Save)
	if err != nil {
		return err
	}
	for _, t := range errant {
		if !hasGTID(saved, t) {
			return fail.Errorf(fail.Failed, "%s does not have the transaction %s, which the primary does not "+
				"have either", from.Save, gtids([]replica.Transaction{t}))
		}
	}
	return nil
}

// hasGTID reports that what mariadb-binlog wrote has a transaction. It writes more behind the GTID, such as "trans", or nothing.
func hasGTID(saved []byte, t replica.Transaction) bool {
	want := append([]byte("\tGTID "), gtids([]replica.Transaction{t})...)
	for {
		i := bytes.Index(saved, want)
		if i < 0 {
			return false
		}
		if saved = saved[i+len(want):]; len(saved) == 0 || saved[0] < '0' || saved[0] > '9' {
			return true
		}
	}
}

// program runs a program of MariaDB. Its errors have the end of what it says.
func program(ctx context.Context, name string, args []string, in *os.File, out *os.File) error {
	cmd := proc.Foreign(ctx, name, args...)
	said := &libtext.Tail{Most: mostSaid}
	cmd.Stderr = said
	if in != nil {
		cmd.Stdin = in
	}
	if out != nil {
		cmd.Stdout = out
	}
	cmd.WaitDelay = settle
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// mostSaid is how much of the end of what a program says is told, in bytes.
const mostSaid = 2 << 10

// positions are the files in which a copy says where the primary was; the third word is the
// GTID position. The name has changed with MariaDB 11.1.
var positions = []string{"mariadb_backup_binlog_info", "xtrabackup_binlog_info"}

// copied gives the position of a copy that has not followed yet.
func (d *Driver) copied() (position string, fresh bool, err error) {
	for _, name := range positions {
		path := filepath.Join(d.cfg.Datadir, name)
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", false, err
		}
		w := strings.Fields(string(b))
		if len(w) < 3 {
			return "", false, fmt.Errorf("%s says %.80q: want a file, a position and GTIDs", path, b)
		}
		position := strings.Join(w[2:], "")
		_, err = parse(position)
		return position, true, err
	}
	return "", false, nil
}

// used forgets that the data are a copy.
func (d *Driver) used() error {
	for _, name := range positions {
		if err := os.Remove(filepath.Join(d.cfg.Datadir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return durable.SyncDir(d.cfg.Datadir)
}
