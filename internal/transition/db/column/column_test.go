package column

import (
	"fmt"
	"strings"
	"testing"
)

func typeOf(t testing.TB, text string) Type {
	t.Helper()
	out, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"int(11)":                        "integer 32 false 0 0 0 0 []",
		"int":                            "integer 32 false 0 0 0 0 []",
		"bigint(20) unsigned":            "integer 64 true 0 0 0 0 []",
		"tinyint(1)":                     "integer 8 false 0 0 0 0 []",
		"mediumint(8) unsigned zerofill": "integer 24 true 0 0 0 0 []",
		"decimal(10,2)":                  "decimal 0 false 10 2 0 0 []",
		"decimal(5)":                     "decimal 0 false 5 0 0 0 []",
		"float":                          "float 24 false 0 0 0 0 []",
		"double unsigned":                "float 53 true 0 0 0 0 []",
		"varchar(255)":                   "char 0 false 0 0 255 0 []",
		"CHAR(36)":                       "char 0 false 0 0 36 0 []",
		"mediumtext":                     "char 0 false 0 0 0 16777215 []",
		"longblob":                       "bytes 0 false 0 0 0 4294967295 []",
		"varbinary(16)":                  "bytes 0 false 0 0 16 0 []",
		"datetime":                       "datetime 0 false 0 0 0 0 []",
		"datetime(6)":                    "datetime 0 false 0 6 0 0 []",
		"timestamp":                      "timestamp 0 false 0 0 0 0 []",
		"date":                           "date 0 false 0 0 0 0 []",
		"enum('ssh','x509')":             "enum 0 false 0 0 0 0 [ssh x509]",
		"enum('it''s','a,b','c)')":       "enum 0 false 0 0 0 0 [it's a,b c)]",
		"set('a','b')":                   "set 0 false 0 0 0 0 [a b]",
		"json":                           "json 0 false 0 0 0 0 []",
		"bit(8)":                         "bit 8 false 0 0 0 0 []",
		"inet6":                          "other 0 false 0 0 0 0 []",
		"geometry":                       "other 0 false 0 0 0 0 []",
	} {
		x := typeOf(t, text)
		got := fmt.Sprintln(x.Kind, x.Bits, x.Unsigned, x.Digits, x.Scale, x.Length, x.Limit, x.Words)
		if strings.TrimSpace(got) != want || x.Text != text {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "(1)", "int(11", "enum('a", "ünt", "int;drop"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func TestFits(t *testing.T) {
	const no = "does not fit into"
	for _, c := range []struct{ from, to, want string }{
		{"int(11)", "int(11)", ""},
		{"int(11)", "int", ""},
		{"int(11)", "bigint(20)", ""},
		{"int(10) unsigned", "bigint(20)", ""},
		{"int(10) unsigned", "int(11)", "largest numbers"},
		{"bigint(20)", "int(11)", "largest numbers"},
		{"int(11)", "int(10) unsigned", "negative numbers"},
		{"tinyint(1)", "int(11)", ""},
		{"int(11)", "varchar(11)", ""},
		{"int(11)", "varchar(10)", "up to 11 instead of 10"},
		{"int(10) unsigned", "varchar(10)", ""},
		{"varchar(255)", "int(11)", "another kind"},
		{"int(11)", "decimal(10,0)", ""},
		{"int(11)", "decimal(11,2)", "largest numbers"},
		{"int(11)", "float", "rounded"},
		{"mediumint(8)", "float", ""},
		{"int(11)", "double", ""},
		{"double", "float", "rounded"},
		{"float", "double", ""},
		{"decimal(10,2)", "double", "rounded"},
		{"decimal(10,2)", "decimal(11,2)", ""},
		{"decimal(10,2)", "decimal(10,3)", "largest numbers"},
		{"decimal(10,2)", "decimal(12,1)", "2 digits after the point"},
		{"float", "varchar(255)", ""},
		{"varchar(255)", "varchar(36)", "up to 255 instead of 36"},
		{"varchar(36)", "char(36)", ""},
		{"varchar(255)", "text", ""},
		{"varchar(65000)", "text", "up to 195000 instead of 65535"},
		{"text", "varchar(255)", "up to 65535 instead of 255"},
		{"mediumtext", "text", "instead of 65535"},
		{"text", "mediumtext", ""},
		{"json", "longtext", ""},
		{"json", "text", "instead of 65535"},
		{"text", "json", "not every text is JSON"},
		{"enum('owner','admin')", "enum('admin','owner','x')", ""},
		{"enum('owner','admin')", "enum('owner')", "it does not have admin"},
		{"enum('owner','admin')", "varchar(5)", ""},
		{"enum('owner','admin')", "varchar(4)", "up to 5"},
		{"varchar(5)", "enum('a')", "another kind"},
		{"datetime", "datetime(6)", ""},
		{"datetime(6)", "datetime", "fractions of a second of 6 digits"},
		{"timestamp", "datetime", ""},
		{"datetime", "timestamp", "before 1970"},
		{"date", "datetime", ""},
		{"datetime", "date", "another kind"},
		{"datetime", "varchar(32)", ""},
		{"varbinary(16)", "varbinary(8)", "up to 16 instead of 8"},
		{"blob", "longblob", ""},
		{"blob", "text", "another kind"},
		{"bit(8)", "bit(1)", "up to 8 instead of 1"},
		{"inet6", "inet6", ""},
		{"inet6", "varchar(39)", "another kind"},
	} {
		col := func(text string) Column {
			return Column{Type: typeOf(t, text), Charset: "utf8mb3", Collation: "utf8mb3_general_ci"}
		}
		f := Fits(col(c.from), col(c.to))
		got := strings.Join(f.Narrow, "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) || c.want != "" && !strings.Contains(got, no) {
			t.Errorf("%s into %s: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

func TestCharacterSets(t *testing.T) {
	col := func(text, set, collation string) Column {
		return Column{Type: typeOf(t, text), Charset: set, Collation: collation}
	}
	for _, c := range []struct {
		from, to        Column
		narrow, changes string
	}{
		{col("varchar(9)", "utf8", "utf8_general_ci"), col("varchar(9)", "utf8mb3", "utf8_general_ci"), "", ""},
		{col("varchar(9)", "utf8mb3", "utf8_bin"), col("varchar(9)", "utf8mb4", "utf8mb4_bin"), "", "utf8_bin becomes utf8mb4_bin"},
		{col("varchar(9)", "utf8mb4", "a"), col("varchar(9)", "utf8mb3", "a"), "utf8mb3 does not have all characters of utf8mb4", ""},
		{col("varchar(9)", "latin1", "a"), col("varchar(9)", "utf8mb3", "a"), "", ""},
		{col("varchar(9)", "utf8mb3", "a"), col("varchar(9)", "latin1", "a"), "latin1 does not have", ""},
		{col("text", "latin1", "a"), col("text", "utf8mb4", "a"), "up to 196605 instead of 65535", ""},
		{col("text", "utf8mb3", "a"), col("text", "utf8mb4", "a"), "", ""},
		{col("text", "gbk", "a"), col("text", "utf8mb4", "a"), "up to 98302 instead of 65535", ""},
		{col("text", "big5", "a"), col("text", "utf8mb4", "a"), "up to 98302 instead of 65535", ""},
		{col("text", "ucs2", "a"), col("text", "utf8mb4", "a"), "up to 98302 instead of 65535", ""},
		{col("text", "sjis", "a"), col("text", "utf8mb4", "a"), "up to 196605 instead of 65535", ""},
		{col("text", "cp1251", "a"), col("text", "utf8mb4", "a"), "up to 196605 instead of 65535", ""},
		{col("text", "utf8mb4", "a"), col("text", "utf32", "a"), "up to 262140 instead of 65535", ""},
		{col("text", "gbk", "a"), col("text", "gbk", "a"), "", ""},
		{col("text", "gbk", "a"), col("mediumtext", "utf8mb4", "a"), "", ""},
		{col("int(11)", "", ""), col("varchar(20)", "utf8mb4", "b"), "", ""},
		{col("enum('ä')", "latin1", "a"), col("varchar(1)", "utf8mb4", "a"), "", ""},
	} {
		f := Fits(c.from, c.to)
		narrow, changes := strings.Join(f.Narrow, "; ")+f.Lacks, strings.Join(f.Changes, "; ")
		if (narrow == "") != (c.narrow == "") || !strings.Contains(narrow, c.narrow) ||
			(changes == "") != (c.changes == "") || !strings.Contains(changes, c.changes) {
			t.Errorf("%+v into %+v: %q, %q, want %q, %q", c.from, c.to, narrow, changes, c.narrow, c.changes)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"int(11)", "enum('a''b')", "decimal(65,30) unsigned", "varchar(99999999999999999999)", "(", "'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		x, err := Parse(text)
		if err != nil {
			return
		}
		c := Column{Type: x}
		if got := Fits(c, c); len(got.Narrow)+len(got.Changes)+len(got.Lacks) > 0 {
			t.Errorf("%q does not fit into itself: %+v", text, got)
		}
	})
}
