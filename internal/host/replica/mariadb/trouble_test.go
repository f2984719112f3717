package mariadb

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/replica"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// saved looks what a file has, and what it has not.
func saved(t *testing.T, path, want string, not ...string) {
	t.Helper()
	body, err := os.ReadFile(path)
	try.Must(t, err)
	info, err := os.Stat(path)
	try.Must(t, err)
	if info.Mode().Perm() != 0o600 || !strings.Contains(string(body), want) {
		t.Fatalf("%s, mode %s: want %s in it:\n%s", path, info.Mode(), want, body)
	}
	for _, s := range not {
		if strings.Contains(string(body), s) {
			t.Errorf("%s has %s, which is no errant row:\n%s", path, s, body)
		}
	}
}

// sum is a checksum of a table.
func (n *node) sum(query string) string {
	n.t.Helper()
	r, err := n.row(try.Context(n.t), n.root, query)
	try.Must(n.t, err)
	return r["checksum"]
}

// pending ends the test when an answer is there.
func pending(t *testing.T, answer <-chan error) {
	t.Helper()
	select {
	case err := <-answer:
		t.Fatalf("the commit does not wait: %v", err)
	default:
	}
}

// TestAlone: without its replica a primary blocks until it is told to go on, and is safe again
// only when the replica has proved that it has everything.
func TestAlone(t *testing.T) {
	need.Drill(t, "P2: a primary without its replica blocks until it is told to go on, and is safe again only "+
		"after a proof", need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	db := a.app()
	try.Must(t, <-insert(db, 1))
	standby := b.state()
	thaw := b.freeze()
	answer := insert(db, 2)
	try.Until(t, "a blocked commit", func() bool { return a.state().Blocked == 1 })
	if g := a.state().Guarantee; !g.Safe {
		t.Errorf("a primary that blocks has acknowledged nothing: %+v", g)
	}
	// A proof that is not acknowledged must not make a strict primary go on.
	short, cancel := context.WithTimeout(ctx, time.Second)
	_, err := a.Together(short, standby)
	cancel()
	if err == nil {
		t.Fatal("a frozen replica has acknowledged")
	}
	if _, err := a.Together(ctx, standby); err == nil || !strings.Contains(err.Error(), "earlier proof") {
		t.Fatalf("a second proof beside one that hangs: %v", err)
	}
	pending(t, answer)
	if g := a.state().Guarantee; g.Safe {
		t.Errorf("safe after a proof that failed: %+v", g)
	}
	try.Must(t, a.Alone(ctx))
	try.Must(t, <-answer)
	try.Must(t, a.Alone(ctx)) // again
	try.Must(t, <-insert(db, 3))
	if g := a.state().Guarantee; g.Safe {
		t.Errorf("a primary that is alone: %+v", g)
	}
	// With the replica frozen it stays alone, and commits go on.
	short, cancel = context.WithTimeout(ctx, 2*time.Second)
	_, err = a.Together(short, standby)
	cancel()
	if err == nil {
		t.Fatal("together with a frozen replica")
	}
	try.Must(t, <-insert(db, 4))
	thaw()
	try.Must(t, b.Resync(ctx, a.source("")))
	g, err := a.Together(ctx, b.state())
	if err != nil || !g.Safe {
		t.Fatalf("%+v, %v", g, err)
	}
	if got := b.state().Received; !replica.Covers(got, nil) || !replica.Covers(got, lastOf(a.state().State)) {
		t.Errorf("the replica has received %v of %v", got, a.state().State)
	}
	if g := a.state().Guarantee; !g.Safe {
		t.Errorf("together: %+v", g)
	}
	// The server's own word lies: ON, without a replica, and nobody waits.
	b.sql("STOP SLAVE")
	try.Until(t, "the replica's leave", func() bool { return !a.state().Connected })
	a.sql("SET GLOBAL rpl_semi_sync_master_wait_no_slave=OFF")
	try.Must(t, <-insert(db, 5))
	if on := a.value("SELECT variable_value FROM information_schema.global_status WHERE " +
		"variable_name='Rpl_semi_sync_master_status'"); on != "ON" {
		t.Errorf("Rpl_semi_sync_master_status is %s: this tests nothing", on)
	}
	if g := a.state().Guarantee; g.Safe {
		t.Errorf("a primary that does not wait: %+v", g)
	}
	// Nor is the guarantee back with the setting and the replica: row 5 has no proof.
	a.sql("SET GLOBAL rpl_semi_sync_master_wait_no_slave=ON")
	b.sql("START SLAVE")
	try.Until(t, "the replica", func() bool { return a.state().Connected && b.state().Connected })
	if g := a.state().Guarantee; g.Safe {
		t.Errorf("safe without a proof: %+v", g)
	}
	// A strict primary whose replica is gone keeps blocking.
	try.Must(t, b.cmd.Kill9(ctx))
	try.Until(t, "the replica's end", func() bool { return !a.state().Connected })
	short, cancel = context.WithTimeout(ctx, time.Second)
	_, err = a.Together(short, standby)
	cancel()
	if err == nil {
		t.Fatal("together without a replica")
	}
	answer = insert(db, 6)
	try.Until(t, "a blocked commit", func() bool { return a.state().Blocked == 1 })
	pending(t, answer)
	try.Must(t, a.Alone(ctx))
	try.Must(t, <-answer)
}

// lastOf is the position of a state: of each domain the last one.
func lastOf(state []replica.Transaction) []replica.Transaction {
	most := map[uint32]replica.Transaction{}
	for _, s := range state {
		if m, ok := most[s.Domain]; !ok || s.Seq > m.Seq {
			most[s.Domain] = s
		}
	}
	var out []replica.Transaction
	for _, m := range most {
		out = append(out, m)
	}
	return out
}

// TestAReplicaThatWasStartedAnew lacks what it had received, and is not promoted. Its
// primary, started by its own license, has everything.
func TestAReplicaThatWasStartedAnew(t *testing.T) {
	need.Drill(t, "P2: a replica that was started anew lacks what it had received, and is not promoted",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	var l ledger
	stop := l.write(a, 4)
	try.Until(t, "rows", func() bool { return l.size() > 100 })
	c := license(t, a)
	try.Must(t, b.cmd.Kill9(ctx))
	try.Must(t, a.cmd.Kill9(ctx))
	stop()
	refused(t, "a replica that does not run", b.Promote(ctx, c))
	b.wants(replica.Down)
	try.Must(t, b.start(ctx, "SLAVE"))
	refused(t, "a replica that was started anew", b.Promote(ctx, c))
	b.wants(replica.Replica)
	refused(t, "no license", a.Promote(ctx, replica.Claim{}))
	a.wants(replica.Down)
	try.Must(t, a.Promote(ctx, c))
	if lost := l.missing(a); len(lost) > 0 {
		t.Fatalf("%d of %d rows are lost", len(lost), l.size())
	}
	join(t, a, b)
	if lost := l.missing(b); len(lost) > 0 {
		try.Until(t, "the rows on the replica", func() bool { return len(l.missing(b)) == 0 })
	}
	// As the primary again, but started by somebody else meanwhile.
	c = license(t, a)
	try.Must(t, a.cmd.Kill9(ctx))
	try.Must(t, a.start(ctx, "SLAVE"))
	refused(t, "a primary that was started anew", a.Promote(ctx, c))
}

// TestPromoteWaitsUntilAllIsApplied, also when the first call was cut short.
func TestPromoteWaitsUntilAllIsApplied(t *testing.T) {
	need.Drill(t, "P2: a promotion waits until all that was received is applied",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	lock, err := b.root.Conn(ctx)
	try.Must(t, err)
	_, err = lock.ExecContext(ctx, "LOCK TABLES app.log READ")
	try.Must(t, err)
	var l ledger
	stop := l.write(a, 4)
	try.Until(t, "rows", func() bool { return l.size() > 50 })
	c := license(t, a)
	try.Must(t, a.cmd.Kill9(ctx))
	stop()
	if len(l.missing(b)) == 0 {
		t.Fatal("all is applied: this tests nothing")
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := b.Promote(short, c); err == nil {
		t.Fatal("promoted with rows that are not applied")
	}
	b.wants(replica.Replica)
	_, err = lock.ExecContext(ctx, "UNLOCK TABLES")
	try.Must(t, err)
	try.Must(t, lock.Close())
	try.Must(t, b.Promote(ctx, c))
	if lost := l.missing(b); len(lost) > 0 {
		t.Errorf("%d of %d rows are lost", len(lost), l.size())
	}
}

// TestAReplicaThatThrewItsRelayLogAway, since both of its threads were started, is not
// promoted: neither by a license of before, nor is there one before the next proof.
func TestAReplicaThatThrewItsRelayLogAway(t *testing.T) {
	need.Drill(t, "P2: a replica that threw its relay log away is not promoted before the next proof",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	before, stale := license(t, a), b.state()
	b.sql("STOP SLAVE", "START SLAVE")
	try.Until(t, "the replica", func() bool { return a.state().Connected && b.state().Connected })
	if g := a.state().Guarantee; g.Safe {
		t.Fatalf("safe without a proof: %+v", g)
	}
	// A proof with a status of before is one of a relay log that is not there any more.
	g, err := a.Together(ctx, stale)
	if err != nil || !g.Safe {
		t.Fatalf("%+v, %v", g, err)
	}
	for _, c := range []replica.Claim{before, {License: g}} {
		refused(t, "a relay log that was thrown away", b.Promote(ctx, c))
	}
	for _, st := range []replica.Status{{}, a.state(), with2(b.state(), func(st *replica.Status) { st.Of = "9" })} {
		if _, err := a.Together(ctx, st); err == nil {
			t.Errorf("a proof for %+v", st)
		}
	}
	if _, err := a.Together(ctx, with2(b.state(), func(st *replica.Status) { st.Node = "9" })); err == nil {
		t.Error("a proof for another replica than the one that is connected")
	}
	_, err = a.Together(ctx, b.state())
	try.Must(t, err)
	c := license(t, a)
	try.Must(t, a.cmd.Kill9(ctx))
	try.Must(t, b.Promote(ctx, c))
}

func with2(st replica.Status, change func(*replica.Status)) replica.Status {
	change(&st)
	return st
}

// TestAFrozenServer holds nobody up, and is killed.
func TestAFrozenServer(t *testing.T) {
	need.Drill(t, "P3: a database that stands still holds nobody up, and is killed",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	join(t, a, b)
	c, standby := license(t, a), b.state()
	for _, n := range []*node{a, b} {
		n.freeze()
		n.cfg.Limit = 300 * time.Millisecond
	}
	for what, f := range map[string]func(context.Context) error{
		"prepare":  a.Prepare,
		"detach":   a.Detach,
		"alone":    a.Alone,
		"together": func(ctx context.Context) error { _, err := a.Together(ctx, standby); return err },
		"promote":  func(ctx context.Context) error { return b.Promote(ctx, c) },
		"status": func(ctx context.Context) error {
			st, err := a.Status(ctx)
			if err != nil || st.Role != replica.Silent || st.Problem == "" || st.Run == "" {
				t.Errorf("status: %+v, %v", st, err)
			}
			return context.DeadlineExceeded
		},
	} {
		ctx, cancel := context.WithTimeout(try.Context(t), 2*time.Minute)
		if err := f(ctx); err == nil {
			t.Errorf("%s: a frozen server has done it", what)
		}
		if ctx.Err() != nil {
			t.Errorf("%s: the statements have no limit of their own", what)
		}
		cancel()
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	try.Must(t, a.Demote(done)) // the time is over, and it stops writing all the same
	a.wants(replica.Down)
	try.Must(t, a.Demote(done))
	// A frozen replica-to-be is left as it is without a primary, else killed and started.
	ctx := try.Context(t)
	if err := b.Resync(ctx, a.source("")); err == nil {
		t.Error("followed a primary that does not run")
	}
	b.wants(replica.Silent)
	try.Must(t, a.start(ctx, "MASTER"))
	a.sql("SET GLOBAL read_only=OFF")
	try.Must(t, b.Resync(ctx, a.source("")))
	b.wants(replica.Replica)
}

// TestPrepare sets what it can, names what it can not, and makes the account only where it
// is missing.
func TestPrepare(t *testing.T) {
	need.Drill(t, "P7: settings of a database are set or named, and its account is made only where it is missing",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, _ := pair(t)
	ctx := try.Context(t)
	before := a.value("SELECT @@gtid_binlog_state")
	a.sql("SET GLOBAL sync_binlog=0", "SET GLOBAL gtid_strict_mode=OFF", "SET GLOBAL slave_net_timeout=60")
	try.Must(t, a.Prepare(ctx))
	if got := a.value("SELECT CONCAT(@@sync_binlog, @@gtid_strict_mode, @@slave_net_timeout)"); got != "1ON4" {
		t.Errorf("the settings are %s", got)
	}
	if after := a.value("SELECT @@gtid_binlog_state"); after != before {
		t.Errorf("the account was there: the binary log went from %q to %q", before, after)
	}
	a.sql("SET SESSION sql_log_bin=0", "DROP USER repl@'%'")
	try.Must(t, a.Prepare(ctx))
	if _, err := a.primary(ctx, a.source("")); err == nil || !strings.Contains(err.Error(), "itself") {
		t.Errorf("the account, asked for the database itself: %v", err)
	}
	a.cfg.ServerID, a.cfg.Datadir = 7, "/elsewhere"
	err := a.Prepare(ctx)
	refused(t, "another server", err)
	for _, want := range []string{"server_id is 1: want 7", "datadir is " + a.datadir, "want /elsewhere"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q in it", err, want)
		}
	}
}
