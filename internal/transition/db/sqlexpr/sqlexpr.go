// Package sqlexpr reads one SQL expression of a mapping and writes it anew. What is
// written is made of what was understood, never of the text that was read: a
// statement, a comment, a variable or a subquery can not come through. It knows the
// part of SQL that MySQL 5.6 to 8 and MariaDB 10.3 on understand alike, and that
// gives the same value for the same row each time.
package sqlexpr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds of an expression.
const (
	maxText  = 16 << 10 // bytes
	maxDepth = 100      // of what is within something else
)

// Expr is an expression that was understood.
type Expr struct{ root node }

// Column is the name of a column; Table is the name that the mapping gives its
// table, "" for the mapping's own source.
type Column struct{ Table, Name string }

func (c Column) String() string {
	if c.Table == "" {
		return c.Name
	}
	return c.Table + "." + c.Name
}

// Names is how what a mapping names is written in a statement.
type Names interface {
	// Column gives the SQL of a column.
	Column(c Column) (string, error)
	// Call gives the SQL of a function of the mapping's own language, whose arguments
	// are SQL already; ok is false for one that it does not know.
	Call(name string, args []string) (sql string, ok bool, err error)
}

// Parse reads an expression. The error says at which byte it is not understood,
// counted from 1, and what could stand there.
func Parse(text string) (Expr, error) {
	if len(text) > maxText {
		return Expr{}, fmt.Errorf("expression of %d bytes: want at most %d", len(text), maxText)
	}
	p := &parser{text: text}
	p.next()
	root := p.expr()
	if p.err == nil && p.tok.kind != tokEnd {
		p.fail("one expression, and nothing after it")
	}
	if p.err != nil {
		return Expr{}, p.err
	}
	return Expr{root}, nil
}

// Columns are the columns that it reads, each once, in the order of their first use.
func (e Expr) Columns() (out []Column) {
	e.walk(func(n node) {
		if c, ok := n.(column); ok && !slices.Contains(out, Column(c)) {
			out = append(out, Column(c))
		}
	})
	return out
}

// Calls are the functions that it calls, in upper case, each once, in the order of
// their first use.
func (e Expr) Calls() (out []string) {
	e.walk(func(n node) {
		if c, ok := n.(call); ok && !slices.Contains(out, c.name) {
			out = append(out, c.name)
		}
	})
	return out
}

func (e Expr) walk(f func(node)) {
	var visit func(node)
	visit = func(n node) {
		f(n)
		for _, x := range n.below() {
			visit(x)
		}
	}
	if e.root != nil {
		visit(e.root)
	}
}

// And are the conditions that must all hold for it, if it is several of them joined by
// AND; else it is the only one.
func (e Expr) And() []Expr {
	n, ok := e.root.(infix)
	if !ok || n.op != "AND" {
		return []Expr{e}
	}
	var out []Expr
	for _, a := range n.args {
		out = append(out, Expr{a}.And()...)
	}
	return out
}

// SQL writes the expression. A function that neither SQL's list here nor names know is
// an error, as is a column that names does not know.
func (e Expr) SQL(names Names) (string, error) {
	if e.root == nil {
		return "", errors.New("no expression")
	}
	return e.root.sql(names)
}

// functions of SQL, with the fewest and the most arguments that they take. None
// reads anything but its arguments: no clock, no chance, no session, no file.
var functions = map[string][2]int{
	"ABS": {1, 1}, "CEIL": {1, 1}, "CHAR_LENGTH": {1, 1}, "COALESCE": {1, 99}, "CONCAT": {1, 99}, "CONCAT_WS": {2, 99},
	"DATE_FORMAT": {2, 2}, "FLOOR": {1, 1}, "GREATEST": {2, 99}, "HEX": {1, 1}, "IF": {3, 3}, "IFNULL": {2, 2}, "INSTR": {2, 2},
	"JSON_ARRAY": {0, 99}, "JSON_EXTRACT": {2, 9}, "JSON_MERGE_PATCH": {2, 9}, "JSON_OBJECT": {0, 198}, "JSON_QUOTE": {1, 1},
	"JSON_REMOVE": {2, 9}, "JSON_SET": {3, 99}, "JSON_UNQUOTE": {1, 1}, "JSON_VALID": {1, 1}, "LEAST": {2, 99}, "LEFT": {2, 2},
	"LENGTH": {1, 1}, "LOWER": {1, 1}, "LPAD": {3, 3}, "LTRIM": {1, 1}, "MD5": {1, 1}, "NULLIF": {2, 2}, "REPLACE": {3, 3},
	"RIGHT": {2, 2}, "ROUND": {1, 2}, "RPAD": {3, 3}, "RTRIM": {1, 1}, "SHA1": {1, 1}, "SHA2": {2, 2}, "SUBSTRING": {2, 3},
	"SUBSTRING_INDEX": {3, 3}, "TRIM": {1, 1}, "UNHEX": {1, 1}, "UPPER": {1, 1},
}

// Quote writes a name so that it is one name in a statement, whatever is in it.
func Quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// Literal writes a text so that it is one text in a statement, whatever is in it and
// whatever the session's sql_mode is. What is not plain is written in hexadecimal.
func Literal(text string) string {
	plain := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' || r == '\'' }) < 0
	if plain {
		return "'" + text + "'"
	}
	return fmt.Sprintf("_utf8mb4 X'%X'", text)
}

// Column is the column that the expression is, if it is nothing else.
func (e Expr) Column() (Column, bool) {
	c, ok := e.root.(column)
	return Column(c), ok
}
