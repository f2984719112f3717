package survey

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

const mappingText = `
format: 1
name: things
ids: [{kind: project}, {kind: user}, {kind: cell}]
tables:
- target: new.parents
  from: old.parents
  where: deleted = 0
  columns: [{copy: [id, name]}]
- target: new.things
  from: old.things
  where: deleted = 0
  after: [new.parents]
  join:
  - {as: x, table: old.extras, match: x.thing = s.id, optional: true}
  columns:
  - copy: [id, parent, name, at, day, note]
  - {to: label, value: "concat('a ', name)"}
  - {to: project, value: project, map: project}
  - {to: owner, value: owner, map: user}
  - {to: cell, value: "'1'", map: cell}
  - {to: extra, value: x.extra}
`

const old = `CREATE DATABASE o; USE o; SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00';
CREATE TABLE parents (id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin, deleted INT) ENGINE=InnoDB CHARSET=utf8mb4;
CREATE TABLE things (id INT PRIMARY KEY, parent INT, name VARCHAR(20), at DATETIME, day DATE, note TEXT CHARACTER SET utf8mb4, project VARCHAR(40) COLLATE utf8mb4_general_ci, owner VARCHAR(40), deleted INT) ENGINE=InnoDB CHARSET=utf8mb4;
CREATE TABLE extras (id INT PRIMARY KEY, thing INT, extra VARCHAR(9)) ENGINE=InnoDB CHARSET=utf8mb4;
INSERT INTO parents SELECT seq, CONCAT('parent ', seq), 0 FROM seq_1_to_20;
INSERT INTO things SELECT seq, 1 + seq % 20, CONCAT('thing ', seq), '2015-10-15', '2015-10-15', 'ok', CONCAT('p', seq % 4), CONCAT('u', seq), 0 FROM seq_1_to_200;
INSERT INTO extras SELECT seq, seq, 'x' FROM seq_1_to_200;
`

const made = `CREATE DATABASE n; USE n;
CREATE TABLE parents (id INT PRIMARY KEY, name VARCHAR(20), UNIQUE KEY uniq_name (name)) ENGINE=InnoDB CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE things (id INT PRIMARY KEY, parent INT, name VARCHAR(20), at DATETIME, day DATE, note TEXT CHARACTER SET utf8mb3, label VARCHAR(12), project VARCHAR(8) NOT NULL, owner VARCHAR(40), cell INT, extra VARCHAR(9) NOT NULL,
  UNIQUE KEY uniq_owner (project, owner), FOREIGN KEY (parent) REFERENCES parents (id)) ENGINE=InnoDB CHARSET=utf8mb4;
`

// sets give four projects, all users a name of their own, and one cell.
func sets() map[string]ids.Set {
	projects, users := map[string]string{}, map[string]string{}
	for i := range 4 {
		projects[fmt.Sprintf("p%d", i)] = fmt.Sprintf("P-%d", i)
	}
	for i := range 200 {
		users[fmt.Sprintf("u%d", i+1)] = fmt.Sprintf("U-%d", i+1)
	}
	return map[string]ids.Set{"project": {Pairs: projects, From: "project.csv"},
		"user": {Pairs: users, From: "user.csv"}, "cell": {Pairs: map[string]string{"1": "7"}, From: "cell.csv"}}
}

// reader may read, and has the rights that a run needs, of which a survey makes no use.
func reader(t *testing.T, r *aligntest.Rig, role string) *server.Server {
	t.Helper()
	return account(t, r, role, "reader", "GRANT INSERT ON n.* TO reader@'%'; GRANT ALL ON migrate_journal.* TO "+
		"reader@'%'; GRANT ALL ON migrate_ids.* TO reader@'%'")
}

// account may read, and what grants say.
func account(t *testing.T, r *aligntest.Rig, role, user, grants string) *server.Server {
	t.Helper()
	r.SQL("CREATE USER IF NOT EXISTS " + user + "@'%'; GRANT SELECT, BINLOG MONITOR ON *.* TO " + user + "@'%';" + grants)
	s, err := server.Open(aligntest.Deadline(t), role, fmt.Sprintf("%s@tcp(127.0.0.1:%d)/", user, r.Port()),
		server.Options{Password: func(string) (string, error) { return "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func plan(t *testing.T, m *mapping.Mapping, s, d *server.Server, sets map[string]ids.Set) (*Result, *mapping.Plan) {
	t.Helper()
	r, p, err := Plan(aligntest.Deadline(t), m, s, d, map[string]string{"old": "o"}, map[string]string{"new": "n"}, sets)
	if err != nil {
		t.Fatal(err)
	}
	return r, p
}

func texts(list []Finding) []string {
	out := make([]string, 0, len(list))
	for _, f := range list {
		out = append(out, strings.TrimSpace(f.Table+" "+f.Column)+": "+f.Text)
	}
	return out
}

func TestRowsAreAsked(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=ROW")
	s := reader(t, r, "source")
	for _, c := range []struct {
		what, old, made, mapping string // what is done to the schemas' SQL; old text => new text in the mapping
		sets                     func(map[string]ids.Set)
		errors, warnings         []string
	}{
		{what: "nothing is wrong"},
		{what: "values without an ID", old: "UPDATE things SET project = CONCAT('P', id % 4) WHERE id < 31; UPDATE " +
			"things SET owner = CONCAT(id, ' nobody ', id) WHERE id < 31; UPDATE things SET project = 'gone', " +
			"deleted = 1 WHERE id = 50; UPDATE things SET project = 'p1  ' WHERE id = 51",
			errors: []string{`new.things project: 4 values have no line among the IDs of project (project.csv): "P0", "P1", "P2", "P3"`,
				`new.things owner: 30 values have no line among the IDs of user (user.csv): "1 nobody 1", "10 nobody 10", "11 nobody 11",`}},
		{what: "NULL", old: "UPDATE things SET project = NULL WHERE id IN (5, 6); DELETE FROM extras WHERE thing = 7",
			errors: []string{"new.things project: 2 rows have NULL, which the target does not allow (id of the " +
				"first: 5; 6)", "new.things extra: 1 rows have NULL, which the target does not allow (id of the first: 7)"}},
		{what: "new values that do not fit", sets: func(s map[string]ids.Set) {
			s["project"].Pairs["p1"] = "much too long"
			s["cell"].Pairs["1"] = "one"
		}, errors: []string{`new.things project: 1 new values of the IDs of project (project.csv) are no values of a column varchar(8): "much too long"`, `new.things cell: 1 new values of the IDs of cell (cell.csv) are no values of a column int(11): "one"`}},
		{what: "characters of four bytes", old: "UPDATE things SET note = '😀' WHERE id IN (9, 150); UPDATE things SET note = '漢字?' WHERE id = 10",
			errors: []string{"new.things note: 2 rows have characters that utf8mb3 does not have (id of the first: 9; 150)"}},
		{what: "an expression's text that is too long", old: "UPDATE things SET name = 'twelve bytes' WHERE id = 3",
			errors: []string{"new.things label: 1 rows have a text that is too long for varchar(12) (id of the first: 3)"}},
		{what: "zero dates", old: "UPDATE things SET at = '0000-00-00' WHERE id <= 7; UPDATE things SET day = " +
			"'2015-00-01' WHERE id = 1; UPDATE things SET day = '0000-00-00', deleted = 1 WHERE id = 2",
			warnings: []string{"new.things at: 6 rows have a date that is none, such as 0000-00-00: they are carried " +
				"over as they are (id of the first: 1; 3; 4; 5; 6; ...)", "new.things day: 1 rows have a date that is none"}},
		{what: "keys that collide by case", old: "UPDATE parents SET name = 'PARENT 2' WHERE id = 3; UPDATE parents " +
			"SET name = NULL WHERE id IN (4, 5)",
			errors: []string{`new.parents: unique key uniq_name (name) of the target: values that come more than once: "`}},
		{what: "keys that collide, but are not copied",
			old: "UPDATE parents SET name = 'PARENT 2', deleted = 1 WHERE id = 3; UPDATE things SET parent = 1 WHERE parent = 3"},
		{what: "keys that collide after the lookup",
			sets:   func(s map[string]ids.Set) { s["user"].Pairs["u4"] = "u-8"; s["project"].Pairs["p3"] = "P-2" },
			errors: []string{`new.things: unique key uniq_owner (project, owner) of the target: values that come more than once: "p0", "u4" (2 times)`}},
		{what: "keys that collide by the line for all others", sets: func(s map[string]ids.Set) {
			for i := 1; i <= 9; i++ {
				delete(s["user"].Pairs, fmt.Sprintf("u%d", i))
			}
			everybody := "everybody"
			s["user"] = ids.Set{Pairs: s["user"].Pairs, Default: &everybody}
		}, errors: []string{`values that come more than once: "p0", "u1" (2 times); "p1", "u1" (3 times); "p2", "u1" (2 times); "p3", "u1" (2 times)`}},
		{what: "keys that are doubled by a join", old: "INSERT INTO extras VALUES (1000, 8, 'y'), (1001, 8, 'z')",
			errors: []string{`new.things: join x (old.extras): want at most one row for each row of old.things: these have several (id): "8" (3 times)`, `uniq_owner (project, owner) of the target: values that come more than once: "p0", "u8" (3 times)`}},
		{what: "no parent", old: "UPDATE things SET parent = 99 WHERE id IN (1, 2); UPDATE parents SET deleted = 1 " +
			"WHERE id = 5; UPDATE things SET parent = NULL WHERE id = 3",
			errors: []string{"new.things parent: 12 rows refer to rows of new.parents that will not be there (id of " +
				"the first: 1; 2; 4; 24; 44; ...)"}},
		{what: "rows in the target", made: "INSERT INTO parents VALUES (1, 'a'), (2, 'b')",
			errors: []string{"new.parents: the target's table has 2 rows already: want it empty"}},
		{what: "engines", old: "ALTER TABLE extras ENGINE=MyISAM",
			made: "ALTER TABLE things DROP FOREIGN KEY things_ibfk_1; ALTER TABLE things ENGINE=Aria",
			errors: []string{"new.things: table old.extras of the source has engine MyISAM: want InnoDB",
				"new.things: the target's table has engine Aria: want InnoDB"}},
		{what: "a plan with errors has its rows asked, too",
			old:    "ALTER TABLE parents ADD more INT; UPDATE parents SET name = 'PARENT 2' WHERE id = 3",
			errors: []string{"new.parents: column more of table old.parents of the source goes nowhere", "new.parents: unique key uniq_name"}},
		{what: "an expression that is none", mapping: "concat('a ', name)=>concat('a ', gone)",
			old:    "UPDATE parents SET name = 'PARENT 2' WHERE id = 3",
			errors: []string{"new.things label: gone: there is no such column", "new.parents: unique key uniq_name"}},
		{what: "a statement that the server refuses", mapping: "concat('a ', name)=>if(project = owner, 'a', 'b')",
			old:    "ALTER TABLE things MODIFY owner VARCHAR(40) COLLATE utf8mb4_unicode_ci",
			errors: []string{"new.things: rows of old.things: the source's server refuses the statement: Illegal mix of collations"}},
	} {
		r.SQL("DROP DATABASE IF EXISTS o; DROP DATABASE IF EXISTS n; " + old + c.old + ";" + made + c.made)
		text := mappingText
		if c.mapping != "" {
			from, to, _ := strings.Cut(c.mapping, "=>")
			if text = strings.Replace(mappingText, from, to, 1); text == mappingText {
				t.Fatalf("%s is not in the mapping", from)
			}
		}
		set := sets()
		if c.sets != nil {
			c.sets(set)
		}
		got, p := plan(t, aligntest.Mapping(t, text), s, s, set)
		compare(t, c.what+": errors", texts(got.Errors), c.errors)
		warnings := slices.DeleteFunc(texts(got.Warnings), func(w string) bool {
			return strings.Contains(w, ": collation ") || strings.Contains(w, ": character set ")
		})
		compare(t, c.what+": warnings", warnings, c.warnings)
		if len(got.Tables) != 2 || len(p.Tables) != 2 || got.Tables[0].Target != "new.parents" || len(c.errors) == 0 &&
			c.old == "" && (got.Tables[0].Rows != 20 || got.Tables[1].Rows != 200 || got.Tables[1].Statement != p.Tables[1].Statement("")) {
			t.Errorf("%s: %+v", c.what, got.Tables)
		}
	}
	if n := r.SQL("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'migrate%'"); n != "0" {
		t.Errorf("%s databases were made", n)
	}
}

func compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = strings.Contains(got[i], want[i])
	}
	if !ok {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestColumnsThatAreNotThere: the name of a column that is looked up is wrong.
func TestColumnsThatAreNotThere(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL(old + made)
	m, err := mapping.ParseMapping("m.yaml", []byte(strings.Replace(mappingText, "to: cell,", "to: celll,", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := plan(t, m, r.Server("source"), r.Server("target"), sets()); !slices.Contains(texts(got.Errors),
		"new.things celll: the target has no such column") {
		t.Errorf("%q", texts(got.Errors))
	}
}

// TestKeysAmongParts: rows of two parts of a table have one value.
func TestKeysAmongParts(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL(`CREATE DATABASE o; CREATE TABLE o.a (id INT PRIMARY KEY, name VARCHAR(9)) ENGINE=InnoDB CHARSET=utf8mb4; CREATE TABLE o.b LIKE o.a;
		INSERT INTO o.a VALUES (1, 'x'), (2, 'y'); INSERT INTO o.b VALUES (1, 'X'), (2, 'z');
		CREATE DATABASE n; CREATE TABLE n.p (id INT PRIMARY KEY, name VARCHAR(9), UNIQUE KEY one (name)) ENGINE=InnoDB CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci`)
	m, err := mapping.ParseMapping("m.yaml", []byte(`
format: 1
name: parts
tables:
- {target: new.p, from: old.a, columns: [{copy: [id, name]}]}
- {target: new.p, part: more, shift: 1000, from: old.b, columns: [{copy: [name]}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	got, _ := plan(t, m, r.Server("source"), r.Server("target"), nil)
	if list := texts(got.Errors); len(list) != 1 || !strings.HasPrefix(list[0],
		"new.p: unique key one (name) of the target: values that come more than once: ") {
		t.Errorf("%q", list)
	}
}

func TestListsOfFindings(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL(old + made + "INSERT INTO o.things SELECT seq, 1, 'x', NULL, NULL, NULL, CONCAT('q', seq), CONCAT('u', seq " +
		"% 200 + 1), 0 FROM seq_1001_to_1250")
	s := reader(t, r, "source")
	got, _ := plan(t, aligntest.Mapping(t, mappingText), s, s, sets())
	var missing *Finding
	for i := range got.Errors {
		if got.Errors[i].Column == "project" {
			missing = &got.Errors[i]
		}
	}
	if missing == nil || len(missing.Values) != 250 || missing.Values[0] != "q1001" || missing.Values[249] != "q1250" ||
		strings.Count(missing.Text, `"`) != 40 || !strings.HasSuffix(missing.Text, ", ...") {
		t.Errorf("%+v", got.Errors)
	}
	text, err := json.Marshal(missing)
	if err != nil || !strings.HasPrefix(string(text), `{"table":"new.things","column":"project","text":"250 values`) ||
		!strings.Contains(string(text), `"values":["q1001",`) {
		t.Errorf("%.200s, %v", text, err)
	}
	// There is no binary log, which only --follow needs.
	if w := texts(got.Warnings); !strings.Contains(w[len(w)-1], "no binary log") {
		t.Errorf("%v", w)
	}
	if text, err = json.Marshal(Result{Tables: []Table{}, Errors: plain(nil),
		Warnings: plain(nil)}); string(text) != `{"tables":[],"errors":[],"warnings":[]}` {
		t.Errorf("%s, %v", text, err)
	}
}

func TestBinaryLogOfAnotherForm(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=STATEMENT")
	r.SQL(old + made)
	s := reader(t, r, "source")
	got, _ := plan(t, aligntest.Mapping(t, mappingText), s, s, sets())
	if w := texts(got.Warnings); !strings.Contains(w[len(w)-1], "binlog_format STATEMENT and binlog_row_image FULL: want ROW and FULL") {
		t.Errorf("%v", w)
	}
}

// TestManyRows: keys of many rows are compared by the server in a time that grows with them.
func TestManyRows(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL(old + made + `USE o; INSERT INTO parents SELECT seq, CONCAT('many ', seq), 0 FROM seq_1001_to_61000;
INSERT INTO things SELECT seq, seq, 'x', NULL, NULL, 'x', 'p1', CONCAT('w', seq), 0 FROM seq_1001_to_61000;
INSERT INTO extras SELECT seq, seq, 'x' FROM seq_1001_to_61000; CREATE INDEX i ON extras (thing); DELETE FROM parents WHERE id = 60000; ANALYZE TABLE things`)
	s := reader(t, r, "source")
	all := sets()
	nobody := "nobody"
	all["user"] = ids.Set{Pairs: all["user"].Pairs, Default: &nobody}
	got, _ := plan(t, aligntest.Mapping(t, mappingText), s, s, all)
	compare(t, "errors", texts(got.Errors), []string{"new.things parent: 1 rows refer"})
	if w := texts(got.Warnings); !slices.ContainsFunc(w, func(w string) bool {
		return strings.Contains(w, "more than 20000 values of user become the same as others")
	}) {
		t.Errorf("%v", w)
	}
	if x := got.Tables[1]; x.Rows != 60200 || x.Seconds <= 0 || x.Seconds > 10 {
		t.Errorf("%+v", x)
	}
}

func TestServersThatCanNotBeAsked(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL(old + made)
	s := reader(t, r, "source")
	m := aligntest.Mapping(t, mappingText)
	if _, _, err := Plan(aligntest.Deadline(t), m, s, s, map[string]string{"old": "gone"},
		map[string]string{"new": "n"}, sets()); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a database that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(aligntest.Deadline(t))
	cancel()
	if _, _, err := Plan(ctx, m, s, s, map[string]string{"old": "o"}, map[string]string{"new": "n"}, sets()); err == nil {
		t.Error("a cancelled survey has no error")
	}
	r.Kill()
	if _, _, err := Plan(aligntest.Deadline(t), m, s, s, map[string]string{"old": "o"}, map[string]string{"new": "n"}, sets()); err == nil {
		t.Error("servers that are gone have a plan")
	}
}
