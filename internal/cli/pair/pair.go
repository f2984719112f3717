// Package pair has the commands of a pair: what it needs, its set-up, how it is, switches, recovery, and partitions.
package pair

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/pair"
)

// Command has the commands of a pair.
func Command(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pair",
		Short: "Two nodes, one of which serves while the other is ready",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(sizeCmd(a), checkCmd(a), setupCmd(a), beginCmd(a), statusCmd(a),
		switchCmd(a), stopCmd(a), startCmd(a), drillCmd(a), recoverCmd(a), resolveCmd(a),
		partitionCmd(a))
	return cmd
}

func sizeCmd(a *command.App) *cobra.Command {
	var hosts, vms int
	cmd := &cobra.Command{
		Use:   "size --hosts N --vms N",
		Short: "Show how much disk space a pair needs",
		Long: `Shows the least sizes, in GB, of the partition of the database and of /vms, in
which it lies: 10 MB for each host and 15 MB for each VM, times 15, and 10 GB;
/vms has 30 GB at least. No agent is asked.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if err := counts(cmd, hosts, vms); err != nil {
				return err
			}
			s := pair.SizeFor(hosts, vms)
			if js {
				return output.JSON(a.Env.Stdout, s, false)
			}
			return output.Text(a.Env.Stdout,
				fmt.Sprintf("database partition: %d GB\n/vms partition: %d GB\n", s.Database, s.VMs))
		},
	}
	cmd.Flags().IntVar(&hosts, "hosts", 0, "`number` of hosts that the platform will have")
	cmd.Flags().IntVar(&vms, "vms", 0, "`number` of VMs that the platform will have")
	return cmd
}

func beginCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "begin",
		Short: "Make this host's data the ones that the pair begins with",
		Long: `Makes the copy of this host the one that the pair begins with, once. The
database of this host must not run. It gets the accounts that are named in the
configuration. The other node gets a copy of it; what that node had before is
moved aside. The services start then.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.BeginPair(cmd.Context()); err != nil {
				return err
			}
			return output.Text(a.Env.Stdout, "the pair begins with the data of this host\n")
		},
	}
}
