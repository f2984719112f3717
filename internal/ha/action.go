package ha

import "holdfast/internal/cluster"

// Work names a kind of action that takes time. At most one of a kind is under
// way on a host.
type Work string

// Kinds of work.
const (
	WorkRenew    Work = "renew"
	WorkWrite    Work = "write"
	WorkElect    Work = "elect"
	WorkArm      Work = "arm"
	WorkStart    Work = "start"
	WorkKill     Work = "kill"
	WorkShutdown Work = "shutdown"
	WorkMigrate  Work = "migrate"
	WorkAbort    Work = "abort"
	WorkResume   Work = "resume"
	workFence    Work = "fence "
)

// Action is something to be done. The caller does not start an action while one
// of the same Work is under way.
type Action interface{ Work() Work }

// Renew writes the host's record, provided its revision is Mod (0: there is
// none). When it was sent at s and is answered, the deadline is s + T.
type Renew struct {
	Record cluster.Host
	Mod    int64
	Event  cluster.Event // of no kind: none
}

// Elect makes this host the coordinator, provided the coordinator record's
// revision is Mod.
type Elect struct {
	Mod   int64
	Event cluster.Event
}

// Write is one transaction on the owner record and what belongs to it. It is
// done only if every revision is still the one given. With Prove set, the guest
// is first killed and proved gone (again), and nothing is written otherwise.
type Write struct {
	Prove    bool
	OwnerMod int64
	Owner    *cluster.Owner
	Term     int64                    // the coordinator record's revision; 0: written by a holder
	WantMod  int64                    // compared when Term is set
	Want     *cluster.Want            // nil: unchanged
	HostMods map[cluster.HostID]int64 // compared
	Expel    []cluster.Host           // records to write
	Event    cluster.Event
	Told     cluster.HostID // remember that this host's silence is reported
	Unfenced cluster.HostID // remember that the failure of this host's fence devices is reported
}

// Fence orders the fence devices of a host to switch it off, in their order
// until one shows it off.
type Fence struct {
	Host    cluster.HostID
	Mod     int64  // revision of the host's record, for the result
	Machine string // the hardware that the devices must belong to, "" when unknown
}

// Arm makes the watchdog pet until Limit at the latest.
type Arm struct{ Limit cluster.Instant }

// Disarm switches the watchdog off.
type Disarm struct{}

// Start calls the hypervisor, once, with the epoch as token.
type Start struct{ Epoch cluster.Epoch }

// Kill ends the guest's processes on this host.
type Kill struct{ Why string }

// Shutdown asks the guest to power off.
type Shutdown struct{}

// Migrate moves the guest to another host for the owner record of revision Mod.
type Migrate struct {
	To  cluster.HostID
	Mod int64
}

// Abort ends an outgoing migration.
type Abort struct{}

// Resume lets the guest go on that a migration has brought here.
type Resume struct{}

// Conflict says that another agent uses this host's identity: this one must end.
type Conflict struct{ Why string }

func (Renew) Work() Work    { return WorkRenew }
func (Elect) Work() Work    { return WorkElect }
func (Write) Work() Work    { return WorkWrite }
func (Arm) Work() Work      { return WorkArm }
func (Disarm) Work() Work   { return WorkArm }
func (Start) Work() Work    { return WorkStart }
func (Kill) Work() Work     { return WorkKill }
func (Shutdown) Work() Work { return WorkShutdown }
func (Migrate) Work() Work  { return WorkMigrate }
func (Abort) Work() Work    { return WorkAbort }
func (Resume) Work() Work   { return WorkResume }
func (Conflict) Work() Work { return "conflict" }
func (f Fence) Work() Work  { return WorkFence(f.Host) }

// WorkFence is the work of fencing a host: several may be fenced at once.
func WorkFence(h cluster.HostID) Work { return workFence + Work(h) }

// Decide returns what this host should do now. Actions whose Work is under way
// are left out. The order is that of urgency.
func Decide(v View) []Action {
	d := decision{v: &v}
	d.protect()
	d.renew()
	if v.Synced {
		d.guard()
		d.hold()
		d.elect()
		d.coordinate()
	}
	return d.out
}

// decision collects the actions of one call.
type decision struct {
	v   *View
	out []Action
}

func (d *decision) do(a Action) {
	if d.v.Local.Busy[a.Work()] {
		return
	}
	for _, b := range d.out {
		if b.Work() == a.Work() {
			return
		}
	}
	d.out = append(d.out, a)
}

// writes reports whether a write of records is decided or under way: one at a
// time, since the next must see the one before.
func (d *decision) writes() bool {
	if d.v.Local.Busy[WorkWrite] {
		return true
	}
	for _, a := range d.out {
		if a.Work() == WorkWrite {
			return true
		}
	}
	return false
}
