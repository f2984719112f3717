package files

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/docs"
	"holdfast/internal/config"
	"holdfast/testbed/need"
)

// made are the manual pages of a small program, by their paths.
func made(t *testing.T) map[string]string {
	t.Helper()
	root := &cobra.Command{Use: "holdfast", Short: "Keep it"}
	root.AddCommand(&cobra.Command{Use: "status", Short: "Show it", Long: "-x\n.dots\n'quotes \\ back",
		Example: "  holdfast status", Run: func(*cobra.Command, []string) {}})
	zsha := &cobra.Command{Use: "zsha", Short: "Old words", Long: "the list"}
	stop := &cobra.Command{Use: "stop NOW", Short: "stop it", Long: "Stops it.", Run: func(*cobra.Command, []string) {}}
	stop.Flags().Bool("hard", false, "at once")
	zsha.AddCommand(stop)
	all, err := manual(root, zsha)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range all {
		z, err := gzip.NewReader(bytes.NewReader(f.Content))
		if err != nil || f.Mode != 0o644 {
			t.Fatal(f.Path, f.Mode, err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Path] = string(text)
	}
	return out
}

// TestManual: the pages have the texts of the help and of the documentation, whole.
func TestManual(t *testing.T) {
	pages := made(t)
	if len(pages) != 4 {
		t.Errorf("%d pages", len(pages))
	}
	for path, want := range map[string][]string{
		"/usr/share/man/man1/holdfast.1.gz":        {`holdfast \- Keep it`, "holdfast(5)", `holdfast\-status(1)`},
		"/usr/share/man/man1/holdfast-status.1.gz": {"\\-x\n\\&.dots\n\\&'quotes \\e back", ".SH EXAMPLES\n.nf\n  holdfast status\n"},
		"/usr/share/man/man1/zsha.1.gz":            {"the list", ".SS stop\n", "zsha stop NOW", "Stops it.", "\\-\\-hard", ".SH DIFFERENCES\n"},
		"/usr/share/man/man5/holdfast.5.gz": {".SH DESCRIPTION\n", "/etc/holdfast/cluster.json",
			".SH The agent's settings\n", "\"Node\": [\"192.0.2.11 node-1\""},
	} {
		for _, w := range want {
			if !strings.Contains(pages[path], w) {
				t.Errorf("%s has no %q", path, w)
			}
		}
	}
	page := pages["/usr/share/man/man5/holdfast.5.gz"]
	var fields map[string]any
	sample, err := config.Sample(config.FileConf, strings.NewReader(strings.Repeat("x", 64)))
	if err == nil {
		err = json.Unmarshal(sample, &fields)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name := range fields {
		if !strings.Contains(page, "\\fB"+name+"\\fR") {
			t.Errorf("the page of the configuration does not name %s", name)
		}
	}
	for path, text := range pages {
		if strings.Contains(text, ".TS\n") || strings.Contains(text, "](") || strings.Contains(text, "|---") {
			t.Errorf("%s has a table or a link of Markdown", path)
		}
	}
	if n := strings.Count(docs.Zsha(), "\n- "); n < 6 {
		t.Errorf("the section about zsha has %d differences", n)
	}
}

// TestTablesBecomeLists: of two columns and of more.
func TestTablesBecomeLists(t *testing.T) {
	got := withoutTables("a\n\n| f | rule |\n|---|---|\n| `x` | one |\n\n| n | low | high |\n|---|---|---|\n| y | 1 | 2 |\n\nb\n")
	if want := "a\n\n- `x`: one\n\n- y: low 1; high 2;\n\nb\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestFormattersTakeThePages: groff in 80 columns says nothing of them; nor does mandoc, beside the date that they lack.
func TestFormattersTakeThePages(t *testing.T) {
	need.Real(t, need.Programs("groff-base", "groff"))
	run := func(text string, args ...string) {
		t.Helper()
		var said bytes.Buffer
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Stdin, cmd.Stderr = strings.NewReader(text), &said
		if args[0] == "mandoc" {
			cmd.Stdout = &said
		}
		err := cmd.Run()
		for l := range strings.Lines(said.String()) {
			if !strings.Contains(l, "missing date") {
				t.Errorf("%v: %v: %s", args, err, l)
			}
		}
	}
	_, none := exec.LookPath("mandoc")
	for _, text := range made(t) {
		run(text, "groff", "-K", "utf8", "-T", "utf8", "-man", "-w", "mac", "-rLL=80n")
		if none == nil {
			run(text, "mandoc", "-T", "lint", "-W", "warning")
		}
	}
}
