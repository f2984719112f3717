package ha

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
)

const (
	NewestEvents = -1   // after: the newest page
	EventPage    = 1000 // events of one call when all are read
)

func eventsCmd(a *command.App) *cobra.Command {
	var follow bool
	var since string
	var limit int
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened, who asked for it, and why",
		Long: `Shows the newest events, oldest first, or all since a time. With -o json each
event is one line.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if limit < 1 || limit > EventPage {
				return command.Usage(cmd, fmt.Errorf("--limit %d: want 1 to %d", limit, EventPage))
			}
			from, err := parseSince(since, time.Now())
			if err != nil {
				return command.Usage(cmd, err)
			}
			c, err := a.Dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			v := &eventView{a: a, js: js, from: from}
			if !js {
				s, err := c.Status(cmd.Context())
				if err != nil {
					return err
				}
				v.pair = s.OfPair()
			}
			next, err := v.list(cmd.Context(), c, limit)
			if err != nil || !follow {
				return err
			}
			return v.follow(cmd.Context(), c, next)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "then show new events until interrupted")
	f.StringVar(&since, "since", "", "all events since a `time`: a duration before now (90m), or\n2006-01-02, or 2006-01-02T15:04:05Z")
	f.IntVar(&limit, "limit", 100, "show the newest `N` events, without --since")
	return cmd
}

// tooLong is a duration, which time.ParseDuration refuses only if it is too long.
var tooLong = regexp.MustCompile(`^\+?(?:[0-9]+(?:\.[0-9]*)?(?:ns|us|µs|μs|ms|s|m|h))+$`)

// parseSince reads a time, or a duration before now; "" is the zero time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t, nil
	}
	if tooLong.MatchString(s) {
		return time.Time{}, fmt.Errorf("--since %q: want a duration of at most 2562047h (292 years)", s)
	}
	return time.Time{}, fmt.Errorf("--since %q: want a duration such as 90m, a day such as 2006-01-02, or a time "+
		"such as 2006-01-02T15:04:05Z", s)
}

// eventView writes events from a time on.
type eventView struct {
	a    *command.App
	js   bool
	pair bool      // kinds of events are in the words of a pair; not for programs
	from time.Time // zero: no bound
}

// list writes what there is and returns the revision to go on from.
func (v *eventView) list(ctx context.Context, c *api.Client, limit int) (int64, error) {
	after := int64(NewestEvents)
	if !v.from.IsZero() {
		after, limit = 0, EventPage
	}
	for {
		events, next, err := c.Events(ctx, after, limit)
		if err != nil {
			return 0, err
		}
		if err := v.write(events); err != nil {
			return 0, err
		}
		if after == NewestEvents || len(events) == 0 {
			return next, nil
		}
		after = next
	}
}

// follow writes new events until the user ends it, which is no error.
func (v *eventView) follow(ctx context.Context, c *api.Client, after int64) error {
	for page, err := range c.WatchEvents(ctx, after) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := v.write(page.Events); err != nil {
			return err
		}
	}
	return nil
}

func (v *eventView) write(events []cluster.Event) error {
	for _, e := range events {
		if e.Time.Before(v.from) && !e.Time.IsZero() { // when that happened is not known
			continue
		}
		var err error
		if v.js {
			err = output.JSON(v.a.Env.Stdout, e, true)
		} else {
			if v.pair {
				e.Kind = cluster.EventKind(told.PairWord(string(e.Kind)))
			}
			err = output.Text(v.a.Env.Stdout, eventText(e, output.PainterFor(v.a.Env.Stdout)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// eventText writes an event as one line, on a terminal as those that fit it: the text goes on
// below, after the time.
func eventText(e cluster.Event, p output.Painter) string {
	const indent = 25 // after the time
	at, kind := output.WallClock(e.Time), p.Lang.Text(output.Clean(e.Kind))
	at += strings.Repeat(" ", max(0, indent-2-output.Columns(at))) // of one that can not be read the time is not known
	begin := at + "  " + kind + strings.Repeat(" ", max(0, 19-output.Columns(kind))) + "  "
	return strings.TrimRight(p.Folded(begin, p.Lang.Text(output.Clean(e.Sentence())), indent), " \n") + "\n"
}
