package pair

import (
	"fmt"
	"strings"
	"time"

	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
)

// copiedText has a line for each copy that is whole.
func copiedText(p cluster.PairStatus) string {
	var b strings.Builder
	for _, n := range p.Nodes {
		if c := n.Copy; c != nil && c.Stage == cluster.Copied {
			fmt.Fprintf(&b, "%s: copied: %s in %s, %s/s\n", output.Clean(n.Host), told.Volume(c.Bytes), c.Elapsed, told.Volume(c.Rate))
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
