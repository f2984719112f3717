package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/testbed/need"
)

const keysMapping = `
format: 1
name: keys
ids: [{kind: project}, {kind: user}]
tables:
- target: d.pairs
  from: d.pairs
  columns: [{copy: [a, b, v]}]
- target: d.words
  from: d.words
  columns: [{copy: [w, v]}]
- target: d.other
  from: d.words
  columns: [{copy: [w, v]}]
- target: d.numbered
  from: d.pairs
  where: v <> 0
  columns:
  - {to: name, value: a, map: project}
  - {to: owner, value: b, map: user}
- target: d.child
  from: d.child
  columns: [{copy: [id, a, b]}]
- target: d.none
  from: d.none
  columns: [{copy: [id]}]
checks:
- {name: nothing is wrong, rows: "SELECT a FROM {d}.pairs WHERE v = 77"}
`

// keysRig has tables of several kinds of keys, copied.
func keysRig(t *testing.T) *aligntest.Rig {
	t.Helper()
	r := aligntest.MariaDB(t)
	r.SQL(`CREATE DATABASE a_d; USE a_d; SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
CREATE TABLE pairs (a VARCHAR(20) COLLATE utf8mb4_general_ci, b INT, v INT, PRIMARY KEY (a, b)) ENGINE=InnoDB CHARSET=utf8mb4;
INSERT INTO pairs SELECT CONCAT(IF(s.seq % 2, 'Key ', 'key '), s.seq), n.seq, 1 FROM seq_1_to_40 s, seq_1_to_10 n;
CREATE TABLE words (w VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY, v INT) ENGINE=InnoDB CHARSET=utf8mb4;
INSERT INTO words SELECT CONCAT(CHAR(65 + seq % 50), '''\\', seq), seq FROM seq_1_to_300;
CREATE TABLE child (id INT PRIMARY KEY, a VARCHAR(20) COLLATE utf8mb4_general_ci, b INT) ENGINE=InnoDB CHARSET=utf8mb4;
INSERT INTO child SELECT seq, 'key 2', seq FROM seq_1_to_10; INSERT INTO child VALUES (11, NULL, 99), (12, 'nobody', NULL);
CREATE TABLE none (id INT PRIMARY KEY) ENGINE=InnoDB;
CREATE DATABASE b_d; USE b_d; CREATE TABLE pairs LIKE a_d.pairs; CREATE TABLE words LIKE a_d.words; CREATE TABLE none LIKE a_d.none;
CREATE TABLE other (w VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT) ENGINE=InnoDB CHARSET=utf8mb4;
CREATE TABLE numbered (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20), owner VARCHAR(20)) ENGINE=InnoDB CHARSET=utf8mb4;
CREATE TABLE child (id INT PRIMARY KEY, a VARCHAR(20) COLLATE utf8mb4_general_ci, b INT, FOREIGN KEY (a, b) REFERENCES pairs (a, b)) ENGINE=InnoDB CHARSET=utf8mb4;`)
	return r
}

// projects gives each key a name, and users have one for all others.
func projects() map[string]ids.Set {
	pairs := map[string]string{}
	for i := range 40 {
		pairs[fmt.Sprintf("%s %d", []string{"key", "Key"}[(i+1)%2], i+1)] = fmt.Sprintf("new %d", i+1)
	}
	somebody := "somebody"
	return map[string]ids.Set{"project": {Pairs: pairs}, "user": {Pairs: map[string]string{"1": "one"}, Default: &somebody}}
}

func TestKeysOfAllKinds(t *testing.T) {
	need.More(t)
	r := keysRig(t)
	s := r.Server("source")
	m, sets := aligntest.Mapping(t, keysMapping), projects()
	p, to := plan(t, m, s, s, sets)
	if err := ids.Stage(aligntest.Deadline(t), s, m, sets); err != nil {
		t.Fatal(err)
	}
	copied(t, s, p)
	opt := Options{ChunkRows: 7, Parallel: 2}
	x := run(t, m, p, s, s, to, opt)
	if !x.Equal || len(x.Checks) != 3 || x.Checks[1].Name != "reference d.child (a, b) to d.pairs" ||
		x.Checks[2].Name != "values of project in d.numbered.name have IDs" {
		t.Fatalf("%+v", x)
	}
	for i, rows := range []int64{400, 300, 300, 400, 12, 0} {
		if x.Tables[i].SourceRows != rows || x.Tables[i].TargetRows != rows {
			t.Errorf("%+v, want %d rows", x.Tables[i], rows)
		}
	}
	for _, c := range []struct{ change, back, want string }{
		{"UPDATE pairs SET v = 2 WHERE a = 'key 17' AND b = 5", "UPDATE pairs SET v = 1", "[0 [{[Key 17 5] differs}]]"},
		{"UPDATE pairs SET a = 'KEY 17' WHERE a = 'key 17' AND b = 5",
			"UPDATE pairs SET a = 'Key 17' WHERE a = 'key 17'", "[0 [{[KEY 17 5] extra in the target} {[Key 17 5] missing in the target}]]"},
		{"DELETE FROM words WHERE v = 44", "REPLACE INTO words SELECT * FROM a_d.words", `[1 [{[m'\44] missing in the target}]]`},
		{"INSERT INTO words VALUES ('', 1), ('~~~', 1)", "DELETE FROM words WHERE w IN ('', '~~~')",
			"[1 [{[''] extra in the target} {[~~~] extra in the target}]]"},
		// Ordered in another way.
		{"UPDATE other SET v = 0 WHERE v = 5", "UPDATE other SET v = 5 WHERE v = 0", `[2 [{[F'\5] differs}]]`},
		{"UPDATE other SET w = LOWER(w) WHERE v = 5; DELETE FROM other WHERE v = 9; INSERT INTO other VALUES ('ü', 1)",
			"DELETE FROM other; INSERT INTO other SELECT * FROM a_d.words",
			`[2 [{[ü] extra in the target} {[F'\5] missing in the target} {[J'\9] missing in the target} {[f'\5] extra in the target}]]`},
		{"UPDATE numbered SET owner = 'Somebody' WHERE id = 3", "UPDATE numbered SET owner = 'somebody' WHERE id = 3", "[3 []]"},
		{"INSERT INTO none VALUES (1)", "DELETE FROM none", "[5 [{[1] extra in the target}]]"},
	} {
		r.SQL("USE b_d; SET foreign_key_checks = 0; " + c.change)
		x := run(t, m, p, s, s, to, opt)
		var got []string
		for i, tab := range x.Tables {
			if !tab.ChecksumEqual {
				got = append(got, fmt.Sprintf("[%d %v]", i, tab.Differences))
			}
		}
		if x.Equal || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %s, want %s", c.change, got, c.want)
		}
		r.SQL("USE b_d; SET foreign_key_checks = 0; " + c.back)
	}
	if x := run(t, m, p, s, s, to, opt); !x.Equal {
		t.Errorf("put back: %+v", x)
	}
}

// TestManyDifferences: the first are told, and all are counted.
func TestManyDifferences(t *testing.T) {
	need.More(t)
	r := rig(t)
	s := r.Server("source")
	m := aligntest.Mapping(t, kindsMapping)
	p, to := plan(t, m, s, s, nil)
	x := run(t, m, p, s, s, to, Options{ChunkRows: 10})
	tab := x.Tables[0]
	if tab.ChunksDiffer != 40 || len(tab.Differences) != toldKeys ||
		fmt.Sprint(tab.Differences[0]) != "{[0] missing in the target}" ||
		fmt.Sprint(tab.Differences[19]) != "{[23] missing in the target}" || tab.TargetRows != 0 {
		t.Errorf("an empty target: %+v", tab)
	}
	copied(t, s, p)
	r.SQL("DELETE FROM a_d.kinds")
	x = run(t, m, p, s, s, to, Options{ChunkRows: 10})
	if tab = x.Tables[0]; tab.ChunksDiffer != 1 || len(tab.Differences) != toldKeys ||
		tab.Differences[0].What != Extra || tab.SourceRows != 0 || tab.TargetRows != 397 {
		t.Errorf("an empty source: %+v", tab)
	}
}

func TestChecksOfTheTarget(t *testing.T) {
	need.More(t)
	r := keysRig(t)
	s := r.Server("source")
	sets := projects()
	text := strings.Replace(keysMapping, "checks:\n", `checks:
- {name: two, rows: "SELECT id, a FROM {d}.child WHERE id > 10"}
- {name: unknown table, rows: "SELECT id FROM {d}.gone"}
- {name: changes, rows: "WITH x AS (SELECT 1) DELETE FROM {d}.child"}
`, 1)
	m := aligntest.Mapping(t, text)
	p, to := plan(t, m, s, s, sets)
	if err := ids.Stage(aligntest.Deadline(t), s, m, sets); err != nil {
		t.Fatal(err)
	}
	copied(t, s, p)
	// Without the check of foreign keys a parent can go.
	r.SQL("USE b_d; SET foreign_key_checks = 0; DELETE FROM pairs WHERE a = 'key 2' AND b > 6")
	x := run(t, m, p, s, s, to, Options{})
	wants := []string{"two d.child 2 false [id a] [11, NULL 12, nobody] ",
		"unknown table d.gone 0 false [] [] Error 1146", "changes d.child 0 false [] [] Error", "nothing is wrong d.pairs 0 true ",
		"reference d.child (a, b) to d.pairs d.child 4 false [id a b] [7, key 2, 7 ",
		"values of project in d.numbered.name have IDs d.numbered 0 true "}
	if len(x.Checks) != len(wants) || x.Equal {
		t.Fatalf("%+v", x.Checks)
	}
	for i, c := range x.Checks {
		if got := fmt.Sprint(c.Name, " ", c.Table, " ", c.Broken, " ", c.Holds, " ", c.Columns, " ", c.Keys, " ",
			c.Error); !strings.HasPrefix(got, wants[i]) {
			t.Errorf("%s, want %s", got, wants[i])
		}
	}
	if n := r.SQL("SELECT COUNT(*) FROM b_d.child"); n != "12" {
		t.Errorf("a check has changed rows: %s are left", n)
	}
}

// TestKeysAndColumnsForPeople: keys of bytes are told as texts where they are some, and columns
// that the mapping leaves to their defaults are named.
func TestKeysAndColumnsForPeople(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	const raw = "CREATE TABLE raw (k VARBINARY(20) PRIMARY KEY, v INT"
	r.SQL("CREATE DATABASE a_d; USE a_d; " + raw + "); INSERT INTO raw VALUES ('a-text', 1), (X'00FF', 2), ('', 3), " +
		"(X'0041', 4); CREATE DATABASE b_d; USE b_d; " + raw + ", more INT, made TIMESTAMP DEFAULT NOW())")
	s := r.Server("source")
	m := aligntest.Mapping(t, "format: 1\nname: raw\ntables:\n- {target: d.raw, from: d.raw, columns: [{copy: [k, "+
		"v]}]}\nchecks: [{name: small, rows: \"SELECT k, v FROM {d}.raw WHERE v > 1\"}, {name: all, source: \"SELECT "+
		"k FROM {d}.raw\", target: \"SELECT k FROM {d}.raw WHERE v < 2\"}]\n")
	p, to := plan(t, m, s, s, nil)
	x := run(t, m, p, s, s, to, Options{})
	if got := fmt.Sprint(x.Tables[0].Differences, x.Tables[0].NotCompared); got != "[{[''] missing in the target} "+
		"{[a-text] missing in the target} {[X'0041'] missing in the target} {[X'00FF'] missing in the target}] [more made]" {
		t.Errorf("%s", got)
	}
	copied(t, s, p)
	if x = run(t, m, p, s, s, to, Options{}); x.Equal || !x.Tables[0].ChecksumEqual ||
		fmt.Sprint(x.Checks) != "[{small d.raw 3 false [k v] ['', 3 X'0041', 4 X'00FF', 2] } {all d.raw 3 false [value] ['' X'0041' X'00FF'] }]" {
		t.Errorf("%+v", x)
	}
}

// TestValuesWithoutAnID: both sides are NULL then, and yet they are not equal.
func TestValuesWithoutAnID(t *testing.T) {
	need.More(t)
	r := keysRig(t)
	s := r.Server("source")
	m, sets := aligntest.Mapping(t, keysMapping), projects()
	p, to := plan(t, m, s, s, sets)
	if err := ids.Stage(aligntest.Deadline(t), s, m, sets); err != nil {
		t.Fatal(err)
	}
	r.SQL("USE a_d; INSERT INTO pairs SELECT CONCAT('late ', LPAD(seq, 2, '0')), n, 1 FROM seq_1_to_21, (SELECT 1 AS " +
		"n UNION ALL SELECT 2) AS two; INSERT INTO a_d.pairs VALUES ('not mapped', 1, 0)")
	copied(t, s, p)
	if n := r.SQL("SELECT COUNT(*) FROM b_d.numbered WHERE name IS NULL"); n != "42" {
		t.Fatalf("the target has NULL in %s rows, want 42", n)
	}
	x := run(t, m, p, s, s, to, Options{})
	c := x.Checks[len(x.Checks)-1]
	if x.Equal || !x.Tables[3].ChecksumEqual || c.Holds || c.Broken != 21 || c.Name != "values of project in d.numbered.name have IDs" ||
		c.Error != "21 have none" || fmt.Sprint(c.Table, c.Columns, len(c.Keys), c.Keys[0], c.Keys[19]) != "d.numbered[name] 20late 01late 20" {
		t.Errorf("%+v", x)
	}
	r.SQL("DELETE FROM a_d.pairs WHERE a LIKE 'late %' AND a <> 'late 07'; DELETE FROM b_d.pairs WHERE a LIKE 'late " +
		"%' AND a <> 'late 07'; DELETE FROM b_d.numbered WHERE name IS NULL LIMIT 40")
	x = run(t, m, p, s, s, to, Options{})
	if c = x.Checks[len(x.Checks)-1]; x.Equal || c.Error != "1 have none" || fmt.Sprint(c.Keys) != "[late 07]" {
		t.Errorf("%+v", x)
	}
}

// TestPartsOfValuesWithoutAnID: as for whole values, although what is made of them is equal.
func TestPartsOfValuesWithoutAnID(t *testing.T) {
	need.More(t)
	r := keysRig(t)
	s := r.Server("source")
	text := strings.Replace(keysMapping, "{to: owner, value: b, map: user}",
		`{to: owner, value: "coalesce(mapped('project', a), mapped('project', a), mapped('project', concat(a, '!')), 'nobody')"}`, 1)
	m, sets := aligntest.Mapping(t, text), projects()
	p, to := plan(t, m, s, s, sets)
	if err := ids.Stage(aligntest.Deadline(t), s, m, sets); err != nil {
		t.Fatal(err)
	}
	r.SQL("INSERT INTO a_d.pairs VALUES ('late', 1, 1)")
	copied(t, s, p)
	x := run(t, m, p, s, s, to, Options{})
	var got []string
	for _, c := range x.Checks[len(x.Checks)-3:] {
		got = append(got, fmt.Sprint(c.Name, " ", c.Broken, " ", c.Holds))
	}
	want := "values of project in d.numbered.name have IDs 1 false; values of project in d.numbered.owner have IDs 1 " +
		"false; values of project in d.numbered.owner have IDs (2) 41 false"
	if x.Equal || !x.Tables[3].ChecksumEqual || strings.Join(got, "; ") != want {
		t.Errorf("%+v\n%s\nwant\n%s", x.Tables[3], strings.Join(got, "; "), want)
	}
}

func TestWhatRunRefuses(t *testing.T) {
	need.More(t)
	for _, opt := range []Options{{Parallel: -1}, {ChunkRows: -1}} {
		if _, err := Run(context.Background(), nil, nil, nil, nil, mapping.Side{}, opt); err == nil ||
			!strings.Contains(err.Error(), "want numbers from 1") {
			t.Errorf("%+v: %v", opt, err)
		}
	}
	r := rig(t)
	s := r.Server("source")
	m := aligntest.Mapping(t, kindsMapping)
	p, to := plan(t, m, s, s, nil)
	ctx, cancel := context.WithCancel(aligntest.Deadline(t))
	done := 0
	_, err := Run(ctx, m, p, s, s, to, Options{ChunkRows: 1, Parallel: 2, Progress: func(p Progress) {
		if done++; p.Table != "d.kinds" || p.Rows < 1 || len(p.Tables) != 1 || p.Tables[0].Table != p.Table ||
			p.Tables[0].SourceRows != p.Rows || p.Tables[0].Done {
			t.Errorf("progress %+v", p)
		}
		cancel()
	}})
	if !errors.Is(err, context.Canceled) || done == 0 {
		t.Errorf("cancelled: %v, progress %d times", err, done)
	}
	r.SQL("DROP TABLE b_d.kinds")
	if _, err := Run(aligntest.Deadline(t), m, p, s, s, to, Options{}); err == nil || !strings.Contains(err.Error(), "checksum of d.kinds") {
		t.Errorf("a table that is gone: %v", err)
	}
	r.Kill()
	if _, err := Run(aligntest.Deadline(t), m, p, s, s, to, Options{}); err == nil {
		t.Error("servers that are gone are equal")
	}
}
