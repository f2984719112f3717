package survey

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/mapping"
	"holdfast/testbed/need"
)

// TestAPlanFindsWhatAStrictTargetRefuses: a source without strict mode has values that a target
// does not take. What the copy refuses is an error of the plan, and nothing else is one: one
// server copies some of them into a column of the same type, of which the plan warns.
func TestAPlanFindsWhatAStrictTargetRefuses(t *testing.T) {
	need.More(t)
	source, other := aligntest.MariaDB(t), aligntest.MariaDB(t)
	for _, target := range []*aligntest.Rig{other, source} {
		t.Run(map[bool]string{true: "one server", false: "two servers"}[target == source], func(t *testing.T) { strict(t, source, target) })
	}
}

func strict(t *testing.T, source, target *aligntest.Rig) {
	s, d := source.Server("source"), target.Server("target")
	for _, c := range []struct{ from, to, value, mapped, mode, want string }{
		{from: "ENUM('a', 'b')", value: "'c'", want: "1 rows have a value that is none of enum('a','b'), stored as ''"},
		{from: "ENUM('a', 'b')", value: "'a'"},
		{from: "ENUM('a', 'b') NOT NULL", value: "0", want: "1 rows have a value that is none of enum('a','b'), stored as ''"},
		{from: "ENUM('a', '')", value: "''"},
		{from: "ENUM('a', '')", value: "'c'"},
		{from: "ENUM('a', 'b')", to: "ENUM('a', 'b', '')", value: "'c'"},
		{from: "ENUM('a', 'b')", to: "VARCHAR(9)", value: "'c'"},
		{from: "ENUM('a', 'b')", to: "ENUM('a', 'b')", value: "'c'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "ENUM('a', 'b')", value: "'c'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "ENUM('a', 'b')", value: "'A '", mapped: "concat(v)"},
		{from: "VARCHAR(9)", to: "SET('a', 'b')", value: "'b,a'", mapped: "concat(v)"},
		{from: "VARCHAR(9)", to: "SET('a', 'b')", value: "'b,c'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "INT", value: "'12x'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "TINYINT", value: "'300'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "TINYINT", value: "'-12'", mapped: "concat(v)"},
		{from: "INT", to: "TINYINT", value: "300", mapped: "v + 0", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(40)", to: "BIGINT", value: "'9223372036854775808'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(40)", to: "BIGINT", value: "'-9223372036854775808'", mapped: "concat(v)"},
		{from: "VARCHAR(40)", to: "BIGINT UNSIGNED", value: "'18446744073709551615'", mapped: "concat(v)"},
		{from: "VARCHAR(40)", to: "BIGINT UNSIGNED", value: "'-1'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(40)", to: "BIGINT", value: "'1e40'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "DECIMAL(4,1)", value: "'abc'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "DECIMAL(4,1)", value: "'1000'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "DECIMAL(4,1)", value: "'-999.9'", mapped: "concat(v)"},
		{from: "VARCHAR(9)", to: "DECIMAL(4,1) UNSIGNED", value: "'-1'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "INT", to: "DECIMAL(4,1)", value: "1000", mapped: "v + 0", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "FLOAT", value: "'1.5x'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "DOUBLE", value: "'1.5e3'", mapped: "concat(v)"},
		{from: "VARCHAR(9)", to: "DOUBLE UNSIGNED", value: "'-0.5'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "FLOAT", value: "'1e60'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "TIME", value: "'noon'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "VARCHAR(9)", to: "TIME", value: "'12:30:00'", mapped: "concat(v)"},
		{from: "VARCHAR(9)", to: "VARBINARY(3)", value: "'abcd'", mapped: "concat(v)",
			want: "1 rows have a text that is too long for varbinary(3)"},
		{from: "VARCHAR(9)", to: "VARBINARY(3)", value: "'abc'", mapped: "concat(v)"},
		{from: "VARCHAR(300)", to: "TINYBLOB", value: "REPEAT('a', 256)", mapped: "concat(v)",
			want: "1 rows have a text that is too long for tinyblob"},
		{from: "VARCHAR(9)", to: "DATE", value: "'hello'", mapped: "concat(v)", want: "1 rows have a value that is none of "},
		{from: "SET('a', 'b')", value: "'c'"},
		{from: "SET('a', 'b')", value: "255"},
		{from: "SET('a', 'b')", to: "SET('b', 'a')", value: "'a,b'"},
		{from: "DATE", value: "'2021-02-30'", mode: "ALLOW_INVALID_DATES", want: "1 rows have a date that no calendar has"},
		{from: "DATE", value: "'2021-02-00'"},
		{from: "DATE", value: "'0000-00-00'"},
		{from: "DATETIME(3)", value: "'2021-02-30 01:02:03'", mode: "ALLOW_INVALID_DATES", want: "1 rows have a date that no calendar has"},
		{from: "DATETIME", value: "'2021-04-31 01:02:03'", mode: "ALLOW_INVALID_DATES", want: "1 rows have a date that no calendar has"},
		{from: "DATETIME", value: "'2020-02-29 01:02:03'", mode: "ALLOW_INVALID_DATES"},
		{from: "DATE", to: "DATETIME", value: "'2021-02-30'", mode: "ALLOW_INVALID_DATES", want: "1 rows have a date that no calendar has"},
		{from: "TIMESTAMP NULL", value: "0"},
		{from: "TIME", value: "'900:00:00'"},
		{from: "YEAR", value: "1800"},
		{from: "FLOAT", value: "1e60"},
		{from: "DECIMAL(3,1)", value: "99999"},
		{from: "BIT(3)", value: "255"},
		{from: "TINYINT UNSIGNED", value: "-5"},
		{from: "VARCHAR(3)", value: "X'ff6162'"},
	} {
		to, value := c.to, c.mapped
		if to == "" {
			to = c.from
		}
		if value == "" {
			value = "v"
		}
		t.Run(strings.Join([]string{c.from, to, c.value, value}, " "), func(t *testing.T) {
			source.SQL(fmt.Sprintf("CREATE OR REPLACE DATABASE o CHARACTER SET utf8mb4; USE o; SET sql_mode = '%s'; "+
				"CREATE TABLE t (id INT PRIMARY KEY, v %s) ENGINE=InnoDB; INSERT IGNORE INTO t VALUES (7, %s)", c.mode, c.from, c.value))
			target.SQL(fmt.Sprintf("DROP DATABASE IF EXISTS migrate_journal; CREATE OR REPLACE DATABASE n CHARACTER "+
				"SET utf8mb4; CREATE TABLE n.t (id INT PRIMARY KEY, v %s) ENGINE=InnoDB", to))
			m, err := mapping.ParseMapping("m.yaml", []byte("format: 1\nname: m\ntables:\n- target: new.t\n  from: "+
				"old.t\n  columns:\n  - copy: [id]\n  - {to: v, value: \""+value+"\"}\n"))
			if err != nil {
				t.Fatal(err)
			}
			r, p := plan(t, m, s, d, nil)
			_, ran := copier.Run(aligntest.Deadline(t), p, "hash", s, d, copier.Options{})
			all := strings.Join(append(texts(r.Errors), texts(r.Warnings)...), "\n")
			if (len(r.Errors) > 0) != (ran != nil) || !strings.Contains(all, c.want) || ran != nil && c.want == "" ||
				source != target && ran == nil && c.want != "" {
				t.Errorf("the plan says %s, want %q; the copy ends with %v", all, c.want, ran)
			}
		})
	}
}

// TestKeysOfBytes are told so that they can be read, and written in a statement.
func TestKeysOfBytes(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	r.SQL("CREATE DATABASE o; USE o; CREATE TABLE t (k VARBINARY(9), seq SMALLINT, at DATETIME, PRIMARY KEY (k, " +
		"seq)) ENGINE=InnoDB; INSERT INTO t VALUES ('', 32767, 0), (X'00', -1, 0), (X'00FF', 5, 0), ('text', 6, 0); " +
		"CREATE DATABASE n; CREATE TABLE n.t (k VARBINARY(9), seq SMALLINT, at DATETIME, PRIMARY KEY (k, seq), UNIQUE KEY u (k)) ENGINE=InnoDB")
	r.SQL("INSERT INTO o.t VALUES (X'00', 1, NOW())")
	s := r.Server("source")
	res, _ := plan(t, aligntest.Mapping(t, "format: 1\nname: m\ntables: [{target: new.t, from: old.t, columns: "+
		"[{copy: [k, seq, at]}]}]\n"), s, r.Server("target"), nil)
	if got := strings.Join(texts(res.Warnings), "\n"); !strings.Contains(got,
		"(k, seq of the first: '', 32767; X'00', -1; X'00FF', 5; text, 6)") ||
		strings.Join(res.Warnings[0].Keys, "; ") != "'', 32767; X'00', -1; X'00FF', 5; text, 6" {
		t.Errorf("%s, %+v", got, res.Warnings)
	}
	if got := strings.Join(texts(res.Errors), "\n"); !strings.Contains(got, "values that come more than once: X'00' (2 times)") {
		t.Errorf("%s", got)
	}
}
