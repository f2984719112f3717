package sqlexpr

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// parser reads an expression by recursive descent, the weakest operator first.
type parser struct {
	text  string
	pos   int
	tok   token
	depth int
	err   error
}

// reserved are words that can not be a column's bare name.
var reserved = []string{
	"AND", "AS", "BETWEEN", "CASE", "CAST", "COLLATE", "DIV", "ELSE", "END", "FALSE", "IN", "IS", "LIKE", "MOD", "NOT", "NULL", "OR",
	"SELECT", "THEN", "TRUE", "WHEN", "XOR", "REGEXP", "RLIKE", "INTERVAL", "BINARY", "EXISTS", "FROM", "WHERE", "UNION", "INTO",
}

// fail notes the first error, at the token that is there.
func (p *parser) fail(want string) {
	if p.err == nil {
		there := "its end"
		if p.tok.at < len(p.text) {
			there = fmt.Sprintf("%.40q", p.text[p.tok.at:])
		}
		p.err = fmt.Errorf("byte %d of the expression, at %s: want %s", p.tok.at+1, there, want)
	}
	p.tok = token{kind: tokEnd, at: len(p.text)} // nothing more is read
	p.pos = len(p.text)
}

// sign takes an operator or bracket, if it is there.
func (p *parser) sign(s string) bool {
	if p.tok.kind != tokSign || p.tok.text != s {
		return false
	}
	p.next()
	return true
}

// word takes a bare word, if it is there.
func (p *parser) word(w string) bool {
	if p.tok.upper() != w {
		return false
	}
	p.next()
	return true
}

func (p *parser) must(s string) {
	if !p.sign(s) {
		p.fail(fmt.Sprintf("%q", s))
	}
}

func (p *parser) mustWord(w string) {
	if !p.word(w) {
		p.fail(w)
	}
}

// deeper counts what is within something else; the function that it returns ends that.
func (p *parser) deeper() func() {
	if p.depth++; p.depth > maxDepth {
		p.fail(fmt.Sprintf("at most %d things within each other", maxDepth))
	}
	return func() { p.depth-- }
}

// expr reads a whole expression.
func (p *parser) expr() node {
	defer p.deeper()()
	return p.chain("OR", func() node { return p.chain("AND", p.not) })
}

// chain reads operands with a word between them.
func (p *parser) chain(op string, operand func() node) node {
	args := []node{operand()}
	for p.word(op) {
		args = append(args, operand())
	}
	if len(args) == 1 {
		return args[0]
	}
	return infix{op, args}
}

func (p *parser) not() node {
	defer p.deeper()()
	if p.word("NOT") {
		return prefix{"NOT", p.not()}
	}
	return p.compare()
}

// compare reads at most one comparison: a chain of them means nothing that somebody
// would want.
func (p *parser) compare() node {
	x := p.sum()
	for _, op := range []string{"=", "<=>", "<>", "!=", "<=", ">=", "<", ">"} {
		if p.sign(op) {
			return infix{op, []node{x, p.sum()}}
		}
	}
	if p.word("IS") {
		op := "IS NULL"
		if p.word("NOT") {
			op = "IS NOT NULL"
		}
		p.mustWord("NULL")
		return suffix{x, op}
	}
	no := ""
	if p.tok.upper() == "NOT" {
		no = "NOT "
		p.next()
	}
	switch {
	case p.word("LIKE"):
		return infix{no + "LIKE", []node{x, p.sum()}}
	case p.word("IN"):
		p.must("(")
		args := p.args()
		if len(args) == 0 {
			p.fail("at least one value")
		}
		return list{x, no + "IN", args}
	case p.word("BETWEEN"):
		from := p.sum()
		p.mustWord("AND")
		return between{x, from, p.sum(), no + "BETWEEN"}
	case no != "":
		p.fail("LIKE, IN or BETWEEN")
	}
	return x
}

func (p *parser) sum() node {
	x := p.product()
	for {
		switch {
		case p.sign("+"):
			x = infix{"+", []node{x, p.product()}}
		case p.sign("-"):
			x = infix{"-", []node{x, p.product()}}
		default:
			return x
		}
	}
}

func (p *parser) product() node {
	x := p.unary()
	for {
		op := ""
		switch {
		case p.sign("*"):
			op = "*"
		case p.sign("/"):
			op = "/"
		case p.sign("%"), p.word("MOD"):
			op = "%"
		case p.word("DIV"):
			op = "DIV"
		default:
			return x
		}
		x = infix{op, []node{x, p.unary()}}
	}
}

func (p *parser) unary() node {
	defer p.deeper()()
	if p.sign("-") {
		return prefix{"-", p.unary()}
	}
	x := p.primary()
	for p.word("COLLATE") {
		name := p.tok.text
		if p.tok.kind != tokWord || !collation.MatchString(name) {
			p.fail("the name of a collation, such as utf8mb4_bin")
			return x
		}
		p.next()
		x = suffix{x, "COLLATE " + name}
	}
	return x
}

var collation = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)

func (p *parser) primary() node {
	t := p.tok
	switch t.kind {
	case tokNumber:
		p.next()
		return number(t.text)
	case tokText:
		p.next()
		return text(t.text)
	case tokName:
		p.next()
		return p.column(t.text)
	case tokSign:
		if p.sign("(") {
			x := p.expr()
			p.must(")")
			return x
		}
	case tokWord:
		return p.named(t)
	}
	p.fail("a value: a column, a number, a 'text', NULL, a function, CASE or (")
	return word("NULL")
}

// named reads what begins with a bare word.
func (p *parser) named(t token) node {
	switch w := t.upper(); {
	case w == "NULL" || w == "TRUE" || w == "FALSE":
		p.next()
		return word(w)
	case w == "CASE":
		p.next()
		return p.choice()
	case w == "CAST":
		p.next()
		return p.cast()
	case slices.Contains(reserved, w):
		p.fail("a value: SQL's own word is a name only in backquotes, and subqueries are not allowed")
		return word("NULL")
	}
	p.next()
	if p.sign("(") {
		return call{strings.ToUpper(t.text), p.args()}
	}
	return p.column(t.text)
}

// column reads the rest of a column's name.
func (p *parser) column(first string) node {
	if !p.sign(".") {
		return column{Name: first}
	}
	t := p.tok
	if t.kind != tokName && t.kind != tokWord {
		p.fail("the name of a column")
		return word("NULL")
	}
	p.next()
	return column{Table: first, Name: t.text}
}

// args reads the arguments of a call and the bracket after them.
func (p *parser) args() (out []node) {
	if p.sign(")") {
		return nil
	}
	for {
		out = append(out, p.expr())
		if !p.sign(",") {
			p.must(")")
			return out
		}
	}
}

func (p *parser) choice() node {
	var c choice
	if p.tok.upper() != "WHEN" {
		c.of = p.expr()
	}
	for p.word("WHEN") {
		when := p.expr()
		p.mustWord("THEN")
		c.whens = append(c.whens, [2]node{when, p.expr()})
	}
	if len(c.whens) == 0 {
		p.fail("WHEN")
	}
	if p.word("ELSE") {
		c.other = p.expr()
	}
	p.mustWord("END")
	return c
}

// types that a value can be cast to, alike on all servers.
var types = []string{"SIGNED", "UNSIGNED", "CHAR", "DATETIME", "DATE", "DECIMAL"}

func (p *parser) cast() node {
	p.must("(")
	x := p.expr()
	p.mustWord("AS")
	as := p.tok.upper()
	if !slices.Contains(types, as) {
		p.fail("one of " + strings.Join(types, ", "))
		return x
	}
	p.next()
	if (as == "CHAR" || as == "DECIMAL") && p.sign("(") {
		as += "(" + p.digits()
		if as[:4] == "DECI" && p.sign(",") {
			as += "," + p.digits()
		}
		p.must(")")
		as += ")"
	}
	p.must(")")
	return cast{x, as}
}

func (p *parser) digits() string {
	t := p.tok
	if t.kind != tokNumber || strings.Contains(t.text, ".") || len(t.text) > 5 {
		p.fail("a number")
		return "1"
	}
	p.next()
	return t.text
}
