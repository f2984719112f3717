package server

import (
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/sqlexpr"
)

var number = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// Literal is the SQL of a value as the text protocol gave it, that is as a statement
// without parameters gives it; nil is NULL. kind is that of the value's column.
func Literal(v []byte, kind column.Kind) string {
	if v == nil {
		return "NULL"
	}
	switch kind {
	case column.Integer, column.Decimal, column.Float, column.Year:
		if number.Match(v) {
			return string(v)
		}
	case column.Bit:
		// Its bytes, the highest first; a number compares as the column does.
		if len(v) <= 8 {
			return strconv.FormatUint(binary.BigEndian.Uint64(append(make([]byte, 8-len(v)), v...)), 10)
		}
	case column.Bytes:
		return fmt.Sprintf("X'%X'", v)
	}
	if !utf8.Valid(v) {
		return fmt.Sprintf("X'%X'", v)
	}
	return sqlexpr.Literal(string(v))
}

var inBraces = regexp.MustCompile(`\{([a-z][a-z0-9_]*)\}`)

// Databases are the databases that a mapping uses, by their names in it, in order. Those
// that its queries and checks name in braces are among them.
func Databases(m *mapping.Mapping) (source, target []string) {
	from, to := map[string]bool{}, map[string]bool{}
	add := func(set map[string]bool, table string) {
		db, _, _ := strings.Cut(table, ".")
		set[db] = true
	}
	for _, t := range m.Tables {
		add(from, t.From)
		add(to, t.Target)
		for _, j := range slices.Concat(t.Join, t.Find) {
			add(from, j.Table)
		}
	}
	named := func(set map[string]bool, query string) {
		for _, b := range inBraces.FindAllStringSubmatch(query, -1) {
			set[b[1]] = true
		}
	}
	for _, k := range m.IDs {
		named(to, k.Query)
	}
	for _, c := range m.Checks {
		if c.OfTarget() {
			named(to, c.Rows+c.Target)
		}
		named(from, c.Source)
	}
	for _, c := range m.OfSource() {
		named(from, c.Rows)
	}
	return slices.Sorted(maps.Keys(from)), slices.Sorted(maps.Keys(to))
}
