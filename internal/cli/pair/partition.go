package pair

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// probeWithin is how long --unmanaged-probe may take.
const probeWithin = time.Minute

func partitionCmd(a *command.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "partition",
		Short: "A file system for templates beside the pair's data",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(partitionAddCmd(a), partitionRemoveCmd(a))
	return cmd
}

func partitionAddCmd(a *command.App) *cobra.Command {
	var in cluster.PartitionOrder
	var probe string
	cmd := &cobra.Command{
		Use:   "add NAME --disk /dev/DISK",
		Short: "Make one on an empty disk of both nodes",
		Long: `Makes a file system on an empty disk that both nodes have under one name, of the
same size. The node that serves mounts it, and each write is on both disks. A
pair can have one. It is meant for templates: a standby whose copy of it is not
complete does not take the services over either.

Run it on the node that serves; the services go on. Nothing is changed unless
both nodes are well and both disks are good. No disk of FC or iSCSI may be
attached, nor may the platform manage hosts. Interrupted, the same command goes
on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Name = args[0]
			if in.Mount == "" {
				in.Mount = cluster.PartitionMount + in.Name
			}
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if !strings.HasPrefix(in.Disk, "/dev/") {
				return command.Usage(cmd,
					fmt.Errorf("--disk: value %q: want the path of an empty disk, such as /dev/sdb", output.Clean(in.Disk)))
			}
			if err := unmanaged(cmd.Context(), a, probe); err != nil {
				return err
			}
			c, err := a.Dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.AddPartition(cmd.Context(), in); err != nil {
				return err
			}
			p, err := c.Pair(cmd.Context())
			return showPair(a, p, js, err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Disk, "disk", "", "an empty `disk`, the same on both nodes")
	f.StringVar(&in.Mount, "mount", "", "`directory` where it is mounted\n(default: /srv/NAME)")
	f.StringVar(&probe, "unmanaged-probe", "", "`program` on this host that exits 0 when the\nplatform manages no hosts")
	return cmd
}

// unmanaged asks the operator's program whether the platform manages hosts.
func unmanaged(ctx context.Context, a *command.App, program string) error {
	if program == "" {
		return output.Text(a.Env.Stderr, "warning: nobody was asked whether the platform manages hosts (--unmanaged-probe)\n")
	}
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	out, err := exec.CommandContext(ctx, program).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return fail.Errorf(fail.Refused, "the platform manages hosts, as %s says: %s; nothing was changed",
			output.Clean(program), output.Clean(lastLine(out)))
	}
	return fail.Errorf(fail.Invalid, "--unmanaged-probe: %s: %w", output.Clean(program), err)
}

// lastLine is the last line that a program has written.
func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

func partitionRemoveCmd(a *command.App) *cobra.Command {
	var word string
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take it away on both nodes; its data stay on the disks",
		Long: `Unmounts the file system and takes DRBD's own data off both disks; the services
go on. The files on the disks stay, and are not kept the same any more. It asks
for the word yes (or takes "--yes yes"). While a program uses the file system it
waits. A node that is not there does its part when it is back: run the command
again then. Interrupted, the same command goes on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return RemovePartition(a, cmd, args[0], word, "%s is taken away on both nodes\n")
		},
	}
	cmd.Flags().StringVar(&word, "yes", "", "the `word` yes: do not ask for it")
	return cmd
}

// RemovePartition asks and takes the partition away; done is said at the end.
func RemovePartition(a *command.App, cmd *cobra.Command, name, word, done string) error {
	if word != "" && word != "yes" {
		return command.Usage(cmd, fmt.Errorf("--yes: value %q: want the word yes", output.Clean(word)))
	}
	c, err := a.Dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	if word == "" {
		if _, err := c.Version(cmd.Context()); err != nil {
			return err
		}
		if err := typedWord(cmd.Context(), a,
			fmt.Sprintf("Please confirm to delete %s sync partition [yes/no]:\n", output.Clean(name))); err != nil {
			return err
		}
	}
	return partitionRemoved(cmd.Context(), a, c, name, done)
}

// typedWord asks for the word yes.
func typedWord(ctx context.Context, a *command.App, question string) error {
	typed, err := a.Ask(ctx, question)
	if err == nil && typed != "yes" {
		err = command.NotConfirmed("type yes, or give --yes yes")
	}
	return err
}

func partitionRemoved(ctx context.Context, a *command.App, c *api.Client, name, done string) error {
	left, err := c.RemovePartition(ctx, name)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fail.Errorf(fail.Failed, "%s is taken away, but for %s, which is not there", output.Clean(name),
			output.Clean(strings.Join(left, ", "))).With("run the command again when it is back")
	}
	return output.Text(a.Env.Stdout, fmt.Sprintf(done, output.Clean(name)))
}
