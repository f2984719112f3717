package copier

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"holdfast/internal/align"
	"holdfast/internal/align/aligntest"
	"holdfast/internal/align/column"
)

// TestWhichTableIsNext: the heaviest, which is the one with the heaviest line of tables
// that wait for it; and none before its parents, all parts of them.
func TestWhichTableIsNext(t *testing.T) {
	id := column.Column{Name: "id", Type: column.Type{Text: "int(11)", Kind: column.Integer, Bits: 32}}
	side := align.Side{Tables: map[string]*align.Schema{}}
	text := "format: 1\nname: x\ntables:\n"
	for _, x := range []struct{ name, refs string }{{"small", ""}, {"child", "parent"}, {"parent", ""}, {"large", ""}, {"self", "self"}} {
		s := &align.Schema{Key: []string{"id"}, Columns: []column.Column{id}}
		if x.refs != "" {
			s.Refs = []align.Ref{{Name: "r", Columns: []string{"id"}, Table: "x." + x.refs, To: []string{"id"}}}
		}
		side.Tables["x."+x.name] = s
		text += "- {target: x." + x.name + ", from: x." + x.name + ", columns: [{copy: [id]}]}\n"
	}
	text += "- {target: x.parent, part: more, shift: 1000000, from: x.small, columns: []}\n"
	m, err := align.ParseMapping("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p := align.MakePlan(m, side, side, nil)
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

// TestTablesSideBySide: a table that waits holds up no other, no more ranges are moved than
// are wanted, and of a table with AUTO_INCREMENT one at a time where the server would let
// the others wait.
func TestTablesSideBySide(t *testing.T) {
	one, two := aligntest.MariaDB(t, "--innodb-autoinc-lock-mode=1"), aligntest.MariaDB(t, "--innodb-autoinc-lock-mode=2")
	first := newWorld(t, one, two, 4000)
	one.SQL(newSchema)
	for rt, want := range map[*aligntest.Rig]string{one: "1", two: "4"} {
		w := &world{t: t, rs: one, rt: rt, source: first.source, target: rt.Server("target")}
		var err error
		if w.plan, err = makePlan(w.source, w.target, mapping); err != nil {
			t.Fatal(err)
		}
		hold, err := w.target.DB.BeginTx(bounded(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Rollback() // after the one below it does nothing
		if _, err := hold.ExecContext(bounded(t), "INSERT INTO new.wide (id) SELECT seq FROM new.seq_0_to_900"); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := Run(bounded(t), w.plan, "hash", w.source, w.target, Options{RangeRows: 50, Parallel: 4})
			ended <- err
		}()
		waiting := func() string { return transactions(rt, "trx_state = 'LOCK WAIT'") }
		waitFor(t, func() bool { return waiting() == want })
		if rt == one {
			waitFor(t, func() bool { return rt.SQL("SELECT COUNT(*) FROM migrate_journal.tables WHERE state = 'done'") == "5" })
		}
		if got := waiting(); got != want {
			t.Errorf("%s ranges wait: want %s", got, want)
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

// TestOnlyItsOwnConnectionIsKilled: when the target was restarted, the number of a worker's
// connection may be somebody else's.
func TestOnlyItsOwnConnectionIsKilled(t *testing.T) {
	rig := aligntest.MariaDB(t)
	w := newWorld(t, rig, rig, 100)
	ctx := bounded(t)
	r, err := newRun(w.plan, w.source, w.target, Options{})
	if err != nil {
		t.Fatal(err)
	}
	number := func(c *sql.Conn) (id int64) {
		t.Helper()
		if err := c.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	k := &worker{run: r, step: &r.order[0]}
	var id int64
	for id < 100 { // more than a server uses that begins
		k.close()
		if err := k.connect(ctx); err != nil {
			t.Fatal(err)
		}
		id = number(k.conn)
	}
	if err := k.kill(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := k.conn.ExecContext(ctx, "DO 1"); err == nil {
		t.Error("its own connection was not killed")
	}
	rig.Kill()
	rig.Start()
	var other *sql.Conn
	for now := int64(0); now != id; now = number(other) {
		if now > id {
			t.Fatalf("connection %d: want one with number %d", now, id)
		}
		discard(other)
		if other, err = w.source.DB.Conn(ctx); err != nil {
			t.Fatal(err)
		}
	}
	defer discard(other)
	k.abandon(ctx)
	if _, err := other.ExecContext(context.WithoutCancel(ctx), "DO 1"); err != nil {
		t.Errorf("somebody else's connection: %v", err)
	}
}
