package copier

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestADiskThatIsFull: a target without room says so, keeps what is whole, and takes the
// rest when there is room again. Its tables are in one file that can not grow.
func TestADiskThatIsFull(t *testing.T) {
	need.More(t)
	for _, local := range []string{"--local-infile=1", "--local-infile=0"} {
		one, two := aligntest.MariaDB(t), aligntest.MariaDB(t, "--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M", local)
		w := newWorld(t, one, two, 10_000)
		_, err := Run(try.Context(t), w.plan, "hash", w.source, w.target, Options{ChunkRows: 20})
		if err == nil || !strings.Contains(err.Error(), "Error 1114") || !strings.Contains(err.Error(), "is full") {
			t.Fatal(err)
		}
		two.Kill()
		two.Start("--innodb-data-file-path=ibdata1:12M;ibdata2:12M:autoextend")
		done := two.SQL("SELECT COUNT(*) FROM migrate_journal.ranges WHERE done")
		if res := w.run(Options{ChunkRows: 20}); !res.Resumed || done == "0" {
			t.Errorf("resumed %v, after %s chunks", res.Resumed, done)
		}
		w.check()
	}
}

// TestTheSourceChangesMeanwhile: a column that goes while rows are copied ends the copy,
// which goes on when the column is back.
func TestTheSourceChangesMeanwhile(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t)
	w := newWorld(t, one, two, 1000)
	begun(t, w, Options{})
	one.SQL("ALTER TABLE old.names CHANGE nr number INT")
	_, err := Run(try.Context(t), w.plan, "hash", w.source, w.target, Options{})
	if err == nil || !strings.Contains(err.Error(), "table new.names") || !strings.Contains(err.Error(), "Unknown column") {
		t.Fatal(err)
	}
	one.SQL("ALTER TABLE old.names CHANGE number nr INT")
	w.run(Options{})
	w.check()
}
