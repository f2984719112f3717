package mariadb

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/host/replica"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestEventsGoWithThePrimary: after a switch, planned or not, each event is on the new primary as it was on the old one, and runs
// there alone.
func TestEventsGoWithThePrimary(t *testing.T) {
	need.Drill(t, "P5: events of a database run on the primary alone, and are after a switch as they were before",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, b := pair(t)
	ctx := try.Context(t)
	a.sql("CREATE TABLE app.ticks (id BIGINT AUTO_INCREMENT PRIMARY KEY, server INT) ENGINE=InnoDB",
		"CREATE EVENT app.early ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.ticks (server) VALUES (@@server_id)", // a copy has it enabled
		"GRANT ALL ON app.* TO app@'%'")
	join(t, a, b)
	try.Must(t, a.Promote(ctx, license(t, a)))
	a.sql("SET SESSION sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
		"CREATE DEFINER=app@'%' EVENT app.`odd ``name` ON SCHEDULE EVERY 1 HOUR DO SELECT 1", "SET SESSION sql_mode=DEFAULT",
		"CREATE EVENT app.off ON SCHEDULE EVERY 1 HOUR DISABLE DO SELECT 1",
		"CREATE EVENT app.ended ON SCHEDULE EVERY 1 HOUR DO SELECT 1", "ALTER EVENT app.ended DISABLE",
		"CREATE EVENT app.never ON SCHEDULE EVERY 1 HOUR DISABLE ON SLAVE DO SELECT 1",
		"CREATE EVENT app.later ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.ticks (server) VALUES (@@server_id)",
		"SET GLOBAL event_scheduler=ON")
	shown := func(n *node) string {
		all, err := n.events(ctx, n.db)
		try.Must(t, err)
		return fmt.Sprint(all)
	}
	want := shown(a)
	// written waits until the replica has the primary's list.
	written := func(p, r *node) {
		t.Helper()
		n := strings.Count(shown(p), "{")
		try.Until(t, "the events to be written down", func() bool {
			if st := p.state(); st.Problem != "" {
				t.Fatalf("%+v", st)
			}
			there, err := r.rows(ctx, r.db, eventsThere)
			try.Must(t, err)
			return len(there) > 0 && r.value("SELECT COUNT(*) FROM holdfast_replica.events") == fmt.Sprint(n)
		})
	}
	ticks := func(n *node, server string) bool {
		return n.value("SELECT COUNT(*) FROM app.ticks WHERE server="+server) != "0"
	}
	written(a, b)
	try.Until(t, "events to run on the primary", func() bool { return ticks(a, "1") })
	license1 := license(t, a)
	try.Must(t, a.Demote(ctx))
	try.Must(t, b.Promote(ctx, license1))
	if got := shown(b); got != want {
		t.Errorf("after a planned switch\n%s\nwant\n%s", got, want)
	}
	if got := a.value("SELECT @@event_scheduler"); got != "OFF" {
		t.Errorf("on the old primary the scheduler is %s", got)
	}
	try.Must(t, a.Resync(ctx, b.source("")))
	g, err := b.Together(ctx, a.state())
	if err != nil || !g.Safe {
		t.Fatalf("%+v, %v", g, err)
	}
	written(b, a)
	try.Until(t, "events to run on the new primary", func() bool { return ticks(b, "2") })
	if st := a.state(); len(replica.Errant(st.State, b.state().State)) > 0 {
		t.Errorf("the standby has written by itself: %+v", st)
	}
	// And back, after a crash. An event that nobody has written down is told.
	b.sql("ALTER EVENT app.early DISABLE")
	try.Until(t, "the change to be written down", func() bool {
		b.state()
		return a.value("SELECT status FROM holdfast_replica.events WHERE name='early'") == "DISABLED"
	})
	want = shown(b)
	b.noting.Lock()
	b.noting.ready = false // as a look that comes too late
	b.noting.Unlock()
	b.sql("CREATE EVENT app.unknown ON SCHEDULE EVERY 1 HOUR DO SELECT 1",
		"INSERT INTO app.log VALUES (1, NOW(6))") // with a statement at the end of its log that is no transaction a server does not start again
	license2 := license(t, b)
	try.Must(t, b.cmd.Kill9(ctx))
	try.Must(t, a.Promote(ctx, license2))
	try.Must(t, a.Alone(ctx))
	if got := shown(a); !strings.Contains(got, "{app unknown SLAVESIDE_DISABLED ") ||
		strings.Join(strings.Split(got, " {app unknown ")[:1], "")+"]" != want {
		t.Errorf("after a crash\n%s\nwant, and one more\n%s", got, want)
	}
	try.Must(t, b.Resync(ctx, a.source(filepath.Join(t.TempDir(), "saved.sql"))))
	g, err = a.Together(ctx, b.state())
	if err != nil || !g.Safe {
		t.Fatalf("%+v, %v", g, err)
	}
	if st := a.state(); !strings.Contains(st.Problem, "app.unknown") {
		t.Errorf("of the event that nobody has written down: %q", st.Problem)
	}
	a.sql("ALTER EVENT app.unknown ENABLE")
	try.Until(t, "that to be mended", func() bool { return a.state().Problem == "" })
}

// TestEventSchedulerOfAnOptionFile reads what the file says with the real program.
func TestEventSchedulerOfAnOptionFile(t *testing.T) {
	need.Drill(t, "P5: events of a database run on the primary alone, if the option file says so", need.Programs("mariadb-server", "mariadbd"))
	for line, want := range map[string]string{"": "", "event_scheduler=ON": "ON", "event-scheduler": "ON",
		"loose-event-scheduler=1": "1", "event_scheduler = DISABLED": "DISABLED"} {
		path := filepath.Join(t.TempDir(), "my.cnf")
		try.Must(t, os.WriteFile(path, []byte("[mysqld]\nport=1\n"+line+"\nsocket=/x\n"), 0o600))
		c := &Command{Path: "/usr/sbin/mariadbd", Args: []string{"--defaults-file=" + path}}
		if got, err := c.EventScheduler(t.Context()); got != want || err != nil {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
}
