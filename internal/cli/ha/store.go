package ha

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// storeCmd holds the care of the store. Commands that work without a running
// agent come with the environment.
func storeCmd(a *command.App) *cobra.Command {
	status := &cobra.Command{
		Use:   "status",
		Short: "Show the members of the store, and the backups here",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return storeStatus(a, cmd) },
	}
	backup := &cobra.Command{
		Use:   "backup",
		Short: "Write a snapshot of the store into a file on the agent's host, now",
		Long: `Writes a snapshot of the store into a file on the agent's host and shows its
path. The agents do the same on schedule and keep the newest ones.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return storeBackup(a, cmd) },
	}
	return command.Group("store", "Show the cluster's store, and back it up",
		append([]*cobra.Command{status, backup}, a.Env.Store...)...)
}

func storeStatus(a *command.App, cmd *cobra.Command) error {
	s, js, err := command.Asked(a, cmd,
		func(ctx context.Context, c *api.Client) (cluster.StoreStatus, error) { return c.StoreStatus(ctx) })
	if err != nil {
		return err
	}
	if js {
		if s.Members == nil {
			s.Members = []cluster.StoreMember{}
		}
		if s.Backups == nil {
			s.Backups = []cluster.Backup{}
		}
		return output.JSON(a.Env.Stdout, s, false)
	}
	return output.Text(a.Env.Stdout, storeText(s, output.PainterFor(a.Env.Stdout)))
}

// storeText writes the store's status for people.
func storeText(s cluster.StoreStatus, p output.Painter) string {
	var b strings.Builder
	cols := []output.Column{{Cut: 2, Least: 12}, {}, {}, {}, {}, {}, {}, {}}
	t := told.StoreMembers(s)
	for i, head := range t.Heads {
		cols[i].Head = head
	}
	var rows [][]output.Cell
	for _, cells := range t.Rows {
		var row []output.Cell
		for _, c := range cells {
			row = append(row, output.Toned(c))
		}
		rows = append(rows, row)
	}
	output.Table(&b, p, cols, rows)
	for _, l := range told.StoreNotes(s) {
		output.Line(&b, p, l)
	}
	b.WriteByte('\n')
	output.Say(&b, p, "restores", output.Plain, told.Restores(s))
	if len(s.Backups) == 0 {
		output.Say(&b, p, "backups", output.Yellow, "none on this host")
	}
	for i, k := range s.Backups {
		label := ""
		if i == 0 {
			label = "backups"
		}
		output.Say(&b, p, label, output.Plain, told.Backup(k))
	}
	return b.String()
}

func storeBackup(a *command.App, cmd *cobra.Command) error {
	b, js, err := command.Asked(a, cmd,
		func(ctx context.Context, c *api.Client) (cluster.Backup, error) { return c.BackUpStore(ctx) })
	if err != nil {
		return err
	}
	if js {
		return output.JSON(a.Env.Stdout, b, false)
	}
	return output.Text(a.Env.Stdout,
		fmt.Sprintf("%s (%s, revision %d)\n", output.Clean(b.File), told.Bytes(b.Size), b.Revision))
}

func confirmOffCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "confirm-off HOST",
		Short: "Confirm that a silent host is off",
		Long: `Records your word that a host is off, or that it does not run the management VM
and will not start it. The cluster then starts the management VM on another host
without any other proof. If your word is wrong, two hosts write to one disk; of a
pair, both nodes serve at once, and writes are lost. Look at the host itself, not
at a dashboard.

Refused while the host renews its lease. The command asks for the host's name
once more. Your name goes into the event log.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return confirmOff(a, cmd, args[0])
		},
	}
}

func confirmOff(a *command.App, cmd *cobra.Command, host string) error {
	said := fmt.Sprintf("your word that host %s is off is recorded; see whether the cluster takes over: holdfast status --watch",
		output.Clean(host))
	return ordered(a, cmd, said, func(ctx context.Context, c *api.Client) error {
		st, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if st.Connected { // or what it knows of hosts is old, and the word is refused by that
			err = api.MayBeOff(st, cluster.HostID(host))
		}
		if err == nil {
			err = typedAgain(ctx, a, host, st.OfPair())
		}
		if err != nil {
			return err
		}
		return c.ConfirmOff(ctx, host, "")
	})
}

// typedAgain asks for a host's name once more.
func typedAgain(ctx context.Context, a *command.App, host string, ofPair bool) error {
	question := told.IfNotOff(cluster.HostID(host), ofPair) + "\nType the host's name again: "
	if err := output.Text(a.Env.Stderr, question); err != nil {
		return err
	}
	typed, err := bufio.NewReader(command.Source(ctx, a.Env.Stdin)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the host's name: %w", err)
	}
	if typed = strings.TrimSpace(typed); typed != host {
		return fail.Errorf(fail.Invalid, "the names differ: %q and %q; nothing was recorded", host, typed)
	}
	return nil
}
