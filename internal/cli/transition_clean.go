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

	"holdfast/internal/fail"
	align "holdfast/internal/transition/db"
)

func (a *app) dbProfileCmd() *cobra.Command {
	return &cobra.Command{
		Use:       "profile NAME",
		Short:     "Print a built-in mapping",
		Long:      "Prints a built-in mapping, to read it or to change a copy of it. There are:\n" + strings.Join(align.Profiles(), ", ") + ".",
		Args:      cobra.ExactArgs(1),
		ValidArgs: align.Profiles(),
		RunE: func(_ *cobra.Command, args []string) error {
			_, text, err := align.Profile(args[0])
			if err != nil {
				return err
			}
			return writeText(a.env.Stdout, string(text))
		},
	}
}

func (a *app) dbCleanCmd() *cobra.Command {
	var s dbServers
	var yes bool
	cmd := &cobra.Command{
		Use:   "clean --source DSN --target DSN",
		Short: "Remove what the work has left: migrate_ids and migrate_journal",
		Long: `Drops the database migrate_ids on the source and migrate_journal on the target.
The rows stay. A run can not go on after that: it would find tables that are not
empty. Without --yes it shows how far the copy is, and asks. Refused while a run
is under way, and where either database is of a copy between other servers.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := s.given(cmd); err != nil {
				return err
			}
			s.Password = a.dbPassword(cmd.Context())
			x, err := align.Connect(cmd.Context(), s.Addresses)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, x.Close()) }()
			return runError(a.dbClean(cmd.Context(), x, yes))
		},
	}
	s.flags(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "drop them without asking")
	return cmd
}

func (a *app) dbClean(ctx context.Context, x *align.Servers, yes bool) error {
	was, err := x.Clean(ctx, func(ctx context.Context, was align.Left) error { return a.confirmClean(ctx, was, yes) })
	if err != nil {
		return err
	}
	if was.What == "" {
		return writeText(a.env.Stdout, "there was nothing to drop: no migrate_ids on the source, and no migrate_journal on the target\n")
	}
	return writeText(a.env.Stdout, "dropped: "+was.What+"\n")
}

// confirmClean says how far the copy is, and asks whether what there is shall go, unless yes.
func (a *app) confirmClean(ctx context.Context, was align.Left, yes bool) error {
	if yes {
		return nil
	}
	text := "There is no journal on the target."
	if j := was.Journal; j != nil {
		text = fmt.Sprintf("The copy that began at %s from %s is in state %s.", j.Begun.Format(time.RFC3339), clean(j.Source), j.State)
		if was.Open {
			text += " It has not ended: after this it can not go on, and the target's tables must be emptied."
		}
	}
	if err := writeText(a.env.Stderr, text+"\nType yes to drop "+was.What+": "); err != nil {
		return err
	}
	typed, err := bufio.NewReader(source(ctx, a.env.Stdin)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if typed = strings.TrimSpace(typed); typed != "yes" {
		return fail.Errorf(fail.Invalid, "the answer is %q, not yes; nothing was dropped", typed).With("--yes drops them without asking")
	}
	return nil
}
