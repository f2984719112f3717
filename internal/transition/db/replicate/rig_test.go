package replicate

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

// patient is how long anything of a test may take.
const patient = 3 * time.Minute

// binlog are the options of a server whose binary log can be followed.
func binlog(id int) []string {
	return []string{"--log-bin=bin", "--binlog-format=ROW", fmt.Sprintf("--server-id=%d", id), "--sync-binlog=0", "--max-binlog-size=64M"}
}

// The mapping has what makes following hard: a key of two texts in a charset of its own,
// a key of bytes, unique values that move, rows made of joined tables and of whether
// there is one in another, and values that are looked up.
const mappingText = `
format: 1
name: a small platform
ids: [{kind: project}, {kind: user}]
tables:
- target: nova.instances
  from: nova.instances
  join:
  - {as: x, table: nova.extra, match: "x.instance = s.uuid and x.deleted = 0", optional: true}
  find:
  - {as: b, table: nova.bdm, match: "b.instance = s.uuid and b.boot_index = 0 and b.kind = 'Volume'"}
  columns:
  - copy: [id, uuid, name, notes, at, level]
  - {to: project, value: project, map: project}
  - {to: owner, value: owner, map: user}
  - {to: flavor, value: x.flavor}
  - {to: volume, value: "if(found('b'), 'yes', 'no')"}
- target: api.specs
  from: nova.instances
  where: deleted = 0
  join:
  - {as: x, table: nova.extra, match: "x.instance = s.uuid and x.deleted = 0"}
  columns:
  - copy: [id]
  - {to: spec, value: "json_object('flavor', x.flavor, 'name', name)"}
- target: nova.tags
  from: nova.tags
  columns:
  - copy: [resource, tag, value]
- target: api.aggregates
  from: nova.aggregates
  where: deleted = 0
  columns:
  - copy: [id, name]
- target: nova.bins
  from: nova.bins
  columns:
  - copy: [k, f, w, bits, amount]
`

const sourceSQL = `
CREATE DATABASE old_nova CHARACTER SET utf8mb4;
USE old_nova;
CREATE TABLE instances (id INT AUTO_INCREMENT PRIMARY KEY, uuid VARCHAR(36) CHARACTER SET utf8mb3 NOT NULL UNIQUE, name VARCHAR(100), notes MEDIUMTEXT, at DATETIME(3) NULL, level TINYINT UNSIGNED,
  project VARCHAR(64) NULL, owner VARCHAR(64) NULL, deleted INT NOT NULL DEFAULT 0) ENGINE=InnoDB;
CREATE TABLE extra (id INT AUTO_INCREMENT PRIMARY KEY, instance VARCHAR(36) CHARACTER SET utf8mb3 NOT NULL, flavor TEXT, deleted INT NOT NULL DEFAULT 0, UNIQUE KEY (instance, deleted)) ENGINE=InnoDB;
CREATE TABLE bdm (id INT AUTO_INCREMENT PRIMARY KEY, instance VARCHAR(36) CHARACTER SET utf8mb3 NOT NULL, boot_index INT NULL, kind ENUM('volume', 'image') NOT NULL, KEY (instance)) ENGINE=InnoDB;
CREATE TABLE tags (resource VARCHAR(36) CHARACTER SET latin1 NOT NULL, tag VARCHAR(40) CHARACTER SET latin1 NOT NULL, value BIGINT UNSIGNED, PRIMARY KEY (resource, tag)) ENGINE=InnoDB;
CREATE TABLE aggregates (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, deleted INT NOT NULL DEFAULT 0, UNIQUE KEY (name, deleted)) ENGINE=InnoDB;
CREATE TABLE bins (k BINARY(8) PRIMARY KEY, f FLOAT, w SET('a', 'b', 'c'), bits BIT(9), amount DECIMAL(12,3)) ENGINE=InnoDB;
CREATE TABLE other (id INT AUTO_INCREMENT PRIMARY KEY, x INT) ENGINE=InnoDB;
`

const targetSQL = `
CREATE DATABASE new_nova CHARACTER SET utf8mb4; CREATE DATABASE new_api CHARACTER SET utf8mb4;
USE new_nova;
CREATE TABLE instances (id INT AUTO_INCREMENT PRIMARY KEY, uuid VARCHAR(36) NOT NULL UNIQUE, name VARCHAR(100), notes LONGTEXT, at DATETIME(6) NULL, level SMALLINT,
  project VARCHAR(64) NULL, owner VARCHAR(64) NULL, flavor TEXT, volume VARCHAR(3) NOT NULL) ENGINE=InnoDB;
CREATE TABLE tags (resource VARCHAR(36) NOT NULL, tag VARCHAR(40) NOT NULL, value BIGINT UNSIGNED, PRIMARY KEY (resource, tag)) ENGINE=InnoDB;
CREATE TABLE bins (k BINARY(8) PRIMARY KEY, f FLOAT, w SET('a', 'b', 'c'), bits BIT(9), amount DECIMAL(14,4)) ENGINE=InnoDB;
USE new_api;
CREATE TABLE specs (id INT PRIMARY KEY, spec MEDIUMTEXT) ENGINE=InnoDB;
CREATE TABLE aggregates (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE) ENGINE=InnoDB;
`

// idsSQL stages the IDs: projects p0 to p9 are known, users all.
const idsSQL = `
CREATE DATABASE migrate_ids CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
USE migrate_ids;
CREATE TABLE ids_project (old VARCHAR(255) PRIMARY KEY, new VARCHAR(255)) ENGINE=InnoDB;
CREATE TABLE ids_user (old VARCHAR(255) PRIMARY KEY, new VARCHAR(255)) ENGINE=InnoDB;
CREATE TABLE ids_default (kind VARCHAR(64) PRIMARY KEY, new VARCHAR(255)) ENGINE=InnoDB;
INSERT INTO ids_project SELECT CONCAT('p', seq), CONCAT('new p', seq) FROM seq_0_to_9;
INSERT INTO ids_default VALUES ('user', 'admin');
`

// world is a source, a target, and the plan between them.
type world struct {
	t                *testing.T
	src, dst         *aligntest.Rig
	source, target   *server.Server
	mapping          *mapping.Mapping
	plan             *mapping.Plan
	sourceDB, dstDBs map[string]string
}

// newWorld makes servers with schemas; one: both are one server.
// opt are options of the source.
func newWorld(t *testing.T, one bool, opt ...string) *world {
	t.Helper()
	w := &world{t: t, sourceDB: map[string]string{"nova": "old_nova"}, dstDBs: map[string]string{"nova": "new_nova", "api": "new_api"}}
	w.src = aligntest.MariaDB(t, append(binlog(1), opt...)...)
	if w.dst = w.src; !one {
		w.dst = aligntest.MariaDB(t, "--skip-log-bin")
	}
	w.src.SQL(sourceSQL + idsSQL)
	w.dst.SQL(targetSQL)
	w.source, w.target = w.src.Server("source"), w.dst.Server("target")
	w.makePlan()
	return w
}

func (w *world) makePlan() { w.planOf(mappingText) }

func (w *world) planOf(text string, with ...func(*mapping.Mapping)) {
	w.t.Helper()
	var err error
	if w.mapping, err = mapping.ParseMapping("m.yaml", []byte(text)); err != nil {
		w.t.Fatal(err)
	}
	for _, f := range with {
		f(w.mapping)
	}
	from, err := w.source.Side(w.t.Context(), w.sourceDB)
	if err != nil {
		w.t.Fatal(err)
	}
	to, err := w.target.Side(w.t.Context(), w.dstDBs)
	if err != nil {
		w.t.Fatal(err)
	}
	p := mapping.MakePlan(w.mapping, from, to, map[string]mapping.IDs{"project": {Given: true}, "user": {Given: true, Default: true}})
	if len(p.Errors) > 0 {
		w.t.Fatalf("%+v", p.Errors)
	}
	w.plan = &p
}

// copy copies all rows.
func (w *world) copy() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patient)
	defer cancel()
	if _, err := copier.Run(ctx, w.plan, "hash", w.source, w.target, copier.Options{Follows: true}); err != nil {
		w.t.Fatal(err)
	}
}

// follow runs until the log is quiet.
func (w *world) follow(opt Options) (*Result, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patient)
	defer cancel()
	return Run(ctx, w.mapping, w.plan, w.source, w.target, w.sourceDB, opt)
}

const quiet = 300 * time.Millisecond

func (w *world) mustFollow() *Result {
	w.t.Helper()
	r, err := w.follow(Options{Quiet: quiet})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// refused follows and wants an error that has all of some texts.
func (w *world) refused(texts ...string) {
	w.t.Helper()
	r, err := w.follow(Options{Quiet: quiet, Patience: 10 * time.Second})
	if err == nil {
		w.t.Fatalf("followed: %+v, want an error with %q", r, texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			w.t.Errorf("error %v\nhas not %q", err, text)
		}
	}
}

// differences are the tables whose rows differ.
func (w *world) differences() (out []string) {
	w.t.Helper()
	for i := range w.plan.Tables {
		p := &w.plan.Tables[i]
		var a, b [3]string
		if err := w.source.DB.QueryRowContext(w.t.Context(), p.SourceSum("")).Scan(&a[0], &a[1], &a[2]); err != nil {
			w.t.Fatal(err)
		}
		if err := w.target.DB.QueryRowContext(w.t.Context(), p.TargetSum("")).Scan(&b[0], &b[1], &b[2]); err != nil {
			w.t.Fatal(err)
		}
		if a != b {
			out = append(out, fmt.Sprintf("%s: source %v, target %v", p.Target, a, b))
		}
	}
	return out
}

func (w *world) equal() {
	w.t.Helper()
	if d := w.differences(); d != nil {
		w.t.Fatalf("rows differ:\n%s", strings.Join(d, "\n"))
	}
}

func (w *world) state() *copier.Journal {
	w.t.Helper()
	j, err := copier.ReadJournal(w.t.Context(), w.target.DB)
	if err != nil || j == nil {
		w.t.Fatal(j, err)
	}
	return j
}

// both runs a test with two servers, and with one.
func both(t *testing.T, f func(t *testing.T, w *world)) {
	for _, one := range []bool{false, true} {
		t.Run(map[bool]string{true: "one server", false: "two servers"}[one], func(t *testing.T) { f(t, newWorld(t, one)) })
	}
}
