package holdfast_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/tools/source"
)

// TestDrillsSayWhatTheyProve: tools/runtests reads the sources of tests to find drills, and finds only a statement of a
// top-level test's own body, with a constant. A call elsewhere would make a test that never runs.
func TestDrillsSayWhatTheyProve(t *testing.T) {
	eachTestFile(t, func(path string, f *ast.File, _ map[string]string) {
		good := map[*ast.CallExpr]bool{}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") || !strings.HasSuffix(path, "_test.go") {
				continue
			}
			for _, s := range fn.Body.List {
				if x, ok := s.(*ast.ExprStmt); ok {
					if c, ok := x.X.(*ast.CallExpr); ok && calls(c, "need", "Drill") {
						good[c] = len(c.Args) > 1 && isText(c.Args[1])
					}
				}
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && calls(c, "need", "Drill") && !good[c] {
				t.Errorf("%s: need.Drill: want it as a statement of the body of a top-level test, with a string "+
					"constant that says what a pass proves", path)
			}
			return true
		})
	})
}

// asked are the environment variables that tests may read, by why. How much runs is told by need.Variable alone.
var asked = map[string][]string{
	"it is need.Variable":                                      {"HOLDFAST_TESTS"},
	"a test puts its own programs before it":                   {"PATH"},
	"a terminal's kind":                                        {"TERM"},
	"its kernel's module gives it to a handler":                {"DRBD_RESOURCE"},
	"a measurement, which bench/run.sh asks for":               {"HOLDFAST_BENCH_RESULTS", "HOLDFAST_DRILL_RUNS", "HOLDFAST_DRILL_RESULTS"},
	"a vendor's files, which are not ours to have in the tree": {"HOLDFAST_APPCTL_SCRIPTS", "HOLDFAST_APPCTL_PACKAGE", "HOLDFAST_DRBD_MODULE"},
	"a device that resets the machine":                         {"HOLDFAST_TEST_WATCHDOG", "HOLDFAST_TEST_WATCHDOG_FIRE"},
	"an emulated host, whose units of systemd are a test's":    {"HOLDFAST_TEST_SYSTEMD"},
	"it prints more":                                           {"ENGINE_TEST_LOG"},
	"what a program of the product is told":                    {"HOLDFAST_SOCKET"},
	"a test tells its own program, which it runs again, what to do": {
		"COPIER_CHILD", "COPIER_SOURCE", "COPIER_TARGET", "FORK", "HOLDFAST_FOLLOW_CHILD", "HOLDFAST_LIBVIRT_TEST_HOST",
		"HOLDFAST_LIBVIRT_TEST_MOVER", "HOLDFAST_NET_CHILD", "HOLDFAST_TEST_AGENT", "HOLDFAST_TEST_BEGAN", "HOLDFAST_TEST_DURABLE_WRITES",
		"HOLDFAST_TEST_LVM", "HOLDFAST_TEST_MACHINE", "HOLDFAST_TEST_MOUNT", "HOLDFAST_TEST_OWN_NETWORK", "HOLDFAST_TEST_PIN_AND_HANG",
		"HOLDFAST_TEST_SETUP_LOCK", "HOLDFAST_TEST_UMASK", "HOLDFAST_TEST_WATCHDOG_ROLE", "PROBE_DIR", "PROGRAM_TEST_STAGE",
	},
}

// TestNoTestReadsHowMuchToDo: a test that takes long is a drill of its own, which `make drills` finds and runs. One that does more
// when a variable is set is run by nobody.
func TestNoTestReadsHowMuchToDo(t *testing.T) {
	allowed := slices.Concat(slices.Collect(maps.Values(asked))...)
	eachTestFile(t, func(path string, f *ast.File, constants map[string]string) {
		if strings.HasPrefix(path, "bench/") {
			return // figures that are asked for, by bench/run.sh
		}
		ast.Inspect(f, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok || !calls(c, "os", "Getenv") && !calls(c, "os", "LookupEnv") || len(c.Args) != 1 {
				return true
			}
			name := ""
			switch x := c.Args[0].(type) {
			case *ast.BasicLit:
				name, _ = strconv.Unquote(x.Value)
			case *ast.Ident:
				name = constants[x.Name]
			case *ast.SelectorExpr:
				return true // of the product, as what a guest's process is told
			}
			if !slices.Contains(allowed, name) {
				t.Errorf("%s reads the environment variable %q: make what it asks for a drill", path, name)
			}
			return true
		})
	})
}

// eachTestFile calls f with every test, and every file of packages for tests, with the text constants of its folder.
func eachTestFile(t *testing.T, f func(path string, file *ast.File, constants map[string]string)) {
	t.Helper()
	folders := map[string]map[string]*ast.File{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || d.Name() == "bin" || d.Name() == "out"):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go") && !(strings.HasPrefix(path, "testbed/") && strings.HasSuffix(path, ".go")):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if dir := filepath.Dir(path); folders[dir] == nil {
			folders[dir] = map[string]*ast.File{path: file}
		} else {
			folders[dir][path] = file
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range folders {
		constants := map[string]string{}
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				if v, ok := n.(*ast.ValueSpec); ok {
					for i, name := range v.Names {
						if i < len(v.Values) && isText(v.Values[i]) {
							constants[name.Name], _ = source.Literal(v.Values[i])
						}
					}
				}
				return true
			})
		}
		for path, file := range files {
			f(path, file, constants)
		}
	}
}

// calls says whether a call is one of a function of a package.
func calls(c *ast.CallExpr, pkg, name string) bool {
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}

func isText(x ast.Expr) bool { _, ok := source.Literal(x); return ok }
