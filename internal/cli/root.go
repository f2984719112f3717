package cli

import (
	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/access"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/configure"
	"holdfast/internal/cli/doctor"
	"holdfast/internal/cli/ha"
	"holdfast/internal/cli/installer"
	"holdfast/internal/cli/notify"
	"holdfast/internal/cli/pair"
	"holdfast/internal/cli/probe"
	"holdfast/internal/cli/transition"
	"holdfast/internal/cli/upgrade"
)

// Bare is the command line without what only a host has.
func Bare() *cobra.Command { return New(command.Env{}) }

// New returns the command line. Its errors are for Main to print.
func New(env command.Env) *cobra.Command {
	a := &command.App{Env: env, Root: Bare}
	root := &cobra.Command{
		Use:   command.Program,
		Short: "Keep a management VM running on exactly one host",
		Long: `Holdfast keeps a management VM running on exactly one of an odd number of hosts.

Exit codes: 0 done, 1 failed, 2 bad input, 3 refused for safety, 4 agent or
server not reachable. Set HOLDFAST_LANG=zh for messages in Chinese.`,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.Socket, "socket", "",
		"agent's unix `path` (default $"+command.SocketEnv+", else "+command.DefaultSocket+")")
	f.StringVar(&a.Server, "server", "", "agent's `URL`, https://IP:"+api.DefaultPort+", instead of a socket")
	f.StringVar(&a.CA, "ca", "", "PEM `file` with the cluster's CA, for --server")
	f.StringVar(&a.Cert, "cert", "", "PEM `file` with the client certificate, for --server")
	f.StringVar(&a.Key, "key", "", "PEM `file` with the client's key, for --server")
	f.StringVarP(&a.Output, "output", "o", "text", "output `format`, text or json")
	root.AddCommand(versionCmd(a), configure.Command(a), pair.Command(a), transition.Command(a), probe.Command(a))
	root.AddCommand(ha.Commands(a)...)
	root.AddCommand(access.Commands(a)...)
	root.AddCommand(notify.Command(a))
	root.AddCommand(installer.Commands(a)...)
	root.AddCommand(doctor.Commands(a)...)
	root.AddCommand(upgrade.Commands(a)...)
	checkOutput(a, root)
	root.AddCommand(env.Extra...)
	addExamples(root, "")
	return Complete(root, env)
}

// checkOutput has all commands below one look at the output format as they look at their other flags, in PreRunE:
// before they are run, and where a plan of them is made (Fits). PreRunE asks and changes nothing.
func checkOutput(a *command.App, cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		checkOutput(a, c)
	}
	if cmd.RunE == nil || cmd.HasSubCommands() {
		return
	}
	check := cmd.PreRunE
	cmd.PreRunE = func(c *cobra.Command, args []string) error {
		var err error
		if more := c.Annotations[command.MoreForms]; more != "" {
			_, err = a.Format(c, more)
		} else {
			_, err = a.AsJSON(c)
		}
		if err == nil && check != nil {
			err = check(c, args)
		}
		return err
	}
}
