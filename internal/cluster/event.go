package cluster

import "time"

// EventKind is the type of an event.
type EventKind string

// Event kinds.
const (
	EvElected    EventKind = "coordinator-elected"
	EvAssigned   EventKind = "assigned"
	EvStarted    EventKind = "started"
	EvAdopted    EventKind = "adopted"
	EvStopping   EventKind = "stopping"
	EvReleased   EventKind = "released"
	EvSilent     EventKind = "host-silent"
	EvJoined     EventKind = "host-joined"
	EvTakeover   EventKind = "takeover"
	EvRefused    EventKind = "refused"
	EvMigrating  EventKind = "migrating"
	EvMigrated   EventKind = "migrated"
	EvMigrateEnd EventKind = "migration-failed"
	EvSettling   EventKind = "settling"
	EvWant       EventKind = "requested"
	EvHandsOff   EventKind = "hands-off"
	EvFenceFail  EventKind = "fence-failed"
	EvConfig     EventKind = "configuration-changed"
	EvPassword   EventKind = "password-reset"
	EvAddresses  EventKind = "addresses-set"
	EvChosen     EventKind = "copy-chosen"         // of a pair's data, by a person
	EvOutage     EventKind = "outage"              // clients can not use the active database of a pair, and what ends that
	EvOutageOver EventKind = "outage-over"         // they can again
	EvAccess     EventKind = "access-changed"      // users and tokens of the console and the API
	EvNotify     EventKind = "notification-failed" // a message to a receiver was given up
	EvScreen     EventKind = "screen"              // of a guest, opened or closed by a user
	EvUnread     EventKind = "unreadable"          // in place of a record of the log that can not be read; never written
)

// Event is one change of state: who, what, when, why. Events feed the audit
// log, the console and the simulator's goldens alike.
type Event struct {
	Time     time.Time     `json:"time"` // wall clock of By, for people
	Kind     EventKind     `json:"kind"`
	By       HostID        `json:"by,omitempty"`
	Resource ResourceID    `json:"resource,omitempty"`
	Host     HostID        `json:"host,omitempty"`
	To       HostID        `json:"to,omitempty"`
	Epoch    Epoch         `json:"epoch,omitzero"`
	Proof    ProofKind     `json:"proof,omitempty"`
	Wait     time.Duration `json:"wait,omitempty"` // ns
	User     string        `json:"user,omitempty"`
	Detail   string        `json:"detail,omitempty"`
}
