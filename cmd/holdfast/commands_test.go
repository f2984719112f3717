package main

import (
	"bytes"
	"flag"
	"fmt"
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

var update = flag.Bool("update", false, "write docs/commands.md anew")

// commandsPage is the page with all commands.
const commandsPage = "../../docs/commands.md"

// pageWidth is the longest that a line of it is.
const pageWidth = 115

// pageHead is what docs/commands.md begins with.
const pageHead = `# Commands

Every command of the program ` + "`holdfast`" + `, made from its help. To make this page anew after a change, run
` + "`go test ./cmd/holdfast -update`" + `. Each command tells more with ` + "`--help`" + `.

Exit codes, where a command names no others:

| Code | Meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | bad input, or a question was not answered with yes |
| 3 | refused for safety; nothing was changed |
| 4 | agent or server not reachable |

All commands take these flags, which matter to those that ask an agent. A command with a ` + "`--key`" + ` of its own
has ` + "`--client-key`" + ` in place of this one:
`

// exitCodes is the part of a command's help that tells its exit codes: a paragraph, or the sentences of it
// from there on.
var exitCodes = regexp.MustCompile(`(?s)(?:^|\s)((?:[^.]*[Tt]he exit code is|Exit codes?:|Exit codes? \d).*?)(?:\n\n|$)`)

// TestCommandsPage compares docs/commands.md with the commands that there are.
func TestCommandsPage(t *testing.T) {
	t.Setenv("LOGS_DIRECTORY", "")
	t.Setenv("HOME", "/root")
	got := commandPage(cli.New(environment()))
	if *update {
		if err := os.WriteFile(commandsPage, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(commandsPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/commands.md differs from the commands; run go test ./cmd/holdfast -update and look at the difference")
	}
}

// cutWord is a word that was wider than the place for it.
var cutWord = regexp.MustCompile(`\S~(\s|$)`)

// TestHelpFitsATerminal: no line of a help text is wrapped by a terminal of 80 columns, in both languages.
func TestHelpFitsATerminal(t *testing.T) {
	for _, name := range []string{"en", "zh"} {
		speech, err := lang.For(name)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		env := environment()
		env.Stdout = &out
		if speech != nil {
			env.Stdout = lang.Writer{Writer: &out, Catalogue: speech}
		}
		root := cli.New(env)
		cli.Translate(root, speech)
		for _, c := range below(root) {
			c.InitDefaultHelpFlag()
			out.Reset()
			if err := c.Help(); err != nil || out.Len() == 0 {
				t.Errorf("%s: %v", c.CommandPath(), err)
			}
			for l := range strings.Lines(out.String()) {
				if n := cli.Columns(strings.TrimRight(l, "\n")); n > 80 {
					t.Errorf("%s (%s): %d columns: %s", c.CommandPath(), name, n, l)
				}
				if cutWord.MatchString(l) {
					t.Errorf("%s (%s): a word is cut: %s", c.CommandPath(), name, l)
				}
			}
		}
	}
}

// commandPage is the page with root and all commands below it that people use.
func commandPage(root *cobra.Command) []byte {
	all := below(root)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n```text\n%s```\n\n## Overview\n\n", pageHead, root.PersistentFlags().FlagUsagesWrapped(pageWidth))
	for _, c := range all {
		name := strings.TrimPrefix(c.CommandPath(), root.Name()+" ")
		item := fmt.Sprintf("- [`%s`](#%s): %s", name, strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
		fmt.Fprintln(&b, wrap(item, "  "))
	}
	for _, c := range all {
		level := "##"
		if c.Parent() != root {
			level = "###"
		}
		fmt.Fprintf(&b, "\n%s %s\n\n%s.\n\n```text\n%s\n", level, c.CommandPath(), c.Short, wrap(c.UseLine(), "    "))
		if usages := flags(c, root).FlagUsagesWrapped(pageWidth); usages != "" {
			fmt.Fprintf(&b, "\n%s", usages)
		}
		b.WriteString("```\n")
		if m := exitCodes.FindStringSubmatch(c.Long); m != nil {
			b.WriteString(codes(strings.TrimSpace(m[1])))
		}
	}
	return b.Bytes()
}

// below are the commands below one, each before its own.
func below(c *cobra.Command) []*cobra.Command {
	subs := slices.Clone(c.Commands())
	slices.SortFunc(subs, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	var out []*cobra.Command
	for _, sub := range subs {
		if !sub.Hidden {
			out = append(append(out, sub), below(sub)...)
		}
	}
	return out
}

// oneCode is where the text of an exit code begins, after the end of the one before.
var oneCode = regexp.MustCompile(`(?:^Exit codes?:? |[,;.:]\s+)(\d):?\s+`)

// codes is what a command's help tells of exit codes, as a list if it has each with a text of its own.
func codes(text string) string {
	at := oneCode.FindAllStringSubmatchIndex(text, -1)
	if len(at) == 0 {
		return "\n" + wrap(text, "") + "\n"
	}
	var b strings.Builder
	b.WriteString("\nExit codes:\n\n")
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		item := fmt.Sprintf("- %s: %s", text[m[2]:m[3]], strings.TrimSuffix(text[m[1]:end], "."))
		fmt.Fprintln(&b, wrap(item, "  "))
	}
	return b.String()
}

// flags are those of a command, and of commands above it but root, whose flags all have.
func flags(c, root *cobra.Command) *pflag.FlagSet {
	set := pflag.NewFlagSet(c.Name(), pflag.ContinueOnError)
	c.NonInheritedFlags().VisitAll(set.AddFlag)
	c.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		if root.PersistentFlags().Lookup(f.Name) != f {
			set.AddFlag(f)
		}
	})
	return set
}

// wrap breaks a line; what follows the first is indented.
func wrap(line, indent string) string {
	var b strings.Builder
	n := 0
	for i, w := range strings.Fields(line) {
		switch {
		case i == 0:
		case n+1+len(w) > pageWidth:
			b.WriteString("\n" + indent)
			n = len(indent)
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(w)
		n += len(w)
	}
	return b.String()
}
