package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cli"
	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/zsha"
	"holdfast/internal/lib/lang"
)

// pageHead is what docs/commands.md says before the commands.
const pageHead = `Every command of the program ` + "`holdfast`" + `, made from its help. To make this page anew after a change, run
` + "`go test ./cmd/holdfast -update`" + `. Each command tells more with ` + "`--help`" + `.
[commands-lab.md](commands-lab.md) has those of ` + "`holdfast-lab`" + `, the program of the laboratory.

Exit codes, where a command names no others:

| Code | Meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | bad input, or a question was not answered with yes |
| 3 | refused for safety; nothing was changed |
| 4 | agent or server not reachable |

All commands take these flags, which matter to those that ask an agent. A command with a ` + "`--key`" + ` of its own
has ` + "`--client-key`" + ` in place of this one:`

var whole = clitest.Program{Env: environment, Root: cli.New, Main: cli.Main}

func TestCommandsPage(t *testing.T)           { whole.Page(t, "commands.md", pageHead) }
func TestHelpFitsATerminal(t *testing.T)      { whole.HelpFits(t) }
func TestWrongCommandLines(t *testing.T)      { whole.Wrong(t) }
func TestAllArgumentsAreChecked(t *testing.T) { whole.ArgumentsAreChecked(t) }

func TestExamplesAreCommands(t *testing.T) {
	whole.Examples(t, true)
	other := whole
	other.Root = zsha.New
	other.Examples(t, true)
}

// TestBadInputIsToldBeforeAnythingIsDone: values that can not be right end with exit code 2 and no more than one
// line and its remedy, and nothing is made or reached before.
func TestBadInputIsToldBeforeAnythingIsDone(t *testing.T) {
	t.Setenv(lang.Env, "")
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Chdir(dir)
	run := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		env := environment()
		env.Stdin, env.Stdout, env.Stderr = strings.NewReader(""), &out, &errs
		code := cli.Main(args, env)
		return code, out.String() + errs.String()
	}
	if code, said := run("config", "sample", "FileConf", "-o", "c.json"); code != 0 {
		t.Fatal(code, said)
	}
	install := []string{"install", "-c", "c.json", "--check", "--allow-undersized"}
	for want, args := range map[string][]string{
		"/nonexistent/x":                       {"config", "sample", "FileConf", "-o", "/nonexistent/x"},
		"--identity: read the private key no ": append(slices.Clone(install), "--identity", "no "),
		"--ssh-port 99999: want 1 to 65535":    append(slices.Clone(install), "--ssh-port", "99999"),
		"--ssh-port 0: want 1":                 append(slices.Clone(install), "--ssh-port", "0"),
		"--known-hosts: read known_hosts":      append(slices.Clone(install), "--known-hosts", dir),
	} {
		code, said := run(args...)
		if lines := strings.Count(said, "\n"); code != 2 || !strings.Contains(said, want) || lines > 2 {
			t.Errorf("%q: exit code %d: %q, want %s", args, code, said, want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}
