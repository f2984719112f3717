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
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/profile"
	"holdfast/internal/transition/db/server"
)

func (a *app) dbProfileCmd() *cobra.Command {
	return &cobra.Command{
		Use:       "profile NAME",
		Short:     "Print a built-in mapping",
		Long:      "Prints a built-in mapping, to read it or to change a copy of it. There are:\n" + strings.Join(profile.Names(), ", ") + ".",
		Args:      cobra.ExactArgs(1),
		ValidArgs: profile.Names(),
		RunE: func(_ *cobra.Command, args []string) error {
			_, text, err := readProfile(args[0])
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
			source, target, err := s.connect(cmd.Context(), a)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, source.Close(), target.Close()) }()
			return runError(a.dbClean(cmd.Context(), source, target, yes))
		},
	}
	s.flags(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "drop them without asking")
	return cmd
}

func (a *app) dbClean(ctx context.Context, source, target *server.Server, yes bool) error {
	ctx, unlock, err := copier.Lock(ctx, target)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, free, err := copier.Lock(ctx, source)
	if err != nil {
		return err
	}
	defer free()
	j, err := copier.ReadJournal(ctx, target.DB)
	if err != nil {
		return err
	}
	if err := cleanable(ctx, source, target, j); err != nil {
		return err
	}
	was, err := left(ctx, source, target)
	if err != nil {
		return err
	}
	if !yes && was != "" {
		if err := a.confirmClean(ctx, j, was); err != nil {
			return err
		}
	}
	// The journal first: without it nothing goes on with IDs that are gone.
	if err := copier.Drop(ctx, target); err != nil {
		return err
	}
	if err := ids.Drop(ctx, source); err != nil {
		return err
	}
	if was == "" {
		return writeText(a.env.Stdout, "there was nothing to drop: no "+ids.Database+" on the source, and no "+copier.Database+" on the target\n")
	}
	return writeText(a.env.Stdout, "dropped: "+was+"\n")
}

// left names the databases of a copy that are there, "" when none is.
func left(ctx context.Context, source, target *server.Server) (string, error) {
	var out []string
	for _, x := range []struct {
		at *server.Server
		db string
	}{{source, ids.Database}, {target, copier.Database}} {
		is, err := x.at.Has(ctx, x.db)
		if err != nil {
			return "", err
		}
		if is {
			out = append(out, x.db+" on the "+x.at.Role)
		}
	}
	return strings.Join(out, ", "), nil
}

// cleanable looks whether the staged IDs and the journal are of one copy: --yes does not
// drop those of another, which may be under way.
func cleanable(ctx context.Context, source, target *server.Server, j *copier.Journal) error {
	if j != nil {
		err := sameSource(j, source, "; when it is gone for good: DROP DATABASE "+copier.Database+" on the target by hand")
		if err != nil {
			return err
		}
	}
	err := ids.OwnedAt(ctx, source, target.Name())
	if errors.Is(err, ids.ErrOwner) {
		return fail.Errorf(fail.Refused, "%w", err).With("give its --target; when that is gone for good, and no copy needs the IDs: DROP DATABASE " + ids.Database + " on the source by hand")
	}
	return err
}

// confirmClean says how far the copy is, and asks whether what there is shall go.
func (a *app) confirmClean(ctx context.Context, j *copier.Journal, was string) error {
	text := "There is no journal on the target."
	if j != nil {
		text = fmt.Sprintf("The copy that began at %s from %s is in state %s.", j.Begun.Format(time.RFC3339), clean(j.Source), j.State)
		if j.State == copier.Copying || j.Follows && j.State != copier.Done {
			text += " It has not ended: after this it can not go on, and the target's tables must be emptied."
		}
	}
	if err := writeText(a.env.Stderr, text+"\nType yes to drop "+was+": "); err != nil {
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
