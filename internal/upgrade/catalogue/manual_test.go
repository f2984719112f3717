package catalogue_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cli"
	"holdfast/internal/cli/command"
	"holdfast/internal/upgrade/catalogue"
)

// TestPathsManual runs the example of docs/paths.md, and checks that the page
// tells of every rule of the built-in catalogue.
func TestPathsManual(t *testing.T) {
	b, err := os.ReadFile("../../../docs/paths.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	block := func(kind string) string {
		_, after, found := strings.Cut(page, "```"+kind+"\n")
		text, _, closed := strings.Cut(after, "```")
		if !found || !closed {
			t.Fatalf("no block %q", kind)
		}
		return text
	}
	file := filepath.Join(t.TempDir(), "engine.yaml")
	if err := os.WriteFile(file, []byte(block("yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	const example = "    holdfast upgrade path --catalogue engine.yaml "
	_, args, found := strings.Cut(page, example)
	args, _, _ = strings.Cut(args, "\n")
	if !found {
		t.Fatalf("no command %q", example)
	}
	var out, errs bytes.Buffer
	line := append([]string{"upgrade", "path", "--catalogue", file}, strings.Fields(args)...)
	if code := cli.Main(line, command.Env{Stdout: &out, Stderr: &errs, Stdin: strings.NewReader("")}); code != 0 {
		t.Errorf("%v ended with %d: %s", line, code, errs.String())
	}
	if out.String() != block("text") {
		t.Errorf("the example gives\n%s", out.String())
	}

	cas, err := catalogue.Load(t.Context(), catalogue.CAS)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range cas.Spec().Rules {
		if !strings.Contains(page, "`"+r.Name+"`") {
			t.Errorf("it does not tell of rule %s", r.Name)
		}
	}
}
