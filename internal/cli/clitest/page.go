// Package clitest is what tests of programs' command lines share: the pages of their commands, what is true of every
// command, an agent over a cluster in memory, and a terminal on which somebody types.
package clitest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/internal/cli/command"
)

// Update says that pages and goldens are to be written anew.
var Update = flag.Bool("update", false, "write pages and goldens anew")

// pageWidth is the longest that a line of a page is.
const pageWidth = 115

// exitCodes is the part of a command's help that tells its exit codes: a paragraph, or the sentences of it
// from there on.
var exitCodes = regexp.MustCompile(`(?s)(?:^|\s)((?:[^.]*[Tt]he exit code is|Exit codes?:|Exit codes? \d).*?)(?:\n\n|$)`)

// Program is a program whose command line is tested.
type Program struct {
	Env  func() command.Env // anew for each call: its commands are
	Root func(command.Env) *cobra.Command
	Main func(args []string, env command.Env) int
}

// Page compares a page of docs with the commands that there are. head is what it says before them.
func (p Program) Page(t *testing.T, file, head string) {
	t.Helper()
	root := p.Root(p.Env())
	t.Setenv("LOGS_DIRECTORY", "")
	t.Setenv("HOME", "/root")
	got, file := page(root, head), filepath.Join("../../docs", file)
	if *Update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from the commands; run go test ./cmd/%s -update and look at the difference", file, root.Name())
	}
}

// page is what the page says of root and all commands below it that people use.
func page(root *cobra.Command, head string) []byte {
	all := Below(root)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Commands of %s\n\n%s\n", root.Name(), head)
	if usages := root.PersistentFlags().FlagUsagesWrapped(pageWidth); usages != "" {
		fmt.Fprintf(&b, "\n```text\n%s```\n", usages)
	}
	b.WriteString("\n## Overview\n\n")
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

// Below are the commands below one, each before its own.
func Below(c *cobra.Command) []*cobra.Command {
	subs := slices.Clone(c.Commands())
	slices.SortFunc(subs, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	var out []*cobra.Command
	for _, sub := range subs {
		if !sub.Hidden {
			out = append(append(out, sub), Below(sub)...)
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
