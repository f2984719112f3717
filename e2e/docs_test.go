package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cli/zsha"
)

var (
	quoted = regexp.MustCompile("`(?:sudo )?(?:bin/)?(holdfast(?:-lab)? [^`]+)`")
	called = regexp.MustCompile("`(?:\\./)?" + zsha.Name + " ([A-Za-z-]+)")
	typed  = regexp.MustCompile(`(?m)^(?:sudo )?(?:bin/)?(holdfast(?:-lab)? [^#\n]+)`)
	word   = regexp.MustCompile(`^[a-z][a-z-]*$`)
	flag1  = regexp.MustCompile(`^--[a-z-]+`)
)

// TestCommandsInDocumentsExist looks for the help of every command that a page quotes, and its long flags there.
func TestCommandsInDocumentsExist(t *testing.T) {
	if err := built(); err != nil {
		t.Skip(err)
	}
	help := helpOf(t)
	var pages []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../docs/from/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	checked := map[string]bool{}
	for _, page := range pages {
		switch filepath.Base(page) {
		case "roadmap.md", "commands.md", "commands-lab.md":
			continue // what is planned; what is made of the commands themselves
		}
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range slices.Concat(quoted.FindAllStringSubmatch(string(b), -1), typed.FindAllStringSubmatch(string(b), -1)) {
			if !checked[m[1]] {
				checked[m[1]] = true
				checkCommand(t, help, page, strings.Fields(m[1]))
			}
		}
	}
	if len(checked) < 10 {
		t.Errorf("only %d commands found in %d pages", len(checked), len(pages))
	}
}

// TestCommandsOfTheSourceToolExist looks up every command that a page quotes by the
// source tool's name: its help lists all but one.
func TestCommandsOfTheSourceToolExist(t *testing.T) {
	exe := "../bin/holdfast"
	if _, err := os.Stat(exe); err != nil {
		t.Skipf("%v: `make build` makes it", err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-h")
	cmd.Args[0] = zsha.Name
	help, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../docs/from/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range called.FindAllStringSubmatch(string(b), -1) {
			n++
			if m[1] != "reset-MNVM-password" && !regexp.MustCompile(`(?m)[[ \n]`+m[1]+`[] \n]`).Match(help) {
				t.Errorf("%s: zsha %s: no such command", page, m[1])
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d commands found in %d pages", n, len(pages))
	}
}

// helps are what the program says of its commands, by their words.
type helps map[string]string

// helpOf has it write its manual pages, which say what the help does: that is one start of the program for all.
func helpOf(t *testing.T) helps {
	t.Helper()
	dir := t.TempDir()
	here(t, "host-files", dir)
	pages, err := filepath.Glob(filepath.Join(dir, "usr/share/man/man1/*.1.gz"))
	if err != nil {
		t.Fatal(err)
	}
	all := helps{}
	for _, page := range pages {
		b, err := exec.Command("gzip", "-dc", page).Output()
		if err != nil {
			t.Fatal(err)
		}
		_, synopsis, _ := strings.Cut(strings.NewReplacer(`\-`, "-", `\e`, `\`).Replace(string(b)), ".SH SYNOPSIS\n.nf\n")
		usage, _, _ := strings.Cut(synopsis, "\n") // "holdfast pair switch HOST [flags]"
		if words := command(strings.Fields(usage)); len(words) > 0 {
			all[strings.Join(words, " ")] = string(synopsis)
		}
	}
	return all
}

// command are the words that may be of a command, before the first flag or argument in another form.
func command(words []string) []string {
	for i, w := range words {
		if !word.MatchString(w) || i == 5 {
			return words[:i]
		}
	}
	return words
}

// find is the help of a command. One that is hidden has no manual page, nor has one of the laboratory.
func (h helps) find(words string) (string, bool) {
	if text, ok := h[words]; ok {
		return text, text != ""
	}
	all := strings.Fields(words)
	if len(all) > 1 && h[strings.Join(all[:2], " ")] != "" {
		return "", false
	}
	out, err := exec.Command("../bin/"+all[0], append(all[1:], "--help")...).CombinedOutput()
	if h[words] = string(out); err != nil || !strings.Contains(string(out), words) {
		h[words] = ""
	}
	return h[words], h[words] != ""
}

func checkCommand(t *testing.T, help helps, page string, words []string) {
	t.Helper()
	// The last words may be arguments.
	for name := command(words); len(name) > 1 || len(name) == 1 && flag1.MatchString(words[1]); name = name[:len(name)-1] {
		text, ok := help.find(strings.Join(name, " "))
		if !ok {
			continue
		}
		for _, w := range words {
			if f := flag1.FindString(w); f != "" && f != "--help" && !strings.Contains(text, f) {
				t.Errorf("%s: %s: no flag %s", page, strings.Join(words, " "), f)
			}
		}
		return
	}
	t.Errorf("%s: %s: no such command", page, strings.Join(words, " "))
}
