package follow

import (
	"strings"
	"testing"

	"holdfast/internal/align/aligntest"
	"holdfast/internal/align/server"
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
