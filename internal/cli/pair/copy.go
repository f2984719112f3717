package pair

import (
	"fmt"
	"strings"
	"time"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
)

// volume is a number of bytes for people, in the units of disks and links.
func volume(n int64) string {
	if n < 1e9 {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// copyText says how far the copy is that a node makes; "": it makes none.
func copyText(n cluster.PairNode) string {
	c := n.Copy
	if c == nil || !n.Alive || c.Stage == cluster.Copied {
		return ""
	}
	parts := []string{}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if c.About > 0 {
		add("%d %%", c.Percent)
		add("%s of about %s", volume(c.Bytes), volume(c.About))
	} else {
		add("%s received", volume(c.Bytes))
	}
	if c.Rate > 0 {
		add("%s/s", volume(c.Rate))
	}
	add("%s so far", c.Elapsed)
	if c.Left > 0 {
		add("about %s left", c.Left)
	}
	return fmt.Sprintf("%s: %s: %s", output.Clean(n.Host), output.Clean(c.Stage), strings.Join(parts, ", "))
}

// copiedText has a line for each copy that is whole.
func copiedText(p cluster.PairStatus) string {
	var b strings.Builder
	for _, n := range p.Nodes {
		if c := n.Copy; c != nil && c.Stage == cluster.Copied {
			fmt.Fprintf(&b, "%s: copied: %s in %s, %s/s\n", output.Clean(n.Host), volume(c.Bytes), c.Elapsed, volume(c.Rate))
		}
	}
	return b.String()
}

// stages tells where work of several parts is.
type stages struct {
	a     *command.App
	begun time.Time
	of, n int
}

// next tells that the next one begins, and for how long the work has gone on.
func (s *stages) next(name string) error {
	s.n++
	return output.Text(s.a.Env.Stderr,
		fmt.Sprintf("%6.1fs  stage %d of %d: %s\n", time.Since(s.begun).Seconds(), s.n, s.of, name))
}
