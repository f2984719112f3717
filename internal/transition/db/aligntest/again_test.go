package aligntest

import (
	"os"
	"testing"

	"holdfast/testbed/need"
)

// TestServersAreGivenOn: the next test gets a server that is what it was at its start, with
// the same options, and none that cannot be made so.
func TestServersAreGivenOn(t *testing.T) {
	need.Real(t, Needs)
	unused.start()
	defer unused.end()
	opt := []string{"--log-bin", "--server-id=1"}
	var first, last *Rig
	use := func(name string, opt []string, f func(t *testing.T, r *Rig)) {
		t.Run(name, func(t *testing.T) {
			last = MariaDB(t, opt...)
			if first == nil {
				first = last
			}
			f(t, last)
		})
	}
	const was = "SHOW DATABASES; SELECT User, Host FROM mysql.user ORDER BY 1, 2"
	began := ""
	use("the first", opt, func(t *testing.T, r *Rig) {
		began = r.SQL(was)
		r.SQL("CREATE DATABASE `a``b`; CREATE TABLE `a``b`.p (id INT PRIMARY KEY) ENGINE=InnoDB; CREATE DATABASE c; " +
			"CREATE TABLE c.q (id INT, FOREIGN KEY (id) REFERENCES `a``b`.p (id)) ENGINE=InnoDB; " +
			"CREATE USER 'x''y'@'%'; GRANT SELECT ON c.* TO 'x''y'@'%'")
		tx, err := r.Server("source").DB.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("INSERT INTO `a``b`.p VALUES (1)"); err != nil { // and the test ends
			t.Fatal(err)
		}
	})
	use("the same", opt, func(t *testing.T, r *Rig) {
		if r.cmd != first.cmd {
			t.Error("another server")
		}
		if now := r.SQL(was); now != began {
			t.Errorf("%q, at its start %q", now, began)
		}
		if got := r.SQL("SELECT COUNT(*) FROM mysql.db WHERE User LIKE 'x%'; SELECT @@gtid_binlog_pos = ''"); got != "0\n1" {
			t.Errorf("rights and the binary log: %q", got)
		}
	})
	use("other options", opt[:1], func(t *testing.T, r *Rig) {
		if r.cmd == first.cmd {
			t.Error("a server with other options")
		}
	})
	for name, spoil := range map[string]func(r *Rig){
		"a setting":      func(r *Rig) { r.SQL("SET GLOBAL max_connections = 77") },
		"a system table": func(r *Rig) { r.SQL("INSERT INTO mysql.time_zone_name VALUES ('x', 1)") },
		"a role":         func(r *Rig) { r.SQL("CREATE ROLE x") },
		"it was killed":  func(r *Rig) { r.Kill(); r.Start() },
	} {
		var spoiled *Rig
		use(name, opt, func(t *testing.T, r *Rig) { spoiled = r; spoil(r) })
		use(name+", after", opt, func(t *testing.T, r *Rig) {
			if r.dir == spoiled.dir {
				t.Error("a server that is not what it was")
			}
		})
		if _, err := os.Stat(spoiled.dir); !os.IsNotExist(err) {
			t.Errorf("%s: its files: %v", name, err)
		}
	}
	unused.end()
	if _, err := os.Stat(last.dir); !os.IsNotExist(err) {
		t.Errorf("in the end: its files: %v", err)
	}
	if unused.put(last) {
		t.Error("a server is kept when the tests have ended")
	}
}

// TestRowsAreThoseOfTheClient: values that the driver reads are told as the client tells them.
func TestRowsAreThoseOfTheClient(t *testing.T) {
	need.More(t)
	r := MariaDB(t)
	for _, value := range []string{"NULL", "7", "-1", "1999000e0", "0e0", "0.1e0", "1e14", "1e15", "1e16", "-2.5e30",
		"1.5e-7", "CAST(0.1 AS FLOAT)", "1.50", "'a b'", "x'00ff'", "CAST('2020-01-02' AS DATE)", "CAST('10:11:12.5' AS TIME(1))"} {
		got := r.SQL("SELECT " + value)
		if want := r.SQL("SELECT " + value + "\n-- by the client"); got != want {
			t.Errorf("%s: %q, by the client %q", value, got, want)
		}
	}
}
