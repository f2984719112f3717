package copier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestAllWaysOfRows: one server; streamed; by INSERT. Each brings the same rows.
func TestAllWaysOfRows(t *testing.T) {
	one := aligntest.MariaDB(t, "--log-bin", "--server-id=1")
	two := aligntest.MariaDB(t, "--character-set-server=latin1", "--default-time-zone=+05:00", "--sql-mode=")
	w := newWorld(t, one, two, 3000)
	one.SQL(newSchema)
	before := aligntest.Checksums(t, one, "old", "migrate_ids")
	for _, c := range []struct {
		how     How
		rt      *aligntest.Rig
		prepare string
		rows    int // of a chunk
	}{
		{OneServer, one, "", 0}, {OneServer, one, "", 7}, {Load, two, "SET GLOBAL local_infile = 1", 0}, {Load, two, "", 100},
		{Insert, two, "SET GLOBAL local_infile = 0", 0}, {Insert, two, "SET GLOBAL max_allowed_packet = 20000", 90},
	} {
		t.Run(fmt.Sprintf("%s by %d", c.how, c.rows), func(t *testing.T) {
			w := &world{t: t, rs: one, rt: c.rt, source: w.source}
			w.rt.SQL(c.prepare)
			w.target = w.rt.Server("target")
			w.clear()
			var err error
			if w.plan, err = makePlan(w.source, w.target, mappingText); err != nil {
				t.Fatal(err)
			}
			m, err := NewMover(try.Context(t), w.plan, w.source, w.target)
			if err != nil || m.How != c.how {
				t.Fatalf("%+v, %v", m, err)
			}
			var last Progress
			res := w.run(Options{ChunkRows: c.rows, Progress: func(p Progress) { last = p }})
			w.check()
			if res.Resumed || len(res.Tables) != 6 || res.Tables[0].Target != "new.items" || res.Tables[0].Rows != 1350 || res.RowsPerSecond <= 0 {
				t.Errorf("%+v", res)
			}
			if last.Percent != 100 || last.Done != 1350+150+750+604+150 || last.Waiting != "" {
				t.Errorf("%+v", last)
			}
			// Again: nothing is left to do.
			if res = w.run(Options{}); !res.Resumed || res.RowsPerSecond != 0 || res.Tables[3].Rows != 604 {
				t.Errorf("again: %+v", res)
			}
			j, err := ReadJournal(try.Context(t), w.target.DB)
			if err != nil || j.Mapping != "hash" || j.State != Copied || time.Since(j.Begun).Abs() > time.Minute {
				t.Errorf("%+v, %v", j, err)
			}
			if j.File == "" || j.Pos == 0 {
				t.Errorf("position of the source: %+v", j)
			}
		})
	}
	if after := aligntest.Checksums(t, one, "old", "migrate_ids"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the source was changed: %v, %v", before, after)
	}
}

// TestTheTargetsUserMayNotReadTheSource: then rows are streamed on one server, too.
func TestTheTargetsUserMayNotReadTheSource(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	w := newWorld(t, r, r, 300)
	r.SQL("CREATE USER t@'%' IDENTIFIED BY 'x'; GRANT ALL ON new.* TO t@'%'; GRANT ALL ON migrate_journal.* TO t@'%'")
	w.target = open(t, "target", fmt.Sprintf("t:x@tcp(127.0.0.1:%d)/", r.Port()))
	m, err := NewMover(try.Context(t), w.plan, w.source, w.target)
	if err != nil || m.How != Load {
		t.Fatalf("%+v, %v", m, err)
	}
	w.run(Options{})
	w.check()
}

func TestWhatIsRefused(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	w := newWorld(t, r, r, 300)
	refused := func(what string, p *mapping.Plan, hash string, opt Options, wants ...string) {
		t.Helper()
		before := r.SQL("SELECT COUNT(*) FROM new.items")
		_, err := Run(try.Context(t), p, hash, w.source, w.target, opt)
		if err == nil {
			t.Fatalf("%s: not refused", what)
		}
		for _, s := range wants {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v: want %q", what, err, s)
			}
		}
		if after := r.SQL("SELECT COUNT(*) FROM new.items"); after != before {
			t.Errorf("%s: rows were written", what)
		}
	}
	refused("workers", w.plan, "hash", Options{Parallel: 1000}, "1000", "1 to 64")
	refused("rows", w.plan, "hash", Options{ChunkRows: -1}, "-1")
	refused("a bad plan", &mapping.Plan{Errors: []mapping.Finding{{Text: "x"}}}, "hash", Options{}, "1 errors")
	r.SQL("INSERT INTO new.names VALUES ('x', 1), ('y', 2); INSERT INTO new.nothing VALUES (1)")
	refused("rows are there", w.plan, "hash", Options{}, "new.names has 2", "new.nothing has 1", "must be empty")
	if got := r.SQL("SHOW DATABASES LIKE 'migrate_journal'"); got != "" {
		t.Errorf("refused, and has made %s", got)
	}
	r.SQL("DELETE FROM new.names; DELETE FROM new.nothing; ALTER TABLE new.nothing ENGINE = MyISAM")
	refused("no transactions", w.plan, "hash", Options{}, "new.nothing is MyISAM", "InnoDB")
	r.SQL("ALTER TABLE new.nothing ENGINE = InnoDB")

	w.run(Options{})
	w.check()
	refused("another mapping", w.plan, "other", Options{}, "with another mapping", "clean --rows")
	other := *w.plan
	other.Tables = other.Tables[:3]
	refused("another plan", &other, "hash", Options{}, "although the mapping is the same", "clean --rows")
	r.SQL("UPDATE migrate_journal.run SET source = 'elsewhere:3306'")
	refused("another source", w.plan, "hash", Options{}, "another source elsewhere:3306 (now ", "clean --rows")
	r.SQL("UPDATE migrate_journal.run SET format = 9")
	refused("another format", w.plan, "hash", Options{}, "has format 9", "want 3")
	if err := Drop(try.Context(t), w.target); err != nil || r.SQL("SHOW DATABASES LIKE 'migrate_journal'") != "" {
		t.Errorf("drop: %v", err)
	}
	refused("no journal", w.plan, "hash", Options{}, "must be empty", "new.parents has 15")
}

// TestTwoRunsAtOnce: the second is refused, and told who is there.
func TestTwoRunsAtOnce(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	w := newWorld(t, r, r, 300)
	locked, unlock, err := Lock(try.Context(t), w.target)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(try.Context(t), w.plan, "hash", w.source, w.target, Options{})
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "connection ") ||
		!strings.Contains(err.Error(), aligntest.User+"@127.0.0.1") {
		t.Errorf("%v", err)
	}
	// Its connection is lost, and taken again.
	id := r.SQL("SELECT IS_USED_LOCK('holdfast_align')")
	r.SQL("KILL " + id)
	waitFor(t, func() bool {
		now := r.SQL("SELECT IS_USED_LOCK('holdfast_align')")
		return now != "NULL" && now != id
	})
	if locked.Err() != nil {
		t.Errorf("ended: %v", context.Cause(locked))
	}
	// It is lost, and someone else is quicker.
	conn, err := w.target.DB.Conn(try.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	go r.SQL("DO SLEEP(0.2); KILL " + r.SQL("SELECT IS_USED_LOCK('holdfast_align')"))
	if _, err := conn.ExecContext(try.Context(t), "DO GET_LOCK('holdfast_align', 30)"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-locked.Done():
		if !errors.Is(context.Cause(locked), ErrBusy) {
			t.Errorf("%v", context.Cause(locked))
		}
	case <-time.After(time.Minute):
		t.Error("the lock was lost, and nobody has noticed")
	}
	unlock()
	discard(conn)
	w.run(Options{})
	w.check()
}

// TestARowThatDoesNotFit: the plan did not see it coming. Nothing of its chunk is there,
// and when it is mended the run goes on.
func TestARowThatDoesNotFit(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t)
	w := newWorld(t, one, two, 3000)
	one.SQL(newSchema)
	for _, how := range []How{OneServer, Load, Insert} {
		t.Run(string(how), func(t *testing.T) {
			w := &world{t: t, rs: one, rt: two, source: w.source}
			if how == OneServer {
				w.rt = one
			}
			w.rt.SQL("SET GLOBAL local_infile = " + map[bool]string{true: "1", false: "0"}[how == Load])
			w.target = w.rt.Server("target")
			var err error
			for what, c := range map[string]struct{ target, source, mends, wants string }{
				"too long": {"MODIFY name VARCHAR(38) COLLATE utf8mb4_unicode_ci NOT NULL", "",
					"MODIFY name VARCHAR(60) COLLATE utf8mb4_unicode_ci NOT NULL", "'name'"},
				"NULL":    {"MODIFY nr INT NOT NULL", "UPDATE old.names SET nr = NULL WHERE nr = 600", "MODIFY nr INT NULL", "'nr'"},
				"doubled": {"ADD UNIQUE one (nr)", "UPDATE old.names SET nr = 601 WHERE nr = 11", "DROP KEY one", "'601'"},
			} {
				w.clear()
				if w.plan, err = makePlan(w.source, w.target, mappingText); err != nil {
					t.Fatal(err)
				}
				w.rt.SQL("ALTER TABLE new.names " + c.target)
				w.rs.SQL(c.source)
				_, err := Run(try.Context(t), w.plan, "hash", w.source, w.target, Options{ChunkRows: 50, Parallel: 1})
				if err == nil || !strings.Contains(err.Error(), c.wants) ||
					!strings.Contains(err.Error(), "table new.names, chunk ") || !strings.Contains(err.Error(), "(name of the source ") {
					t.Fatalf("%s: %v", what, err)
				}
				if server.Passing(err) {
					t.Errorf("%s: %v would be tried again", what, err)
				}
				if got := w.rt.SQL("SELECT (SELECT SUM(`rows`) FROM migrate_journal.ranges WHERE target = " +
					"'new.names' AND done = 1) <=> NULLIF(COUNT(*), 0) FROM new.names"); got != "1" {
					t.Errorf("%s: some rows of a chunk are there", what)
				}
				w.rt.SQL("ALTER TABLE new.names " + c.mends)
				if res := w.run(Options{ChunkRows: 50}); !res.Resumed {
					t.Errorf("%s: %+v", what, res)
				}
				w.check()
			}
		})
	}
}

// TestStop: what is open is rolled back at once, also on a server that is in the middle
// of a statement, and the same run goes on.
func TestStop(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t)
	w := newWorld(t, one, two, 4000)
	// Someone holds a row: the chunk that has it waits.
	hold, err := w.target.DB.BeginTx(try.Context(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hold.ExecContext(try.Context(t), "INSERT INTO new.names (name, nr) SELECT 'x', 0 UNION SELECT "+
		"CONCAT('NAME-', MD5(900)), 900 UNION SELECT CONCAT('NAME-', MD5(900), '''\\\\'), 900"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(try.Context(t))
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, w.plan, "hash", w.source, w.target, Options{ChunkRows: 100})
		ended <- err
	}()
	waitFor(t, func() bool {
		return transactions(two, "trx_state = 'LOCK WAIT'") != "0"
	})
	cancel(errors.New("stopped by the test"))
	select {
	case err = <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it does not stop")
	}
	if err == nil || !strings.Contains(err.Error(), "stopped by the test") || !strings.Contains(err.Error(), "goes on there") {
		t.Errorf("%v", err)
	}
	waitFor(t, func() bool {
		return transactions(two, "TRUE") == "1"
	})
	if err := hold.Rollback(); err != nil {
		t.Fatal(err)
	}
	if res := w.run(Options{ChunkRows: 100}); !res.Resumed {
		t.Errorf("%+v", res)
	}
	w.check()
}

// TestTheJournalLostItsLast: a target that crashed without having written its last
// transactions to the disk loses rows and their chunks together, while the run goes on.
func TestTheJournalLostItsLast(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t)
	w := newWorld(t, one, two, 4000)
	ctx := try.Context(t)
	r, err := newRun(w.plan, w.source, w.target, Options{ChunkRows: 50, patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.begin(ctx, "hash"); err != nil {
		t.Fatal(err)
	}
	names := &r.order[slices.IndexFunc(r.order, func(s step) bool { return s.Target == "new.names" })]
	last, err := r.pass(ctx, names)
	if err != nil || last != 20 {
		t.Fatalf("%d, %v", last, err)
	}
	_, newest, err := r.journal.open(ctx, "new.names")
	if err != nil || newest.number != 20 {
		t.Fatalf("%+v, %v", newest, err)
	}
	after := newest.after.literals(names.key)[0]
	two.SQL("DELETE FROM new.names WHERE name > " + after + "; DELETE FROM migrate_journal.ranges WHERE target = 'new.names' AND number = 20")
	if _, err := r.journal.finish(ctx, "new.names", last, 0); !errors.Is(err, errBehind) {
		t.Errorf("the last chunk is lost: %v", err)
	}
	k := &worker{run: r, step: names, on: r.connections}
	if err := k.copy(ctx, newest, &pace{}); !errors.Is(err, errBehind) {
		t.Errorf("a chunk of which the journal does not know: %v", err)
	}
	if err := r.table(ctx, names); err != nil {
		t.Fatal(err)
	}
	two.SQL("DELETE FROM new.names WHERE name > " + after + "; UPDATE migrate_journal.ranges SET done = 0 WHERE " +
		"target = 'new.names' AND number = 20")
	if _, err := r.journal.finish(ctx, "new.names", last, 0); !errors.Is(err, errBehind) {
		t.Errorf("the last chunk is not done: %v", err)
	}
	two.SQL("UPDATE migrate_journal.tables SET state = 'copying' WHERE target = 'new.names'")
	if _, err := r.all(ctx, "hash"); err != nil {
		t.Fatal(err)
	}
	w.check()
	two.SQL("DELETE FROM migrate_journal.tables WHERE target = 'new.wide'")
	if _, err := Run(ctx, w.plan, "hash", w.source, w.target, Options{}); err == nil || !strings.Contains(err.Error(), "lost table new.wide") {
		t.Errorf("%v", err)
	}
}

// TestOrder: parents come first, and where that can not be, nobody looks at foreign keys.
func TestOrder(t *testing.T) {
	col := func(name string) column.Column {
		return column.Column{Name: name, Nullable: true, Type: column.Type{Text: "int(11)", Kind: column.Integer, Bits: 32}}
	}
	side := mapping.Side{Tables: map[string]*mapping.Schema{}}
	text := "format: 1\nname: x\ntables:\n"
	for _, x := range []struct{ name, refs string }{{"a", "d"}, {"b", "c"}, {"c", "b"}, {"d", "e"}, {"e", "e"}, {"f", "elsewhere"}} {
		side.Tables["x."+x.name] = &mapping.Schema{Key: []string{"id"}, Columns: []column.Column{col("id"), col("of")},
			Refs: []mapping.Ref{{Name: "r", Columns: []string{"of"}, Table: "x." + x.refs, To: []string{"id"}}}}
		text += "- {target: x." + x.name + ", from: x." + x.name + ", columns: [{copy: [id, of]}]}\n"
	}
	m, err := mapping.ParseMapping("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p := mapping.MakePlan(m, side, side, nil)
	if len(p.Errors) > 0 {
		t.Fatal(p.Errors)
	}
	var got []string
	for _, s := range order(&p, false) {
		got = append(got, fmt.Sprint(s.Target, " ", s.foreign))
	}
	if want := "[x.e false x.d true x.a true x.c false x.b true x.f true]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// TestWhatPacketsDoNotHold: a value that the source can not make is NULL there, with a
// warning; a row that the target can not take is told before it is sent.
func TestWhatPacketsDoNotHold(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t, "--max-allowed-packet=1M"), aligntest.MariaDB(t)
	w := newWorld(t, one, two, 300)
	one.SQL("UPDATE old.wide SET t = REPEAT('x', 700000), bl = REPEAT(X'00', 700000) WHERE id = 3")
	w.run(Options{})
	w.check() // as it is, it fits
	w.clear()
	two.SQL("SET GLOBAL local_infile = 0; SET GLOBAL max_allowed_packet = 1048576")
	w.target = two.Server("target")
	if _, err := Run(try.Context(t), w.plan, "hash", w.source, w.target, Options{}); err == nil ||
		!strings.Contains(err.Error(), "max_allowed_packet is 1048576") || !strings.Contains(err.Error(), "new.wide") {
		t.Errorf("%v", err)
	}
	w.clear()
	two.SQL("SET GLOBAL local_infile = 1")
	p, err := makePlan(w.source, w.target, `
format: 1
name: too long
ids: [{kind: project}]
tables:
- target: new.wide
  from: old.wide
  columns:
  - copy: [id]
  - {to: t, value: "CONCAT(t, t)"}
  drop: [f, d, dd, nr, b, bi, vb, bl, c, v, l1, dt, dt6, da, ti, ye, en, se, ts, js]
`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = Run(try.Context(t), p, "hash", w.source, w.target, Options{}); err == nil ||
		!strings.Contains(err.Error(), "source: Error 1301") {
		t.Errorf("%v", err)
	}
	if got := two.SQL("SELECT COUNT(*) FROM new.wide"); got != "0" {
		t.Errorf("%s rows are there", got)
	}
}

// transactions counts those that are open. The server looks anew only when nobody has
// asked for a tenth of a second.
func transactions(r *aligntest.Rig, cond string) string {
	time.Sleep(150 * time.Millisecond)
	return r.SQL("SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE " + cond)
}

// waitFor waits until something is so.
func waitFor(t testing.TB, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}
