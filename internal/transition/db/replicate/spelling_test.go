package replicate

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/transition/db/copier"
	"holdfast/testbed/need"
)

const spelledText = `
format: 1
name: keys of texts
tables:
- target: nova.one
  from: nova.one
  columns:
  - copy: [id, num, u]
- target: nova.two
  from: nova.two
  columns:
  - copy: [a, b, num]
`

// spelledWorld has tables with keys of texts, of a collation on each side.
func spelledWorld(t *testing.T, from, to string) *world {
	t.Helper()
	w := newWorld(t, false)
	tables := `CREATE TABLE one (id VARCHAR(40) COLLATE %[1]s PRIMARY KEY, num INT NOT NULL, u VARCHAR(40) COLLATE %[1]s NOT NULL UNIQUE) ENGINE=InnoDB CHARACTER SET utf8mb4;
CREATE TABLE two (a INT, b VARCHAR(40) COLLATE %[1]s, num INT NOT NULL, PRIMARY KEY (a, b)) ENGINE=InnoDB CHARACTER SET utf8mb4;
`
	w.src.SQL("USE old_nova; " + fmt.Sprintf(tables, from) + `
INSERT INTO one SELECT CONCAT('ABC', seq), seq, CONCAT('U', seq) FROM seq_1_to_1500; INSERT INTO two SELECT seq % 3, CONCAT('ÀBC', seq), seq FROM seq_1_to_1500`)
	w.dst.SQL("USE new_nova; " + fmt.Sprintf(tables, to))
	w.planOf(spelledText)
	w.copy()
	return w
}

// respelled are changes of keys that one side or both take for the same.
var respelled = []struct{ name, sql string }{
	{"small letters", "UPDATE one SET id = LOWER(id); UPDATE two SET b = LOWER(b)"},
	{"there and back", "START TRANSACTION; UPDATE one SET id = UPPER(id), num = -num; UPDATE one SET id = LOWER(id), " +
		"num = -num; UPDATE two SET b = UPPER(b); UPDATE two SET b = LOWER(b); COMMIT"},
	{"there and back, in many transactions", "UPDATE one SET id = UPPER(id); UPDATE one SET id = LOWER(id); UPDATE " +
		"one SET id = UPPER(id); UPDATE two SET b = UPPER(b); UPDATE two SET b = LOWER(b)"},
	{"accents", "UPDATE two SET b = REPLACE(b, 'à', 'a'); UPDATE two SET b = CONCAT('Ä', SUBSTRING(b, 2)) WHERE num % 2"},
	{"blanks at the end", "UPDATE one SET id = CONCAT(id, ' ') WHERE num % 2; UPDATE two SET b = CONCAT(b, '  ') " +
		"WHERE a = 1; UPDATE one SET id = RTRIM(id)"},
	{"another row takes the old spelling's place", "UPDATE one SET id = LOWER(id); UPDATE one SET id = CONCAT('x', " +
		"id) WHERE num <= 700; INSERT INTO one SELECT CONCAT('ABC', num), 5000 + num, CONCAT('new', num) FROM " +
		"(SELECT num FROM one WHERE num <= 700) AS r"},
	{"other unique values, too", "UPDATE one SET u = LOWER(u), id = LOWER(id); UPDATE one SET u = CONCAT('tmp', " +
		"num); UPDATE one SET u = CONCAT('u', 9000 - num), id = UPPER(id)"},
	{"keys that are deleted and come again", "DELETE FROM one WHERE num % 3 = 0; INSERT INTO one SELECT LOWER(id), " +
		"num + 20000, CONCAT('again', num) FROM (SELECT CONCAT('DEF', num) AS id, num FROM one WHERE num % 3 = 1) AS r"},
}

// TestKeysThatChangeTheirSpelling: however the two sides compare texts, and however many
// statements the keys of a batch need.
func TestKeysThatChangeTheirSpelling(t *testing.T) {
	need.More(t)
	for _, c := range [][2]string{
		{"utf8mb4_general_ci", "utf8mb4_bin"}, {"utf8mb4_general_ci", "utf8mb4_general_ci"}, {"utf8mb4_bin", "utf8mb4_general_ci"},
		{"utf8mb4_bin", "utf8mb4_bin"}, {"utf8mb4_unicode_ci", "utf8mb4_nopad_bin"},
	} {
		t.Run(c[0]+" to "+c[1], func(t *testing.T) {
			w := spelledWorld(t, c[0], c[1])
			for _, x := range respelled {
				w.src.SQL("USE old_nova; " + x.sql)
				d := w.drive(hurryAt)
				tries := d.tries(t)
				if diff := w.differences(); diff != nil || tries > 0 {
					t.Fatalf("%s: %d times it was not taken: %s", x.name, tries, strings.Join(diff, "\n"))
				}
			}
			// All at once, in less room than the keys need.
			w.src.SQL("USE old_nova; UPDATE one SET id = UPPER(id); UPDATE two SET b = LOWER(b); UPDATE one SET id = " +
				"LOWER(id), u = CONCAT('v', num) WHERE num % 2")
			d := w.drive(100)
			if err := d.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.equal()
		})
	}
}

// tries carries over what the log has, as one batch, and tells how often the target did not take it.
func (d *driven) tries(t *testing.T) (n int) {
	t.Helper()
	d.all()
	if err := d.carry(t.Context()); err != nil {
		t.Fatal(err)
	}
	n = d.failures
	if err := d.write(t.Context(), copier.Following); err != nil {
		t.Fatal(err)
	}
	return n
}

// all takes in what the log has by now.
func (d *driven) all() {
	d.t.Helper()
	end, err := now(d.t.Context(), d.source)
	if err != nil {
		d.t.Fatal(err)
	}
	for d.at.before(end) {
		d.next()
	}
}

// TestRowsThatTheTargetTakesForOne: the source tells them apart. Neither takes the other's
// place silently, also where keys are carried over in pages.
func TestRowsThatTheTargetTakesForOne(t *testing.T) {
	need.More(t)
	for _, room := range []int{20, hurryAt} {
		w := spelledWorld(t, "utf8mb4_bin", "utf8mb4_general_ci")
		w.src.SQL("USE old_nova; INSERT INTO one VALUES ('abc7', 0, 'another')")
		d := w.drive(room)
		d.all()
		if err := d.carry(t.Context()); err != nil || d.failures == 0 {
			t.Errorf("room for %d: %v, %d times it was not taken", room, err, d.failures)
		}
		if err := d.relieve(t.Context()); err != nil || d.left != 1 {
			t.Error(err, d.left)
		}
		if got := w.dst.SQL("SELECT GROUP_CONCAT(id) FROM new_nova.one WHERE id = 'abc7'"); got != "ABC7" {
			t.Error(got)
		}
		w.src.SQL("UPDATE old_nova.one SET id = 'other' WHERE num = 0")
		w.mustFollow()
		w.equal()
	}
}

// TestJoinsWithoutAnIndex: whatever the number of changed rows, the tables that they are
// looked up in are read a few times at most, and are told by all ways that keys compare.
func TestJoinsWithoutAnIndex(t *testing.T) {
	need.More(t)
	const many = 2000
	w := newWorld(t, false)
	w.src.SQL(`USE old_nova; CREATE TABLE projects (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(64) CHARACTER SET utf8mb3 COLLATE utf8mb3_unicode_ci NULL, title VARCHAR(40) NOT NULL, at DATETIME(3) NULL, level TINYINT UNSIGNED, KEY (name)) ENGINE=InnoDB;
INSERT INTO projects (name, title, level, at) SELECT CONCAT('P', seq), 'one', 7, '2020-01-01 00:00:00.5' FROM seq_1_to_2000;
INSERT INTO instances (id, uuid, name, project, at, level) SELECT seq, CONCAT('u', seq), CONCAT('vm', seq), CONCAT('p', seq), '2020-01-01 00:00:00.5', 7 FROM seq_1_to_2000`)
	w.src.SQL("USE old_nova; ALTER TABLE instances MODIFY project VARCHAR(64) CHARACTER SET utf8mb3 COLLATE utf8mb3_unicode_ci")
	w.planOf(strings.NewReplacer("x.name = s.project", "x.name = s.project and x.level = s.level and x.at = s.at",
		"notes, at, level, owner", "notes, owner").Replace(manyText))
	w.copy()
	for _, sql := range []string{
		"UPDATE projects SET title = CONCAT(title, ' more')",
		"UPDATE projects SET at = NULL WHERE id = 7; UPDATE projects SET name = NULL WHERE id > 1990; UPDATE " +
			"projects SET name = CONCAT(LOWER(name), ' ') WHERE id < 100; UPDATE projects SET level = 8 WHERE id = " +
			"5; DELETE FROM projects WHERE id = 6",
	} {
		w.src.SQL("USE old_nova; " + sql)
		d := w.drive(hurryAt)
		d.all()
		before := w.reads()
		if err := d.collect(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if n := w.reads() - before; n > 30*many {
			t.Errorf("%s: %d rows are read to find out which of %d it concerns", sql, n, many)
		}
		if err := d.carry(t.Context()); err != nil || d.failures > 0 {
			t.Fatal(err, d.failures)
		}
		w.equal()
	}
	if got := w.dst.SQL("SELECT COUNT(*) FROM new_api.specs"); got != strconv.Itoa(many-10-3) {
		t.Error(got)
	}
}

// reads is how many rows the source's engines have read so far.
func (w *world) reads() (n int) {
	w.t.Helper()
	for line := range strings.Lines(w.src.SQL("SHOW GLOBAL STATUS LIKE 'Handler_read%'")) {
		f := strings.Fields(line)
		v, err := strconv.Atoi(f[1])
		if err != nil {
			w.t.Fatal(err)
		}
		n += v
	}
	return n
}
