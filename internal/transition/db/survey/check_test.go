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
	if len(got) != 2 || got[0] != "new.parents: parents have low numbers: 1201 rows of the source break it (id, name of the first: 1000, parent 1000; 1001, parent 1001; 1002, parent 1002; 1003, parent 1003; 1004, parent 1004; ...): DELETE FROM `o`.parents" ||
		!strings.HasPrefix(got[1], "new.things: nobody knows: the source's server refuses the statement of this check: ") || !strings.Contains(got[1], "(error 1146)") {
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
