package command

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/lang"
)

// Help writes what a command does and how it is called. No line of it is wider than a terminal.
func Help(c *cobra.Command, _ []string) {
	about := c.Long
	if about == "" {
		about = c.Short
	}
	var b strings.Builder
	for l := range strings.Lines(about) {
		fold(&b, l, len(listed.FindString(l)))
	}
	if c.Runnable() || c.HasSubCommands() {
		b.WriteString("\n" + c.UsageString())
	}
	_, _ = fmt.Fprint(c.OutOrStdout(), b.String()) // to a terminal that is gone
}

// HelpCmd tells of another command.
func HelpCmd() *cobra.Command {
	return &cobra.Command{
		Use: "help [command]", Short: "Help about any command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return fail.Errorf(fail.Invalid, "help: unknown command %q; want one of those that %s --help lists",
					strings.Join(args, " "), c.Root().Name()).
					With("see: " + c.Root().Name() + " --help")
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// listed is where a line of a help text that describes one of several things begins, or any line that is indented.
var listed = regexp.MustCompile(`^(  \S+  +| *)`)

// UsageText writes how a command is called: the text that cobra has, folded.
func UsageText(c *cobra.Command) error { return usageIn(c, nil) }

// usageIn is usageText in a language.
func usageIn(c *cobra.Command, l *lang.Catalogue) error {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if c.Runnable() {
		fmt.Fprintf(&b, "  %s\n", c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s [command]\n", c.CommandPath())
	}
	if len(c.Aliases) > 0 {
		fmt.Fprintf(&b, "\nAliases:\n  %s\n", c.NameAndAliases())
	}
	if c.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\nAvailable Commands:\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				n := sub.NamePadding()
				fold(&b, fmt.Sprintf("  %-*s %s", n, sub.Name(), sub.Short), n+3)
			}
		}
	}
	if c.HasAvailableLocalFlags() {
		b.WriteString("\nFlags:\n")
		flagLines(&b, c.LocalFlags(), l)
	}
	if c.HasAvailableInheritedFlags() {
		b.WriteString("\nGlobal Flags:\n")
		flagLines(&b, c.InheritedFlags(), l)
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nUse \"%s [command] --help\" for more.\n", c.CommandPath())
	}
	_, err := fmt.Fprint(c.OutOrStderr(), b.String())
	return err
}

// given is the default of a flag as pflag writes it, behind what the flag does.
var given = regexp.MustCompile(`(?m)\(default ([^()\n]+)\)$`)

// flagLines writes what flags do.
func flagLines(b *strings.Builder, set *pflag.FlagSet, l *lang.Catalogue) {
	text := set.FlagUsages()
	if word := l.Text("default"); word != "default" {
		text = given.ReplaceAllString(text, "（"+word+" $1）")
	}
	column := 0 // where what they do begins, in all lines
	set.VisitAll(func(f *pflag.Flag) {
		if column == 0 && !f.Hidden {
			_, usage := pflag.UnquoteUsage(f)
			first, _, _ := strings.Cut(usage, "\n")
			column = strings.Index(text, first)
		}
	})
	for l := range strings.Lines(text) {
		fold(b, l, column)
	}
}

// fold writes a line; what goes beyond a terminal's width goes on below, from a column on.
func fold(b *strings.Builder, line string, column int) {
	line = strings.TrimRight(line, " \n")
	column = min(column, len(line))
	for i, part := range output.Wrap(line[column:], output.Width-output.Columns(line[:column])) {
		if i == 0 {
			b.WriteString(line[:column])
		} else {
			b.WriteString(strings.Repeat(" ", column))
		}
		b.WriteString(part + "\n")
	}
}

// Translate puts the help of all commands into another language: a Writer sees its lines,
// which are wrapped, and no texts.
func Translate(cmd *cobra.Command, l *lang.Catalogue) {
	cmd.SetUsageFunc(func(c *cobra.Command) error { return usageIn(c, l) })
	cmd.InitDefaultHelpFlag() // else it gets its text when it is asked for
	cmd.Short, cmd.Long = l.Text(cmd.Short), l.Text(cmd.Long)
	cmd.Flags().Lookup("help").Usage = "help for this command"
	for _, set := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
		set.VisitAll(func(f *pflag.Flag) { f.Usage = l.Text(f.Usage) })
	}
	for _, c := range cmd.Commands() {
		Translate(c, l)
	}
}
