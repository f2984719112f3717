package copier

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestATableOnBothSides: a database whose other name was forgotten is read and written.
func TestATableOnBothSides(t *testing.T) {
	need.More(t)
	const schema = "CREATE TABLE a (id INT PRIMARY KEY, x INT); CREATE TABLE b (id INT PRIMARY KEY, x INT)"
	m, err := mapping.ParseMapping("m.yaml", []byte(`
format: 1
name: a forgotten name
tables:
- target: new.b
  from: old.a
  join: [{as: j, table: old.b, match: j.id = s.id, optional: true}]
  columns: [{copy: [id]}, {to: x, value: "coalesce(j.x, s.x)"}]
`))
	if err != nil {
		t.Fatal(err)
	}
	sides := func(source, target *server.Server, from, to string) error {
		t.Helper()
		s, err := source.Side(try.Context(t), map[string]string{"old": from})
		if err != nil {
			t.Fatal(err)
		}
		d, err := target.Side(try.Context(t), map[string]string{"new": to})
		if err != nil {
			t.Fatal(err)
		}
		p := mapping.MakePlan(m, s, d, nil)
		if len(p.Errors) > 0 {
			t.Fatal(p.Errors)
		}
		_, err = Run(try.Context(t), &p, "hash", source, target, Options{})
		return err
	}
	one, folds := aligntest.MariaDB(t), aligntest.MariaDB(t, "--lower-case-table-names=1")
	for _, r := range []*aligntest.Rig{one, folds} {
		r.SQL("CREATE DATABASE d; USE d; " + schema + "; INSERT INTO a VALUES (1, 2)")
		r.SQL("CREATE DATABASE e; USE e; " + schema)
	}
	for _, c := range []struct {
		r  *aligntest.Rig
		to string
	}{{one, "d"}, {folds, "d"}, {folds, "D"}} {
		err := sides(c.r.Server("source"), c.r.Server("target"), "d", c.to)
		if err == nil || server.Passing(err) || !strings.Contains(err.Error(),
			"rows of d.b would be read and written: want another name of the database by --source-db or --target-db") {
			t.Errorf("into %s: %v", c.to, err)
		}
		if got := c.r.SQL("SELECT (SELECT COUNT(*) FROM d.b), COUNT(*) FROM information_schema.SCHEMATA WHERE " +
			"SCHEMA_NAME = 'migrate_journal'"); got != "0\t0" {
			t.Errorf("into %s: refused, and has written: %s", c.to, got)
		}
	}
	// Of the same name on two servers, and of another on one, it is another table.
	if err := sides(one.Server("source"), folds.Server("target"), "d", "d"); err != nil {
		t.Error(err)
	}
	if err := sides(one.Server("source"), one.Server("target"), "d", "e"); err != nil {
		t.Error(err)
	}
}
