package sqlexpr

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// plainNames write columns as they are named, and know one function of a mapping.
type plainNames struct{}

func (plainNames) Column(c Column) (string, error) {
	if c.Name == "nowhere" {
		return "", errors.New("column nowhere: there is none")
	}
	if c.Table == "" {
		return Quote(c.Name), nil
	}
	return Quote(c.Table) + "." + Quote(c.Name), nil
}

func (plainNames) Call(name string, args []string) (string, bool, error) {
	if name != "BOOL" {
		return "", false, nil
	}
	if len(args) != 1 {
		return "", false, fmt.Errorf("function BOOL with %d arguments: want 1", len(args))
	}
	return "JSON_EXTRACT(IF(" + args[0] + ", 'true', 'false'), '$')", true, nil
}

func TestExpressionsAreWrittenAnew(t *testing.T) {
	for text, want := range map[string]string{
		"uuid":                                    "`uuid`",
		" i.uuid ":                                "`i`.`uuid`",
		"`key`":                                   "`key`",
		"i.`a``b`":                                "`i`.`a``b`",
		"1 + 2 * 3 - -x":                          "((1 + (2 * 3)) - (- `x`))",
		"(1 + 2) * 3.50":                          "((1 + 2) * 3.50)",
		"a or b and not c":                        "(`a` OR (`b` AND (NOT `c`)))",
		"not not a":                               "(NOT (NOT `a`))",
		"deleted = 0 AND host IS NOT NULL":        "((`deleted` = 0) AND (`host` IS NOT NULL))",
		"host is null":                            "(`host` IS NULL)",
		"a <=> b":                                 "(`a` <=> `b`)",
		"x not in (1, 'two', NULL)":               "(`x` NOT IN (1, 'two', NULL))",
		"x NOT BETWEEN 1 AND 2 + 3":               "(`x` NOT BETWEEN 1 AND (2 + 3))",
		"name like 'a%'":                          "(`name` LIKE 'a%')",
		"name collate utf8mb4_bin = 'a'":          "((`name` COLLATE utf8mb4_bin) = 'a')",
		"case when a then 1 else 2 end":           "(CASE WHEN `a` THEN 1 ELSE 2 END)",
		"case a when 1 then 'x' end":              "(CASE `a` WHEN 1 THEN 'x' END)",
		"cast(a as decimal(10,2))":                "CAST(`a` AS DECIMAL(10,2))",
		"cast(a as char)":                         "CAST(`a` AS CHAR)",
		"coalesce(a, 'none')":                     "COALESCE(`a`, 'none')",
		"json_object('id', a, 'n', json_array())": "JSON_OBJECT('id', `a`, 'n', JSON_ARRAY())",
		"bool(b.id IS NOT NULL)":                  "JSON_EXTRACT(IF((`b`.`id` IS NOT NULL), 'true', 'false'), '$')",
		"a mod 2":                                 "(`a` % 2)",
		"a div 2":                                 "(`a` DIV 2)",
		"TRUE":                                    "TRUE",
		"'it''s'":                                 "_utf8mb4 X'69742773'",
		`'a\'`:                                    "_utf8mb4 X'615C'",
		"'\n'":                                    "_utf8mb4 X'0A'",
		"'ä'":                                     "_utf8mb4 X'C3A4'",
		"''":                                      "''",
		"'; DROP TABLE x; --'":                    "'; DROP TABLE x; --'",
		"`; DROP TABLE x; --`":                    "`; DROP TABLE x; --`",
	} {
		e, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := e.SQL(plainNames{}); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestWhatIsNotOneExpressionIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "byte 1 of the expression, at its end: want a value",
		"1; DROP TABLE x":                 `byte 2 of the expression, at "; DROP TABLE x": want one expression`,
		"1 -- x":                          "want one expression",
		"1 /* x */":                       "want one expression",
		"1 # x":                           "want one expression",
		"a, b":                            "want one expression",
		"@a":                              "want a value",
		"@@version":                       "want a value",
		"a := 1":                          "want one expression",
		"(SELECT 1)":                      "subqueries are not allowed",
		"EXISTS(SELECT 1)":                "subqueries are not allowed",
		"a IN (SELECT 1)":                 "subqueries are not allowed",
		"a IN ()":                         "at least one value",
		"a || b":                          "want one expression",
		"!a":                              "want a value",
		"a->'$.x'":                        "want a value",
		"f(":                              "want a value",
		"f(1":                             `want ")"`,
		"f(1,)":                           "want a value",
		"'a":                              "want a value",
		"`a":                              "want a value",
		"``":                              "want a value",
		"'a' 'b'":                         "want one expression",
		"1e5":                             "want a value",
		"0x1F":                            "want a value",
		"1 2":                             "want one expression",
		"a.b.c":                           "want one expression",
		"a.":                              "want the name of a column",
		"a = b = c":                       "want one expression",
		"a NOT 1":                         "want LIKE, IN or BETWEEN",
		"a IS 1":                          "want NULL",
		"CASE END":                        "want a value",
		"CASE a END":                      "want WHEN",
		"CASE WHEN a THEN 1":              "want END",
		"CAST(a AS BLOB)":                 "want one of SIGNED",
		"CAST(a AS CHAR(1.5))":            "want a number",
		"a COLLATE `x`":                   "want the name of a collation",
		"a COLLATE utf8; b":               "want one expression",
		"select":                          "want a value",
		"'\x00'":                          "want a value",
		"'\xff'":                          "want a value",
		"\u00a0a":                         "want a value",
		strings.Repeat("(", 200):          "want at most 100 things within each other",
		strings.Repeat("NOT ", 200) + "a": "want at most 100 things within each other",
		strings.Repeat("-", 199) + "a":    "want",
		strings.Repeat("a+", 9000):        "bytes: want at most",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"sleep(10)":                      "function SLEEP: not known",
		"load_file('/x')":                "function LOAD_FILE: not known",
		"uuid()":                         "function UUID: not known",
		"now()":                          "function NOW: not known",
		"rand()":                         "function RAND: not known",
		"last_insert_id()":               "function LAST_INSERT_ID: not known",
		"nullif(1)":                      "function NULLIF with 1 arguments: want 2 to 2",
		"1 + nowhere":                    "column nowhere: there is none",
		"bool()":                         "function BOOL with 0 arguments",
		"case nowhere when 1 then 2 end": "column nowhere",
		"cast(nowhere as date)":          "column nowhere",
		"1 between 1 and nowhere":        "column nowhere",
		"1 in (nowhere)":                 "column nowhere",
	} {
		e, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if _, err := e.SQL(plainNames{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := (Expr{}).SQL(plainNames{}); err == nil {
		t.Error("no expression was written")
	}
}

func TestWhatAnExpressionReads(t *testing.T) {
	e, err := Parse("IF(i.a = b AND CASE i.a WHEN c THEN 1 ELSE d END, LOWER(e), lower(i.a)) IN (x) AND CAST(y AS DATE) BETWEEN 1 AND z")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(e.Columns()); got != "[i.a b c d e x y z]" {
		t.Errorf("columns %s", got)
	}
	if got := fmt.Sprint(e.Calls()); got != "[IF LOWER]" {
		t.Errorf("functions %s", got)
	}
}

// outside returns what of a statement stands in no quotes.
func outside(sql string) string {
	var b strings.Builder
	for i := 0; i < len(sql); i++ {
		if c := sql[i]; c != '\'' && c != '`' {
			b.WriteByte(c)
			continue
		}
		quote := sql[i]
		for i++; i < len(sql); i++ {
			if sql[i] != quote {
				continue
			}
			if i+1 < len(sql) && sql[i+1] == quote {
				i++
				continue
			}
			break
		}
		b.WriteByte('q')
	}
	return b.String()
}

// TestAnd: conditions joined by AND, however deep, and by nothing else.
func TestAnd(t *testing.T) {
	for text, want := range map[string]string{
		"a":                                 "`a`",
		"a = 1 and b = 2":                   "(`a` = 1); (`b` = 2)",
		"a and (b and (c or d)) and e":      "`a`; `b`; (`c` OR `d`); `e`",
		"a or b and c":                      "(`a` OR (`b` AND `c`))",
		"not (a and b) and c":               "(NOT (`a` AND `b`)); `c`",
		"a between 1 and 2 and if(b, c, d)": "(`a` BETWEEN 1 AND 2); IF(`b`, `c`, `d`)",
	} {
		e, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range e.And() {
			sql, err := x.SQL(plainNames{})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, sql)
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// FuzzParse: whatever is read, nothing but operators, brackets and known words is
// written outside of quotes, and nothing in quotes can end them.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a", "1; DROP", "'it''s'", "`a``b`.c", "CASE a WHEN 1 THEN 'x' END",
		"CAST(a AS DECIMAL(3,1))", "a NOT IN (1,'\\'')", "json_object('a',b)", "a COLLATE utf8mb4_bin", "- - -1", "a/*b*/", "'\\'; --'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		sql, err := e.SQL(plainNames{})
		if err != nil {
			return
		}
		rest := outside(sql)
		for _, bad := range []string{";", "--", "/*", "*/", "#", "@", ":=", "\\", "\x00", "\n"} {
			if strings.Contains(rest, bad) {
				t.Errorf("%q is written as %s: %q outside of quotes", text, sql, bad)
			}
		}
		if strings.Count(rest, "(") != strings.Count(rest, ")") {
			t.Errorf("%q is written as %s: brackets", text, sql)
		}
		for _, w := range strings.FieldsFunc(rest, func(r rune) bool { return !isLetter(byte(r)) }) {
			if strings.EqualFold(w, "select") || strings.EqualFold(w, "into") {
				t.Errorf("%q is written as %s", text, sql)
			}
		}
		if strings.Contains(sql, `\`) && strings.Contains(strings.ReplaceAll(sql, "`", ""), `\'`) {
			t.Errorf("%q is written as %s: a backslash before a quote", text, sql)
		}
	})
}
