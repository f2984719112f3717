package pair

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// View is a pair as `pair status` shows it to programs.
type View struct {
	Health cluster.Health `json:"health"`
	Why    []string       `json:"why"` // not healthy
	cluster.PairStatus
}

// ViewOf is how a pair is.
func ViewOf(p cluster.PairStatus) View {
	h, why := p.Health()
	if why == nil {
		why = []string{}
	}
	return View{h, why, p}
}

func statusCmd(a *command.App) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show both nodes, the services and what could be taken over",
		Long: `Shows the pair. Exit code 0: the services run and the other node could take them
over; 1: they run, and their loss would not be answered; 4: they do not run, or
nobody could be asked.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if watch {
				return watchPair(cmd.Context(), a, c, js)
			}
			p, err := c.Pair(cmd.Context())
			if err != nil {
				return err
			}
			v := ViewOf(p)
			if js {
				err = output.JSON(a.Env.Stdout, v, false)
			} else {
				err = output.Text(a.Env.Stdout, v.text(output.PainterFor(a.Env.Stdout)))
			}
			if err != nil {
				return err
			}
			return v.Exit()
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again at each change until interrupted;\nwith -o json one line each time")
	return cmd
}

// Exit is the exit code of a health, without a word: all is said.
func (v View) Exit() error {
	switch v.Health {
	case cluster.Healthy:
		return nil
	case cluster.Degraded:
		return fail.Errorf(fail.Failed, "")
	}
	return fail.Errorf(fail.Unavailable, "")
}

// watchPair shows the pair at each change, until the user ends it.
func watchPair(ctx context.Context, a *command.App, c *api.Client, js bool) error {
	last := ""
	for p, err := range c.WatchPair(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		v := ViewOf(p)
		text := v.text(output.PainterFor(a.Env.Stdout))
		if text == last {
			continue
		}
		last = text
		if js {
			err = output.JSON(a.Env.Stdout, v, true)
		} else {
			err = output.Text(a.Env.Stdout, text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CRM is the first part, word by word as the source tool's `crm status` has it.
func (v View) CRM() string {
	var b strings.Builder
	online := func(up bool) string {
		if up {
			return "Online"
		}
		return "Offline"
	}
	master, slave := told.PairSides(v.PairStatus)
	fmt.Fprintf(&b, "master : %s (%s)\nslave  : %s (%s)\n", output.Clean(master.Host), online(master.Alive),
		output.Clean(slave.Host), online(slave.Alive))
	for _, q := range v.Voters {
		fmt.Fprintf(&b, "quorum : [controller] %s (%s)\n", output.Clean(q.Host), online(q.Alive))
	}
	const line = "-----\n"
	b.WriteString(line)
	started := func(up bool) string {
		if up && master.Alive {
			return "Started " + output.Clean(master.Host)
		}
		return "Stopped"
	}
	for _, m := range master.Members {
		if m.VIP != "" {
			fmt.Fprintf(&b, "%-7s: [%s] %s\n", output.Clean(m.Name), output.Clean(m.VIP), started(m.State == "up"))
		}
	}
	unknown := func(n cluster.PairNode, role string) string {
		if n.Alive && n.Role == role {
			return output.Clean(string(n.Host))
		}
		return "Unknown"
	}
	data := master.Data
	if data == "" {
		data = slave.Data
	}
	const set = "Master/Slave Set: [%s]\n  Master: [%s]\n  Slave  : [%s]\n"
	fmt.Fprintf(&b, set, output.Clean(data), unknown(master, "active"), unknown(slave, "standby"))
	if t := v.partition(); t != nil {
		has := func(n cluster.PairNode, role string) string {
			if n.Alive && n.Partition != nil && n.Partition.Role == role {
				return output.Clean(string(n.Host))
			}
			return "Unknown"
		}
		fmt.Fprintf(&b, set, output.Clean(t.Mount), has(master, "active"), has(slave, "standby"))
	}
	fmt.Fprintf(&b, "%-7s: %s\n", "mysql", started(master.Role == "active"))
	for _, m := range master.Members {
		if m.VIP == "" {
			fmt.Fprintf(&b, "%-7s: %s\n", output.Clean(m.Name), started(m.State == "up"))
		}
	}
	b.WriteString(line)
	return b.String()
}

// partition is the file system beside the data, as the active node tells of it, or the other one; nil:
// there is none.
func (v View) partition() *cluster.PairPartition {
	master, slave := told.PairSides(v.PairStatus)
	if master.Partition != nil {
		return master.Partition
	}
	return slave.Partition
}

func (v View) text(p output.Painter) string {
	var b strings.Builder
	b.WriteString(v.CRM())
	for _, l := range told.PairStatus(v.PairStatus, p.Lang.Text).Lines() {
		output.Line(&b, p, l)
	}
	return b.String()
}
