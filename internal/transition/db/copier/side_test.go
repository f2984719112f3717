package copier

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/mapping"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestWhichTableIsNext: the heaviest, which is the one with the heaviest line of tables
// that wait for it; and none before its parents, all parts of them.
func TestWhichTableIsNext(t *testing.T) {
	id := column.Column{Name: "id", Type: column.Type{Text: "int(11)", Kind: column.Integer, Bits: 32}}
	side := mapping.Side{Tables: map[string]*mapping.Schema{}}
	text := "format: 1\nname: x\ntables:\n"
	for _, x := range []struct{ name, refs string }{{"small", ""}, {"child", "parent"}, {"parent", ""}, {"large", ""}, {"self", "self"}} {
		s := &mapping.Schema{Key: []string{"id"}, Columns: []column.Column{id}}
		if x.refs != "" {
			s.Refs = []mapping.Ref{{Name: "r", Columns: []string{"id"}, Table: "x." + x.refs, To: []string{"id"}}}
		}
		side.Tables["x."+x.name] = s
		text += "- {target: x." + x.name + ", from: x." + x.name + ", columns: [{copy: [id]}]}\n"
	}
	text += "- {target: x.parent, part: more, shift: 1000000, from: x.small, columns: []}\n"
	m, err := mapping.ParseMapping("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p := mapping.MakePlan(m, side, side, nil)
	if len(p.Errors) > 0 {
		t.Fatal(p.Errors)
	}
	next := func(follows bool) string {
		r := &run{order: order(&p, follows)}
		r.weights = weigh(r.order, map[string]int64{"x.small": 1, "x.child": 100, "x.parent": 5, "x.parent#more": 1, "x.large": 50, "x.self": 7})
		have, running := map[string]standing{}, map[string]bool{}
		var got []string
		for s := r.ready(have, running); ; s = r.ready(have, running) {
			if s != nil {
				got, running[s.Target] = append(got, strings.TrimPrefix(s.Target, "x.")), true
				continue
			}
			if len(running) == 0 {
				return strings.Join(got, " ")
			}
			got = append(got, "|") // all that run end
			for target := range running {
				have[target] = standing{done: true}
			}
			clear(running)
		}
	}
	if got, want := next(false), "parent parent#more large self small | child |"; got != want {
		t.Errorf("%s: want %s", got, want)
	}
	if got, want := next(true), "child large self parent small parent#more |"; got != want {
		t.Errorf("followed: %s: want %s", got, want)
	}
}

// TestTheMappingsOrder: a table comes after those that the mapping names, also against its
// foreign keys, which are not looked at then, and also of a copy that is followed.
func TestTheMappingsOrder(t *testing.T) {
	id := column.Column{Name: "id", Type: column.Type{Text: "int(11)", Kind: column.Integer, Bits: 32}}
	side := mapping.Side{Tables: map[string]*mapping.Schema{}}
	for name, refs := range map[string]string{"child": "parent", "parent": "", "late": "", "light": "", "skipped": "", "grandchild": "child"} {
		s := &mapping.Schema{Key: []string{"id"}, Columns: []column.Column{id}}
		if refs != "" {
			s.Refs = []mapping.Ref{{Name: "r", Columns: []string{"id"}, Table: "x." + refs, To: []string{"id"}}}
		}
		side.Tables["x."+name] = s
	}
	m, err := mapping.ParseMapping("x.yaml", []byte(`format: 1
name: x
tables:
- {target: x.late, after: [x.light, x.skipped], from: x.late, columns: [{copy: [id]}]}
- {target: x.grandchild, from: x.grandchild, columns: [{copy: [id]}]}
- {target: x.parent, after: [x.child], from: x.parent, columns: [{copy: [id]}]}
- {target: x.child, from: x.child, columns: [{copy: [id]}]}
- {target: x.skipped, from: x.skipped, columns: [{copy: [id]}]}
- {target: x.light, from: x.light, columns: [{copy: [id]}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Skip([]string{"x.skipped"}); err != nil {
		t.Fatal(err)
	}
	p := mapping.MakePlan(m, side, side, nil)
	if len(p.Errors) > 0 {
		t.Fatal(p.Errors)
	}
	for follows, want := range map[bool]string{
		false: "x.light true []; x.late true [x.light]; x.child false []; x.grandchild true [x.child]; x.parent true [x.child]; ",
		true:  "x.light false []; x.late false [x.light]; x.grandchild false []; x.child false []; x.parent false [x.child]; ",
	} {
		got := ""
		for _, s := range order(&p, follows) {
			got += fmt.Sprint(s.Target, " ", s.foreign, " ", s.after, "; ")
		}
		if got != want {
			t.Errorf("follows %v: %s\nwant %s", follows, got, want)
		}
	}
}

// TestTablesSideBySide: a table that waits holds up no other, no more chunks are moved than
// are wanted, and of a table with AUTO_INCREMENT one at a time where the server would let
// the others wait.
func TestTablesSideBySide(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t, "--innodb-autoinc-lock-mode=1"), aligntest.MariaDB(t, "--innodb-autoinc-lock-mode=2")
	first := newWorld(t, one, two, 4000)
	one.SQL(newSchema)
	for rt, want := range map[*aligntest.Rig]string{one: "1", two: "4"} {
		w := &world{t: t, rs: one, rt: rt, source: first.source, target: rt.Server("target")}
		var err error
		if w.plan, err = makePlan(w.source, w.target, mappingText); err != nil {
			t.Fatal(err)
		}
		hold, err := w.target.DB.BeginTx(try.Context(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Rollback() // after the one below it does nothing
		if _, err := hold.ExecContext(try.Context(t), "INSERT INTO new.wide (id) SELECT seq FROM new.seq_0_to_900"); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := Run(try.Context(t), w.plan, "hash", w.source, w.target, Options{ChunkRows: 50, Parallel: 4})
			ended <- err
		}()
		waiting := func() string { return transactions(rt, "trx_state = 'LOCK WAIT'") }
		waitFor(t, func() bool { return waiting() == want })
		if rt == one {
			waitFor(t, func() bool { return rt.SQL("SELECT COUNT(*) FROM migrate_journal.tables WHERE state = 'done'") == "5" })
		}
		if got := waiting(); got != want {
			t.Errorf("%s chunks wait: want %s", got, want)
		}
		if err := hold.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		w.check()
	}
}

// TestConnectionsOfAllTables: tables that are copied side by side share the connections on
// which rows are written.
func TestConnectionsOfAllTables(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t, "--innodb-autoinc-lock-mode=2")
	w := newWorld(t, one, two, 4000)
	hold, err := w.target.DB.Conn(try.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	defer discard(hold)
	if _, err := hold.ExecContext(try.Context(t), "LOCK TABLES new.items READ, new.parents READ, new.names READ, "+
		"new.wide READ, new.bins READ"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := Run(try.Context(t), w.plan, "hash", w.source, w.target, Options{ChunkRows: 50, Parallel: 3})
		ended <- err
	}()
	waitFor(t, func() bool {
		return two.SQL("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for table%'") == "3"
	})
	if _, err := hold.ExecContext(try.Context(t), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	w.check()
	// Beside three: the lock's, those that note chunks and look how far it is, one for each
	// of three tables, hold's, and that of the test itself.
	if most := two.SQL("SHOW GLOBAL STATUS LIKE 'Max_used_connections'"); most > "Max_used_connections\t9" ||
		len(most) > len("Max_used_connections\t9") {
		t.Error(most)
	}
}

// TestOnlyItsOwnConnectionIsKilled: when the target was restarted, the number of a connection's
// connection may be somebody else's.
func TestOnlyItsOwnConnectionIsKilled(t *testing.T) {
	need.More(t)
	rig := aligntest.MariaDB(t)
	w := newWorld(t, rig, rig, 100)
	ctx := try.Context(t)
	l := &connection{db: w.target.DB, log: slog.New(slog.DiscardHandler)}
	for l.number < 100 { // more than a server uses that begins
		l.close()
		if err := l.prepare(ctx, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.kill(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := l.conn.ExecContext(ctx, "DO 1"); err == nil {
		t.Error("its own connection was not killed")
	}
	time.Sleep((sameStart + 1) * time.Second) // a server that is started within it is none that had copied
	rig.Kill()
	rig.Start()
	var other *sql.Conn
	for now := int64(0); now != l.number; {
		discard(other)
		var err error
		if other, err = w.source.DB.Conn(ctx); err != nil {
			t.Fatal(err)
		}
		if now, _, err = process(ctx, other); err != nil || now > l.number {
			t.Fatalf("connection %d, %v: want one with number %d", now, err, l.number)
		}
	}
	defer discard(other)
	if err := l.kill(ctx); err == nil || !strings.Contains(err.Error(), "it is another process") {
		t.Error(err)
	}
	l.abandon(ctx)
	if _, err := other.ExecContext(context.WithoutCancel(ctx), "DO 1"); err != nil {
		t.Errorf("somebody else's connection: %v", err)
	}
}
