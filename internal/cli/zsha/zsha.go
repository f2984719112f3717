// Package zsha has the command lines of other products, by whose names the program may be called: zsha, and the
// commands of a pair. It is above the tools, whose work it does in their words.
package zsha

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/configure"
	"holdfast/internal/cli/ha"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
)

// Name is the name under which this program takes the source tool's commands.
const Name = "zsha"

// Errors stands before errors, as before those that the source tool has from libvirt.
const Errors = "error"

// zshaConf is its command for the status with the configuration.
const statusConf = "status-conf"

// The files that the source tool writes, in the system's directory for those that
// last for a while ($TMPDIR, else /tmp).
const (
	sampleFile  = "sample.%s.config.json"
	currentFile = "current.config.json"
)

// New returns the source tool's command line. It prints what that tool prints;
// the exit codes are ours.
func New(env command.Env) *cobra.Command {
	env.Stderr = Writer{env.Stderr}
	a := &command.App{Env: env, Output: "text"}
	root := &cobra.Command{
		Use: Name, Short: "The commands of the suite that Holdfast replaces", Long: helpText, Example: example,
		SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tellsMore(cmd) {
				return output.Text(env.Stdout, versionText(env))
			}
			return output.Text(env.Stdout, helpText)
		},
	}
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetIn(env.Stdin)
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		if c.HasParent() {
			command.Help(c, args)
			return
		}
		_ = output.Text(env.Stdout, helpText) // there is nobody to tell
	})
	root.SetUsageFunc(command.UsageText)
	asks := command.HelpCmd()
	asks.Hidden = true // it is not among that tool's
	root.SetHelpCommand(asks)
	f := root.PersistentFlags()
	f.BoolP(moreFlag, "v", false, "show version, print execution details")
	f.StringVar(&a.Socket, "socket", "",
		"agent's unix `path` (default $"+command.SocketEnv+", else "+command.DefaultSocket+")")
	root.AddCommand(commands(a)...)
	for _, c := range root.Commands() {
		withDetails(a, c)
	}
	command.MarkUsage(root)
	return root
}

// Args are arguments as New takes them: the manual also has "status -conf".
func Args(args []string) []string {
	for i := range len(args) - 1 {
		if args[i] == "status" && args[i+1] == "-conf" {
			return slices.Concat(args[:i], []string{statusConf}, args[i+2:])
		}
	}
	return args
}

// zshaMore is the flag by which commands tell more.
const moreFlag = "version"

func tellsMore(cmd *cobra.Command) bool { return cmd.Flag(moreFlag).Value.String() == "true" }

// withDetails has a command tell, with -v, by which version it was done and how long it took.
func withDetails(a *command.App, c *cobra.Command) {
	run := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if !tellsMore(cmd) {
			return run(cmd, args)
		}
		begin := time.Now()
		err := output.Text(a.Env.Stderr, versionText(a.Env))
		if err == nil {
			err = run(cmd, args)
		}
		return errors.Join(err,
			output.Text(a.Env.Stderr, fmt.Sprintf("%s: %.1f s\n", cmd.CommandPath(), time.Since(begin).Seconds())))
	}
}

func versionText(env command.Env) string {
	made := "unknown"
	if !env.Built.IsZero() {
		made = env.Built.UTC().Format(time.UnixDate)
	}
	return fmt.Sprintf("App Version: %s\nBuild Date: %s\nBranch Name: (detached)\nCommit ID: %s\n", env.Version, made,
		output.Or(env.Commit, "unknown"))
}

// write writes one of the source tool's files. A link that somebody has put
// there is replaced, not followed.
func write(a *command.App, name string, text []byte) error {
	file := filepath.Join(os.TempDir(), name)
	if err := durable.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return output.Text(a.Env.Stdout, "output config json file to "+file+"\n")
}

func sample(a *command.App, cmd *cobra.Command, kind string) error {
	if kind != config.FileConf && kind != config.CephConf {
		return command.Usage(cmd, fmt.Errorf("sample of kind %q: want %s or %s", kind, config.CephConf, config.FileConf))
	}
	text, err := config.Sample(kind, rand.Reader)
	if err != nil {
		return fmt.Errorf("make a sample: %w", err)
	}
	return write(a, fmt.Sprintf(sampleFile, kind), text)
}

func export(a *command.App, cmd *cobra.Command) error {
	cl, _, err := command.Asked(a, cmd, command.ClusterConfig)
	if err != nil {
		return err
	}
	return write(a, currentFile, cl.JSON())
}

// check says what is wrong with a configuration, or that nothing is.
func check(a *command.App, cmd *cobra.Command, file string, undersized bool) error {
	_, warnings, err := read(cmd.Context(), a, file, undersized)
	if err != nil {
		return err
	}
	return a.WriteCheck(nil, warnings)
}

// read reads a configuration; it has told all that is wrong with it.
func read(ctx context.Context, a *command.App, file string,
	undersized bool) (cl config.Cluster, warnings []config.Warning, err error) {
	name, data, err := a.ReadConfig(ctx, file)
	if err != nil {
		return cl, nil, err
	}
	cl, faults, warnings := config.Parse(name, data, config.Options{AllowUndersized: undersized, ReadFile: config.ReadFile})
	if len(faults) > 0 {
		return cl, nil, errors.Join(a.WriteCheck(faults, warnings), fail.Errorf(fail.Invalid, "")) // all is said
	}
	return cl, warnings, nil
}

// importFile leaves it to the agent whether the management VM may be one for tests, as in the cluster that it
// keeps: what export-config wrote is taken.
func importFile(a *command.App, cmd *cobra.Command, file string) error {
	cl, _, err := read(cmd.Context(), a, file, true)
	if err != nil {
		return err
	}
	c, _, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	in := config.Import{Name: file, Text: string(cl.JSON()), Check: true}
	if _, err := c.ImportConfig(cmd.Context(), in); err != nil {
		return err
	}
	if err := a.WriteCheck(nil, nil); err != nil {
		return err
	}
	in.Check = false
	told := *a
	told.Env.Stdout = Writer{a.Env.Stdout}
	return configure.Import(cmd.Context(), &told, c, false, in, true)
}

// open begins a command that is about the management VM. instead does the same for a pair, which has none.
func open(a *command.App, cmd *cobra.Command,
	instead string) (c *api.Client, s cluster.Status, cl config.Cluster, err error) {
	if c, _, err = a.Open(cmd); err != nil {
		return nil, s, cl, err
	}
	if s, err = c.Status(cmd.Context()); err == nil {
		err = refusePair(s.OfPair(), instead)
	}
	if err == nil {
		cl, err = command.ClusterConfig(cmd.Context(), c)
	}
	if err != nil {
		c.Close()
	}
	return c, s, cl, err
}

// refusePair refuses what makes no sense in a pair.
func refusePair(is bool, instead string) error {
	if !is {
		return nil
	}
	return fail.Errorf(fail.Refused,
		"zsha keeps a management VM, and this host is one of a pair, which has none").With("for a pair: " + instead)
}

func migrate(a *command.App, cmd *cobra.Command, target string) error {
	c, s, cl, err := open(a, cmd, "holdfast pair switch")
	if err != nil {
		return err
	}
	defer c.Close()
	from, to, host := "", "", ""
	for _, n := range cl.Nodes() {
		if n.Host == s.Owner.Host {
			from = n.IP
		}
		if n.IP == target || string(n.Host) == target {
			to, host = n.IP, string(n.Host)
		}
	}
	switch {
	case to == "":
		return fail.Errorf(fail.Invalid, "%q is no host of the HA cluster", target).With("want one of: " + strings.Join(cl.Node, ", "))
	case to == from && s.Owner.State == cluster.Running:
		return fail.Errorf(fail.Refused, "Requested operation is not valid: domain 'ZStack Management Node VM' is already active")
	}
	show := &migration{w: a.Env.Stdout, terminal: output.IsTerminal(a.Env.Stdout)}
	begun := false
	for p, err := range c.Migrate(cmd.Context(), host, "") {
		if err == nil && !begun { // it was not refused
			begun, err = true, output.Text(a.Env.Stdout, fmt.Sprintf("Migrate from %s to %s\n", output.Or(from, "unknown"), to))
		}
		if err != nil {
			return err
		}
		if err := show.next(p); err != nil {
			return err
		}
	}
	return nil
}

// migration writes the percentage: in place on a terminal, else its end only. It
// never goes back.
type migration struct {
	w        io.Writer
	terminal bool
	most     text.Percent[int]
}

func (z *migration) next(p api.Progress) error {
	percent := z.most.At(p.Percent)
	switch {
	case p.Done && z.terminal:
		return output.Text(z.w, "\rMigration: [100 %]\n")
	case p.Done:
		return output.Text(z.w, "Migration: [100 %]\n")
	case z.terminal:
		return output.Text(z.w, fmt.Sprintf("\rMigration: [%3d %%]", min(percent, 99)))
	}
	return nil
}

// each writes the source tool's line for every host.
func each(cl config.Cluster) string {
	var b strings.Builder
	for _, n := range cl.Nodes() {
		fmt.Fprintf(&b, "Do for %s\n", n.IP)
	}
	return b.String()
}

// request makes a request of the whole cluster, and waits until it is done.
func request(a *command.App, cmd *cobra.Command, before, after string, g ha.Goal) error {
	c, _, cl, err := open(a, cmd, "holdfast pair "+g.Name)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := g.Request(cmd.Context(), c); err != nil {
		return err
	}
	if err := output.Text(a.Env.Stdout, before+each(cl)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), progress.DefaultWait)
	defer cancel()
	if _, err := ha.Wait(ctx, a, c, g); err != nil {
		return err
	}
	return output.Text(a.Env.Stdout, after)
}

func stop(a *command.App, cmd *cobra.Command) error {
	return request(a, cmd, "start shutdown cluster\n", "shutdown cluster finished\n", ha.Goal{
		Name: "stop", Reached: ha.Stopped,
		Request: func(ctx context.Context, c *api.Client) error { return c.Stop(ctx, false, "") },
	})
}

func start(a *command.App, cmd *cobra.Command) error {
	return request(a, cmd, "", "", ha.Goal{
		Name: "start", Reached: ha.Started,
		Request: func(ctx context.Context, c *api.Client) error { return c.Start(ctx, "") },
	})
}

func resetPassword(a *command.App, cmd *cobra.Command) error {
	c, _, _, err := open(a, cmd, "passwd, on each node")
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := c.ResetPassword(cmd.Context(), ha.DefaultPassword)
	if err != nil {
		return err
	}
	return output.Text(a.Env.Stdout, fmt.Sprintf("Reset MNVM root password on %s\nPassword set successfully for "+
		"root in %s\n", output.Clean(r.Addr), output.Clean(r.UUID)))
}

// Called reports whether the program was called by the source tool's name.
func Called() bool { return filepath.Base(os.Args[0]) == Name }
