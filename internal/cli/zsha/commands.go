package zsha

import (
	"errors"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/installer"
	"holdfast/internal/cli/output"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// zshaHelp is the source tool's help, word by word but for what it is and what stop and start do,
// where its words would not be true. As there, reset-MNVM-password is not in it.
const helpText = `zsha keeps the management VM running on exactly one host.

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

// zshaExample is for the manual page.
const example = `  zsha config-sample FileConf
  zsha check-config /tmp/config.json
  zsha install --ask-password -c /tmp/config.json
  zsha status
  zsha migrate 192.0.2.12
  zsha export-config
  zsha import-config /tmp/current.config.json`

// commands are the source tool's commands. Each is described in its words; what follows is ours.
func commands(a *command.App) []*cobra.Command {
	var undersized bool
	check := one(a, "check-config CONFIGURATION-FILE-PATH", "check configuration file",
		`Checks a configuration file. Every fault is told, one line each: file, field,
value, and what is allowed.`, "  zsha check-config /tmp/current.config.json",
		func(a *command.App, c *cobra.Command, file string) error { return check(a, c, file, undersized) })
	check.Flags().BoolVar(&undersized, "allow-undersized", false, "accept a management VM for tests, below 8 GB and\n4 CPUs")
	reset := none(a, "reset-MNVM-password", "reset the root password of MN-VM to the default",
		`Gives root of the management VM the password "password". Refused unless
AllowResetRootPassword is true in the configuration. It is not in zsha -h.`, "", resetPassword)
	reset.Hidden = true
	return []*cobra.Command{
		installCmd(a), uninstallCmd(a), check,
		one(a, "config-sample "+config.CephConf+"|"+config.FileConf, "output sample config json file",
			`Writes a configuration to start from to /tmp/sample.CephConf.config.json or
/tmp/sample.FileConf.config.json. $TMPDIR is taken in place of /tmp.`, "  zsha config-sample FileConf", sample),
		none(a, "export-config", "output current config json file to /tmp/current.config.json",
			`Writes the configuration that is in force to /tmp/current.config.json, for
check-config and import-config. $TMPDIR is taken in place of /tmp.`, "", export),
		one(a, "import-config CONFIGURATION-FILE-PATH", "update configuration to HA cluster",
			`Checks a configuration, tells what differs from the one in force and when each
change takes effect, and makes it the configuration of all hosts. It does not
ask. Refused: what needs an installation, and any change while a migration or a
start of the management VM is under way.`, "  zsha import-config /tmp/current.config.json", importFile),
		one(a, "migrate "+command.ZshaAddress, "migrate to target HA host, ip or hostname should be provided",
			`Moves the running management VM to another host of the cluster, by its address
or its name. Refused to a host that could not run it.`, "  zsha migrate 192.0.2.12\n  zsha migrate node-2", migrate),
		none(a, "status", "show status",
			`Shows where the management VM runs, when it was started last, which hosts are
there, and the members of the store under the heading Consul Members. "status
-conf" is status-conf.`, "", func(a *command.App, c *cobra.Command) error { return status(a, c, false) }),
		none(a, statusConf, "show status with current configuration",
			`Shows what status shows, and the configuration that is in force.`, "",
			func(a *command.App, c *cobra.Command) error { return status(a, c, true) }),
		none(a, "stop", "close MN-VM in cluster, agents and store will continue to operate",
			`Stops the management VM, and waits for the proof that it has ended. It stays
stopped, also when hosts boot, until "zsha start".`, "", stop),
		none(a, "start", "start MN-VM in cluster",
			`Starts the management VM, and waits until it runs. It starts no agent that
somebody has stopped on a host: systemctl start holdfast.`, "", start),
		reset,
	}
}

func none(a *command.App, use, short, long, example string,
	do func(*command.App, *cobra.Command) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long, Example: example, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return do(a, c) }}
}

func one(a *command.App, use, short, long, example string,
	do func(*command.App, *cobra.Command, string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long, Example: example, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return do(a, c, args[0]) }}
}

// installCmd takes the password as an argument, as the source tool does.
func installCmd(a *command.App) *cobra.Command {
	var ssh installer.SSHFlags
	var password, file, base string
	var undersized, check, yes, closed bool
	cmd := &cobra.Command{
		Use:   "install -p ROOT-PASSWORD -c CONFIGURATION-FILE-PATH",
		Short: "Install Mode, Need a root password for all HA nodes, Need a configuration file path",
		Long: `Checks all hosts of the configuration, logs in to each by SSH, places Holdfast
there, makes the cluster, and starts the management VM. Nothing is changed where
a check fails. Others on this host can read -p among the arguments of running
programs: --ask-password and keys are safer. "holdfast install" tells more.`,
		Example: "  zsha install --ask-password -c /tmp/config.json --check\n  zsha install -p PASSWORD -c /tmp/config.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return command.Usage(cmd, errors.New("want -c CONFIGURATION-FILE-PATH"))
			}
			o, err := installer.InstallOptions(a, cmd, file, "", base, undersized)
			if err == nil {
				err = refusePair(o.Config.Type == config.PairConf, "holdfast pair setup")
			}
			if err != nil {
				return err
			}
			if err := output.Text(a.Env.Stdout, "config file check pass\n"); err != nil {
				return err
			}
			if err := ssh.Prepare(cmd.Context(), a); err != nil {
				return err
			}
			if password != "" {
				ssh.Opt.Password = password
				if err := output.Text(a.Env.Stderr, "warning: others on this host can read the password among the "+
					"arguments of running programs, and the shell keeps it: use --ask-password\n"); err != nil {
					return err
				}
			}
			o.Confirm, o.NoFirewall = a.Confirming(yes), closed
			return installHosts(a, cmd, o, &ssh, check)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&password, "password", "p", "", "root's password on all hosts")
	f.StringVarP(&file, "config", "c", "", "the cluster's configuration `file`")
	f.StringVar(&base, "settings", "", "`file` with settings of all agents")
	f.BoolVar(&undersized, "allow-undersized", false, "accept a management VM for tests, below\n8 GB and 4 CPUs")
	f.BoolVar(&check, "check", false, "check only")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&closed, "no-firewall", false, "leave the hosts' firewalls alone; you open\nthe ports yourself")
	ssh.Add(cmd)
	return cmd
}

func uninstallCmd(a *command.App) *cobra.Command {
	var ssh installer.SSHFlags
	var file, base string
	var sure bool
	cmd := &cobra.Command{
		Use: "uninstall --" + installer.SureFlag, Short: "uninstall from all nodes",
		Long: `Stops the management VM, ends the agents of all hosts by SSH, and removes what
was installed there. The image and all else in the shared directory stay.
Refused, and nothing is changed, while a host does not answer.`,
		Example: "  zsha uninstall --" + installer.SureFlag + " --ask-password",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !sure {
				if o, err := installer.UninstallOptions(a, cmd, file, "", base); err == nil && o.Config.Type == config.PairConf {
					return refusePair(true, "holdfast uninstall")
				}
				err := output.Text(a.Env.Stdout, "WARNING: this will *DESTROY* ZStack Management Node VM.\nIf you are "+
					"*ABSOLUTELY CERTAIN* that is what you want, followed by --"+installer.SureFlag+".\n")
				if err == nil {
					err = fail.Errorf(fail.Refused, "") // all is said
				}
				return err
			}
			return uninstallHosts(a, cmd, file, base, &ssh)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", "", "the cluster's configuration `file`")
	f.StringVar(&base, "settings", "", "`file` with settings of all agents")
	f.BoolVar(&sure, installer.SureFlag, false, "do it")
	ssh.Add(cmd)
	return cmd
}

// Writer writes texts of Holdfast for who uses the source tool's commands: they name those.
type Writer struct{ io.Writer }

// Beneath is where the texts go.
func (w Writer) Beneath() io.Writer { return w.Writer }

// Write reports as written all of p, or nothing.
func (w Writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.Writer, inItsWords(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// zshaOf are the source tool's commands by those of Holdfast that do the same.
var sameAs = map[string]string{
	"config check": "check-config", "config sample": "config-sample", "config export": "export-config", "config import": "import-config",
	"install": "install", "uninstall": "uninstall", "migrate": "migrate", "status": "status", "start": "start", "stop": "stop",
	"reset-mnvm-password": "reset-MNVM-password",
}

// ofHoldfast is one of these commands, and a flag that follows.
var ofHoldfast = regexp.MustCompile(`\bholdfast(\s+)(config\s+(?:check|sample|export|import)|install|uninstall|migrate|status|start|stop|reset-mnvm-password)\b( +-\S+)?`)

// inItsWords puts the source tool's commands in place of those of Holdfast that do the same. One with a flag
// stays, as that tool has no such flag; its installation has all of ours.
func inItsWords(text string) string {
	text = ofHoldfast.ReplaceAllStringFunc(text, func(m string) string {
		f := ofHoldfast.FindStringSubmatch(m)
		name := strings.Join(strings.Fields(f[2]), " ")
		if f[3] != "" && name != "install" && name != "uninstall" {
			return m
		}
		return Name + f[1] + sameAs[name] + f[3]
	})
	// It has no --server.
	return strings.NewReplacer("--socket, $"+command.SocketEnv+" or --server", "--socket or $"+command.SocketEnv,
		"; or ask the agent of another host with --server", "").Replace(text)
}
