package aligntest

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/transition/db/sqlexpr"
)

// A server that starts takes as much of the processor as most tests do, so tests give theirs
// on. A server is given on if it is again what it was when it had started: without the
// databases, accounts, connections and binary log of the test before, and with the settings
// and system tables of its start. One that was killed or started anew is not.

// shelf has servers that nobody uses.
type shelf struct {
	mu   sync.Mutex
	open bool
	idle []*Rig // the longest there first
}

var unused shelf

// mostIdle bounds the memory of servers that nobody uses.
const mostIdle = 4

// Main runs the tests of a package, which use the same servers one after the other, and
// returns what the process exits with.
func Main(m *testing.M) int {
	unused.start()
	defer unused.end()
	return m.Run()
}

func (s *shelf) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
}

// end ends the servers that nobody uses, and those that are given back from now on.
func (s *shelf) end() {
	s.mu.Lock()
	idle := s.idle
	s.open, s.idle = false, nil
	s.mu.Unlock()
	for _, r := range idle {
		r.remove()
	}
}

// take gives an unused server that was started with these options, or nil.
func (s *shelf) take(opt []string) *Rig {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.idle {
		if slices.Equal(r.opt, opt) {
			s.idle = slices.Delete(s.idle, i, i+1)
			return r
		}
	}
	return nil
}

// put keeps a server for another test; false: nobody wants it.
func (s *shelf) put(r *Rig) bool {
	s.mu.Lock()
	if !s.open {
		s.mu.Unlock()
		return false
	}
	s.idle = append(s.idle, r)
	var old *Rig
	if len(s.idle) > mostIdle {
		old, s.idle = s.idle[0], s.idle[1:]
	}
	s.mu.Unlock()
	if old != nil {
		old.remove()
	}
	return true
}

func (s *shelf) wants() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// systems are the databases of a new server.
const systems = "'information_schema', 'mysql', 'performance_schema', 'sys'"

// state is what no test may leave behind: settings, system tables, accounts and whom the
// server replicates. What counts or moves by itself is left out.
func (r *Rig) state() (string, error) {
	return r.ask(`SELECT VARIABLE_NAME, VARIABLE_VALUE FROM information_schema.GLOBAL_VARIABLES WHERE VARIABLE_NAME NOT LIKE 'GTID%' ORDER BY 1;
CHECKSUM TABLE mysql.global_priv, mysql.db, mysql.tables_priv, mysql.columns_priv, mysql.procs_priv, mysql.proxies_priv, mysql.roles_mapping, mysql.proc, mysql.event, mysql.func, mysql.plugin, mysql.servers, mysql.time_zone_name, mysql.general_log, mysql.slow_log, mysql.gtid_slave_pos;
SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1;
SHOW ALL SLAVES STATUS`)
}

// renew makes the server what it was when it had started; an error says why it is not.
func (r *Rig) renew() error {
	others := "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Daemon' AND USER <> 'system user'"
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		ids, err := r.ask(others)
		if err != nil {
			return err
		}
		if ids == "" {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("connections %s do not end", ids)
		}
		for id := range strings.Lines(ids) {
			_, _ = r.ask("KILL " + id) // it may have ended meanwhile
		}
	}
	left, err := r.ask("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN (" + systems + ")")
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString("SET foreign_key_checks = 0;")
	for name := range strings.Lines(left) {
		text.WriteString("DROP DATABASE " + sqlexpr.Quote(strings.TrimSuffix(name, "\n")) + ";")
	}
	users, err := r.ask("SELECT CONCAT(QUOTE(User), '@', QUOTE(Host)) FROM mysql.global_priv WHERE User NOT IN " +
		"('root', 'mariadb.sys', 'PUBLIC', '" + User + "') AND JSON_VALUE(Priv, '$.is_role') IS NULL")
	if err != nil {
		return err
	}
	for user := range strings.Lines(users) {
		text.WriteString("DROP USER " + user + ";")
	}
	if r.logs {
		text.WriteString("RESET MASTER;")
	}
	text.WriteString("FLUSH LOCAL STATUS;") // local: it is not logged
	if _, err := r.ask(text.String()); err != nil {
		return err
	}
	now, err := r.state()
	if err != nil {
		return err
	}
	if now != r.born {
		return fmt.Errorf("it differs: %s", firstDifference(r.born, now))
	}
	return nil
}

// firstDifference is the first line in which texts differ.
func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("%q, before %q", y[i], x[i])
		}
	}
	return fmt.Sprintf("%d lines, before %d", len(y), len(x))
}

// ask runs statements in a session of root's, and gives the rows of all of them: a line each,
// values apart by tabs.
func (r *Rig) ask(text string) (_ string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	db, err := sql.Open("mysql", "root@unix("+r.socket()+")/?charset=utf8mb4&multiStatements=true")
	if err != nil {
		return "", err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, text)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var out strings.Builder
	for more := true; more; more = rows.NextResultSet() {
		names, err := rows.Columns()
		if err != nil {
			return "", err
		}
		values, at := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			at[i] = &values[i]
		}
		for rows.Next() {
			if err := rows.Scan(at...); err != nil {
				return "", err
			}
			for i, v := range values {
				if i > 0 {
					out.WriteByte('\t')
				}
				out.WriteString(printed(v))
			}
			out.WriteByte('\n')
		}
		if err := rows.Err(); err != nil {
			return "", err
		}
	}
	return strings.TrimSuffix(out.String(), "\n"), rows.Err()
}

// printed is a value as the server prints it, which the driver has read.
func printed(v any) string {
	digits := func(f float64, bits int) string {
		if a := math.Abs(f); a >= 1e15 || a < 1e-15 && a > 0 {
			return strings.Replace(strconv.FormatFloat(f, 'e', -1, bits), "e+", "e", 1)
		}
		return strconv.FormatFloat(f, 'f', -1, bits)
	}
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		return string(v)
	case float32:
		return digits(float64(v), 32)
	case float64:
		return digits(v, 64)
	}
	return fmt.Sprint(v)
}
