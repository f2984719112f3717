package transition

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/job"
	align "holdfast/internal/transition/db"
)

// tellOn shows what package db tells.
func tellOn(t *progress.Ticker) align.Tell {
	return align.Tell{Note: t.Say, Progress: func(p align.Progress) {
		line := progressLine(p)
		t.Show(line)
		if p.Copy != nil {
			t.Parts(line, copied(p.Copy.Tables))
		} else {
			t.Parts(line, nil)
		}
	}, Log: slog.New(news{to: t})}
}

// copied are tables as parts of a step.
func copied(all []align.Standing) []job.Part {
	out := make([]job.Part, 0, len(all))
	for _, s := range all {
		p := job.Part{Name: s.Table, State: "waiting", Done: s.Rows, Total: s.TableRows, Unit: "rows", PerSecond: s.RowsPerSecond, Left: s.ETA}
		switch {
		case s.Done:
			p.State = "done"
		case s.Running:
			p.State = "running"
		}
		out = append(out, p)
	}
	return out
}

// compared are the same of a comparison that has ended.
func compared(r *align.Verified) []job.Part {
	out := make([]job.Part, 0, len(r.Tables))
	for _, t := range r.Tables {
		p := job.Part{Name: t.Target, State: "done", Done: t.TargetRows, Total: t.SourceRows, Unit: "rows",
			Differences: int64(len(t.Differences))}
		if !t.ChecksumEqual {
			p.State = "failed"
		}
		out = append(out, p)
	}
	return out
}

// progressLine is how far the work is, in a line.
func progressLine(p align.Progress) string {
	line, waits := p.Step, ""
	switch {
	case p.Copy != nil:
		c := p.Copy
		line, waits = fmt.Sprintf("%s  %s rows  %.0f %%  %s rows/s", c.Table, output.Thousands(c.Done), c.Percent,
			output.Thousands(int64(c.RowsPerSecond))), c.Waiting
		if c.ETA > 0 {
			line += "  " + c.ETA.Round(time.Second).String() + " left"
		}
	case p.Follow != nil:
		f, behind := p.Follow, "behind by what is not known yet"
		if f.LagSeconds >= 0 {
			behind = fmt.Sprintf("%.1f s behind", f.LagSeconds)
		}
		line, waits = fmt.Sprintf("following  %s  %s  %s changed rows", f.Position, behind,
			output.Thousands(f.RowsChanged)), f.Waits
	case p.Compare != nil:
		line = fmt.Sprintf("%s  %s rows compared", p.Compare.Table, output.Thousands(p.Compare.Rows))
	}
	if waits != "" {
		line += "  waits: " + waits
	}
	return line
}

// news is a log whose warnings are shown to people, a line each. What is told of an error
// stands last.
type news struct {
	to   *progress.Ticker
	with []slog.Attr
}

// Enabled wants warnings: the rest is for who looks into this program.
func (news) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle shows an event.
func (n news) Handle(_ context.Context, r slog.Record) error {
	text, why := r.Message, ""
	add := func(a slog.Attr) bool {
		if a.Key == "error" {
			why = ": " + a.Value.String()
		} else {
			text += ", " + a.Key + " " + a.Value.String()
		}
		return true
	}
	for _, a := range n.with {
		add(a)
	}
	r.Attrs(add)
	n.to.Event(output.Clean(r.Message), output.Clean(text+why))
	return nil
}

// WithAttrs implements slog.Handler.
func (n news) WithAttrs(more []slog.Attr) slog.Handler {
	return news{n.to, slices.Concat(n.with, more)}
}

// WithGroup implements slog.Handler. The names of groups tell people nothing.
func (n news) WithGroup(string) slog.Handler { return n }
