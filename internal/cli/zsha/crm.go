package zsha

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/pair"
	"holdfast/internal/cli/progress"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
)

// The source tool's commands on a pair, by the names under which this program takes them.
const (
	crmName   = "crm"
	stopName  = "ms_resource_stop.sh"
	startName = "ms_resource_start.sh"
	againName = "ms_recovery.sh"
	partName  = "ms_rm_sync_partition.sh"
	drbdName  = "drbd-overview"
)

// pairTools is where a pair's hosts have links to this program by these names.
const pairTools = "/usr/sbin/"

// PairLinks are these links. What is there already by such a name stays.
func PairLinks() (out []install.File) {
	for _, name := range []string{crmName, stopName, startName, againName, partName, drbdName} {
		out = append(out, install.File{Path: pairTools + name, Link: install.Program, Once: true})
	}
	return out
}

// recoveryFails is what the errors of its recovery begin with.
const recoveryFails = "ERROR"

// crmDead is what its `crm status` says when nobody answers.
const crmDead = "cmsadm: failed to connect to cmsd\n"

// PairTool returns the command of the source tool by whose name the program was called, and what its errors begin with;
// nil: it was called by none. It prints what that tool prints; the exit codes are ours.
func PairTool(env command.Env) (tool *cobra.Command, fails string) {
	name := filepath.Base(os.Args[0])
	if tool = pairTool(env, name); name == againName {
		return tool, recoveryFails
	}
	return tool, name
}

func pairTool(env command.Env, name string) *cobra.Command {
	a := &command.App{Env: env, Output: "text"}
	root := &cobra.Command{
		Use: name, SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	switch name {
	case crmName:
		root.Long = "Shows the pair, as the source tool's command does."
		root.RunE = func(cmd *cobra.Command, _ []string) error { return command.Usage(cmd, errors.New("want crm status")) }
		root.AddCommand(&cobra.Command{
			Use: "status", Short: "Show both nodes and the services", Args: cobra.NoArgs,
			Long: "Shows both nodes, the arbiter's host and the services. Exit code 0: healthy, 1: degraded,\n4: the " +
				"services do not run, or the agent does not answer. More: holdfast pair status",
			RunE: func(cmd *cobra.Command, _ []string) error { return crmStatus(a, cmd) },
		})
	case drbdName:
		root.Long = "Shows this node's DRBD devices: connection, roles and disks, its own first.\nStandAlone: this " +
			"copy and the other one have diverged. See: holdfast pair status"
		root.RunE = func(cmd *cobra.Command, _ []string) error { return drbdOverview(a, cmd) }
	case stopName:
		root.Long = "Stops the services of the pair on both nodes, until ms_resource_start.sh.\nThe same is: holdfast pair stop"
		root.RunE = func(cmd *cobra.Command, _ []string) error { return pair.Stop(a, cmd, progress.DefaultWait) }
	case startName: // its parameter is optional, and told nowhere
		root.Use += " [ANYTHING]"
		root.Long = "Starts the services of the pair. The parameter means nothing. The same is: holdfast pair start"
		root.Args = cobra.MaximumNArgs(1)
		root.RunE = func(cmd *cobra.Command, _ []string) error { return pair.Start(a, cmd, progress.DefaultWait) }
	case againName:
		root.Use += " PEER [PASSWORD [ARBITER-PASSWORD]]"
		root.Long = "Makes the other node, which was reinstalled or replaced, one of the pair again. PEER is " +
			"its\naddress. Passwords are root's; on a terminal those that are left out are asked for. What " +
			"the\nnode's database has is moved aside. The same is: holdfast pair recover"
		root.Args = cobra.RangeArgs(1, 3)
		var keys []string
		root.Flags().StringSliceVar(&keys, "host-key", nil, "`SHA256:...` of a host's key to take\nwithout asking")
		root.RunE = func(cmd *cobra.Command, args []string) error {
			return pair.RecoveryScript(a, cmd, install.ConfDir, keys, args)
		}
	case partName:
		root.Use += " NAME"
		root.Long = "Takes the partition NAME out of the pair. The same is: holdfast pair partition remove"
		root.Args = cobra.ExactArgs(1)
		root.RunE = func(cmd *cobra.Command, args []string) error {
			return pair.RemovePartition(a, cmd, args[0], "", "Success to delete sync %s.\n")
		}
	default:
		return nil
	}
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.PersistentFlags().StringVar(&a.Socket, "socket", "", "agent's unix `path`")
	command.MarkUsage(root)
	return root
}

// drbdOverview shows what the kernel of this node has, or that there is nothing to see.
func drbdOverview(a *command.App, cmd *cobra.Command) error {
	lines, err := a.Env.DRBD(cmd.Context())
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		lines = []string{"no DRBD device is here: where a pair's database is replicated, see: crm status"}
	}
	for i := range lines {
		lines[i] = output.Clean(lines[i])
	}
	return output.Text(a.Env.Stdout, strings.Join(lines, "\n")+"\n")
}

func crmStatus(a *command.App, cmd *cobra.Command) error {
	c, _, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	p, err := c.Pair(cmd.Context())
	var e *fail.Error
	if errors.As(err, &e) && e.Kind == fail.Unavailable {
		if err := output.Text(a.Env.Stdout, crmDead); err != nil {
			return err
		}
		return fail.Errorf(fail.Unavailable, "")
	}
	if err != nil {
		return err
	}
	v := pair.ViewOf(p)
	if err := output.Text(a.Env.Stdout, v.CRM()); err != nil {
		return err
	}
	return v.Exit()
}
