package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/lang"
	"holdfast/internal/lib/text"
)

// called is a program as it was called.
type called struct {
	root func(Env) *cobra.Command
	name string // what its errors begin with; "": the program's own name, or the command's
	// faults is where what is told of errors goes; nil: to people, in their language.
	faults func(io.Writer, *lang.Catalogue) io.Writer
}

// Main runs a command line of the program holdfast, which may be called by the names of source tools, whose texts
// then are theirs. args are without the program's name.
func Main(args []string, env Env) int {
	tool := NewPairTool(env, PairToolCalled())
	switch {
	case tool != nil:
		name := tool.Name()
		if name == againName {
			name = recoveryFails
		}
		return run(args, env, called{func(Env) *cobra.Command { return tool }, name, func(w io.Writer, _ *lang.Catalogue) io.Writer { return w }})
	case ZshaCalled():
		return run(zshaArgs(args), env, called{NewZsha, zshaErrors,
			func(w io.Writer, l *lang.Catalogue) io.Writer { return inTongue(zshaWriter{w}, l) }})
	}
	return Run(args, env, New)
}

// Run runs a command line of the program with that root, prints its error, and returns the exit code. The first SIGINT
// or SIGTERM ends the command's context, the second one the process.
func Run(args []string, env Env, root func(Env) *cobra.Command) int {
	return run(args, env, called{root: root})
}

func run(args []string, env Env, as called) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	root := as.root(env)
	speech, err := lang.For(os.Getenv(lang.Env))
	if err != nil {
		e := fail.Errorf(fail.Invalid, "%w", err)
		report(env.Stderr, root.Name(), err, e)
		return e.Kind.Exit()
	}
	if as.faults == nil && speech != nil && forPeople(root, args) {
		env.Stdout, env.Stderr = lang.Writer{Writer: env.Stdout, Catalogue: speech}, lang.Writer{Writer: env.Stderr, Catalogue: speech}
		root = as.root(env)
		Translate(root, speech)
	}
	root.SetArgs(args)
	root.InitDefaultCompletionCmd(args...)
	for _, c := range root.Commands() {
		if c.Name() == "completion" { // cobra's own
			markUsage(c)
		}
	}
	err = root.ExecuteContext(ctx)
	if err == nil {
		return fail.ExitDone
	}
	var ran *fail.Ran
	if errors.As(err, &ran) { // the command has told
		return ran.Code
	}
	var e *fail.Error
	if !errors.As(err, &e) {
		e = fail.Errorf(fail.Failed, "%w", err)
		if _, _, ferr := root.Find(args); ferr != nil { // no such command
			err = plainly(root, err)
			e = fail.Errorf(fail.Invalid, "%w", err).With("see: " + root.Name() + " --help")
		}
	}
	if e.Kind == fail.Unavailable && errors.Is(err, fs.ErrNotExist) && ofAgent(err) && !configured(root) {
		e = e.With(unconfigured)
	}
	name := cmp.Or(as.name, root.Name())
	if c, _, ferr := root.Find(args); ferr == nil && as.name == "" && text.Alone(err.Error()) {
		name = c.CommandPath()
	}
	faults := inTongue
	if as.faults != nil {
		faults = as.faults
	}
	report(faults(env.Stderr, speech), name, err, e)
	return e.Kind.Exit()
}

// unconfigured is what to do on a host whose agent has no settings, and so is not to be started.
const unconfigured = "this host is of no cluster yet: there is no " +
	install.SettingsFile + "; to make it one of a cluster: holdfast install -c FILE"

// configured says whether this host has settings of an agent, or another agent was meant.
func configured(root *cobra.Command) bool {
	for _, name := range []string{"socket", "server"} {
		if f := root.PersistentFlags().Lookup(name); f != nil && f.Changed {
			return true
		}
	}
	_, err := os.Stat(install.SettingsFile)
	return os.Getenv(socketEnv) != "" || !errors.Is(err, fs.ErrNotExist)
}

// inTongue is where the error of a command goes that ends: people read it, also of a command whose output is English.
func inTongue(w io.Writer, l *lang.Catalogue) io.Writer {
	if _, already := lang.Raw(w); l == nil || already != nil {
		return w
	}
	return lang.Writer{Writer: w, Catalogue: l}
}

// AsItIs is the annotation of a command whose output is other programs', or read by some: it is not translated, but
// for its help.
const AsItIs = "asItIs"

// forPeople says whether people read what a command line writes, and no shell and no other
// process of this program.
func forPeople(root *cobra.Command, args []string) bool {
	if len(args) > 0 {
		if name := args[0]; name == "completion" || strings.HasPrefix(name, "__complete") {
			return false
		}
	}
	c, _, err := root.Find(args)
	if err == nil && c.Annotations[AsItIs] != "" {
		return slices.Contains(args, "--help") || slices.Contains(args, "-h")
	}
	return err != nil || !c.Hidden
}

// Complete gives the root of a program what is the same for all: where it reads and writes, its help, and that a
// wrong call is bad input.
func Complete(root *cobra.Command, env Env) *cobra.Command {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetHelpFunc(help)
	root.SetUsageFunc(usageText)
	root.SetHelpCommand(helpCmd())
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetIn(env.Stdin)
	markUsage(root)
	return root
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

// report prints an error after who or what it is, and its remedy, for a terminal folded. A command
// that has said everything already ends with an empty message.
func report(w io.Writer, name string, err error, e *fail.Error) {
	if err.Error() == "" {
		return
	}
	p := painterFor(w)
	if raw, l := lang.Raw(w); isZsha(raw) { // its texts are those of another tool
		p = painter{lang: l}
	}
	var list choices
	if !p.cuts && errors.As(err, &list) {
		p.cuts, p.columns = true, 0
	}
	var b strings.Builder
	begin := name + ": "
	for line := range strings.SplitSeq(cleanLines(err.Error()), "\n") {
		b.WriteString(p.folded(begin, p.lang.Text(line), 2))
		begin = ""
	}
	if begin = "  "; e.Remedy != "" {
		for line := range strings.SplitSeq(cleanLines(e.Remedy), "\n") {
			b.WriteString(p.folded(begin, p.lang.Text(line), 4))
			begin = ""
		}
	}
	// Nothing is left to be done when stderr is gone; the exit code still tells.
	_, _ = io.WriteString(w, b.String())
}

func isZsha(w io.Writer) bool {
	_, is := w.(zshaWriter)
	return is
}

// usage makes the error of a command that was called wrongly.
func usage(cmd *cobra.Command, err error) error {
	var e *fail.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return fail.Errorf(fail.Invalid, "%w", plainly(cmd, err)).With("see: " + cmd.CommandPath() + " --help")
}

// markUsage makes wrong flags and arguments of all commands bad input, and so a command that only holds others.
func markUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(usage)
	if cmd.HasParent() && cmd.HasSubCommands() && !cmd.Runnable() {
		holds(cmd)
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error { return usage(c, check(c, args)) }
	}
	for _, c := range cmd.Commands() {
		markUsage(c)
	}
}

// group makes a command that only holds others.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(sub...)
	holds(cmd)
	return cmd
}

// holds refuses to run a command that only holds others.
func holds(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(c *cobra.Command, args []string) error {
		what := "no command given"
		if len(args) > 0 {
			what = fmt.Sprintf("unknown command %q", args[0])
		}
		return usage(c, choices{fmt.Errorf("%s: %s; want %s", c.CommandPath(), what, subcommands(c))})
	}
}
