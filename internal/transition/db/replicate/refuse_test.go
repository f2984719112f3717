package replicate

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

func TestAValueWithoutAnID(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(firstRows)
		w.copy()
		w.src.SQL("USE old_nova; UPDATE instances SET name = 'a' WHERE id = 1; INSERT INTO instances (id, uuid, " +
			"project) VALUES (500, 'x', 'unknown')")
		w.refused("nova.instances: column project", `project "unknown"`, "key 500", "want a line for it among the IDs of project")
		if j := w.state(); j.State == copier.Done {
			t.Errorf("journal %+v", j)
		}
		if got := w.dst.SQL("SELECT COUNT(*) FROM new_nova.instances WHERE id = 500"); got != "0" {
			t.Error("the row is there:", got)
		}
		w.refused(`project "unknown"`)
		w.src.SQL("INSERT INTO migrate_ids.ids_project VALUES ('unknown', 'known')")
		w.mustFollow()
		w.equal()
		if got := w.dst.SQL("SELECT project FROM new_nova.instances WHERE id = 500"); got != "known" {
			t.Error("project", got)
		}
	})
}

// TestWhatSpoilsTheLog: each of these ends what can be followed, and says so, as often as it is tried.
func TestWhatSpoilsTheLog(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.copy()
	// nothing of ours
	w.src.SQL("CREATE DATABASE heartbeat; USE heartbeat; SET SESSION binlog_format = STATEMENT; CREATE TABLE t (id " +
		"INT) ENGINE=InnoDB; INSERT INTO t VALUES (1)")
	w.mustFollow()
	w.equal()
	for _, c := range []struct {
		name, sql, undo string
		texts           []string
	}{
		{"a change of a table", "ALTER TABLE instances ADD more INT", "ALTER TABLE instances DROP more",
			[]string{"table old_nova.instances", "changes the table itself", "ALTER TABLE instances ADD more INT", "begun anew"}},
		{"a truncated table", "CREATE TABLE keep AS SELECT * FROM tags; TRUNCATE TABLE tags",
			"INSERT INTO tags SELECT * FROM keep; DROP TABLE keep", []string{"table old_nova.tags", "TRUNCATE TABLE"}},
		{"a truncation with a setting of its own", "CREATE TABLE keep AS SELECT * FROM tags; SET STATEMENT " +
			"max_statement_time=60 FOR TRUNCATE TABLE tags", "INSERT INTO tags SELECT * FROM keep; DROP TABLE keep",
			[]string{"table old_nova.tags", "FOR TRUNCATE TABLE"}},
		{"rows that are deleted and analyzed", "SET SESSION binlog_format = STATEMENT; ANALYZE FORMAT=JSON DELETE " +
			"FROM tags WHERE tag = 'none'", "", []string{"database old_nova", "ANALYZE FORMAT=JSON"}},
		{"a table in another's place", "CREATE TABLE bdm2 LIKE bdm; RENAME TABLE bdm TO bdm1, bdm2 TO bdm",
			"DROP TABLE bdm; RENAME TABLE bdm1 TO bdm", []string{"table old_nova.bdm", "RENAME"}},
		{"a session that logs statements", "SET SESSION binlog_format = STATEMENT; UPDATE instances SET name = 'x' " +
			"WHERE id = 1", "", []string{"database old_nova", "binlog_format was not ROW"}},
		{"a trigger of a table that is not mapped", "CREATE TABLE log (id INT) ENGINE=InnoDB; CREATE TRIGGER reach " +
			"AFTER INSERT ON log FOR EACH ROW UPDATE aggregates SET name = 'by a trigger' WHERE id = 1; SET SESSION " +
			"binlog_format = STATEMENT; INSERT INTO log VALUES (1)", "DROP TABLE log", []string{"database old_nova", "INSERT INTO log"}},
		{"a function, called from elsewhere", "\nDELIMITER //\nCREATE FUNCTION f() RETURNS INT DETERMINISTIC " +
			"MODIFIES SQL DATA BEGIN UPDATE aggregates SET name = 'by a function' WHERE id = 1; RETURN 1; " +
			"END//\nDELIMITER ;\nUSE mysql; SET SESSION binlog_format = STATEMENT; SELECT old_nova.f()",
			"DROP FUNCTION f", []string{"database old_nova", "SELECT"}},
		{"a session with small images", "SET SESSION binlog_row_image = MINIMAL; UPDATE extra SET flavor = 'x' " +
			"WHERE id = 1", "", []string{"table nova.extra", "a row without column instance", "binlog_row_image FULL"}},
		{"a transaction of XA", "XA START 'a'; UPDATE instances SET name = 'xa' WHERE id = 2; XA END 'a'; XA PREPARE " +
			"'a'; XA COMMIT 'a'", "", []string{"table nova.instances", "XA"}},
	} {
		t.Log(c.name)
		w.src.SQL("USE old_nova; " + c.sql + ";")
		w.refused(c.texts...)
		w.refused(c.texts...) // a run that is begun anew does not begin behind it
		w.src.SQL("USE old_nova; " + c.undo + ";")
		// As if the copy had begun after it.
		at := strings.Fields(w.src.SQL("SHOW MASTER STATUS"))
		w.dst.SQL("UPDATE migrate_journal.run SET binlog_file = '" + at[0] + "', binlog_pos = " + at[1])
	}
}

func TestALogThatIsPurged(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.copy()
	from := w.state()
	w.src.SQL("FLUSH BINARY LOGS")
	// The server keeps a file as long as it may need it itself.
	for end := time.Now().Add(30 * time.Second); strings.Contains(w.src.SQL("SHOW BINARY LOGS"),
		from.File); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the log is not purged: ", w.src.SQL("SHOW BINARY LOGS"))
		}
		w.src.SQL("PURGE BINARY LOGS TO '" + strings.Fields(w.src.SQL("SHOW MASTER STATUS"))[0] + "'")
	}
	w.refused("position "+place{from.File, from.Pos}.String(), "is not to be had from the binary log", "begun anew")
	if j := w.state(); j.State != copier.Copied {
		t.Errorf("journal %+v", j)
	}
}

func TestAJournalThatIsNotThere(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.refused("there is no journal in database migrate_journal")
	w.copy()
	w.dst.SQL("UPDATE migrate_journal.run SET state = 'copying'")
	w.refused("the copy has not ended")
	w.dst.SQL("UPDATE migrate_journal.run SET state = 'copied', binlog_file = NULL, binlog_pos = NULL")
	w.refused("no position of the source's binary log")
}

// TestServersThatCanNotBeFollowed: all that is wrong is told at once, before anything is.
func TestServersThatCanNotBeFollowed(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	ready := func(s *server.Server, texts ...string) {
		t.Helper()
		err := Ready(t.Context(), s, w.plan)
		if len(texts) == 0 && err != nil {
			t.Error(err)
		}
		for _, text := range texts {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("error %v\nhas not %q", err, text)
			}
		}
	}
	ready(w.source)
	w.src.SQL("SET GLOBAL binlog_format = MIXED; SET GLOBAL binlog_row_image = MINIMAL")
	ready(w.source, `binlog_format is "MIXED": want ROW`, `binlog_row_image is "MINIMAL": want FULL`)
	w.src.SQL("SET GLOBAL binlog_format = ROW; SET GLOBAL binlog_row_image = FULL")
	ready(w.target, `log_bin is "OFF": want ON`)
	w.src.SQL("CREATE USER poor@'%' IDENTIFIED BY 'x'; GRANT SELECT, BINLOG MONITOR ON *.* TO poor@'%'")
	poor := func() *server.Server {
		t.Helper()
		s, err := server.Open(t.Context(), "source", strings.Replace(w.src.DSN(), aligntest.User+":"+aligntest.Password,
			"poor:x", 1), server.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	ready(poor(), "the account may not read the binary log: want REPLICATION SLAVE")
	w.src.SQL("REVOKE BINLOG MONITOR ON *.* FROM poor@'%'")
	ready(poor(), "REPLICATION CLIENT", "BINLOG MONITOR")

	ignoring := aligntest.MariaDB(t, append(binlog(3), "--binlog-ignore-db=old_nova")...)
	ready(ignoring.Server("source"), "the binary log does not have database old_nova")
	others := aligntest.MariaDB(t, append(binlog(3), "--binlog-do-db=x", "--binlog-do-db=y")...)
	ready(others.Server("source"), "the binary log does not have database old_nova")
}

func TestTablesThatCanNotBeFollowed(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	if f := Check(w.plan); len(f) != 0 {
		t.Errorf("%+v", f)
	}
	w.plan.Tables[1].Kept = nil
	f := Check(w.plan)
	if len(f) != 1 || f[0].Table != "api.specs" || !strings.Contains(f[0].Text, "its primary key is not that of table nova.instances") {
		t.Errorf("%+v", f)
	}
	if err := Ready(t.Context(), w.source, w.plan); err == nil || !strings.Contains(err.Error(), "api.specs: can not be followed") {
		t.Error(err)
	}
	w.src.SQL("USE old_nova; ALTER TABLE extra MODIFY deleted FLOAT NOT NULL")
	w.makePlan()
	f = Check(w.plan)
	if len(f) != 2 || f[0].Table != "nova.instances" || f[0].Column != "deleted" || !strings.Contains(f[0].Text, "of type float, exactly") {
		t.Errorf("%+v", f)
	}
}

// TestARowThatTheTargetNeverTakes ends with what the server says, and goes on when it is
// mended.
func TestARowThatTheTargetNeverTakes(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(firstRows)
		w.copy()
		w.dst.SQL("INSERT INTO new_api.aggregates VALUES (77, 'taken')")
		w.src.SQL("USE old_nova; INSERT INTO aggregates (id, name) VALUES (50, 'taken'), (51, 'free')")
		w.refused("api.aggregates", "taken", "in 20 attempts")
		if got := w.dst.SQL("SELECT COUNT(*) FROM new_api.aggregates WHERE id > 49"); got != "1" {
			t.Error("rows of the batch are there:", got)
		}
		w.dst.SQL("DELETE FROM new_api.aggregates WHERE id = 77")
		w.mustFollow()
		w.equal()
	})
}

// TestAValueThatMovesOn: the log says that row 1 changed, and the source has a value in it
// already that row 2 gives away later in the log.
func TestAValueThatMovesOn(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.copy()
	w.src.SQL("USE old_nova; UPDATE aggregates SET name = 'a' WHERE id = 1")
	w.src.SQL("USE old_nova; UPDATE aggregates SET name = 'b' WHERE id = 2; UPDATE aggregates SET name = 'agg2' WHERE id = 1")
	f, err := begin(t.Context(), w.plan, w.source, w.target, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.disconnect()
	s, err := open(t.Context(), w.source, f.at, f.mapped)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	read := func() {
		t.Helper()
		for end := time.Now().Add(patient); ; {
			e, err := s.next(t.Context(), time.Second)
			if err != nil || time.Now().After(end) {
				t.Fatal(e, err)
			}
			if e == nil {
				continue
			}
			before, at := f.transactions, f.at
			if err := f.event(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if f.within && f.at != at {
				t.Errorf("the position %s is within a transaction", f.at)
			}
			if f.transactions > before {
				return
			}
		}
	}
	read()
	if err := f.carry(t.Context()); err != nil || f.failures != 1 || f.batch.size != 1 {
		t.Fatal(err, f.failures, f.batch.size)
	}
	if f.due() {
		t.Error("the batch is tried again before the log was read")
	}
	read()
	if err := f.carry(t.Context()); err != nil || f.failures != 0 || f.batch.size != 0 {
		t.Fatal(err, f.failures, f.batch.size)
	}
}

func TestAnotherRunHasGoneOn(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.copy()
	w.src.SQL("USE old_nova; UPDATE instances SET name = 'a'")
	ended := make(chan error, 1)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		_, err := w.follow(Options{Stop: stop})
		ended <- err
	}()
	for end := time.Now().Add(30 * time.Second); w.differences() != nil && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	// A second one is refused as long as the first one runs.
	w.refused("another run is under way")
	w.dst.SQL("UPDATE migrate_journal.run SET binlog_pos = 4")
	w.src.SQL("USE old_nova; UPDATE instances SET name = 'b'")
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "another run has gone on") {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}
