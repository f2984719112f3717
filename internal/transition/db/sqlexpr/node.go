package sqlexpr

import (
	"fmt"
	"strings"
)

// node is a part of an expression.
type node interface {
	below() []node
	sql(Names) (string, error)
}

type (
	// number is digits with at most one point.
	number string
	// text is a text, as it is meant.
	text string
	// word is NULL, TRUE or FALSE.
	word string

	column Column

	call struct {
		name string // upper case
		args []node
	}
	// infix is operands with one operator between any two of them.
	infix struct {
		op   string
		args []node
	}
	// prefix is an operator before its operand.
	prefix struct {
		op  string
		arg node
	}
	// suffix is an operand with what follows it.
	suffix struct {
		arg node
		op  string
	}
	// list is X IN (A, B).
	list struct {
		arg  node
		op   string // IN or NOT IN
		args []node
	}
	// between is X BETWEEN A AND B.
	between struct {
		arg, from, to node
		op            string
	}
	// choice is CASE.
	choice struct {
		of    node // nil: each when is a condition
		whens [][2]node
		other node // nil: none
	}
	cast struct {
		arg node
		as  string
	}
)

func (number) below() []node   { return nil }
func (text) below() []node     { return nil }
func (word) below() []node     { return nil }
func (column) below() []node   { return nil }
func (n call) below() []node   { return n.args }
func (n infix) below() []node  { return n.args }
func (n prefix) below() []node { return []node{n.arg} }
func (n suffix) below() []node { return []node{n.arg} }
func (n list) below() []node   { return append([]node{n.arg}, n.args...) }
func (n between) below() []node {
	return []node{n.arg, n.from, n.to}
}
func (n cast) below() []node { return []node{n.arg} }
func (n choice) below() (out []node) {
	if n.of != nil {
		out = append(out, n.of)
	}
	for _, w := range n.whens {
		out = append(out, w[0], w[1])
	}
	if n.other != nil {
		out = append(out, n.other)
	}
	return out
}

func (n number) sql(Names) (string, error)       { return string(n), nil }
func (n text) sql(Names) (string, error)         { return Literal(string(n)), nil }
func (n word) sql(Names) (string, error)         { return string(n), nil }
func (n column) sql(names Names) (string, error) { return names.Column(Column(n)) }

// all writes several parts.
func all(names Names, parts ...node) ([]string, error) {
	out := make([]string, 0, len(parts))
	for _, p := range parts {
		s, err := p.sql(names)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (n call) sql(names Names) (string, error) {
	args, err := all(names, n.args...)
	if err != nil {
		return "", err
	}
	if s, ok, err := names.Call(n.name, args); ok || err != nil {
		return s, err
	}
	take, known := functions[n.name]
	switch {
	case !known:
		return "", fmt.Errorf("function %.64s: not known", n.name)
	case len(args) < take[0] || len(args) > take[1]:
		return "", fmt.Errorf("function %s with %d arguments: want %d to %d", n.name, len(args), take[0], take[1])
	}
	return n.name + "(" + strings.Join(args, ", ") + ")", nil
}

func (n infix) sql(names Names) (string, error) {
	args, err := all(names, n.args...)
	return "(" + strings.Join(args, " "+n.op+" ") + ")", err
}

func (n prefix) sql(names Names) (string, error) {
	arg, err := n.arg.sql(names)
	return "(" + n.op + " " + arg + ")", err
}

func (n suffix) sql(names Names) (string, error) {
	arg, err := n.arg.sql(names)
	return "(" + arg + " " + n.op + ")", err
}

func (n list) sql(names Names) (string, error) {
	args, err := all(names, n.below()...)
	if err != nil {
		return "", err
	}
	return "(" + args[0] + " " + n.op + " (" + strings.Join(args[1:], ", ") + "))", nil
}

func (n between) sql(names Names) (string, error) {
	args, err := all(names, n.below()...)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("(%s %s %s AND %s)", args[0], n.op, args[1], args[2]), nil
}

func (n cast) sql(names Names) (string, error) {
	arg, err := n.arg.sql(names)
	return "CAST(" + arg + " AS " + n.as + ")", err
}

func (n choice) sql(names Names) (string, error) {
	args, err := all(names, n.below()...)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("(CASE")
	if n.of != nil {
		b.WriteString(" " + args[0])
		args = args[1:]
	}
	for range n.whens {
		b.WriteString(" WHEN " + args[0] + " THEN " + args[1])
		args = args[2:]
	}
	if n.other != nil {
		b.WriteString(" ELSE " + args[0])
	}
	b.WriteString(" END)")
	return b.String(), nil
}
