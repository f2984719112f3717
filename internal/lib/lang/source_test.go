package lang

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"holdfast/tools/source"
)

// messages reads from the source which texts people see: of every string of two words or
// more the lines, texts of help as a whole, and words that stand alone in tables. What is
// put together with + is a format with %s for each value.
func messages(t *testing.T) map[string]bool {
	t.Helper()
	out := make(map[string]bool)
	for _, s := range slices.Concat(foreign, composed) {
		out[s] = true
	}
	for _, pattern := range []string{"upgrade/catalogue/*.yaml", "upgrade/check/faults/*.yaml", "transition/db/profile/*/advice/*.yaml"} {
		files, err := filepath.Glob("../../" + pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var doc yaml.Node
			if err := yaml.Unmarshal(text, &doc); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			sentences(&doc, out)
		}
	}
	for _, top := range []string{"../../../internal", "../../../cmd", "../../../testbed"} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel("../../..", path)
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "testdata" || rel == "internal/lib/lang" || rel == "internal/api/v1" ||
				rel == "internal/web/rest" || // what programs are told is in English
				d.IsDir() && strings.HasSuffix(d.Name(), "test")):
				return filepath.SkipDir
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Walk(&reader{out: out, dir: filepath.Dir(rel), file: filepath.Base(rel)}, f)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// spoken are the packages whose errors people read as reasons, findings and refusals. Those of others come wrapped in these, as
// what a system call, a library or a server said, and stay as they were said.
var spoken = regexp.MustCompile(`^(cmd/|testbed/demo|internal/(agent|api|cli|cluster|config|ha|install|job$|pair|server|upgrade/check|upgrade$|transition$|host/libvirt))`)

// sentences takes the texts of a document, where they are for people: a file of ours has
// messages in it, too.
func sentences(n *yaml.Node, out map[string]bool) {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && (i%2 == 0 || n.Content[i-1].Value == "match") {
			continue
		}
		sentences(c, out)
	}
	if n.Kind == yaml.ScalarNode && len(strings.Fields(n.Value)) > 2 {
		out[strings.TrimSpace(n.Value)] = true
	}
}

// reader collects the messages of a file.
type reader struct {
	out       map[string]bool
	dir, file string
}

var (
	twoWords = regexp.MustCompile(`[A-Za-z]{2}[,:;]? +[A-Za-z%{]|[A-Za-z}]+ [A-Za-z]{2}`)
	aWord    = regexp.MustCompile(`^[a-zA-Z][a-zA-Z-]+$`)
	flagFunc = regexp.MustCompile(`^(String|Bool|Duration|Int|Int64|Uint|Float64|StringArray|StringSlice|Var)(Var)?P?$`)
	// notShown are calls whose strings are for programs: statements, logs, patterns, paths.
	notShown = regexp.MustCompile(`^(MustCompile|Exec|Query|QueryRow|ExecContext|QueryContext|QueryRowContext|PrepareContext|Debug|Info|Warn|Error|Log|Command|CommandContext|Getenv|Contains|HasPrefix|HasSuffix|TrimPrefix|TrimSuffix|CutPrefix|Cut|Index|Fields|panic|Absent)$`)
	// statement begins what is SQL.
	statement = regexp.MustCompile(`^\W*(SELECT|INSERT|UPDATE|DELETE|SHOW|SET|CREATE|DROP|ALTER|REPLACE|LOCK|UNLOCK|FLUSH|START|STOP|CHANGE|RESET|GRANT|REVOKE|USE|WITH|FROM|WHERE|AND|OR|ON|IN|IS|AS|ORDER|GROUP|LIMIT|UNION|JOIN|LEFT|KILL|PURGE|BACKUP|CALL|DECLARE|BEGIN|END|IF|CASE|WHEN|THEN|ELSE|CONSTRAINT|PRIMARY|UNIQUE|FOREIGN|KEY|NOT|NULL|DEFAULT|VALUES|XA)\b`)
)

// Visit follows the shapes in which messages stand in the source.
func (r *reader) Visit(n ast.Node) ast.Visitor {
	switch x := n.(type) {
	case *ast.ImportSpec, *ast.Comment:
		return nil
	case *ast.Field:
		if x.Tag != nil {
			return nil
		}
	case *ast.GenDecl:
		if x.Tok == token.CONST {
			r.words(x)
		}
	case *ast.CallExpr:
		name := callee(x.Fun)
		if r.onPages() && name == "T" && len(x.Args) == 1 {
			r.whole(x.Args[0])
			if _, made := x.Args[0].(*ast.CallExpr); !made {
				return nil
			}
		}
		if r.onPages() && (name == "Sprintf" || name == "Errorf" || name == "With") {
			for _, e := range x.Args {
				if s, ok := source.Literal(e); ok && twoWords.MatchString(hole.ReplaceAllString(s, "%s")) {
					r.out[s] = true
				}
			}
		}
		switch {
		case notShown.MatchString(name):
			return nil
		case !spoken.MatchString(r.dir) && (name == "Errorf" && qualifier(x.Fun) == "fmt" || name == "New" && qualifier(x.Fun) == "errors"):
			for _, e := range x.Args[1:] {
				ast.Walk(r, e)
			}
			return nil
		case r.dir == "testbed/lab" && name == "With" && len(x.Args) == 1:
			if s, ok := source.Literal(x.Args[0]); ok && twoWords.MatchString(s) {
				r.out[s] = true
			}
		case r.dir == "testbed/lab" && name == "Errorf" && qualifier(x.Fun) == "fail":
			if s, ok := source.Literal(x.Args[1]); ok && twoWords.MatchString(s) {
				r.out[s] = true
			}
		case r.dir == "testbed/lab" && (name == "one" || name == "two") && len(x.Args) > 1: // commands, with what each does
			if s, ok := source.Literal(x.Args[1]); ok {
				r.out[s] = true
			}
		case flagFunc.MatchString(name) && len(x.Args) > 2:
			if s, ok := source.Literal(x.Args[len(x.Args)-1]); ok {
				r.out[s] = true
				return nil
			}
		case name == "Say" && len(x.Args) > 3 && r.inCLI():
			r.word(x.Args[2])
		}
	case *ast.CompositeLit:
		name := callee(x.Type)
		for _, e := range x.Elts {
			kv, ok := e.(*ast.KeyValueExpr)
			if ok && r.inCLI() && (name == "" && callee(kv.Key) == "Head" || callee(kv.Key) == "Text") {
				r.word(kv.Value)
			}
			if heads, list := kvList(kv, ok); r.inCLI() && heads == "Heads" {
				for _, h := range list {
					r.word(h)
				}
			}
			if ok && name == "Command" && !r.ofOtherTool() {
				if s, text := source.Literal(kv.Value); text && (callee(kv.Key) == "Short" || callee(kv.Key) == "Long") {
					r.out[s] = true
				}
			}
		}
		if r.inCLI() && len(x.Elts) > 0 {
			r.word(x.Elts[0])
		}
	case *ast.KeyValueExpr:
		if r.onPages() && callee(x.Key) == "title" {
			r.whole(x.Value)
		}
		if key := callee(x.Key); key == "Short" || key == "Long" || key == "Example" || key == "Use" {
			return nil
		}
	case *ast.BinaryExpr:
		if s, ok := format(x); ok {
			r.text(s)
			for _, v := range values(x) {
				ast.Walk(r, v)
			}
			return nil
		}
	case *ast.BasicLit:
		if s, ok := source.Literal(x); ok {
			r.text(s)
		}
	}
	return r
}

// inCLI says whether the file is of the command line, or of what it tells, whose tables have words that stand alone.
func (r *reader) inCLI() bool {
	return r.dir == "internal/api/told" || r.dir == "internal/cli" ||
		strings.HasPrefix(r.dir, "internal/cli/")
}

// ofOtherTool says whether the file has the texts of another tool.
func (r *reader) ofOtherTool() bool { return r.dir == "internal/cli/zsha" && r.file != "crm.go" }

// onPages says whether the file has pages of the console, most of whose strings are markup.
func (r *reader) onPages() bool {
	return slices.Contains([]string{"internal/web", "internal/web/first", "internal/web/layout"}, r.dir)
}

// whole takes a text of a page, also one of a single word.
func (r *reader) whole(e ast.Expr) {
	if s, ok := source.Literal(e); ok {
		r.out[s] = true
	} else if b, ok := e.(*ast.BinaryExpr); ok {
		if s, ok := format(b); ok {
			r.out[s] = true
		}
	}
}

// text takes the lines of a string that are of two words or more.
func (r *reader) text(s string) {
	switch {
	case r.onPages():
		return // of those what is translated is taken where it is
	case r.ofOtherTool():
		return // word by word
	case r.dir == "internal/web/metrics":
		return // for programs: what metrics mean, and errors for the log
	case strings.HasPrefix(r.dir, "testbed/") && r.dir != "testbed/demo":
		return // for those who develop: of their tools the help, and the laboratory's errors
	}
	for l := range strings.SplitSeq(s, "\n") {
		l = strings.TrimLeft(strings.TrimSpace(l), ";:,. ") // what comes before it is another message
		if twoWords.MatchString(hole.ReplaceAllString(l, "%s")) && !statement.MatchString(l) && !strings.HasPrefix(l, "<") {
			r.out[l] = true
		}
	}
}

// kvList is the name of a field that has a list, and the list.
func kvList(kv *ast.KeyValueExpr, is bool) (string, []ast.Expr) {
	if !is {
		return "", nil
	}
	if l, ok := kv.Value.(*ast.CompositeLit); ok {
		return callee(kv.Key), l.Elts
	}
	return "", nil
}

// word takes a word that stands alone: the head of a column, a label, a field of a table.
func (r *reader) word(e ast.Expr) {
	if s, ok := source.Literal(e); ok && aWord.MatchString(s) {
		r.out[s] = true
	}
}

// words takes what states and kinds of events are called.
func (r *reader) words(d *ast.GenDecl) {
	if r.dir != "internal/cluster" && r.dir != "internal/job" && r.dir != "internal/upgrade" {
		return
	}
	for _, s := range d.Specs {
		v, ok := s.(*ast.ValueSpec)
		if !ok || !strings.HasSuffix(callee(v.Type), "State") && callee(v.Type) != "EventKind" && callee(v.Type) != "ProofKind" &&
			callee(v.Type) != "Severity" {
			continue
		}
		for _, e := range v.Values {
			r.word(e)
		}
	}
}

// qualifier is the name before the last one.
func qualifier(e ast.Expr) string {
	if x, ok := e.(*ast.SelectorExpr); ok {
		return callee(x.X)
	}
	return ""
}

// callee is the last name of a function, a type or a key.
func callee(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	}
	return ""
}

// format is a sum with a literal in it; each value is %s.
func format(e *ast.BinaryExpr) (string, bool) {
	if e.Op != token.ADD {
		return "", false
	}
	s, any := "", false
	for _, side := range []ast.Expr{e.X, e.Y} {
		if text, ok := source.Literal(side); ok {
			s, any = s+text, true
		} else if b, ok := side.(*ast.BinaryExpr); ok {
			text, ok := format(b)
			if !ok {
				text = "%s"
			}
			s, any = s+text, any || ok
		} else {
			s += "%s"
		}
	}
	return s, any
}

// values are what format wrote %s for.
func values(e ast.Expr) []ast.Expr {
	if _, ok := source.Literal(e); ok {
		return nil
	}
	if b, ok := e.(*ast.BinaryExpr); ok && b.Op == token.ADD {
		return append(values(b.X), values(b.Y)...)
	}
	return []ast.Expr{e}
}
