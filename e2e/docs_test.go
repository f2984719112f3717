package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cli"
)

var (
	quoted = regexp.MustCompile("`(?:sudo )?(?:bin/)?holdfast ([^`]+)`")
	called = regexp.MustCompile("`(?:\\./)?" + cli.ZshaName + " ([A-Za-z-]+)")
	typed  = regexp.MustCompile(`(?m)^(?:sudo )?(?:bin/)?holdfast ([^#\n]+)`)
	word   = regexp.MustCompile(`^[a-z][a-z-]*$`)
	flag1  = regexp.MustCompile(`^--[a-z-]+`)
)

// TestCommandsInDocumentsExist asks the program for the help of every command
// that a page quotes, and looks its long flags up there.
func TestCommandsInDocumentsExist(t *testing.T) {
	exe := "../bin/holdfast"
	if _, err := os.Stat(exe); err != nil {
		t.Skipf("%v: `make build` makes it", err)
	}
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
		case "roadmap.md", "commands.md":
			continue // what is planned; what is made of the commands themselves
		}
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range slices.Concat(quoted.FindAllStringSubmatch(string(b), -1), typed.FindAllStringSubmatch(string(b), -1)) {
			if !checked[m[1]] {
				checked[m[1]] = true
				checkCommand(t, exe, page, strings.Fields(m[1]))
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
	cmd.Args[0] = cli.ZshaName
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

func checkCommand(t *testing.T, exe, page string, words []string) {
	t.Helper()
	var command []string
	for _, w := range words {
		if !word.MatchString(w) || len(command) == 3 {
			break
		}
		command = append(command, w)
	}
	var out []byte
	err := os.ErrInvalid
	// The last words may be arguments.
	for ; len(command) > 0 && err != nil; command = command[:len(command)-1] {
		out, err = exec.Command(exe, append(slices.Clone(command), "--help")...).CombinedOutput()
		if err == nil && !strings.Contains(string(out), "holdfast "+strings.Join(command, " ")) {
			err = os.ErrNotExist
		}
		if err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("%s: holdfast %s: no such command: %s", page, strings.Join(words, " "), out)
		return
	}
	for _, w := range words {
		if f := flag1.FindString(w); f != "" && !strings.Contains(string(out), f) {
			t.Errorf("%s: holdfast %s: no flag %s", page, strings.Join(words, " "), f)
		}
	}
}
