package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/zsha"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/lang"
	"holdfast/internal/lib/text"
)

// called is a program as it was called.
type called struct {
	root func(command.Env) *cobra.Command
	name string // what its errors begin with; "": the program's own name, or the command's
	// faults is where what is told of errors goes; nil: to people, in their language.
	faults func(io.Writer, *lang.Catalogue) io.Writer
}

// Main runs a command line of the program holdfast, which may be called by the names of source tools, whose texts
// then are theirs. args are without the program's name.
func Main(args []string, env command.Env) int {
	of := ofOtherTool(env)
	if tool, fails := zsha.PairTool(of); tool != nil {
		asItIs := func(w io.Writer, _ *lang.Catalogue) io.Writer { return w }
		return run(args, of, called{func(command.Env) *cobra.Command { return tool }, fails, asItIs})
	}
	if zsha.Called() {
		return run(zsha.Args(args), of, called{zsha.New, zsha.Errors,
			func(w io.Writer, l *lang.Catalogue) io.Writer { return inTongue(zsha.Writer{Writer: w}, l) }})
	}
	return Run(args, env, New)
}

// ofOtherTool is the environment of a source tool's command: what an installation puts on hosts is made of our own
// commands.
func ofOtherTool(env command.Env) command.Env {
	own := env
	env.HostFiles = func(_ *cobra.Command, ofPair bool) ([]install.File, error) { return own.HostFiles(New(own), ofPair) }
	return env
}

// Run runs a command line of the program with that root, prints its error, and returns the exit code. The first SIGINT
// or SIGTERM ends the command's context, the second one the process.
func Run(args []string, env command.Env, root func(command.Env) *cobra.Command) int {
	return run(args, env, called{root: root})
}

func run(args []string, env command.Env, as called) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	root := as.root(env)
	speech, err := lang.For(os.Getenv(lang.Env))
	if err != nil {
		e := fail.Errorf(fail.Invalid, "%w", err)
		command.Report(env.Stderr, root.Name(), err, e)
		return e.Kind.Exit()
	}
	if as.faults == nil && speech != nil && forPeople(root, args) {
		env.Stdout, env.Stderr = lang.Writer{Writer: env.Stdout, Catalogue: speech}, lang.Writer{Writer: env.Stderr, Catalogue: speech}
		root = as.root(env)
		command.Translate(root, speech)
	}
	root.SetArgs(args)
	root.InitDefaultCompletionCmd(args...)
	for _, c := range root.Commands() {
		if c.Name() == "completion" { // cobra's own
			command.MarkUsage(c)
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
			err = command.Plainly(root, err)
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
	command.Report(faults(env.Stderr, speech), name, err, e)
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
	return os.Getenv(command.SocketEnv) != "" || !errors.Is(err, fs.ErrNotExist)
}

// inTongue is where the error of a command goes that ends: people read it, also of a command whose output is English.
func inTongue(w io.Writer, l *lang.Catalogue) io.Writer {
	if _, already := lang.Raw(w); l == nil || already != nil {
		return w
	}
	return lang.Writer{Writer: w, Catalogue: l}
}

// forPeople says whether people read what a command line writes, and no shell and no other
// process of this program.
func forPeople(root *cobra.Command, args []string) bool {
	if len(args) > 0 {
		if name := args[0]; name == "completion" || strings.HasPrefix(name, "__complete") {
			return false
		}
	}
	c, _, err := root.Find(args)
	if err == nil && c.Annotations[command.AsItIs] != "" {
		return slices.Contains(args, "--help") || slices.Contains(args, "-h")
	}
	return err != nil || !c.Hidden
}

// Complete gives the root of a program what is the same for all: where it reads and writes, its help, and that a
// wrong call is bad input.
func Complete(root *cobra.Command, env command.Env) *cobra.Command {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetHelpFunc(command.Help)
	root.SetUsageFunc(command.UsageText)
	root.SetHelpCommand(command.HelpCmd())
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetIn(env.Stdin)
	command.MarkUsage(root)
	return root
}
