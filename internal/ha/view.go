package ha

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
)

// View is everything that a decision may look at, on one host at one moment.
type View struct {
	Self     cluster.HostID
	Resource cluster.ResourceID
	Gen      uint64          // the store's restore generation
	Now      cluster.Instant // CLOCK_BOOTTIME of this host
	Timings  cluster.Timings
	Order    []cluster.HostID // the members, in the order of the configuration

	// The store as this host last saw it.
	Synced bool // a full listing has been read and is being followed, of a generation not older than any seen before
	Coord  CoordRec
	Hosts  map[cluster.HostID]HostRec
	Owner  OwnerRec
	Want   WantRec

	// Words are what the members say they hear, their newest word each, this host's
	// own among them. Devices names the hosts that have a fence device.
	Words   map[cluster.HostID]cluster.Word
	Devices map[cluster.HostID]bool
	Restart cluster.Restart

	Local Local
}

// CoordRec is the coordinator record. It changes at elections alone, so its
// revision is the term.
type CoordRec struct {
	cluster.Coordinator
	Mod    int64 // 0: nobody was ever elected
	SeenAt cluster.Instant
}

// HostRec is a host's record, with the moment at which this host saw it change.
type HostRec struct {
	cluster.Host
	Mod    int64
	SeenAt cluster.Instant // not earlier than the change itself
}

// OwnerRec is the owner record.
type OwnerRec struct {
	cluster.Owner
	Mod    int64 // 0: there is none yet
	SeenAt cluster.Instant
}

// WantRec is the record of what the operators asked for.
type WantRec struct {
	cluster.Want
	Mod int64
}

// Local is the truth on this host.
type Local struct {
	Identity string
	Boot     string
	Instance string // of this agent process, random
	Gate     int    // see cluster.Host
	Addr     string
	Beat     int    // see cluster.Host
	Machine  string // see cluster.Host
	Version  string
	Fit      bool   // able to start the resource
	Why      string // why not

	// The lease. A renewal sent at s and answered moves Deadline to s + T.
	LeaseMod  int64           // revision of this host's record as it last wrote it; 0: not registered
	Deadline  cluster.Instant // 0: unknown (a new agent whose watchdog was not armed)
	RenewSent cluster.Instant // when the last renewal, answered or not, was sent
	HandsOn   bool            // a renewal without hands off was sent after the last one with it was answered

	// The guest. GuestAt is when the observation began.
	Guest     cluster.Guest
	GuestAt   cluster.Instant
	Touched   cluster.Instant // when the last action on the guest ended; older observations do not count
	Inherited bool            // no kill has succeeded since this agent began: one before it may have called for a start that is still to come
	Started   cluster.Epoch   // the last epoch for which this agent called the hypervisor
	Killed    string          // why this agent killed the guest since it last started one; empty: it did not
	Tried     int64           // revision of the owner record for which this agent has tried to migrate
	TriedBy   string          // how that ended; empty: well

	Sick   string          // why the guest must be restarted (health check, storage); empty: it need not
	Doomed cluster.Instant // when it was first to be killed for that; 0: it is not
	Dog    Watchdog
	Fences map[cluster.HostID]Fenced // how the last order to a host's fence devices ended
	Busy   map[Work]bool             // actions under way
	Told   map[cluster.HostID]int64  // silent hosts that are reported, by revision of their record
	Shut   cluster.Instant           // when this agent first asked the guest to shut down for the Stopping record that holds; 0: not yet
}

// Fenced is how an order to a host's fence devices ended.
type Fenced struct {
	Mod    int64           // revision of the host's record for which it was given
	Epoch  cluster.Epoch   // of the owner record then, by which a failure is told once
	At     cluster.Instant // when it ended
	Off    bool            // the state was read back as off, after the order
	Device string          // that confirmed it
	Why    string          // why not off
	Told   bool            // the failure is in the event log
}

// Watchdog is the state of the process that holds the watchdog device.
type Watchdog struct {
	Working bool // the device can be armed
	Armed   bool
	Limit   cluster.Instant // it pets until then at the latest
	Timeout time.Duration   // W
	Name    string
}

// holding reports whether the guest is, or may be, on this host.
func (v *View) holding() bool { return !v.gone() }

// gone reports a proof that nothing of the guest is here: an absence observed
// after the last action on it ended, and no such action under way.
func (v *View) gone() bool { return v.empty() && !v.Local.Inherited }

// dead reports that no process of the guest is here, and that no start can bring
// one. A migration that still hangs brings nothing back: its source is no more.
func (v *View) dead() bool {
	l := &v.Local
	return l.Guest.State == cluster.GuestAbsent && l.GuestAt > l.Touched && !l.Busy[WorkStart]
}

// empty is gone, but for what an agent before this one may have begun.
func (v *View) empty() bool { return v.dead() && !v.Local.Busy[WorkMigrate] }

// present reports that a guest is here, or on its way by this host's own doing.
func (v *View) present() bool {
	switch v.Local.Guest.State {
	case cluster.GuestRunning, cluster.GuestPaused, cluster.GuestIncoming, cluster.GuestArrived:
		return true
	}
	return v.Local.Busy[WorkStart] || v.Local.Busy[WorkMigrate]
}

// fresh reports whether the observation of the guest began after at and after
// the last action on it ended.
func (v *View) fresh(at cluster.Instant) bool {
	return v.Local.GuestAt > at && v.Local.GuestAt > v.Local.Touched
}

// registered reports whether the host's record in the store is this agent's,
// and no takeover has ended it. Its revision does not matter: the watch may tell
// of a renewal before its answer comes.
func (v *View) registered() bool {
	r, l := v.Hosts[v.Self], &v.Local
	return l.LeaseMod != 0 && r.Identity == l.Identity && r.Boot == l.Boot && r.Expelled.IsZero()
}

// leased reports whether this host may hold the guest for at least margin more.
func (v *View) leased(margin time.Duration) bool {
	return v.registered() && v.Local.Deadline != 0 && v.Now.Add(margin) < v.Local.Deadline
}

// expired reports that the deadline is known and has passed.
func (v *View) expired() bool { return v.Local.Deadline != 0 && v.Now >= v.Local.Deadline }

// holder reports whether the owner record lets this host have the guest.
func (v *View) holder() bool { return slices.Contains(v.Owner.Holders(), v.Self) }

// silent is how long ago the last renewal of h was seen.
func (v *View) silent(h cluster.HostID) time.Duration { return v.Now.Sub(v.Hosts[h].SeenAt) }

// alive reports whether h has renewed within the lease.
func (v *View) alive(h cluster.HostID) bool {
	r, ok := v.Hosts[h]
	return ok && r.Expelled.IsZero() && v.silent(h) < v.Timings.Lease
}

// frozen reports that nobody can take over from this host: the store knows that
// its watchdog promises nothing, and no renewal that says otherwise has been
// sent. Then the deadline means nothing.
func (v *View) frozen() bool {
	return v.registered() && v.Hosts[v.Self].HandsOff && !v.Local.HandsOn
}

// guard is this host's G: the time within which it is reset after its deadline.
// A device with a long timeout makes it longer: T + G >= W + 2 keepalives.
func (v *View) guard() time.Duration {
	if !v.Local.Dog.Working {
		return 0
	}
	return Guard(v.Timings, v.Local.Dog.Timeout)
}

// Guard gives the G of a host whose watchdog has the timeout w.
func Guard(t cluster.Timings, w time.Duration) time.Duration {
	return max(t.Grace, w+2*t.Keepalive-t.Lease)
}

// limit is the last moment at which the watchdog may be petted: D + G - W, with
// the smaller of the G that the store knows, if any, and the one that holds now.
func (v *View) limit() cluster.Instant {
	g := v.guard()
	if promised := v.Hosts[v.Self].Guard; promised > 0 {
		g = min(g, promised)
	}
	return v.Local.Deadline.Add(g - v.Local.Dog.Timeout)
}

// Receives reports that a migration may come in: the owner record says so, and
// this host, registered under this agent, keeps its promise.
func Receives(v View) bool {
	o := v.Owner
	return o.State == cluster.Migrating && !v.restored() && o.To == v.Self && v.registered() && v.Local.Dog.Armed == (v.Hosts[v.Self].Guard > 0)
}
