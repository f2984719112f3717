package survey

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/testbed/need"
)

const loose = `
format: 1
name: loose
ids: [{kind: cell}]
tables:
- target: new.copies
  from: old.things
  join:
  - {as: x, table: old.extras, match: x.thing = s.id, optional: true}
  columns:
  - copy: [name]
  - {to: extra, value: x.extra}
  - {to: cell, value: cell, map: cell}
`

const looseOld = `DROP DATABASE IF EXISTS o; DROP DATABASE IF EXISTS n; CREATE DATABASE o; USE o;
CREATE TABLE things (id INT PRIMARY KEY, name VARCHAR(20), cell INT) ENGINE=InnoDB CHARSET=utf8mb4;
CREATE TABLE extras (id INT PRIMARY KEY, thing INT, extra VARCHAR(9), KEY (thing)) ENGINE=InnoDB CHARSET=utf8mb4;
INSERT INTO things SELECT seq, CONCAT('Name ', seq), IF(seq = 9, NULL, seq % 3) FROM seq_1_to_300;
INSERT INTO extras SELECT seq, seq, 'x' FROM seq_1_to_300;
CREATE DATABASE n; USE n;
CREATE TABLE cells (id INT PRIMARY KEY) ENGINE=InnoDB;
CREATE TABLE names (name VARCHAR(20) CHARACTER SET utf8mb3, UNIQUE KEY (name)) ENGINE=InnoDB;
CREATE TABLE copies (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20) CHARACTER SET utf8mb3, extra VARCHAR(9), cell INT, FOREIGN KEY (cell) REFERENCES cells (id), FOREIGN KEY (name) REFERENCES names (name)) ENGINE=InnoDB CHARSET=utf8mb4;
INSERT INTO cells VALUES (7), (8);
INSERT INTO names SELECT CONCAT('name ', seq) FROM seq_1_to_300;
`

// TestRowsThatNoKeyOfTheTargetTells: doubled ones whose key the server counts, and those
// that refer to tables that the mapping does not fill.
func TestRowsThatNoKeyOfTheTargetTells(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=ROW")
	s := reader(t, r, "source")
	seven, other := "7", "99"
	cells := func(otherwise *string, pairs map[string]string) map[string]ids.Set {
		return map[string]ids.Set{"cell": {Pairs: pairs, Default: otherwise, From: "cell.csv"}}
	}
	for _, c := range []struct {
		what, sql        string
		sets             map[string]ids.Set
		errors, warnings []string
	}{
		{what: "nothing is wrong", sets: cells(&seven, map[string]string{"1": "8"})},
		{what: "a join that doubles", sql: "INSERT INTO o.extras VALUES (1000, 8, 'y'), (1001, 8, 'z'), (1002, 9, 'z')", sets: cells(&seven, nil),
			errors: []string{`new.copies: join x (old.extras): want at most one row for each row of old.things: these have several (id): "8" (3 times); "9" (2 times)`}},
		{what: "all others are nowhere", sets: cells(&other, map[string]string{"1": "8"}),
			errors: []string{`new.copies cell: 1 values refer to rows of new.cells that the target does not have, and the mapping does not fill it: "99"`}},
		{what: "each is nowhere", sets: cells(nil, map[string]string{"0": "7", "1": "98", "2": "99", "3": "97"}),
			errors: []string{`: 2 values refer to rows of new.cells that the target does not have, and the mapping does not fill it: "98"; "99"`}},
		{what: "values as they are", sets: cells(&seven, nil),
			sql: "DELETE FROM n.names WHERE name IN ('name 3', 'name 299'); UPDATE o.things SET name = NULL WHERE " +
				"id = 4; DELETE FROM n.names WHERE name = 'name 4'",
			errors: []string{`new.copies name: 2 values refer to rows of new.names that the target does not have, and the mapping does not fill it: "Name 299"; "Name 3"`}},
		{what: "too many values", sets: cells(&seven, nil),
			sql: "INSERT INTO o.things SELECT seq, CONCAT('many ', seq), 1 FROM seq_1001_to_11000",
			warnings: []string{"new.copies name: whether rows of new.names are there for it is not looked at, since " +
				"it has more than 10000 different values"}},
		{what: "characters that the parent can not have", sets: cells(&seven, nil), sql: "UPDATE o.things SET name = '😀' WHERE id = 5",
			errors: []string{"new.copies name: 1 rows have characters that utf8mb3 does not have"},
			warnings: []string{"new.copies name: whether rows of new.names are there for it is not looked at: the " +
				"target's server refuses the statement: Illegal mix"}},
	} {
		r.SQL(looseOld + c.sql)
		got, _ := plan(t, aligntest.Mapping(t, loose), s, s, c.sets)
		compare(t, c.what+": errors", texts(got.Errors), c.errors)
		warnings := slices.DeleteFunc(texts(got.Warnings), func(w string) bool {
			return strings.Contains(w, "character set ") || strings.Contains(w, ": collation ")
		})
		compare(t, c.what+": warnings", warnings, c.warnings)
	}
}

// TestKeysThatTheSourceCanNotCompare are no errors: what it compared is another collation.
func TestKeysThatTheSourceCanNotCompare(t *testing.T) {
	l := &look{t: &mapping.Planned{Target: "new.things"}}
	l.collide("unique key u (name) of the target", mapping.Collision{Index: "u", Columns: []string{"name"},
		Rough: "utf8mb4_0900_as_cs"}, [][]string{{"a", "2"}})
	if w := texts(l.warnings); len(l.errors) != 0 || len(w) != 1 ||
		!strings.Contains(w[0], `does not know collation utf8mb4_0900_as_cs: "a" (2 times)`) {
		t.Errorf("%v, %v", l.errors, l.warnings)
	}
}
