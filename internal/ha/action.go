package ha

import (
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// Work names a kind of action that takes time, as one bit. At most one of a kind
// is under way on a host, but for fencing: one for each host.
type Work uint16

// Kinds of work.
const (
	WorkRenew Work = 1 << iota
	WorkWrite
	WorkReport
	WorkElect
	WorkArm
	WorkStart
	WorkKill
	WorkShutdown
	WorkMigrate
	WorkAbort
	WorkResume
	WorkFence
	WorkConflict
	WorkDefect
)

var workNames = []string{"renew", "write", "report", "elect", "arm", "start", "kill", "shutdown", "migrate", "abort",
	"resume", "fence", "conflict", "defect"}

// String names the kinds, joined by commas.
func (w Work) String() string {
	var s []string
	for i, n := range workNames {
		if w&(1<<i) != 0 {
			s = append(s, n)
		}
	}
	return strings.Join(s, ",")
}

// Action is something to be done, in the order and under the duties that the
// package's documentation gives.
type Action interface{ Work() Work }

// Txn is one transaction on the records: it is done if all revisions are still
// those given, or not at all.
type Txn struct {
	For   Work // WorkRenew, WorkWrite, WorkReport or WorkElect
	Prove bool // first kill the guest and see it gone; if that can not be proved, send nothing
	If    []Cond
	Put   []Put
	Event cluster.Event // to be added to the log; of no kind: none

	Sent      cluster.Instant // when it was decided
	Term      int64           // in which a coordinator decided it, for who checks what is done; 0: it is no coordinator's
	Silent    cluster.HostID  // the host whose silence it reports
	SilentMod int64           // revision of that host's record
	Unfenced  cluster.HostID  // the host of whose fence devices it reports that they failed
}

// Kind is a kind of record.
type Kind uint8

// Kinds of records.
const (
	KindCoordinator Kind = iota
	KindHost
	KindOwner
	KindWant
)

// Key names a record; Name is that of a host's record.
type Key struct {
	Kind Kind
	Name cluster.HostID
}

// Cond is the revision that a record must have; 0: it must not exist.
type Cond struct {
	Key
	Mod int64
}

// Put is a record to write: of the four values, the one of its kind.
type Put struct {
	Key
	Coord cluster.Coordinator
	Host  *cluster.Host
	Owner *cluster.Owner
	Want  *cluster.Want
}

// Record is a record as the store has it.
type Record struct {
	Put
	Mod     int64 // revision of its last change
	Deleted bool  // by that change; its value is the zero value then
}

func (r *Record) present() int64 {
	if r.Deleted {
		return 0
	}
	return r.Mod
}

// Fence orders the fence devices of a host to switch it off, in their order
// until one shows it off.
type Fence struct {
	Host    cluster.HostID
	Mod     int64         // revision of the host's record for which it is ordered
	Epoch   cluster.Epoch // of the owner record
	Machine string        // the hardware that the devices must belong to, "" when unknown
}

// Arm makes the watchdog pet until Limit at the latest.
type Arm struct {
	Limit   cluster.Instant
	Timeout time.Duration // W, with which the limit was reckoned
}

// Disarm switches the watchdog off.
type Disarm struct{}

// Start calls the hypervisor, once, with the epoch as token, not after Until.
type Start struct {
	Epoch cluster.Epoch
	Until cluster.Instant
}

// Kill ends the guest's processes on this host.
type Kill struct {
	Why    string // for people
	Paused bool   // it stands still by an I/O error, which another host may not have
}

// Shutdown asks the guest to power off.
type Shutdown struct{}

// Migrate moves the guest to another host for the owner record of revision Mod.
type Migrate struct {
	To  cluster.HostID
	Mod int64
}

// Abort ends an outgoing migration.
type Abort struct{}

// Resume lets the guest go on that stands still here.
type Resume struct{}

// Conflict says that another agent uses this host's identity: this one must end.
type Conflict struct{ Why string }

// Defect says that the core has decided two actions of one kind at once: a
// mistake in it, of which the second action is left out.
type Defect struct{ What string }

func (t Txn) Work() Work    { return t.For }
func (Arm) Work() Work      { return WorkArm }
func (Disarm) Work() Work   { return WorkArm }
func (Start) Work() Work    { return WorkStart }
func (Kill) Work() Work     { return WorkKill }
func (Shutdown) Work() Work { return WorkShutdown }
func (Migrate) Work() Work  { return WorkMigrate }
func (Abort) Work() Work    { return WorkAbort }
func (Resume) Work() Work   { return WorkResume }
func (Conflict) Work() Work { return WorkConflict }
func (Defect) Work() Work   { return WorkDefect }
func (Fence) Work() Work    { return WorkFence }

// Outcome is how an action ended.
type Outcome struct {
	// a Txn was answered and done; a Fence was read back as off; a Kill is proved; an order to the watchdog was
	// answered; else: no error
	OK     bool
	Mod    int64 // of a Txn that is OK: its revision
	Proved bool  // of a Txn with Prove: the guest was killed
	// why it did not end well; of a Txn: why its outcome is not known, "" when it was refused since a revision is
	// another one
	Why      string
	Device   string   // of a Fence that is OK: the device that showed the host off
	Watchdog Watchdog // of an Arm or Disarm that is OK: the holder's state after it
}

// Times for which the end of an action that failed is kept from the core.
const (
	backoffRefused = 100 * time.Millisecond // the records have changed: the watch brings them
	restFailed     = 250 * time.Millisecond // the store has refused a write, or does not answer
	restReport     = 5 * time.Second        // the same for what only tells people
)

// Backoff is how long the caller keeps the end of an action from Done, so that what
// failed is not tried again without a pause. Renewals have a pace of their own.
func Backoff(a Action, o Outcome) time.Duration {
	w := a.Work()
	switch {
	case o.OK:
		return 0
	case w == WorkReport:
		return restReport
	case (w == WorkWrite || w == WorkElect) && o.Why != "":
		return restFailed
	case w == WorkWrite || w == WorkElect || w == WorkArm:
		return backoffRefused
	}
	return 0
}

// decision collects the actions of one call of Decide.
type decision struct {
	m   *Machine
	out []Action
}

// do decides an action, unless one of its kind is under way.
func (d *decision) do(a Action) {
	if d.m.busy(a.Work()) {
		return
	}
	if _, ok := a.(Fence); !ok && d.decided(a.Work()) {
		a = Defect{a.Work().String() + " decided twice"}
	}
	d.out = append(d.out, a)
}

// decided reports that an action of a kind is among those to be begun.
func (d *decision) decided(w Work) bool {
	return slices.ContainsFunc(d.out, func(a Action) bool { return a.Work() == w })
}

// writing reports whether a write of records is decided or under way: one at a
// time, since the next must see the one before.
func (d *decision) writing() bool { return d.m.busy(WorkWrite) || d.decided(WorkWrite) }

// maxText bounds the texts in records and events, in bytes: the store refuses a
// request above 1.5 MB, and a long text of a device or a hypervisor must not
// keep a record from being written.
const maxText = 512

// clip shortens a text to maxText, at the end of a character.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	const more = " ..."
	return strings.ToValidUTF8(s[:maxText-len(more)], "") + more
}
