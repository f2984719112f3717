package cli

import (
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestTransitionDBLeaveOutOrphans: rows that refer to nothing stop a plan, which says what else
// there is; left out, they are listed by plan and journal, and following keeps it so when what
// rows refer to goes and comes. Before the cut-over a plan asks the checks once more.
func TestTransitionDBLeaveOutOrphans(t *testing.T) {
	need.Real(t)
	rig := aligntest.MariaDB(t, logged...)
	flags := platforms(t, rig, rig)
	rig.SQL("INSERT INTO old_shop.tags VALUES (4, 'of one that is deleted'), (9, 'of none'), (9, 'nor this')")
	if s := commandLine(t, "", db("plan", flags)...); s.code != 2 ||
		!strings.Contains(unwrapped(s), "3 rows refer to rows of shop.items that will not be there (item, tag of the "+
			"first: 4, of one that is deleted; 9, nor this; 9, of none): mend them, or have them left out: --leave-out-orphans") {
		t.Errorf("plan ended with %d: %s%s", s.code, s.out, s.err)
	}
	without := append(flags[:len(flags):len(flags)], "--leave-out-orphans")
	if s := commandLine(t, "", db("plan", without)...); s.code != 0 ||
		!strings.Contains(unwrapped(s), "warning shop.tags item_id: 3 rows refer to rows of shop.items that will not "+
			"be there, and are left out (item, tag of the first: 4, of one that is deleted; 9, nor this; 9, of none)") {
		t.Errorf("plan ended with %d: %s%s", s.code, s.out, s.err)
	}
	cmd, out := child(t, db("run", without, "--follow", "-o", "json")...)
	until := func(what, query, want string) {
		t.Helper()
		try.Until(t, what, func() bool { return rig.SQL(query) == want })
	}
	try.Until(t, "it follows", func() bool { return strings.Contains(out.String(), "is carried over") })
	if got := rig.SQL("SELECT target, refers_to, `key` FROM migrate_journal.left_out ORDER BY `key`"); got != "shop.tags\tshop.items\t4, of one that is deleted\nshop.tags\tshop.items\t9, nor this\nshop.tags\tshop.items\t9, of none" {
		t.Errorf("the journal has %s", got)
	}
	const tags = "SELECT GROUP_CONCAT(item_id, tag ORDER BY item_id, tag) FROM shop.tags"
	rig.SQL("UPDATE old_shop.items SET deleted = 2 WHERE id = 2; INSERT INTO old_shop.items (id, name, owner) VALUES (9, 'nine', 'ann')")
	until("rows go and come with what they refer to", tags, "1a,1b,9nor this,9of none")
	rig.SQL("DELETE FROM old_shop.items WHERE id = 9; UPDATE old_shop.items SET deleted = 0, owner = 'bob' WHERE id = 4")
	until("they go and come once more", tags, "1a,1b,4of one that is deleted")
	// What is written meanwhile can be asked once more before the cut-over.
	rig.SQL("UPDATE old_shop.items SET name = '' WHERE id = 3")
	if s := commandLine(t, "", db("plan", without)...); s.code != 2 ||
		!strings.Contains(unwrapped(s), "error shop.items: every item has a title: 1 rows of the source break it (id "+
			"of the first: 3)") || strings.Contains(unwrapped(s), "want it empty") {
		t.Errorf("plan beside the run ended with %d: %s%s", s.code, s.out, s.err)
	}
	rig.SQL("UPDATE old_shop.items SET name = 'three' WHERE id = 3")
	if s := commandLine(t, "", db("plan", without)...); s.code != 0 || !strings.Contains(s.out, "nothing stands in the way") {
		t.Errorf("plan beside the run ended with %d: %s%s", s.code, s.out, s.err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := ended(t, cmd); code != 0 {
		t.Errorf("the cut-over ended with %d: %s", code, out)
	}
	if s := commandLine(t, "", db("verify", flags)...); s.code != 3 || !strings.Contains(s.err, "--leave-out-orphans") {
		t.Errorf("verify without the option ended with %d: %s%s", s.code, s.out, s.err)
	}
	if v := decode[verifyDoc](t, commandLine(t, "", db("verify", without, "-o", "json")...), 0); !*v.Equal || v.Tables[1].TargetRows != 3 {
		t.Errorf("verify said %+v", v)
	}
}
