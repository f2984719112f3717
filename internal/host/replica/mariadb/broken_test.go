package mariadb

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/host/replica"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestAnEndThatCanNotBeCut: behind a transaction that nobody has acknowledged a killed primary's binary log has statements that are
// none, and the server refuses to cut that. What it alone has is saved, and it comes back.
func TestAnEndThatCanNotBeCut(t *testing.T) {
	need.Drill(t, "P3: a killed primary comes back as the standby, whatever its binary log ends with",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	ctx := try.Context(t)
	for name, last := range map[string]string{
		"event":     "CREATE EVENT app.e ON SCHEDULE EVERY 1 HOUR DO SELECT 1",
		"right":     "GRANT SELECT ON app.* TO repl@'%'",
		"table":     "CREATE TABLE app.other (id INT PRIMARY KEY) ENGINE=InnoDB",
		"no engine": "INSERT INTO app.isam VALUES (1)",
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			a.sql("CREATE TABLE app.isam (id INT) ENGINE=MyISAM")
			join(t, a, b)
			db := a.app()
			try.Must(t, <-insert(db, 1))
			c := license(t, a)
			b.sql("STOP SLAVE IO_THREAD")
			insert(db, 4711)
			try.Until(t, "a blocked commit", func() bool { return a.state().Blocked == 1 })
			size := func() int64 {
				_, bytes, err := lastLog(a.logIndex(), a.datadir)
				try.Must(t, err)
				return bytes
			}
			was := size()
			go func() { _, _ = a.root.Exec(last) }() // it ends with the server
			try.Until(t, "the statement in the log", func() bool { return size() > was })
			try.Must(t, a.cmd.Kill9(ctx))
			try.Must(t, b.Promote(ctx, c))
			try.Must(t, b.Alone(ctx))
			try.Must(t, <-insert(b.app(), 2))
			dir := t.TempDir()
			try.Must(t, a.Resync(ctx, b.source(filepath.Join(dir, "saved.sql"))))
			if g, err := b.Together(ctx, a.state()); err != nil || !g.Safe {
				t.Fatalf("%+v, %v", g, err)
			}
			if got := a.value("SELECT GROUP_CONCAT(id) FROM app.log"); got != "1,2" {
				t.Errorf("rows %s", got)
			}
			if got := a.value("SELECT COUNT(*) FROM app.isam"); got != "0" {
				t.Errorf("%s rows in a table without transactions", got)
			}
			if left := replica.Errant(a.state().State, b.state().State); len(left) > 0 {
				t.Errorf("it still has %v", left)
			}
			all, err := filepath.Glob(dir + "/*")
			try.Must(t, err)
			var text strings.Builder
			for _, f := range all {
				raw, err := os.ReadFile(f)
				try.Must(t, err)
				text.Write(raw)
			}
			if !strings.Contains(text.String(), "@1=4711") {
				t.Errorf("what was cut is not in %v", all)
			}
		})
	}
}
