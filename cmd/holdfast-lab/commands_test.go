package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"holdfast/internal/cli"
	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/lib/lang"
)

// pageHead is what docs/commands-lab.md says before the commands.
const pageHead = `Every command of the program ` + "`holdfast-lab`" + `, made from its help. To make this page anew after a change, run
` + "`go test ./cmd/holdfast-lab -update`" + `.

[laboratory.md](laboratory.md) and [simulator.md](simulator.md) say what they are for.`

var whole = clitest.Program{Env: func() command.Env { return command.Env{} }, Root: root, Main: inProcess}

// inProcess runs a command line in this process.
func inProcess(args []string, env command.Env) int { return cli.Run(args, env, root) }

func TestCommandsPage(t *testing.T)           { whole.Page(t, "commands-lab.md", pageHead) }
func TestHelpFitsATerminal(t *testing.T)      { whole.HelpFits(t) }
func TestWrongCommandLines(t *testing.T)      { whole.Wrong(t) }
func TestAllArgumentsAreChecked(t *testing.T) { whole.ArgumentsAreChecked(t) }
func TestExamplesAreCommands(t *testing.T)    { whole.Examples(t, false) } // those of the program stand for its commands

// TestBadInputIsToldBeforeAnythingIsDone: values that can not be right end with exit code 2 and no more than one
// line and its remedy, and nothing is made or reached before.
func TestBadInputIsToldBeforeAnythingIsDone(t *testing.T) {
	t.Setenv(lang.Env, "")
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Chdir(dir)
	run := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := inProcess(args, command.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs})
		return code, out.String() + errs.String()
	}
	for want, args := range map[string][]string{
		"--guests -1: want 0 to 64": {"up", "--dir", dir + "/l", "--guests", "-1"},
		`profile "bogus"`:           {"up", "--dir", dir + "/l", "--profile", "bogus"},
		`disk "bogus"`:              {"up", "--dir", dir + "/l", "--disk", "bogus"},
		"--hosts 0":                 {"up", "--dir", dir + "/l", "--hosts", "0"},
		"--hosts 10: want 1 to 9":   {"up", "--dir", dir + "/l", "--hosts", "10"},
		"laboratory":                {"status", "--dir", dir + "/l"},
	} {
		code, said := run(args...)
		if lines := strings.Count(said, "\n"); code != 2 || !strings.Contains(said, want) || lines > 2 {
			t.Errorf("%q: exit code %d: %q, want %s", args, code, said, want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
