package pair

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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
	master, slave := v.nodes()
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

// nodes are the node that has the group, or had it last, and the other one.
func (v View) nodes() (master, slave cluster.PairNode) {
	if len(v.Nodes) != 2 {
		return master, slave
	}
	if v.Owner.Host == v.Nodes[1].Host {
		return v.Nodes[1], v.Nodes[0]
	}
	return v.Nodes[0], v.Nodes[1]
}

// partition is the file system beside the data, as the active node tells of it, or the other one; nil:
// there is none.
func (v View) partition() *cluster.PairPartition {
	master, slave := v.nodes()
	if master.Partition != nil {
		return master.Partition
	}
	return slave.Partition
}

// partitionText is how a node's copy of the partition is.
func partitionText(n cluster.PairNode) string {
	t := n.Partition
	text := fmt.Sprintf("%s on %s %s: ", output.Clean(t.Name), output.Clean(string(n.Host)), output.Clean(t.Disk))
	switch {
	case t.State != cluster.PartitionReady:
		text += output.Clean(t.State)
	case !n.Alive:
		return text + "not known"
	case t.Linked:
		return text + "in sync"
	default:
		text += fmt.Sprintf("%s, %d %% in common", output.Clean(t.Copy), t.Percent)
	}
	if t.Problem != "" {
		text += ": " + output.Clean(t.Problem)
	}
	return text
}

// comparedText is how the last comparison of the rows of both nodes ended.
func (v View) comparedText(b *strings.Builder, p output.Painter) {
	c := v.Compared()
	if c == nil {
		return
	}
	text, colour := "never", output.Plain
	if !c.Ended.IsZero() {
		result := "all equal"
		if n := len(c.Differ); n > 0 {
			result, colour = fmt.Sprintf("differences: %d", n), output.Yellow
		}
		text = fmt.Sprintf("%s, %s ago: %s; tables: %d, rows: %d", c.Ended.Local().Format(time.DateTime),
			output.Ago(v.Time.Sub(c.Ended)), result, c.Tables, c.Rows)
	}
	if c.Failed != "" {
		text += "; the last try failed: " + output.Clean(c.Failed)
	}
	output.Say(b, p, "compared", colour, text)
	for _, d := range c.Differ {
		output.Say(b, p, "", output.Plain, output.Clean(d))
	}
	if len(c.Differ) > 0 {
		output.Say(b, p, "", output.Plain,
			"see which rows are right; those of the node that serves are copied anew by: holdfast pair recover")
	}
	for _, l := range c.Left {
		output.Say(b, p, "", output.Plain, "not compared: "+output.Clean(l))
	}
}

// text is the pair for people.
// weak are what can lose rows on the active node, and what can on the standby only, by its name: there a table should have the
// engine that it has on the active node.
func (v View) weak() (out []string) {
	master, slave := v.nodes()
	out = slices.Clone(master.Weak)
	for _, w := range slave.Weak {
		if !slices.Contains(master.Weak, w) {
			out = append(out, fmt.Sprintf("on %s: %s", slave.Host, w))
		}
	}
	return out
}

func (v View) text(p output.Painter) string {
	var b strings.Builder
	b.WriteString(v.CRM())
	c := map[cluster.Health]output.Colour{cluster.Healthy: output.Green, cluster.Degraded: output.Yellow,
		cluster.Broken: output.Red}[v.Health]
	output.Say(&b, p, "pair", c, string(v.Health))
	for _, w := range v.Why {
		output.Say(&b, p, "", output.Plain, output.Clean(w))
	}
	output.Say(&b, p, "guarantee", output.Plain, string(v.Guarantee))
	if v.Arbiter != "" {
		output.Say(&b, p, "arbiter", output.Plain, output.Clean(v.Arbiter))
	}
	_, slave := v.nodes()
	complete := make([]string, len(v.InSync))
	for i, h := range v.InSync {
		complete[i] = output.Clean(string(h))
	}
	output.Say(&b, p, "complete", output.Plain, output.Or(strings.Join(complete, ", "), "unknown: no node has told it"))
	for _, n := range v.Nodes {
		if text := copyText(n); text != "" {
			output.Say(&b, p, "copy", output.Plain, text)
		}
	}
	for _, n := range v.Nodes {
		if n.Partition != nil {
			output.Say(&b, p, "partition", output.Plain, partitionText(n))
		}
	}
	if slave.Alive && slave.Role == "standby" && slave.LagKnown { // else it is of before
		output.Say(&b, p, "lag", output.Plain, slave.Lag.String())
	}
	v.comparedText(&b, p)
	if v.Health != cluster.Broken {
		output.Line(&b, p, told.Takeover(v.Takeover, false, nil))
	}
	for _, w := range v.weak() {
		output.Say(&b, p, "at risk", output.Yellow, output.Clean(w))
	}
	if !v.Owner.Time.IsZero() {
		why := ""
		if v.Owner.Reason != "" {
			why = ": " + output.Clean(v.Owner.Reason)
		}
		output.Say(&b, p, "last", output.Plain,
			fmt.Sprintf("%s %s on %s, epoch %s%s", v.Owner.Time.Local().Format(time.DateTime),
				p.Lang.Text(told.PairWord(string(v.Owner.State))), output.Clean(string(v.Owner.Host)), v.Owner.Epoch, why))
	}
	return b.String()
}
