package survey

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
)

// TestTablesThatStayBehind: those with rows that the mapping does not name.
func TestTablesThatStayBehind(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=ROW")
	r.SQL(plainOld + `CREATE TABLE n.parents (id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin) ENGINE=InnoDB CHARSET=utf8mb4;
CREATE TABLE none (id INT); CREATE TABLE few (id INT) ENGINE=MyISAM; CREATE TABLE exact (id INT PRIMARY KEY) ENGINE=InnoDB; CREATE TABLE many (id INT PRIMARY KEY) ENGINE=InnoDB;
CREATE TABLE shadow_a (id INT); CREATE TABLE shadow_b (id INT); CREATE VIEW seen AS SELECT * FROM few;
INSERT INTO few VALUES (1), (2); INSERT INTO exact SELECT seq FROM seq_1_to_10000; INSERT INTO many SELECT seq FROM seq_1_to_30000; INSERT INTO shadow_a VALUES (1); INSERT INTO shadow_b VALUES (1); ANALYZE TABLE many;
CREATE TABLE gone (id INT) ENGINE=MyISAM; CREATE TABLE broken (id INT) ENGINE=MERGE UNION=(gone); DROP TABLE gone`)
	s := reader(t, r, "source")
	const of = ": %d tables of the source's database o have rows, and the mapping neither reads nor ignores them: "
	for _, c := range []struct {
		ignore string
		n      int
		want   string
	}{
		{"", 6, "old.many (about "},
		{"ignore: [old.shadow_*]", 4, "old.many (about "},
		{"ignore: [old.shadow_*, old.many, old.broken]", 2, "old.exact (10000 rows); old.few (2 rows)"},
		{"ignore: [old.s*_b, old.m*y, old.*ro*, old.f*, old.exact]", 1, "old.shadow_a (1 rows)"},
		{"ignore: [old.shadow_*, old.many, old.few, old.exact, old.broken, old.none, old.never_was]", 0, ""},
	} {
		got, _ := plan(t, aligntest.Mapping(t, plainMapping+c.ignore), s, s, nil)
		var want []string
		if c.n > 0 {
			want = []string{fmt.Sprintf(of, c.n) + c.want}
		}
		compare(t, c.ignore, texts(got.Warnings), want)
		compare(t, c.ignore+": errors", texts(got.Errors), nil)
		if c.ignore == "" && len(got.Warnings) == 1 {
			compare(t, "all of them", got.Warnings[0].Values,
				[]string{"old.many (about ", "old.exact (10000 rows)", "old.few (2 rows)", "old.shadow_a (1 rows)",
					"old.shadow_b (1 rows)", "old.broken (Unable to open"})
			var about int
			if _, err := fmt.Sscanf(got.Warnings[0].Values[0], "old.many (about %d rows)", &about); err != nil || about < 20_000 || about > 40_000 {
				t.Errorf("%s: %v", got.Warnings[0].Values[0], err)
			}
		}
	}
	// What one name of a database reads is not left behind by another one.
	r.SQL("ALTER TABLE o.few ADD PRIMARY KEY (id), ENGINE=InnoDB; CREATE TABLE n.few (id INT PRIMARY KEY) ENGINE=InnoDB")
	m := aligntest.Mapping(t, plainMapping+`- target: new.few
  from: too.few
  columns: [{copy: [id]}]
ignore: [old.shadow_*, too.many, old.broken]
`)
	got, _, err := Plan(aligntest.Deadline(t), m, s, s, map[string]string{"old": "o", "too": "o"}, map[string]string{"new": "n"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "two names of a database", texts(got.Warnings), []string{fmt.Sprintf(of, 1) + "old.exact (10000 rows)"})
	compare(t, "two names of a database: errors", texts(got.Errors), nil)
}

// TestRowsThatAJoinLeavesOut are counted for each join, by what the mapping's where takes.
func TestRowsThatAJoinLeavesOut(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=ROW")
	r.SQL(plainOld + `CREATE TABLE n.parents (id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin) ENGINE=InnoDB CHARSET=utf8mb4;
CREATE TABLE houses (id INT PRIMARY KEY, owner INT, street INT, deleted INT) ENGINE=InnoDB;
CREATE TABLE streets (id INT PRIMARY KEY) ENGINE=InnoDB;
INSERT INTO houses SELECT seq, seq, seq % 4, IF(seq = 9, 1, 0) FROM seq_1_to_20 WHERE seq NOT IN (2, 5, 6);
INSERT INTO streets VALUES (0), (1), (2); UPDATE parents SET deleted = 1 WHERE id IN (6, 7)`)
	s := reader(t, r, "source")
	text := strings.Replace(plainMapping, "  where: deleted = 0\n", `  where: WHERE
  join:
  - {as: h, table: old.houses, match: h.owner = s.id}
  - {as: st, table: old.streets, match: st.id = h.street, optional: true}
  - {as: must, table: old.streets, match: must.id = h.street}
  find:
  - {as: other, table: old.streets, match: other.id = h.street}
`, 1)
	const streets = "new.parents: 4 rows have no row of old.streets (join must), and are left out (id of the first: 3; 11; 15; 19)"
	for where, want := range map[string][]string{
		"s.deleted = 0": {"new.parents: 2 rows have no row of old.houses (join " +
			"h), and are left out (id of the first: 2; 5)", streets},
		"s.deleted = 0 and h.deleted = 0": {"join h), and are left out (id of the first: 2; 5)", streets},
		"(s.deleted = 0 and (h.deleted = 0 and s.id <> 2))": {"new.parents: 1 rows have no row of old.houses (join " +
			"h), and are left out (id of the first: 5)", streets},
		"s.deleted = 0 and found('other')":                    {"join h), and are left out (id of the first: 2; 5)"},
		"s.deleted = 0 and (h.deleted = 0 or s.id = 3)":       {"join h), and are left out (id of the first: 2; 5)", streets},
		"s.id in (8, 12) and s.deleted = 0 and st.id is null": nil,
		"s.deleted >= 0": {"new.parents: 3 rows have no row of old.houses (join h), and are left out (id of the " +
			"first: 2; 5; 6)", "5 rows have no row of old.streets (join must), and are left out (id of the first: 3; 7; 11; 15; 19)"},
	} {
		got, _ := plan(t, aligntest.Mapping(t, strings.Replace(text, "WHERE", `"`+where+`"`, 1)), s, s, nil)
		compare(t, where, texts(got.Warnings), want)
		compare(t, where+": errors", texts(got.Errors), nil)
		if len(want) > 0 && len(got.Warnings) > 0 && len(got.Warnings[0].Keys) == 0 {
			t.Errorf("%s: no keys: %+v", where, got.Warnings[0])
		}
	}
}
