package configure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

func exportCmd(a *command.App) *cobra.Command {
	var number int
	cmd := &cobra.Command{
		Use:   "export [FILE|-]",
		Short: "Write the cluster's current configuration",
		Long: `Writes the configuration that is in force, as JSON that "config check" and
"config import" read, to stdout or to a new file.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if number < 0 {
				return command.Usage(cmd, fmt.Errorf("--revision %d: want the number of a revision", number))
			}
			r, _, err := command.Asked(a, cmd,
				func(ctx context.Context, c *api.Client) (config.Revision, error) { return c.Config(ctx, number) })
			if err != nil {
				return err
			}
			cl, err := r.Cluster()
			if err != nil {
				return err
			}
			if len(args) == 0 || args[0] == "-" {
				return output.File(a.Env.Stdout, string(cl.JSON()))
			}
			return command.WriteNew(args[0], cl.JSON())
		},
	}
	cmd.Flags().IntVar(&number, "revision", 0, "an earlier one, by its `number`: see \"config history\"")
	return cmd
}

func importCmd(a *command.App) *cobra.Command {
	var check, yes, swap bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Change the cluster's configuration while it runs",
		Long: `Checks a configuration file, shows what differs from the configuration in force
and when each change takes effect, asks, and then makes it the configuration of
all hosts. - reads the file from stdin.

Refused: what needs an installation (Node, what names the disk, and timings that
the hosts have promised each other), and any change while a migration, a start
or stop of the management VM, a takeover, a drain or an upgrade is under way.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if args[0] == "-" && !yes && !check {
				return command.Usage(cmd,
					errors.New("the configuration comes from stdin, so nobody can be asked there: want --yes or --check"))
			}
			name, text, err := a.ReadConfig(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			// What is wrong is told by the agent, which knows what is allowed there; but it can not read a file that is named.
			named := false
			cl, faults, _ := config.Parse(name, text, config.Options{AllowUndersized: true, ReadFile: func(file string) ([]byte, error) {
				named = true
				return config.ReadFile(file)
			}})
			if len(faults) > 0 && named {
				return fail.Errorf(fail.Invalid, "%w", config.Faults(faults))
			}
			if len(faults) == 0 {
				text = command.WithDomain(cl, text)
			}
			return Import(cmd.Context(), a, c, js, config.Import{Name: name, Text: string(text), Check: check, Swap: swap}, yes)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "show what would be done, and do nothing")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&swap, "swap-member", false, "a member may be replaced: the installer has prepared the hosts")
	if err := cmd.Flags().MarkHidden("swap-member"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// Import makes a configuration that of the cluster.
func Import(ctx context.Context, a *command.App, c *api.Client, js bool, in config.Import, yes bool) error {
	only := in.Check
	in.Check = true
	plan, err := c.ImportConfig(ctx, in)
	if err != nil {
		return err
	}
	refused := false
	for _, ch := range plan.Changes {
		refused = refused || ch.Effect == config.Install || ch.Effect == config.ByOrder || ch.Effect == config.Swap && !in.Swap
	}
	to := a.Env.Stdout
	if js {
		to = a.Env.Stderr
	}
	if !js || !only {
		if err := output.Text(to, importText(plan)); err != nil {
			return err
		}
	}
	switch {
	case refused && !only, len(plan.Changes) == 0, only:
		if js {
			err = output.JSON(a.Env.Stdout, imported(plan), false)
		}
		if err == nil && refused {
			err = fail.Errorf(fail.Refused, "nothing was changed: some of it can not be changed while the cluster runs").
				With("leave those fields as they are; the others can be imported by themselves. A member is replaced by: holdfast install -c FILE")
		}
		return err
	}
	if !yes {
		if err := a.AskYes(ctx, "Import this configuration? Type yes: "); err != nil {
			return err
		}
	}
	in.Check, in.Base, in.Key = false, plan.Number, api.NewKey()
	done, err := c.ImportConfig(ctx, in)
	if err != nil {
		return err
	}
	if js {
		return output.JSON(a.Env.Stdout, imported(done), false)
	}
	var b strings.Builder
	for _, w := range done.Warnings {
		if !slices.Contains(plan.Warnings, w) {
			fmt.Fprintf(&b, "warning: %s\n", output.Clean(w))
		}
	}
	fmt.Fprintf(&b, "revision %d of the configuration is in force\n", done.Number)
	return output.Text(a.Env.Stdout, b.String())
}

// imported is the form for programs: a list is never null.
func imported(r config.Imported) config.Imported {
	if r.Changes == nil {
		r.Changes = []config.Change{}
	}
	if r.Warnings == nil {
		r.Warnings = []string{}
	}
	return r
}

// importText says what an import would do, and when.
func importText(r config.Imported) string {
	var b strings.Builder
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", output.Clean(w))
	}
	if len(r.Changes) == 0 {
		fmt.Fprintf(&b, "nothing differs from revision %d, which is in force\n", r.Number)
	}
	for _, e := range told.Effects(r.Changes) {
		b.WriteString(e.Head + "\n")
		for _, c := range e.Changes {
			b.WriteString("  " + output.Clean(c.String()) + "\n")
			if c.Why != "" {
				b.WriteString("    because " + output.Clean(c.Why) + "\n")
			}
		}
	}
	return b.String()
}

func historyCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "history",
		Short: "Show who changed the configuration, when and what",
		Long: fmt.Sprintf(`Shows the last %d configurations. The first one shown is in force. To go back to
an earlier one, export it with --revision and import it.`, config.Kept),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, js, err := command.Asked(a, cmd,
				func(ctx context.Context, c *api.Client) ([]config.Revision, error) { return c.Configs(ctx) })
			if err != nil {
				return err
			}
			if js {
				return output.JSON(a.Env.Stdout, all, false)
			}
			var b strings.Builder
			cols := []output.Column{
				{Head: "REVISION"}, {Head: "TIME"}, {Head: "BY", Cut: 2, Least: 8}, {Head: "ON", Cut: 3, Least: 8},
				{Head: "CHANGED", Cut: 1, Least: 12},
			}
			var rows [][]output.Cell
			for _, r := range all {
				row := []string{output.WallClock(r.Time), output.Or(r.User, "unknown"), output.Or(r.Host, "unknown"),
					output.Or(strings.Join(r.Changed, ", "), "-")}
				if r.Time.IsZero() { // nobody has imported it
					row = []string{"not recorded", "installation", output.Or(r.Host, "not recorded"), "all (the first one)"}
				}
				rows = append(rows,
					[]output.Cell{{Text: fmt.Sprint(r.Number)}, {Text: row[0]}, {Text: row[1]}, {Text: row[2]}, {Text: row[3]}})
			}
			output.Table(&b, output.PainterFor(a.Env.Stdout), cols, rows)
			return output.Text(a.Env.Stdout, b.String())
		},
	}
}

func diffCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "diff [A [B]]",
		Short: "Show in which fields two configurations differ",
		Long: `Shows the fields in which B differs from A. Each is the number of a revision, or
a file. Without B it is the configuration in force; without A, too, what the
last change has changed.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			changes, err := compared(cmd.Context(), a, c, args)
			if err != nil {
				return err
			}
			var b strings.Builder
			for _, ch := range changes {
				b.WriteString(output.Clean(ch.String()) + "\n")
			}
			if js {
				err = output.JSON(a.Env.Stdout, imported(config.Imported{Changes: changes}).Changes, false)
			} else {
				err = output.Text(a.Env.Stdout, b.String())
			}
			if err == nil && a.Old {
				return fail.Errorf(fail.Unavailable, "the configuration in force can not be read: the store has no "+
					"quorum; it was compared with what a member knew").
					With("see which hosts are silent: holdfast status")
			}
			return err
		},
	}
}

func compared(ctx context.Context, a *command.App, c *api.Client, args []string) ([]config.Change, error) {
	sides := append(args, "0")[:min(len(args)+1, 2)]
	if len(args) == 0 {
		now, err := c.Config(ctx, 0)
		if err != nil {
			return nil, err
		}
		if now.Number == 1 {
			return nil, nil // nothing was ever changed
		}
		sides = []string{fmt.Sprint(now.Number - 1), fmt.Sprint(now.Number)}
	}
	var both [2]config.Cluster
	for i, side := range sides {
		var err error
		if both[i], err = configOf(ctx, a, c, side); err != nil {
			return nil, err
		}
	}
	return config.Diff(both[0], both[1]), nil
}

// configOf reads the configuration that a number or the name of a file means.
func configOf(ctx context.Context, a *command.App, c *api.Client, side string) (config.Cluster, error) {
	if n, err := strconv.Atoi(side); err == nil {
		r, err := c.Config(ctx, n)
		if err != nil {
			return config.Cluster{}, err
		}
		return r.Cluster()
	}
	name, text, err := a.ReadConfig(ctx, side)
	if err != nil {
		return config.Cluster{}, err
	}
	cl, faults, _ := config.Parse(name, text, config.Options{AllowUndersized: true, ReadFile: config.ReadFile})
	if len(faults) > 0 {
		return cl, fail.Errorf(fail.Invalid, "%w", config.Faults(faults))
	}
	return cl, nil
}
