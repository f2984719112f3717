// Package notify has the commands for who is told of events.
package notify

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
)

// Command is the group of the receivers of messages.
func Command(a *command.App) *cobra.Command {
	return command.Group("notify", "Show and test who is told of events", listCmd(a), testCmd(a))
}

func listCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the receivers, and how their messages go",
		Long: "Lists who is told of events by the field Notifications of the configuration, with\n" +
			"the last message that was taken, and the last failure with its reason.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, js, err := command.Asked(a, cmd,
				func(ctx context.Context, c *api.Client) ([]cluster.Receiver, error) { return c.Receivers(ctx) })
			if err != nil {
				return err
			}
			if js {
				if all == nil {
					all = []cluster.Receiver{}
				}
				return output.JSON(a.Env.Stdout, all, false)
			}
			if len(all) == 0 {
				return output.Text(a.Env.Stdout, "nobody is told of events; the field Notifications of the configuration says who: holdfast config import\n")
			}
			return output.Text(a.Env.Stdout, table(output.PainterFor(a.Env.Stdout), all, time.Now()))
		},
	}
}

// table shows receivers, and below it what has failed.
func table(p output.Painter, all []cluster.Receiver, now time.Time) string {
	var b strings.Builder
	var rows [][]output.Cell
	for _, r := range all {
		state := output.Cell{Text: string(r.State())}
		switch {
		case r.Failing:
			state.Colour = output.Red
		case r.Lost > 0:
			state.Colour = output.Yellow
		}
		rows = append(rows, []output.Cell{{Text: output.Clean(r.Name)}, {Text: output.Clean(r.Service)}, {Text: string(r.Least)},
			state, {Text: ago(r.Sent, now)}, {Text: fmt.Sprint(r.Waiting)}, {Text: fmt.Sprint(r.Lost)}})
	}
	output.Table(&b, p, []output.Column{{Head: "RECEIVER"}, {Head: "SERVICE"}, {Head: "FROM"}, {Head: "STATE"}, {Head: "SENT"},
		{Head: "WAITING"}, {Head: "LOST"}}, rows)
	for _, r := range all {
		if r.Why != "" {
			fmt.Fprintf(&b, "%s: failed %s: %s\n", output.Clean(r.Name), ago(r.Failed, now), output.Clean(r.Why))
		}
		if r.Lost > 0 {
			fmt.Fprintf(&b, "%s: gave up a message %s\n", output.Clean(r.Name), ago(r.LostAt, now))
		}
	}
	return b.String()
}

// ago is the age of a time, "never" where there is none.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return told.Ago(max(0, now.Sub(t))) + " ago"
}

func testCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "test NAME",
		Short: "Send a test message to a receiver",
		Long: "Sends a message that says that it is a test, at once, from the host that serves the\n" +
			"call, and shows what the service answered. Quiet times do not count.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			said, js, err := command.Asked(a, cmd,
				func(ctx context.Context, c *api.Client) (string, error) { return c.TestReceiver(ctx, args[0]) })
			if err != nil {
				return err
			}
			if js {
				return output.JSON(a.Env.Stdout, map[string]string{"said": said}, false)
			}
			return output.Text(a.Env.Stdout, fmt.Sprintf("sent to %s; the service said: %s\n", output.Clean(args[0]),
				cmp.Or(output.Clean(said), "nothing")))
		},
	}
}
