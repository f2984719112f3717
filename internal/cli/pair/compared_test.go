package pair

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// TestAStandbyWhoseRowsDifferMayBeRecovered: one that follows and has all data is left alone otherwise.
func TestAStandbyWhoseRowsDifferMayBeRecovered(t *testing.T) {
	of := clitest.NewAgent(t)
	for _, c := range []struct {
		compared *cluster.PairCompared
		refused  bool
	}{
		{nil, true}, {&cluster.PairCompared{Ended: time.Now()}, true},
		{&cluster.PairCompared{Ended: time.Now(), Differ: []string{"app.log: id 5: h2 lacks this row"}}, false},
	} {
		of.Pair.Lay(func(p *cluster.PairStatus) { p.Nodes[1].Compared = c.compared })
		a := &command.App{Socket: of.Socket}
		cmd := &cobra.Command{}
		cmd.SetContext(t.Context())
		p, err := of.Pair.Pair(t.Context())
		try.Must(t, err)
		err = mayRecover(a, cmd, string(p.Nodes[0].Host), string(p.Nodes[1].Host))
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "is well and has all data") {
			t.Errorf("%+v: %v", c.compared, err)
		}
	}
}
