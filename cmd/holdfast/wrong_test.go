package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/internal/cli"
	"holdfast/internal/lib/lang"
)

// ofLibrary are words that only libraries and their authors know.
var ofLibrary = regexp.MustCompile(`strconv|pflag|cobra|arg\(s\)|accepts ` +
	`|invalid argument|invalid syntax|parse error|time: |Usage:|ParseInt`)

// mostArguments is more than any command takes.
const mostArguments = 8

// TestWrongCommandLines goes through all commands: an unknown command, flag or value, and too many or too few
// arguments are bad input. One line says so, another where help is. Nothing is run.
func TestWrongCommandLines(t *testing.T) {
	t.Setenv(lang.Env, "")
	t.Setenv("HOME", t.TempDir())
	t.Chdir(t.TempDir())
	wrong := func(args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		env := environment()
		env.Stdin, env.Stdout, env.Stderr = strings.NewReader(""), &out, &errs
		code, said := cli.Main(args, env), errs.String()
		if code != 2 || out.Len() > 0 {
			t.Errorf("%q: exit code %d, stdout %.80q, stderr %.200q", args, code, out.String(), said)
		}
		lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
		for len(lines) > 2 && strings.Contains(lines[0], "; want ") && !strings.HasPrefix(lines[1], "  see: ") { // a list is folded
			lines = append([]string{lines[0] + " " + strings.TrimSpace(lines[1])}, lines[2:]...)
		}
		if len(lines) != 2 || !strings.HasPrefix(lines[1], "  see: holdfast") || !strings.HasSuffix(lines[1], " --help") {
			t.Errorf("%q: want one line, and one with the remedy: %.300q", args, said)
		}
		if w := ofLibrary.FindString(said); w != "" {
			t.Errorf("%q: says %q: %.200q", args, w, said)
		}
	}
	wrong("bogus")
	wrong("statu")
	wrong("--bogus")
	wrong("help", "bogus")
	wrong("help", "pair", "bogus")
	wrong("help", "status", "bogus")
	root := cli.New(environment())
	root.InitDefaultCompletionCmd()
	for _, c := range below(root) {
		path := strings.Fields(c.CommandPath())[1:]
		with := func(more ...string) []string { return append(slices.Clone(path), more...) }
		wrong(with("--bogus")...)
		if c.HasSubCommands() {
			if c.Name() != "certificates" { // it does something by itself
				wrong(path...)
			}
			wrong(with("bogus")...)
			wrong(with("bogus", "bogus")...)
			continue
		}
		for n := range mostArguments {
			if args := slices.Repeat([]string{"x"}, n); c.ValidateArgs(args) != nil {
				wrong(with(args...)...)
			}
		}
		flags := func(f *pflag.Flag) {
			switch f.Value.Type() {
			case "bool", "int", "int64", "uint", "uint16", "uint64", "float64", "duration", "count":
				wrong(with("--" + f.Name + "=wrong")...)
				wrong(with("--" + f.Name + "=")...)
			}
			switch f.Value.Type() {
			case "int", "int64", "uint", "uint16", "uint64", "duration":
				wrong(with("--" + f.Name + "=99999999999999999999")...)
			}
		}
		c.LocalFlags().VisitAll(flags)
		c.InheritedFlags().VisitAll(flags)
	}
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
		"--guests -1: want 0 to 64":            {"lab", "up", "--dir", dir + "/l", "--guests", "-1"},
		`profile "bogus"`:                      {"lab", "up", "--dir", dir + "/l", "--profile", "bogus"},
		`disk "bogus"`:                         {"lab", "up", "--dir", dir + "/l", "--disk", "bogus"},
		"--hosts 0":                            {"lab", "up", "--dir", dir + "/l", "--hosts", "0"},
		"--hosts 10: want 1 to 9":              {"lab", "up", "--dir", dir + "/l", "--hosts", "10"},
		"laboratory":                           {"lab", "status", "--dir", dir + "/l"},
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

// TestAllArgumentsAreChecked: a command without a rule for its arguments would take any.
func TestAllArgumentsAreChecked(t *testing.T) {
	for _, c := range below(cli.New(environment())) {
		if c.Args == nil && c.Runnable() {
			t.Errorf("%s takes any arguments", c.CommandPath())
		}
	}
}

// TestExamplesAreCommands: each example of a help is a command line that is taken, and each command with arguments has one.
func TestExamplesAreCommands(t *testing.T) {
	zsha := cli.NewZsha(environment())
	for _, top := range []*cobra.Command{cli.New(environment()), zsha} {
		for _, c := range append(below(top), top) {
			for l := range strings.Lines(strings.ReplaceAll(c.Example, "\\\n", "")) {
				at := cli.New(environment())
				if top == zsha {
					at = cli.NewZsha(environment())
				}
				words := quoted.FindAllString(l, -1)
				for i, w := range words {
					words[i] = strings.Trim(w, "'")
				}
				run, args, err := at.Find(words[1:])
				if err != nil || !strings.HasPrefix(run.CommandPath(), c.CommandPath()) {
					t.Errorf("%s: example %s is no call of it: %v", c.CommandPath(), l, err)
					continue
				}
				if err = run.ParseFlags(args); err == nil {
					if err = run.ValidateArgs(run.Flags().Args()); err == nil {
						err = run.ValidateRequiredFlags()
					}
				}
				if err != nil {
					t.Errorf("%s: example %s: %v", c.CommandPath(), l, err)
				}
			}
			_, wants, _ := strings.Cut(strings.TrimSuffix(c.Use, " [flags]"), " ")
			if wants != "" && c.Example == "" && !c.HasSubCommands() && !strings.HasPrefix(c.CommandPath(), "holdfast lab ") && !strings.HasPrefix(c.CommandPath(), "holdfast completion") {
				t.Errorf("%s %s has no example", c.CommandPath(), wants)
			}
		}
	}
}

// quoted is a word of a command line.
var quoted = regexp.MustCompile(`'[^']*'|\S+`)
