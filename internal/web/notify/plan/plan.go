// Package plan decides which events are told to a receiver, when, and in which messages. It is pure: it knows the events of
// the log, what the store has of the receiver, and the time, as values.
//
// A receiver has two lanes, of critical events and of the others, because critical ones pass during quiet times while the
// others wait. Each lane has a cursor: the revision of the store up to which its events are settled, that is told or given
// up. A message under way keeps its ID and its last revision, so that another attempt, also by another host, has the same
// events under the same ID.
package plan

import (
	"cmp"
	"slices"
	"time"

	"holdfast/internal/cluster"
)

// Times of attempts and of groups.
const (
	soonest   = time.Minute // after an attempt, the next one for a critical event that has come meanwhile
	stormy    = 10          // times the grouping interval are the longest wait while events do not end
	behind    = 200         // events that nobody wants until a cursor is moved past them
	cutFrom   = 400         // events in the log, all after a cursor, from which some before may be missing
	afterward = 2           // groups without an event until a storm counts as over
)

// waits are those after failed attempts, the last of them again and again.
var waits = []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	15 * time.Minute}

// Attempts is after how many failed ones a message is given up: after some three and a half hours.
const Attempts = 20

// Rule says what a receiver is told.
type Rule struct {
	Receiver string
	Kinds    []cluster.EventKind // none: all
	Least    cluster.Severity
	Quiet    Quiet
	Group    time.Duration
}

// Quiet is a time of each day, in which only critical events are told; zero: there is none. It goes past midnight where To
// is not after From.
type Quiet struct {
	From, To int // minutes of the day
	Zone     *time.Location
}

// At reports whether it is quiet.
func (q Quiet) At(now time.Time) bool {
	if q.Zone == nil || q.From == q.To {
		return false
	}
	now = now.In(q.Zone)
	minute := now.Hour()*60 + now.Minute()
	if q.From < q.To {
		return minute >= q.From && minute < q.To
	}
	return minute >= q.From || minute < q.To
}

// Entry is an event of the log. Entries are in the order of their revisions.
type Entry struct {
	Rev   int64
	Seen  time.Time // by who decides
	Event cluster.Event
}

func (e Entry) critical() bool { return e.Event.Kind.Severity() == cluster.Critical }

// State is what the store has of a receiver.
type State struct {
	Critical int64         `json:"critical"` // cursor of critical events
	Rest     int64         `json:"rest"`     // cursor of the others
	Message  *Message      `json:"message,omitempty"`
	Every    time.Duration `json:"every,omitempty"` // ns; the least time from one message to the next

	Sent    time.Time `json:"sent,omitzero"`
	SentID  string    `json:"sentId,omitempty"`
	Failed  time.Time `json:"failed,omitzero"`
	Why     string    `json:"why,omitempty"`
	Failing bool      `json:"failing,omitempty"`
	Lost    int       `json:"lost,omitempty"`
	LostAt  time.Time `json:"lostAt,omitzero"`
}

// Message is one under way.
type Message struct {
	ID           string        `json:"id"`
	Through      int64         `json:"through"`                // its last revision
	CriticalOnly bool          `json:"criticalOnly,omitempty"` // it was begun in a quiet time
	Every        time.Duration `json:"every"`                  // of State, after it
	Attempts     int           `json:"attempts"`               // begun
	Tried        time.Time     `json:"tried,omitzero"`         // the last one
	Next         time.Time     `json:"next,omitzero"`
	Claim        string        `json:"claim,omitempty"`  // of the process that sends it now; empty: none does
	Unsure       bool          `json:"unsure,omitempty"` // a process that was to send it has not told whether it did
}

// New is the state of a receiver that is told what comes after a revision.
func New(rev int64) State { return State{Critical: rev, Rest: rev} }

// wants reports whether a receiver is told of an event: never of a message to itself that was given up.
func (r Rule) wants(e cluster.Event) bool {
	return (len(r.Kinds) == 0 || slices.Contains(r.Kinds, e.Kind)) && e.Kind.Severity().Least(r.Least) && !e.AboutReceiver(r.Receiver)
}

// Pending are the entries that a receiver is still to be told of.
func (r Rule) Pending(s State, log []Entry) []Entry {
	var out []Entry
	for _, e := range log {
		if e.Rev > s.cursor(e) && r.wants(e.Event) {
			out = append(out, e)
		}
	}
	return out
}

func (s State) cursor(e Entry) int64 {
	if e.critical() {
		return s.Critical
	}
	return s.Rest
}

// Of are the entries of a message.
func (r Rule) Of(m Message, s State, log []Entry) []Entry {
	return slices.DeleteFunc(r.Pending(s, log), func(e Entry) bool { return e.Rev > m.Through || m.CriticalOnly && !e.critical() })
}

// Missing reports whether events after the cursors may have been cut from the log before anybody looked at them.
func (s State) Missing(log []Entry) bool {
	return len(log) >= cutFrom && log[0].Rev > max(s.Critical, s.Rest)
}

// Do is what is to be done.
type Do int

// What is to be done.
const (
	Wait Do = iota // until an event comes, or a time
	Send           // a message
	Skip           // events that nobody wants: the cursors move past them
)

// Step is what is to be done about a receiver now.
type Step struct {
	Do      Do
	Until   time.Time // Wait: zero where only an event changes something
	Message Message   // Send; a new one has no ID yet
	Entries []Entry   // of it
	State   State     // Skip: what it is then
}

// Decide says what is to be done about a receiver that has no claimed message.
func (r Rule) Decide(s State, log []Entry, now time.Time) Step {
	pending := r.Pending(s, log)
	if s.Message != nil {
		return r.again(s, pending, log, now)
	}
	quiet := r.Quiet.At(now)
	if len(pending) == 0 {
		if n := len(log); n > 0 && after(log, min(s.Critical, s.Rest)) >= behind {
			s.Critical, s.Rest = max(s.Critical, log[n-1].Rev), max(s.Rest, log[n-1].Rev)
			return Step{Do: Skip, State: s}
		}
		return Step{}
	}
	if quiet {
		if pending = slices.DeleteFunc(pending, func(e Entry) bool { return !e.critical() }); len(pending) == 0 {
			return Step{Until: now.Truncate(time.Minute).Add(time.Minute)}
		}
	}
	first, last := pending[0].Seen, earlier(s.Sent, now)
	every := min(max(s.Every, r.Group), stormy*r.Group) // the interval may have been changed
	due := first.Add(r.Group)
	if !last.IsZero() && last.Add(every).After(due) {
		due = last.Add(every)
	}
	if now.Before(due) {
		return Step{Until: due}
	}
	next := r.Group
	if !last.IsZero() && first.Sub(last) < afterward*every {
		next = min(2*every, stormy*r.Group)
	}
	m := Message{Through: log[len(log)-1].Rev, CriticalOnly: quiet, Every: next}
	return Step{Do: Send, Message: m, Entries: pending}
}

// again decides about a message that is under way.
func (r Rule) again(s State, pending, log []Entry, now time.Time) Step {
	m := *s.Message
	entries := r.Of(m, s, log)
	if len(entries) == 0 { // the rules have changed meanwhile
		s.settle(m)
		return Step{Do: Skip, State: s}
	}
	due := m.Next
	for _, e := range pending {
		if e.Rev > m.Through && e.critical() {
			due = earlier(due, m.Tried.Add(soonest))
		}
	}
	if due.Sub(now) > waits[len(waits)-1] { // by the clock of another host, which was wrong
		due = now
	}
	if now.Before(due) {
		return Step{Until: due}
	}
	return Step{Do: Send, Message: m, Entries: entries}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// after counts the entries after a revision.
func after(log []Entry, rev int64) int {
	i, _ := slices.BinarySearchFunc(log, rev+1, func(e Entry, rev int64) int { return int(min(max(e.Rev-rev, -1), 1)) })
	return len(log) - i
}

// settle moves the cursors past a message.
func (s *State) settle(m Message) {
	s.Critical = max(s.Critical, m.Through)
	if !m.CriticalOnly {
		s.Rest = max(s.Rest, m.Through)
	}
	s.Message = nil
}

// Claimed is the state in which a process sends a message.
func (s State) Claimed(m Message, by string, now time.Time) State {
	m.Claim, m.Tried = by, now
	m.Attempts++
	s.Message = &m
	return s
}

// Took is the state after the service took the message that is under way.
func (s State) Took(now time.Time) State {
	m := *s.Message
	s.settle(m)
	s.Sent, s.SentID, s.Every, s.Failing = now, m.ID, m.Every, false
	return s
}

// Refused is the state after an attempt that failed; lost: it was the last one.
func (s State) Refused(why string, now time.Time) (_ State, lost bool) {
	m := *s.Message
	s.Failed, s.Why, s.Failing = now, why, true
	if m.Attempts >= Attempts {
		s.settle(m)
		s.Lost, s.LostAt = s.Lost+1, now
		return s, true
	}
	m.Claim, m.Next = "", now.Add(waits[min(m.Attempts, len(waits))-1])
	s.Message = &m
	return s, false
}

// Left is the state after the process that has claimed the message is gone, which may or may not have sent it.
func (s State) Left(now time.Time) State {
	m := *s.Message
	m.Claim, m.Unsure, m.Next = "", true, now
	s.Message = &m
	return s
}

// TellsOnlyOfLosses reports whether a message has nothing but events of messages that were given up: the loss of such a one
// makes no event, so that none of them leads to another without end.
func TellsOnlyOfLosses(entries []Entry) bool {
	return !slices.ContainsFunc(entries, func(e Entry) bool { return e.Event.Kind != cluster.EvNotify })
}

// Sort puts entries in the order of their revisions.
func Sort(log []Entry) {
	slices.SortStableFunc(log, func(a, b Entry) int { return cmp.Compare(a.Rev, b.Rev) })
}
