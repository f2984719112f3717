package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

func TestIdentity(t *testing.T) {
	for _, c := range []struct{ version, comment, want string }{ // what servers of these kinds say of themselves
		{"10.11.19-MariaDB-0+deb12u1", "Debian 12", "MariaDB [10 11 19]"},
		{"5.5.5-10.3.39-MariaDB-log", "mariadb.org binary distribution", "MariaDB [10 3 39]"},
		{"11.4.2-MariaDB", "", "MariaDB [11 4 2]"},
		{"10.6.5-2-log", "MariaDB Enterprise Server", "MariaDB [10 6 5]"},
		{"5.6.51", "MySQL Community Server (GPL)", "MySQL [5 6 51]"},
		{"5.7.44-48-log", "Percona Server (GPL), Release 48, Revision 497f936a373", "MySQL [5 7 44]"},
		{"8.0.36-0ubuntu0.22.04.1", "(Ubuntu)", "MySQL [8 0 36]"},
		{"8.4.0", "MySQL Community Server - GPL", "MySQL [8 4 0]"},
		{"5.5.62", "MySQL Community Server (GPL)", "error the server is MySQL 5.5.62: want at least MySQL 5.6 or MariaDB 10.3"},
		{"10.2.44-MariaDB", "", "error the server is MariaDB 10.2.44: want at least MySQL 5.6 or MariaDB 10.3"},
		{"5.5.5-10.1.48-MariaDB", "", "error the server is MariaDB 10.1.48: want at least MySQL 5.6 or MariaDB 10.3"},
		{"5.5.68-MariaDB", "MariaDB Server", "error the server is MariaDB 5.5.68: want at least MySQL 5.6 or MariaDB 10.3"},
		{"8.0.11-TiDB-v7.5.0", "TiDB Server (Apache License 2.0)",
			"error the server is TiDB (8.0.11-TiDB-v7.5.0 TiDB Server (Apache License 2.0)): want MySQL or MariaDB"},
		{"8.0.30-Vitess", "", "error the server is Vitess (8.0.30-Vitess ): want MySQL or MariaDB"},
		{"5.7.25-OceanBase-v4.2.1.0", "", "error the server is OceanBase (5.7.25-OceanBase-v4.2.1.0 ): want MySQL or MariaDB"},
		{"something", "", `error the server's version is "something": want that of MySQL or MariaDB`},
	} {
		vendor, v, err := identity(c.version, c.comment)
		got := fmt.Sprint(vendor, " ", v)
		if err != nil {
			got = "error " + err.Error()
		}
		if got != c.want {
			t.Errorf("%s, %s:\n got %s\nwant %s", c.version, c.comment, got, c.want)
		}
	}
}

// TestSettings: nothing is asked of a server that it does not know.
func TestSettings(t *testing.T) {
	for _, c := range []struct {
		vendor  string
		version [3]int
		want    string
	}{
		{"", [3]int{}, ""},
		{MariaDB, [3]int{10, 3, 0}, "SET SESSION max_statement_time = 0"},
		{MySQL, [3]int{5, 6, 51}, ""},
		{MySQL, [3]int{5, 7, 7}, ""},
		{MySQL, [3]int{5, 7, 8}, "SET SESSION max_execution_time = 0"},
		{MySQL, [3]int{8, 4, 0}, "SET SESSION max_execution_time = 0"},
	} {
		got := (&connector{vendor: c.vendor, version: c.version}).settings()
		if rest := strings.Join(got[2:], "; "); rest != c.want ||
			!slices.Contains(got, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED") {
			t.Errorf("%s %v: %v", c.vendor, c.version, got)
		}
	}
}

func TestExplain(t *testing.T) {
	s := &Server{Role: "source"}
	err := s.explain(&mysql.MySQLError{Number: errAccessDenied, Message: "Access denied"})
	if !strings.Contains(err.Error(), "want another user or password") {
		t.Errorf("error %v", err)
	}
	if other := (&mysql.MySQLError{Number: errNoRight}); s.explain(other) != error(other) {
		t.Error("another error is changed")
	}
}
