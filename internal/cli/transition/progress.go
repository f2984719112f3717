package transition

import (
	"context"
	"log/slog"
	"slices"

	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
)

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
