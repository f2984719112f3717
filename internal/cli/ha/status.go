package ha

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
)

func statusCmd(a *command.App) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show hosts, management VM, and what the cluster waits for",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if watch {
				return watchStatus(cmd.Context(), a, c, js)
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if js {
				return showStatus(a, s)
			}
			return output.Text(a.Env.Stdout, StatusText(s, output.PainterFor(a.Env.Stdout)))
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again at each change until interrupted;\nwith -o json one line each time")
	return cmd
}

// showStatus is for programs.
func showStatus(a *command.App, s cluster.Status) error {
	return output.JSON(a.Env.Stdout, ForPrograms(s), false)
}

// ForPrograms makes the form for programs: a list is never null, and sorted.
func ForPrograms(s cluster.Status) cluster.Status {
	s.Hosts = told.Hosts(s)
	return s
}

// watchStatus shows the status until the user ends it, which is no error. On a
// terminal it stays in place; elsewhere only changed text is written again.
func watchStatus(ctx context.Context, a *command.App, c *api.Client, js bool) error {
	terminal := output.IsTerminal(a.Env.Stdout)
	p := output.PainterFor(a.Env.Stdout)
	last := ""
	for s, err := range c.WatchStatus(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if js {
			if err := output.JSON(a.Env.Stdout, ForPrograms(s), true); err != nil {
				return err
			}
			continue
		}
		text := StatusText(s, p)
		switch {
		case terminal:
			text = "\x1b[H\x1b[2J" + text
		case text == last:
			continue
		case last != "":
			last, text = text, "\n"+text
		default:
			last = text
		}
		if err := output.Text(a.Env.Stdout, text); err != nil {
			return err
		}
	}
	return nil
}

// StatusText writes a status for people, in at most 80 columns.
func StatusText(s cluster.Status, p output.Painter) string {
	var b strings.Builder
	r := told.Status(s, p.Lang.Text)
	output.Line(&b, p, r.Cluster)
	output.Line(&b, p, r.Store)
	b.WriteByte('\n')
	hostTable(&b, p, r)
	for _, l := range r.Notes {
		output.Line(&b, p, l)
	}
	b.WriteByte('\n')
	for _, l := range slices.Concat([]told.Line{r.Kept}, r.Why, []told.Line{r.Takeover}, r.Rest) {
		output.Line(&b, p, l)
	}
	return b.String()
}

// hostTable cuts what is least needed where the terminal is narrow: a longer address is said in full below.
func hostTable(b *strings.Builder, p output.Painter, r told.Report) {
	shape := map[string]output.Column{"HOST": {Cut: 2, Least: 12}, "ADDRESS": {Cut: 3, Least: told.AddrWidth}, "WATCHDOG": {Cut: 1, Least: 8}}
	var cols []output.Column
	for _, head := range r.Heads {
		c := shape[head]
		c.Head = head
		cols = append(cols, c)
	}
	var rows [][]output.Cell
	for _, h := range r.Hosts {
		var row []output.Cell
		for _, c := range h.Cells {
			row = append(row, output.Toned(c))
		}
		rows = append(rows, row)
	}
	output.Table(b, p, cols, rows)
}
