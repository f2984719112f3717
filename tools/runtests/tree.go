package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/tools/source"
)

// pkg is a package of the tree, as `go list` knows it.
type pkg struct {
	ImportPath, Dir                    string
	Imports                            []string
	GoFiles, TestGoFiles, XTestGoFiles []string
	TestImports, XTestImports          []string
	own                                []string // functions of need that its files, tests or not, call
	doc                                string   // the first sentence of its comment
	goes                               bool     // its sources begin goroutines
	drills                             []drill
	fuzz                               []drill
}

// drill is what `make drills` runs alone.
type drill struct {
	Name   string   // "PACKAGE/TestX", which is how people name it; PACKAGE is below holdfast/internal/ or holdfast/
	Proves string   // which promise, or what of a source document, a pass is evidence for
	File   string   // where it is declared, "" for those of no test
	pkg    string   // import path
	args   []string // of go, a test where the first one is "test"
}

// packages reads the tree.
func packages(ctx context.Context) ([]*pkg, error) {
	cmd := exec.CommandContext(ctx, "go", "list",
		"-json=ImportPath,Dir,Imports,GoFiles,TestGoFiles,XTestGoFiles,TestImports,XTestImports", "./...")
	cmd.Stderr = os.Stderr
	raw, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []*pkg
	for d := json.NewDecoder(strings.NewReader(string(raw))); ; {
		p := new(pkg)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			if err := p.look(filepath.Join(p.Dir, name)); err != nil {
				return nil, err
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// needPackage is the package by which tests say what they need.
const needPackage = "holdfast/testbed/need"

// look finds in a file what it says of tests.
func (p *pkg) look(file string) error {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		return err
	}
	if f.Doc != nil {
		p.doc = new(doc.Package).Synopsis(f.Doc.Text())
	}
	test := strings.HasSuffix(file, "_test.go")
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if name := needs(n); name != "" {
				p.own = append(p.own, name)
			}
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Go" { // sync.WaitGroup's
				p.goes = p.goes || !test
			}
		case *ast.GoStmt:
			p.goes = p.goes || !test
		}
		return true
	})
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || fn.Body == nil || !test {
			continue
		}
		name := fn.Name.Name
		at := drill{Name: strings.TrimPrefix(short(p.ImportPath), "internal/") + "/" + name, pkg: p.ImportPath, File: relative(file)}
		if strings.HasPrefix(name, "Fuzz") {
			at.Proves = "P7: no input makes it panic or contradict itself"
			at.args = []string{"test", "-run=^$", "-fuzz=^" + name + "$", "-fuzztime=30s", "-fuzzminimizetime=10x", p.ImportPath}
			p.fuzz = append(p.fuzz, at)
		}
		for _, s := range fn.Body.List {
			if x, ok := s.(*ast.ExprStmt); ok && needs(x.X) == "Drill" {
				if at.Proves, err = proves(x.X.(*ast.CallExpr)); err != nil {
					return fmt.Errorf("%s: %s: %w", file, name, err)
				}
				at.args = []string{"test", "-count=1", "-timeout=3h", "-run=^" + name + "$", p.ImportPath}
				p.drills = append(p.drills, at)
			}
		}
	}
	return nil
}

// rest is the drill of all tests of a package that are no drills themselves.
func (p *pkg) rest() drill {
	var names []string
	for _, d := range p.drills {
		names = append(names, d.Name[strings.LastIndexByte(d.Name, '/')+1:])
	}
	return drill{Name: strings.TrimPrefix(short(p.ImportPath), "internal/"), Proves: p.doc, pkg: p.ImportPath,
		args: []string{"test", "-count=1", "-timeout=3h", "-skip=^(" + strings.Join(names, "|") + ")$", p.ImportPath}}
}

// relative is a file's name from the root of the tree.
func relative(file string) string {
	root, err := os.Getwd()
	if err != nil {
		return file
	}
	if rel, err := filepath.Rel(root, file); err == nil {
		return rel
	}
	return file
}

// needs is the function of package need that is called, "" if none is.
func needs(x ast.Expr) string {
	c, ok := x.(*ast.CallExpr)
	if !ok {
		return ""
	}
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if of, ok := s.X.(*ast.Ident); ok && of.Name == "need" {
		return s.Sel.Name
	}
	return ""
}

// proves is the constant that a call of need.Drill has.
func proves(c *ast.CallExpr) (string, error) {
	if len(c.Args) > 1 {
		if s, ok := source.Literal(c.Args[1]); ok {
			return s, nil
		}
	}
	return "", errors.New("need.Drill: want a string constant that says what a pass proves")
}

// real says which packages have tests on real components: their files, or those of a helper
// of this tree that they import, call need.Real.
func realOnes(all []*pkg) map[string]bool {
	by := map[string]*pkg{}
	for _, p := range all {
		by[p.ImportPath] = p
	}
	memo := map[string]bool{}
	var helper func(path string) bool
	helper = func(path string) bool {
		p := by[path]
		if p == nil || path == needPackage {
			return false
		}
		if known, ok := memo[path]; ok {
			return known
		}
		memo[path] = false
		memo[path] = callsInSources(p) || slices.ContainsFunc(p.Imports, helper)
		return memo[path]
	}
	out := map[string]bool{}
	for _, p := range all {
		if slices.Contains(p.own, "Real") || slices.ContainsFunc(slices.Concat(p.TestImports, p.XTestImports), helper) {
			out[p.ImportPath] = true
		}
	}
	return out
}

// callsInSources says whether files of a package that are no tests call need.Real: it is a helper of tests.
func callsInSources(p *pkg) bool {
	return slices.Contains(p.own, "Real") && slices.Contains(p.Imports, needPackage)
}
