package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/host/replica"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// in writes a row in a domain, as a session with the privilege can.
func (n *node) in(domain, id int) {
	n.t.Helper()
	c, err := n.root.Conn(n.t.Context())
	try.Must(n.t, err)
	defer c.Close()
	try.Must(n.t, n.exec(n.t.Context(), c, fmt.Sprintf("SET SESSION gtid_domain_id=%d", domain),
		fmt.Sprintf("INSERT INTO app.log VALUES (%d, NOW(6))", id)))
}

// TestStrayRows: what somebody has written to a quiet standby is seen there, and by the primary that asks it, and is saved, whichever
// domains the binary logs have.
func TestStrayRows(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	for i, domain := range []int{5, 0, 5, 4000000000, 0} {
		a.in(domain, i+1)
	}
	try.Until(t, "all rows", func() bool { return b.value("SELECT COUNT(*) FROM app.log") == "5" })
	if st := b.state(); len(st.Stray) > 0 || st.Problem != "" {
		t.Fatalf("a replica that nobody has written to: %+v", st)
	}
	try.Must(t, a.PeerAnswers(ctx, b.source("")))
	// What the first file has is that there were such domains before it.
	b.sql("FLUSH BINARY LOGS", "PURGE BINARY LOGS TO 'bin.000002'")
	b.in(0, 101)
	b.in(11, 102)
	st := b.state()
	if got := gtids(st.Stray); len(st.Stray) != 2 || !strings.Contains(got, "0-2-") ||
		!strings.Contains(got, "11-2-1") || !strings.Contains(st.Problem, got) {
		t.Errorf("stray: %s, problem %q", got, st.Problem)
	}
	if err := a.PeerAnswers(ctx, b.source("")); err == nil || !strings.Contains(err.Error(), "11-2-1") {
		t.Errorf("the primary asks a standby with rows of its own: %v", err)
	}
	var unsaved Unsaved
	if err := b.Resync(ctx, a.source("")); !errors.As(err, &unsaved) || a.seeds > 0 {
		t.Errorf("without a file to save them: %v, %d copies", err, a.seeds)
	}
	save := filepath.Join(try.ShortDir(t), "stray.sql")
	try.Must(t, b.Resync(ctx, a.source(save)))
	saved(t, save, "@1=101", "@1=5")
	saved(t, save, "@1=102", "@1=3")
	if g, err := a.Together(ctx, b.state()); err != nil || !g.Safe || a.seeds != 1 {
		t.Fatalf("%+v, %v, %d copies", g, err, a.seeds)
	}
	if st := b.state(); len(st.Stray) > 0 || st.Problem != "" {
		t.Errorf("a new copy: %+v", st)
	}
	// A former primary is none that somebody has written to.
	c := license(t, a)
	try.Must(t, a.Demote(ctx))
	try.Must(t, b.Promote(ctx, c))
	join(t, b, a)
	b.in(7, 103)
	if st := a.state(); len(st.Stray) > 0 || len(replica.Errant(st.State, b.state().State)) > 0 {
		t.Errorf("a former primary: %+v", st)
	}
	// What was lost with a file is not given up.
	try.Until(t, "the row", func() bool { return a.value("SELECT COUNT(*) FROM app.log") == "6" })
	a.in(7, 104)
	a.sql("FLUSH BINARY LOGS")
	newest := newestLog(a)
	try.Until(t, "the older files to go", func() bool {
		a.sql("PURGE BINARY LOGS TO " + text(newest))
		logs, err := logFiles(a.logIndex(), a.datadir)
		return err == nil && len(logs) == 1
	})
	a.in(7, 105)
	if err := a.Resync(ctx, b.source(filepath.Join(filepath.Dir(save), "second.sql"))); !errors.As(err, &unsaved) || b.seeds > 0 {
		t.Errorf("with a transaction that is in no file any more: %v, %d copies", err, b.seeds)
	}
}

// halfway is a connection that has something happen between the first two questions.
type halfway struct {
	querier
	asked int
	then  func()
}

func (h *halfway) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if h.asked++; h.asked == 2 {
		h.then()
	}
	return h.querier.QueryContext(ctx, query, args...)
}

// TestAFormerPrimaryIsLookedAt while it begins to follow: what it wrote as a primary is not what somebody has written to a standby, and
// it has no problem that a switch would be refused for.
func TestAFormerPrimaryIsLookedAt(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	a.in(0, 1)
	c := license(t, a)
	try.Must(t, a.Demote(ctx))
	try.Must(t, b.Promote(ctx, c))
	f, err := a.look(ctx, &halfway{querier: a.db, then: func() { // as follow does, before START SLAVE
		a.sql("SET GLOBAL gtid_slave_pos="+text(a.value("SELECT @@gtid_binlog_pos")),
			fmt.Sprintf("CHANGE MASTER TO master_host='127.0.0.1', master_port=%d, master_user='repl', "+
				"master_password=%s, master_use_gtid=slave_pos", b.port, text(replPassword)))
	}})
	try.Must(t, err)
	if !f.configured || f.sql {
		t.Fatalf("this tests nothing: %+v", f)
	}
	if got := f.stray(); len(got) > 0 {
		t.Errorf("stray: %s", gtids(got))
	}
	join(t, b, a)
	a.in(0, 2) // behind read_only's back
	if got := a.state().Stray; len(got) != 1 {
		t.Errorf("a row of its own: %s", gtids(got))
	}
}

// newestLog is the newest binary log.
func newestLog(n *node) string {
	n.t.Helper()
	logs, err := n.rows(n.t.Context(), n.root, "SHOW BINARY LOGS")
	try.Must(n.t, err)
	return logs[len(logs)-1]["log_name"]
}

// TestADomainOfItsOwn: the domain of an option file is not the server's, which gets the one of the pair behind it.
func TestADomainOfItsOwn(t *testing.T) {
	if !slices.Contains(Options(1), "gtid_domain_id=0") {
		t.Errorf("%q", Options(1))
	}
	vars, master, slaves := well()
	i := slices.IndexFunc(vars, func(v map[string]string) bool { return v["variable_name"] == "GTID_DOMAIN_ID" })
	vars[i]["value"] = "7"
	if why := losses(vars, master, slaves); len(why) != 1 || !strings.HasPrefix(why[0], `gtid_domain_id is "7": want 0`) {
		t.Errorf("%q", why)
	}
}
