package mariadb

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestCopiesThatLeave are databases of their own afterwards, as a distribution's unit starts them:
// both have every acknowledged row, replicate from nobody, and have none of our accounts.
func TestCopiesThatLeave(t *testing.T) {
	need.Drill(t, "P2: a copy leaves the pair only with all that was applied",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	refused(t, "a primary leaves", a.Leave(ctx))
	lock, err := b.root.Conn(ctx)
	try.Must(t, err)
	_, err = lock.ExecContext(ctx, "LOCK TABLES app.log READ")
	try.Must(t, err)
	var l ledger
	stop := l.write(a, 4)
	try.Until(t, "rows", func() bool { return l.size() > 50 })
	stop()
	try.Must(t, a.Demote(ctx))
	if len(l.missing(b)) == 0 {
		t.Fatal("all is applied: this tests nothing")
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := b.Leave(short); err == nil {
		t.Fatal("it left with rows that are not applied")
	}
	_, err = lock.ExecContext(ctx, "UNLOCK TABLES")
	try.Must(t, err)
	try.Must(t, lock.Close())
	for _, n := range []*node{a, b} {
		try.Must(t, n.Leave(ctx))
		if run, err := n.run(ctx); run != "" || err != nil {
			t.Errorf("node %s: it runs on: %q, %v", n.node(), run, err)
		}
		try.Must(t, n.Leave(ctx))
		plain := &Command{Path: n.cmd.Path, Args: []string{"--no-defaults", "--user=root", "--skip-networking",
			"--socket=" + n.cfg.Socket, "--datadir=" + n.datadir}, Datadir: n.datadir, Log: n.cmd.Log, Tied: true}
		before, err := os.Stat(n.cmd.Log)
		try.Must(t, err)
		try.Must(t, plain.Start(ctx, nil))
		try.Until(t, "the database", func() bool { return n.root.PingContext(ctx) == nil })
		if log, err := os.ReadFile(n.cmd.Log); err != nil || strings.Contains(string(log[before.Size():]), "Starting crash recovery") {
			t.Errorf("node %s: it was not shut down: %v", n.node(), err)
		}
		if lost := l.missing(n); len(lost) > 0 {
			t.Errorf("node %s: %d of %d rows are lost", n.node(), len(lost), l.size())
		}
		if rows, err := n.rows(ctx, n.root, "SHOW SLAVE STATUS"); err != nil || len(rows) != 0 {
			t.Errorf("node %s: it replicates: %v, %v", n.node(), rows, err)
		}
		if got := n.value("SELECT COUNT(*) FROM mysql.user WHERE user IN ('hold fast', 'repl')"); got != "0" {
			t.Errorf("node %s: %s accounts are left", n.node(), got)
		}
		n.sql("INSERT INTO app.log VALUES (-1, NOW(6))")
	}
}
