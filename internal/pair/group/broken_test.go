package group

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// told is what a node tells people.
func (r *rig) told(h cluster.HostID) cluster.PairReport {
	r.t.Helper()
	kv, ok, err := r.store.Get(try.Context(r.t), KeyNode+string(h))
	try.Must(r.t, err)
	if !ok {
		return cluster.PairReport{}
	}
	p, err := records.Decode[cluster.PairReport](kv, false)
	try.Must(r.t, err)
	return p
}

// TestABrokenStandby: one whose database does not start, or can not apply what it receives, says so with what to do, and a person has
// all of it copied anew; what it had is moved aside.
func TestABrokenStandby(t *testing.T) {
	need.Drill(t, "Usphere 5.1: a standby whose data are damaged is told with a remedy, and copied anew by a "+
		"person's word", need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	r := newRig(t)
	a, b := r.node["a"], r.node["b"]
	ctx := try.Context(t)
	write := func(n *node, statements ...string) {
		t.Helper()
		c, err := n.root.Conn(ctx)
		try.Must(t, err)
		defer c.Close()
		for _, s := range statements {
			_, err := c.ExecContext(ctx, s)
			try.Must(t, err)
		}
	}
	var l ledger
	r.assign("a", cluster.ProofFirst)
	r.complete()
	stop := l.write(r, 2)
	defer func() { stop() }()
	const alone = "SET SESSION sql_log_bin=0"
	asides := 1 // what b had before there was a pair
	for _, c := range []struct {
		name, says string
		broken     func()
	}{
		{"a file of the database is damaged", "ended at its start", func() {
			b.off()
			f, err := os.OpenFile(filepath.Join(b.dir, "data", "ibdata1"), os.O_WRONLY, 0)
			try.Must(t, err)
			_, err = f.WriteAt(make([]byte, 1<<20), 0)
			try.Must(t, err)
			try.Must(t, f.Close())
			b.boot()
		}},
		{"a row is missing", "1032", func() {
			write(a, "REPLACE INTO app.log VALUES (-1)")
			try.Until(t, "the row", func() bool { return rows(t, b, "SELECT 1 FROM app.log WHERE id=-1") == 1 })
			write(b, alone, "DELETE FROM app.log WHERE id=-1")
			write(a, "UPDATE app.log SET id=-2 WHERE id=-1")
		}},
		{"a database is missing", "other", func() {
			write(a, "CREATE DATABASE other", "CREATE TABLE other.t (id INT PRIMARY KEY)")
			try.Until(t, "the table", func() bool {
				return rows(t, b, "SELECT 1 FROM information_schema.tables WHERE table_schema='other'") == 1
			})
			write(b, alone, "DROP DATABASE other")
			write(a, "INSERT INTO other.t VALUES (1)")
		}},
	} {
		t.Log(c.name)
		c.broken()
		var p cluster.PairReport
		try.Until(t, "the remedy to be told", func() bool {
			p = r.told("b")
			return strings.Contains(p.Problem, "holdfast pair recover 192.0.2.2")
		})
		if !strings.Contains(p.Problem, c.says) || p.Fit || !p.Lasting {
			t.Errorf("%s: %+v", c.name, p)
		}
		if saved, err := filepath.Glob(filepath.Join(b.dir, "saved", "*")); err != nil || len(saved) > 0 {
			t.Errorf("%s: %v, %v", c.name, saved, err)
		}
		try.Must(t, Disown(b.dir))
		r.complete()
		l.more(t, 20)
		try.Until(t, "that to be over", func() bool { p := r.told("b"); return p.Problem == "" && !p.Lasting }) // a node reports once a second
		all, err := filepath.Glob(filepath.Join(b.dir, "data"+asideName+"*"))
		try.Must(t, err)
		if asides++; len(all) != asides {
			t.Errorf("%s: moved aside: %v", c.name, all)
		}
	}
	stop()
	stop = func() {}
	l.check(b)
	t.Log("a copy that follows is left alone")
	try.Must(t, Disown(b.dir))
	try.Until(t, "that to be noted", func() bool { known, err := b.db.known(); return known && err == nil })
	if all, err := filepath.Glob(filepath.Join(b.dir, "data"+asideName+"*")); err != nil || len(all) != asides {
		t.Errorf("moved aside: %v, %v", all, err)
	}
}

// rows counts what a query finds; 0 when it can not be asked.
func rows(t *testing.T, n *node, query string) (count int) {
	t.Helper()
	rows, err := n.root.QueryContext(context.Background(), query)
	if err != nil {
		return 0
	}
	defer rows.Close()
	for rows.Next() {
		count++
	}
	try.Must(t, rows.Err())
	return count
}

// TestTheNextTryIsTold of a copy that could not be made to follow.
func TestTheNextTryIsTold(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	r := newRig(t)
	b := r.node["b"]
	r.assign("a", cluster.ProofFirst)
	r.complete()
	// Killed while it makes a table, a server can have it without its rows: that copy would be damaged.
	try.Until(t, "what the active node notes of its events", func() bool { return rows(t, b, "SELECT 1 FROM holdfast_replica.events") > 0 })
	b.off()
	args := b.cmd.Args
	b.cmd.Args = append(slices.Clone(args), "--no-such-option")
	b.boot()
	said := ""
	try.Until(t, "why it does not start, and when it is tried again", func() bool {
		said = r.told("b").Problem
		return strings.Contains(said, "ended at its start") && strings.Contains(said, "; the next try is at ")
	})
	t.Log(said)
	_, at, _ := strings.Cut(said, "; the next try is at ")
	if _, err := time.Parse(nextFormat, at); err != nil {
		t.Error(err)
	}
	b.off()
	b.cmd.Args = args
	data := filepath.Join(b.dir, "data")
	try.Must(t, os.Rename(data, data+".away"))
	b.boot()
	try.Until(t, "what helps where its data are not there", func() bool {
		said = r.told("b").Problem
		return strings.Contains(said, "data is not there; mount its file system") && strings.Contains(said, "; the next try is at ")
	})
	b.off()
	try.Must(t, os.Rename(data+".away", data))
	b.boot()
	r.complete()
}
