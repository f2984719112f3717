package survey

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

const plainMapping = `
format: 1
name: plain
tables:
- target: new.parents
  from: old.parents
  where: deleted = 0
  columns: [{copy: [id, name]}]
`

const plainOld = `CREATE DATABASE o; USE o; CREATE TABLE parents (id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin, deleted INT) ENGINE=InnoDB CHARSET=utf8mb4;
INSERT INTO parents SELECT seq, CONCAT('parent ', seq), 0 FROM seq_1_to_20;
CREATE DATABASE n; `

// TestNothingIsWritten: not even tried, although this account has the right to.
func TestNothingIsWritten(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=ROW")
	r.SQL(old + made + "CREATE TRIGGER n.t BEFORE INSERT ON n.things FOR EACH ROW SET NEW.label = 'x'")
	s := reader(t, r, "source")
	const state = "SHOW MASTER STATUS; CHECKSUM TABLE o.parents, o.things, o.extras, n.parents, n.things; SHOW " +
		"DATABASES; SHOW GLOBAL STATUS LIKE 'Innodb_rows_inserted'"
	before := r.SQL(state)
	if got, _ := plan(t, aligntest.Mapping(t, mappingText), s, s, sets()); len(got.Errors) > 0 {
		t.Errorf("%v", texts(got.Errors))
	}
	if after := r.SQL(state); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestServersThatTakeNothing: what a run would stop at before its first row.
func TestServersThatTakeNothing(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=ROW")
	r.SQL(plainOld + "CREATE TABLE n.parents (id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin) ENGINE=InnoDB CHARSET=utf8mb4")
	journal := "GRANT ALL ON migrate_journal.* TO %[1]s@'%%';"
	for i, c := range []struct {
		what, before, after, grants string
		errors                      []string
		values                      string // of the first
	}{
		{what: "all rights", grants: journal + "GRANT INSERT ON n.* TO %[1]s@'%%'"},
		{what: "the columns that are filled", grants: journal + "GRANT INSERT (id, name) ON n.parents TO %[1]s@'%%'"},
		{what: "no right to a column", grants: journal + "GRANT INSERT (id) ON n.parents TO %[1]s@'%%'",
			errors: []string{": the accounts lack rights, which these statements give:"},
			values: "-- on the target\nGRANT SELECT, INSERT, DELETE ON `n`.* TO 'u2'@'%';"},
		{what: "none at all",
			errors: []string{": the accounts lack rights, which these statements give:"},
			values: "-- on the target\nGRANT SELECT, INSERT, DELETE ON `n`.* TO 'u3'@'%';\nGRANT ALL ON migrate_journal.* TO 'u3'@'%';"},
		{what: "no right to read", grants: journal + "GRANT INSERT ON n.* TO %[1]s@'%%'; REVOKE SELECT ON *.* FROM %[1]s@'%%'",
			errors: []string{": the accounts lack rights, which these statements give:"},
			values: "-- on the target\nGRANT SELECT, INSERT, DELETE ON `n`.* TO 'u4'@'%';"},
		{what: "read only", grants: journal + "GRANT INSERT ON n.* TO %[1]s@'%%'", before: "SET GLOBAL read_only = 1",
			after: "SET GLOBAL read_only = 0",
			errors: []string{": the target does not let u5 make the database migrate_journal, which a run needs: The " +
				"MariaDB server is running with the --read-only option",
				": the source does not let reader make the database migrate_ids, which a run needs: The MariaDB " +
					"server is running with the --read-only option"}},
		{what: "read only, but not for this one", grants: "GRANT ALL ON *.* TO %[1]s@'%%'",
			before: "SET GLOBAL read_only = 1; GRANT READ_ONLY ADMIN ON *.* TO reader@'%'",
			after:  "SET GLOBAL read_only = 0; REVOKE READ_ONLY ADMIN ON *.* FROM reader@'%'"},
		{what: "a log of statements", grants: journal + "GRANT INSERT ON n.* TO %[1]s@'%%'",
			before: "SET GLOBAL binlog_format = 'STATEMENT'", after: "SET GLOBAL binlog_format = 'ROW'",
			errors: []string{": the target writes a binary log with binlog_format STATEMENT, which takes no rows " +
				"that are read without locks: want ROW or MIXED"}},
	} {
		user, grants := fmt.Sprintf("u%d", i), ""
		if c.grants != "" {
			grants = fmt.Sprintf(c.grants, user)
		}
		d := account(t, r, "target", user, grants)
		r.SQL("CREATE USER IF NOT EXISTS reader@'%'; " + c.before)
		got, _ := plan(t, aligntest.Mapping(t, plainMapping), reader(t, r, "source"), d, nil)
		r.SQL(c.after)
		compare(t, c.what, texts(got.Errors), c.errors)
		if c.values != "" && strings.Join(got.Errors[0].Values, "\n") != c.values {
			t.Errorf("%s: %q", c.what, got.Errors[0].Values)
		}
	}
}

func TestSettingsOfTheTarget(t *testing.T) {
	for _, c := range []struct{ settings, want string }{
		{"log_bin=ON binlog_format=MIXED innodb_read_only=OFF", ""},
		{"log_bin=OFF binlog_format=STATEMENT", ""},
		{"log_bin=ON binlog_format=STATEMENT innodb_read_only=OFF", "binlog_format STATEMENT"},
		{"innodb_read_only=ON", "(innodb_read_only)"},
	} {
		var list [][]string
		for _, x := range strings.Fields(c.settings) {
			list = append(list, strings.Split(x, "="))
		}
		got := unfit(list)
		if (len(got) == 0) != (c.want == "") || !strings.Contains(strings.Join(got, " "), c.want) {
			t.Errorf("%s: %q, want %q", c.settings, got, c.want)
		}
	}
}

// TestATableOnBothSides is refused by the plan already.
func TestATableOnBothSides(t *testing.T) {
	need.More(t)
	r, other := aligntest.MariaDB(t), aligntest.MariaDB(t)
	schema := "CREATE DATABASE n; USE n; CREATE TABLE a (id INT PRIMARY KEY) ENGINE=InnoDB; CREATE TABLE b (id INT " +
		"PRIMARY KEY) ENGINE=InnoDB; CREATE DATABASE m; USE m; CREATE TABLE b (id INT PRIMARY KEY) ENGINE=InnoDB"
	r.SQL(schema)
	other.SQL(schema)
	m := aligntest.Mapping(t, `
format: 1
name: a forgotten name
tables:
- target: new.b
  from: old.a
  find: [{as: j, table: old.b, match: j.id = s.id}]
  columns: [{to: id, value: "if(found('j'), id, id)"}]
`)
	s := r.Server("source")
	for _, c := range []struct {
		target *server.Server
		db     string
		want   []string
	}{
		{r.Server("target"), "n", []string{": source and target are one server, and rows of n.b would be read and " +
			"written: want another name of the database by --source-db or --target-db"}},
		{r.Server("target"), "m", nil},
		{other.Server("target"), "n", nil},
	} {
		got, _, err := Plan(aligntest.Deadline(t), m, s, c.target, map[string]string{"old": "n"}, map[string]string{"new": c.db}, nil)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, c.db, texts(got.Errors), c.want)
	}
}

// TestWhatTheTargetDoesByItself is warned of, once for all parts of a table.
func TestWhatTheTargetDoesByItself(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=ROW")
	r.SQL(plainOld + `CREATE TABLE n.parents (id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin CHECK (name <> ''), CONSTRAINT positive CHECK (id > 0)) ENGINE=InnoDB CHARSET=utf8mb4;
CREATE TRIGGER n.first BEFORE INSERT ON n.parents FOR EACH ROW SET @a = 1;
CREATE TRIGGER n.last AFTER DELETE ON n.parents FOR EACH ROW SET @a = 1;
CREATE TRIGGER n.never AFTER UPDATE ON n.parents FOR EACH ROW SET @a = 1`)
	s := reader(t, r, "source")
	text := plainMapping + `- target: new.parents
  part: more
  shift: 1000
  from: old.parents
  where: deleted = 1
  columns: [{copy: [name]}]
`
	for _, m := range []string{plainMapping, text} {
		got, _ := plan(t, aligntest.Mapping(t, m), s, s, nil)
		compare(t, "warnings", texts(got.Warnings), []string{
			"new.parents: the target's table has triggers, which run for the rows that are written; what they change " +
				"is in no mapping, and verify tells of it: first (BEFORE INSERT); last (AFTER DELETE)",
			"new.parents: the target's table has CHECK constraints, which are not looked at: the run ends at the " +
				"first row that breaks one: name: `name` <> ''; positive: `id` > 0"})
		compare(t, "errors", texts(got.Errors), nil)
		if len(got.Warnings) == 2 && (len(got.Warnings[0].Values) != 2 || got.Warnings[1].Values[1] != "positive: `id` > 0") {
			t.Errorf("%+v", got.Warnings)
		}
	}
	l := &look{t: &mapping.Planned{Target: "new.things"}}
	byItself(l, &mapping.Schema{Expressions: []string{"lower", "sum"}})
	compare(t, "expressions", texts(l.warnings), []string{"new.things: unique keys of the target on expressions are " +
		"not looked at: lower; sum"})
}

// TestKeysOfBeginnings: values that are different, and are the same where the target looks.
func TestKeysOfBeginnings(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--log-bin", "--server-id=1", "--binlog-format=ROW")
	s := reader(t, r, "source")
	m := aligntest.Mapping(t, strings.Replace(plainMapping, "[{copy: [id, name]}]", "[{copy: [id]}, {to: name, value: concat(name)}]", 1))
	for _, c := range []struct{ what, names, made, want string }{
		{"all are different", "'abcd', 'abce', 'bbcd'", "id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin, UNIQUE KEY u (name(4))", ""},
		{"some are not", "'abcd', 'abce', 'bbcd'", "id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin, UNIQUE " +
			"KEY u (name(3))", `unique key u (name(3)) of the target: values that come more than once: "abc" (2 times)`},
		{"with another column", "'abcd', 'abce', 'bbcd'",
			"id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin, UNIQUE KEY u (name(3), id)", ""},
		{"by the target's collation", "'Äbc', 'aBd', 'b'",
			"id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_unicode_ci, UNIQUE KEY u (name(2))",
			`unique key u (name(2)) of the target: values that come more than once: "`},
		{"letters, not bytes", "'ää', 'äö'", "id INT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin, UNIQUE KEY u (name(2))", ""},
		{"bytes, not letters", "'ää', 'äö'", "id INT PRIMARY KEY, name BLOB, UNIQUE KEY u (name(3))",
			`unique key u (name(3)) of the target: values that come more than once: X'C3A4C3' (2 times)`},
		{"the primary key", "'abcd', 'abce', 'bbcd'", "id INT, name VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, " +
			"PRIMARY KEY (name(3))", `unique key PRIMARY (name(3)) of the target: values that come more than once: "abc" (2 times)`},
	} {
		values := strings.NewReplacer("', '", "', 0), (NULL, '").Replace(c.names)
		r.SQL(`DROP DATABASE IF EXISTS o; DROP DATABASE IF EXISTS n; CREATE DATABASE o; CREATE DATABASE n;
CREATE TABLE o.parents (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, deleted INT) ENGINE=InnoDB CHARSET=utf8mb4;
INSERT INTO o.parents VALUES (NULL, ` + values + ", 0); CREATE TABLE n.parents (" + c.made + ") ENGINE=InnoDB CHARSET=utf8mb4")
		var want []string
		if c.want != "" {
			want = []string{c.want}
		}
		got, _ := plan(t, m, s, s, nil)
		compare(t, c.what, texts(got.Errors), want)
	}
}
