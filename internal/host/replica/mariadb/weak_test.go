package mariadb

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestWeakTables: of each engine that a real server has, tables are weak exactly if the server says that it has no transactions.
func TestWeakTables(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	ctx := try.Context(t)
	a := newNode(t, 1)
	files := data(t)
	try.Must(t, files.Write(a.datadir))
	try.Must(t, a.start(ctx, "MASTER"))
	a.sql("SET GLOBAL read_only=OFF", "CREATE DATABASE `weak-1`")
	all, err := a.rows(ctx, a.root, "SELECT engine, transactions FROM information_schema.engines WHERE support IN ('YES', 'DEFAULT')")
	try.Must(t, err)
	var want []string
	for _, e := range all {
		name := e["engine"]
		if slices.Contains([]string{"PERFORMANCE_SCHEMA", "SEQUENCE", "BLACKHOLE"}, name) { // they keep no rows of their own
			continue
		}
		a.sql("CREATE TABLE `weak-1`.`t " + strings.ToLower(name) + "` (id INT NOT NULL) ENGINE=" + name)
		if e["transactions"] == "NO" {
			want = append(want, fmt.Sprintf("weak-1.t %s (%s)", strings.ToLower(name), name))
		}
	}
	// A table in partitions is of their engine.
	for _, name := range []string{"InnoDB", "MyISAM", "MEMORY", "Aria"} {
		a.sql("CREATE TABLE `weak-1`.`p "+strings.ToLower(name)+"` (id INT NOT NULL) ENGINE="+name+" PARTITION BY HASH (id) PARTITIONS 2",
			"CREATE TABLE `weak-1`.`s "+strings.ToLower(name)+"` (id INT NOT NULL, d INT NOT NULL) ENGINE="+name+
				" PARTITION BY RANGE (d) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (PARTITION one VALUES LESS THAN (5))")
		if name != "InnoDB" {
			want = append(want, fmt.Sprintf("weak-1.p %s (%s)", strings.ToLower(name), name),
				fmt.Sprintf("weak-1.s %s (%s)", strings.ToLower(name), name))
		}
	}
	a.sql("CREATE VIEW `weak-1`.v AS SELECT 1 AS one", "CREATE SEQUENCE `weak-1`.sq",
		"CREATE SEQUENCE `weak-1`.sqa ENGINE=Aria", "FLUSH TABLES")
	want = append(want, "weak-1.sqa (Aria)")
	slices.Sort(want)
	found, err := WeakTables(a.datadir)
	try.Must(t, err)
	var got []string
	for _, w := range found {
		got = append(got, fmt.Sprintf("%s (%s)", w.Table, w.Engine))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q: want %q", got, want)
	}
	// An engine that is not the server's own has a number of its own in each server, and its name in the file. What is cut short has none.
	for table, number := range map[string]int{"t aria": 3, "p aria": frmParts} {
		b, err := os.ReadFile(filepath.Join(a.datadir, "weak@002d1", strings.ReplaceAll(table, " ", "@0020")+".frm"))
		try.Must(t, err)
		b[number] = 99
		other := filepath.Join(t.TempDir(), "other.frm")
		for n := frmHead; n <= len(b); n++ {
			try.Must(t, os.WriteFile(other, b[:n], 0o600))
			if got, err := engineOf(other); err != nil || got != "Aria" && (n == len(b) || got != "unknown engine 99") {
				t.Fatalf("%d bytes of %s: %q, %v", n, table, got, err)
			}
		}
	}
	// What is found again has changed since.
	var f WeakFinder
	names := func() (out []string) {
		t.Helper()
		all, err := f.Find(a.datadir)
		try.Must(t, err)
		for _, w := range all {
			out = append(out, w.Table)
		}
		return out
	}
	if got := names(); len(got) != len(want) {
		t.Errorf("%q: want %d", got, len(want))
	}
	for _, c := range []struct {
		statement string
		n         int
	}{
		{"CREATE TABLE `weak-1`.more (id INT) ENGINE=MyISAM", 1}, {"ALTER TABLE `weak-1`.more ENGINE=InnoDB", 0},
		{"ALTER TABLE `weak-1`.more ENGINE=Aria", 1},
		{"RENAME TABLE `weak-1`.more TO app.more", 1}, {"DROP TABLE app.more", 0}, {"DROP DATABASE `weak-1`", -len(want)},
	} {
		// As if all was of long ago: then only the time of a directory tells.
		old := time.Now().Add(-time.Hour)
		for _, dir := range []string{"weak@002d1", "app"} {
			try.Must(t, os.Chtimes(filepath.Join(a.datadir, dir), old, old))
		}
		names()
		a.sql(c.statement)
		if got := names(); len(got) != len(want)+c.n {
			t.Errorf("after %s: %q", c.statement, got)
		}
	}
	// Accounts that can keep what they write from the other node.
	if got, err := a.Bypass(ctx); err != nil || len(got) > 0 {
		t.Errorf("%v, %v", got, err)
	}
	a.sql("GRANT ALL ON *.* TO shop@'10.%' IDENTIFIED BY 'x'", "GRANT ALL ON app.* TO small@'%' IDENTIFIED BY 'x'",
		"GRANT BINLOG ADMIN ON *.* TO app@'%'", "GRANT READ ONLY ADMIN ON *.* TO job@localhost IDENTIFIED BY 'x'")
	if got, err := a.Bypass(ctx); err != nil || !slices.Equal(got, []string{"app@%", "job@localhost", "shop@10.%"}) {
		t.Errorf("%v, %v", got, err)
	}
	for engine, want := range map[string]string{
		"MEMORY": "it is empty after", "SPIDER": "its rows are outside the database", "MRG_MyISAM": "a crash can lose",
		"Mroonga": "a crash can lose",
	} {
		if got := (Weak{"d.t", engine}).String(); !strings.Contains(got, want) {
			t.Errorf("%s: %q", engine, got)
		}
	}
	if _, err := WeakTables(a.datadir + "/no"); err == nil {
		t.Error("a directory that is not there")
	}
}
