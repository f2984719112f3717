package cli

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
)

// TestTransitionDBCleanRows empties what the mapping fills, children first, and nothing else:
// a run begins anew then.
func TestTransitionDBCleanRows(t *testing.T) {
	rig := aligntest.MariaDB(t)
	flags := platforms(t, rig, rig)
	rig.SQL("USE old_shop; INSERT INTO tags SELECT 3, CONCAT('t', seq) FROM seq_1_to_25000")
	const source = "CHECKSUM TABLE old_shop.items, old_shop.tags"
	before := rig.SQL(source)
	decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	const count = "SELECT (SELECT COUNT(*) FROM shop.items), (SELECT COUNT(*) FROM shop.tags), (SELECT COUNT(*) FROM " +
		"shop.shelves); SHOW DATABASES LIKE 'migrate%'"
	full := "3\t25003\t2\nmigrate_ids\nmigrate_journal"
	rows := append([]string{"--rows"}, append(flags[:2:2], flags[4:]...)...) // without the IDs
	refused := func(what string, code int, want string, args ...string) {
		t.Helper()
		s := commandLine(t, "no\n", db("clean", args)...)
		if s.code != code || !strings.Contains(s.err, want) || rig.SQL(count) != full {
			t.Errorf("%s: clean ended with %d: %s%s\n%s", what, s.code, s.out, s.err, rig.SQL(count))
		}
	}
	refused("the answer is no", 2, "is in state copied. These tables of the target are emptied, in this order:\n  "+
		"shop.tags, 25,003 rows\n  shop.items, 3 rows\n"+
		"All that is in them goes, also what the new platform has written.\nType yes to drop migrate_ids on the "+
		"source, migrate_journal on the target, and empty 2 tables of 25,006 rows: ", rows...)
	refused("no mapping", 2, "want --mapping FILE or --profile NAME", append([]string{"--rows"}, flags[6:]...)...)
	refused("a mapping without --rows", 2, "--mapping is for --rows", append(flags[:2:2], flags[6:]...)...)
	refused("IDs without --rows", 2, "--ids is for --rows", append(flags[2:4:4], flags[6:]...)...)
	refused("IDs that are not there", 2, "read the IDs", append(rows, "--ids", "none")...)
	refused("another table of the target", 2, `fills no table "shop.shelves"`, append(rows, "--skip", "shop.shelves")...)

	lock := rig.Server("lock")
	conn, err := lock.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "DO GET_LOCK('holdfast_align', 5)"); err != nil {
		t.Fatal(err)
	}
	refused("a run is under way", 3, "another run is under way", append(rows, "--yes")...)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := lock.DB.Close(); err != nil { // and with it the lock
		t.Fatal(err)
	}
	rig.SQL("CREATE TABLE shop.orders (id INT PRIMARY KEY, item INT, FOREIGN KEY (item) REFERENCES shop.items (id) " +
		"ON DELETE CASCADE) ENGINE=InnoDB; INSERT INTO shop.orders VALUES (1, 2), (2, NULL)")
	refused("another table has children", 3, "rows of table shop.orders, which the mapping does not fill, refer to "+
		"rows of shop.items: nothing was emptied", append(rows, "--yes")...)
	rig.SQL("DELETE FROM shop.orders WHERE id = 1")
	refused("the source's own", 3, "is read as one of the source, which is the same server",
		append(append([]string{"--rows"}, append(flags[:2:2], flags[6:]...)...), "--yes", "--source-db", "shop=shop")...)

	s := commandLine(t, "yes\n", db("clean", rows)...)
	if s.code != 0 || s.out != "dropped: migrate_ids on the source, migrate_journal on the target\nemptied: "+
		"shop.tags, 25,003 rows\nemptied: shop.items, 3 rows\n" || rig.SQL(count) != "0\t0\t2" {
		t.Errorf("clean ended with %d: %s%s\n%s", s.code, s.out, s.err, rig.SQL(count))
	}
	if s := commandLine(t, "", db("clean", flags, "--rows")...); s.code != 0 ||
		!strings.Contains(s.out, "nothing to drop") || !strings.Contains(s.out, "nothing to empty") {
		t.Errorf("clean once more ended with %d: %s%s", s.code, s.out, s.err)
	}
	decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	if s := commandLine(t, "", db("verify", flags)...); s.code != 0 || rig.SQL("SELECT COUNT(*) FROM shop.orders") != "1" {
		t.Errorf("verify ended with %d: %s%s", s.code, s.out, s.err)
	}
	// A copy whose rows are gone is not taken for a whole one.
	rig.SQL("DELETE FROM shop.tags")
	if s := commandLine(t, "", db("run", flags)...); s.code != 3 ||
		!strings.Contains(s.err, "is whole by its journal, and table shop.tags, into which it has written 25003 rows, is empty") {
		t.Errorf("run of an emptied copy ended with %d: %s%s", s.code, s.out, s.err)
	}
	// Tables that refer to themselves, and to each other.
	rig.SQL("ALTER TABLE shop.items ADD before_it INT, ADD FOREIGN KEY (before_it) REFERENCES shop.items (id); " +
		"UPDATE shop.items SET before_it = 4 - id")
	if s := commandLine(t, "", db("clean", rows, "--yes")...); s.code != 0 || !strings.HasSuffix(rig.SQL(count), "0\t0\t2") {
		t.Errorf("clean of rows that refer to each other ended with %d: %s%s", s.code, s.out, s.err)
	}
	rig.SQL("ALTER TABLE shop.items ADD first INT, ADD FOREIGN KEY (first) REFERENCES shop.tags (item_id)")
	if s := commandLine(t, "", db("clean", rows, "--yes")...); s.code != 3 ||
		!strings.Contains(s.err, "refer to each other: empty them by hand") {
		t.Errorf("clean of a circle ended with %d: %s%s", s.code, s.out, s.err)
	}
	if after := rig.SQL(source); after != before {
		t.Errorf("the source was %s and is %s", before, after)
	}
}
