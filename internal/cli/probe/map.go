package probe

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/fleet/losses"
)

// Of a terminal whose size is not known, and of the part of it that a map takes.
const (
	usualRows = 24
	besideMap = 4  // lines: the one of progress, the legend, and where one looks at what was before
	mostRows  = 16 // of a map
	mapLabel  = 25 // columns, with " +99999"
)

// lossMap shows a measurement while it goes on: a map of losses over the time on a terminal, else a line now and then.
type lossMap struct {
	*progress.Ticker
	p    output.Painter
	rows int
	heat *losses.Heat // nil: none is shown
}

func newLossMap(w io.Writer) *lossMap {
	m := &lossMap{Ticker: progress.NewTicker(w), p: output.PainterFor(w)}
	if m.Terminal && os.Getenv("TERM") != "dumb" {
		m.rows = min(mostRows, cmp.Or(m.p.Rows, usualRows)-besideMap)
	}
	return m
}

// show shows how far it is.
func (m *lossMap) show(p losses.Progress, of time.Duration) {
	line := probeLine(p, of)
	if m.rows <= 0 || len(p.Each) == 0 {
		m.Ticker.Show(line)
		return
	}
	if m.heat == nil {
		m.heat = losses.NewHeat(m.rows, m.p.Wide()-mapLabel-1)
	}
	m.heat.Add(p.Passed, p.Each)
	m.Picture(mapText(m.heat, m.p), line)
}

// mapText is a map of losses, a line for each row, and what its marks mean.
func mapText(h *losses.Heat, p output.Painter) []string {
	var lines []string
	for _, r := range h.Rows {
		label := output.Shorten(output.Or(r.First.Name, r.First.IP.String()), 18)
		if r.More > 0 {
			label += fmt.Sprintf(" +%d", r.More)
		}
		var b strings.Builder
		b.WriteString(label + strings.Repeat(" ", max(1, mapLabel-output.Columns(label))))
		for _, c := range r.Columns {
			mark, tone := markOf(c)
			b.WriteString(p.Tint(tone, mark))
		}
		lines = append(lines, b.String())
	}
	return append(lines, output.Shorten(p.Lang.Text(fmt.Sprintf("a column is %s; lost: %s", h.Every, legend)), p.Wide()-1))
}

const legend = "· none  ░ less than 10 %  ▒ than 50 %  ▓ more  █ all"

// markOf is how a share of lost packets is shown; one of nothing is blank.
func markOf(c losses.Share) (string, output.Colour) {
	switch {
	case c.Sent == 0:
		return " ", output.Plain
	case c.Lost == 0:
		return "·", output.Plain
	case c.Lost >= c.Sent:
		return "█", output.Red
	case 10*c.Lost < c.Sent:
		return "░", output.Yellow
	case 2*c.Lost < c.Sent:
		return "▒", output.Yellow
	}
	return "▓", output.Red
}
