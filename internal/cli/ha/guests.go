package ha

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
)

func guestCmd(a *command.App) *cobra.Command {
	return command.Group("guest", "List the guests of all hosts", guestListCmd(a))
}

func guestListCmd(a *command.App) *cobra.Command {
	var q inventory.GuestQuery
	var host, state string
	cmd := &cobra.Command{
		Use:   "list [WORD...]",
		Short: "List the guests of all hosts, as these tell of them",
		Args:  cobra.ArbitraryArgs,
		Long: `Lists guests in the order of the names of hosts and guests; with words, those that
have each of them in the name, the UUID, the host or an address. A guest is
unknown while its host is not heard, or can not list its guests: what is shown of
it then was told last.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Search, q.Host, q.State = strings.Join(args, " "), cluster.HostID(host), inventory.GuestState(state)
			if err := q.Check(); err != nil {
				return command.Usage(cmd, err)
			}
			page, js, err := command.Asked(a, cmd,
				func(ctx context.Context, c *api.Client) (inventory.GuestPage, error) { return c.Guests(ctx, q) })
			if err != nil {
				return err
			}
			if js {
				return output.JSON(a.Env.Stdout, page, false)
			}
			return output.Text(a.Env.Stdout, guestsText(q, page, output.PainterFor(a.Env.Stdout)))
		},
	}
	cmd.Flags().StringVar(&host, "host", "", "of this host only")
	cmd.Flags().StringVar(&state, "state", "", "in this state only: running, paused, off or unknown")
	cmd.Flags().IntVar(&q.Offset, "offset", 0, "leave out that many")
	cmd.Flags().IntVar(&q.Limit, "limit", 1000, "show at most that many")
	return cmd
}

func guestsText(q inventory.GuestQuery, page inventory.GuestPage, p output.Painter) string {
	var b strings.Builder
	var rows [][]output.Cell
	for _, g := range page.Guests {
		state := output.Cell{Text: string(g.State), Colour: output.Green}
		switch g.State {
		case inventory.GuestUnknown:
			state = output.Cell{Text: "unknown " + told.Ago(g.Silent), Colour: output.Red}
		case inventory.GuestPaused:
			state.Colour = output.Yellow
		case inventory.GuestOff:
			state.Colour = output.Plain
		}
		var notes []string
		for _, n := range told.GuestNotes(g) {
			notes = append(notes, p.Lang.Text(output.Clean(n)))
		}
		rows = append(rows, []output.Cell{{Text: output.Clean(g.Name)}, state, {Text: output.Clean(g.Host)},
			{Text: told.MiB(g.MemoryMiB)}, {Text: strconv.Itoa(g.CPUs)}, {Text: output.Clean(cmp.Or(strings.Join(g.Addresses, " "), "-"))},
			{Text: cmp.Or(strings.Join(notes, "; "), "-")}})
	}
	if len(rows) > 0 {
		output.Table(&b, p, []output.Column{{Head: "GUEST", Cut: 1, Least: 12}, {Head: "STATE"}, {Head: "HOST", Cut: 2, Least: 8},
			{Head: "MEMORY"}, {Head: "VCPUS"}, {Head: "ADDRESSES", Cut: 4, Least: 9}, {Head: "NOTE", Cut: 3, Least: 8}}, rows)
	}
	if shown := len(page.Guests); shown < page.Total {
		output.Say(&b, p, "", output.Plain, fmt.Sprintf("%d to %d of %d", q.Offset+min(1, shown), q.Offset+shown, page.Total))
	} else if page.Total == 0 {
		output.Say(&b, p, "", output.Plain, "there is no such guest")
	}
	if n := len(page.Silent); n > 0 {
		output.Say(&b, p, "", output.Yellow,
			fmt.Sprintf("hosts that do not tell of their guests now: %d (%s)", n, output.Clean(told.Hostnames(page.Silent))))
	}
	return b.String()
}
