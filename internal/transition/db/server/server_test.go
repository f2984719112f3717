package server_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// numbersOf counts what a schema file has, line by line.
func numbersOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile("../mapping/testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	n := func(re string) int { return len(regexp.MustCompile("(?m)"+re).FindAll(text, -1)) }
	return fmt.Sprintf("%d tables, %d columns, %d not null, %d auto, %d keys, %d unique, %d refs",
		n("^CREATE TABLE "), n("^  `"), n("^  `.* NOT NULL"), n("^  `.*AUTO_INCREMENT"), n("^  PRIMARY KEY"),
		n("^  UNIQUE KEY"), n("^  CONSTRAINT .* FOREIGN KEY"))
}

// numbers counts what was read of a server.
func numbers(s mapping.Side) string {
	var columns, notNull, auto, keys, unique, refs int
	for _, t := range s.Tables {
		columns, unique, refs = columns+len(t.Columns), unique+len(t.Unique), refs+len(t.Refs)
		if len(t.Key) > 0 {
			keys++
		}
		for _, c := range t.Columns {
			if !c.Nullable {
				notNull++
			}
			if c.Auto {
				auto++
			}
		}
	}
	return fmt.Sprintf("%d tables, %d columns, %d not null, %d auto, %d keys, %d unique, %d refs", len(s.Tables),
		columns, notNull, auto, keys, unique, refs)
}

func databases(prefix string, names ...string) map[string]string {
	out := map[string]string{}
	for _, n := range names {
		out[n] = prefix + n
	}
	return out
}

// text of a column, for comparison.
func text(c column.Column) string {
	out := c.Name + " " + c.Type.Text
	if c.Nullable {
		out += " null"
	}
	if c.Default != nil {
		out += fmt.Sprintf(" default %q", *c.Default)
	}
	if c.Auto {
		out += " auto"
	}
	if c.Generated {
		out += " generated"
	}
	return strings.TrimRight(out+" "+c.Charset+" "+c.Collation, " ")
}

func col(t *testing.T, s mapping.Side, table, name string) string {
	t.Helper()
	if x := s.Tables[table]; x != nil {
		for _, c := range x.Columns {
			if c.Name == name {
				return text(c)
			}
		}
	}
	return "none"
}

// TestSideOfRealSchemas: what is read of a server is what its schema files say.
func TestSideOfRealSchemas(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL("CREATE USER reader@'%' IDENTIFIED BY 'r'; GRANT SELECT ON *.* TO reader@'%'")
	s := r.Server("source")
	read := map[string]mapping.Side{}
	for file, names := range map[string][]string{
		"liberty": {"nova", "nova_api", "glance", "cinder", "neutron"},
		"stein":   {"nova", "nova_cell0", "nova_api", "glance", "cinder", "neutron"},
		"zed":     {"nova", "nova_cell0", "nova_api", "glance", "cinder", "neutron", "keystone", "placement"},
	} {
		r.Load(file+"-schema.sql", file+"_", file+"_")
		there := strings.Fields(r.SQL("SHOW DATABASES LIKE '" + file + "\\_%'"))
		names = slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(there, file+"_"+n) })
		if len(names) != len(there) {
			t.Fatalf("%s: databases %v: want %v", file, there, names)
		}
		side, err := s.Side(t.Context(), databases(file+"_", names...))
		if err != nil {
			t.Fatal(err)
		}
		read[file] = side
		want := numbersOf(t, file+"-schema.sql")
		if got := numbers(side); got != want {
			t.Errorf("%s:\n got %s\nwant %s", file, got, want)
		}
		for name, x := range side.Tables {
			if x.Engine != "InnoDB" {
				t.Errorf("%s: engine %q", name, x.Engine)
			}
		}
		// A user that may only read sees the same.
		few, err := server.Open(t.Context(), "source", fmt.Sprintf("reader:r@tcp(127.0.0.1:%d)/", r.Port()), server.Options{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := few.Side(t.Context(), side.Databases)
		if err != nil || numbers(again) != numbers(side) {
			t.Errorf("%s: a reader sees %s, %v", file, numbers(again), err)
		}
		if err := few.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct{ file, table, column, want string }{
		{"liberty", "nova.instances", "id", "id int(11) auto"},
		{"liberty", "nova.instances", "scheduled_at", "scheduled_at datetime null"},
		{"liberty", "nova.instances", "uuid", "uuid varchar(36) utf8mb3 utf8mb3_general_ci"},
		{"liberty", "nova.instances", "user_data", "user_data mediumtext null utf8mb3 utf8mb3_general_ci"},
		{"liberty", "nova.instances", "locked_by", "locked_by enum('owner','admin') null utf8mb3 utf8mb3_general_ci"},
		{"liberty", "nova.key_pairs", "type", `type enum('ssh','x509') default "ssh" utf8mb3 utf8mb3_general_ci`},
		{"liberty", "nova.instance_type_extra_specs", "key", "key varchar(255) null utf8mb3 utf8mb3_bin"},
		{"liberty", "neutron.ml2_port_bindings", "host", `host varchar(255) default "" utf8mb3 utf8mb3_general_ci`},
		{"zed", "nova_api.flavor_extra_specs", "key", "key varchar(255) utf8mb3 utf8mb3_general_ci"},
		{"zed", "nova.instances", "hidden", "hidden tinyint(1) null"},
		{"stein", "nova.instances", "hidden", "none"},
	} {
		if got := col(t, read[c.file], c.table, c.column); got != c.want {
			t.Errorf("%s %s.%s:\n got %s\nwant %s", c.file, c.table, c.column, got, c.want)
		}
	}
	if x := read["zed"].Tables["nova_api.flavor_extra_specs"]; fmt.Sprint(x.Key, x.Unique, x.Refs) !=
		"[id] [{uniq_flavor_extra_specs0flavor_id0key [flavor_id key] []}] [{flavor_extra_specs_ibfk_1 [flavor_id] nova_api.flavors [id]}]" {
		t.Errorf("keys %v %v %v", x.Key, x.Unique, x.Refs)
	}
	if x := read["zed"].Tables["nova.block_device_mapping"]; fmt.Sprint(x.Unique, x.Refs) !=
		"[{uniq_block_device_mapping0uuid [uuid] []}] [{block_device_mapping_instance_uuid_fkey [instance_uuid] nova.instances [uuid]}]" {
		t.Errorf("keys %v %v", x.Unique, x.Refs)
	}
}

const oddities = `
CREATE DATABASE a_odd CHARACTER SET utf8mb4; CREATE DATABASE b_odd; CREATE DATABASE A_ODD; CREATE DATABASE c_odd;
USE a_odd;
CREATE TABLE parent (x INT, y INT, z VARCHAR(10), PRIMARY KEY (y, x)) ENGINE=InnoDB;
CREATE TABLE c_odd.far (x INT PRIMARY KEY) ENGINE=InnoDB;
CREATE TABLE b_odd.near (x INT PRIMARY KEY) ENGINE=InnoDB;
CREATE TABLE odd (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  a INT DEFAULT NULL, b INT DEFAULT 7, c VARCHAR(20) DEFAULT 'it''s', d VARCHAR(20) DEFAULT 'NULL', e VARCHAR(20) DEFAULT '',
  f TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  g INT AS (a + b) VIRTUAL, h INT AS (a + b) PERSISTENT,
  i TEXT CHARACTER SET latin1, j VARCHAR(10) COLLATE utf8mb4_bin UNIQUE, k BLOB, l JSON, m BIT(9), n DATETIME(6), o DECIMAL(10,2) DEFAULT (1.5 + 1),
  py INT, px INT, fx INT, nx INT,
  PRIMARY KEY (id), UNIQUE KEY part (i(10), a), UNIQUE KEY two (b, a), KEY plain (a),
  CONSTRAINT fp FOREIGN KEY (py, px) REFERENCES parent (y, x), CONSTRAINT ff FOREIGN KEY (fx) REFERENCES c_odd.far (x), CONSTRAINT fn FOREIGN KEY (nx) REFERENCES b_odd.near (x)
) ENGINE=InnoDB;
CREATE TABLE prefix (t TEXT, PRIMARY KEY (t(20))) ENGINE=InnoDB;
CREATE TABLE old (x INT CHECK (x > 1), CONSTRAINT positive CHECK (x <> 'a')) ENGINE=MyISAM;
CREATE TRIGGER tb BEFORE INSERT ON odd FOR EACH ROW SET NEW.a = 1;
CREATE TRIGGER ta AFTER DELETE ON odd FOR EACH ROW SET @x = 1;
CREATE TABLE history (x INT PRIMARY KEY) ENGINE=InnoDB WITH SYSTEM VERSIONING;
CREATE VIEW seen AS SELECT * FROM odd;
CREATE SEQUENCE counted;
CREATE TABLE A_ODD.other (x INT PRIMARY KEY) ENGINE=InnoDB;
`

// TestSideOfOddTables: keys of parts of columns, views, other databases, defaults.
func TestSideOfOddTables(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL(oddities)
	s := r.Server("target")
	side, err := s.Side(t.Context(), map[string]string{"a": "a_odd", "b_odd": ""})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for n := range side.Tables {
		names = append(names, n)
	}
	if slices.Sort(names); strings.Join(names, " ") != "a.history a.odd a.old a.parent a.prefix b_odd.near" {
		t.Errorf("tables %v", names)
	}
	if fmt.Sprint(side.Databases) != "map[a:a_odd b_odd:b_odd]" {
		t.Errorf("databases %v", side.Databases)
	}
	odd := side.Tables["a.odd"]
	var got []string
	for _, c := range odd.Columns {
		got = append(got, text(c))
	}
	want := []string{
		"id bigint(20) unsigned auto", "a int(11) null", `b int(11) null default "7"`,
		`c varchar(20) null default "it's" utf8mb4 utf8mb4_general_ci`,
		`d varchar(20) null default "NULL" utf8mb4 utf8mb4_general_ci`, `e varchar(20) null default "" utf8mb4 utf8mb4_general_ci`,
		`f timestamp default "current_timestamp()"`, "g int(11) null generated", "h int(11) null generated",
		"i text null latin1 latin1_swedish_ci",
		"j varchar(10) null utf8mb4 utf8mb4_bin", "k blob null", "l longtext null utf8mb4 utf8mb4_bin", "m bit(9) null",
		"n datetime(6) null", `o decimal(10,2) null default "1.5 + 1"`,
		"py int(11) null", "px int(11) null", "fx int(11) null", "nx int(11) null",
	}
	for i := range want {
		want[i] = strings.TrimRight(want[i], " ")
		if i >= len(got) || strings.ReplaceAll(got[i], "(1.5 + 1)", "1.5 + 1") != want[i] {
			t.Errorf("column %d:\n got %s\nwant %s", i, got[min(i, len(got)-1)], want[i])
		}
	}
	if fmt.Sprint(odd.Key, odd.Unique) != "[id] [{j [j] []} {part [i a] [10 0]} {two [b a] []}]" {
		t.Errorf("keys %v %v", odd.Key, odd.Unique)
	}
	if fmt.Sprint(odd.Refs) != "[{fn [nx] b_odd.near [x]} {fp [py px] a.parent [y x]}]" {
		t.Errorf("foreign keys %v", odd.Refs)
	}
	if x := side.Tables["a.prefix"]; x.Key != nil || fmt.Sprint(x.Unique) != "[{PRIMARY [t] [20]}]" {
		t.Errorf("a primary key of a part of a column: %v, %v", x.Key, x.Unique)
	}
	if fmt.Sprint(odd.Triggers) != "[{ta AFTER DELETE} {tb BEFORE INSERT}]" {
		t.Errorf("triggers %v", odd.Triggers)
	}
	if got := fmt.Sprint(odd.Rules, side.Tables["a.old"].Rules,
		side.Tables["a.parent"].Rules); got != "[{l json_valid(`l`)}] [{positive `x` <> 'a'} {x `x` > 1}] []" {
		t.Errorf("CHECK constraints %s", got)
	}
	if got := side.Tables["a.parent"].Key; fmt.Sprint(got) != "[y x]" {
		t.Errorf("key %v", got)
	}
	if e := side.Tables["a.old"].Engine; e != "MyISAM" {
		t.Errorf("engine %q", e)
	}
	// Names that differ in capitals are other databases here.
	side, err = s.Side(t.Context(), map[string]string{"a": "A_ODD"})
	if err != nil || len(side.Tables) != 1 || side.Tables["a.other"] == nil {
		t.Errorf("%v, %v", side, err)
	}
	_, err = s.Side(t.Context(), map[string]string{"a": "a_odd", "b": "B_odd"})
	if err == nil || err.Error() != "target: there is no database B_odd (b in the mapping), or holdfast has no right "+
		"to it: want its name, by --target-db b=NAME" {
		t.Errorf("error %v", err)
	}
}

// TestSideWhereNamesFold: a server that does not tell names in capitals apart.
func TestSideWhereNamesFold(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--lower-case-table-names=1")
	r.SQL("CREATE DATABASE Nova; CREATE TABLE Nova.P (x INT PRIMARY KEY) ENGINE=InnoDB; CREATE TABLE Nova.C (x INT " +
		"PRIMARY KEY, FOREIGN KEY (x) REFERENCES NOVA.P (x)) ENGINE=InnoDB")
	side, err := r.Server("source").Side(t.Context(), map[string]string{"nova": "NOVA"})
	if err != nil || side.Databases["nova"] != "nova" || len(side.Tables) != 2 {
		t.Fatalf("%v, %v", side, err)
	}
	if refs := side.Tables["nova.c"].Refs; len(refs) != 1 || refs[0].Table != "nova.p" {
		t.Errorf("foreign keys %v", refs)
	}
}

// TestSession: each connection of the pool has the settings, also a new one after others
// have died.
func TestSession(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t, "--max-statement-time=1", "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "--character-set-server=latin1",
		"--skip-character-set-client-handshake", "--default-time-zone=+05:00", "--transaction-isolation=SERIALIZABLE", "--wait-timeout=20")
	s := r.Server("source")
	if s.Vendor != server.MariaDB || s.Version[0] < 10 || s.Role != "source" || s.Config.Passwd != aligntest.Password {
		t.Errorf("server %s %v", s.Vendor, s.Version)
	}
	const ask = "SELECT CONCAT_WS(' ', @@sql_mode, @@time_zone, @@tx_isolation, @@character_set_client, " +
		"@@character_set_results, @@collation_connection, @@max_statement_time, @@wait_timeout)"
	const want = "NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES +00:00 READ-COMMITTED utf8mb4 utf8mb4 utf8mb4_general_ci 0.000000 28800"
	var held []*sql.Conn
	for i := range 4 {
		c, err := s.DB.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		var got string
		if err := c.QueryRowContext(t.Context(), ask).Scan(&got); err != nil || got != want {
			t.Errorf("connection %d: %v\n got %s\nwant %s", i, err, got, want)
		}
	}
	for _, c := range held {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	r.Kill()
	r.Start()
	var got string
	if err := s.DB.QueryRowContext(t.Context(), ask).Scan(&got); err != nil || got != want {
		t.Errorf("after a crash: %v\n got %s\nwant %s", err, got, want)
	}
}

func TestOpen(t *testing.T) {
	r := aligntest.MariaDB(t)
	r.SQL("CREATE USER typed@'%' IDENTIFIED BY 'typed'")
	prompt := ""
	ask := server.Options{Password: func(p string) (string, error) { prompt = p; return "typed", nil }}
	for _, dsn := range []string{
		fmt.Sprintf("%s:%s@unix(%s)/", aligntest.User, aligntest.Password, r.Socket()),
		fmt.Sprintf("mysql://%s:%s@127.0.0.1:%d/?timeout=5s&compress=true", aligntest.User, hex(aligntest.Password), r.Port()),
		fmt.Sprintf("typed@tcp(127.0.0.1:%d)/", r.Port()),
	} {
		s, err := server.Open(t.Context(), "source", dsn, ask)
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
			continue
		}
		var user string
		if err := s.DB.QueryRowContext(t.Context(), "SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)").Scan(&user); err != nil ||
			user != s.Config.User {
			t.Errorf("%s: user %q, %v", dsn, user, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if want := fmt.Sprintf("password of typed at 127.0.0.1:%d (source): ", r.Port()); prompt != want {
		t.Errorf("prompt %q: want %q", prompt, want)
	}
	for _, c := range []struct{ dsn, want string }{
		{fmt.Sprintf("%s:hunter2@tcp(127.0.0.1:%d)/", aligntest.User, r.Port()), "want another user or password"},
		{fmt.Sprintf("%s:hunter2@unix(%s.not)/", aligntest.User, r.Socket()), "no such file"},
		{fmt.Sprintf("%s:hunter2@tcp(127.0.0.1:%d)/?tls=true", aligntest.User, r.Port()), "TLS requested but server does not support TLS"},
	} {
		_, err := server.Open(t.Context(), "target", c.dsn, server.Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "target at ") ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v: want %q", c.dsn, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := server.Open(ctx, "source", r.DSN(), server.Options{}); err == nil {
		t.Error("opened after the end")
	}
}

func hex(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

func TestSameAndPosition(t *testing.T) {
	need.More(t)
	a, b := aligntest.MariaDB(t, "--log-bin", "--binlog-format=ROW", "--server-id=1"), aligntest.MariaDB(t)
	one, other := a.Server("source"), b.Server("target")
	socket, err := server.Open(t.Context(), "target", fmt.Sprintf("%s:%s@unix(%s)/", aligntest.User, aligntest.Password,
		a.Socket()), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, c := range []struct {
		a, b *server.Server
		want bool
	}{{one, one, true}, {one, socket, true}, {socket, one, true}, {one, other, false}, {other, one, false}} {
		if got, err := server.Same(t.Context(), c.a, c.b); err != nil || got != c.want {
			t.Errorf("%s and %s: %v, %v", c.a.Config.Addr, c.b.Config.Addr, got, err)
		}
	}
	file, pos, ok, err := one.Position(t.Context())
	if err != nil || !ok || file == "" || pos == 0 {
		t.Errorf("position %s %d %v %v", file, pos, ok, err)
	}
	a.SQL("CREATE DATABASE x")
	if f, p, ok, err := one.Position(t.Context()); err != nil || !ok || f != file || p <= pos {
		t.Errorf("position %s %d %v %v after %s %d", f, p, ok, err, file, pos)
	}
	if f, p, ok, err := other.Position(t.Context()); err != nil || ok || f != "" || p != 0 {
		t.Errorf("no binary log: %s %d %v %v", f, p, ok, err)
	}
	a.SQL("CREATE USER small@'%' IDENTIFIED BY 's'")
	small, err := server.Open(t.Context(), "source", fmt.Sprintf("small:s@tcp(127.0.0.1:%d)/", a.Port()), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	if _, _, ok, err := small.Position(t.Context()); err != nil || ok {
		t.Errorf("no right to ask: %v %v", ok, err)
	}
	b.Kill()
	if _, err := server.Same(t.Context(), one, other); err == nil || !strings.HasPrefix(err.Error(), "target: ") {
		t.Errorf("the other is dead: %v", err)
	}
	if _, _, _, err := other.Position(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "target: ") {
		t.Errorf("dead: %v", err)
	}
	// The lock is not left behind.
	if got := a.SQL("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE '%lock%'"); got != "0" {
		t.Errorf("%s connections wait", got)
	}
}

// TestLiteral: each value that a server gives as text is the same value when it is
// written into a statement: as a key to compare with, and as a value to store.
func TestLiteral(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	s := r.Server("source")
	for _, c := range []struct{ typ, value string }{
		{"INT", "-7"}, {"BIGINT UNSIGNED", "18446744073709551615"},
		{"DECIMAL(30,10)", "-12345678901234567890.0123456789"}, {"DOUBLE", "1.5e300"}, {"DOUBLE", "-2.25"},
		{"YEAR", "1999"}, {"BIT(1)", "1"}, {"BIT(64)", "18446744073709551615"}, {"BIT(9)", "257"},
		{"VARCHAR(50)", "'it''s'"}, {"VARCHAR(50)", `'a\\b'`}, {"VARCHAR(50)", "''"},
		{"VARCHAR(50) CHARACTER SET utf8mb4", "_utf8mb4 X'F09F9880C3BC'"},
		{"VARCHAR(50) CHARACTER SET latin1", "'\u00fc'"}, {"TEXT", "REPEAT('x', 50000)"}, {"VARCHAR(9)", "X'00410A1A'"},
		{"VARBINARY(50)", "X'00FF27'"}, {"BLOB", "''"}, {"BLOB", "X'F09F'"}, {"DATETIME", "'0000-00-00 00:00:00'"},
		{"DATETIME(6)", "'2015-10-15 01:02:03.000004'"},
		{"DATE", "'2015-10-15'"}, {"TIME(3)", "'-838:59:58.999'"}, {"TIMESTAMP NULL", "'2015-10-15 01:02:03'"},
		{"ENUM('a','it''s')", "'it''s'"}, {"SET('a','b')", "'a,b'"},
		{"JSON", `'{"a": "\\u00fc\\\\"}'`}, {"INET6", "'::1'"}, {"INT", "NULL"}, {"BLOB", "NULL"},
	} {
		typ, err := column.Parse(strings.ToLower(r.SQL("CREATE OR REPLACE DATABASE x CHARACTER SET utf8mb4; CREATE " +
			"TABLE x.y (v " + c.typ + "); INSERT INTO x.y VALUES (" + c.value + ");" +
			"SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'x'")))
		if err != nil {
			t.Fatal(err)
		}
		var v []byte
		if err := s.DB.QueryRowContext(t.Context(), "SELECT v FROM x.y").Scan(&v); err != nil {
			t.Fatal(err)
		}
		l := server.Literal(v, typ.Kind)
		if _, err := s.DB.ExecContext(t.Context(), "CREATE TABLE x.z LIKE x.y"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.DB.ExecContext(t.Context(), "INSERT INTO x.z VALUES ("+l+")"); err != nil {
			t.Errorf("%s %s: %.80s: %v", c.typ, c.value, l, err)
			continue
		}
		var n int
		err = s.DB.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM x.y JOIN x.z ON HEX(y.v) <=> HEX(z.v) WHERE y.v <=> "+l).Scan(&n)
		if err != nil || n != 1 {
			t.Errorf("%s %s: %.80s: %d, %v", c.typ, c.value, l, n, err)
		}
	}
	if got := server.Literal([]byte("1 OR 1"), column.Integer); got != "'1 OR 1'" {
		t.Errorf("what is no number: %s", got)
	}
}

func TestDatabases(t *testing.T) {
	m, err := mapping.ParseMapping("m.yaml", []byte(`
format: 1
name: x
ids: [{kind: cell, query: "SELECT '1', id FROM {nova_api}.cell_mappings"}, {kind: user}]
tables:
- target: nova.instances
  from: nova.instances
  join: [{as: a, table: glance.images, match: a.id = s.id}]
  find: [{as: b, table: cinder.volumes, match: b.id = s.id}]
  columns: [{copy: [id]}]
checks: [{name: c, rows: "SELECT 1 FROM {keystone}.project, {nova}.x WHERE y = '{NOT}'"}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if source, target := server.Databases(m); fmt.Sprint(source, target) != "[cinder glance nova] [keystone nova nova_api]" {
		t.Errorf("databases %v %v", source, target)
	}
}
