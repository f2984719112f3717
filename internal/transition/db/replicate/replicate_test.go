package replicate

import (
	"context"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/copier"
	"holdfast/testbed/need"
)

const firstRows = `
USE old_nova;
INSERT INTO instances (id, uuid, name, notes, at, level, project, owner) SELECT seq, CONCAT('u', seq), CONCAT('vm ', seq), REPEAT('x', seq), '2020-01-01 00:00:00.123', seq % 256, CONCAT('p', seq % 10), CONCAT('o', seq) FROM seq_1_to_60;
INSERT INTO extra (instance, flavor) SELECT CONCAT('u', seq), CONCAT('{"f": ', seq, '}') FROM seq_1_to_50;
INSERT INTO bdm (instance, boot_index, kind) SELECT CONCAT('u', seq), seq % 3, 'volume' FROM seq_1_to_60;
INSERT INTO tags SELECT CONCAT('r', seq), CONCAT('té', seq), seq FROM seq_1_to_20;
INSERT INTO aggregates (id, name) SELECT seq, CONCAT('agg', seq) FROM seq_1_to_10;
INSERT INTO bins SELECT CONCAT('k', seq), seq / 7, 'a,c', seq, seq / 8 FROM seq_1_to_20;
`

// changes of each kind, with a text that says what is special.
var changes = []struct{ name, sql string }{
	{"inserted, updated, deleted", "INSERT INTO instances (id, uuid, name, project) VALUES (100, 'new', NULL, NULL); " +
		"UPDATE instances SET name = 'ünï 💥', level = 255 WHERE id < 5; DELETE FROM instances WHERE id = 6"},
	{"a key that changes", "UPDATE instances SET id = 1000 WHERE id = 7; UPDATE tags SET resource = 'R1' WHERE " +
		"resource = 'r1'; UPDATE tags SET value = 7 WHERE resource = 'r2'; DELETE FROM tags WHERE resource = 'r3'; " +
		"UPDATE bins SET k = X'0001' WHERE k = 'k1'"},
	{"keys that change places", "UPDATE instances SET id = -1 WHERE id = 8; UPDATE instances SET id = 8 WHERE id = " +
		"9; UPDATE instances SET id = 9 WHERE id = -1"},
	{"unique values that change places", "UPDATE aggregates SET name = 'tmp' WHERE id = 1; UPDATE aggregates SET " +
		"name = 'agg1' WHERE id = 2; UPDATE aggregates SET name = 'agg2' WHERE id = 1"},
	{"a unique value of a deleted row", "UPDATE aggregates SET deleted = id WHERE id = 3; INSERT INTO aggregates " +
		"(id, name) VALUES (30, 'agg3')"},
	{"joined tables only", "UPDATE extra SET flavor = 'other' WHERE instance = 'u10'; UPDATE extra SET deleted = id " +
		"WHERE instance = 'u11'; DELETE FROM extra WHERE instance = 'u12'; UPDATE extra SET instance = 'u55' WHERE instance = 'u13'"},
	{"found tables only", "UPDATE bdm SET boot_index = NULL WHERE instance = 'u3'; UPDATE bdm SET boot_index = 0 " +
		"WHERE instance = 'u4'; UPDATE bdm SET kind = 'image' WHERE instance = 'u6'; DELETE FROM bdm WHERE instance " +
		"= 'u9'; UPDATE bdm SET instance = 'u1' WHERE instance = 'u15'"},
	{"soft deletes and their end", "UPDATE instances SET deleted = 1 WHERE id = 20; UPDATE instances SET deleted = 1 " +
		"WHERE id = 21; UPDATE instances SET deleted = 0 WHERE id = 21"},
	{"a transaction that is rolled back", "START TRANSACTION; DELETE FROM instances; UPDATE aggregates SET name = " +
		"CONCAT(name, '!'); ROLLBACK"},
	{"a part of one", "START TRANSACTION; UPDATE instances SET name = 'yes' WHERE id = 22; SAVEPOINT a; UPDATE " +
		"instances SET name = 'no' WHERE id = 23; ROLLBACK TO SAVEPOINT a; COMMIT"},
	{"huge texts", "UPDATE instances SET notes = REPEAT('ä', 3000000) WHERE id = 24; UPDATE instances SET notes = '' " +
		"WHERE id = 25; UPDATE instances SET notes = NULL WHERE id = 26"},
	{"all types", "INSERT INTO bins VALUES (X'00', NULL, '', b'111111111', -999.999), (X'FF00FF', 0.1, 'a,b,c', 0, " +
		"0), ('12345678', -1e30, NULL, NULL, NULL); INSERT INTO tags VALUES ('a''b', 'c\\\\', 18446744073709551615), ('', '', 0)"},
	{"more rows than a batch, in one transaction", "INSERT INTO instances (uuid, name, project) SELECT " +
		"CONCAT('many', seq), 'many', 'p1' FROM seq_1_to_5000; UPDATE instances SET name = 'more' WHERE name = 'many'"},
	{"a transaction of other tables", "INSERT INTO other (x) SELECT seq FROM seq_1_to_100"},
	{"tables of others that come and go", "CREATE TABLE more (id INT); INSERT INTO more VALUES (1); ALTER TABLE more " +
		"ADD x INT; DROP TABLE more"},
	{"a new file of the log", "FLUSH BINARY LOGS; UPDATE instances SET name = 'in the new file' WHERE id = 27; FLUSH " +
		"BINARY LOGS; FLUSH BINARY LOGS"},
}

func TestChangesAreCarriedOver(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(firstRows)
		w.copy()
		w.equal()
		for _, c := range changes {
			w.src.SQL("USE old_nova; " + c.sql + ";")
			r := w.mustFollow()
			if d := w.differences(); d != nil {
				t.Errorf("%s: %+v: %s", c.name, r, strings.Join(d, "\n"))
			}
			if j := w.state(); j.State != copier.Done || j.File == "" {
				t.Errorf("%s: journal %+v", c.name, j)
			}
		}
	})
}

// TestAllAtOnce: the same, read in one go, when nothing of what the log says is the state
// any more.
func TestAllAtOnce(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(firstRows)
		w.copy()
		for _, c := range changes {
			w.src.SQL("USE old_nova; " + c.sql + ";")
		}
		r := w.mustFollow()
		w.equal()
		if r.Transactions == 0 || r.Rows < 5000 || !strings.Contains(r.Position, ".0") {
			t.Errorf("%+v", r)
		}
		// Nothing is written twice.
		if r = w.mustFollow(); r.Rows != 0 || r.Transactions != 0 {
			t.Errorf("again: %+v", r)
		}
	})
}

func TestFollowEndsWhenItIsStopped(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		w.src.SQL(firstRows)
		w.copy()
		stop := make(chan struct{})
		var last Progress
		type end struct {
			r   *Result
			err error
		}
		ended := make(chan end, 1)
		go func() {
			r, err := w.follow(Options{Stop: stop, Progress: func(p Progress) {
				last = p
				for _, c := range p.Tables {
					p.RowsChanged -= c.Rows
				}
				if p.RowsChanged != 0 {
					t.Errorf("progress %+v: %d rows of no table", last, p.RowsChanged)
				}
			}})
			ended <- end{r, err}
		}()
		time.Sleep(500 * time.Millisecond)
		w.src.SQL("USE old_nova; UPDATE instances SET name = 'last'")
		close(stop)
		select {
		case e := <-ended:
			if e.err != nil || e.r.Rows == 0 {
				t.Fatal(e.r, e.err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("it does not end")
		}
		w.equal()
		if last.Events == 0 || last.Position == "" {
			t.Errorf("progress %+v", last)
		}
		if j := w.state(); j.State != copier.Done {
			t.Errorf("journal %+v", j)
		}
	})
}

func TestAbortGoesOn(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.copy()
	for _, after := range []time.Duration{0, time.Second} { // before it has its lock, and while it follows
		ctx, cancel := context.WithCancel(t.Context())
		if after == 0 {
			cancel()
		}
		time.AfterFunc(after, cancel)
		_, err := Run(ctx, w.mapping, w.plan, w.source, w.target, w.sourceDB, Options{})
		if err == nil || !strings.Contains(err.Error(), "the same run goes on") {
			t.Fatalf("stopped after %s it ended with: %v", after, err)
		}
	}
	w.src.SQL("USE old_nova; UPDATE instances SET name = 'last'")
	w.mustFollow()
	w.equal()
}
