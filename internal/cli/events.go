package cli

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
)

const (
	newestEvents = -1   // after: the newest page
	eventPage    = 1000 // events of one call when all are read
)

func (a *app) eventsCmd() *cobra.Command {
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
			js, err := a.asJSON(cmd)
			if err != nil {
				return err
			}
			if limit < 1 || limit > eventPage {
				return usage(cmd, fmt.Errorf("--limit %d: want 1 to %d", limit, eventPage))
			}
			from, err := parseSince(since, time.Now())
			if err != nil {
				return usage(cmd, err)
			}
			c, err := a.dial(cmd)
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
	return time.Time{}, fmt.Errorf("--since %q: want a duration such as 90m, a day such as 2006-01-02, or a time such as 2006-01-02T15:04:05Z", s)
}

// eventView writes events from a time on.
type eventView struct {
	a    *app
	js   bool
	pair bool      // kinds of events are in the words of a pair; not for programs
	from time.Time // zero: no bound
}

// list writes what there is and returns the revision to go on from.
func (v *eventView) list(ctx context.Context, c *api.Client, limit int) (int64, error) {
	after := int64(newestEvents)
	if !v.from.IsZero() {
		after, limit = 0, eventPage
	}
	for {
		events, next, err := c.Events(ctx, after, limit)
		if err != nil {
			return 0, err
		}
		if err := v.write(events); err != nil {
			return 0, err
		}
		if after == newestEvents || len(events) == 0 {
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
		if e.Time.Before(v.from) {
			continue
		}
		var err error
		if v.js {
			err = writeJSON(v.a.env.Stdout, e, true)
		} else {
			if v.pair {
				e.Kind = cluster.EventKind(pairWord(string(e.Kind)))
			}
			err = writeText(v.a.env.Stdout, v.fitted(eventText(e)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// eventIndent is where the text of an event goes on that a terminal has no room for.
const eventIndent = 25

// fitted gives the lines of an event: one, or what fits the terminal.
func (v *eventView) fitted(text string) string {
	p := painterFor(v.a.env.Stdout)
	if !p.cuts || utf8.RuneCountInString(text) <= p.wide() {
		return text + "\n"
	}
	at := strings.LastIndexByte(text[:eventIndent], ' ') + 1 // after the time
	lines := wrapped(text[at:], p.wide()-eventIndent)
	return text[:at] + strings.Repeat(" ", eventIndent-at) + strings.Join(lines, "\n"+strings.Repeat(" ", eventIndent)) + "\n"
}

// proofWords say what a proof is.
var proofWords = map[cluster.ProofKind]string{
	cluster.ProofFirst:        "as there was no copy before",
	cluster.ProofReleased:     "as the copy before was stopped",
	cluster.ProofNeverStarted: "as the copy before was never started",
	cluster.ProofDeadline:     "as the deadline of the copy before has passed",
	cluster.ProofFenced:       "as a fence device showed the host of the copy before off",
	cluster.ProofOperator:     "as a person said that the host of the copy before is off",
	cluster.ProofRestored:     "as no host has a copy, after the restore of the store",
}

// eventText writes one event as one line.
func eventText(e cluster.Event) string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	switch {
	case e.To != "" && e.Host != "":
		add("%s -> %s", clean(e.Host), clean(e.To))
	case e.To != "":
		add("to %s", clean(e.To))
	case e.Host != "":
		add("%s", clean(e.Host))
	}
	if !e.Epoch.IsZero() {
		add("epoch %s", e.Epoch)
	}
	if why, known := proofWords[e.Proof]; known {
		add("%s", why)
	} else if e.Proof != cluster.ProofNone {
		add("proof %s", clean(e.Proof))
	}
	if e.Wait != 0 {
		add("after %s", secs(e.Wait))
	}
	if e.User != "" {
		add("user %s", clean(e.User))
	}
	if e.By != "" {
		add("by %s", clean(e.By))
	}
	text := strings.Join(words, ", ")
	switch {
	case e.Detail != "" && text != "":
		text += ": " + clean(e.Detail)
	case e.Detail != "":
		text = clean(e.Detail)
	}
	return strings.TrimRight(fmt.Sprintf("%s  %-19s  %s", clock(e.Time), clean(e.Kind), text), " ")
}
