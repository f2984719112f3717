package cluster

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Severity says how soon a person should look at an event.
type Severity string

// Severities.
const (
	Info     Severity = "info"     // nobody has to do anything
	Warning  Severity = "warning"  // somebody should look at it by day
	Critical Severity = "critical" // somebody should look at it now; also that it is over
)

// Severities are all of them, the least first.
var Severities = []Severity{Info, Warning, Critical}

// Least reports whether a severity is that of another one, or above it.
func (s Severity) Least(of Severity) bool {
	return slices.Index(Severities, s) >= slices.Index(Severities, of)
}

// severities has every kind of event. What ends something is as severe as that: who was woken by the one hears of the other.
var severities = map[EventKind]Severity{
	EvElected:    Info,
	EvAssigned:   Info,
	EvStarted:    Warning,
	EvAdopted:    Info,
	EvStopping:   Info,
	EvReleased:   Info,
	EvSilent:     Critical,
	EvJoined:     Warning,
	EvTakeover:   Critical,
	EvRefused:    Warning,
	EvMigrating:  Info,
	EvMigrated:   Info,
	EvMigrateEnd: Warning,
	EvSettling:   Info,
	EvWant:       Info,
	EvHandsOff:   Warning,
	EvFenceFail:  Critical,
	EvConfig:     Info,
	EvPassword:   Warning,
	EvAddresses:  Info,
	EvChosen:     Warning,
	EvOutage:     Critical,
	EvOutageOver: Critical,
	EvAccess:     Warning,
	EvNotify:     Critical,
	EvScreen:     Info,
	EvUnread:     Warning,
}

// Severity is that of a kind of event. One that this version does not know is of a later one, and worth a look.
func (k EventKind) Severity() Severity {
	if s, known := severities[k]; known {
		return s
	}
	return Warning
}

// EventKinds are all kinds of events, by name.
func EventKinds() []EventKind { return slices.Sorted(maps.Keys(severities)) }

// Receiver is somebody who is told of events, or a service that tells them, and how that goes. It has no secret.
type Receiver struct {
	Name    string        `json:"name"`
	Service string        `json:"service"`
	To      string        `json:"to,omitempty"`    // where, as far as the configuration says it
	Kinds   []EventKind   `json:"kinds,omitempty"` // of events; none: all
	Least   Severity      `json:"least"`
	Quiet   string        `json:"quiet,omitempty"` // HH:MM-HH:MM, in which only what is critical is sent
	Zone    string        `json:"zone,omitempty"`  // of these times; empty: that of the host that sends
	Group   time.Duration `json:"group"`           // what happens within it is one message

	Sent     time.Time `json:"sent,omitzero"`     // of the last message that the service took
	SentID   string    `json:"sentId,omitempty"`  // of that message
	Failed   time.Time `json:"failed,omitzero"`   // of the last attempt that failed
	Why      string    `json:"why,omitempty"`     // it did
	Failing  bool      `json:"failing,omitempty"` // the last attempt failed
	Lost     int       `json:"lost,omitempty"`    // messages that were given up, since the receiver is there
	LostAt   time.Time `json:"lostAt,omitzero"`   // of the last of them
	Waiting  int       `json:"waiting,omitempty"` // events that are not told yet
	Oldest   time.Time `json:"oldest,omitzero"`   // of these
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"` // attempt, of a message that failed
}

// receiverWord begins what an event tells of a receiver.
const receiverWord = "receiver "

// ReceiverFailed is what an event tells of a message that was given up.
func ReceiverFailed(name, why string) string { return receiverWord + name + ": " + why }

// AboutReceiver reports whether an event tells of a message to a receiver that was given up.
func (e Event) AboutReceiver(name string) bool {
	return e.Kind == EvNotify && strings.HasPrefix(e.Detail, ReceiverFailed(name, ""))
}

// ReceiverState says how messages to a receiver go.
type ReceiverState string

// States of receivers.
const (
	ReceiverFailing ReceiverState = "failing" // and it is tried again
	ReceiverGaveUp  ReceiverState = "gave up" // the last message
	ReceiverNew     ReceiverState = "nothing yet"
	ReceiverWaits   ReceiverState = "waiting" // something is to be sent
	ReceiverSent    ReceiverState = "sent"
)

// State says how messages to a receiver go.
func (r Receiver) State() ReceiverState {
	switch {
	case r.Failing && r.Attempts > 0:
		return ReceiverFailing
	case r.Failing:
		return ReceiverGaveUp
	case r.Waiting > 0:
		return ReceiverWaits
	case r.Sent.IsZero():
		return ReceiverNew
	}
	return ReceiverSent
}
