package clitest

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/lang"
)

// ofLibrary are words that only libraries and their authors know.
var ofLibrary = regexp.MustCompile(`strconv|pflag|cobra|arg\(s\)|accepts ` +
	`|invalid argument|invalid syntax|parse error|time: |Usage:|ParseInt`)

// mostArguments is more than any command takes.
const mostArguments = 8

// Wrong goes through all commands: an unknown command, flag or value, and too many or too few arguments are bad input.
// One line says so, another where help is. Nothing is run.
func (p Program) Wrong(t *testing.T) {
	t.Helper()
	root := p.Root(p.Env())
	t.Setenv(lang.Env, "")
	t.Setenv("HOME", t.TempDir())
	t.Chdir(t.TempDir())
	wrong := func(args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		env := p.Env()
		env.Stdin, env.Stdout, env.Stderr = strings.NewReader(""), &out, &errs
		code, said := p.Main(args, env), errs.String()
		if code != 2 || out.Len() > 0 {
			t.Errorf("%q: exit code %d, stdout %.80q, stderr %.200q", args, code, out.String(), said)
		}
		lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
		for len(lines) > 2 && strings.Contains(lines[0], "; want ") && !strings.HasPrefix(lines[1], "  see: ") { // a list is folded
			lines = append([]string{lines[0] + " " + strings.TrimSpace(lines[1])}, lines[2:]...)
		}
		if len(lines) != 2 || !strings.HasPrefix(lines[1], "  see: "+root.Name()) || !strings.HasSuffix(lines[1], " --help") {
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
	root.InitDefaultCompletionCmd()
	for _, c := range Below(root) {
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

// cutWord is a word that was wider than the place for it.
var cutWord = regexp.MustCompile(`\S~(\s|$)`)

// HelpFits fails when a line of a help text is wrapped by a terminal of 80 columns, in either language.
func (p Program) HelpFits(t *testing.T) {
	t.Helper()
	for _, name := range []string{"en", "zh"} {
		speech, err := lang.For(name)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		env := p.Env()
		env.Stdout = &out
		if speech != nil {
			env.Stdout = lang.Writer{Writer: &out, Catalogue: speech}
		}
		root := p.Root(env)
		command.Translate(root, speech)
		for _, c := range Below(root) {
			c.InitDefaultHelpFlag()
			out.Reset()
			if err := c.Help(); err != nil || out.Len() == 0 {
				t.Errorf("%s: %v", c.CommandPath(), err)
			}
			for l := range strings.Lines(out.String()) {
				if n := output.Columns(strings.TrimRight(l, "\n")); n > 80 {
					t.Errorf("%s (%s): %d columns: %s", c.CommandPath(), name, n, l)
				}
				if cutWord.MatchString(l) {
					t.Errorf("%s (%s): a word is cut: %s", c.CommandPath(), name, l)
				}
			}
		}
	}
}

// ArgumentsAreChecked fails for a command without a rule for its arguments: it would take any.
func (p Program) ArgumentsAreChecked(t *testing.T) {
	t.Helper()
	for _, c := range Below(p.Root(p.Env())) {
		if c.Args == nil && c.Runnable() {
			t.Errorf("%s takes any arguments", c.CommandPath())
		}
	}
}

// Examples fails for an example of a help that is no command line that is taken, and for a command that wants
// arguments and has none, unless those of the program stand for it.
func (p Program) Examples(t *testing.T, eachHas bool) {
	t.Helper()
	top := p.Root(p.Env())
	for _, c := range append(Below(top), top) {
		for l := range strings.Lines(strings.ReplaceAll(c.Example, "\\\n", "")) {
			at := p.Root(p.Env())
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
		if eachHas && wants != "" && c.Example == "" && !c.HasSubCommands() && !strings.HasPrefix(c.CommandPath(), top.Name()+" completion") {
			t.Errorf("%s %s has no example", c.CommandPath(), wants)
		}
	}
}

// quoted is a word of a command line.
var quoted = regexp.MustCompile(`'[^']*'|\S+`)
