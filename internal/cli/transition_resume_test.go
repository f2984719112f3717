package cli

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
)

// TestTransitionDBGoesOnWithoutAskingTheRows: what a plan asks of all rows is asked once. A
// schema that has changed meanwhile is an error as before.
func TestTransitionDBGoesOnWithoutAskingTheRows(t *testing.T) {
	old, rig := aligntest.MariaDB(t), aligntest.MariaDB(t)
	flags := platforms(t, old, rig)
	asked := func() string {
		t.Helper()
		return old.SQL("SELECT COUNT(*) FROM mysql.general_log WHERE argument NOT LIKE '%general_log%' AND (argument " +
			"LIKE 'SELECT%COUNT(*)%`old_shop`%' OR argument LIKE 'SELECT DISTINCT%`old_shop`%')")
	}
	old.SQL("SET GLOBAL log_output = 'TABLE', general_log = 1")
	first := decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	if asked() == "0" {
		t.Error("the first run has asked nothing")
	}
	// As if it had been killed before the tags.
	rig.SQL("DELETE FROM shop.tags; USE migrate_journal; UPDATE run SET state = 'copying'; UPDATE tables SET state = " +
		"'copying', `rows` = 0 WHERE target = 'shop.tags'; DELETE FROM ranges WHERE target = 'shop.tags'")
	old.SQL("SET GLOBAL general_log = 0; TRUNCATE mysql.general_log; SET GLOBAL general_log = 1")
	again := decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	if n := asked(); n != "0" || again.Resumed == nil || !*again.Resumed || len(again.Tables) != len(first.Tables) {
		t.Errorf("%s statements have asked all rows; %+v", n, again)
	}
	if s := commandLine(t, "", db("verify", flags)...); s.code != 0 {
		t.Errorf("verify ended with %d: %s%s", s.code, s.out, s.err)
	}
	rig.SQL("UPDATE migrate_journal.run SET state = 'copying'; ALTER TABLE shop.items ADD needed INT NOT NULL")
	if s := commandLine(t, "", db("run", flags)...); s.code != 2 || !strings.Contains(s.out+s.err, "shop.items needed: may not be NULL") {
		t.Errorf("with another schema it ended with %d: %s%s", s.code, s.out, s.err)
	}
}
