package cli

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// unwrapped is what a command has said, without the ends of its lines.
func unwrapped(s said) string { return strings.Join(strings.Fields(s.out+s.err), " ") }

// TestTransitionDBWhenTheTargetHasGrown: after the copy, the mapping's query for IDs can
// not be answered any more; what it gave before counts.
func TestTransitionDBWhenTheTargetHasGrown(t *testing.T) {
	need.Drill(t, "P5: a target that has grown meanwhile is told, and nothing of it is changed", need.Programs("mariadb-server", "mariadbd"))
	rig := aligntest.MariaDB(t)
	flags := platforms(t, rig, rig)
	decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	rig.SQL("ALTER TABLE shop.shelves DROP PRIMARY KEY; INSERT INTO shop.shelves VALUES ('s', 6)") // two for one
	const note = `what the copy began with counts, the target can not be asked anew: IDs of shelf: query: row 3: "s", "6": the old value is in row`
	for _, command := range []string{"verify", "plan"} {
		s := commandLine(t, "", db(command, flags)...)
		code := 0
		if command == "plan" {
			code = 2 // of rows that are there already
		}
		if s.code != code || strings.Count(unwrapped(s), note) != 1 {
			t.Errorf("%s of a target that has grown ended with %d: %s%s", command, s.code, s.out, s.err)
		}
	}
	p := decode[planDoc](t, commandLine(t, "", db("plan", flags, "-o", "json")...), 2)
	if len(p.Errors) != 2 || !slices.ContainsFunc(p.Warnings,
		func(f struct{ Table, Column, Text string }) bool { return strings.Contains(f.Text, note) }) {
		t.Errorf("the plan is %+v", p)
	}
	rig.SQL("DROP TABLE shop.shelves; CREATE TABLE shop.shelves (old VARCHAR(9), new INT); INSERT INTO shop.shelves VALUES ('s', 7), ('t', 8)")
	if s := commandLine(t, "", db("verify", flags)...); s.code != 0 || strings.Contains(s.err, "counts") {
		t.Errorf("verify with another answer ended with %d: %s%s", s.code, s.out, s.err)
	}
	if got := rig.SQL("SELECT old, new FROM migrate_ids.ids_shelf; SELECT kind, new FROM migrate_ids.ids_default"); got != "s\t5\nshelf\t0" {
		t.Errorf("what is staged is now %q", got)
	}

	// Without what was staged there is nothing to go by but the question, and files.
	rig.SQL("INSERT INTO shop.shelves VALUES ('s', 9)")
	if s := commandLine(t, "", db("clean", []string{"--source", rig.DSN(), "--target", rig.DSN()}, "--yes")...); s.code != 0 {
		t.Fatalf("clean ended with %d: %s", s.code, s.err)
	}
	if s := commandLine(t, "", db("verify", flags)...); s.code != 2 ||
		!strings.Contains(s.err, "mend what the query asks for, or give them in a file shelf.csv") {
		t.Errorf("verify without a journal ended with %d: %s%s", s.code, s.out, s.err)
	}
	p = decode[planDoc](t, commandLine(t, "", db("plan", flags, "-o", "json")...), 2)
	for _, want := range []string{"mend what the query asks for",
		`1 values have no line among the IDs of shelf (query): "s"`, "rows already"} {
		if !slices.ContainsFunc(p.Errors, func(f struct{ Table, Column, Text string }) bool { return strings.Contains(f.Text, want) }) {
			t.Errorf("the plan has no error %s: %+v", want, p.Errors)
		}
	}
	write(t, "ids/shelf.csv", "s,5\n")
	if s := commandLine(t, "", db("verify", flags)...); s.code != 0 || !strings.Contains(s.err, "the target has no journal of a copy") {
		t.Errorf("verify with a file ended with %d: %s%s", s.code, s.out, s.err)
	}
}

// TestTransitionDBOfAnotherTarget: the source's staged IDs are those of one copy.
func TestTransitionDBOfAnotherTarget(t *testing.T) {
	rig := aligntest.MariaDB(t)
	flags := platforms(t, rig, rig)
	decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	rig.SQL(strings.ReplaceAll(newPlatform, "shop", "other") + "DROP DATABASE migrate_journal") // of another server it would not be seen
	s := commandLine(t, "", db("run", flags, "--target-db", "shop=other")...)
	is := fmt.Sprintf("%s:%d, databases ", strings.TrimSpace(rig.SQL("SELECT @@hostname")), rig.Port())
	if s.code != 3 || !strings.Contains(s.err, "are of another copy, to "+is+"shop, and this one is to "+is+"other: end that one first") {
		t.Errorf("a run to another target ended with %d: %s%s", s.code, s.out, s.err)
	}
	if got := rig.SQL("SELECT COUNT(*) FROM other.items; SHOW DATABASES LIKE 'migrate_journal'"); got != "0" {
		t.Errorf("it has written: %s", got)
	}

	// Nor does clean of another target take them away, whatever it is told.
	third := aligntest.MariaDB(t)
	s = commandLine(t, "", db("clean", []string{"--source", rig.DSN(), "--target", third.DSN()}, "--yes")...)
	if s.code != 3 || !strings.Contains(s.err, "are of another copy, to "+is+"shop, and this target is ") ||
		!strings.Contains(s.err, fmt.Sprintf(":%d\n", third.Port())) || !strings.Contains(s.err, "DROP DATABASE migrate_ids") {
		t.Errorf("clean of another target ended with %d: %s%s", s.code, s.out, s.err)
	}
	if got := rig.SQL("SELECT old, new FROM migrate_ids.ids_shelf"); got != "s\t5" {
		t.Errorf("of the staged IDs there is %q", got)
	}
	if s = commandLine(t, "", db("clean", []string{"--source", rig.DSN(), "--target", rig.DSN()},
		"--yes")...); s.code != 0 || rig.SQL("SHOW DATABASES LIKE 'migrate%'") != "" {
		t.Errorf("clean of its target ended with %d: %s%s", s.code, s.out, s.err)
	}
}

// TestTransitionDBOfAnotherSource is refused before anything is staged there.
func TestTransitionDBOfAnotherSource(t *testing.T) {
	rig, second := aligntest.MariaDB(t), aligntest.MariaDB(t)
	flags := platforms(t, rig, rig)
	decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	second.SQL(oldPlatform)
	says := fmt.Sprintf(":%d: this source is ", rig.Port())
	for _, command := range []string{"run", "verify"} {
		s := commandLine(t, "", db(command, append(flags, "--source", second.DSN()))...)
		if s.code != 3 || !strings.Contains(s.err, says) ||
			!strings.Contains(s.err, "UPDATE migrate_journal.run SET source = '") || strings.Contains(s.err, "anew") ||
			strings.Contains(s.err, "staged") {
			t.Errorf("%s from another source ended with %d: %s%s", command, s.code, s.out, s.err)
		}
	}
	rig.SQL("UPDATE migrate_journal.run SET state = 'copying'")
	s := commandLine(t, "", db("run", append(flags, "--source", second.DSN()))...)
	if s.code != 3 || !strings.Contains(s.err, says) || !strings.Contains(s.err, "or begin anew") {
		t.Errorf("going on from another source ended with %d: %s%s", s.code, s.out, s.err)
	}
	rig.SQL("UPDATE migrate_journal.run SET state = 'copied'")
	s = commandLine(t, "", db("plan", append(flags, "--source", second.DSN()))...)
	if s.code != 2 || !strings.Contains(unwrapped(s), "error the target has the journal of a copy") || !strings.Contains(unwrapped(s), says) {
		t.Errorf("a plan from another source ended with %d: %s%s", s.code, s.out, s.err)
	}
	rig.SQL("DELETE FROM shop.tags; DELETE FROM shop.items") // the journal alone stands in the way
	for command, code := range map[string]int{"plan": 2, "run": 3} {
		if s = commandLine(t, "", db(command, append(flags, "--source", second.DSN()))...); s.code != code ||
			!strings.Contains(unwrapped(s), says) || strings.Contains(s.out, "nothing stands in the way") {
			t.Errorf("%s with another copy's journal ended with %d: %s%s", command, s.code, s.out, s.err)
		}
	}
	s = commandLine(t, "", db("clean", []string{"--source", second.DSN(), "--target", rig.DSN()}, "--yes")...)
	if s.code != 3 || !strings.Contains(s.err, says) || !strings.Contains(s.err, "DROP DATABASE migrate_journal") ||
		rig.SQL("SELECT state FROM migrate_journal.run") != "copied" {
		t.Errorf("clean with another source ended with %d: %s%s", s.code, s.out, s.err)
	}
	if got := second.SQL("SHOW DATABASES LIKE 'migrate%'"); got != "" {
		t.Errorf("the other source has %s", got)
	}
}

// TestTransitionDBWithoutRightOnTheJournal: a plan tells it with all else that is missing.
func TestTransitionDBWithoutRightOnTheJournal(t *testing.T) {
	rig := aligntest.MariaDB(t, logged...)
	flags := platforms(t, rig, rig)
	rig.SQL("CREATE USER few@'%' IDENTIFIED BY 'x'; GRANT SELECT, INSERT, DELETE ON shop.* TO few@'%'")
	flags = append(flags, "--target", strings.Replace(rig.DSN(), aligntest.User+":"+aligntest.Password, "few:x", 1))
	const journal = "GRANT ALL ON migrate_journal.* TO 'few'@'%';\n"
	for _, command := range []string{"plan", "run", "verify"} {
		if s := commandLine(t, "", db(command, flags)...); s.code == 0 ||
			!strings.Contains(s.out+s.err, "\n  -- on the target\n  "+journal) || strings.Count(s.out+s.err, "GRANT") != 1 {
			t.Errorf("%s ended with %d: %s%s", command, s.code, s.out, s.err)
		}
	}
	// Of accounts without any right all is told at once, and is what they need.
	rig.SQL("CREATE USER none@'%' IDENTIFIED BY 'x', nobody@'%' IDENTIFIED BY 'x'")
	flags = append(flags, "--target", strings.Replace(rig.DSN(), aligntest.User+":"+aligntest.Password, "none:x", 1),
		"--source", strings.Replace(rig.DSN(), aligntest.User+":"+aligntest.Password, "nobody:x", 1))
	want := "  -- on the source\n  GRANT SELECT ON `old_shop`.* TO 'nobody'@'%';\n  GRANT ALL ON migrate_ids.* TO " +
		"'nobody'@'%';\n  GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'nobody'@'%'; -- for run --follow only\n" +
		"  -- on the target\n  GRANT SELECT, INSERT, DELETE ON `shop`.* TO 'none'@'%';\n  " + strings.Replace(journal, "few", "none", 1)
	for _, command := range []string{"plan", "run"} {
		s := commandLine(t, "", db(command, flags)...)
		if s.code != 2 || !strings.HasSuffix(s.err, want) ||
			!strings.Contains(s.err, "source: there is no database old_shop") || !strings.Contains(s.err, "target: there is no database shop") {
			t.Fatalf("%s without any right ended with %d: %s%s", command, s.code, s.out, s.err)
		}
	}
	rig.SQL(want)
	if s := commandLine(t, "", db("plan", flags)...); s.code != 0 {
		t.Errorf("plan ended with %d: %s%s", s.code, s.out, s.err)
	}
	if s := commandLine(t, "", db("run", flags)...); s.code != 0 {
		t.Errorf("run ended with %d: %s%s", s.code, s.out, s.err)
	}
	if s := commandLine(t, "", db("verify", flags)...); s.code != 0 {
		t.Errorf("verify ended with %d: %s%s", s.code, s.out, s.err)
	}
}

// TestTransitionDBSkip leaves a table out, whose rows others refer to.
func TestTransitionDBSkip(t *testing.T) {
	rig := aligntest.MariaDB(t)
	flags := platforms(t, rig, rig)
	write(t, "shop.yaml", strings.Replace(shopMapping, "tables:\n",
		"tables:\n- {target: till.items, from: till.items, columns: [{copy: [id]}]}\n", 1))
	for _, command := range []string{"plan", "run", "verify"} {
		s := commandLine(t, "", db(command, flags, "--skip", "till.items", "--skip", "shop.item")...)
		if s.code != 2 || !strings.Contains(s.err, `--skip: the mapping fills no table "shop.item": want shop.items`) {
			t.Errorf("%s without a table that is not there ended with %d: %s%s", command, s.code, s.out, s.err)
		}
	}
	// The database of till is nowhere; nobody needs it.
	flags = append(flags, "--skip", "till.items", "--skip", "shop.items", "--source-db", "till=old_till")
	s := commandLine(t, "", db("plan", flags)...)
	if want := `warning shop.tags item_id: 2 values refer to rows of shop.items that the target does not have, and it is skipped: they are to be there by the run: "1"; "2"`; s.code != 0 || !strings.Contains(unwrapped(s), want) || strings.Contains(s.out, "INTO `shop`.`items`") {
		t.Errorf("plan ended with %d: %s%s", s.code, s.out, s.err)
	}
	rig.SQL("INSERT INTO shop.items (id, title, uuid) VALUES (1, 'a', 'x'), (2, 'b', 'y')")
	r := decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	if len(r.Tables) != 1 || r.Tables[0].Target != "shop.tags" ||
		rig.SQL("SELECT GROUP_CONCAT(title) FROM shop.items; SELECT COUNT(*) FROM shop.tags") != "a,b\n3" {
		t.Errorf("the run said %+v", r)
	}
	v := decode[verifyDoc](t, commandLine(t, "", db("verify", flags, "-o", "json")...), 0)
	if len(v.Tables) != 1 || !*v.Equal {
		t.Errorf("verify said %+v", v)
	}
	fewer := append(flags[:10:10], "--skip", "till.items", "--source-db", "till=old_till")
	for _, command := range []string{"run", "verify"} {
		s := commandLine(t, "", db(command, flags, "--skip", "shop.tags")...)
		if s.code != 2 || !strings.Contains(s.err, "all 3 tables of the mapping would be left out") {
			t.Errorf("%s without any table ended with %d: %s%s", command, s.code, s.out, s.err)
		}
		if s = commandLine(t, "", db(command, fewer)...); s.code != 3 || !strings.Contains(s.err, "another --skip") {
			t.Errorf("%s with fewer --skip ended with %d: %s%s", command, s.code, s.out, s.err)
		}
	}
}

// TestTransitionDBLosesAServer: at whatever question, that is no bad input.
func TestTransitionDBLosesAServer(t *testing.T) {
	need.Drill(t, "P5: an alignment that loses a server ends with a word, and goes on when it is there again",
		need.Programs("mariadb-server", "mariadbd"))
	rig := aligntest.MariaDB(t, logged...)
	flags := platforms(t, rig, rig)
	slow := strings.Replace(shopMapping, `"SELECT old, new FROM {shop}.shelves"`, `"SELECT 's', 5 + SLEEP(60)"`, 1)
	for _, c := range []struct {
		what, mapping, held, waits string
		args                       []string
	}{
		{"plan asks for IDs", slow, "", "SLEEP", db("plan", flags)},
		{"verify asks for IDs", slow, "", "SLEEP", db("verify", flags)},
		{"run asks for IDs", slow, "", "SLEEP", db("run", flags, "--follow")},
		{"plan asks the rows", shopMapping, "LOCK TABLES old_shop.tags WRITE", "%old_shop%tags%", db("plan", flags)},
		{"plan is killed", shopMapping, "LOCK TABLES old_shop.items WRITE", "%old_shop%items%", db("plan", flags)},
		{"plan asks the target", shopMapping, "LOCK TABLES shop.items WRITE", "%shop%items%", db("plan", flags)},
		{"clean drops", shopMapping, "LOCK TABLES migrate_ids.x WRITE", "DROP DATABASE%",
			db("clean", []string{"--source", rig.DSN(), "--target", rig.DSN()}, "--yes")},
	} {
		write(t, "shop.yaml", c.mapping)
		rig.SQL("CREATE DATABASE IF NOT EXISTS migrate_ids; CREATE TABLE IF NOT EXISTS migrate_ids.x (i INT)")
		if c.what == "clean drops" {
			rig.SQL("RENAME TABLE migrate_ids.x TO migrate_ids.ids_x")
			c.held = strings.Replace(c.held, ".x", ".ids_x", 1)
		}
		watch := watcher(t, rig)
		if c.held != "" {
			hold(t, watch, c.held)
		}
		result, id := make(chan said, 1), 0
		go func() { result <- commandLine(t, "", c.args...) }()
		waits := func() bool {
			return watch.QueryRow("SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND "+
				"INFO LIKE ? LIMIT 1", "%"+c.waits+"%").Scan(&id) == nil
		}
		err := clitest.Until(waits)
		if c.what != "plan is killed" {
			rig.Kill()
		}
		var s said
		for ended := false; !ended; {
			if c.what == "plan is killed" && waits() { // by somebody; the server stays. What was seen first may have been over
				if _, err := watch.Exec(fmt.Sprint("KILL QUERY ", id)); err != nil {
					t.Log(err)
				}
			}
			select {
			case s = <-result:
				ended = true
				rig.Kill()
			case <-time.After(100 * time.Millisecond):
			}
		}
		if err != nil || s.code != 4 || strings.Contains(s.err, "faults") {
			t.Errorf("%s: %v: it ended with %d: %s%s", c.what, err, s.code, s.out, s.err)
		}
		rig.Start()
	}
}

// watcher reaches a server that will be killed.
func watcher(t *testing.T, rig *aligntest.Rig) *sql.DB {
	t.Helper()
	s, err := server.Open(aligntest.Deadline(t), "watch", rig.DSN(), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // connections that are lost say so
	return s.DB
}

// hold carries out a statement on a connection of its own, until the test ends.
func hold(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // its server may be gone
	if _, err := conn.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// TestTransitionDBTellsWhatIsTriedAgain: people see why it took so long; programs are not
// bothered.
func TestTransitionDBTellsWhatIsTriedAgain(t *testing.T) {
	source, target := aligntest.MariaDB(t), aligntest.MariaDB(t)
	flags := platforms(t, source, target)
	watch := watcher(t, target)
	result := make(chan said, 1)
	source.SQL("USE old_shop; INSERT INTO tags SELECT 1, seq FROM seq_1_to_2000")
	hold(t, watch, "LOCK TABLES shop.tags READ")
	go func() { result <- commandLine(t, "", db("run", flags, "-o", "json")...) }()
	err := clitest.Until(func() bool {
		var n int
		return watch.QueryRow("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for "+
			"table%' AND INFO LIKE '%tags%'").Scan(&n) == nil && n > 0
	})
	target.Kill()
	target.Start()
	s := <-result
	if r := decode[runDoc](t, s, 0); err != nil || len(r.Tables) != 2 || r.Tables[1].Rows != 2003 {
		t.Errorf("%v: the run said %+v", err, r)
	}
	if !strings.Contains(s.err, "tries again, at ") || strings.Contains(s.err, "level=") {
		t.Errorf("people see\n%s", s.err)
	}
}

// TestTransitionDBFollowWaits: what holds the copy back holds what follows back, too.
func TestTransitionDBFollowWaits(t *testing.T) {
	need.Drill(t, "P5: a run that follows waits for the order to cut over", need.Programs("mariadb-server", "mariadbd"))
	rig := aligntest.MariaDB(t, logged...)
	flags := platforms(t, rig, rig)
	decode[runDoc](t, commandLine(t, "", db("run", flags, "-o", "json")...), 0)
	const busy = 4 * time.Second
	watch, begun := rig.Server("watch"), time.Now()
	slept := make(chan error, 8)
	for range cap(slept) {
		go func() {
			_, err := watch.DB.Exec(fmt.Sprintf("DO SLEEP(%.0f)", busy.Seconds()))
			slept <- err
		}()
	}
	rig.SQL("UPDATE old_shop.items SET name = 'uno' WHERE id = 1")
	r := decode[runDoc](t, commandLine(t, "", db("run", flags, "--follow", "--quiet", "500ms", "--max-threads-running",
		"6", "-o", "json")...), 0)
	if took := time.Since(begun); took < busy || r.Follow == nil || r.Follow.Transactions != 1 ||
		rig.SQL("SELECT title FROM shop.items WHERE id = 1") != "uno" {
		t.Errorf("after %s, while the server was busy for %s, the run said %+v", took, busy, r.Follow)
	}
	for range cap(slept) {
		if err := <-slept; err != nil {
			t.Error(err)
		}
	}
}
