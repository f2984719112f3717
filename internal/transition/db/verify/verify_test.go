package verify

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// kinds has a column of each type that the schemas of testdata have, and of others.
const kinds = `CREATE TABLE %s.kinds (
  id INT PRIMARY KEY, big BIGINT(20), tiny TINYINT(1), unsign BIGINT UNSIGNED, padded INT(8) ZEROFILL, num DECIMAL(10,0), money DECIMAL(20,6), f FLOAT, g DOUBLE,
  name VARCHAR(255), bin VARCHAR(255) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin, four VARCHAR(64) CHARACTER SET utf8mb4, swedish VARCHAR(64) CHARACTER SET latin1,
  huge VARCHAR(8191), fixed CHAR(8), t TEXT, m MEDIUMTEXT, l LONGTEXT CHARACTER SET utf8mb4, kind ENUM('owner','admin','it''s'), many SET('a','b','c'),
  at DATETIME, at6 DATETIME(6), stamp TIMESTAMP NULL, day DATE, clock TIME(3), yr YEAR, flag BIT(1), bits BIT(64), raw VARBINARY(64), fix BINARY(8), bl BLOB, lb LONGBLOB
) ENGINE=InnoDB CHARSET=utf8mb3;
`

// columns of kinds but for its key.
const columns = "big, tiny, unsign, padded, num, money, f, g, name, bin, four, swedish, huge, fixed, t, m, l, kind, " +
	"many, at, at6, stamp, day, clock, yr, flag, bits, raw, fix, bl, lb"

const kindsMapping = `
format: 1
name: kinds
tables:
- target: d.kinds
  from: d.kinds
  columns:
  - copy: [id, ` + columns + `]
`

// values are rows of kinds: usual ones, and the ends of what types hold.
const values = `USE %[1]s; SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO';
INSERT INTO %[1]s.kinds (id, ` + columns + `)
  SELECT seq, seq * 1000003, seq %% 2, 18446744073709551615 - seq, seq, -seq, seq / 7, seq / 3, -seq / 3, CONCAT('name ', seq), CONCAT('Name ', seq), CONCAT('four ', seq), 'åäö', REPEAT('x', seq),
    'fixed', CONCAT('text ', seq), 'medium', REPEAT('long ', seq), 'admin', 'a,c', '2015-10-15 12:00:00' + INTERVAL seq HOUR, '2015-10-15 12:00:00.000001' + INTERVAL seq HOUR,
    '2038-01-19 03:14:07' - INTERVAL seq HOUR, '1999-12-31', '-100:00:00.5', 2015, 1, seq, 'raw', 'fix', CONCAT('blob ', seq), REPEAT('b', seq) FROM seq_10_to_400;
INSERT INTO %[1]s.kinds (id) VALUES (0), (-5);
INSERT INTO %[1]s.kinds VALUES
  (1, -9223372036854775808, -128, 0, 0, 9999999999, 99999999999999.999999, 16777217, 0.1, '', '', '😀', 'ÿ', '', '', '', '', '', 'owner', '', '0000-00-00 00:00:00', '0000-00-00 00:00:00.000000',
   '0000-00-00 00:00:00', '0000-00-00', '838:59:59', 0, 0, 0, '', '', '', ''),
  (2, 9223372036854775807, 127, 1, 1, 0, 0.000001, 3.4e38, 1.7e308, 'a', 'a', '漢字', 'a', 'a', 'a', 'a', 'a', 'a', 'it''s', 'c', '9999-12-31 23:59:59', '9999-12-31 23:59:59.999999',
   '1970-01-01 00:00:01', '9999-12-31', '-838:59:59', 2155, 1, 18446744073709551615, X'00FF0A0D5C2709', X'0001', X'DEADBEEF00', X'00'),
  (3, 0, 0, 0, 0, 0, 0, 0.1, 0.1, 'it''s "quoted" \\ \n \t \0 \Z', ' a ', 'ß ſ ss', 'a ', REPEAT('漢', 8191), 'a  ', REPEAT('漢', 20000), REPEAT('m', 300000), REPEAT('😀', 100000), 'owner', 'a,b,c',
   '2010-00-00 00:00:00', NULL, NULL, '2010-05-00', NULL, NULL, NULL, NULL, REPEAT(X'00', 64), NULL, REPEAT(X'FF', 65535), REPEAT(X'01', 300000)),
  (4, 0, 0, 0, 0, 0, 0, 1.17549e-38, 5e-324, 'NULL', '\\N', 'a,b', '', '', '', '', '', '', 'owner', '', '1000-01-01', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', '', '', '');
`

// rig is a server with the kinds in database a_d, and an empty table in b_d.
func rig(t *testing.T, opt ...string) *aligntest.Rig {
	t.Helper()
	r := aligntest.MariaDB(t, opt...)
	for _, db := range []string{"a_d", "b_d"} {
		r.SQL("CREATE DATABASE " + db + ";" + fmt.Sprintf(kinds, db))
	}
	r.SQL(fmt.Sprintf(values, "a_d"))
	return r
}

// plan is the plan of a mapping whose database d is a_d in the source, b_d in the target.
func plan(t *testing.T, m *mapping.Mapping, source, target *server.Server, sets map[string]ids.Set) (*mapping.Plan, mapping.Side) {
	t.Helper()
	ctx := aligntest.Deadline(t)
	from, err := source.Side(ctx, map[string]string{"d": "a_d"})
	if err != nil {
		t.Fatal(err)
	}
	to, err := target.Side(ctx, map[string]string{"d": "b_d"})
	if err != nil {
		t.Fatal(err)
	}
	p := mapping.MakePlan(m, from, to, ids.Known(sets))
	if len(p.Errors) > 0 {
		t.Fatalf("%+v", p.Errors)
	}
	return &p, to
}

// copied carries a plan out on one server.
func copied(t *testing.T, s *server.Server, p *mapping.Plan) {
	t.Helper()
	for i := range p.Tables {
		if _, err := s.DB.ExecContext(aligntest.Deadline(t), p.Tables[i].Statement("")); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, m *mapping.Mapping, p *mapping.Plan, source, target *server.Server, to mapping.Side, opt Options) *Result {
	t.Helper()
	r, err := Run(aligntest.Deadline(t), m, p, source, target, to, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEachKindOfDifferenceIsFound changes one row of the target, and puts it back.
func TestEachKindOfDifferenceIsFound(t *testing.T) {
	r := rig(t)
	s := r.Server("source")
	m := aligntest.Mapping(t, kindsMapping)
	p, to := plan(t, m, s, s, nil)
	copied(t, s, p)
	opt := Options{ChunkRows: 50}
	if x := run(t, m, p, s, s, to, opt); !x.Equal || len(x.Tables) != 1 || x.Tables[0].SourceRows != 397 ||
		x.Tables[0].TargetRows != 397 || !x.Tables[0].ChecksumEqual {
		t.Fatalf("equal rows: %+v", x)
	}
	for _, c := range []struct {
		what, change, key, how string
	}{
		{"a bit of a number", "UPDATE k SET big = big ^ 1 WHERE id = 100", "100", Differs},
		{"a bit of a bit field", "UPDATE k SET bits = bits ^ 1 WHERE id = 100", "100", Differs},
		{"a bit of bytes", "UPDATE k SET raw = X'00FF0A0D5C2708' WHERE id = 2", "2", Differs},
		{"a bit of a long blob", "UPDATE k SET lb = CONCAT(REPEAT(X'01', 299999), X'00') WHERE id = 3", "3", Differs},
		{"a character of a long text", "UPDATE k SET l = CONCAT(REPEAT('😀', 99999), '😁') WHERE id = 3", "3", Differs},
		{"NULL for an empty text", "UPDATE k SET name = NULL WHERE id = 1", "1", Differs},
		{"an empty text for NULL", "UPDATE k SET name = '' WHERE id = 0", "0", Differs},
		{"an empty long text for NULL", "UPDATE k SET l = '' WHERE id = 0", "0", Differs},
		{"the text NULL for NULL", "UPDATE k SET name = 'NULL' WHERE id = 0", "0", Differs},
		{"a blank for an empty text", "UPDATE k SET name = ' ' WHERE id = 1", "1", Differs},
		{"case only", "UPDATE k SET name = 'A' WHERE id = 2", "2", Differs},
		{"case of a long text", "UPDATE k SET t = 'A' WHERE id = 2", "2", Differs},
		{"an accent", "UPDATE k SET name = 'á' WHERE id = 2", "2", Differs},
		{"a blank at the end", "UPDATE k SET name = 'a ' WHERE id = 2", "2", Differs},
		{"a blank at the end of a binary collation", "UPDATE k SET bin = 'a ' WHERE id = 2", "2", Differs},
		{"a character of four bytes", "UPDATE k SET four = '😁' WHERE id = 1", "1", Differs},
		{"a character of latin1", "UPDATE k SET swedish = 'y' WHERE id = 1", "1", Differs},
		{"values of two rows swapped", "UPDATE k SET name = IF(id = 1, 'a', '') WHERE id IN (1, 2)", "1", Differs},
		{"values of two columns swapped", "UPDATE k SET name = bin, bin = 'name 100' WHERE id = 100", "100", Differs},
		{"a row missing", "DELETE FROM k WHERE id = 100", "100", Missing},
		{"the first row missing", "DELETE FROM k WHERE id = -5", "-5", Missing},
		{"the last row missing", "DELETE FROM k WHERE id = 400", "400", Missing},
		{"an extra row within", "INSERT INTO k (id) VALUES (7)", "7", Extra},
		{"an extra row before", "INSERT INTO k (id) VALUES (-2147483648)", "-2147483648", Extra},
		{"an extra row after", "INSERT INTO k (id) VALUES (2147483647)", "2147483647", Extra},
		{"a row with another key", "UPDATE k SET id = 5 WHERE id = 4", "4", Missing},
		{"NULL for a zero date", "UPDATE k SET at = NULL WHERE id = 1", "1", Differs},
		{"a zero date for NULL", "UPDATE k SET at = '0000-00-00 00:00:00' WHERE id = 0", "0", Differs},
		{"a part of a date", "UPDATE k SET day = '2010-06-00' WHERE id = 3", "3", Differs},
		{"a second", "UPDATE k SET at = at + INTERVAL 1 SECOND WHERE id = 100", "100", Differs},
		{"a microsecond", "UPDATE k SET at6 = at6 + INTERVAL 1 MICROSECOND WHERE id = 100", "100", Differs},
		{"a timestamp's hour", "UPDATE k SET stamp = stamp - INTERVAL 1 HOUR WHERE id = 100", "100", Differs},
		{"a millisecond", "UPDATE k SET clock = '-100:00:00.501' WHERE id = 100", "100", Differs},
		{"a year", "UPDATE k SET yr = 2016 WHERE id = 100", "100", Differs},
		{"a float", "UPDATE k SET f = 0.10000001 WHERE id = 3", "3", Differs},
		{"a float of many digits", "UPDATE k SET f = 16777218 WHERE id = 1", "1", Differs},
		{"a double", "UPDATE k SET g = 0.10000000000000002 WHERE id = 3", "3", Differs},
		{"a tiny double", "UPDATE k SET g = 0 WHERE id = 4", "4", Differs},
		{"a sign", "UPDATE k SET num = -num WHERE id = 100", "100", Differs},
		{"a digit after the point", "UPDATE k SET money = money + 0.000001 WHERE id = 100", "100", Differs},
		{"the largest number", "UPDATE k SET unsign = unsign + 1 WHERE id = 100", "100", Differs},
		{"a flag", "UPDATE k SET tiny = 1 - tiny WHERE id = 100", "100", Differs},
		{"a bit", "UPDATE k SET flag = 0 WHERE id = 100", "100", Differs},
		{"a word", "UPDATE k SET kind = 'owner' WHERE id = 100", "100", Differs},
		{"words", "UPDATE k SET many = 'a,b' WHERE id = 100", "100", Differs},
		{"a byte at the end", "UPDATE k SET raw = CONCAT(raw, X'00') WHERE id = 100", "100", Differs},
		{"a byte of fixed length", "UPDATE k SET fix = X'0002' WHERE id = 2", "2", Differs},
		{"a blank before a fixed text", "UPDATE k SET fixed = ' a' WHERE id = 2", "2", Differs},
	} {
		r.SQL("USE b_d; CREATE OR REPLACE TABLE saved LIKE kinds; INSERT INTO saved SELECT * FROM kinds; SET " +
			"time_zone = '+00:00';" + strings.ReplaceAll(c.change, " k ", " kinds "))
		x := run(t, m, p, s, s, to, opt)
		tab := x.Tables[0]
		if x.Equal || tab.ChecksumEqual || !slices.ContainsFunc(tab.Differences,
			func(d Difference) bool { return d.Key[0] == c.key && d.What == c.how }) || len(tab.Differences) > 2 {
			t.Errorf("%s: %+v, want %s %s", c.what, x, c.key, c.how)
		}
		r.SQL("USE b_d; SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'; DELETE FROM kinds; INSERT INTO kinds SELECT * FROM saved")
	}
	if x := run(t, m, p, s, s, to, opt); !x.Equal {
		t.Errorf("put back: %+v", x)
	}
}

// TestTypesThatBecomeOthers: values are compared as the target stores them.
func TestTypesThatBecomeOthers(t *testing.T) {
	need.More(t)
	r := rig(t)
	r.SQL(`USE a_d; CREATE TABLE old (id INT PRIMARY KEY, i INT, u INT UNSIGNED, f FLOAT, num DECIMAL(8,2), d DATE, at DATETIME, stamp TIMESTAMP NULL, c VARCHAR(36), l VARCHAR(9) CHARACTER SET latin1, b VARBINARY(4), j TEXT, k INT);
SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES';
INSERT INTO old VALUES (1, -7, 7, 0.1, 0.50, '2015-01-02', '2015-01-02 03:04:05', '2015-01-02 03:04:05', 'a ', 'ä', X'01', '{"a": 1}', 3), (2, NULL, 4294967295, 16777216, -1, '0000-00-00', '0000-00-00', NULL, '', '', '', '', 0);
USE b_d; CREATE TABLE new (id BIGINT PRIMARY KEY, i DECIMAL(12,2), u BIGINT, f DOUBLE, num DECIMAL(12,4), d DATETIME, at DATETIME(6), stamp DATETIME(3), c CHAR(36), l VARCHAR(9) CHARACTER SET utf8mb4, b BINARY(8), j LONGTEXT,
  t VARCHAR(20), half INT, digits INT, single FLOAT, flag TINYINT(1), when_ DATETIME, ready TINYINT(1))`)
	s := r.Server("source")
	m := aligntest.Mapping(t, `
format: 1
name: others
tables:
- target: d.new
  from: d.old
  columns:
  - copy: [id, i, u, f, num, d, at, stamp, c, l, b, j]
  - {to: t, value: i}
  - {to: half, value: "k / 2"}
  - {to: digits, value: "concat('00', k)"}
  - {to: single, value: "k * 0.1"}
  - {to: flag, value: "k <> 0"}
  - {to: when_, value: "'2020-01-01'"}
  - {to: ready, value: "true"}
`)
	p, to := plan(t, m, s, s, nil)
	copied(t, s, p)
	if x := run(t, m, p, s, s, to, Options{}); !x.Equal || x.Tables[0].SourceRows != 2 {
		t.Errorf("%+v", x)
	}
	for _, c := range []string{"single = 0.3000001", "half = 1", "digits = 4", "when_ = '2020-01-01 00:00:01'",
		"b = X'0100000000000001'", "num = 0.5001", "f = 0.1", "at = at + INTERVAL 1 MICROSECOND"} {
		r.SQL("USE b_d; CREATE OR REPLACE TABLE saved AS SELECT * FROM new; UPDATE new SET " + c + " WHERE id = 1")
		if x := run(t, m, p, s, s, to, Options{}); x.Equal || fmt.Sprint(x.Tables[0].Differences) != "[{[1] differs}]" {
			t.Errorf("%s: %+v", c, x)
		}
		r.SQL("USE b_d; REPLACE INTO new SELECT * FROM saved")
	}
}

// TestServersOfOtherSettings: defaults of the server must not show in checksums.
func TestServersOfOtherSettings(t *testing.T) {
	need.More(t)
	r := rig(t, "--character-set-server=latin1", "--collation-server=latin1_swedish_ci", "--default-time-zone=+08:00",
		"--sql-mode=ANSI_QUOTES,PIPES_AS_CONCAT,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES", "--log-bin",
		"--server-id=7", "--binlog-format=ROW")
	other := aligntest.MariaDB(t, "--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci",
		"--default-time-zone=-05:00", "--sql-mode=TRADITIONAL,NO_ZERO_DATE,NO_ZERO_IN_DATE", "--div-precision-increment=9")
	other.SQL("CREATE DATABASE b_d;" + fmt.Sprintf(kinds, "b_d"))
	s, d := r.Server("source"), other.Server("target")
	m := aligntest.Mapping(t, kindsMapping)
	// mariadb-dump writes six digits of a float.
	r.SQL("UPDATE a_d.kinds SET f = 0.5")
	p, to := plan(t, m, s, d, nil)
	dump(t, r, "a_d", other, "b_d")
	if x := run(t, m, p, s, d, to, Options{ChunkRows: 30}); !x.Equal || x.Tables[0].TargetRows != 397 {
		t.Errorf("%+v", x)
	}
	other.SQL("UPDATE b_d.kinds SET stamp = '2000-01-01' WHERE id = 3")
	if x := run(t, m, p, s, d, to, Options{ChunkRows: 30}); x.Equal || fmt.Sprint(x.Tables[0].Differences) != "[{[3] differs}]" {
		t.Errorf("%+v", x)
	}
}

// dump copies a database's rows from one server to another.
func dump(t *testing.T, from *aligntest.Rig, db string, to *aligntest.Rig, into string) {
	t.Helper()
	if _, err := exec.LookPath("mariadb-dump"); err != nil {
		t.Skipf("mariadb-dump is not installed: %v", err)
	}
	file := filepath.Join(t.TempDir(), "dump.sql")
	c := exec.CommandContext(aligntest.Deadline(t), "mariadb-dump", "--no-defaults", "--socket="+from.Socket(),
		"--user=root", "--hex-blob", "--no-create-info", "--skip-triggers", "--tz-utc",
		"--default-character-set=utf8mb4", "--result-file="+file, db, "kinds")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	to.SQL("USE " + into + ";" + string(text))
}

func TestResultAsJSON(t *testing.T) {
	v := &verifier{}
	for _, c := range []struct {
		tables []*table
		checks []*check
		want   string
	}{
		{nil, nil, `{"tables":[],"checks":[],"equal":true}`},
		{[]*table{{out: TableResult{Target: "d.t", SourceRows: 1, TargetRows: 1}}}, []*check{{out: CheckResult{Name: "c", Broken: 2}}},
			`{"tables":[{"target":"d.t","source_rows":1,"target_rows":1,"checksum_equal":true}],"checks":[{"name":"c","broken":2,"holds":false}],"equal":false}`},
		{[]*table{{out: TableResult{Target: "d.t", SourceRows: 1, Differences: []Difference{{[]string{"5"}, Missing}}},
			differ: []chunk{{}}}}, []*check{{out: CheckResult{Name: "c", Holds: true}}},
			`{"tables":[{"target":"d.t","source_rows":1,"target_rows":0,"checksum_equal":false,"ranges_differ":1,"differences":[{"key":["5"],"what":"missing in the target"}]}],"checks":[{"name":"c","broken":0,"holds":true}],"equal":false}`},
	} {
		v.tables = c.tables
		got, err := json.Marshal(v.result(c.checks))
		if err != nil || string(got) != c.want {
			t.Errorf("%s, %v, want\n%s", got, err, c.want)
		}
	}
}
