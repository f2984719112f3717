package cli

import (
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestTransitionDBTerminated: who is terminated while it follows has no cut-over, and goes
// on; who has had it does not.
func TestTransitionDBTerminated(t *testing.T) {
	need.Drill(t, "P3, P5: a run that is ended goes on as the same run", need.Programs("mariadb-server", "mariadbd"))
	rig := aligntest.MariaDB(t, logged...)
	flags := platforms(t, rig, rig)
	for i, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		if signal.Ignored(s) {
			t.Logf("%s is ignored here", s)
			continue
		}
		cmd, out := child(t, db("run", flags, "--follow")...)
		try.Until(t, "it to follow", func() bool { return strings.Contains(out.String(), "is carried over") })
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		if code := ended(t, cmd); code != 1 || strings.Contains(out.String(), "cut-over: carrying") ||
			!strings.Contains(out.String(), "the same run goes on") {
			t.Errorf("%d: by %s it ended with %d: %s", i, s, code, out)
		}
		if got := rig.SQL("SELECT state FROM migrate_journal.run"); got == "done" {
			t.Errorf("by %s the journal says %s", s, got)
		}
		if v := commandLine(t, "", db("verify", flags)...); v.code != 3 ||
			!strings.Contains(v.err, "has not had its cut-over") ||
			!strings.Contains(v.err, "run --follow; verify can be run beside it, and after its end. Where it says "+
				"that it can not go on, begin anew: holdfast transition db clean --rows") {
			t.Errorf("by %s, verify ended with %d: %s%s", s, v.code, v.out, v.err)
		}
		if v := commandLine(t, "", db("run", flags)...); v.code != 3 ||
			!strings.Contains(v.err, "begun to be followed") || !strings.Contains(v.err, "run --follow") ||
			!strings.Contains(v.err, "clean --rows") {
			t.Errorf("by %s, a run without --follow ended with %d: %s%s", s, v.code, v.out, v.err)
		}
		if v := commandLine(t, "no\n", db("clean", flags[6:])...); v.code != 2 || !strings.Contains(v.err, "It has not ended") {
			t.Errorf("by %s, clean ended with %d: %s%s", s, v.code, v.out, v.err)
		}
	}

	rig.SQL("INSERT INTO old_shop.items (name, owner) VALUES ('caught', 'ann')")
	for want := range int64(2) { // 1 transaction, then none
		r := decode[runDoc](t, commandLine(t, "", db("run", flags, "--follow", "--catch-up", "-o", "json")...), 0)
		if r.Follow == nil || r.Follow.Transactions != 1-want || rig.SQL("SELECT state FROM migrate_journal.run") == "done" {
			t.Errorf("the run that catches up said %+v", r)
		}
	}
	rig.SQL("INSERT INTO old_shop.items (name, owner) VALUES ('before', 'ann')")
	if r := decode[runDoc](t, commandLine(t, "", db("run", flags, "--follow", "--cut-over", "-o", "json")...),
		0); r.Follow == nil || r.Follow.Transactions != 1 {
		t.Errorf("the run that goes on said %+v", r)
	}
	rig.SQL("INSERT INTO old_shop.items (name, owner) VALUES ('after', 'ann')")
	s := commandLine(t, "", db("run", flags, "--follow", "--cut-over")...) // whose answer was lost
	if s.code != 0 || !strings.Contains(s.out, "already complete") {
		t.Errorf("a second cut-over ended with %d: %s%s", s.code, s.out, s.err)
	}
	s = commandLine(t, "", db("run", flags, "--follow", "--quiet", "1s")...)
	if s.code != 3 || !strings.Contains(s.err, "has had its cut-over: it was at ") || !strings.Contains(s.err, "to begin anew: ") {
		t.Errorf("following after the cut-over ended with %d: %s%s", s.code, s.out, s.err)
	}
	if s = commandLine(t, "", db("run", flags)...); s.code != 0 || !strings.Contains(s.out, "already complete") {
		t.Errorf("a run after the cut-over ended with %d: %s%s", s.code, s.out, s.err)
	}
	if got := rig.SQL("SELECT GROUP_CONCAT(title ORDER BY id) FROM shop.items; SELECT state FROM migrate_journal.run"); got != "one,two,three,caught,before\ndone" {
		t.Errorf("after the cut-over the target has %q", got)
	}
}

// TestTransitionDBLosesItsLock: while it follows, another takes the source's lock, whose
// IDs would come instead of its own. It ends at once, and says why.
func TestTransitionDBLosesItsLock(t *testing.T) {
	need.Drill(t, "P5: a run that has lost its lock writes nothing more", need.Programs("mariadb-server", "mariadbd"))
	rig := aligntest.MariaDB(t, logged...)
	flags := platforms(t, rig, rig)
	conn, err := watcher(t, rig).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // its server may be gone
	cmd, out := child(t, db("run", flags, "--follow")...)
	if err := clitest.Until(func() bool { return strings.Contains(out.String(), "is carried over") }); err != nil {
		t.Fatalf("it does not follow: %v: %s", err, out)
	}
	killed := make(chan string, 1)
	id := rig.SQL("SELECT IS_USED_LOCK('holdfast_align_ids')")
	go func() { killed <- rig.SQL("DO SLEEP(0.3); KILL " + id) }()
	if _, err := conn.ExecContext(t.Context(), "DO GET_LOCK('holdfast_align_ids', 60)"); err != nil {
		t.Fatal(err)
	}
	<-killed
	if code := ended(t, cmd); code != 3 || !strings.Contains(out.String(),
		"the connection that held the lock was lost, and now another run is under way") {
		t.Errorf("it ended with %d: %s", code, out)
	}
}
