package copier

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/mapping"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestValuesThatMoveWhileTheyAreCopied: a unique value goes from a row that was copied to one
// that is copied later. It stops a copy that nothing follows; with what follows, the later row
// has it, and the other is made anew then.
func TestValuesThatMoveWhileTheyAreCopied(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t)
	w := newWorld(t, one, two, 3000)
	one.SQL(newSchema)
	one.SQL("UPDATE old.names SET nr = 601 WHERE nr = 11")
	for _, how := range []How{OneServer, Load, Insert} {
		w := &world{t: t, rs: one, rt: two, source: w.source}
		if how == OneServer {
			w.rt = one
		}
		w.rt.SQL("SET GLOBAL local_infile = " + map[bool]string{true: "1", false: "0"}[how == Load])
		w.target = w.rt.Server("target")
		w.clear()
		var err error
		if w.plan, err = makePlan(w.source, w.target, mappingText); err != nil {
			t.Fatal(err)
		}
		w.rt.SQL("ALTER TABLE new.names ADD UNIQUE one (nr)")
		opt := Options{ChunkRows: 50, Parallel: 1}
		if _, err := Run(try.Context(t), w.plan, "hash", w.source, w.target, opt); err == nil || !strings.Contains(err.Error(), "'601'") {
			t.Fatalf("%s: %v", how, err)
		}
		if marks := w.rt.SQL("SELECT COUNT(*) FROM migrate_journal.tables WHERE gave_way"); marks != "0" {
			t.Errorf("%s: rows of %s tables gave way where none may", how, marks)
		}
		opt.Follows = true
		var said bytes.Buffer
		opt.Log = slog.New(slog.NewTextHandler(&said, nil))
		if res := w.run(opt); !res.Resumed {
			t.Errorf("%s: %+v", how, res)
		}
		if lines := strings.Split(said.String(), "\n"); len(lines) != 2 ||
			!strings.Contains(lines[0],
				`level=WARN msg="rows gave way to others that have their unique values now" table=new.names chunk=`) ||
			!strings.Contains(lines[0], "Duplicate entry '601'") {
			t.Errorf("%s: %q is logged", how, lines)
		}
		if marks := w.rt.SQL("SELECT target FROM migrate_journal.tables WHERE gave_way"); marks != "new.names" {
			t.Errorf("%s: rows of tables %q gave way", how, marks)
		}
		opt.Log = nil
		if j, err := ReadJournal(try.Context(t), w.target.DB); err != nil || !j.Follows || j.State != Copied {
			t.Errorf("%s: journal %+v, %v", how, j, err)
		}
		rows, left := w.rt.SQL("SELECT COUNT(*) FROM new.names"), w.rs.SQL("SELECT COUNT(DISTINCT nr) FROM old.names")
		if value := w.rt.SQL("SELECT COUNT(*) FROM new.names WHERE nr = 601"); value != "1" || rows != left {
			t.Errorf("%s: %s rows with the value, %s of %s rows", how, value, rows, left)
		}
		opt.Follows = false
		if _, err := Run(try.Context(t), w.plan, "hash", w.source, w.target, opt); !errors.Is(err, ErrOther) ||
			!strings.Contains(err.Error(), "begun to be followed") {
			t.Errorf("%s: gone on with otherwise: %v", how, err)
		}
		w.rt.SQL("UPDATE migrate_journal.run SET state = 'done', binlog_file = 'log.07', binlog_pos = 8")
		if res := w.run(opt); !res.Resumed || res.RowsPerSecond != 0 {
			t.Errorf("%s: after the cut-over: %+v", how, res)
		}
		opt.Follows = true
		if _, err := Run(try.Context(t), w.plan, "hash", w.source, w.target, opt); !errors.Is(err, ErrDone) ||
			!strings.Contains(err.Error(), "at log.07:8 of") {
			t.Errorf("%s: followed after the cut-over: %v", how, err)
		}
	}
}

// TestPartsOfOneTable: rows of one part may give way to those of another.
func TestPartsOfOneTable(t *testing.T) {
	p := &mapping.Plan{Tables: []mapping.Planned{{Target: "n.a", Table: "n.a"}, {Target: "n.ab", Table: "n.ab"},
		{Target: "n.a#old", Table: "n.a"}}}
	if got := sharing(p, "n.a"); !slices.Equal(got, []string{"n.a", "n.a#old"}) {
		t.Errorf("%q", got)
	}
}
