package copier

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/sqlexpr"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// This file has what holds in moments that no kill finds by chance.

// begun is a run with a journal, of which nothing is copied, and the step of new.names.
func begun(t *testing.T, w *world, opt Options) (*run, *step) {
	t.Helper()
	r, err := newRun(w.plan, w.source, w.target, opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.begin(try.Context(t), "hash"); err != nil {
		t.Fatal(err)
	}
	for i := range r.order {
		if r.order[i].Target == "new.names" {
			return r, &r.order[i]
		}
	}
	t.Fatal("there is no table new.names")
	return nil, nil
}

// begin is a transaction of the target that waits for no lock longer than a second.
func begin(t *testing.T, w *world) *sql.Tx {
	t.Helper()
	tx, err := w.target.DB.BeginTx(try.Context(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() }) // it may have ended
	if _, err := tx.ExecContext(try.Context(t), "SET SESSION innodb_lock_wait_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	return tx
}

// TestAChunkIsHeld: of two who have the same chunk one waits, and sees that it is done.
func TestAChunkIsHeld(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	w := newWorld(t, r, r, 300)
	of, s := begun(t, w, Options{})
	x := chunk{number: 1, upto: key{[]byte("m")}, size: 10}
	if err := of.journal.note(try.Context(t), s.Target, x); err != nil {
		t.Fatal(err)
	}
	first := begin(t, w)
	if done, _, err := held(try.Context(t), first, s.Target, 1); done || err != nil {
		t.Fatal(done, err)
	}
	var told *mysql.MySQLError
	if done, _, err := held(try.Context(t), begin(t, w), s.Target, 1); !errors.As(err, &told) || told.Number != 1205 {
		t.Errorf("a second one has it, too: %v, %v", done, err)
	}
	if err := x.close(try.Context(t), first, s.Target, 7, 0); err != nil {
		t.Fatal(err)
	}
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	if done, rows, err := held(try.Context(t), begin(t, w), s.Target, 1); !done || rows != 7 || err != nil {
		t.Errorf("%v, %d rows, %v", done, rows, err)
	}
}

// TestRowsAndTheirChunkAreOneTransaction: when the journal does not take it that a chunk is
// done, none of its rows is there; and rows that are there are not moved again.
func TestRowsAndTheirChunkAreOneTransaction(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t)
	w := newWorld(t, one, two, 300)
	of, s := begun(t, w, Options{ChunkRows: 10})
	two.SQL("CREATE TRIGGER migrate_journal.no BEFORE UPDATE ON migrate_journal.ranges FOR EACH ROW SIGNAL SQLSTATE " +
		"'45000' SET MESSAGE_TEXT = 'the journal is full'")
	if _, err := Run(try.Context(t), w.plan, "hash", w.source, w.target, Options{ChunkRows: 10}); err == nil ||
		!strings.Contains(err.Error(), "the journal is full") {
		t.Fatal(err)
	}
	for i := range of.order {
		if n := two.SQL("SELECT COUNT(*) FROM " + of.order[i].Target); n != "0" {
			t.Errorf("%s: %s rows are there, and their chunk is not done", of.order[i].Target, n)
		}
	}
	two.SQL("DROP TRIGGER migrate_journal.no")
	w.run(Options{ChunkRows: 10})
	w.check()
	_, last, err := of.journal.open(try.Context(t), s.Target)
	if err != nil || last.number < 2 {
		t.Fatal(last, err)
	}
	if of.mover, err = NewMover(try.Context(t), w.plan, w.source, w.target); err != nil {
		t.Fatal(err)
	}
	k := &worker{run: of, step: s}
	l := &connection{db: w.target.DB}
	defer l.close()
	if _, err := k.attempt(try.Context(t), l, last); err != nil {
		t.Errorf("a chunk that is done is moved again: %v", err)
	}
	w.check()
}

// TestChunksOfOthers: where another run has noted chunks meanwhile, they are the truth, and
// no chunk of ours, which may end elsewhere, is moved beside them.
func TestChunksOfOthers(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	w := newWorld(t, r, r, 300)
	of, s := begun(t, w, Options{ChunkRows: 10})
	ctx, cancel := context.WithCancel(try.Context(t))
	defer cancel()
	out, ended := make(chan chunk), make(chan error, 1)
	go func() {
		_, err := of.scan(ctx, s, &pace{fixed: 10}, out)
		ended <- err
	}()
	waitFor(t, func() bool { return r.SQL("SELECT COUNT(*) FROM migrate_journal.ranges") == "1" })
	_, first, err := of.journal.open(ctx, s.Target) // which is noted, and waits to be taken
	if err != nil || first.number != 1 {
		t.Fatal(first, err)
	}
	if err := of.journal.note(ctx, s.Target, chunk{number: 2, after: first.upto, upto: key{[]byte("zz")}, size: 9}); err != nil {
		t.Fatal(err)
	}
	<-out
	select {
	case err := <-ended:
		if !errors.Is(err, errBehind) {
			t.Error(err)
		}
	case x := <-out:
		t.Errorf("chunk %d %s is given out, and another run has it", x.number, x)
	}
	// The same rows under another number are not noted, nor a second beginning.
	for _, x := range []chunk{{number: 7, after: first.upto, upto: first.upto}, {number: 8, upto: first.upto}} {
		if err := of.journal.note(ctx, s.Target, x); !isDuplicate(err) {
			t.Errorf("chunk %d %s is noted: %v", x.number, x, err)
		}
	}
	// What is open is given in order; what was noted last is the last, done or not.
	r.SQL("UPDATE migrate_journal.ranges SET done = 1 WHERE number = 2")
	todo, last, err := of.journal.open(ctx, s.Target)
	if err != nil || len(todo) != 1 || todo[0].number != 1 || last.number != 2 {
		t.Errorf("%+v, %+v, %v", todo, last, err)
	}
	if err := of.journal.note(ctx, s.Target, chunk{number: 3, after: last.upto, upto: key{[]byte("zzz")}, size: 9}); err != nil {
		t.Fatal(err)
	}
	todo, last, err = of.journal.open(ctx, s.Target)
	if err != nil || len(todo) != 2 || todo[0].number != 1 || todo[1].number != 3 || last.number != 3 {
		t.Errorf("%+v, %+v, %v", todo, last, err)
	}
}

// TestChunksOfAnOldJournal: where the row of the run was taken away by hand, and its chunks
// were not, the next one begins with the first row.
func TestChunksOfAnOldJournal(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	w := newWorld(t, r, r, 300)
	w.run(Options{ChunkRows: 50})
	r.SQL("DELETE FROM migrate_journal.run; DROP DATABASE new; " + newSchema)
	if res := w.run(Options{ChunkRows: 60}); res.Resumed {
		t.Errorf("%+v", res)
	}
	w.check()
}

// TestNamesAndModes: databases of names that are nothing but names, on servers whose
// sessions begin with quotes and backslashes that mean something else. Each way of rows
// brings the same rows.
func TestNamesAndModes(t *testing.T) {
	need.More(t)
	const mode = "--sql-mode=NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT,NO_ZERO_DATE,NO_ZERO_IN_DATE"
	one, two := aligntest.MariaDB(t, mode), aligntest.MariaDB(t, mode)
	const from, to = "o`ld'; DROP DATABASE victim; -- \"\\", "n`e'w\"\\{old}"
	plain := "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'; "
	named := func(text, was, is string) string {
		is = sqlexpr.Quote(is)
		return strings.NewReplacer("CREATE DATABASE "+was+" ", "CREATE DATABASE "+is+" ", "USE "+was+";", "USE "+is+";").Replace(text)
	}
	one.SQL("CREATE DATABASE victim; " + plain + named(oldSchema+oldRows(400), "old", from) + staged + named(newSchema, "new", to))
	two.SQL(plain + named(newSchema, "new", to))
	source := one.Server("source")
	for _, c := range []struct {
		how How
		rt  *aligntest.Rig
	}{{OneServer, one}, {Load, two}, {Insert, two}} {
		local := map[bool]string{true: "1", false: "0"}[c.how == Load]
		c.rt.SQL("SET GLOBAL local_infile = " + local + "; DROP DATABASE IF EXISTS migrate_journal; DROP DATABASE " +
			sqlexpr.Quote(to) + "; " + plain + named(newSchema, "new", to))
		target := c.rt.Server("target")
		m := aligntest.Mapping(t, mappingText)
		a, err := source.Side(try.Context(t), map[string]string{"old": from})
		if err != nil {
			t.Fatal(err)
		}
		b, err := target.Side(try.Context(t), map[string]string{"new": to})
		if err != nil {
			t.Fatal(err)
		}
		p := mapping.MakePlan(m, a, b, map[string]mapping.IDs{"project": {Given: true}})
		if len(p.Errors) > 0 {
			t.Fatalf("%+v", p.Errors)
		}
		if _, err := Run(try.Context(t), &p, "it's `x` \\", source, target, Options{ChunkRows: 30}); err != nil {
			t.Fatalf("%s: %v", c.how, err)
		}
		for i := range p.Tables {
			if a, b := sums(t, source, p.Tables[i].SourceSum("")),
				sums(t, target, p.Tables[i].TargetSum("")); a != b || i == 0 && strings.HasPrefix(a, "0 ") {
				t.Errorf("%s: %s: %s of the source, %s of the target", c.how, p.Tables[i].Target, a, b)
			}
		}
		if j, err := ReadJournal(try.Context(t), target.DB); err != nil || j.Mapping != "it's `x` \\" || j.State != Copied {
			t.Errorf("%+v, %v", j, err)
		}
	}
	if one.SQL("SHOW DATABASES LIKE 'victim'") != "victim" {
		t.Error("another database is gone")
	}
}

// TestIDsAreAskedAfterTheRows: a value without an ID that comes between the two questions is
// told of, or was not read.
func TestIDsAreAskedAfterTheRows(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t)
	w := newWorld(t, one, two, 300)
	one.SQL("SET GLOBAL log_output = 'TABLE', general_log = 1")
	w.run(Options{ChunkRows: 40})
	one.SQL("SET GLOBAL general_log = 0")
	asked := one.SQL("SELECT argument FROM mysql.general_log")
	of, err := newRun(w.plan, w.source, w.target, Options{})
	if err != nil {
		t.Fatal(err)
	}
	items := &of.order[slices.IndexFunc(of.order, func(s step) bool { return s.Target == "new.items" })]
	two.SQL("UPDATE migrate_journal.ranges SET done = 0") // so that all are told
	chunks, _, err := of.journal.open(try.Context(t), items.Target)
	if err != nil || len(chunks) != 4 {
		t.Fatal(chunks, err)
	}
	for _, x := range chunks {
		cond := items.condition(x)
		rows, known := strings.Index(asked, items.Export(cond).Select), strings.Index(asked, items.Unknown(cond))
		if rows < 0 || known < rows {
			t.Errorf("chunk %d: its rows are read at byte %d of the log, and what has no ID is asked at %d", x.number, rows, known)
		}
	}
}

// TestRowsGiveWayInOneChunkOnly: after a chunk whose rows took the places of others, the next
// one of the same worker looks for itself.
func TestRowsGiveWayInOneChunkOnly(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	w := newWorld(t, r, r, 300)
	of, s := begun(t, w, Options{ChunkRows: 20, Follows: true})
	x := chunk{number: 1, upto: key{[]byte("zzz")}, size: 20}
	if err := of.journal.note(try.Context(t), s.Target, x); err != nil {
		t.Fatal(err)
	}
	k := &worker{run: of, step: s, on: of.connections, replace: true}
	defer of.hangUp()
	if err := k.copy(try.Context(t), x, &pace{fixed: 20}); err != nil || k.replace {
		t.Errorf("replace %v, %v", k.replace, err)
	}
}

// TestForeignKeysAreLookedAt: a row whose parent has gone since the plan is refused; when
// what follows brings parents, it is taken.
func TestForeignKeysAreLookedAt(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	w := newWorld(t, r, r, 300)
	for _, follows := range []bool{false, true} {
		w.clear()
		of, _ := begun(t, w, Options{Follows: follows})
		defer of.hangUp()
		at := map[string]*step{}
		for i := range of.order {
			at[of.order[i].Target] = &of.order[i]
		}
		if err := of.table(try.Context(t), at["new.parents"]); err != nil {
			t.Fatal(err)
		}
		r.SQL("SET foreign_key_checks = 0; DELETE FROM new.parents WHERE id = 1")
		err := of.table(try.Context(t), at["new.items"])
		var told *mysql.MySQLError
		if follows && err != nil || !follows && (!errors.As(err, &told) || told.Number != 1452) {
			t.Errorf("follows %v: %v", follows, err)
		}
	}
}

// TestALaneOfSeveralTables: each chunk finds it as its table wants it.
func TestALaneOfSeveralTables(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	l := &connection{db: r.Server("target").DB}
	defer l.close()
	for _, foreign := range []bool{true, false, false, true} {
		var is bool
		if err := l.prepare(try.Context(t), foreign); err != nil {
			t.Fatal(err)
		}
		if err := l.conn.QueryRowContext(try.Context(t), "SELECT @@foreign_key_checks").Scan(&is); err != nil || is != foreign {
			t.Errorf("%v, %v: want %v", is, err, foreign)
		}
	}
}

// TestWhatIsAbandonedEnds: a statement that nobody listens to any more ends on the server,
// and does not wait for a lock that it would then keep.
func TestWhatIsAbandonedEnds(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--innodb-lock-wait-timeout=600")
	w := newWorld(t, r, r, 300)
	of, _ := begun(t, w, Options{})
	hold := begin(t, w)
	if _, err := hold.ExecContext(try.Context(t), "SELECT 1 FROM migrate_journal.run FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	l := &connection{db: w.target.DB, log: of.opt.Log}
	if err := l.prepare(try.Context(t), true); err != nil {
		t.Fatal(err)
	}
	waits := func() string {
		return r.SQL("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%FOR UPDATE' AND COMMAND = 'Query'")
	}
	ctx, cancel := context.WithCancel(try.Context(t))
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := l.conn.ExecContext(ctx, "SELECT 1 FROM migrate_journal.run FOR UPDATE")
		ended <- err
	}()
	waitFor(t, func() bool { return waits() == "1" })
	cancel()
	if err := <-ended; err == nil {
		t.Fatal("it has not waited")
	}
	l.abandon(ctx)
	waitFor(t, func() bool { return waits() == "0" })
}
