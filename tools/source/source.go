// Package source reads Go's syntax for the tools and tests that look at this project's own source.
package source

import (
	"go/ast"
	"go/token"
	"strconv"
)

// Literal is the value of a string that is written with literals alone: one, or a sum of some. false: e is something else.
func Literal(e ast.Expr) (string, bool) {
	switch x := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(x.Value)
		return s, err == nil && x.Kind == token.STRING
	case *ast.ParenExpr:
		return Literal(x.X)
	case *ast.BinaryExpr:
		a, ok := Literal(x.X)
		b, also := Literal(x.Y)
		return a + b, ok && also && x.Op == token.ADD
	}
	return "", false
}
