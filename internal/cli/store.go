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
		return writeJSON(a.env.Stdout, s, false)
	}
	return writeText(a.env.Stdout, storeText(s, painterFor(a.env.Stdout)))
}

// storeText writes the store's status for people.
func storeText(s cluster.StoreStatus, p painter) string {
	var b strings.Builder
	cols := []column{{head: "MEMBER", cut: 2, least: 12}, {head: "ROLE"}, {head: "STATE"}, {head: "VERSION"},
		{head: "SIZE"}, {head: "IN USE"}, {head: "QUOTA"}, {head: "BEHIND"}}
	var rows [][]cell
	for _, m := range s.Members {
		rows = append(rows, memberRow(m))
	}
	table(&b, p, cols, rows)
	for _, m := range s.Members {
		switch {
		case m.Error != "":
			say(&b, p, "", yellow, fmt.Sprintf("%s: %s", clean(m.Name), clean(m.Error)))
		case !m.Reachable:
			say(&b, p, "", yellow, clean(m.Name)+": it does not answer")
		}
		for _, al := range m.Alarms {
			say(&b, p, "", red, fmt.Sprintf("%s: alarm %s", clean(m.Name), clean(al)))
		}
	}
	b.WriteByte('\n')
	say(&b, p, "restores", plain, fmt.Sprintf("%d (generation %d)", max(s.Generation, 1)-1, s.Generation))
	if len(s.Backups) == 0 {
		say(&b, p, "backups", yellow, "none on this host")
	}
	for i, k := range s.Backups {
		label := ""
		if i == 0 {
			label = "backups"
		}
		say(&b, p, label, plain, fmt.Sprintf("%s, %s, revision %d: %s", k.Time.UTC().Format(time.DateTime), mib(k.Size),
			k.Revision, clean(k.File)))
	}
	return b.String()
}

func memberRow(m cluster.StoreMember) []cell {
	role, state := "follower", cell{"ok", green}
	switch {
	case m.Leader:
		role = "leader"
	case m.Learner:
		role = "learner"
	}
	if !m.Reachable {
		state, role = cell{"away", red}, "-"
	} else if len(m.Alarms) > 0 {
		state = cell{"alarm", red}
	} else if m.Error != "" {
		state = cell{"no leader", yellow}
	}
	size, used, quota, behind := mib(m.Size), mib(m.InUse), mib(m.Quota), fmt.Sprint(m.Behind)
	if !m.Reachable { // it has told nothing
		size, used, quota, behind = "-", "-", "-", "-"
	}
	return []cell{{clean(m.Name), plain}, {role, plain}, state, {or(m.Version, "-"), plain}, {size, plain},
		{used, plain}, {quota, plain}, {behind, plain}}
}

func storeBackup(a *app, cmd *cobra.Command) error {
	b, js, err := asked(a, cmd, func(ctx context.Context, c *api.Client) (cluster.Backup, error) { return c.BackUpStore(ctx) })
	if err != nil {
		return err
	}
	if js {
		return writeJSON(a.env.Stdout, b, false)
	}
	return writeText(a.env.Stdout, fmt.Sprintf("%s (%s, revision %d)\n", clean(b.File), mib(b.Size), b.Revision))
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
	said := fmt.Sprintf("your word that host %s is off is recorded; see whether the cluster takes over: holdfast status --watch", clean(host))
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
	question := fmt.Sprintf("If host %s is not off, two hosts will write to one disk.\nType the host's name again: ", clean(host))
	if ofPair {
		question = fmt.Sprintf("If host %s is not off, both nodes will serve at once, and writes are lost.\nType the "+
			"host's name again: ", clean(host))
	}
	if err := writeText(a.env.Stderr, question); err != nil {
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
