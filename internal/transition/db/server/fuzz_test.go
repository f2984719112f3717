package server_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
	"holdfast/testbed/need"
)

// modes are what changes the meaning of quotes, backslashes and signs in a statement.
var modes = []string{"", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT,IGNORE_SPACE", "ORACLE"}

// FuzzLiteral: a value in a statement is that value for the server, as a text, as bytes,
// and as what it looks like, whatever sql_mode a session has and the server began with.
func FuzzLiteral(f *testing.F) {
	r := aligntest.MariaDB(f, "--sql-mode=NO_BACKSLASH_ESCAPES,ANSI_QUOTES")
	s := r.Server("source")
	sessions := map[string]*sql.Conn{}
	for _, mode := range append(modes, "ours") {
		c, err := s.DB.Conn(context.Background())
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { _ = c.Close() }) // the server is ended, too
		if mode != "ours" {
			if _, err := c.ExecContext(context.Background(), "SET SESSION sql_mode = '"+mode+"'"); err != nil {
				f.Fatal(err)
			}
		}
		sessions[mode] = c
	}
	for _, v := range []string{
		"", " ", "plain", "'", "''", `\`, `\'`, `\\' OR 1=1 -- `, `"`, "`", "';DROP DATABASE mysql;--",
		"%s ? :a {nova} /*! 1 */", "\x00", "\x1a\r\n\t\b", "ä中😀", "\xff\xfe", "\xed\xa0\x80", "é\xc3",
		"-1", "1e5", "1e999", "0x41", "X'41'", "1;2", "NULL", `\N`, "_utf8mb4 X'41'", "00012.50", "NaN",
		"9999999999999999999999", strings.Repeat("'\\", 300),
	} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		if v == nil {
			v = []byte{}
		}
		ask := []string{server.Literal(v, column.Bytes), server.Literal(v, column.Char), server.Literal(v, column.Other)}
		if utf8.Valid(v) {
			ask = append(ask, sqlexpr.Literal(string(v)))
		}
		want := fmt.Sprintf("%x", v)
		for mode, c := range sessions {
			for _, l := range ask {
				var got string
				if err := c.QueryRowContext(t.Context(), "SELECT LOWER(HEX("+l+"))").Scan(&got); err != nil || got != want {
					t.Fatalf("mode %q: %q is %s: the server reads %s, %v", mode, v, l, got, err)
				}
			}
			// A number is written as it is, and nothing but a number.
			for _, kind := range []column.Kind{column.Integer, column.Decimal, column.Float, column.Year, column.DateTime} {
				if l := server.Literal(v, kind); l == string(v) && strings.Trim(l, "0123456789+-.eE") != "" {
					t.Fatalf("%s: %q is written as it is", kind, v)
				}
			}
			if got, err := bits(t.Context(), c, v); err != nil || len(v) <= 8 && !bytes.Equal(got, bytes.TrimLeft(v, "\x00")) {
				t.Fatalf("mode %q: %x as bits is %x, %v", mode, v, got, err)
			}
		}
	})
}

// bits gives what the server makes of a value of a column BIT, without zeros at its beginning.
func bits(ctx context.Context, c *sql.Conn, v []byte) ([]byte, error) {
	if len(v) > 8 {
		return nil, nil // there is no such column
	}
	var n uint64
	if err := c.QueryRowContext(ctx, "SELECT CAST("+server.Literal(v, column.Bit)+" AS UNSIGNED)").Scan(&n); err != nil {
		return nil, err
	}
	return bytes.TrimLeft(binary.BigEndian.AppendUint64(nil, n), "\x00"), nil
}

// FuzzNames: a name in backquotes is one name for the server, whatever is in it.
func FuzzNames(f *testing.F) {
	s := aligntest.MariaDB(f, "--sql-mode=NO_BACKSLASH_ESCAPES").Server("source")
	for _, v := range []string{"a", "`", "``", "a`b", "a`.`b", `\`, "a\\`b", "'", `"`, "nova`; DROP DATABASE x; -- ", "{nova}", "ä中", "\x12"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, name string) {
		// The servers have no other names: 1 to 64 characters of the basic plane, no blank at their end.
		if name == "" || !utf8.ValidString(name) || utf8.RuneCountInString(name) > 64 ||
			strings.TrimRight(name, " \t\n\v\f\r") != name || strings.ContainsFunc(name, func(r rune) bool { return r == 0 || r > 0xffff }) {
			t.Skip()
		}
		c, err := s.DB.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() // after the table is gone
		for _, q := range []string{"CREATE TEMPORARY TABLE mysql.names (" + sqlexpr.Quote(name) + " INT)", "INSERT INTO mysql.names VALUES (7)"} {
			if _, err := c.ExecContext(t.Context(), q); err != nil {
				t.Fatalf("%q: %v: %s", name, err, q)
			}
		}
		defer func() {
			if _, err := c.ExecContext(t.Context(), "DROP TEMPORARY TABLE mysql.names"); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}()
		var n, sum int
		if err := c.QueryRowContext(t.Context(), "SELECT COUNT(*), SUM("+
			sqlexpr.Quote(name)+") FROM mysql.names AS n WHERE n."+sqlexpr.Quote(name)+" = 7").Scan(&n, &sum); err != nil || n != 1 || sum != 7 {
			t.Errorf("%q: %d rows, %d, %v", name, n, sum, err)
		}
	})
}

// TestDatabasesOfOddNames: the names of --source-db and --target-db are names only.
func TestDatabasesOfOddNames(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	s := r.Server("source")
	r.SQL("CREATE DATABASE victim; CREATE TABLE victim.t (id INT PRIMARY KEY)")
	for _, name := range []string{"a`b", "a'b", `a"b`, `a\b`, "x`; DROP DATABASE victim; -- ", "x' OR '1'='1", "%",
		"_ictim", "{nova}", "a b", "ä中"} {
		side, err := s.Side(t.Context(), map[string]string{"nova": name})
		if err == nil || !strings.Contains(err.Error(), "there is no database "+name+" (nova in the mapping)") {
			t.Errorf("%q is not there: %v, %v", name, side, err)
		}
		if strings.HasSuffix(name, " ") { // no server has such a name
			continue
		}
		q := sqlexpr.Quote(name)
		r.SQL("CREATE DATABASE " + q + "; CREATE TABLE " + q + ".p (id INT PRIMARY KEY); CREATE TABLE " +
			q + ".`c'\"\\``x` (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES " + q + ".p (id))")
		side, err = s.Side(t.Context(), map[string]string{"nova": name})
		if err != nil || side.Databases["nova"] != name || len(side.Tables) != 2 || len(side.Tables["nova.c'\"\\`x"].Refs) != 1 {
			t.Errorf("%q: %+v, %v", name, side, err)
		}
		if got, want := side.Fill("SELECT 1 FROM {nova}.t"), "SELECT 1 FROM "+q+".t"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := r.SQL("SHOW TABLES IN victim"); got != "t" {
		t.Errorf("the other database has %q", got)
	}
}
