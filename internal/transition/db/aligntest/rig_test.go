package aligntest

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"holdfast/testbed/need"
)

// TestRig: a server is a test's own, keeps what was committed when it is killed, comes
// back at the same port, and leaves nothing behind.
func TestRig(t *testing.T) {
	need.More(t)
	var dir, addr string
	t.Run("server", func(t *testing.T) {
		a, b := MariaDB(t, "--log-bin", "--binlog-format=ROW", "--server-id=7"), MariaDB(t)
		dir, addr = a.dir, fmt.Sprintf("127.0.0.1:%d", a.Port())
		if got := a.SQL("SELECT @@server_id, @@binlog_format, 'a\\nb', NULL; SELECT '\u00fc'"); got != "7\tROW\ta\nb\tNULL\n\u00fc" {
			t.Errorf("the client says %q", got)
		}
		a.SQL("CREATE DATABASE x; CREATE TABLE x.y (a INT PRIMARY KEY) ENGINE=InnoDB; INSERT INTO x.y VALUES (1)")
		if got := b.SQL("SHOW DATABASES LIKE 'x'"); got != "" {
			t.Errorf("the other server has %q, too", got)
		}
		s := a.Server("source")
		tx, err := s.DB.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("INSERT INTO x.y VALUES (2)"); err != nil {
			t.Fatal(err)
		}
		port := a.Port()
		a.Kill()
		a.Kill() // again: nothing
		if err := s.DB.Ping(); err == nil {
			t.Error("a killed server answers")
		}
		a.Start()
		if a.Port() != port {
			t.Errorf("it came back at port %d, not %d", a.Port(), port)
		}
		// The connections are made anew, where it was.
		var n int
		if err := s.DB.QueryRowContext(context.Background(), "SELECT SUM(a) FROM x.y").Scan(&n); err != nil || n != 1 {
			t.Errorf("after a crash: %d, %v: want the committed row alone", n, err)
		}
	})
	if t.Failed() || addr == "" {
		return
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v: want it gone", dir, err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("a server answers after its test")
	}
}

// TestLoad: the databases of a schema file get other names, all of them.
func TestLoad(t *testing.T) {
	need.More(t)
	r := MariaDB(t)
	r.Load("liberty-schema.sql", "liberty_", "old_")
	if got := r.SQL("SHOW DATABASES LIKE 'old\\_%'"); strings.Join(strings.Fields(got),
		" ") != "old_cinder old_glance old_neutron old_nova old_nova_api" {
		t.Errorf("databases %q", got)
	}
	if got := r.SQL("SHOW DATABASES LIKE 'liberty%'"); got != "" {
		t.Errorf("databases of the old names: %q", got)
	}
	if got := r.SQL("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA LIKE 'old\\_%'"); got != "157" {
		t.Errorf("%s tables: want 157", got)
	}
}
