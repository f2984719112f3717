package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"holdfast/tools/source"
)

// maker is a place in the sources that makes things of a certain name.
type maker struct {
	name  *regexp.Regexp // of the thing; nil: path says it
	path  string
	where string // function and file
	exact int    // how much of a name it says
}

// readSources finds what the Go sources below root name: temporary files and folders,
// those of tests, absolute paths, and names with a number. tools make nothing that stays.
func readSources(root string) ([]maker, error) {
	var all []maker
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" || d.Name() == "tools") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		all = append(all, makersIn(f, rel)...)
		return nil
	})
	return all, err
}

func makersIn(f *ast.File, file string) (all []maker) {
	for _, d := range f.Decls {
		where := file
		fn, ok := d.(*ast.FuncDecl)
		if ok {
			where = fn.Name.Name + " in " + file
			if fn.Recv == nil && strings.HasSuffix(file, "_test.go") &&
				(strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
				all = append(all, maker{name: regexp.MustCompile("^" + fn.Name.Name + `.*[0-9]$`), where: where, exact: len(fn.Name.Name)})
			}
		}
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if m, ok := named(n); ok {
					m.where = where
					all = append(all, m)
				}
			case *ast.BasicLit:
				if s := text(n); absolute.MatchString(s) {
					all = append(all, maker{path: strings.TrimSuffix(s, "/"), where: where})
				}
			}
			return true
		})
	}
	return all
}

// absolute is a path in one of the places that has a name of its own.
var absolute = regexp.MustCompile(`^/(srv|etc|var/lib|var/tmp|tmp|run/netns)/[A-Za-z0-9][A-Za-z0-9._/-]+$`)

// numbered is a format of a name with a number in it.
var numbered = regexp.MustCompile(`^([a-z][a-z-]+)%d[a-z-]*$`)

// named is what a call makes that makes a name.
func named(call *ast.CallExpr) (maker, bool) {
	fn, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return maker{}, false
	}
	switch fn.Sel.Name {
	case "MkdirTemp", "CreateTemp":
		s := text(call.Args[len(call.Args)-1])
		before, after, _ := strings.Cut(s, "*")
		if len(before) < 2 {
			return maker{}, false
		}
		return maker{name: regexp.MustCompile("^" + regexp.QuoteMeta(before) + "[0-9]+" + regexp.QuoteMeta(after) + "$"), exact: len(s)}, true
	case "Sprintf":
		if m := numbered.FindStringSubmatch(text(call.Args[0])); m != nil {
			return maker{name: regexp.MustCompile("^" + regexp.QuoteMeta(m[1]) + "[0-9]+(-.*)?$"), exact: len(m[1])}, true
		}
	}
	return maker{}, false
}

// text is the value of a literal, "" of anything else.
func text(e ast.Expr) string {
	s, _ := source.Literal(e)
	return s
}

// whoMakes says which sources make such a thing, those that say most of its name; ""
// when none does. path may be a name.
func whoMakes(all []maker, path string) string {
	name, exact := filepath.Base(path), 0
	var who []string
	for _, m := range all {
		says := m.says(path, name)
		if says > exact {
			exact, who = says, nil
		}
		if says > 0 && says == exact && !slices.Contains(who, m.where) {
			who = append(who, m.where)
		}
	}
	if len(who) == 0 {
		return ""
	}
	if len(who) > 3 {
		who = append(who[:3], "others")
	}
	return "named as in " + strings.Join(who, " or ")
}

// says is how much of a thing's name the maker names, 0 when it makes others.
func (m maker) says(path, name string) int {
	switch {
	case m.name != nil && m.name.MatchString(name):
		return m.exact
	case m.path == "":
		return 0
	case within(path, []string{m.path}):
		return len(m.path)
	case within(m.path, []string{path}):
		return len(path)
	}
	return 0
}
