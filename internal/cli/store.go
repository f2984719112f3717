package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// storeCmd holds the care of the store. Commands that work without a running
// agent come with the environment.
func storeCmd(a *app) *cobra.Command {
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
	return group("store", "Show the cluster's store, and back it up", append([]*cobra.Command{status, backup}, a.env.Store...)...)
}

func storeStatus(a *app, cmd *cobra.Command) error {
	s, js, err := asked(a, cmd, func(ctx context.Context, c *api.Client) (cluster.StoreStatus, error) { return c.StoreStatus(ctx) })
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
		return JSON(a.env.Stdout, s, false)
	}
	return Text(a.env.Stdout, storeText(s, PainterFor(a.env.Stdout)))
}

// storeText writes the store's status for people.
func storeText(s cluster.StoreStatus, p Painter) string {
	var b strings.Builder
	cols := []Column{{Head: "MEMBER", Cut: 2, Least: 12}, {Head: "ROLE"}, {Head: "STATE"}, {Head: "VERSION"},
		{Head: "SIZE"}, {Head: "IN USE"}, {Head: "QUOTA"}, {Head: "BEHIND"}}
	var rows [][]Cell
	for _, m := range s.Members {
		rows = append(rows, memberRow(m))
	}
	Table(&b, p, cols, rows)
	for _, m := range s.Members {
		switch {
		case m.Error != "":
			Say(&b, p, "", Yellow, fmt.Sprintf("%s: %s", Clean(m.Name), Clean(m.Error)))
		case !m.Reachable:
			Say(&b, p, "", Yellow, Clean(m.Name)+": it does not answer")
		}
		for _, al := range m.Alarms {
			Say(&b, p, "", Red, fmt.Sprintf("%s: alarm %s", Clean(m.Name), Clean(al)))
		}
	}
	b.WriteByte('\n')
	Say(&b, p, "restores", Plain, fmt.Sprintf("%d (generation %d)", max(s.Generation, 1)-1, s.Generation))
	if len(s.Backups) == 0 {
		Say(&b, p, "backups", Yellow, "none on this host")
	}
	for i, k := range s.Backups {
		label := ""
		if i == 0 {
			label = "backups"
		}
		Say(&b, p, label, Plain, fmt.Sprintf("%s, %s, revision %d: %s", k.Time.UTC().Format(time.DateTime), MiB(k.Size),
			k.Revision, Clean(k.File)))
	}
	return b.String()
}

func memberRow(m cluster.StoreMember) []Cell {
	role, state := "follower", Cell{Text: "ok", Colour: Green}
	switch {
	case m.Leader:
		role = "leader"
	case m.Learner:
		role = "learner"
	}
	if !m.Reachable {
		state, role = Cell{Text: "away", Colour: Red}, "-"
	} else if len(m.Alarms) > 0 {
		state = Cell{Text: "alarm", Colour: Red}
	} else if m.Error != "" {
		state = Cell{Text: "no leader", Colour: Yellow}
	}
	size, used, quota, behind := MiB(m.Size), MiB(m.InUse), MiB(m.Quota), fmt.Sprint(m.Behind)
	if !m.Reachable { // it has told nothing
		size, used, quota, behind = "-", "-", "-", "-"
	}
	return []Cell{{Text: Clean(m.Name)}, {Text: role}, state, {Text: Or(m.Version, "-")}, {Text: size},
		{Text: used}, {Text: quota}, {Text: behind}}
}

func storeBackup(a *app, cmd *cobra.Command) error {
	b, js, err := asked(a, cmd, func(ctx context.Context, c *api.Client) (cluster.Backup, error) { return c.BackUpStore(ctx) })
	if err != nil {
		return err
	}
	if js {
		return JSON(a.env.Stdout, b, false)
	}
	return Text(a.env.Stdout, fmt.Sprintf("%s (%s, revision %d)\n", Clean(b.File), MiB(b.Size), b.Revision))
}

func confirmOffCmd(a *app) *cobra.Command {
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

func confirmOff(a *app, cmd *cobra.Command, host string) error {
	said := fmt.Sprintf("your word that host %s is off is recorded; see whether the cluster takes over: holdfast status --watch", Clean(host))
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
func typedAgain(ctx context.Context, a *app, host string, ofPair bool) error {
	question := fmt.Sprintf("If host %s is not off, two hosts will write to one disk.\nType the host's name again: ", Clean(host))
	if ofPair {
		question = fmt.Sprintf("If host %s is not off, both nodes will serve at once, and writes are lost.\nType the "+
			"host's name again: ", Clean(host))
	}
	if err := Text(a.env.Stderr, question); err != nil {
		return err
	}
	typed, err := bufio.NewReader(source(ctx, a.env.Stdin)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the host's name: %w", err)
	}
	if typed = strings.TrimSpace(typed); typed != host {
		return fail.Errorf(fail.Invalid, "the names differ: %q and %q; nothing was recorded", host, typed)
	}
	return nil
}
