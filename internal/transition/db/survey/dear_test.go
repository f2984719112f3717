package survey

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/mapping"
	"holdfast/testbed/need"
)

// TestValuesThatAreDearToMake: they are made once each, for some rows at a time, and all is
// found that is wrong with them.
func TestValuesThatAreDearToMake(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL(`CREATE DATABASE o; CREATE DATABASE n; SET sql_mode = '';
CREATE TABLE o.docs (id INT, kind VARCHAR(20) CHARACTER SET utf8mb3, body TEXT CHARACTER SET utf8mb4, at DATETIME, PRIMARY KEY (kind, id));
CREATE TABLE n.docs (id INT, kind VARCHAR(20) CHARACTER SET utf8mb3, body VARCHAR(40) CHARACTER SET utf8mb3 NOT NULL, at DATETIME, PRIMARY KEY (kind, id));
INSERT INTO o.docs SELECT seq, CONCAT('it''s \\', seq % 3), CONCAT('body ', seq), '2015-01-01' FROM o.seq_1_to_12000;
UPDATE o.docs SET body = NULL WHERE id % 1000 = 1; UPDATE o.docs SET body = REPEAT('é', 41) WHERE id % 2000 = 2; UPDATE o.docs SET body = REPEAT('é', 40) WHERE id % 2000 = 3;
UPDATE o.docs SET body = '😀' WHERE id % 4000 = 4; UPDATE o.docs SET at = 0 WHERE id % 6000 = 5`)
	value := "IF(INSTR('" + strings.Repeat("x", 600) + "', 'x') = 1, NULLIF(JSON_UNQUOTE(JSON_EXTRACT(JSON_SET('{}', " +
		"'$.b', coalesce(body, 'no')), '$.b')), 'no'), 'never')"
	m, err := mapping.ParseMapping("docs.yaml", []byte("format: 1\nname: docs\ntables:\n- target: new.docs\n  from: "+
		"old.docs\n  columns:\n  - copy: [id, kind, at]\n  - {to: body, value: \""+value+"\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := reader(t, r, "source")
	r.SQL("FLUSH STATUS; SET GLOBAL log_output = 'TABLE', general_log = 1")
	res, p := plan(t, m, s, reader(t, r, "target"), nil)
	if !p.Tables[0].Spacious() || res.Tables[0].Rows != 12_000 {
		t.Errorf("%v, %d rows", p.Tables[0].Spacious(), res.Tables[0].Rows)
	}
	got := strings.Join(append(texts(res.Errors), texts(res.Warnings)...), "\n")
	for _, want := range []string{
		"new.docs body: 12 rows have NULL, which the target does not allow",
		"new.docs body: 6 rows have a text that is too long for varchar(40)",
		"new.docs body: 3 rows have characters that utf8mb3 does not have",
		"new.docs at: 2 rows have a date that is none",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if n := r.SQL("SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE 'SELECT COUNT(*), COALESCE(SUM(CASE " +
		"WHEN %r.v0 IS NULL%'"); n != "3" {
		t.Errorf("rows were asked about in %s statements, want 3", n)
	}
	r.SQL("DELETE FROM o.docs")
	if res, _ := plan(t, m, s, reader(t, r, "target"), nil); res.Tables[0].Rows != 0 || len(res.Errors) != 0 {
		t.Errorf("without rows: %+v", res)
	}
	// A value is not cut where the server keeps it.
	r.SQL(fmt.Sprintf("INSERT INTO o.docs VALUES (1, 'k', REPEAT('x', %d), NULL); ALTER TABLE n.docs MODIFY body "+
		"MEDIUMTEXT CHARACTER SET utf8mb3 NOT NULL", 60_000))
	if res, _ := plan(t, m, s, reader(t, r, "target"), nil); len(res.Errors) != 0 {
		t.Errorf("%+v", res.Errors)
	}
	r.SQL("ALTER TABLE n.docs MODIFY body VARCHAR(15000) CHARACTER SET utf8mb3 NOT NULL")
	if res, _ := plan(t, m, s, reader(t, r, "target"), nil); !strings.Contains(strings.Join(texts(res.Errors), "\n"),
		"1 rows have a text that is too long") {
		t.Errorf("%+v", res.Errors)
	}
}
