package follow

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/server"
)

// TestStatementsThatReachFurther: a statement that names no mapped table changes rows of one
// by a trigger, or by a view. Row events tell of it; a logged statement does not.
func TestStatementsThatReachFurther(t *testing.T) {
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.src.SQL(`USE old_nova; CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB; CREATE TRIGGER reach AFTER INSERT ON log FOR EACH ROW UPDATE aggregates SET name = CONCAT('by trigger ', NEW.id) WHERE id = 1;
CREATE VIEW first AS SELECT * FROM aggregates; CREATE VIEW second AS SELECT id, name FROM first; CREATE VIEW others AS SELECT * FROM other`)
	w.copy()
	const statement = "USE old_nova; SET SESSION binlog_format = STATEMENT; "
	w.src.SQL("USE old_nova; INSERT INTO log VALUES (1); UPDATE second SET name = 'by view' WHERE id = 2")
	w.src.SQL(statement + "INSERT INTO other (x) VALUES (1); UPDATE others SET x = 2")
	w.mustFollow()
	w.equal()
	for _, c := range []struct{ sql, table string }{
		{"INSERT INTO log VALUES (2)", "old_nova.log"},
		{"UPDATE second SET name = 'by both' WHERE id = 3", "old_nova.second"},
		{"RENAME TABLE log TO journal; INSERT INTO journal VALUES (3); RENAME TABLE journal TO log", "old_nova.journal"},
		{"ALTER TABLE log RENAME journal; INSERT INTO journal VALUES (4); RENAME TABLE journal TO log", "old_nova.journal"},
		{"RENAME TABLE second TO third; UPDATE third SET name = 'by third' WHERE id = 3; RENAME TABLE third TO second", "old_nova.third"},
		{"CREATE VIEW late AS SELECT * FROM aggregates; DELETE FROM late WHERE id = 4; DROP VIEW late", "old_nova.late"},
	} {
		w.src.SQL(statement + c.sql)
		w.refused("table "+c.table+", ", "by a trigger or a view", "binlog_format was not ROW", "begun anew")
		at := strings.Fields(w.src.SQL("SHOW MASTER STATUS"))
		w.dst.SQL("UPDATE migrate_journal.run SET binlog_file = '" + at[0] + "', binlog_pos = " + at[1])
	}
}

// TestChainsThatGrow: what a trigger or a view names comes to concern mapped rows only
// after it was made, while following and before.
func TestChainsThatGrow(t *testing.T) {
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.src.SQL(`USE old_nova; CREATE TABLE a (id INT) ENGINE=InnoDB; CREATE TABLE b (id INT) ENGINE=InnoDB; CREATE TABLE c (id INT) ENGINE=InnoDB; CREATE TABLE d (id INT) ENGINE=InnoDB;
CREATE TRIGGER early AFTER INSERT ON d FOR EACH ROW INSERT INTO a VALUES (NEW.id); CREATE VIEW ahead AS SELECT * FROM d`)
	w.copy()
	d := w.drive(hurryAt) // it knows what there is now
	const statement = "USE old_nova; SET SESSION binlog_format = STATEMENT; "
	w.src.SQL(`USE old_nova; CREATE TRIGGER t1 AFTER INSERT ON a FOR EACH ROW INSERT INTO b VALUES (NEW.id);
CREATE VIEW va AS SELECT * FROM a; CREATE VIEW vva AS SELECT id FROM va; CREATE VIEW vother AS SELECT * FROM other;
CREATE TRIGGER tc AFTER INSERT ON c FOR EACH ROW INSERT INTO vva VALUES (NEW.id); RENAME TABLE c TO e`)
	w.src.SQL(statement + "INSERT INTO d VALUES (1); INSERT INTO e VALUES (1); INSERT INTO vva VALUES (1)") // reach no mapped row yet
	w.src.SQL("USE old_nova; CREATE TRIGGER t2 AFTER INSERT ON b FOR EACH ROW UPDATE aggregates SET name = CONCAT('by chain ', NEW.id) WHERE id = 1")
	w.src.SQL(statement + "INSERT INTO vother (x) VALUES (1)")
	for d.next() {
	}
	for _, name := range []string{"a", "b", "d", "e", "va", "vva", "ahead"} {
		if !d.hidden("old_nova", name) {
			t.Errorf("by %s mapped rows change, which is not known", name)
		}
	}
	if len(d.others) != 1 || d.hidden("old_nova", "vother") || d.hidden("old_nova", "other") {
		t.Errorf("kept: %v, behind: %v, want vother kept", d.others, d.behind)
	}
	w.src.SQL(statement + "INSERT INTO a VALUES (2)")
	if err := d.run(t.Context()); err == nil || passing(err) || !strings.Contains(err.Error(), "table old_nova.a, ") || !strings.Contains(err.Error(), "by a trigger or a view") {
		t.Error(err)
	}
}

// TestStatementsThatAreKept: each once, the last of too many, and people are told.
func TestStatementsThatAreKept(t *testing.T) {
	var lines bytes.Buffer
	f := &follower{tables: map[[2]string]*table{{"nova", "instances"}: {}}, behind: map[[2]string]bool{}, opt: Options{Log: slog.New(slog.NewTextHandler(&lines, nil))}}
	for i := range mostKept {
		for range 2 {
			f.learn("x", fmt.Sprintf("CREATE VIEW v%d AS SELECT * FROM v%d", i, i+1))
		}
	}
	f.learn("x", "CREATE TABLE t (id INT)")
	if len(f.others) != mostKept || lines.Len() > 0 {
		t.Fatal(len(f.others), lines.String())
	}
	f.learn("x", "ALTER VIEW w AS SELECT 1")
	if len(f.others) != mostKept/2 || strings.Count(lines.String(), "\n") != 1 || !strings.Contains(lines.String(), "kept=5000 forgotten=5001") {
		t.Fatal(len(f.others), lines.String())
	}
	f.others = f.others[mostKept/2-20:]
	f.learn("x", fmt.Sprintf("CREATE VIEW v%d AS SELECT * FROM nova.instances", mostKept))
	if len(f.others) != 1 || len(f.behind) != 20 || !f.hidden("x", fmt.Sprintf("v%d", mostKept-19)) {
		t.Error(f.others, f.behind)
	}
}

// TestViewsThatAreNotShown: of what a view is made can not be told by an account that may
// only read.
func TestViewsThatAreNotShown(t *testing.T) {
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	w.src.SQL("USE old_nova; CREATE VIEW others AS SELECT * FROM other; CREATE USER reader@'%' IDENTIFIED BY 'x'; GRANT SELECT ON old_nova.* TO reader@'%'; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO reader@'%'; GRANT ALL ON migrate_ids.* TO reader@'%'")
	s, err := server.Open(t.Context(), "source", strings.Replace(w.src.DSN(), aligntest.User+":"+aligntest.Password, "reader:x", 1), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w.source = s
	w.copy()
	w.src.SQL("USE old_nova; SET SESSION binlog_format = STATEMENT; INSERT INTO others (x) VALUES (1)")
	w.refused("table old_nova.others, ", "by a trigger or a view")
}
