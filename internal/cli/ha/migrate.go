package ha

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/cluster"
)

func migrateCmd(a *command.App) *cobra.Command {
	var timeout time.Duration
	var end bool
	cmd := &cobra.Command{
		Use:   "migrate {HOST | --cancel}",
		Short: "Move the management VM to another host, live",
		Long: `Moves the running management VM to another host without stopping it, and shows
the progress. HOST is a name or an IP address.

Interrupting the command (Ctrl-C) does not end the migration. --cancel does, on
any host, and waits until it is certain where the management VM runs. When the
migration has ended before, the management VM stays where it is, and that is
said.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if end {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if timeout <= 0 {
				return command.Usage(cmd, fmt.Errorf("--timeout %s: want a time above 0", timeout))
			}
			c, err := a.Dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if end {
				return cancelMigration(ctx, a, c, js)
			}
			return followMigration(ctx, a, c, args[0], js)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Minute, "give up watching after this `time`")
	cmd.Flags().BoolVar(&end, "cancel", false, "end the migration that is under way")
	return cmd
}

func followMigration(ctx context.Context, a *command.App, c *api.Client, host string, js bool) error {
	s, err := c.Status(ctx) // tells whether it is a pair
	if err != nil {
		return err
	}
	show := &progressView{w: a.Env.Stdout, terminal: output.IsTerminal(a.Env.Stdout), of: s}
	for p, err := range c.Migrate(ctx, host, "") {
		if err != nil {
			if werr := output.Text(a.Env.Stdout, show.end()); werr != nil {
				return werr
			}
			if ctx.Err() != nil {
				return leftAlone(ctx.Err(), s, cluster.HostID(host), show.last)
			}
			return err
		}
		if js {
			err = output.JSON(a.Env.Stdout, p, true)
		} else {
			err = output.Text(a.Env.Stdout, show.next(p))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leftAlone is the error of a command that does not follow its migration any more.
func leftAlone(cause error, s cluster.Status, host cluster.HostID, last string) error {
	e := progress.Unfinished("the move to "+output.Clean(host), cause, last)
	switch {
	case last == "":
		return e.With("whether it was asked for is not known; see: holdfast status")
	case s.OfPair():
		return e.With("the switch goes on; follow it: holdfast pair status --watch")
	}
	return e.With("the migration goes on; follow it: holdfast status --watch; cancel it: holdfast migrate --cancel")
}

// progressView writes a migration's progress: a bar that stays in place on a
// terminal, else a line whenever something changed or ten percent were done.
type progressView struct {
	w        io.Writer
	of       cluster.Status
	terminal bool
	last     string // what was said last
	open     bool   // the bar's line has no end yet
}

// next returns what to write for one step.
func (v *progressView) next(p api.Progress) string {
	if p.Done {
		v.of.Owner.Host, v.of.Owner.Epoch = p.Host, p.Epoch
		return v.end() + runningText(v.of) + "\n"
	}
	if v.terminal {
		v.open = true
		v.last = p.Note
		return "\r\x1b[K" + output.Fit(v.w, output.Bar(p.Percent)+"  "+v.stepText(p, p.Percent))
	}
	text := v.stepText(p, p.Percent/10*10)
	if text == v.last {
		return ""
	}
	v.last = text
	return text + "\n"
}

// end closes the bar's line.
func (v *progressView) end() string {
	if !v.open {
		return ""
	}
	v.open = false
	return "\n"
}

// stepText says how far it is.
func (v *progressView) stepText(p api.Progress, percent int) string {
	v.of.Owner.State = p.State
	text := fmt.Sprintf("%s to %s %3d %%", output.Or(told.OwnerState(v.of), "unknown"), output.Clean(p.Host), percent)
	if p.Note != "" {
		text += ": " + output.Clean(p.Note)
	}
	return text
}
