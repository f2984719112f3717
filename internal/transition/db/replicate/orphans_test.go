package replicate

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/mapping"
	"holdfast/testbed/need"
)

// chainText has a chain of four tables, of which the second is there only with a row of a fifth.
const chainText = `
format: 1
name: a chain
tables:
- {target: nova.a, from: nova.a, where: deleted = 0, columns: [{copy: [id]}]}
- {target: nova.b, from: nova.b, join: [{as: x, table: nova.x, match: "x.b = s.id"}], columns: [{copy: [id, up, name]}]}
- {target: nova.c, from: nova.c, columns: [{copy: [id, up]}]}
- {target: nova.d, from: nova.d, columns: [{copy: [id, up, other]}]}
`

// The source has no foreign keys, and compares the texts that c refers by otherwise than b and
// the target do.
const chainSQL = `
USE old_nova;
CREATE TABLE a (id INT PRIMARY KEY, deleted INT NOT NULL DEFAULT 0) ENGINE=InnoDB;
CREATE TABLE b (id INT PRIMARY KEY, up INT, name VARCHAR(40) COLLATE utf8mb4_bin NOT NULL) ENGINE=InnoDB;
CREATE TABLE x (id INT AUTO_INCREMENT PRIMARY KEY, b INT) ENGINE=InnoDB;
CREATE TABLE c (id VARBINARY(20) PRIMARY KEY, up VARCHAR(40) COLLATE utf8mb4_general_ci) ENGINE=InnoDB;
CREATE TABLE d (id INT PRIMARY KEY, up VARBINARY(20), other INT) ENGINE=InnoDB;
INSERT INTO a (id) VALUES (1), (2), (3), (500);
INSERT INTO b SELECT id, id, CONCAT('B', id) FROM a;
INSERT INTO x (b) SELECT id FROM b;
INSERT INTO c SELECT CONCAT('c', id), CONCAT('b', id) FROM b;
INSERT INTO d SELECT id, CONCAT('c', id), NULL FROM b;
`

const chainTargetSQL = `
USE new_nova;
CREATE TABLE a (id INT PRIMARY KEY) ENGINE=InnoDB;
CREATE TABLE b (id INT PRIMARY KEY, up INT, name VARCHAR(40) COLLATE utf8mb4_general_ci NOT NULL UNIQUE, CONSTRAINT ba FOREIGN KEY (up) REFERENCES a (id)) ENGINE=InnoDB;
CREATE TABLE c (id VARBINARY(20) PRIMARY KEY, up VARCHAR(40) COLLATE utf8mb4_general_ci, CONSTRAINT cb FOREIGN KEY (up) REFERENCES b (name)) ENGINE=InnoDB;
CREATE TABLE d (id INT PRIMARY KEY, up VARBINARY(20), other INT, CONSTRAINT dc FOREIGN KEY (up) REFERENCES c (id)) ENGINE=InnoDB;
`

// chain copies the chain, with more statements for both sides.
func chain(t *testing.T, w *world, source, target string) {
	t.Helper()
	w.src.SQL(chainSQL + source)
	w.dst.SQL(chainTargetSQL + target)
	w.planOf(chainText, (*mapping.Mapping).LeaveOrphans)
	w.copy()
}

// rowsOfChain are the keys in the target.
func (w *world) rowsOfChain() string {
	w.t.Helper()
	return strings.ReplaceAll(w.dst.SQL("SELECT GROUP_CONCAT(id ORDER BY id) FROM new_nova.a; SELECT GROUP_CONCAT(id "+
		"ORDER BY id) FROM new_nova.b; SELECT GROUP_CONCAT(id ORDER BY id) FROM new_nova.c; SELECT GROUP_CONCAT(id "+
		"ORDER BY id) FROM new_nova.d"), "\n", " ")
}

// TestRowsGoAndComeWithTheWholeChainAboveThem: a row is judged anew when any row above it, or
// one that such a row is made of, changes.
func TestRowsGoAndComeWithTheWholeChainAboveThem(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		chain(t, w, "", "")
		const all, without = "1,2,3,500 1,2,3,500 c1,c2,c3,c500 1,2,3,500", " 1,2,3 c1,c2,c3 1,2,3"
		for _, step := range []struct{ sql, want string }{
			{"DELETE FROM a WHERE id = 500", "1,2,3" + without},
			{"INSERT INTO a (id) VALUES (500)", all},
			{"UPDATE a SET deleted = 1 WHERE id = 500", "1,2,3" + without},
			{"UPDATE a SET deleted = 0 WHERE id = 500", all},
			{"DELETE FROM x WHERE b = 500", "1,2,3,500" + without},
			{"INSERT INTO x (b) VALUES (500)", all},
			{"UPDATE b SET up = 9 WHERE id = 500", "1,2,3,500" + without},
			{"UPDATE b SET up = 1 WHERE id = 500", all},
			{"UPDATE b SET name = 'else' WHERE id = 500", "1,2,3,500 1,2,3,500 c1,c2,c3 1,2,3"},
			{"UPDATE b SET name = 'B500' WHERE id = 500", all},
			{"UPDATE b SET up = NULL WHERE id = 500; DELETE FROM a WHERE id = 500", "1,2,3 1,2,3,500 c1,c2,c3,c500 1,2,3,500"},
			{"BEGIN; UPDATE b SET up = 500 WHERE id = 500; INSERT INTO a (id) VALUES (500); DELETE FROM a WHERE id = " +
				"2; DELETE FROM d WHERE id = 3; COMMIT", "1,3,500 1,3,500 c1,c3,c500 1,500"},
		} {
			w.src.SQL("USE old_nova; " + step.sql)
			w.mustFollow()
			if got := w.rowsOfChain(); got != step.want {
				t.Errorf("after %s: %s, want %s", step.sql, got, step.want)
			}
			w.equal()
		}
	})
}

// TestMoreRowsBelowThanMemoryShouldHold: the rows of a chain are carried over in several parts.
func TestMoreRowsBelowThanMemoryShouldHold(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	chain(t, w, "INSERT INTO c SELECT CONCAT('m', seq), 'B500' FROM seq_1_to_9000; INSERT INTO d SELECT 1000 + seq, "+
		"CONCAT('m', 1 + seq % 9000), NULL FROM seq_1_to_50000;", "")
	w.src.SQL("DELETE FROM old_nova.a WHERE id = 500")
	w.mustFollow()
	w.equal()
	if got := w.dst.SQL("SELECT COUNT(*) FROM new_nova.d"); got != "3" {
		t.Errorf("%s rows", got)
	}
	w.src.SQL("INSERT INTO old_nova.a (id) VALUES (500)")
	w.mustFollow()
	w.equal()
	if got := w.dst.SQL("SELECT COUNT(*) FROM new_nova.d"); got != "50004" {
		t.Errorf("%s rows", got)
	}
}

// TestNoCutOverWithRowsThatReferToNothing: by foreign keys to the table itself, and back in a
// circle, no rows are left out.
func TestNoCutOverWithRowsThatReferToNothing(t *testing.T) {
	need.More(t)
	both(t, func(t *testing.T, w *world) {
		chain(t, w, "UPDATE d SET other = 1 WHERE id > 1;", "ALTER TABLE d ADD CONSTRAINT dd FOREIGN KEY (other) REFERENCES d (id);")
		w.src.SQL("DELETE FROM old_nova.d WHERE id = 1")
		w.refused("3 rows of nova.d refer by other to rows of nova.d that are gone from the source",
			"(id, other of the first: 2, 1; 3, 1; 500, 1): there is no cut-over")
		if j := w.state(); j.State == "done" {
			t.Errorf("the journal says %s", j.State)
		}
		if _, err := w.follow(Options{Stop: closed(), GoesOn: true}); err != nil { // which is no cut-over
			t.Error(err)
		}
		w.src.SQL("UPDATE old_nova.d SET other = id")
		w.mustFollow()
		w.equal()
	})
	t.Run("circle", func(t *testing.T) {
		w := newWorld(t, false)
		chain(t, w, "", "ALTER TABLE b ADD CONSTRAINT bd FOREIGN KEY (id) REFERENCES d (id);")
		w.src.SQL("DELETE FROM old_nova.d WHERE id = 3")
		w.refused("1 rows of nova.b refer by id to rows of nova.d", "(id of the first: 3)")
		w.src.SQL("DELETE FROM old_nova.b WHERE id = 3")
		w.mustFollow()
		w.equal()
		if got := w.rowsOfChain(); got != "1,2,3,500 1,2,500 c1,c2,c500 1,2,500" {
			t.Errorf("%s", got)
		}
	})
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// TestNoCutOverWithOrphansThatFollowingBrought: also where no rows are left out, as the source has
// no such foreign key, or its writer does not heed it.
func TestNoCutOverWithOrphansThatFollowingBrought(t *testing.T) {
	need.Real(t)
	w := newWorld(t, false)
	w.src.SQL(chainSQL)
	w.dst.SQL(chainTargetSQL)
	w.planOf(chainText)
	w.copy()
	w.src.SQL("USE old_nova; INSERT INTO d VALUES (7, 'gone', NULL); DELETE FROM a WHERE id = 3")
	w.refused("1 rows of nova.d refer by up to rows of nova.c that are not there (id, up of the first: 7, gone): there is no cut-over",
		"1 rows of nova.b refer by up to rows of nova.a that are not there (id, up of the first: 3, 3): there is no cut-over")
	if j := w.state(); j.State != "following" {
		t.Errorf("the journal says %s", j.State)
	}
	if _, err := w.follow(Options{Stop: closed(), GoesOn: true}); err != nil { // which is no cut-over
		t.Error(err)
	}
	w.refused("1 rows of nova.d", "1 rows of nova.b") // by a run that has carried nothing over
	w.src.SQL("USE old_nova; INSERT INTO a (id) VALUES (3); DELETE FROM d WHERE id = 7")
	w.mustFollow()
	w.equal()
}
