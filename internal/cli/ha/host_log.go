package ha

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

// logEvery is how often a log that is followed is asked for.
const logEvery = time.Second

func hostLogCmd(a *command.App) *cobra.Command {
	var q cluster.LogQuery
	var follow bool
	cmd := &cobra.Command{
		Use:   "log HOST",
		Short: "Show the last lines of the log of a host's agent",
		Long: `Shows the last lines that the agent of a host has logged, newest last, without
passwords and keys. The agent keeps some thousand in memory; older ones are on
the host: journalctl -u holdfast. With --follow it goes on until Ctrl-C.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Host, q.Least = cluster.HostID(args[0]), strings.ToUpper(q.Least)
			if q.Least != "" && !slices.Contains(cluster.LogLevels, q.Least) {
				return command.Usage(cmd, fmt.Errorf("--level %.70q: want debug, info, warn or error", strings.ToLower(q.Least)))
			}
			if q.Most < 1 || q.Most > cluster.MaxLogLines {
				return command.Usage(cmd, fmt.Errorf("--lines %d: want 1 to %d", q.Most, cluster.MaxLogLines))
			}
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			return logOf(cmd.Context(), a, c, q, js, follow)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with new lines until Ctrl-C")
	f.IntVarP(&q.Most, "lines", "n", cluster.DefaultLogLines, "`number` of lines, the newest")
	f.StringVar(&q.Least, "level", "", "lines of this `level` and above: debug, info, warn\nor error (default all)")
	f.StringVar(&q.Text, "grep", "", "lines with all of these `words`, whatever the case")
	return cmd
}

// logOf writes lines, and goes on with new ones while they are followed. As JSON, each line is an object.
func logOf(ctx context.Context, a *command.App, c *api.Client, q cluster.LogQuery, js, follow bool) error {
	silent := false // the last answer did not come
	for first := true; ; first = false {
		l, err := c.HostLog(ctx, q)
		switch {
		case err != nil && (first || ctx.Err() != nil):
			return err
		case err != nil && !silent: // an agent that begins anew is back in seconds
			if terr := output.Text(a.Env.Stderr, output.Clean(err.Error())+"; it is asked again\n"); terr != nil {
				return terr
			}
		}
		if silent = err != nil; silent {
			if !clock.Sleep(ctx, logEvery) {
				return nil
			}
			continue
		}
		if l.Left > 0 && !first { // more than one answer takes came at once
			if err := output.Text(a.Env.Stderr, fmt.Sprintf("%d lines are left out\n", l.Left)); err != nil {
				return err
			}
		}
		for _, x := range l.Lines {
			if js {
				err = output.JSON(a.Env.Stdout, x, true)
			} else {
				err = output.Text(a.Env.Stdout, logText(x))
			}
			if err != nil {
				return err
			}
		}
		q.After = l.Next
		if !follow || !clock.Sleep(ctx, logEvery) {
			return nil
		}
		q.Most = cluster.MaxLogLines
	}
}

// logText is a line as it is shown.
func logText(l cluster.LogLine) string {
	var words []string
	if !l.Time.IsZero() {
		words = append(words, l.Time.Local().Format("2006-01-02 15:04:05.000"))
	}
	for _, w := range []string{l.Level, l.Text, l.Fields} {
		if w != "" {
			words = append(words, output.Clean(w))
		}
	}
	return strings.Join(words, " ") + "\n"
}

func hostFenceTestCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "fence-test HOST",
		Short: "Ask the fence devices of a host for their state, and order nothing",
		Long: `Asks each fence device of a host whether the host is on, and whose device it is,
by another member. Nothing is ordered: the host stays as it is. The exit code is
1 when no device can be relied on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, js, err := command.Asked(a, cmd, func(ctx context.Context, c *api.Client) (cluster.FenceTest, error) {
				return c.TestFence(ctx, cluster.HostID(args[0]))
			})
			if err != nil {
				return err
			}
			if js {
				err = output.JSON(a.Env.Stdout, t, false)
			} else {
				err = output.Text(a.Env.Stdout, fenceText(t))
			}
			if err == nil && !t.Works() {
				err = fmt.Errorf("no fence device of %s can be relied on", output.Clean(t.Host))
			}
			return err
		},
	}
}

// fenceText tells what fence devices have answered.
func fenceText(t cluster.FenceTest) string {
	var b strings.Builder
	for _, d := range t.Answers {
		switch {
		case d.Error != "":
			fmt.Fprintf(&b, "%s: not to be relied on: %s\n", output.Clean(d.Device), output.Clean(d.Error))
		case d.On:
			fmt.Fprintf(&b, "%s: answers: the host is on\n", output.Clean(d.Device))
		default:
			fmt.Fprintf(&b, "%s: answers: the host is off\n", output.Clean(d.Device))
		}
	}
	fmt.Fprintf(&b, "asked by %s within %s; nothing was ordered\n", output.Clean(t.By), t.Took.Round(time.Millisecond))
	return b.String()
}
