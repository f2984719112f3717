package copier

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
)

// Database is the target's database in which the journal is.
const Database = "migrate_journal"

// journalFormat is the version of its tables.
const journalFormat = 3

// State is how far a run has come.
type State string

// States.
const (
	Copying   State = "copying"   // rows are being copied
	Copied    State = "copied"    // all are there
	Following State = "following" // and what the source's binary log has is carried over
	Done      State = "done"      // up to the cut-over
)

// Journal is the one row of table run: what is copied from where, and how far it is.
type Journal struct {
	Mapping string    // hash of the mapping
	Plan    string    // hash of the plan's statements: they tell the databases, the kinds of IDs that are given, and the columns
	Source  string    // the source's server as it calls itself: HOST:PORT
	Begun   time.Time // by the target's clock, UTC
	File    string    // of the source's binary log, before the first row was read; "": there was none
	Pos     uint64    // in File, bytes
	Follows bool      // the copy was begun to be followed
	State   State
}

// tables of the journal. Keys are written as JSON, and a hash of the key after which a
// chunk begins makes it unique. The table of the chunks is called `ranges`.
var tables = []string{
	"CREATE DATABASE IF NOT EXISTS " + Database + " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
	"CREATE TABLE IF NOT EXISTS " + Database + ".`run` (`only` TINYINT NOT NULL PRIMARY KEY, `format` INT NOT NULL, " +
		"`mapping` VARCHAR(190) NOT NULL, `plan` VARCHAR(190) NOT NULL, " +
		"`source` VARCHAR(300) NOT NULL, `begun` DATETIME NOT NULL, `binlog_file` VARCHAR(512) NULL, `binlog_pos` " +
		"BIGINT UNSIGNED NULL, `follows` TINYINT NOT NULL, `state` VARCHAR(20) NOT NULL) " + engine,
	"CREATE TABLE IF NOT EXISTS " + Database + ".`tables` (`target` VARCHAR(150) NOT NULL PRIMARY KEY, `state` " +
		"VARCHAR(20) NOT NULL, `rows` BIGINT NOT NULL, `seconds` DOUBLE NOT NULL, `gave_way` TINYINT NOT NULL DEFAULT 0) " + engine,
	"CREATE TABLE IF NOT EXISTS " + Database + ".`ranges` (`target` VARCHAR(150) NOT NULL, `number` BIGINT NOT NULL, " +
		"`after_key` LONGTEXT NULL, `upto_key` LONGTEXT NOT NULL, `after_hash` CHAR(64) NOT NULL, " +
		"`size` BIGINT NOT NULL, `done` TINYINT NOT NULL, `rows` BIGINT NOT NULL, `seconds` DOUBLE NOT NULL, PRIMARY " +
		"KEY (`target`, `number`), UNIQUE KEY (`target`, `after_hash`)) " + engine,
	"CREATE TABLE IF NOT EXISTS " + Database + ".`left_out` (`number` BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, " +
		"`target` VARCHAR(150) NOT NULL, `refers_to` VARCHAR(150) NOT NULL, `key` LONGTEXT NOT NULL) " + engine,
}

const engine = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"

// ReadJournal reads the target's journal; nil: there is none.
func ReadJournal(ctx context.Context, target *sql.DB) (*Journal, error) {
	var j Journal
	var format int
	var begun string
	var file sql.NullString
	var pos sql.Null[uint64]
	row := target.QueryRowContext(ctx, "SELECT `format`, `mapping`, `plan`, `source`, DATE_FORMAT(`begun`, "+
		"'%Y-%m-%dT%H:%i:%sZ'), `binlog_file`, `binlog_pos`, `follows`, `state` FROM "+Database+".`run` WHERE `only` = 1")
	switch err := row.Scan(&format, &j.Mapping, &j.Plan, &j.Source, &begun, &file, &pos, &j.Follows, &j.State); {
	case errors.Is(err, sql.ErrNoRows), server.Absent(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("target: read the journal %s.run: %w", Database, err)
	}
	if format != journalFormat {
		return nil, fmt.Errorf("target: the journal %s.run has format %d: want %d, which this program knows: go on "+
			"with the release that began the copy; or begin anew: holdfast transition db clean --rows", Database, format, journalFormat)
	}
	var err error
	if j.Begun, err = time.Parse(time.RFC3339, begun); err != nil {
		return nil, fmt.Errorf("target: the journal %s.run: begun: %w", Database, err)
	}
	j.File, j.Pos = file.String, pos.V
	return &j, nil
}

// Drop takes the journal away. A run that is under way must be excluded by Lock.
func Drop(ctx context.Context, target *server.Server) error {
	if _, err := target.DB.ExecContext(ctx, "DROP DATABASE IF EXISTS "+Database); err != nil {
		return fmt.Errorf("target: drop database %s: %w", Database, err)
	}
	return nil
}

// journal writes the tables of a run.
type journal struct{ db *sql.DB }

// create makes the journal of a run that begins. Before its last statement there is none. left
// hands over the rows that are left out.
func (j journal) create(ctx context.Context, run *Journal, targets []string,
	left func(note func(target, parent, key string) error) error) error {
	for _, s := range tables {
		if _, err := j.db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("target: make the journal: %w", err)
		}
	}
	tx, err := j.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer tx.Rollback() // after Commit it does nothing
	binlog := "NULL, NULL"
	if run.File != "" {
		binlog = literal(run.File) + ", " + strconv.FormatUint(run.Pos, 10)
	}
	var values []string
	for _, t := range targets {
		values = append(values, "("+literal(t)+", "+literal(string(Copying))+", 0, 0, 0)")
	}
	for _, s := range []string{
		// of one whose row was taken away by hand
		"DELETE FROM " + Database + ".`ranges`", "DELETE FROM " + Database + ".`tables`", "DELETE FROM " + Database + ".`left_out`",
		"INSERT INTO " + Database + ".`tables` VALUES " + strings.Join(values, ", "),
		"INSERT INTO " + Database + ".`run` VALUES (1, " + number(journalFormat) + ", " + literal(run.Mapping) + ", " +
			literal(run.Plan) + ", " + literal(run.Source) + ", UTC_TIMESTAMP(), " + binlog + ", " +
			bit(run.Follows) + ", " + literal(string(Copying)) + ")",
	} {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("target: begin the journal: %w", err)
		}
	}
	var rows []string
	flush := func() error {
		if len(rows) == 0 {
			return nil
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO "+Database+".`left_out` (`target`, `refers_to`, `key`) VALUES "+strings.Join(rows, ", "))
		rows = rows[:0]
		return err
	}
	err = left(func(target, parent, key string) error {
		if rows = append(rows, "("+literal(target)+", "+literal(parent)+", "+literal(key)+")"); len(rows) < notedAtOnce {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return fmt.Errorf("target: begin the journal: %w", err)
	}
	return nil
}

// notedAtOnce is how many rows that are left out one statement notes.
const notedAtOnce = 500

// literal writes a text in a statement.
func literal(s string) string { return sqlexpr.Literal(s) }

// standing is what the journal says of a table.
type standing struct {
	done    bool
	rows    int64
	seconds float64
	scanned int64 // rows of the source in chunks that are done
}

func (j journal) tables(ctx context.Context) (map[string]standing, error) {
	rows, err := j.db.QueryContext(ctx, "SELECT t.`target`, t.`state`, COALESCE(SUM(r.`done` * r.`rows`), 0), "+
		"t.`seconds`, COALESCE(SUM(r.`done` * r.`size`), 0) FROM "+
		Database+".`tables` AS t LEFT JOIN "+Database+".`ranges` AS r ON r.`target` = t.`target` GROUP BY t.`target`, t.`state`, t.`seconds`")
	if err != nil {
		return nil, fmt.Errorf("target: read the journal: %w", err)
	}
	defer rows.Close()
	out := map[string]standing{}
	for rows.Next() {
		var target string
		var state State
		var p standing
		if err := rows.Scan(&target, &state, &p.rows, &p.seconds, &p.scanned); err != nil {
			return nil, fmt.Errorf("target: read the journal: %w", err)
		}
		p.done = state == Done
		out[target] = p
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("target: read the journal: %w", err)
	}
	return out, nil
}

// chunk is a part of the rows of a table of the source, between two keys.
type chunk struct {
	number int64 // from 1
	after  key   // nil: from the first row
	upto   key
	size   int64 // rows of the source, as planned; the last has fewer
}

// open gives the chunks that are noted and not done, and the last that is noted (number
// 0: none is).
func (j journal) open(ctx context.Context, target string) (todo []chunk, last chunk, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT `number`, `after_key`, `upto_key`, `size`, `done` FROM "+
		Database+".`ranges` WHERE `target` = "+literal(target)+
		" AND (`done` = 0 OR `number` = (SELECT MAX(m.`number`) FROM "+Database+".`ranges` AS m WHERE m.`target` = "+
		literal(target)+")) ORDER BY `number`")
	if err != nil {
		return nil, last, fmt.Errorf("target: read the journal: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var after, upto []byte
		var done bool
		s := chunk{}
		err := rows.Scan(&s.number, &after, &upto, &s.size, &done)
		if err == nil && after != nil {
			err = json.Unmarshal(after, &s.after)
		}
		if err == nil {
			err = json.Unmarshal(upto, &s.upto)
		}
		if err != nil {
			return nil, last, fmt.Errorf("target: read the journal: chunks of %s: %w", target, err)
		}
		if last = s; !done {
			todo = append(todo, s)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, last, fmt.Errorf("target: read the journal: %w", err)
	}
	return todo, last, nil
}

// note writes a chunk down before it is copied.
func (j journal) note(ctx context.Context, target string, s chunk) error {
	after, hash := "NULL", ""
	if s.after != nil {
		hash, after = s.after.String(), literal(s.after.String())
	}
	sum := sha256.Sum256([]byte(hash))
	_, err := j.db.ExecContext(ctx, "INSERT INTO "+Database+".`ranges` VALUES ("+strings.Join([]string{
		literal(target), number(s.number), after, literal(s.upto.String()), literal(hex.EncodeToString(sum[:])),
		number(s.size), "0", "0", "0"}, ", ")+")")
	if err != nil {
		return fmt.Errorf("target: write the journal: %w", err)
	}
	return nil
}

// held reads a chunk's row, and keeps it from all others until the transaction ends.
func held(ctx context.Context, tx Session, target string, n int64) (done bool, rows int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT `done`, `rows` FROM "+Database+".`ranges` WHERE `target` = "+
		literal(target)+" AND `number` = "+number(n)+" FOR UPDATE").Scan(&done, &rows)
	if errors.Is(err, sql.ErrNoRows) {
		err = errBehind
	}
	return done, rows, err
}

// errBehind is that the journal has not what it had: the target lost what it had
// promised to keep, or another run has gone on. What it has is the truth.
var errBehind = errors.New("the journal is not as this run left it")

// close marks a chunk as done, in the transaction of its rows.
func (s chunk) close(ctx context.Context, tx Session, target string, rows int64, took time.Duration) error {
	_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE %s.`ranges` SET `done` = 1, `rows` = %d, `seconds` = %.6f "+
		"WHERE `target` = %s AND `number` = %d", Database, rows, took.Seconds(), literal(target), s.number))
	return err
}

// sharing are the targets (as in the plan) of one table: itself, or all its parts.
func sharing(p *mapping.Plan, table string) (targets []string) {
	for _, t := range p.Tables {
		if t.Table == table {
			targets = append(targets, t.Target)
		}
	}
	return targets
}

// gaveWay marks targets as ones whose rows gave way to others, in the transaction of these.
// Until it is cleared, rows may be missing of which the binary log has nothing.
func gaveWay(ctx context.Context, tx Session, targets []string) error {
	list := make([]string, 0, len(targets))
	for _, t := range targets {
		list = append(list, literal(t))
	}
	_, err := tx.ExecContext(ctx, "UPDATE "+Database+".`tables` SET `gave_way` = 1 WHERE `target` IN ("+strings.Join(list, ", ")+")")
	return err
}

// GaveWay are the targets (as in the plan) whose rows gave way to others when they were
// copied, and that were not compared since.
func GaveWay(ctx context.Context, target *sql.DB) (targets []string, err error) {
	err = server.Walk(ctx, target, "SELECT `target` FROM "+Database+".`tables` WHERE `gave_way` <> 0 ORDER BY `target`",
		func(row []sql.RawBytes) error {
			targets = append(targets, string(row[0]))
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("target: read the journal: %w", err)
	}
	return targets, nil
}

// Rows are how many rows of each target (as in the plan) the journal says are there.
func Rows(ctx context.Context, target *sql.DB) (map[string]int64, error) {
	have, err := journal{target}.tables(ctx)
	out := map[string]int64{}
	for t, s := range have {
		out[t] = s.rows
	}
	return out, err
}

// Whole takes the marks of GaveWay away, in the transaction that writes what was missing.
func Whole(ctx context.Context, tx Session) error {
	if _, err := tx.ExecContext(ctx, "UPDATE "+Database+".`tables` SET `gave_way` = 0 WHERE `gave_way` <> 0"); err != nil {
		return fmt.Errorf("target: write the journal: %w", err)
	}
	return nil
}

// finish marks a table as done when all its chunks are, up to the one that was planned
// last; else errBehind.
func (j journal) finish(ctx context.Context, target string, last int64, took time.Duration) (rows int64, err error) {
	var count, most, done int64
	if err := j.db.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(MAX(`number`), 0), COALESCE(SUM(`done`), 0), "+
		"COALESCE(SUM(`rows`), 0) FROM "+Database+".`ranges` WHERE `target` = "+literal(target)).Scan(&count, &most, &done, &rows); err != nil {
		return 0, fmt.Errorf("target: read the journal: %w", err)
	}
	if count != last || most != last || done != last {
		return 0, errBehind
	}
	if _, err := j.db.ExecContext(ctx, fmt.Sprintf("UPDATE %s.`tables` SET `state` = %s, `rows` = %d, `seconds` = "+
		"%.6f WHERE `target` = %s", Database, literal(string(Done)), rows, took.Seconds(), literal(target))); err != nil {
		return 0, fmt.Errorf("target: write the journal: %w", err)
	}
	return rows, nil
}

// follow notes that the copy is followed.
func (j journal) follow(ctx context.Context) error {
	if _, err := j.db.ExecContext(ctx, "UPDATE "+Database+".`run` SET `follows` = 1"); err != nil {
		return fmt.Errorf("target: write the journal: %w", err)
	}
	return nil
}

func bit(is bool) string {
	if is {
		return "1"
	}
	return "0"
}

// copied marks the whole copy as done.
func (j journal) copied(ctx context.Context) error {
	if _, err := j.db.ExecContext(ctx, "UPDATE "+Database+".`run` SET `state` = "+
		literal(string(Copied))+" WHERE `state` = "+literal(string(Copying))); err != nil {
		return fmt.Errorf("target: write the journal: %w", err)
	}
	return nil
}

// key is a key of the source's rows, the values as the server writes them. In JSON it
// is a list of texts, and of {"hex": ...} for what is no text.
type key [][]byte

type bytesJSON struct {
	Hex string `json:"hex"`
}

// String is its JSON.
func (k key) String() string {
	list := make([]any, 0, len(k))
	for _, v := range k {
		if utf8.Valid(v) {
			list = append(list, string(v))
		} else {
			list = append(list, bytesJSON{hex.EncodeToString(v)})
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err) // texts only
	}
	return string(b)
}

// UnmarshalJSON reads it back.
func (k *key) UnmarshalJSON(b []byte) error {
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*k = make(key, 0, len(list))
	for _, x := range list {
		var s string
		if json.Unmarshal(x, &s) == nil {
			*k = append(*k, []byte(s))
			continue
		}
		var h bytesJSON
		if err := json.Unmarshal(x, &h); err != nil {
			return err
		}
		v, err := hex.DecodeString(h.Hex)
		if err != nil {
			return err
		}
		*k = append(*k, v)
	}
	return nil
}

// literals writes the values in a statement.
func (k key) literals(columns []column.Column) []string {
	out := make([]string, 0, len(k))
	for i, v := range k {
		out = append(out, server.Literal(v, columns[i].Type.Kind))
	}
	return out
}
