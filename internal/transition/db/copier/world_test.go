package copier

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/try"
)

const mappingText = `
format: 1
name: of tests
ids: [{kind: project}]
tables:
- target: new.items
  from: old.items
  where: num % 10 <> 7
  join:
  - {as: p, table: old.parents, match: p.id = s.parent_id}
  columns:
  - copy: [grp, num, parent_id, data]
  - {to: parent_name, value: p.name}
  - {to: project_id, value: project_id, map: project}
- target: new.parents
  from: old.parents
  columns:
  - copy: [id, above, name]
- target: new.names
  from: old.names
  columns:
  - copy: [name, nr]
- target: new.wide
  from: old.wide
  columns:
  - copy: [id, f, d, dd, nr, b, bi, vb, bl, c, v, t, l1, dt, dt6, da, ti, ye, en, se, ts, js]
- target: new.bins
  from: old.bins
  columns:
  - copy: [at, k, l1]
- target: new.nothing
  from: old.nothing
  columns:
  - copy: [id]
`

// wide has a column of each type.
const wide = `CREATE TABLE wide (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, f FLOAT, d DOUBLE, dd DECIMAL(20,6), nr BIGINT UNSIGNED, b BIT(9), bi BINARY(5), vb VARBINARY(300), bl LONGBLOB,
 c CHAR(20), v VARCHAR(200), t LONGTEXT, l1 VARCHAR(60) CHARACTER SET latin1, dt DATETIME, dt6 DATETIME(6), da DATE, ti TIME(3), ye YEAR, en ENUM('a','b''c','ä\\'), se SET('x','y','z'), ts TIMESTAMP NULL, js JSON)
 DEFAULT CHARSET=utf8mb4;`

const oldSchema = `CREATE DATABASE old CHARACTER SET utf8mb3; USE old; SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00';
CREATE TABLE parents (id INT NOT NULL PRIMARY KEY, above INT NULL, name VARCHAR(80) CHARACTER SET utf8mb3);
CREATE TABLE items (grp VARCHAR(40) COLLATE utf8mb3_general_ci NOT NULL, num INT NOT NULL, parent_id INT NOT NULL, project_id VARCHAR(64), data TEXT, PRIMARY KEY (grp, num));
CREATE TABLE names (name VARCHAR(60) COLLATE utf8mb3_unicode_ci NOT NULL PRIMARY KEY, nr INT);
CREATE TABLE bins (at DATETIME, k VARBINARY(20), l1 CHAR(30) CHARACTER SET latin1, PRIMARY KEY (at, k, l1));
CREATE TABLE nothing (id INT PRIMARY KEY);
` + wide

const newSchema = `CREATE DATABASE new CHARACTER SET utf8mb4; USE new;
CREATE TABLE parents (id BIGINT NOT NULL PRIMARY KEY, above BIGINT NULL, name VARCHAR(255), FOREIGN KEY (above) REFERENCES parents (id));
CREATE TABLE items (grp VARCHAR(40) NOT NULL, num INT NOT NULL, parent_id BIGINT NOT NULL, parent_name VARCHAR(255), project_id VARCHAR(64) NOT NULL, data TEXT, PRIMARY KEY (grp, num), FOREIGN KEY (parent_id) REFERENCES parents (id));
CREATE TABLE names (name VARCHAR(60) COLLATE utf8mb4_unicode_ci NOT NULL PRIMARY KEY, nr INT);
CREATE TABLE bins (at DATETIME, k VARBINARY(20), l1 CHAR(30) CHARACTER SET latin1, PRIMARY KEY (at, k, l1));
CREATE TABLE nothing (id INT PRIMARY KEY);
` + wide

// oldRows fills the source with about so many rows: parents that refer to later ones,
// composite keys whose texts differ in more than case, keys with quotes and backslashes.
func oldRows(n int) string {
	return strings.NewReplacer("{p}", fmt.Sprint(n/20), "{i}", fmt.Sprint(n/2), "{n}", fmt.Sprint(n/4), "{w}", fmt.Sprint(n/5)).Replace(`
SET NAMES utf8mb4;
INSERT INTO parents SELECT seq - 1, IF(seq % 3 = 0 AND seq < {p}, seq, NULL), CONCAT('parent ', seq, ' ä中') FROM seq_1_to_{p};
INSERT INTO items SELECT CONCAT(ELT(1 + seq % 5, 'Alpha', 'beta', 'Ça ''x''', 'back\\slash', 'ta\tb'), '-', seq % 37), seq, seq % {p}, CONCAT('project', seq % 3), IF(seq % 11 = 0, NULL, REPEAT(CONCAT('line ', seq, '\n\t\\'), seq % 7)) FROM seq_1_to_{i};
INSERT INTO names SELECT CONCAT(IF(seq % 2, 'Name ', 'NAME-'), MD5(seq), IF(seq % 5 = 0, '''\\', '')), seq FROM seq_1_to_{n};
INSERT INTO bins SELECT IF(seq % 9 = 0, '0000-00-00 00:00:00', '2015-01-01' + INTERVAL seq % 7 DAY), UNHEX(LEFT(SHA1(seq), 2 * (seq % 15))), CONCAT('é', seq) FROM seq_1_to_{p};
INSERT INTO wide SELECT seq + 5, seq / 7e3, seq * 1.1e-30 / 3, -seq / 3, 18446744073709551615 - seq, seq % 512, UNHEX(LPAD(HEX(seq), 6, '00')), UNHEX(SHA1(seq)), UNHEX(REPEAT(MD5(seq), seq % 9)), CONCAT('c', seq), IF(seq % 4, CONCAT('v', CHAR(0), '\t\n\r\\\'"', seq), NULL), REPEAT(CONCAT('😀', seq), seq % 5), 'é¬', '2015-01-01' + INTERVAL seq SECOND, '2015-01-01 00:00:00.000001' + INTERVAL seq MICROSECOND, '2000-02-29' + INTERVAL seq DAY, SEC_TO_TIME(seq / 9), 1990 + seq % 100, 1 + seq % 3, seq % 8, FROM_UNIXTIME(1e9 + seq), JSON_OBJECT('k', seq, 's', 'a"b\\c\n') FROM seq_1_to_{w};
INSERT INTO wide (id) VALUES (0);
INSERT INTO wide VALUES (1, 3.40282e38, 1.7976931348623157e308, 99999999999999.999999, 0, b'111111111', '', '', '', '', '', '', '', '0000-00-00 00:00:00', '0000-00-00 00:00:00.000000', '0000-00-00', '-838:59:59.000', 0, 'ä\\', '', '1970-01-01 00:00:01', '{}');
INSERT INTO wide VALUES (2, 0.1, 0.1, -0.000001, 1, b'0', X'0009005C4E', X'00095C4E0A0D1A275C', X'FFFE00', '\\N', 'NULL', '\\', 'ÿ', '1000-00-00 00:00:00', '9999-12-31 23:59:59.999999', '2004-00-00', '00:00:00.001', 2155, 'a', 'x,z', NULL, '"\\\\N"');
INSERT INTO wide VALUES (3, -1.17549e-38, 2.2250738585072014e-308, 0, 2, b'1', X'20', X'20', X'0A', 'x', ' trailing  ', '\Z\b', ' ', '2038-01-19 03:14:08', NULL, '9999-12-31', '838:59:59.999', 1901, 'b''c', 'y', '2038-01-19 03:14:07', 'null');
`)
}

const staged = `CREATE DATABASE migrate_ids; USE migrate_ids; CREATE TABLE ids_project (old VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, new VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin);
CREATE TABLE ids_default (kind VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, new VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin);
INSERT INTO ids_project VALUES ('project0', 'zero'), ('project1', 'one ''x'''), ('project2', 'two');`

// world is a source and a target, which may be one server.
type world struct {
	t              testing.TB
	rs, rt         *aligntest.Rig
	source, target *server.Server
	plan           *mapping.Plan
}

// newWorld makes a source of about n rows, and an empty target.
func newWorld(t testing.TB, rs, rt *aligntest.Rig, n int) *world {
	t.Helper()
	rs.SQL(oldSchema + oldRows(n) + staged)
	rt.SQL(newSchema)
	w := &world{t: t, rs: rs, rt: rt, source: rs.Server("source"), target: rt.Server("target")}
	var err error
	if w.plan, err = makePlan(w.source, w.target, mappingText); err != nil {
		t.Fatal(err)
	}
	return w
}

func makePlan(source, target *server.Server, text string) (*mapping.Plan, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m, err := mapping.ParseMapping("test.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	from, err := source.Side(ctx, map[string]string{"old": "old"})
	if err != nil {
		return nil, err
	}
	to, err := target.Side(ctx, map[string]string{"new": "new"})
	if err != nil {
		return nil, err
	}
	p := mapping.MakePlan(m, from, to, map[string]mapping.IDs{"project": {Given: true}})
	if len(p.Errors) > 0 {
		return nil, fmt.Errorf("%+v", p.Errors)
	}
	return &p, nil
}

func open(t testing.TB, role, dsn string) *server.Server {
	t.Helper()
	s, err := server.Open(try.Context(t), role, dsn, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// run runs to the end.
func (w *world) run(opt Options) *Result {
	w.t.Helper()
	res, err := Run(try.Context(w.t), w.plan, "hash", w.source, w.target, opt)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// clear makes the target what it was.
func (w *world) clear() {
	w.t.Helper()
	w.rt.SQL("DROP DATABASE new; DROP DATABASE IF EXISTS " + Database + "; " + newSchema)
}

// sums asks for rows and checksums.
func sums(t testing.TB, s *server.Server, statement string) string {
	t.Helper()
	var n, a, b string
	if err := s.DB.QueryRowContext(try.Context(t), statement).Scan(&n, &a, &b); err != nil {
		t.Fatalf("%v: %s", err, statement)
	}
	return n + " " + a + " " + b
}

// check demands that all rows are there as they are to be, and a journal without gaps.
func (w *world) check() {
	w.t.Helper()
	for i := range w.plan.Tables {
		p := &w.plan.Tables[i]
		if a, b := sums(w.t, w.source, p.SourceSum("")), sums(w.t, w.target, p.TargetSum("")); a != b {
			w.t.Errorf("%s: rows and sums %s of the source, %s of the target", p.Target, a, b)
		}
	}
	// The same by the servers' own means, which know nothing of our statements.
	sum := func(r *aligntest.Rig, db string) string {
		return strings.TrimPrefix(r.SQL("CHECKSUM TABLE "+db+".wide"), db)
	}
	if a, b := sum(w.rs, "old"), sum(w.rt, "new"); a != b {
		w.t.Errorf("CHECKSUM TABLE: %q of the source, %q of the target", a, b)
	}
	w.checkJournal()
}

func (w *world) checkJournal() {
	w.t.Helper()
	for what, c := range map[string][2]string{
		"state": {"SELECT state FROM migrate_journal.run", "copied"},
		"tables done": {"SELECT GROUP_CONCAT(DISTINCT state), COUNT(*) FROM migrate_journal.tables",
			fmt.Sprintf("done\t%d", len(w.plan.Tables))},
		"chunks undone": {"SELECT COUNT(*) FROM migrate_journal.ranges WHERE done <> 1", "0"},
		"gaps or doubles": {"SELECT COUNT(*) FROM (SELECT number, after_key, ROW_NUMBER() OVER w AS r, LAG(upto_key) " +
			"OVER w AS before_key FROM migrate_journal.ranges WINDOW w AS (PARTITION BY target ORDER BY number)) AS x " +
			"WHERE number <> r OR NOT (after_key <=> before_key)", "0"},
		"rows of tables": {"SELECT COUNT(*) FROM migrate_journal.tables AS t WHERE t.`rows` <> (SELECT " +
			"COALESCE(SUM(r.`rows`), 0) FROM migrate_journal.ranges AS r WHERE r.target = t.target)", "0"},
		"rows": {"SELECT SUM(`rows`) = (SELECT COUNT(*) FROM new.items) + (SELECT COUNT(*) FROM new.parents) + " +
			"(SELECT COUNT(*) FROM new.names) + (SELECT COUNT(*) FROM new.wide) + (SELECT COUNT(*) FROM new.bins) FROM migrate_journal.tables", "1"},
	} {
		if got := w.rt.SQL(c[0]); got != c[1] {
			w.t.Errorf("journal: %s: %q, want %q", what, got, c[1])
		}
	}
}

// TestMain is also the process that the kill tests kill.
func TestMain(m *testing.M) {
	if os.Getenv("COPIER_CHILD") != "" {
		if err := child(os.Getenv("COPIER_SOURCE"), os.Getenv("COPIER_TARGET")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(aligntest.Main(m))
}

func child(from, to string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	source, err := server.Open(ctx, "source", from, server.Options{})
	if err != nil {
		return err
	}
	target, err := server.Open(ctx, "target", to, server.Options{})
	if err != nil {
		return err
	}
	p, err := makePlan(source, target, mappingText)
	if err != nil {
		return err
	}
	fmt.Println("it copies")
	_, err = Run(ctx, p, "hash", source, target, Options{ChunkRows: chunkRows})
	return err
}

// chunkRows makes a hundred chunks of the kill tests' rows.
const chunkRows = 300
