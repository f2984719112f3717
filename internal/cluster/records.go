package cluster

import (
	"fmt"
	"slices"
	"time"
)

// HostID is a host's name: an RFC 1123 hostname, unique in the cluster.
type HostID string

// ResourceID names a protected guest. The management VM is MgmtVM.
type ResourceID string

// MgmtVM is the resource id of the management VM.
const MgmtVM ResourceID = "mnvm"

// GuestName is the libvirt name of the management VM.
const GuestName = "holdfast-mnvm"

// GroupName is what the group of a pair is called among the guests of a host.
const GroupName = "holdfast-group"

// Instant is a reading of one host's clock (host/clock), in nanoseconds. Instants
// of different hosts can not be compared; only rates are trusted.
type Instant int64

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// Epoch numbers the ownerships of a resource. It only grows: within one store
// by Seq, across a restored store by Gen, the restore generation. It is the
// fencing token that a start carries.
type Epoch struct {
	Gen uint64 `json:"gen"`
	Seq uint64 `json:"seq"`
}

// Less reports whether e is older than f.
func (e Epoch) Less(f Epoch) bool {
	if e.Gen != f.Gen {
		return e.Gen < f.Gen
	}
	return e.Seq < f.Seq
}

// Next returns the epoch after e.
func (e Epoch) Next() Epoch { return Epoch{e.Gen, e.Seq + 1} }

// IsZero reports whether e is the epoch before the first.
func (e Epoch) IsZero() bool { return e == Epoch{} }

// String gives "generation.sequence".
func (e Epoch) String() string { return fmt.Sprintf("%d.%d", e.Gen, e.Seq) }

// ParseEpoch reads the form that String writes.
func ParseEpoch(s string) (Epoch, error) {
	var e Epoch
	if n, err := fmt.Sscanf(s, "%d.%d", &e.Gen, &e.Seq); n != 2 || err != nil || e.String() != s {
		return Epoch{}, fmt.Errorf("epoch %q: want GENERATION.SEQUENCE", s)
	}
	return e, nil
}

// OwnerState is the state of a resource's owner record.
type OwnerState string

// States of an owner record. Only Released leaves nobody who may run it.
const (
	Assigned  OwnerState = "assigned"  // Host may start it, once, under Epoch
	Running   OwnerState = "running"   // Host runs it
	Migrating OwnerState = "migrating" // Host runs it; a migration may bring it to To, where it stands still
	Settling  OwnerState = "settling"  // it has left the source of a migration (Proof); Host, the target, says whether it has it
	Stopping  OwnerState = "stopping"  // Host has been told to shut it down
	Released  OwnerState = "released"  // Host proved that it stopped, or that it never started
)

// ProofKind says what made it certain that the epoch before no longer runs.
type ProofKind string

// Proof kinds: the only values that allow a new epoch.
const (
	ProofNone         ProofKind = ""
	ProofFirst        ProofKind = "first"         // there was no epoch before
	ProofReleased     ProofKind = "released"      // the holder stopped it and proved its process gone
	ProofNeverStarted ProofKind = "never-started" // the assigned host closed its epoch before it called the hypervisor
	ProofDeadline     ProofKind = "deadline"      // the host's own reset, at the latest by its watchdog, has passed
	ProofFenced       ProofKind = "fenced"        // a fence device confirmed the host off
	ProofOperator     ProofKind = "operator"      // a person who typed the host's name
	ProofRestored     ProofKind = "restored"      // after the store was restored from a backup, every host said that it has nothing
)

// Proof is the reason why a resource may get a new epoch.
type Proof struct {
	Kind  ProofKind     `json:"kind"`
	Host  HostID        `json:"host,omitempty"` // whom it is about
	Epoch Epoch         `json:"epoch,omitzero"` // the epoch that is proved to be over
	Wait  time.Duration `json:"wait,omitempty"` // ProofDeadline: silence that the coordinator measured, ns
	By    HostID        `json:"by,omitempty"`   // who made it
	Note  string        `json:"note,omitempty"` // ProofFenced: the device; else for people
}

// Owner is the persistent record that says who may run a resource. It is bound
// to no lease: it changes only by transactions that compare its revision.
type Owner struct {
	Resource ResourceID `json:"resource"`
	Epoch    Epoch      `json:"epoch"`
	State    OwnerState `json:"state"`
	Host     HostID     `json:"host,omitempty"`
	To       HostID     `json:"to,omitempty"`       // target of a migration
	Claim    string     `json:"claim,omitempty"`    // Assigned: the agent process that may call the hypervisor, once
	Ready    bool       `json:"ready,omitempty"`    // Settling: what has arrived on Host is complete and may go on
	Proof    Proof      `json:"proof"`              // what allowed this epoch (Assigned..) or ended it (Released)
	Failures int        `json:"failures,omitempty"` // consecutive starts that failed
	Restarts int        `json:"restarts,omitempty"` // starts after which it ended within the policy's window, in a row
	Reason   string     `json:"reason,omitempty"`   // why it is in this state, for people
	Time     time.Time  `json:"time"`               // wall clock of the writer, for people only
	// ReasonCode is Reason for programs.
	ReasonCode ReasonCode `json:"reason_code,omitzero"`
}

// ReasonCode is a code of package reason with its arguments. It can be compared.
type ReasonCode struct {
	Code string     `json:"code"`
	Args ReasonArgs `json:"args,omitzero"`
}

// ReasonArgs are the arguments that reasons of an owner record have.
type ReasonArgs struct {
	Host HostID `json:"host,omitempty"`
	Why  string `json:"why,omitempty"` // what somebody else has said
}

// Named are the arguments by their names.
func (a ReasonArgs) Named() map[string]string {
	return map[string]string{"host": string(a.Host), "why": a.Why}
}

// Holder returns the host on which the record lets the resource run, "" for none.
// In a migration that is the source, until it has proved itself without it: what
// a migration has brought stands still, and waits for a record that names its
// host.
func (o Owner) Holder() HostID {
	switch o.State {
	case Assigned, Running, Migrating, Settling, Stopping:
		return o.Host
	}
	return ""
}

// Host is what a host says of itself. It rewrites the record at every renewal,
// by a transaction that compares the revision of its own last write.
type Host struct {
	Name     HostID `json:"name"`
	Identity string `json:"identity"` // random, made with the data directory
	Boot     string `json:"boot"`     // boot id
	Seq      uint64 `json:"seq"`      // renewals of this boot
	// G: after its deadline the host is reset within this time, ns; 0 = no working watchdog
	Guard           time.Duration `json:"guard"`
	Watchdog        string        `json:"watchdog,omitempty"`         // device identity, for people
	WatchdogTimeout time.Duration `json:"watchdog_timeout,omitempty"` // W, ns
	HandsOff        bool          `json:"hands_off,omitempty"`        // it has disarmed on request: its Guard promises nothing
	Fit             bool          `json:"fit"`                        // able to start the resource
	Why             string        `json:"why,omitempty"`              // why not fit, or what else is wrong on this host
	// with Fit: the last start here failed and nothing has changed since; it is tried again, and nobody is promised
	// that it works
	Retry bool `json:"retry,omitempty"`
	// revision of the configuration that Fit and Why are about; 0: an agent that does not tell
	Judged int64  `json:"judged,omitempty"`
	Addr   string `json:"addr"` // IP address of the host
	// it can receive and send a guest's memory by TLS; between two hosts that both can, it travels so
	MigrateTLS bool   `json:"migrate_tls,omitempty"`
	Version    string `json:"version,omitempty"`
	// of its member of the store: Votes, NoMember, or why a quorum can not count on it; "": an agent that does not tell
	Vote          string     `json:"vote,omitempty"`
	Guest         GuestState `json:"guest"`             // what it sees of the resource
	HeartbeatPort int        `json:"beat,omitempty"`    // UDP port of its heartbeats; 0: none
	Machine       string     `json:"machine,omitempty"` // UUID of the hardware, lower case; empty: unknown
	// set by the coordinator: a takeover ended this host's epoch; it must prove that it holds nothing before it
	// registers again
	Expelled Epoch `json:"expelled,omitzero"`
	// with Expelled: the boot id under which a fence device showed it off; it must never register again under that one
	Fenced    string `json:"fenced,omitempty"`
	Unhealthy string `json:"unhealthy,omitempty"` // why the guest that it runs fails its health check
}

// What Host.Vote says beside reasons.
const (
	Votes    = "votes"     // its member of the store votes, follows and takes writes
	NoMember = "no member" // of the store on this host, by its settings
)

// Coordinator is the record of the elected coordinator. It changes at elections
// alone, so the revision of its last change is the term that every decision
// compares. Whether the coordinator lives is told by its host record.
type Coordinator struct {
	Host HostID `json:"host"`
}

// Want is what the operators asked for.
type Want struct {
	Run      bool   `json:"run"`                 // the resource shall run
	HandsOff bool   `json:"hands_off,omitempty"` // all decisions frozen
	MoveTo   HostID `json:"move_to,omitempty"`   // migrate there
	Cancel   int64  `json:"cancel,omitempty"`    // end the migration that began with this revision of the owner record
	Off      []Off  `json:"off,omitempty"`       // operators' word that hosts are off
	// Maintenance are hosts in maintenance: not chosen to run it, and emptied of it.
	Maintenance []HostID `json:"rest,omitempty"`
}

// SetMaintenance puts a host into maintenance, or takes it out.
func (w *Want) SetMaintenance(host HostID, on bool) {
	rest := slices.DeleteFunc(slices.Clone(w.Maintenance), func(h HostID) bool { return h == host })
	if on {
		rest = append(rest, host)
		slices.Sort(rest)
	}
	w.Maintenance = rest
}

// Off is an operator's word that a host is off, or that nothing of the resource
// is on it and none will come. It speaks of the host as its record was then.
type Off struct {
	Host HostID `json:"host"`
	Mod  int64  `json:"mod"`  // revision of the host's record; 0: it has none
	User string `json:"user"` // who said so
}

// GuestState is what a host sees of the resource on itself.
type GuestState string

// Guest states.
const (
	GuestUnknown  GuestState = "unknown"  // could not be observed
	GuestAbsent   GuestState = "absent"   // proved: no process of it
	GuestIncoming GuestState = "incoming" // a process waits for a migration's data
	GuestRunning  GuestState = "running"
	GuestPaused   GuestState = "paused"  // a process exists, its CPUs stand still
	GuestArrived  GuestState = "arrived" // a live migration has brought all of it here; it stands still until it is resumed
)

// Guest is one observation of the resource on a host.
type Guest struct {
	State     GuestState `json:"state"`
	Epoch     Epoch      `json:"epoch,omitzero"` // the token it was started with
	PID       int        `json:"pid,omitempty"`
	Started   uint64     `json:"started,omitempty"`   // start time of PID, clock ticks since boot (proc(5) field 22)
	Migrating bool       `json:"migrating,omitempty"` // an outgoing migration is under way
	Percent   int        `json:"percent,omitempty"`   // of it, 0..100
	Moved     bool       `json:"moved,omitempty"`     // absent, and the hypervisor has told that a migration took all of it away
	Panicked  bool       `json:"panicked,omitempty"`  // its kernel has panicked; it stands still, or is being dumped
	// paused by an I/O error of its disk; once that is mended it can be resumed, nothing is lost
	IOError   bool   `json:"io_error,omitempty"`
	LockedOut bool   `json:"locked_out,omitempty"` // with IOError: its storage takes nothing from its process any more; it must be ended
	GaveUp    string `json:"gave_up,omitempty"`    // absent: why the driver has ended it here by itself: another host is tried first
}

// Restart says what becomes of a guest that ends by itself, or fails its health check.
type Restart struct {
	InPlace int           // restarts on the same host before it is moved
	Limit   int           // restarts after which it stays down until somebody starts it; 0: none
	Window  time.Duration // a guest that has run for longer is as good as new
}

// Timings are the durations of the safety model.
type Timings struct {
	Lease     time.Duration `json:"lease"`     // T: how long a renewal lets a holder go on
	Keepalive time.Duration `json:"keepalive"` // interval of renewals
	Grace     time.Duration `json:"grace"`     // G: from the deadline to the host's reset at the latest
	Watchdog  time.Duration `json:"watchdog"`  // W: timeout of the watchdog device
	Epsilon   time.Duration `json:"epsilon"`   // added to every wait
	Drift     float64       `json:"drift"`     // rho: how far a clock's rate may be from the true one
	Election  time.Duration `json:"election"`  // silence of the coordinator after which another one stands
	Heartbeat time.Duration `json:"heartbeat"` // interval of heartbeats between members
	Detection time.Duration `json:"detection"` // a host that most members have not heard for this long is suspect
}

// HeartbeatReport is what a member says it hears. Ages are turned into instants of the clock
// of the host that has received the word, so Heard is never too early.
type HeartbeatReport struct {
	At    Instant            // when it came; of this host's own: now
	Heard map[HostID]Instant // when that member last heard each host, or began to listen
}
