package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/host/replica"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
)

// Promote makes this node the primary, whose commits wait for a replica: Alone, or a replica
// and Together, come after it. The license names this node as the replica, and this node's
// replication goes on since the proof; or it names this node as the primary, in the same run, or
// it has ended since: then it is started and keeps everything that it had.
func (d *Driver) Promote(ctx context.Context, c replica.Claim) error {
	ctx, done := d.begin(ctx)
	defer done()
	run, err := d.run(ctx)
	if err != nil {
		return err
	}
	if run == "" {
		return d.coldStart(ctx, c)
	}
	f, err := d.look(ctx, d.db)
	if err != nil {
		return err
	}
	switch {
	case !f.readOnly && f.configured && f.io != "No":
		return fail.Errorf(fail.Refused, "this database writes and follows another one at once")
	case !f.readOnly: // an earlier call came that far
		scheduler, err := d.takeEvents(ctx)
		if err == nil {
			err = d.exec(ctx, d.db, "STOP SLAVE", "RESET SLAVE ALL")
		}
		if err != nil {
			return err
		}
		return d.runEvents(ctx, scheduler)
	case !c.License.Safe:
		return fail.Errorf(fail.Refused, "nothing proves that this database has everything that was acknowledged: "+
			"there is no safe sample of the primary")
	case c.License.Primary == f.node && c.License.Run == run:
	case c.License.Primary == f.node:
		return fail.Errorf(fail.Refused, "this database was started anew since it was the primary: it may lack what was acknowledged")
	default:
		if err := d.complete(ctx, c, f, run); err != nil {
			return err
		}
	}
	d.prove(nil)
	if err := d.tighten(ctx); err != nil {
		return err
	}
	scheduler, err := d.takeEvents(ctx)
	if err != nil {
		return err
	}
	// The thread that applies ends last: as long as it runs, a next call knows that
	// nothing was thrown away.
	if err := d.exec(ctx, d.db, "SET GLOBAL read_only=OFF", "STOP SLAVE", "RESET SLAVE ALL"); err != nil {
		return err
	}
	return d.runEvents(ctx, scheduler)
}

// coldStart starts a server that was the primary and has ended, with all that it had: in the
// role of a primary its recovery commits what is in its binary log.
func (d *Driver) coldStart(ctx context.Context, c replica.Claim) error {
	if !c.License.Safe {
		return fail.Errorf(fail.Refused, "the database does not run, and there is no safe sample of it as the primary")
	}
	if c.License.Primary != d.node() {
		return fail.Errorf(fail.Refused, "the database does not run: a replica that is started lacks what it had received")
	}
	if err := d.start(ctx, "MASTER"); err != nil {
		return err
	}
	f, err := d.look(ctx, d.db)
	if err != nil {
		return err
	}
	if f.node != d.node() || f.configured {
		return fail.Errorf(fail.Refused, "this database was no primary when it ended: it is server %s and follows server %q", f.node, f.master)
	}
	if err := d.tighten(ctx); err != nil {
		return err
	}
	scheduler, err := d.takeEvents(ctx)
	if err == nil {
		err = d.exec(ctx, d.db, "SET GLOBAL read_only=OFF")
	}
	if err != nil {
		return err
	}
	return d.runEvents(ctx, scheduler)
}

// complete makes sure that a replica has applied everything that was acknowledged. Nothing
// is changed when it refuses, but that it has ceased to receive when it can not apply.
func (d *Driver) complete(ctx context.Context, c replica.Claim, f following, run string) error {
	switch {
	case c.License.Replica != f.node:
		return fail.Errorf(fail.Refused, "the sample is that of server %s as the replica, this is server %s", c.License.Replica, f.node)
	case c.License.Relay != relay(run, f.applier):
		return fail.Errorf(fail.Refused, "this database, or its replication, was started anew since the proof: it may lack what was acknowledged")
	case !f.configured || !f.gtid || f.master != c.License.Primary:
		return fail.Errorf(fail.Refused, "this database does not follow server %s by GTID", c.License.Primary)
	case len(f.received) == 0 || !f.sql:
		return fail.Errorf(fail.Refused, "this database does not apply what it has received: %s", f.problem)
	}
	if err := d.needLossless(ctx, d.db); err != nil {
		return err
	}
	if err := d.exec(ctx, d.db, "STOP SLAVE IO_THREAD"); err != nil {
		return err
	}
	f, err := d.applyAll(ctx)
	if err == nil && len(f.received) == 0 {
		err = fail.Errorf(fail.Refused, "this database does not say any more what it has received")
	}
	return err
}

// Retain ends this node's replication when all that it has received is applied, and returns the
// run of the server, which then may be promoted as one that was the primary in that run. A
// server that does not run is started in the role of a primary, and has all that it had applied.
// A person asks for it: the primary may have more.
func (d *Driver) Retain(ctx context.Context) (run string, err error) {
	ctx, done := d.begin(ctx)
	defer done()
	f, err := d.awake(ctx, func(ctx context.Context) error { return d.start(ctx, "MASTER") })
	if err != nil {
		return "", err
	}
	if !f.readOnly {
		return "", fail.Errorf(fail.Refused, "this database is a primary: demote it first")
	}
	if err := d.part(ctx, f); err != nil {
		return "", err
	}
	return d.run(ctx)
}

// part ends a replica's replication when all that it has received is applied.
func (d *Driver) part(ctx context.Context, f following) error {
	if !f.configured {
		return nil
	}
	if err := d.exec(ctx, d.db, "STOP SLAVE IO_THREAD", "START SLAVE SQL_THREAD"); err != nil {
		return err
	}
	if _, err := d.applyAll(ctx); err != nil {
		return err
	}
	return d.exec(ctx, d.db, "STOP SLAVE", "RESET SLAVE ALL")
}

// applyAll waits until a replica that receives no more has applied all that it has received,
// and returns how it was then.
func (d *Driver) applyAll(ctx context.Context) (following, error) {
	for {
		f, err := d.look(ctx, d.db)
		switch {
		case err != nil:
			return f, err
		case replica.Covers(f.applied, f.received) && f.io == "No":
			return f, nil
		case !f.sql:
			return f, fail.Errorf(fail.Refused, "this database does not apply what it has received: %s", f.problem)
		}
		if !clock.Sleep(ctx, interval) {
			return f, fmt.Errorf("this database has not applied all that it has received: %w", ctx.Err())
		}
	}
}

// Demote makes this node stop writing. A primary that is healthy becomes read-only, and its
// sessions end; any other server that may write is killed. A killed one is started by Resync
// or Promote only. Other calls that are under way are cut short.
func (d *Driver) Demote(ctx context.Context) error {
	_, err := d.Quiet(ctx)
	return err
}

// Quiet is Demote, and says why it had to kill the server; nil: it had not.
func (d *Driver) Quiet(ctx context.Context) (killed, err error) {
	d.demoting.Add(1)
	defer d.demoting.Add(-1)
	if cancel := d.current.Load(); cancel != nil {
		(*cancel)()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prove(nil)
	d.forgetEvents()
	run, err := d.run(ctx)
	if err == nil && run == "" {
		return nil, nil
	}
	if err == nil {
		err = d.drain(ctx)
	}
	if err == nil {
		return nil, nil
	}
	if kerr := d.end(ctx); kerr != nil {
		return nil, errors.Join(fmt.Errorf("the database is not read-only: %w", err), kerr)
	}
	return err, nil
}

// everyID is the greatest number of a session.
const everyID = "18446744073709551615"

// drain makes a healthy server read-only and ends its sessions. It is given half of the
// time that there is.
func (d *Driver) drain(ctx context.Context) (err error) {
	wait := settle
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn, err := d.conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	f, err := d.look(ctx, conn)
	if err != nil {
		return err
	}
	c, err := d.count(ctx, conn, "")
	if err != nil {
		return err
	}
	if !f.readOnly && c.enabled && (c.clients < 1 && c.noSlave) {
		return errors.New("it waits for a replica that is not there")
	}
	if err := d.restEvents(ctx, conn); err != nil {
		return err
	}
	if err := d.forbidWrites(ctx, conn); err != nil {
		return err
	}
	// Clients that come again and again can not write any more, unless they have a privilege, or a
	// role that may have it.
	newest := everyID
	for {
		left, err := d.sessions(ctx, conn, newest)
		if err != nil {
			return err
		}
		if newest == everyID && len(left) > 0 {
			newest = left[0]["id"]
		}
		c, err := d.count(ctx, conn, "")
		if err != nil {
			return err
		}
		if len(left) == 0 && c.waiting == 0 {
			return d.needReadOnly(ctx, conn)
		}
		if err := d.endSessions(ctx, conn, left); err != nil {
			return err
		}
		if !clock.Sleep(ctx, interval) {
			return fmt.Errorf("%d sessions and %d commits do not end: %w", len(left), c.waiting, ctx.Err())
		}
	}
}

// forbidWrites makes the server read-only. That waits for writes, locks of tables, and commits that are under way, thus
// for their acknowledgement: for a second. Then all sessions are ended, as a client may take hours.
func (d *Driver) forbidWrites(ctx context.Context, conn *sql.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Limit)
	defer cancel()
	for {
		err := d.exec(ctx, conn, "SET STATEMENT lock_wait_timeout=1 FOR SET GLOBAL read_only=ON")
		if !isError(err, errLocked) {
			return err
		}
		left, err := d.sessions(ctx, conn, everyID)
		if err != nil {
			return err
		}
		if err := d.endSessions(ctx, conn, left); err != nil {
			return err
		}
	}
}

// sessions are those of clients up to the number newest, and those that may write although the server is read-only:
// the id of each, and whether it is in SLEEP(); the newest first.
func (d *Driver) sessions(ctx context.Context, conn *sql.Conn, newest string) ([]map[string]string, error) {
	return d.rows(ctx, conn, "SELECT id, state='User sleep' AS sleeps FROM information_schema.processlist WHERE id "+
		"<> CONNECTION_ID() AND user <> 'system user' "+
		"AND command NOT "+ownThreads+" AND (id <= "+newest+
		" OR user IN (SELECT SUBSTRING_INDEX(SUBSTRING(grantee, 2), '\\'@\\'', 1) FROM "+
		"information_schema.user_privileges WHERE privilege_type IN ('SUPER', 'READ ONLY ADMIN', 'READ_ONLY ADMIN')) "+
		"OR user IN (SELECT User FROM mysql.roles_mapping)) ORDER BY id DESC")
}

// endSessions kills sessions. One that has ended meanwhile is no error: it is not there at the next look.
//
// A session that is in SLEEP() gets a moment to wake before the next one is killed. Without it one KILL of a hundred takes
// 2 s, in which no other SLEEP() can end (10.11): the killer waits for the lock of all that sleep, and the woken session, which
// has it, for the killer's.
func (d *Driver) endSessions(ctx context.Context, conn *sql.Conn, sessions []map[string]string) error {
	for _, s := range sessions {
		if err := d.exec(ctx, conn, "KILL "+s["id"]); err != nil && !unknownThread(err) {
			return fmt.Errorf("end %d sessions: %w", len(sessions), err)
		}
		if s["sleeps"] == "1" {
			clock.Sleep(ctx, wake)
		}
	}
	return nil
}

// needReadOnly looks again: a call that was cut short may have changed it.
func (d *Driver) needReadOnly(ctx context.Context, q querier) error {
	v, err := d.row(ctx, q, "SELECT @@read_only AS ro")
	if err == nil && v["ro"] == "0" {
		err = errors.New("it was made writable again")
	}
	return err
}

// conn is one connection, which does not wait for longer than a statement may.
func (d *Driver) conn(ctx context.Context) (*sql.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Limit)
	defer cancel()
	return admitted(ctx, func() (*sql.Conn, error) {
		c, err := d.db.Conn(ctx)
		if err != nil {
			return nil, asked(err)
		}
		return c, nil
	})
}
