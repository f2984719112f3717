package replicate

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/column"
)

func TestValuesOfEvents(t *testing.T) {
	for _, c := range []struct {
		typ, charset string
		value        any
		want         string // "": an error
	}{
		{"int(11)", "", nil, "NULL"},
		{"int(11)", "", int32(-5), "-5"},
		{"int(10) unsigned", "", int32(-1), "4294967295"},
		{"tinyint(3) unsigned", "", int8(-1), "255"},
		{"smallint(5) unsigned", "", int16(-2), "65534"},
		{"mediumint(8) unsigned", "", int32(-1), "16777215"},
		{"bigint(20) unsigned", "", int64(-1), "18446744073709551615"},
		{"bigint(20)", "", int64(-1), "-1"},
		{"year(4)", "", 2026, "2026"},
		{"bit(64)", "", int64(-1), "18446744073709551615"},
		{"decimal(10,2)", "", "-12.50", "-12.50"},
		{"decimal(10,2)", "", "1 OR 1", ""},
		{"varchar(10)", "utf8mb4", "a'b\\", "_utf8mb4 X'6127625C'"},
		{"varchar(10)", "utf8mb3", "abc", "'abc'"},
		{"varchar(10)", "latin1", "\xe9", "_latin1 X'E9'"},
		{"text", "utf8mb4", []byte("äö"), "_utf8mb4 X'C3A4C3B6'"},
		{"varchar(10)", "utf8mb4", "", "''"},
		{"binary(4)", "", "ab", "X'61620000'"},
		{"varbinary(4)", "", "ab", "X'6162'"},
		{"blob", "", []byte{0, 255}, "X'00FF'"},
		{"enum('a','b''c')", "utf8mb4", int64(2), "_utf8mb4 X'622763'"},
		{"enum('a')", "utf8mb4", int64(0), "''"},
		{"enum('a')", "utf8mb4", int64(2), ""},
		{"set('a','b','c')", "utf8mb4", int64(5), "'a,c'"},
		{"set('a','b','c')", "utf8mb4", int64(8), ""},
		{"datetime(3)", "", "0000-00-00 00:00:00.000", "'0000-00-00 00:00:00.000'"},
		{"date", "", "2026-01-02", "'2026-01-02'"},
		{"time", "", "-838:59:59", "'-838:59:59'"},
		{"timestamp", "", "x'", ""},
		{"float", "", float32(1), ""},
		{"json", "", "{}", ""},
		{"int(11)", "", "5", ""},
	} {
		typ, err := column.Parse(c.typ)
		if err != nil {
			t.Fatal(err)
		}
		got, err := literal(column.Column{Name: "c", Type: typ, Charset: c.charset}, c.value)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), "column c of type "+c.typ) {
			t.Errorf("%s %v: %q, %v, want %q", c.typ, c.value, got, err, c.want)
		}
	}
}

// TestValuesThatAreNotUnderstood are told as they would be typed.
func TestValuesThatAreNotUnderstood(t *testing.T) {
	c := column.Column{Name: "n", Type: column.Type{Text: "decimal(10,2)", Kind: column.Decimal}}
	for value, want := range map[any]string{"1 OR 1": `"1 OR 1"`, 1.5: "1.5"} {
		if _, err := literal(c, value); err == nil || !strings.Contains(err.Error(), "has the value "+want+", which") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
