package mariadb

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/host/replica"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// refused ends the test unless err says that nothing was done for safety.
func refused(t *testing.T, what string, err error) {
	t.Helper()
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Refused {
		t.Fatalf("%s: %v: want it refused", what, err)
	}
}

func (n *node) wants(role replica.Role) {
	n.t.Helper()
	if st := n.state(); st.Role != role {
		n.t.Fatalf("server %d is %s: want %s: %+v", n.cfg.ServerID, st.Role, role, st)
	}
}

// TestAPlannedSwitch and back: sessions of applications end, the servers go on, nothing is
// copied, and a replica is promoted with the right license only.
func TestAPlannedSwitch(t *testing.T) {
	need.Drill(t, "P2: a planned switch of a real MariaDB and back, and no promotion without the right license",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	try.Must(t, a.Prepare(ctx)) // again
	if st := b.state(); st.Role != replica.Replica || !st.Connected || st.Of != "1" || st.Problem != "" {
		t.Fatalf("the replica: %+v", st)
	}
	good := license(t, a)
	for what, c := range map[string]replica.Claim{
		"no license":             {},
		"an unsafe sample":       {License: replica.Guarantee{Primary: "1", Replica: "2", Run: good.License.Run, Relay: good.License.Relay}},
		"another replica's":      with(good, func(c *replica.Claim) { c.License.Replica = "3" }),
		"another primary's":      with(good, func(c *replica.Claim) { c.License.Primary = "3" }),
		"of another run":         with(good, func(c *replica.Claim) { c.License.Relay = "x" + c.License.Relay }),
		"of another relay log":   with(good, func(c *replica.Claim) { c.License.Relay += "0" }),
		"no proof":               with(good, func(c *replica.Claim) { c.License.Relay = "" }),
		"its own of another run": with(good, func(c *replica.Claim) { c.License.Primary, c.License.Run = "2", "x" }),
	} {
		refused(t, what, b.Promote(ctx, c))
	}
	b.wants(replica.Replica)
	if st := b.state(); !st.Connected {
		t.Fatalf("a refused promotion has changed something: %+v", st)
	}
	refused(t, "resync of a primary", a.Resync(ctx, b.source("")))
	refused(t, "alone on a replica", b.Alone(ctx))

	var l ledger
	for range 2 {
		before, c := a.id(), license(t, a)
		held := a.app()
		try.Must(t, held.PingContext(ctx))
		stop := l.write(a, 3)
		n := l.size()
		try.Until(t, "rows", func() bool { return l.size() > n+50 })
		try.Must(t, a.Demote(ctx))
		stop()
		if a.id() != before {
			t.Fatal("a healthy primary was killed")
		}
		a.wants(replica.Idle)
		if err := <-insert(held, 1<<40); err == nil {
			t.Fatal("a demoted primary takes writes")
		}
		try.Must(t, a.Demote(ctx)) // again
		try.Must(t, b.Promote(ctx, c))
		try.Must(t, b.Promote(ctx, replica.Claim{})) // again: it is the primary
		if lost := l.missing(b); len(lost) > 0 {
			t.Fatalf("%d of %d acknowledged rows are lost", len(lost), l.size())
		}
		join(t, b, a)
		a, b = b, a
	}
	if a.seeds+b.seeds != 0 {
		t.Errorf("%d copies were made", a.seeds+b.seeds)
	}
	// A switch that is given up: the old primary goes on, in the same run.
	own := license(t, a)
	try.Must(t, a.Demote(ctx))
	try.Must(t, a.Promote(ctx, own))
	if g, err := a.Together(ctx, b.state()); err != nil || !g.Safe {
		t.Fatalf("%+v, %v", g, err)
	}
	try.Must(t, b.Detach(ctx))
	try.Must(t, a.Detach(ctx))
	a.wants(replica.Primary)
	b.wants(replica.Idle)
	try.Must(t, <-insert(a.app(), 1<<41)) // it waits for nobody
}

func with(c replica.Claim, change func(*replica.Claim)) replica.Claim {
	change(&c)
	return c
}

// TestKillUnderLoad kills the primary while clients write, and so each server once.
func TestKillUnderLoad(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	killUnderLoad(t, 2)
}

// TestKillUnderLoadAtLength does it again and again.
func TestKillUnderLoadAtLength(t *testing.T) {
	need.Drill(t, "P2: a primary of MariaDB is killed 40 times under load, and no row that it acknowledged is lost",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	killUnderLoad(t, 40)
}

// killUnderLoad kills the primary at points of chance.
func killUnderLoad(t *testing.T, kills int) {
	a, b := pair(t)
	join(t, a, b)
	var l ledger
	for round := range kills {
		ctx, n := try.Context(t), l.size()
		stop := l.write(a, 6)
		try.Until(t, "rows", func() bool { return l.size() > n+100 })
		c := license(t, a)
		try.Until(t, "rows", func() bool { return l.size() > n+300 })
		try.Must(t, a.cmd.Kill9(ctx))
		stop()
		a.wants(replica.Down)
		try.Must(t, b.Promote(ctx, c))
		if lost := l.missing(b); len(lost) > 0 {
			t.Fatalf("round %d: %d of %d acknowledged rows are lost: %v", round, len(lost), l.size(), lost)
		}
		join(t, b, a)
		if st := a.state(); len(replica.Errant(st.State, b.state().State)) != 0 {
			t.Fatalf("round %d: errant: %+v", round, st)
		}
		a, b = b, a
	}
	if lost := l.missing(a); len(lost) > 0 {
		t.Errorf("%d rows are lost", len(lost))
	}
	if a.seeds+b.seeds != 0 {
		t.Errorf("%d copies were made", a.seeds+b.seeds)
	}
	t.Logf("%d rows acknowledged, %d kills", l.size(), kills)
}

// TestTheLedgerHasTeeth: a primary that is alone acknowledges what is lost with it. The
// license of before, which the caller should have dropped, is refused, too.
func TestTheLedgerHasTeeth(t *testing.T) {
	need.Drill(t, "P2: what the other tests of MariaDB count as lost is lost where nothing is safe",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	b.sql("STOP SLAVE IO_THREAD")
	try.Must(t, a.Alone(ctx))
	if g := a.state().Guarantee; g.Safe {
		t.Fatalf("a primary that is alone: %+v", g)
	}
	var l ledger
	stop := l.write(a, 2)
	try.Until(t, "rows", func() bool { return l.size() > 50 })
	stop()
	try.Must(t, a.Demote(ctx))
	refused(t, "an unsafe sample", b.Promote(ctx, replica.Claim{License: a.state().Guarantee}))
	b.sql("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only=OFF")
	if lost := l.missing(b); len(lost) != l.size() {
		t.Fatalf("%d of %d rows are missing: want all of them", len(lost), l.size())
	}
}

// blocked commits row 1, and lets another row wait for a replica that receives nothing.
func blocked(t *testing.T, a, b *node, id int64) (c replica.Claim, answer <-chan error) {
	t.Helper()
	db := a.app()
	try.Must(t, <-insert(db, 1))
	c = license(t, a)
	b.sql("STOP SLAVE IO_THREAD")
	answer = insert(db, id)
	try.Until(t, "a blocked commit", func() bool { return a.state().Blocked == 1 })
	return c, answer
}

// TestTheTailOfABlockedPrimaryIsCut: what nobody has acknowledged is in the old primary's
// binary log, and neither on the new primary nor on the old one when it is back. It is saved.
func TestTheTailOfABlockedPrimaryIsCut(t *testing.T) {
	need.Drill(t, "P1: what nobody has acknowledged is cut from an old primary, and saved",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	c, answer := blocked(t, a, b, 2)
	old := a.id()
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	try.Must(t, a.Demote(short))
	if alive, err := a.cmd.Process(ctx); err == nil {
		t.Fatalf("a blocked primary was not killed: %v is there, it was %v", alive, old)
	}
	if err := <-answer; err == nil {
		t.Fatal("the blocked commit was acknowledged")
	}
	try.Must(t, b.Promote(ctx, c))
	save := filepath.Join(try.ShortDir(t), "errant.sql")
	try.Must(t, a.Resync(ctx, b.source(save)))
	join(t, b, a)
	saved(t, strings.TrimSuffix(save, ".sql")+"-end.sql", "@1=2", "@1=1 ")
	if left, err := filepath.Glob(save + "*"); err != nil || len(left) > 0 {
		t.Errorf("left beside it: %v, %v", left, err)
	}
	for _, n := range []*node{a, b} {
		if got := n.value("SELECT GROUP_CONCAT(id) FROM app.log"); got != "1" {
			t.Errorf("server %d has the rows %s: want 1", n.cfg.ServerID, got)
		}
	}
	if b.seeds != 0 {
		t.Errorf("%d copies were made", b.seeds)
	}
}

// TestDemoteBesideClientsThatComeAgain: whoever can not write to a read-only server does not hold
// a switch up, however often it connects; whoever can has the server ended.
func TestDemoteBesideClientsThatComeAgain(t *testing.T) {
	need.Drill(t, "P1: clients that connect again and again do not hold a switch up",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	for _, c := range []struct {
		grant  string
		within time.Duration // it may use all of it for clients that do not end
		want   replica.Role
	}{{"SELECT ON *.* TO app@'%'", time.Minute, replica.Idle}, {"READ ONLY ADMIN ON *.* TO app@'%'", 3 * time.Second, replica.Down}} {
		a, b := pair(t)
		a.sql("GRANT " + c.grant)
		join(t, a, b)
		db := a.app()
		ctx, cancel := context.WithCancel(context.Background())
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for ctx.Err() == nil { // an error is the end of its session, and it comes again
					var one int
					_ = db.QueryRowContext(ctx, "SELECT 1").Scan(&one)
				}
			})
		}
		short, end := context.WithTimeout(try.Context(t), c.within)
		err := a.Demote(short)
		st := a.state()
		end()
		cancel()
		clients.Wait()
		try.Must(t, err)
		if st.Role != c.want {
			t.Errorf("clients with %s: the database is %s, want %s", c.grant, st.Role, c.want)
		}
	}
}

// TestErrantTransactions: the old primary was started in the role of a primary, which
// commits its tail. It is saved, and the server seeded anew.
func TestErrantTransactions(t *testing.T) {
	need.Drill(t, "P1: an old primary that committed more is saved, and copied anew",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	c, answer := blocked(t, a, b, 4711)
	try.Must(t, a.Demote(ctx))
	if err := <-answer; err == nil {
		t.Fatal("the blocked commit was acknowledged")
	}
	try.Must(t, b.Promote(ctx, c))
	try.Must(t, b.Alone(ctx))
	try.Must(t, <-insert(b.app(), 2))
	try.Must(t, a.start(ctx, "MASTER"))
	if got := a.value("SELECT COUNT(*) FROM app.log WHERE id=4711"); got != "1" {
		t.Fatalf("the tail is not there: this tests nothing")
	}
	errant := replica.Errant(a.state().State, b.state().State)
	if len(errant) != 1 || errant[0].Server != 1 {
		t.Fatalf("errant: %+v", errant)
	}
	save := filepath.Join(try.ShortDir(t), "errant.sql")
	refused(t, "no file", a.Resync(ctx, b.source("")))
	from := b.source(save)
	from.Seed = nil
	refused(t, "no copy", a.Resync(ctx, from))
	if b.seeds != 0 || a.value("SELECT COUNT(*) FROM app.log WHERE id=4711") != "1" {
		t.Fatal("a refused resync has changed something")
	}
	try.Must(t, a.Resync(ctx, b.source(save)))
	if b.seeds != 1 {
		t.Fatalf("%d copies were made: want 1", b.seeds)
	}
	saved(t, save, "@1=4711", "@1=2", "@1=1 ")
	if g, err := b.Together(ctx, a.state()); err != nil || !g.Safe {
		t.Fatalf("%+v, %v", g, err)
	}
	try.Until(t, "the rows of the primary", func() bool { return a.value("SELECT GROUP_CONCAT(id ORDER BY id) FROM app.log") == "1,2" })
	// The copy knows what its peer has from before: nobody is errant after two more switches.
	try.Must(t, <-insert(b.app(), 3))
	for range 2 {
		c := license(t, b)
		try.Must(t, b.Demote(ctx))
		try.Must(t, a.Promote(ctx, c))
		join(t, a, b)
		a, b = b, a
	}
	if a.seeds+b.seeds != 1 {
		t.Errorf("%d copies were made: want 1", a.seeds+b.seeds)
	}
	sum := "CHECKSUM TABLE app.log"
	if x, y := a.sum(sum), b.sum(sum); x != y {
		t.Errorf("the servers have %s and %s", x, y)
	}
}
