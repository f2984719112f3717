package upgrade

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api/told"
	"holdfast/internal/cli/output"
	"holdfast/internal/upgrade"
)

// What a plan shows of many things, unless all is wanted; JSON has all of it.
const (
	maxOfRule = 5 // findings of a rule
	maxLeft   = 20
)

// detail says how much of a plan is shown.
type detail struct{ steps, all bool }

func (d *detail) flags(cmd *cobra.Command, when string) {
	cmd.Flags().BoolVar(&d.steps, "steps", false, when+"show every step")
	cmd.Flags().BoolVar(&d.all, "all", false, when+"show every host and\nfinding, however many there are")
}

// planSum is what the hosts of a group do in some waves.
type planSum struct {
	hosts, moves int
	memory       int64         // MiB that move
	longest      time.Duration // turn
}

// planWaves sums hosts up by their waves and groups, in as many rows as fit on a page:
// neighbouring waves share a row where there are too many, and all groups where even that
// does not do.
func planWaves(b *strings.Builder, p output.Painter, plan *upgrade.Plan) {
	var groups []string
	last, known := 1, map[string]bool{}
	for _, h := range plan.Hosts {
		if last = max(last, h.Wave); !known[h.Group] {
			known[h.Group] = true
			groups = append(groups, h.Group)
		}
	}
	apart := len(groups) <= maxHostRows/2
	share := (last*len(groups) + maxHostRows - 1) / maxHostRows // waves to a row
	if !apart {
		share = (last + maxHostRows - 1) / maxHostRows
		groups = []string{""}
	}
	type key struct {
		part  int
		group string
	}
	sums := map[key]*planSum{}
	for _, h := range plan.Hosts {
		k := key{(max(h.Wave, 1) - 1) / share, h.Group}
		if !apart {
			k.group = ""
		}
		s := sums[k]
		if s == nil {
			s = &planSum{}
			sums[k] = s
		}
		s.hosts, s.moves, s.memory, s.longest = s.hosts+1, s.moves+h.Moves, s.memory+h.MovedMiB, max(s.longest, h.Turn)
	}
	var rows [][]output.Cell
	for part := 0; part*share < last; part++ {
		waves := fmt.Sprint(part*share + 1)
		if to := min(last, (part+1)*share); to > part*share+1 {
			waves += fmt.Sprintf("-%d", to)
		}
		for _, g := range groups {
			s := sums[key{part, g}]
			if s == nil {
				continue
			}
			name := output.Or(g, "-")
			if !apart {
				name = fmt.Sprintf("all %d", len(known))
			}
			row := []output.Cell{{Text: waves}, {Text: name}}
			for _, n := range []any{s.hosts, s.moves, s.memory >> 10, output.Ago(s.longest)} {
				row = append(row, output.Cell{Text: fmt.Sprint(n)})
			}
			rows = append(rows, row)
		}
	}
	output.Table(b, p,
		[]output.Column{{Head: "WAVES"}, {Head: "GROUP", Cut: 1, Least: 8}, {Head: "HOSTS"}, {Head: "GUESTS"},
			{Head: "GIB"}, {Head: "TURN AT MOST"}}, rows)
	b.WriteString("every host: --all, or -o json\n")
}

// planFindings writes what stands in the way first, and of many findings of a rule some.
func planFindings(b *strings.Builder, p output.Painter, plan *upgrade.Plan, all bool) {
	most := maxOfRule
	if all {
		most = len(plan.Findings)
	}
	more := func(rule string, n int) string {
		return fmt.Sprintf("%s: and %d more (all: --all, or -o json)", rule, n)
	}
	for _, l := range told.PlanFindings(plan, most, more) {
		output.Line(b, p, l)
	}
}
