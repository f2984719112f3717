package mariadb

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"holdfast/internal/host/replica"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
)

// counts is what a primary says of its semi-synchronous replication at one moment.
type counts struct {
	server, run, replica string
	dump                 string // number of the session that serves the replica
	serving              []session
	relay                string // of the replica; of a proof only
	replicas             int    // that have registered
	enabled, status      bool
	noSlave              bool // wait_no_slave: it waits without a replica, too
	point                string
	timeout              time.Duration
	clients              int
	waiting              int // sessions
	noTx, noTimes        string
	acked                uint64 // commits that a replica has acknowledged
	pos                  string // of the binary log
	full                 bool   // a commit waits for space on a disk
	locked               int    // sessions whose writes wait for a lock of all writes, such as FLUSH TABLES WITH READ LOCK
	txReadOnly           bool   // new sessions may only read, unless they say otherwise
	most, taken          int    // sessions: the most that there may be, and those that there are
	refused              uint64 // those that found all connections taken, since the server was started
}

const (
	// marker is what Together writes. It is in a database of its own, which is replicated.
	markerThere    = "SELECT 1 AS there FROM information_schema.tables WHERE table_schema='holdfast_replica' AND table_name='marker'"
	markerDatabase = "CREATE DATABASE IF NOT EXISTS holdfast_replica"
	markerTable    = "CREATE TABLE IF NOT EXISTS holdfast_replica.marker (id INT PRIMARY KEY, at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB"
	marker         = "REPLACE INTO holdfast_replica.marker VALUES (1, UTC_TIMESTAMP(6))"
)

// ownThreads are the commands of the server's own threads, beside those of other servers.
const ownThreads = "IN ('Binlog Dump', 'Daemon', 'Slave_IO', 'Slave_SQL', 'Slave_worker')"

// count takes the sample.
func (d *Driver) count(ctx context.Context, q querier, run string) (counts, error) {
	c := counts{run: run}
	v, err := d.row(ctx, q, "SELECT @@server_id AS server, @@rpl_semi_sync_master_enabled AS enabled, "+
		"@@rpl_semi_sync_master_wait_no_slave AS noslave, "+
		"@@rpl_semi_sync_master_wait_point AS point, @@rpl_semi_sync_master_timeout AS timeout, "+
		"@@global.tx_read_only AS tx, @@max_connections AS most, @@gtid_binlog_pos AS pos")
	if err != nil {
		return c, err
	}
	hosts, err := d.rows(ctx, q, "SHOW SLAVE HOSTS")
	if err != nil {
		return c, err
	}
	c.replicas = len(hosts)
	if len(hosts) == 1 {
		c.replica = hosts[0]["server_id"]
	}
	// A session whose write found a full disk waits for space, which the server looks for once a
	// minute, for ever. Queries are answered meanwhile, and no commit ends.
	// The server's own threads, such as that of the events, are no clients.
	sessions, err := d.rows(ctx, q, "SELECT id, host, command='Binlog Dump' AS serves, state='Waiting for backup lock' AS locked "+
		"FROM information_schema.processlist WHERE command='Binlog Dump' OR state='Waiting for someone to free space' "+
		"OR state='Waiting for backup lock' AND COALESCE(info, '') NOT LIKE 'BACKUP STAGE%' AND user NOT IN ('system "+
		"user', 'event_scheduler') AND command NOT "+ownThreads)
	if err != nil {
		return c, err
	}
	for _, s := range sessions {
		switch {
		case s["serves"] == "1":
			c.serving = append(c.serving, session{s["id"], s["host"]})
		case s["locked"] == "1":
			c.locked++
		default:
			c.full = true
		}
	}
	if len(c.serving) == 1 {
		c.dump = c.serving[0].id
	}
	s, err := d.status(ctx, q)
	if err != nil {
		return c, err
	}
	ms, err := strconv.ParseInt(v["timeout"], 10, 64)
	if err != nil {
		return c, fmt.Errorf("the database says that its timeout is %.40q", v["timeout"])
	}
	if ms >= forever.Milliseconds() {
		c.timeout = forever
	} else {
		c.timeout = time.Duration(ms) * time.Millisecond
	}
	c.clients, err = strconv.Atoi(s["rpl_semi_sync_master_clients"])
	waiting, werr := strconv.Atoi(s["rpl_semi_sync_master_wait_sessions"])
	acked, aerr := strconv.ParseUint(s["rpl_semi_sync_master_yes_tx"], 10, 64)
	most, merr := strconv.Atoi(v["most"])
	taken, terr := strconv.Atoi(s["threads_connected"])
	refused, rerr := strconv.ParseUint(s["connection_errors_max_connections"], 10, 64)
	if err = errors.Join(err, werr, aerr, merr, terr, rerr); err != nil {
		return c, fmt.Errorf("the database does not say how its replication is: %w", err)
	}
	c.txReadOnly, c.most, c.taken, c.refused, c.pos = v["tx"] == "1", most, taken, refused, v["pos"]
	c.acked = acked
	c.server, c.enabled, c.noSlave, c.point = v["server"], v["enabled"] == "1", v["noslave"] == "1", v["point"]
	c.waiting, c.status = waiting, s["rpl_semi_sync_master_status"] == "ON"
	c.noTx, c.noTimes = s["rpl_semi_sync_master_no_tx"], s["rpl_semi_sync_master_no_times"]
	return c, nil
}

// status are the server's own counters of semi-synchronous replication, and of its sessions.
func (d *Driver) status(ctx context.Context, q querier) (map[string]string, error) {
	rows, err := d.rows(ctx, q, "SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Rpl_semi_sync%' OR Variable_name IN "+
		"('Threads_connected', 'Connection_errors_max_connections')")
	out := map[string]string{}
	for _, r := range rows {
		out[lower(r["variable_name"])] = r["value"]
	}
	return out, err
}

// strict reports whether a primary waits for a replica for as long as it takes.
func (c counts) strict() bool {
	return c.enabled && c.noSlave && c.point == "AFTER_SYNC" && c.timeout >= forever
}

// left reports that no replica is connected.
func (c counts) left() bool { return c.clients < 1 || c.replicas < 1 || len(c.serving) < 1 }

// held reports that every commit waits for a replica and none is connected.
func (c counts) held() bool { return c.strict() && c.left() }

// guarantee judges a sample. base is what Together has proved, nil: nothing.
func (c counts) guarantee(base *counts) replica.Guarantee {
	g := replica.Guarantee{Primary: c.server, Run: c.run, Replica: c.replica}
	switch {
	case !c.enabled:
		g.Why = "it does not wait for a replica: semi-synchronous replication is off"
	case !c.noSlave:
		g.Why = "it does not wait while no replica is connected: rpl_semi_sync_master_wait_no_slave is OFF"
	case c.point != "AFTER_SYNC":
		g.Why = "others see a commit before the replica has it: rpl_semi_sync_master_wait_point is " + c.point
	case c.timeout < forever:
		g.Why = "it waits for a replica only " + c.timeout.String() + ": rpl_semi_sync_master_timeout"
	case !c.status:
		g.Why = "it has given up to wait for a replica: Rpl_semi_sync_master_status is OFF"
	case c.clients < 1 || c.replicas < 1 || c.dump == "":
		g.Why = "no replica is connected"
	case c.clients > 1 || c.replicas > 1:
		g.Why = "more than one replica is connected: which one has acknowledged is not known"
	case base == nil:
		g.Why = "nothing proves yet that the replica has what was committed before"
	case base.run != c.run || base.server != c.server:
		g.Why = "the server was started anew since the last proof"
	case base.replica != c.replica || base.dump != c.dump:
		g.Why = "the replica has connected anew since the last proof"
	case base.noTx != c.noTx || base.noTimes != c.noTimes:
		g.Why = "transactions were committed without an acknowledgement since the last proof"
	default:
		g.Safe, g.Relay = true, base.relay
	}
	return g
}

// prove keeps what was proved, nil: nothing is.
func (d *Driver) prove(c *counts) {
	d.proved.Lock()
	defer d.proved.Unlock()
	d.proved.baseline = c
}

// judge judges a sample. A proof that does not hold any more is forgotten: counters that
// stand still again do not renew it.
func (d *Driver) judge(c counts) replica.Guarantee {
	d.proved.Lock()
	defer d.proved.Unlock()
	g := c.guarantee(d.proved.baseline)
	b := d.proved.baseline
	if b != nil && (!c.strict() || !c.status || b.run != c.run || b.noTx != c.noTx || b.noTimes != c.noTimes ||
		c.dump != "" && b.dump != c.dump) {
		d.proved.baseline = nil
	}
	return g
}

// Alone lets a primary go on without its replica: commits that wait return, and nobody waits
// from now on. What it commits from here on may be lost. The caller has decided this, and has
// recorded it before: no earlier sample licenses the replica any more.
func (d *Driver) Alone(ctx context.Context) error {
	ctx, done := d.begin(ctx)
	defer done()
	if err := d.needPrimary(ctx); err != nil {
		return err
	}
	if err := d.loosen(ctx); err != nil {
		return err
	}
	for {
		s, err := d.status(ctx, d.db)
		if err != nil {
			return err
		}
		if s["rpl_semi_sync_master_wait_sessions"] == "0" {
			return nil
		}
		if !clock.Sleep(ctx, interval) {
			return fmt.Errorf("%s commits still wait for the replica: %w", s["rpl_semi_sync_master_wait_sessions"], ctx.Err())
		}
	}
}

// loosen ends all waiting for replicas.
func (d *Driver) loosen(ctx context.Context) error {
	d.prove(nil)
	return d.exec(ctx, d.db, "SET GLOBAL rpl_semi_sync_master_wait_no_slave=OFF", "SET GLOBAL rpl_semi_sync_master_enabled=OFF")
}

// tighten makes all commits wait for the replica, for as long as it takes.
func (d *Driver) tighten(ctx context.Context) error {
	return d.exec(ctx, d.db, "SET GLOBAL rpl_semi_sync_slave_enabled=OFF", "SET GLOBAL rpl_semi_sync_master_wait_point='AFTER_SYNC'",
		fmt.Sprintf("SET GLOBAL rpl_semi_sync_master_timeout=%d", forever.Milliseconds()),
		"SET GLOBAL rpl_semi_sync_master_wait_no_slave=ON", "SET GLOBAL rpl_semi_sync_master_enabled=ON")
}

func (d *Driver) needPrimary(ctx context.Context) error {
	v, err := d.row(ctx, d.db, "SELECT @@read_only AS ro")
	if err != nil {
		return err
	}
	if v["ro"] != "0" {
		return fail.Errorf(fail.Refused, "this database is no primary: it is read-only")
	}
	return nil
}

// Together makes a primary wait for its replica again, once that has caught up, and proves
// with a transaction of its own that the replica has everything: from then on samples are
// safe. A primary that went on alone goes on alone until the replica has caught up, and again
// when the proof fails. One that waits already never stops to wait. It is to be called also
// after Promote, when the replica has connected anew, and by a new process: what was proved
// is not kept on disk. standby is the replica's Status from before the call: what it had
// received until then, and receives from then on, is what the proof is about.
func (d *Driver) Together(ctx context.Context, standby replica.Status) (replica.Guarantee, error) {
	ctx, done := d.begin(ctx)
	defer done()
	if err := d.needPrimary(ctx); err != nil {
		return replica.Guarantee{}, err
	}
	run, err := d.run(ctx)
	if err != nil {
		return replica.Guarantee{}, err
	}
	c, err := d.count(ctx, d.db, run)
	if err != nil {
		return replica.Guarantee{}, err
	}
	if err := d.needLossless(ctx, d.db); err != nil {
		return replica.Guarantee{}, err
	}
	if standby.Lossy != "" {
		return replica.Guarantee{}, fail.Errorf(fail.Refused, "the replica does not take every write: %s", standby.Lossy)
	}
	if standby.Role != replica.Replica || standby.Of != c.server || standby.Relay == "" {
		if standby.Problem != "" {
			return replica.Guarantee{}, fail.Errorf(fail.Refused, "the other node's copy does not follow this one: %s", standby.Problem)
		}
		return replica.Guarantee{}, fail.Errorf(fail.Refused,
			"the other node's copy does not follow this one, or does not apply what it receives")
	}
	d.prove(nil)
	alone := !c.strict()
	if alone {
		if err := d.catchUp(ctx, run); err != nil {
			return replica.Guarantee{}, errors.Join(err, d.again(ctx))
		}
	}
	g, err := d.demonstrate(ctx, run, standby)
	if err != nil && alone {
		err = errors.Join(err, d.again(ctx))
	}
	return g, err
}

// again loosens a primary that was loose, also when ctx has ended.
func (d *Driver) again(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Limit)
	defer cancel()
	return d.loosen(ctx)
}

// catchUp waits until the replica has received nearly everything: the server itself turns its
// status on then. After it was enabled the status is on and proves nothing, so a transaction that
// is not acknowledged in time turns it off. It turns itself on again only when the replica
// acknowledges the very last transaction, which clients who write all the time may keep it from:
// so commits wait again and again, for a short time and then for a longer one.
func (d *Driver) catchUp(ctx context.Context, run string) error {
	here := presence{at: time.Now()}
	for wait := brief; ; wait = min(2*wait, longer) {
		err := d.exec(ctx, d.db, "SET GLOBAL rpl_semi_sync_slave_enabled=OFF", "SET GLOBAL rpl_semi_sync_master_wait_no_slave=OFF",
			fmt.Sprintf("SET GLOBAL rpl_semi_sync_master_timeout=%d", wait.Milliseconds()),
			"SET GLOBAL rpl_semi_sync_master_enabled=OFF", "SET GLOBAL rpl_semi_sync_master_enabled=ON")
		if err == nil {
			err = d.mark(ctx)
		}
		if err != nil {
			return err
		}
		for end := time.Now().Add(pause); ; {
			c, err := d.count(ctx, d.db, run)
			if err == nil {
				err = here.look(c)
			}
			if err != nil {
				return err
			}
			if c.status && c.clients == 1 {
				return d.tighten(ctx)
			}
			if !clock.Sleep(ctx, interval) {
				return fmt.Errorf("the replica has not caught up: %w", ctx.Err())
			}
			if time.Now().After(end) {
				break
			}
		}
	}
}

// mark commits the transaction, and makes its table before, if it is not there.
func (d *Driver) mark(ctx context.Context) error {
	hangs, err := d.rows(ctx, d.db, "SELECT id FROM information_schema.processlist WHERE info IN ("+text(marker)+", "+
		text(markerDatabase)+", "+text(markerTable)+")")
	if err != nil {
		return err
	}
	if len(hangs) > 0 {
		return fail.Errorf(fail.Failed, "an earlier proof still waits for the replica's acknowledgement")
	}
	there, err := d.rows(ctx, d.db, markerThere)
	if err == nil && len(there) == 0 {
		err = d.exec(ctx, d.db, markerDatabase, markerTable)
	}
	if err != nil {
		return err
	}
	return d.exec(ctx, d.db, marker)
}

// presence is when a replica that is waited for was connected last.
type presence struct{ at time.Time }

// look ends the wait for one that has left: commits may wait with it.
func (p *presence) look(c counts) error {
	if !c.left() {
		p.at = time.Now()
	}
	if time.Since(p.at) >= absent {
		return fail.Errorf(fail.Failed, "the replica can not prove that it has everything: it is not connected any more")
	}
	return nil
}

// demonstrate commits a transaction on a strict primary. When it returns, the replica has it
// and all before it, unless a counter says that somebody did not wait. Before, it waits for
// the replica that is connected: without one the transaction would hang, and nothing ends it.
func (d *Driver) demonstrate(ctx context.Context, run string, standby replica.Status) (replica.Guarantee, error) {
	here := presence{at: time.Now()}
	before, err := d.count(ctx, d.db, run)
	g := before.guarantee(&before)
	for err == nil && !g.Safe {
		if err = here.look(before); err != nil {
			break
		}
		if !before.strict() || !clock.Sleep(ctx, interval) {
			return g, fail.Errorf(fail.Failed, "the replica can not prove that it has everything: %s", g.Why)
		}
		before, err = d.count(ctx, d.db, run)
		g = before.guarantee(&before)
	}
	if err == nil {
		err = d.mark(ctx)
	}
	if err != nil {
		return replica.Guarantee{}, err
	}
	now, err := d.run(ctx)
	if err != nil {
		return replica.Guarantee{}, err
	}
	after, err := d.count(ctx, d.db, now)
	if err != nil {
		return replica.Guarantee{}, err
	}
	before.relay, after.relay = standby.Relay, standby.Relay
	g = after.guarantee(&before)
	if g.Safe && standby.Node != after.replica {
		g = replica.Guarantee{Why: "another replica is connected than the one whose status was given"}
	}
	if !g.Safe {
		return g, fail.Errorf(fail.Failed, "the replica has not proved that it has everything: %s", g.Why)
	}
	d.prove(&after)
	return g, nil
}
