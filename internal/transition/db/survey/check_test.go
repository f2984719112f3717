package survey

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
)

// TestChecksOfTheSource: rows that break a check are counted, and the first told by their
// keys; a statement that the server refuses is told, and nothing is asked of what is skipped.
func TestChecksOfTheSource(t *testing.T) {
	r := aligntest.MariaDB(t)
	s := reader(t, r, "source")
	r.SQL(old + "INSERT INTO parents SELECT seq, CONCAT('parent ', seq), 0 FROM seq_1000_to_2200;" + made)
	m := aligntest.Mapping(t, mappingText+`checks:
- {name: parents have low numbers, rows: "SELECT id, name FROM {old}.parents WHERE id >= 1000 ORDER BY id", asks: source, table: new.parents, remedy: "DELETE FROM {old}.parents"}
- {name: things have names, rows: "SELECT id FROM {old}.things WHERE name IS NULL", asks: source, table: new.things}
- {name: nobody knows, rows: "SELECT id FROM {old}.nothing", asks: source, table: new.things}
- {name: of the target, rows: "SELECT id FROM {new}.nothing"}
`)
	found, _ := plan(t, m, s, s, sets())
	got := texts(found.Errors)
	if len(got) != 2 || got[0] != "new.parents: parents have low numbers: 1201 rows of the source break it (id, name "+
		"of the first: 1000, parent 1000; 1001, parent 1001; 1002, parent 1002; 1003, parent 1003; 1004, parent "+
		"1004; ...): DELETE FROM `o`.parents" ||
		!strings.HasPrefix(got[1], "new.things: nobody knows: the source's server refuses the statement of this check: ") ||
		!strings.Contains(got[1], "(error 1146)") {
		t.Fatalf("%q", got)
	}
	if keys := found.Errors[0].Keys; len(keys) != toldRows || keys[999] != "1999, parent 1999" {
		t.Errorf("%d keys", len(keys))
	}
	if err := m.Skip([]string{"new.parents"}); err != nil {
		t.Fatal(err)
	}
	if found, _ := plan(t, m, s, s, sets()); strings.Contains(strings.Join(texts(found.Errors), "\n"), "low numbers") {
		t.Errorf("%q", texts(found.Errors))
	}
}

// TestChecksBesideOtherErrors: what can be asked in spite of a plan's errors is asked, and the checks
// of tables and columns that have some are told, and break nothing.
func TestChecksBesideOtherErrors(t *testing.T) {
	r := aligntest.MariaDB(t)
	s := reader(t, r, "source")
	r.SQL(old + "ALTER TABLE parents ADD forgotten INT;" + made + `ALTER TABLE things DROP label; CREATE TABLE more (id INT PRIMARY KEY) ENGINE=InnoDB;
		ALTER TABLE things ADD CONSTRAINT tm FOREIGN KEY (cell) REFERENCES more (id);`)
	m := aligntest.Mapping(t, strings.Replace(mappingText, "columns: [{copy: [id, name]}]", "columns: [{copy: [id, name, gone]}]", 1)+`- target: new.more
  from: old.more
  columns: [{copy: [id]}]
checks:
- {name: parents have low numbers, rows: "SELECT id FROM {new}.parents WHERE id >= 20"}
- {name: parents are there, rows: "SELECT id FROM {new}.parents WHERE gone IS NULL"}
- {name: things have labels, rows: "SELECT * FROM {new}.things WHERE name IS NULL"}
- {name: nothing is called so, rows: "SELECT id FROM {new}.things WHERE name = 'thing 7'"}
- {name: there is more, rows: "SELECT t.id FROM {new}.things t LEFT JOIN {new}.more m ON m.id = t.id WHERE m.id IS NULL"}
- {name: there was more, rows: "SELECT id FROM {old}.more", asks: source, table: new.more}
`)
	found, _ := plan(t, m, s, s, sets())
	got := strings.Join(texts(found.Errors), "\n")
	for _, want := range []string{
		"new.parents gone: table old.parents of the source has no such column",
		"new.things label: the target has no such column", "new.more: the source has no table old.more",
		"new.parents: parents have low numbers: 1 rows of the source break it (id of the first: 20)",
		"new.things: nothing is called so: 1 rows of the source break it (id of the first: 7)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nhas not %q", got, want)
		}
	}
	if n := len(found.Errors); n != 6 { // and the column that goes nowhere
		t.Errorf("%d errors: %s", n, got)
	}
	warned := strings.Join(texts(found.Warnings), "\n")
	for _, want := range []string{
		"these checks were not asked, as the plan has errors of the tables that they ask for: there was more " +
			"(old.more); parents are there (new.parents); things have labels (new.things); there is more (new.more)",
		"new.things cell: whether rows of new.more are there for it is not looked at: the plan has errors of it",
	} {
		if !strings.Contains(warned, want) {
			t.Errorf("%s\nhas not %q", warned, want)
		}
	}
	if strings.Contains(warned, "only verify can ask") || strings.Contains(warned, "refuses the statement") {
		t.Errorf("%s", warned)
	}
}
