package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/text"
)

// Head is what a message says beside its events.
type Head struct {
	Cluster string
	Console string              // the URL of the console; empty: none is named
	ID      string              // of the message
	Again   bool                // it may have been sent before, under the same ID
	Missing bool                // events before these may be missing
	T       func(string) string // into the language of the receiver
}

// Text is a message in words.
type Text struct {
	Subject  string
	Body     string // lines
	Severity cluster.Severity
	Events   int
}

// Bounds of a message, bytes but for events.
const (
	maxListed  = 20
	maxLine    = 400
	maxSubject = 150
)

// Write makes a message of at most most bytes, with the subject, of events, the oldest first.
func Write(h Head, entries []Entry, most int) Text {
	t := Text{Severity: worst(entries), Events: len(entries)}
	what := string(entries[0].Event.Kind)
	if t.Events > 1 {
		what = fmt.Sprintf("%d events", t.Events)
	}
	t.Subject = text.Cut(fmt.Sprintf("[%s] %s: %s", h.Cluster, h.T(string(t.Severity)), h.T(what)), maxSubject)
	var tail []string
	if h.Missing {
		tail = append(tail, h.T("Events before these may be missing: the log of events has been cut."))
	}
	if h.Again {
		tail = append(tail, h.T("This message may have come before, under the same number."))
	}
	if h.Console != "" {
		tail = append(tail, h.T("Console")+": "+h.Console)
	}
	tail = append(tail, h.T("Message")+": "+h.ID)
	room := most - len(t.Subject) - 1 - len(strings.Join(tail, "\n")) - 1
	listed := foremost(entries, maxListed)
	for {
		lines := []string{}
		for _, e := range listed {
			lines = append(lines, line(e.Event, h.T))
		}
		if rest := without(entries, listed); len(rest) > 0 {
			lines = append(lines, h.T("And more events")+": "+counts(rest, h.T))
		}
		t.Body = strings.Join(lines, "\n")
		if len(t.Body) <= room || len(listed) == 0 {
			break
		}
		listed = foremost(listed, len(listed)-1)
	}
	t.Body = text.Cut(t.Body, room) + "\n" + strings.Join(tail, "\n")
	return t
}

// worst is the highest severity of some events.
func worst(entries []Entry) cluster.Severity {
	s := cluster.Info
	for _, e := range entries {
		if own := e.Event.Kind.Severity(); own.Least(s) {
			s = own
		}
	}
	return s
}

// foremost are at most n of some events, the most severe ones, and of these the first, in their order.
func foremost(entries []Entry, n int) []Entry {
	if len(entries) <= n {
		return entries
	}
	out := slices.Clone(entries)
	slices.SortStableFunc(out, func(a, b Entry) int {
		return slices.Index(cluster.Severities, b.Event.Kind.Severity()) - slices.Index(cluster.Severities, a.Event.Kind.Severity())
	})
	out = out[:n]
	slices.SortStableFunc(out, func(a, b Entry) int { return slices.IndexFunc(entries, a.is) - slices.IndexFunc(entries, b.is) })
	return out
}

func (e Entry) is(other Entry) bool { return e.Rev == other.Rev && e.Event == other.Event }

func without(entries, listed []Entry) []Entry {
	return slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return slices.ContainsFunc(listed, e.is) })
}

// line is an event in one line. Its texts come from others.
func line(e cluster.Event, t func(string) string) string {
	at := "-"
	if !e.Time.IsZero() {
		at = e.Time.UTC().Format(time.DateOnly + " " + time.TimeOnly + "Z")
	}
	return text.Cut(fmt.Sprintf("%s %s %s: %s", at, t(string(e.Kind.Severity())), t(plain(string(e.Kind))),
		t(plain(e.Sentence()))), maxLine)
}

// plain is a text of others in one line, in which no service finds a tag, such as a mention of everybody.
func plain(s string) string { return text.Cut(strings.ReplaceAll(text.Clean(s), "<", "("), maxLine) }

// counts says how many events of which kinds there are.
func counts(entries []Entry, t func(string) string) string {
	n := map[cluster.EventKind]int{}
	var kinds []cluster.EventKind
	for _, e := range entries {
		if n[e.Event.Kind]++; n[e.Event.Kind] == 1 {
			kinds = append(kinds, e.Event.Kind)
		}
	}
	var out []string
	for _, k := range kinds {
		out = append(out, fmt.Sprintf("%d x %s", n[k], t(plain(string(k)))))
	}
	return strings.Join(out, ", ")
}

// Test is a message that says that it is a test.
func Test(h Head, receiver, user, host string) Text {
	lines := []string{h.T(fmt.Sprintf("This is a test of the receiver %s.", receiver)),
		h.T(fmt.Sprintf("%s has asked for it; host %s has sent it.", plain(user), host))}
	if h.Console != "" {
		lines = append(lines, h.T("Console")+": "+h.Console)
	}
	lines = append(lines, h.T("Message")+": "+h.ID)
	subject := h.T("This is a test")
	return Text{Subject: text.Cut(fmt.Sprintf("[%s] %s", h.Cluster, subject), maxSubject), Body: strings.Join(lines, "\n"),
		Severity: cluster.Info}
}
