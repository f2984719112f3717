package demo

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
)

// Sources of an event.
const (
	fromDemo     = "demo"     // the demo did it or saw it happen to a host
	fromCluster  = "cluster"  // the agents' own events
	fromObserver = "observer" // seen from outside: processes and answers of the VM
	fromClient   = "client"   // what a client of the VM feels
)

// Event is one line of the timeline.
type Event struct {
	Time   time.Time         `json:"-"`
	AtMS   int64             `json:"at_ms"` // relative to the fault, ms; without a fault to the start of the demo
	Source string            `json:"source"`
	Kind   string            `json:"kind"`
	Host   cluster.HostID    `json:"host,omitempty"`
	To     cluster.HostID    `json:"to,omitempty"`
	Epoch  *cluster.Epoch    `json:"epoch,omitempty"`
	Proof  cluster.ProofKind `json:"proof,omitempty"`
	Text   string            `json:"text,omitempty"`
}

// Line is the event for people, without its time.
func (e Event) Line() string { return strings.TrimRight(e.begin()+e.sentence(), " ") }

// begin is what a line begins with: where the event is from, and the host.
func (e Event) begin() string { return fmt.Sprintf("%-8s %-4s ", e.Source, e.Host) }

// sentence says what happened; what the agents tell, as `holdfast events` says it.
func (e Event) sentence() string {
	if e.Source != fromCluster {
		return e.Text
	}
	said := cluster.Event{To: e.To, Proof: e.Proof, Detail: e.Text}
	if e.To != "" {
		said.Host = e.Host
	}
	if e.Epoch != nil {
		said.Epoch = *e.Epoch
	}
	if s := said.Sentence(); s != "" {
		return e.Kind + ": " + s
	}
	return e.Kind
}

// since is a time in the timeline, in seconds; none is less than nothing that rounds to it.
func since(ms int64) string {
	s := fmt.Sprintf("%+9.2f", float64(ms)/1000)
	if strings.TrimSpace(s) == "-0.00" {
		return strings.Replace(s, "-", "+", 1)
	}
	return s
}

// timeline collects events. It may be used concurrently.
type timeline struct {
	start time.Time
	tell  func(Event) // called for each event, in the order in which they came in; nil for none

	mu     sync.Mutex
	events []Event
	zero   time.Time // the moment of the fault
	seen   map[string]bool
}

func newTimeline(start time.Time, tell func(Event)) *timeline {
	return &timeline{start: start, tell: tell, seen: map[string]bool{}}
}

// Add records an event that happened at its Time, now if that is zero.
func (t *timeline) Add(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
	if t.tell != nil {
		t.tell(e)
	}
}

// AddCluster records events of the agents. Their wall clock is this machine's,
// so that their times fit in between the demo's own. An event that comes twice,
// since two agents delivered it, is taken once.
func (t *timeline) AddCluster(events []cluster.Event) error {
	for _, e := range events {
		key, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("record an event: %w", err)
		}
		t.mu.Lock()
		known := t.seen[string(key)]
		t.seen[string(key)] = true
		t.mu.Unlock()
		if known {
			continue
		}
		// The difference is taken by wall clock and added to a reading of the
		// monotonic one.
		line := Event{
			Time: t.start.Add(e.Time.Sub(t.start.Round(0))), Source: fromCluster, Kind: string(e.Kind),
			Host: e.Host, To: e.To, Proof: e.Proof, Text: e.Detail,
		}
		if line.Host == "" {
			line.Host = e.By
		}
		if !e.Epoch.IsZero() {
			line.Epoch = &e.Epoch
		}
		t.Add(line)
	}
	return nil
}

// Fault sets the moment that times are told from.
func (t *timeline) Fault(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.zero = at
}

// Events returns all events in order of time.
func (t *timeline) Events() []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	zero := t.zero
	if zero.IsZero() {
		zero = t.start
	}
	events := slices.Clone(t.events)
	for i := range events {
		events[i].AtMS = events[i].Time.Sub(zero).Milliseconds()
	}
	// By what is told: times with and without a monotonic reading do not compare in one order.
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Time.Sub(zero), b.Time.Sub(zero)) })
	return events
}

// First returns the time of the first event at or after from that match selects.
func (t *timeline) First(from time.Time, match func(Event) bool) (time.Time, bool) {
	for _, e := range t.Events() {
		if !e.Time.Before(from) && match(e) {
			return e.Time, true
		}
	}
	return time.Time{}, false
}

// clusterKind selects events of the agents.
func clusterKind(kinds ...cluster.EventKind) func(Event) bool {
	return func(e Event) bool {
		return e.Source == fromCluster && slices.Contains(kinds, cluster.EventKind(e.Kind))
	}
}
