package reason

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// made are the codes by the names of their variables in codes.go.
func made(t *testing.T, set *token.FileSet) map[string]*Code {
	t.Helper()
	f, err := parser.ParseFile(set, "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*Code{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		name, err := strconv.Unquote(v.Values[0].(*ast.CallExpr).Args[0].(*ast.BasicLit).Value)
		if err != nil || codes[name] == nil {
			t.Errorf("%s: code %q: %v", v.Names[0].Name, name, err)
		}
		out[v.Names[0].Name] = codes[name]
		return true
	})
	if len(out) != len(codes) || len(out) == 0 {
		t.Errorf("%d variables for %d codes: two have one name", len(out), len(codes))
	}
	return out
}

// TestReasonsHaveTheirArguments: whoever makes a reason gives it the arguments that its
// text names, and every code is made somewhere.
func TestReasonsHaveTheirArguments(t *testing.T) {
	set := token.NewFileSet()
	all := made(t, set)
	used := map[string]bool{}
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		f, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			with, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || with.Sel.Name != "With" {
				return true
			}
			code, ok := with.X.(*ast.SelectorExpr)
			if !ok || all[code.Sel.Name] == nil {
				return true
			}
			if from, ok := code.X.(*ast.Ident); !ok || from.Name != "reason" {
				return true
			}
			used[code.Sel.Name] = used[code.Sel.Name] || !strings.HasSuffix(path, "_test.go")
			if want := all[code.Sel.Name].args; len(call.Args) != len(want) {
				t.Errorf("%s: %s has %d arguments, its text names %q", set.Position(call.Pos()), code.Sel.Name, len(call.Args), want)
			}
			for _, arg := range all[code.Sel.Name].args {
				if strings.Contains(path, "/ha/") && arg != "host" && arg != "why" {
					t.Errorf("%s: %s names %s: an owner record has host and why alone", set.Position(call.Pos()), code.Sel.Name, arg)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range all {
		if !used[name] {
			t.Errorf("nobody makes the reason %s", name)
		}
	}
}

// TestTextsAreWhole renders all codes.
func TestTextsAreWhole(t *testing.T) {
	for name, c := range codes {
		var values []any
		for _, a := range c.args {
			values = append(values, "<"+a+">")
		}
		r := c.With(values...)
		text := Text(r)
		if text == "" || strings.ContainsAny(text, "{}") || !r.Is(c) {
			t.Errorf("%s: %q", name, text)
		}
		for _, v := range values {
			if !strings.Contains(text, v.(string)) {
				t.Errorf("%s: %q does not name %s", name, text, v)
			}
		}
		if at := Text(c.With(values...).At("h1/x")); !slices.Contains(c.args, "step") && at != "h1/x: "+text {
			t.Errorf("%s of a step: %q", name, at)
		}
	}
}

func TestSaid(t *testing.T) {
	failed, later := StepFailed.With("h1/x", "{step} {user}"), Reason{Code: "of a later version"}
	for want, got := range map[string]string{
		"h1/x failed: {step} {user}":                 Said("old", failed), // arguments are not looked into
		"h1/x failed":                                Said("", StepFailed.With("h1/x", "")),
		"h1/x failed: {step} {user}; aborted by ann": Said("old", failed, AbortedBy.With("ann")),
		"in old words":                               Said("in old words"),
		"in new words":                               Said("in new words", failed, later),
		"h2/x: waits for h1 to come back":            Text(ComesBack.With("h1").At("h2/x")),
		"waits for h1; later-version host=h2 why=x; the canary hosts are not done": Text(
			StepFirst.With("h1"), Reason{Code: "later-version", Args: map[string]string{"why": "x", "host": "h2"}}, CanaryFirst.With()),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestStoredForm: programs of other versions read it.
func TestStoredForm(t *testing.T) {
	b, err := json.Marshal([]Reason{NotApproved.With("h1").At("h1/x"), CanaryFirst.With()})
	if want := `[{"code":"not-approved","args":{"host":"h1","step":"h1/x"}},{"code":"canary-first"}]`; err != nil || string(b) != want {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
	if !(Reason{}).IsZero() || CanaryFirst.With().IsZero() {
		t.Error("the zero value is no reason")
	}
}
