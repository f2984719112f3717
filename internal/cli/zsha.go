package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/fail"
	"holdfast/internal/progress"
)

// ZshaName is the name under which this program takes the source tool's commands.
const ZshaName = "zsha"

// zshaErrors stands before errors, as before those that the source tool has from libvirt.
const zshaErrors = "error"

// zshaConf is its command for the status with the configuration.
const zshaConf = "status-conf"

// The files that the source tool writes, in the system's directory for those that
// last for a while ($TMPDIR, else /tmp).
const (
	zshaSample  = "sample.%s.config.json"
	zshaCurrent = "current.config.json"
)

// zshaHelp is the source tool's help, word by word but for what it is and what stop and start do,
// where its words would not be true. As there, reset-MNVM-password is not in it.
const zshaHelp = `zsha keeps the management VM running on exactly one host.

usage:
zsha [-h] [-v]

All sub-commands

install [-p] ROOT-PASSWORD [-c] CONFIGURATION-FILE-PATH
    Install Mode, Need a root password for all HA nodes, Need a configuration file path
uninstall --yes-i-really-really-mean-it
    uninstall from all nodes
check-config CONFIGURATION-FILE-PATH
    check configuration file
config-sample [CephConf|FileConf]
    output sample config json file to /tmp/sample.CephConf.config.json
    or /tmp/sample.FileConf.config.json
export-config    output current config json file to /tmp/current.config.json
import-config CONFIGURATION-FILE-PATH
    update configuration to HA cluster
migrate xxx.xxx.xxx.xxx
    migrate to target HA host, ip or hostname should be provided
status          show status
status-conf     show status with current configuration
stop            close MN-VM in cluster, agents and store will continue to operate
start           start MN-VM in cluster

optional arguments:
-h          show this help message
-v          show version, print execution details
`

// NewZsha returns the source tool's command line. It prints what that tool prints;
// the exit codes are ours.
func NewZsha(env Env) *cobra.Command {
	a := &app{env: env, output: "text"}
	root := &cobra.Command{
		Use: ZshaName, SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(*cobra.Command, []string) error {
			if a.details {
				return writeText(env.Stdout, zshaVersion(env))
			}
			return writeText(env.Stdout, zshaHelp)
		},
	}
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetIn(env.Stdin)
	root.SetHelpFunc(func(*cobra.Command, []string) {
		_ = writeText(env.Stdout, zshaHelp) // there is nobody to tell
	})
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	f := root.PersistentFlags()
	f.BoolVarP(&a.details, "version", "v", false, "show version, print execution details")
	f.StringVar(&a.socket, "socket", "", "agent's unix `path`")
	root.AddCommand(
		zshaOne("check-config", a.zshaCheck), zshaOne("config-sample", a.zshaSampleTo), zshaNone("export-config", a.zshaExport),
		zshaOne("import-config", a.zshaImport), zshaOne("migrate", a.zshaMigrate),
		zshaNone("status", func(c *cobra.Command) error { return a.zshaStatus(c, false) }),
		zshaNone(zshaConf, func(c *cobra.Command) error { return a.zshaStatus(c, true) }),
		zshaNone("stop", a.zshaStop), zshaNone("start", a.zshaStart), zshaNone("reset-MNVM-password", a.zshaReset),
		a.zshaInstall(), a.zshaUninstall(),
	)
	for _, c := range root.Commands() {
		a.zshaDetails(c)
	}
	markUsage(root)
	return root
}

func zshaNone(use string, do func(*cobra.Command) error) *cobra.Command {
	return &cobra.Command{Use: use, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return do(c) }}
}

func zshaOne(use string, do func(*cobra.Command, string) error) *cobra.Command {
	return &cobra.Command{Use: use, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error { return do(c, args[0]) }}
}

// zshaArgs are arguments as NewZsha takes them: the manual also has "status -conf".
func zshaArgs(args []string) []string {
	if strings.Join(args, " ") == "status -conf" {
		return []string{zshaConf}
	}
	return args
}

// zshaDetails has a command tell, with -v, by which version it was done and how long it took.
func (a *app) zshaDetails(c *cobra.Command) {
	run := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if !a.details {
			return run(cmd, args)
		}
		begin := time.Now()
		err := writeText(a.env.Stderr, zshaVersion(a.env))
		if err == nil {
			err = run(cmd, args)
		}
		return errors.Join(err, writeText(a.env.Stderr, fmt.Sprintf("%s: %.1f s\n", cmd.CommandPath(), time.Since(begin).Seconds())))
	}
}

func zshaVersion(env Env) string {
	made := "unknown"
	if !env.Built.IsZero() {
		made = env.Built.UTC().Format(time.UnixDate)
	}
	return fmt.Sprintf("App Version: %s\nBuild Date: %s\nBranch Name: (detached)\nCommit ID: %s\n", env.Version, made, or(env.Commit, "unknown"))
}

func (a *app) zshaCheck(cmd *cobra.Command, file string) error {
	_, err := a.zshaRead(cmd.Context(), file)
	return err
}

// zshaRead reads a configuration, and says what is wrong with it or that nothing is.
func (a *app) zshaRead(ctx context.Context, file string) (cl config.Cluster, err error) {
	name, data, err := a.readConfig(ctx, file)
	if err != nil {
		return cl, err
	}
	cl, faults, warnings := config.Parse(name, data, config.Options{ReadFile: config.ReadFile})
	if err := a.writeCheck(faults, warnings); err != nil {
		return cl, err
	}
	if len(faults) > 0 {
		return cl, fail.Errorf(fail.Invalid, "") // all is said
	}
	return cl, nil
}

// zshaWrite writes one of the source tool's files. A link that somebody has put
// there is replaced, not followed.
func (a *app) zshaWrite(name string, text []byte) error {
	file := filepath.Join(os.TempDir(), name)
	if err := durable.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return writeText(a.env.Stdout, "output config json file to "+file+"\n")
}

func (a *app) zshaSampleTo(_ *cobra.Command, kind string) error {
	if kind != config.FileConf && kind != config.CephConf {
		return fail.Errorf(fail.Invalid, "sample of kind %q: want %s or %s", kind, config.CephConf, config.FileConf)
	}
	text, err := config.Sample(kind, rand.Reader)
	if err != nil {
		return fmt.Errorf("make a sample: %w", err)
	}
	return a.zshaWrite(fmt.Sprintf(zshaSample, kind), text)
}

func (a *app) zshaExport(cmd *cobra.Command) error {
	cl, _, err := asked(a, cmd, clusterConfig)
	if err != nil {
		return err
	}
	return a.zshaWrite(zshaCurrent, cl.JSON())
}

func (a *app) zshaImport(cmd *cobra.Command, file string) error {
	cl, err := a.zshaRead(cmd.Context(), file)
	if err != nil {
		return err
	}
	c, _, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	return a.importConfig(cmd.Context(), c, false, config.Import{Name: file, Text: string(cl.JSON())}, true)
}

func (a *app) zshaMigrate(cmd *cobra.Command, target string) error {
	c, _, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	cl, err := clusterConfig(cmd.Context(), c)
	if err != nil {
		return err
	}
	s, err := c.Status(cmd.Context())
	if err != nil {
		return err
	}
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
	if err := writeText(a.env.Stdout, fmt.Sprintf("Migrate from %s to %s\n", or(from, "unknown"), to)); err != nil {
		return err
	}
	show := &zshaProgress{w: a.env.Stdout, terminal: isTerminal(a.env.Stdout)}
	for p, err := range c.Migrate(cmd.Context(), host, "") {
		if err != nil {
			return err
		}
		if err := show.next(p); err != nil {
			return err
		}
	}
	return nil
}

// zshaProgress writes the percentage: in place on a terminal, else its end only. It
// never goes back.
type zshaProgress struct {
	w        io.Writer
	terminal bool
	most     progress.Percent[int]
}

func (z *zshaProgress) next(p api.Progress) error {
	percent := z.most.At(p.Percent)
	switch {
	case p.Done && z.terminal:
		return writeText(z.w, "\rMigration: [100 %]\n")
	case p.Done:
		return writeText(z.w, "Migration: [100 %]\n")
	case z.terminal:
		return writeText(z.w, fmt.Sprintf("\rMigration: [%3d %%]", min(percent, 99)))
	}
	return nil
}

// zshaEach writes the source tool's line for every host.
func zshaEach(cl config.Cluster) string {
	var b strings.Builder
	for _, n := range cl.Nodes() {
		fmt.Fprintf(&b, "Do for %s\n", n.IP)
	}
	return b.String()
}

// zshaDo makes a request of the whole cluster, and waits until it is done.
func (a *app) zshaDo(cmd *cobra.Command, before, after string, g goal) error {
	c, _, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	cl, err := clusterConfig(cmd.Context(), c)
	if err != nil {
		return err
	}
	if err := writeText(a.env.Stdout, before+zshaEach(cl)); err != nil {
		return err
	}
	if err := g.request(cmd.Context(), c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), defaultWait)
	defer cancel()
	if _, err := a.wait(ctx, c, g); err != nil {
		return err
	}
	return writeText(a.env.Stdout, after)
}

func (a *app) zshaStop(cmd *cobra.Command) error {
	return a.zshaDo(cmd, "start shutdown cluster\n", "shutdown cluster finished\n", goal{
		name: "stop", request: func(ctx context.Context, c *api.Client) error { return c.Stop(ctx, false, "") }, reached: stopped,
	})
}

func (a *app) zshaStart(cmd *cobra.Command) error {
	return a.zshaDo(cmd, "", "", goal{
		name: "start", request: func(ctx context.Context, c *api.Client) error { return c.Start(ctx, "") }, reached: started,
	})
}

func (a *app) zshaReset(cmd *cobra.Command) error {
	r, _, err := asked(a, cmd, func(ctx context.Context, c *api.Client) (cluster.Reset, error) {
		return c.ResetPassword(ctx, defaultPassword)
	})
	if err != nil {
		return err
	}
	return writeText(a.env.Stdout, fmt.Sprintf("Reset MNVM root password on %s\nPassword set successfully for root in %s\n", clean(r.Addr), clean(r.UUID)))
}

// zshaInstall takes the password as an argument, as the source tool does.
func (a *app) zshaInstall() *cobra.Command {
	var ssh sshFlags
	var password, file, base string
	var undersized, check, yes, closed bool
	cmd := &cobra.Command{
		Use: "install", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage(cmd, fmt.Errorf("want -c CONFIGURATION-FILE-PATH"))
			}
			o, err := a.installOptions(cmd, file, "", base, undersized)
			if err != nil {
				return err
			}
			if err := writeText(a.env.Stdout, "config file check pass\n"); err != nil {
				return err
			}
			if err := ssh.prepare(cmd.Context(), a); err != nil {
				return err
			}
			if password != "" {
				ssh.opt.Password = password
				if err := writeText(a.env.Stderr, "warning: others on this host can read the password among the arguments of running programs, and the shell keeps it: use --ask-password\n"); err != nil {
					return err
				}
			}
			o.Confirm, o.NoFirewall = a.confirming(yes), closed
			return a.zshaInstalls(cmd, o, &ssh, check)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&password, "password", "p", "", "root's password on all hosts")
	f.StringVarP(&file, "config", "c", "", "the cluster's configuration `file`")
	f.StringVar(&base, "settings", "", "`file` with settings of all agents")
	f.BoolVar(&undersized, "allow-undersized", false, "accept a management VM for tests")
	f.BoolVar(&check, "check", false, "check only")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&closed, "no-firewall", false, "leave the hosts' firewalls alone; you open\nthe ports yourself")
	ssh.add(cmd)
	return cmd
}

func (a *app) zshaUninstall() *cobra.Command {
	var ssh sshFlags
	var file, base string
	var sure bool
	cmd := &cobra.Command{
		Use: "uninstall", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !sure {
				err := writeText(a.env.Stdout, "WARNING: this will *DESTROY* ZStack Management Node VM.\nIf you are *ABSOLUTELY CERTAIN* that is what you want, followed by --"+sureFlag+".\n")
				if err == nil {
					err = fail.Errorf(fail.Refused, "") // all is said
				}
				return err
			}
			return a.zshaUninstalls(cmd, file, base, &ssh)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", "", "the cluster's configuration `file`")
	f.StringVar(&base, "settings", "", "`file` with settings of all agents")
	f.BoolVar(&sure, sureFlag, false, "do it")
	ssh.add(cmd)
	return cmd
}

// ZshaCalled reports whether the program was called by the source tool's name.
func ZshaCalled() bool { return filepath.Base(os.Args[0]) == ZshaName }
