package transition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	align "holdfast/internal/transition/db"
)

func dbProfileCmd(a *command.App) *cobra.Command {
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
			return output.File(a.Env.Stdout, string(text))
		},
	}
}

func dbCleanCmd(a *command.App) *cobra.Command {
	var m dbMapping
	var rows, yes bool
	cmd := &cobra.Command{
		Use:   "clean --source DSN --target DSN",
		Short: "Remove what the work has left: migrate_ids and migrate_journal",
		Long: `Drops the database migrate_ids on the source and migrate_journal on the target.
The rows stay. A run can not go on after that: it would find tables that are not
empty. With --rows the target's tables that the mapping fills are emptied, too,
so that a run begins anew; all rows that are in them go, whosever they are. No
table of the source is touched.

Without --yes it shows how far the copy is, and the tables with their rows, and
asks. Refused while a run is under way, where either database is of a copy
between other servers, and where rows of other tables refer to those to go.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if rows {
				return m.check(cmd)
			}
			if err := m.given(cmd); err != nil {
				return err
			}
			for _, f := range []string{"mapping", "profile", "ids", "skip", "source-db", "target-db"} {
				if cmd.Flags().Changed(f) {
					return command.Usage(cmd, fmt.Errorf("--%s is for --rows, which is not given", f))
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			m.Password = dbPassword(cmd.Context(), a)
			if !rows {
				x, err := align.Connect(cmd.Context(), m.Addresses)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, x.Close()) }()
				return runError(dbClean(cmd.Context(), a, x, nil, yes))
			}
			read := align.ReadTables
			if m.ids != "" { // as run was given: they are read, and make no difference
				read = func(file, profile string) (*align.Alignment, error) { return align.Read(file, profile, m.ids) }
			}
			x, err := m.read(cmd, a, read)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, x.Close()) }()
			return runError(dbClean(cmd.Context(), a, x.Servers, x, yes))
		},
	}
	m.flags(cmd)
	cmd.Flags().BoolVar(&rows, "rows", false, "empty the target's tables that the mapping\nfills, too")
	cmd.Flags().BoolVar(&yes, "yes", false, "drop and empty them without asking")
	return cmd
}

func dbClean(ctx context.Context, a *command.App, s *align.Servers, x *align.Alignment, yes bool) error {
	was, err := s.Clean(ctx, x, func(ctx context.Context, was align.Left) error { return confirmClean(ctx, a, was, yes) })
	if err != nil {
		return err
	}
	text := ""
	if was.What != "" {
		text = "dropped: " + was.What + "\n"
	}
	for _, f := range was.Tables {
		text += fmt.Sprintf("emptied: %s, %s rows\n", output.Clean(f.Table), output.Thousands(f.Rows))
	}
	if text == "" {
		text = "there was nothing to drop: no migrate_ids on the source, and no migrate_journal on the target\n"
		if x != nil {
			text += "there was nothing to empty: no row in the tables that the mapping fills\n"
		}
	}
	return output.Text(a.Env.Stdout, text)
}

// confirmClean says how far the copy is, and asks whether what there is shall go, unless yes.
func confirmClean(ctx context.Context, a *command.App, was align.Left, yes bool) error {
	if yes {
		return nil
	}
	text := "There is no journal on the target."
	if j := was.Journal; j != nil {
		text = fmt.Sprintf("The copy that began at %s from %s is in state %s.", j.Begun.Format(time.RFC3339),
			output.Clean(j.Source), j.State)
		if was.Open {
			text += " It has not ended, and can not go on after this."
		}
	}
	var does []string
	if was.What != "" {
		does = append(does, "drop "+was.What)
	}
	if len(was.Tables) > 0 {
		text += " These tables of the target are emptied, in this order:\n"
		var rows int64
		for _, f := range was.Tables {
			text, rows = text+fmt.Sprintf("  %s, %s rows\n", output.Clean(f.Table), output.Thousands(f.Rows)), rows+f.Rows
		}
		text += "All that is in them goes, also what the new platform has written."
		does = append(does, fmt.Sprintf("empty %s of %s rows", plural(len(was.Tables), "table"), output.Thousands(rows)))
	}
	typed, err := a.Ask(ctx, text+"\nType yes to "+strings.Join(does, ", and ")+": ")
	if err != nil {
		return err
	}
	if typed != "yes" {
		return fail.Errorf(fail.Invalid, "the answer is %q, not yes; nothing was dropped", typed).With("--yes does it without asking")
	}
	return nil
}
