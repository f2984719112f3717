package told

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// Pair is a pair in words, by what the lines are about. A line without a label goes on with the one before it.
type Pair struct {
	Health    []Line // how well it does, and why not better
	Promise   []Line // what is guaranteed, the arbiter, and which copies have every acknowledged write
	Copies    []Line // that are made of the other node's data
	Partition []Line
	Lag       []Line // of a standby that follows
	Compared  []Line // how the last comparison of the rows ended
	Takeover  []Line // none of a pair that does not serve
	Risk      []Line // what can lose rows although a copy is whole
	Last      []Line // who was last given the group, and why
}

// Lines are all, in the order of `pair status`.
func (p Pair) Lines() []Line {
	return slices.Concat(p.Health, p.Promise, p.Copies, p.Partition, p.Lag, p.Compared, p.Takeover, p.Risk, p.Last)
}

// PairStatus says a pair in words. tr translates the few words that stand inside a sentence; nil: it does not.
func PairStatus(p cluster.PairStatus, tr func(string) string) Pair {
	if tr == nil {
		tr = func(s string) string { return s }
	}
	var out Pair
	health, why := p.Health()
	tone := map[cluster.Health]Tone{cluster.Healthy: Good, cluster.Degraded: Warn, cluster.Broken: Bad}[health]
	out.Health = []Line{{"pair", tone, string(health)}}
	for _, w := range why {
		out.Health = append(out.Health, Line{"", Plain, Clean(w)})
	}
	out.Promise = []Line{{"guarantee", Plain, string(p.Guarantee)}}
	if p.Arbiter != "" {
		out.Promise = append(out.Promise, Line{"arbiter", Plain, Clean(p.Arbiter)})
	}
	out.Promise = append(out.Promise, Line{"complete", Plain, Or(names(p.InSync), "unknown: no node has told it")})
	for _, n := range p.Nodes {
		if text := Copying(n); text != "" {
			out.Copies = append(out.Copies, Line{"copy", Plain, text})
		}
		if n.Partition != nil {
			out.Partition = append(out.Partition, Line{"partition", Plain, PairPartition(n)})
		}
	}
	if _, slave := PairSides(p); slave.Alive && slave.Role == "standby" && slave.LagKnown { // else it is of before
		out.Lag = []Line{{"lag", Plain, slave.Lag.String()}}
	}
	out.Compared = compared(p)
	if health != cluster.Broken {
		out.Takeover = []Line{Takeover(p.Takeover, false, nil)}
	}
	for _, w := range weak(p) {
		out.Risk = append(out.Risk, Line{"at risk", Warn, Clean(w)})
	}
	if !p.Owner.Time.IsZero() {
		why := ""
		if p.Owner.Reason != "" {
			why = ": " + Clean(p.Owner.Reason)
		}
		out.Last = []Line{{"last", Plain, fmt.Sprintf("%s %s on %s, epoch %s%s", p.Owner.Time.Local().Format(time.DateTime),
			tr(PairWord(string(p.Owner.State))), Clean(p.Owner.Host), p.Owner.Epoch, why)}}
	}
	return out
}

// PairSides are the node that has the group, or had it last, and the other one; without names where there are not two.
func PairSides(p cluster.PairStatus) (master, slave cluster.PairNode) {
	if len(p.Nodes) != 2 {
		return master, slave
	}
	if p.Owner.Host == p.Nodes[1].Host {
		return p.Nodes[1], p.Nodes[0]
	}
	return p.Nodes[0], p.Nodes[1]
}

func names(hosts []cluster.HostID) string {
	out := make([]string, len(hosts))
	for i, h := range hosts {
		out[i] = Clean(h)
	}
	return strings.Join(out, ", ")
}

// PairPartition is how a node's copy of the partition is.
func PairPartition(n cluster.PairNode) string {
	t := n.Partition
	text := fmt.Sprintf("%s on %s %s: ", Clean(t.Name), Clean(n.Host), Clean(t.Disk))
	switch {
	case t.State != cluster.PartitionReady:
		text += Clean(t.State)
	case !n.Alive:
		return text + "not known"
	case t.Linked:
		return text + "in sync"
	default:
		text += fmt.Sprintf("%s, %d %% in common", Clean(t.Copy), t.Percent)
	}
	if t.Problem != "" {
		text += ": " + Clean(t.Problem)
	}
	return text
}

// compared is how the last comparison of the rows of both nodes ended.
func compared(p cluster.PairStatus) []Line {
	c := p.Compared()
	if c == nil {
		return nil
	}
	text, tone := "never", Plain
	if !c.Ended.IsZero() {
		result := "all equal"
		if n := len(c.Differ); n > 0 {
			result, tone = fmt.Sprintf("differences: %d", n), Warn
		}
		text = fmt.Sprintf("%s, %s ago: %s; tables: %d, rows: %d", c.Ended.Local().Format(time.DateTime),
			Ago(p.Time.Sub(c.Ended)), result, c.Tables, c.Rows)
	}
	if c.Failed != "" {
		text += "; the last try failed: " + Clean(c.Failed)
	}
	out := []Line{{"compared", tone, text}}
	for _, d := range c.Differ {
		out = append(out, Line{"", Plain, Clean(d)})
	}
	if len(c.Differ) > 0 {
		out = append(out, Line{"", Plain,
			"see which rows are right; those of the node that serves are copied anew by: holdfast pair recover"})
	}
	for _, l := range c.Left {
		out = append(out, Line{"", Plain, "not compared: " + Clean(l)})
	}
	return out
}

// weak are what can lose rows on the active node, and what can on the standby only, by its name: there a table should have the
// engine that it has on the active node.
func weak(p cluster.PairStatus) (out []string) {
	master, slave := PairSides(p)
	out = slices.Clone(master.Weak)
	for _, w := range slave.Weak {
		if !slices.Contains(master.Weak, w) {
			out = append(out, fmt.Sprintf("on %s: %s", slave.Host, w))
		}
	}
	return out
}

// ProvedBy says what would prove the loss of the node that serves, without a person; no text: nothing is known of that.
func ProvedBy(t cluster.Takeover) Line {
	text := ""
	switch {
	case t.ByFence && t.ByDeadline:
		text = "a fence device that shows it off, or its own reset"
	case t.ByFence:
		text = "a fence device that shows it off"
	case t.ByDeadline:
		text = "its own reset"
	}
	return Line{"proof", Plain, text}
}

// Volume is a number of bytes for people, in the units of disks and links.
func Volume(n int64) string {
	if n < 1e9 {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// Copies reports whether a node makes a copy of the other one's data.
func Copies(n cluster.PairNode) bool {
	return n.Copy != nil && n.Alive && n.Copy.Stage != cluster.Copied
}

// Copying says how far the copy is that a node makes; "": it makes none.
func Copying(n cluster.PairNode) string {
	if !Copies(n) {
		return ""
	}
	c := n.Copy
	parts := []string{}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if c.About > 0 {
		add("%d %%", c.Percent)
		add("%s of about %s", Volume(c.Bytes), Volume(c.About))
	} else {
		add("%s received", Volume(c.Bytes))
	}
	if c.Rate > 0 {
		add("%s/s", Volume(c.Rate))
	}
	add("%s so far", c.Elapsed)
	if c.Left > 0 {
		add("about %s left", c.Left)
	}
	return fmt.Sprintf("%s: %s: %s", Clean(n.Host), Clean(c.Stage), strings.Join(parts, ", "))
}

// Keeping says what the choice of a copy does, with what is known of the other one.
func Keeping(p cluster.PairStatus, keep string) string {
	return "keep the data of " + Clean(keep) + ", and give up what only the other node has" + otherCopy(p, keep)
}

// KeepingUnread is Keeping where the records of the pair can not be read.
func KeepingUnread(keep string) string {
	return "keep the data of " + Clean(keep) + ", and give up what the other node has written alone, which has to be off"
}

func otherCopy(p cluster.PairStatus, keep string) string {
	for _, n := range p.Nodes {
		if string(n.Host) == keep {
			continue
		}
		text := fmt.Sprintf(" (%s", Clean(n.Host))
		if slices.Contains(p.InSync, n.Host) {
			text += ": has every acknowledged write"
		}
		switch {
		case n.Off:
			text += "; is off"
		case !n.Alive:
			text += "; is silent"
		}
		if !n.Time.IsZero() {
			text += "; has told last at " + n.Time.Local().Format(time.DateTime)
		}
		return text + ")"
	}
	return ""
}
