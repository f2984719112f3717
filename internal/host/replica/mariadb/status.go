package mariadb

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/host/replica"
)

func lower(s string) string { return strings.ToLower(s) }

// following is what a replica says of its replication.
type following struct {
	configured     bool
	host, port     string
	master         string // server_id of the primary, "0" before the first connection
	io             string // Yes, Connecting, Preparing, No
	sql            bool   // the thread that applies runs
	gtid           bool
	received       []replica.Transaction
	ioErrno        string
	problem        string // "": none
	behind         int    // seconds
	behindKnown    bool
	acknowledges   bool                  // semi-synchronously
	state, applied []replica.Transaction // binary log's state; gtid_slave_pos
	node           string
	applier        string // the thread's number
	readOnly       bool
}

// relay names a relay log. A server throws it away when it starts, and when both threads
// start; then the one that applies is another one.
func relay(run, applier string) string { return run + "/" + applier }

// look asks for all of it.
func (d *Driver) look(ctx context.Context, q querier) (f following, err error) {
	v, err := d.row(ctx, q, "SELECT @@server_id AS node, @@read_only AS ro, @@gtid_binlog_state AS state")
	if err != nil {
		return f, err
	}
	f.node, f.readOnly = v["node"], v["ro"] != "0"
	if f.state, err = parse(v["state"]); err != nil {
		return f, err
	}
	s, err := d.status(ctx, q)
	if err != nil {
		return f, err
	}
	f.acknowledges = s["rpl_semi_sync_slave_status"] == "ON"
	r, err := d.row(ctx, q, "SHOW SLAVE STATUS")
	if err != nil {
		return f, err
	}
	// Later than whether it follows: a former primary notes as applied what it has before it begins to.
	if v, err = d.row(ctx, q, "SELECT @@gtid_slave_pos AS applied"); err != nil {
		return f, err
	}
	if f.applied, err = parse(v["applied"]); err != nil || len(r) == 0 {
		return f, err
	}
	f.configured, f.host, f.port, f.master = true, r["master_host"], r["master_port"], r["master_server_id"]
	f.io, f.sql, f.gtid = r["slave_io_running"], r["slave_sql_running"] == "Yes", r["using_gtid"] != "No"
	f.ioErrno = r["last_io_errno"]
	if f.received, err = parse(r["gtid_io_pos"]); err != nil {
		return f, err
	}
	threads, err := d.rows(ctx, q, "SELECT id FROM information_schema.processlist WHERE command='Slave_SQL'")
	if err != nil {
		return f, err
	}
	if len(threads) == 1 {
		f.applier = threads[0]["id"]
	}
	var says []string
	for _, key := range []string{"last_io_error", "last_sql_error"} {
		if r[key] != "" {
			says = append(says, r[key])
		}
	}
	f.problem = strings.Join(says, "; ")
	if b, ok := r["seconds_behind_master"]; ok {
		if f.behind, err = strconv.Atoi(b); err != nil {
			return f, fmt.Errorf("the database says that it is %.40q seconds behind", b)
		}
		f.behindKnown = true
	}
	return f, nil
}

// stray are the transactions that were made on a replica, as a user with the privilege can: its primary does not have them. What it has
// received and applied was looked at later than what it has. One that does not apply has nothing that is not noted as applied.
func (f following) stray() (out []replica.Transaction) {
	for _, t := range f.state {
		own := strconv.FormatUint(uint64(t.Server), 10) == f.node
		if at := []replica.Transaction{t}; own && !replica.Covers(f.applied, at) && (!f.sql || !replica.Covers(f.received, at)) {
			out = append(out, t)
		}
	}
	return out
}

// Stray tells people of such transactions.
func Stray(all []replica.Transaction) string {
	return fmt.Sprintf("somebody has written to this standby: it has transactions that the active database does not "+
		"have, up to %s", gtids(all))
}

// outage says why the clients of a primary can not use it, and what ends that; "" when they can.
func (d *Driver) outage(c counts, now time.Time) string {
	k := &d.kept
	k.Lock()
	defer k.Unlock()
	// Connections may come and go: those that were refused count as well as a look at which all are taken. The server
	// does not count those that it refuses while its connection for administrators is free.
	if c.refused < k.refused { // another run
		k.crowded, k.refused = time.Time{}, 0
	}
	switch {
	case c.taken >= c.most || c.refused > k.refused && k.known:
		if k.full = now; k.crowded.IsZero() {
			k.crowded = now
		}
	case now.Sub(k.full) > lockedPause:
		k.crowded = time.Time{}
	}
	k.refused, k.known = c.refused, true
	// Not the time of a session: clients give up, and others come.
	if c.pos != k.pos || now.Sub(k.waited) > lockedPause {
		k.locked = time.Time{}
	}
	k.pos = c.pos
	left := c.held() && c.waiting > 0
	if c.locked > 0 || left {
		if k.waited = now; k.locked.IsZero() {
			k.locked = now
		}
	}
	switch {
	case !k.locked.IsZero() && now.Sub(k.locked) >= lockedLimit && left:
		return fmt.Sprintf("nothing could be written for %s: %d commits wait for the standby, which is not "+
			"connected; they end when it is, or when it is recorded that this node goes on alone",
			now.Sub(k.locked).Truncate(time.Second), c.waiting)
	case !k.locked.IsZero() && now.Sub(k.locked) >= lockedLimit && d.copies.Load() > 0:
		return fmt.Sprintf("nothing could be written for %s, and %d sessions wait: a copy for the other node is "+
			"under way, whose end has a lock of all writes, or another one has it (FLUSH TABLES WITH READ LOCK, or a "+
			"backup); SHOW PROCESSLIST shows who",
			now.Sub(k.locked).Truncate(time.Second), c.locked)
	case !k.locked.IsZero() && now.Sub(k.locked) >= lockedLimit:
		return fmt.Sprintf("nothing could be written for %s, and %d sessions wait: one has a lock of all writes "+
			"(FLUSH TABLES WITH READ LOCK, or a backup); SHOW PROCESSLIST shows who",
			now.Sub(k.locked).Truncate(time.Second), c.locked)
	case c.txReadOnly:
		return "tx_read_only is ON, and sessions can only read: SET GLOBAL tx_read_only=OFF"
	case !k.crowded.IsZero() && now.Sub(k.crowded) >= crowdedLimit:
		if c.taken < c.most {
			return fmt.Sprintf("all %d connections are taken again and again, and further ones are refused: end some "+
				"(SHOW PROCESSLIST), or SET GLOBAL max_connections", c.most)
		}
		return fmt.Sprintf("all %d connections are taken, and further ones are refused: end some (SHOW PROCESSLIST), "+
			"or SET GLOBAL max_connections", c.most)
	}
	return ""
}

// Status says how this node is. A server that does not answer is Silent, and Problem says why. Of
// a primary it ends the sessions of replicas that are lost.
func (d *Driver) Status(ctx context.Context) (replica.Status, error) {
	run, err := d.run(ctx)
	if err != nil {
		return replica.Status{}, err
	}
	st := replica.Status{Run: run}
	if run == "" {
		st.Role = replica.Down
		return st, nil
	}
	if err := d.fill(ctx, run, &st); err != nil {
		if ctx.Err() != nil && context.Cause(ctx) == context.Canceled {
			return st, err
		}
		return replica.Status{Role: replica.Silent, Run: run, Problem: err.Error()}, nil
	}
	return st, nil
}

func (d *Driver) fill(ctx context.Context, run string, st *replica.Status) error {
	f, err := d.look(ctx, d.db)
	if err != nil {
		return err
	}
	lossy, err := d.lossy(ctx, d.db, run, glance)
	if err != nil {
		return err
	}
	st.Node, st.State, st.Received, st.Problem, st.Lossy = f.node, f.state, f.received, f.problem, strings.Join(lossy, "; ")
	if st.Problem == "" {
		st.Problem = st.Lossy
	}
	switch {
	case !f.readOnly:
		st.Role = replica.Primary
	case f.configured:
		st.Role, st.Of, st.Connected = replica.Replica, f.master, f.io == "Yes" && f.acknowledges
		st.Receives = f.io != "No"
		if st.Relay = relay(run, f.applier); f.applier == "" {
			st.Relay = ""
		}
		st.Lag, st.LagKnown = time.Duration(f.behind)*time.Second, f.behindKnown
		if st.Stray = f.stray(); len(st.Stray) > 0 {
			st.Problem = strings.Trim(Stray(st.Stray)+"; "+st.Problem, "; ")
		}
		return nil
	default:
		st.Role = replica.Idle
	}
	c, err := d.count(ctx, d.db, run)
	if err != nil {
		return err
	}
	// The server that has answered must be the one whose process was looked at.
	now, err := d.run(ctx)
	if err != nil {
		return err
	}
	c.run = now
	if now != run {
		c.run = ""
	}
	if c.full {
		return errors.New("a disk is full: commits wait for space")
	}
	if st.Role == replica.Primary {
		st.Outage = d.outage(c, time.Now())
	}
	st.Waits, st.Acked = c.strict(), c.acked
	st.Blocked, st.Connected = c.waiting, c.clients > 0 && c.replicas > 0
	if st.Role == replica.Primary {
		st.Guarantee = d.judge(c)
		if st.Lossy != "" {
			d.prove(nil)
			st.Guarantee.Safe, st.Guarantee.Relay, st.Guarantee.Why = false, "", st.Lossy
		}
		if err := d.endLost(ctx, c.serving); err != nil { // it serves all the same
			st.Problem = err.Error()
		}
		if st.Guarantee.Safe && st.Blocked == 0 {
			unknown, err := d.noteEvents(ctx)
			if err != nil {
				return err
			}
			if len(unknown) > 0 && st.Problem == "" {
				st.Problem = "made just before a switch, and not known whether enabled, so they do not run: events " + strings.Join(unknown, ", ")
			}
		}
	}
	return nil
}
