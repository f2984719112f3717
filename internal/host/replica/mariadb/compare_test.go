package mariadb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestRowsOfBothNodes: what sessions have kept from the standby is found by name, whatever the key, while clients
// write; and what is in motion is no difference.
func TestRowsOfBothNodes(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	ctx := try.Context(t)
	a, b := pair(t)
	join(t, a, b)
	a.sql(
		"CREATE TABLE app.numbers (id BIGINT UNSIGNED PRIMARY KEY, v INT, at TIMESTAMP NULL, half INT AS (v / 2)) ENGINE=InnoDB",
		"INSERT INTO app.numbers (id, v, at) SELECT seq * 9000000000000, seq, '2001-01-01' FROM mysql.seq_1_to_2500",
		"CREATE TABLE app.texts (a VARCHAR(40) NOT NULL, b DECIMAL(20,4) NOT NULL, v BLOB, UNIQUE KEY k (a, b)) ENGINE=InnoDB CHARSET=utf8mb4",
		"INSERT INTO app.texts SELECT CONCAT('ä ', seq DIV 900), seq / 3, REPEAT('x', seq) FROM mysql.seq_1_to_2100",
		"CREATE TABLE app.latin (a CHAR(9) CHARSET latin1 PRIMARY KEY, b VARBINARY(9) NOT NULL, UNIQUE KEY (b)) ENGINE=InnoDB",
		"INSERT INTO app.latin VALUES ('ß', x'00ff'), ('''', x''), ('\\\\', 'a')",
		"CREATE TABLE app.days (d DATETIME(3) PRIMARY KEY, v DOUBLE, e ENUM('x','y')) ENGINE=InnoDB",
		"INSERT INTO app.days VALUES ('2020-02-29 10:00:00.125', 0.1, 'y')",
		"CREATE TABLE app.empty (id INT PRIMARY KEY) ENGINE=InnoDB",
		"CREATE TABLE app.keyless (id INT) ENGINE=InnoDB", "INSERT INTO app.keyless VALUES (1)",
		"CREATE TABLE app.old (id INT PRIMARY KEY) ENGINE=Aria",
		"CREATE VIEW app.seen AS SELECT 1",
		"CREATE TABLE app.odd (id INT PRIMARY KEY, p POINT, b BIT(9), j JSON, s SET('a','b'), i INET6, t TIME(6), y YEAR, f FLOAT) ENGINE=InnoDB",
		"INSERT INTO app.odd VALUES (1, POINT(1, 2), b'101', '{\"a\": 1}', 'a,b', '::1', '10:00:00.5', 2020, 0.1)",
	)
	left := "[app.keyless: it has no unique key of numbers, texts or dates app.old: its engine is Aria]"
	compared := func() cluster.PairCompared {
		t.Helper()
		c, err := b.Compare(ctx, Peer{"b", "a", a.Rows})
		try.Must(t, err)
		if got := fmt.Sprint(c.Left); got != left || c.Ended.IsZero() {
			t.Errorf("left out: %s", got)
		}
		return c
	}
	if c := compared(); len(c.Differ) > 0 || c.Tables != 7 || c.Rows != 2500+2100+3+1+1 {
		t.Errorf("nothing differs: %+v", c)
	}

	app := a.app()
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(ended)
		for i := int64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := <-insert(app, i); err != nil {
				ended <- err
				return
			}
			if err := a.exec(ctx, a.root, "UPDATE app.numbers SET v = v + 1 WHERE id BETWEEN 9000000000000 AND 9000000000000 * 5"); err != nil {
				ended <- err
				return
			}
		}
	}()
	if c := compared(); len(c.Differ) > 0 {
		t.Errorf("in motion: %v", c.Differ)
	}
	secret, err := a.root.Conn(ctx)
	try.Must(t, err)
	try.Must(t, a.exec(ctx, secret, "SET sql_log_bin=OFF",
		"INSERT INTO app.numbers (id, v) VALUES (5, 1)", "UPDATE app.texts SET v = 'y' WHERE a = 'ä 1' AND b = 300",
		"DELETE FROM app.latin WHERE a = ''''",
		"UPDATE app.numbers SET at = '2002-01-01' WHERE id = 18000000000000000",
		"CREATE TABLE app.kept (id INT PRIMARY KEY) ENGINE=InnoDB", "ALTER TABLE app.days ADD COLUMN w INT"))
	try.Must(t, secret.Close())
	c := compared()
	slices.Sort(c.Differ)
	want := []string{
		"app.days: its columns or its key are not the same on both nodes",
		"app.kept: b has no such table",
		`app.latin: a "'": b alone has this row`,
		"app.numbers: id 18000000000000000: its values differ",
		"app.numbers: id 5: b lacks this row",
		`app.texts: a "ä 1", b 300.0000: its values differ`,
	}
	if !slices.Equal(c.Differ, want) {
		t.Errorf("differ:\n%s\nwant\n%s", strings.Join(c.Differ, "\n"), strings.Join(want, "\n"))
	}
	close(stop)
	try.Must(t, <-ended)
}

// TestAForeignKeyOfRows: what another node says is a key is written into a statement only if it is one.
func TestAForeignKeyOfRows(t *testing.T) {
	s := &shape{table: "t", key: []keyColumn{{"a", "", number}, {"b", "utf8mb4", octets}, {"c", "", moment}}}
	got, err := s.where([]string{"1", "C3A4", "2020-01-01"}, nil)
	if want := " WHERE (`a` >= 1 AND ((`a` > 1) OR (`a` = 1 AND `b` > _utf8mb4 x'C3A4') OR (`a` = 1 AND `b` = " +
		"_utf8mb4 x'C3A4' AND `c` > '2020-01-01')))"; err != nil || got != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	for _, key := range [][]string{{"1"}, {"1 OR 1", "", ""}, {"1", "x'", ""}, {"1", "C3A", "2020"},
		{"1", "", "2020' OR '1"}, {"", "", "2020"}, {"1\n", "", "2020"}} {
		if got, err := s.where(key, nil); err == nil {
			t.Errorf("%q: %s", key, got)
		}
	}
}

// TestAComparisonEndsWithItsContext: a standby that does not come on is waited for, until somebody ends that.
func TestAComparisonEndsWithItsContext(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	ctx, cancel := context.WithCancel(try.Context(t))
	a, b := pair(t)
	join(t, a, b)
	b.sql("STOP SLAVE SQL_THREAD")
	a.sql("INSERT INTO app.log VALUES (1, 'x')")
	asked := 0
	_, err := b.Compare(ctx, Peer{"b", "a", func(ctx context.Context, q cluster.RowsQuery) (cluster.RowsPart, error) {
		asked++
		defer cancel()
		return a.Rows(ctx, q)
	}})
	if err == nil || asked != 1 {
		t.Errorf("%v after %d questions", err, asked)
	}
}

// TestACommitThatWaitsIsNoDifference: the standby has a row already, while the commit on the primary waits to be told so.
func TestACommitThatWaitsIsNoDifference(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	ctx := try.Context(t)
	a, b := pair(t)
	join(t, a, b)
	a.sql("CREATE TABLE app.kept (id INT PRIMARY KEY, v INT) ENGINE=InnoDB", "INSERT INTO app.kept VALUES (1, 1), (2, 2)")
	b.sql("STOP SLAVE IO_THREAD", "SET GLOBAL rpl_semi_sync_slave_enabled=OFF", "START SLAVE IO_THREAD") // it tells nothing
	ended := make(chan error, 1)
	go func() {
		_, err := a.root.ExecContext(ctx, "UPDATE app.kept SET v = 7 WHERE id = 1")
		ended <- err
	}()
	value := func(n *node) string {
		r, err := n.row(ctx, n.root, "SELECT v FROM app.kept WHERE id = 1")
		try.Must(t, err)
		return r["v"]
	}
	try.Until(t, "the standby has the row", func() bool { return value(b) == "7" })
	c, err := b.Compare(ctx, Peer{"b", "a", a.Rows})
	if err != nil || len(c.Differ) > 0 {
		t.Errorf("%v, %v", c.Differ, err)
	}
	if got := value(a); got != "1" {
		t.Errorf("the commit did not wait: %s on the primary", got)
	}
	a.sql("SET GLOBAL rpl_semi_sync_master_enabled=OFF")
	try.Must(t, <-ended)
	if c, err = b.Compare(ctx, Peer{"b", "a", a.Rows}); err != nil || len(c.Differ) > 0 {
		t.Errorf("afterwards: %v, %v", c.Differ, err)
	}
}

// TestOurSessionsWrite also while somebody has all new sessions only read: they end that, and outlive it in the pool.
func TestOurSessionsWrite(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	a, _ := pair(t)
	a.sql("SET GLOBAL tx_read_only=ON")
	db, err := open(a.cfg.Admin, "unix", a.cfg.Socket)
	try.Must(t, err)
	defer db.Close()
	try.Must(t, a.exec(try.Context(t), db, "INSERT INTO app.log VALUES (1, 'x')"))
	a.sql("SET GLOBAL tx_read_only=OFF")
}

// TestFewAreTold: a database of which nothing can be compared does not fill the store.
func TestFewAreTold(t *testing.T) {
	all := make([]string, mostTold+7)
	if got := told(all); len(got) != mostTold+1 || got[mostTold] != "and 7 more" {
		t.Errorf("%d, %q", len(got), got[len(got)-1])
	}
	if got := told(all[:mostTold]); len(got) != mostTold {
		t.Errorf("%d", len(got))
	}
}
