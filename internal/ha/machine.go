package ha

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
)

// Machine is the core on one host: all that it knows and remembers, and every
// rule. Its fields are exported so that they can be shown, kept and set by those
// who explain or explore it; in an agent its methods alone change them.
type Machine struct {
	Self     cluster.HostID
	Resource cluster.ResourceID
	Now      cluster.Instant // of the last Decide

	// The configuration, see Configure.
	Timings cluster.Timings
	Restart cluster.Restart
	Order   []cluster.HostID        // the members, in the order of the configuration
	Devices map[cluster.HostID]bool // hosts that have a fence device
	Outside bool                    // this host is no member any more, see Leave

	// The store as this host last saw it.
	Synced bool   // a full listing has been read and is being followed, of a generation not older than any seen before
	Gen    uint64 // the store's restore generation
	Coord  CoordRec
	Hosts  map[cluster.HostID]HostRec
	Owner  OwnerRec
	Want   WantRec

	// Words are what the members say they hear, their newest word each, this host's
	// own among them.
	Words map[cluster.HostID]cluster.HeartbeatReport

	ThisHost ThisHost
	Lease    Lease
	Guest    Guest
	Watchdog Watchdog
	Memory   Memory
	Doing    Doing
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

// ThisHost is what this host is, and says of itself.
type ThisHost struct {
	Identity      string
	Boot          string
	Instance      string // of this agent process, random
	Addr          string
	HeartbeatPort int    // see cluster.Host
	Machine       string // see cluster.Host
	Version       string
	Secure        bool   // see cluster.Host.MigrateTLS
	Fit           bool   // able to start the resource
	Why           string // why not, or what else is wrong on this host
	Retry         bool   // see cluster.Host
	Judged        int64  // see cluster.Host
	Vote          string // see cluster.Host
}

// Lease is how long this host may hold the guest. A renewal sent at s and
// answered moves Deadline to s + T, and Extended may move it, too.
type Lease struct {
	Mod      int64           // revision of this host's record as it last wrote it; 0: not registered
	Deadline cluster.Instant // 0: unknown (a new agent whose watchdog was not armed)
	Sent     cluster.Instant // when the last renewal, answered or not, was decided
	HandsOn  bool            // a renewal without hands off was sent after the last one with it was answered
}

// Guest is the guest on this host, and what this agent has done to it.
type Guest struct {
	Seen           cluster.Guest   // as observed last
	SeenAt         cluster.Instant // when that observation began
	Touched        cluster.Instant // when the last action on the guest ended; older observations do not count
	UnobservableAt cluster.Instant // since when not even its process can be observed; 0: it can
	PausedAt       cluster.Instant // since when it stands still by an I/O error; 0: it does not
	// no kill has succeeded since this agent began: one before it may have called for a start that is still to come
	Inherited   bool
	Started     cluster.Epoch   // the last epoch for which this agent called the hypervisor
	Killed      string          // why this agent killed the guest since it was last seen here; empty: it did not
	Paused      bool            // Killed for standing still by an I/O error
	Tried       int64           // revision of the owner record for which this agent has tried to migrate
	TriedBy     string          // how the last start or migration ended; empty: well
	Unhealthy   string          // why the guest must be restarted (health check, storage); empty: it need not
	UnhealthyAt cluster.Instant // when it was first to be killed for that; 0: it is not
	Shut        cluster.Instant // when this agent first asked it to shut down for the owner record that holds; 0: not yet
}

// Watchdog is the state of the process that holds the watchdog device.
type Watchdog struct {
	Working bool // the device can be armed
	Armed   bool
	Limit   cluster.Instant // it pets until then at the latest
	Timeout time.Duration   // W, as the device says
	Name    string
	Ordered cluster.Instant // when the last order to it ended: what was asked before tells nothing
}

// Memory is what a coordinator remembers of what it did about others.
type Memory struct {
	Fences map[cluster.HostID]Fenced // how the last order to a host's fence devices ended
	Told   map[cluster.HostID]int64  // silent hosts that are reported, by revision of their record
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

// Doing is what is under way on this host.
type Doing struct {
	Works   Work             // but for fencing
	Fencing []cluster.HostID // whose devices have been ordered
}

// New makes the machine of an agent process that has just begun: it knows
// nothing of the store, and takes an empty process table for no proof before a
// kill of its own.
func New(self cluster.HostID, resource cluster.ResourceID, me ThisHost) *Machine {
	return &Machine{
		Self: self, Resource: resource, ThisHost: me, Guest: Guest{Inherited: true}, Hosts: map[cluster.HostID]HostRec{},
		Memory: Memory{Fences: map[cluster.HostID]Fenced{}, Told: map[cluster.HostID]int64{}},
	}
}

// Configure takes the cluster's configuration over.
func (m *Machine) Configure(t cluster.Timings, r cluster.Restart, order []cluster.HostID, devices map[cluster.HostID]bool) {
	m.Timings, m.Restart, m.Order, m.Devices = t, r, order, devices
}

// Leave says whether this host is no member any more: another one has taken its place.
// Then it renews no lease, and so holds nothing and starts nothing; what is here ends.
func (m *Machine) Leave(outside bool) { m.Outside = outside }

// Follow says whether the records are those of a store that may be followed, and
// of which restore generation they are.
func (m *Machine) Follow(synced bool, gen uint64) { m.Synced, m.Gen = synced, gen }

// Changed takes one record of the store in, as a watch or a listing tells of it.
// at is a moment after the change. An older revision than the one held is
// ignored.
func (m *Machine) Changed(r Record, at cluster.Instant) {
	switch r.Kind {
	case KindCoordinator:
		if r.Mod > m.Coord.Mod {
			m.Coord = CoordRec{r.Coord, r.present(), at}
		}
	case KindHost:
		m.hostChanged(r, at)
	case KindOwner:
		if r.Mod > m.Owner.Mod {
			m.Owner = OwnerRec{*r.Owner, r.present(), at}
			m.Guest.Shut = 0 // it belongs to one revision of the owner record
		}
	case KindWant:
		if r.Mod > m.Want.Mod {
			m.Want = WantRec{*r.Want, r.present()}
		}
	}
}

func (m *Machine) hostChanged(r Record, at cluster.Instant) {
	switch {
	case r.Mod <= m.Hosts[r.Name].Mod:
	case r.Deleted:
		delete(m.Hosts, r.Name)
	default:
		m.Hosts[r.Name] = HostRec{*r.Host, r.Mod, at}
	}
}

// Observed takes a look at the guest in. from is a moment before the look began:
// what it shows was true at some moment after.
func (m *Machine) Observed(g cluster.Guest, from cluster.Instant) {
	if from < m.Guest.SeenAt {
		return
	}
	if g.State == "" {
		g.State = cluster.GuestUnknown
	}
	m.Guest.Seen, m.Guest.SeenAt = g, from
	since(&m.Guest.UnobservableAt, from, g.State == cluster.GuestUnknown && g.PID == 0)
	since(&m.Guest.PausedAt, from, g.State == cluster.GuestPaused && g.IOError)
	if g.State != cluster.GuestAbsent && g.State != cluster.GuestUnknown && m.fresh(0) && !m.busy(WorkKill) {
		m.Guest.Killed, m.Guest.Paused = "", false // it came here since, also by a move
	}
	m.Judged(m.Guest.Unhealthy)
}

// since keeps the moment at which something began to be so.
func since(at *cluster.Instant, now cluster.Instant, so bool) {
	switch {
	case !so:
		*at = 0
	case *at == 0:
		*at = now
	}
}

// Judged says why the guest that runs here must be restarted, "" when it need
// not.
func (m *Machine) Judged(why string) {
	g := &m.Guest
	g.Unhealthy = why
	if why == "" || g.Seen.State == cluster.GuestAbsent {
		g.UnhealthyAt = 0
	}
}

// Watched takes the word of the watchdog's holder in, that was asked for at
// asked. One that was asked for before the last order ended may tell what was
// before it, and is ignored.
func (m *Machine) Watched(w Watchdog, asked cluster.Instant) {
	if asked > m.Watchdog.Ordered && m.Doing.Works&WorkArm == 0 {
		w.Ordered = m.Watchdog.Ordered
		m.Watchdog = w
	}
}

// Able says whether the guest could be started here, what is wrong on this host,
// and whether the guest's memory may travel by TLS to it and from it.
func (m *Machine) Able(fit, retry bool, why string, secure bool) {
	m.ThisHost.Fit, m.ThisHost.Retry, m.ThisHost.Why, m.ThisHost.Secure = fit, retry, why, secure
}

// Voting says whether a quorum of the store can count on this host's member, see cluster.Host.Vote.
func (m *Machine) Voting(vote string) { m.ThisHost.Vote = vote }

// Extended takes in that nobody else is given the guest before a lease from that moment on is over, though this
// host can not renew: an arbiter of the store has said so. One that has ended stays so: its guest is being
// killed, and the watchdog is not petted any more.
func (m *Machine) Extended(from, now cluster.Instant) {
	m.Now = now
	if to := from.Add(m.Timings.Lease); m.leased(0) && to > m.Lease.Deadline {
		m.Lease.Deadline = to
	}
}

// Heard takes in what the members say they hear, this host among them.
func (m *Machine) Heard(words map[cluster.HostID]cluster.HeartbeatReport) { m.Words = words }

// Decide returns what this host must begin now, in the order of urgency, and
// notes it as begun at now. The caller carries each action out, and tells Done
// how it ended.
func (m *Machine) Decide(now cluster.Instant) []Action {
	m.Now = now
	m.restoreDeadline()
	d := decision{m: m}
	killing := d.protect()
	d.renew()
	if m.Synced {
		d.guard()
		if !killing {
			d.hold()
		}
		d.elect()
		d.coordinate()
	}
	for i := range d.out {
		d.out[i] = m.begin(d.out[i])
	}
	return d.out
}

// restoreDeadline gives a new agent the deadline of the one before, from the
// limit that the watchdog was told: L = D + G - W.
func (m *Machine) restoreDeadline() {
	if m.Lease.Deadline == 0 && m.Lease.Mod == 0 && m.Watchdog.Armed && m.Watchdog.Limit != 0 {
		m.Lease.Deadline = m.Watchdog.Limit.Add(m.Watchdog.Timeout - Guard(m.Timings, m.Watchdog.Timeout))
	}
}

// begin notes an action as under way.
func (m *Machine) begin(a Action) Action {
	g := &m.Guest
	switch act := a.(type) {
	case Txn:
		act.Sent = m.Now
		if act.For == WorkRenew {
			m.Lease.Sent = m.Now
			if !act.Put[0].Host.HandsOff {
				m.Lease.HandsOn = true // from now on it may count, answered or not
			}
		}
		a = act
	case Conflict, Defect:
		return a
	case Fence:
		m.Doing.Fencing = append(slices.Clip(m.Doing.Fencing), act.Host)
		return a
	case Start:
		g.Started, g.Killed, g.Paused, g.TriedBy = act.Epoch, "", false, "the start was ordered and nothing came up"
	case Kill:
		if g.Seen.State != cluster.GuestAbsent {
			g.Killed, g.Paused = act.Why, act.Paused
			if g.Unhealthy != "" && g.UnhealthyAt == 0 {
				g.UnhealthyAt = m.Now
			}
		}
	case Shutdown:
		if g.Shut == 0 {
			g.Shut = m.Now
		}
	case Migrate:
		g.Tried, g.TriedBy = act.Mod, ""
	}
	m.Doing.Works |= a.Work()
	return a
}

// Done takes in how an action ended that Decide gave. now is a moment after its
// end.
func (m *Machine) Done(a Action, o Outcome, now cluster.Instant) {
	m.Doing.Works &^= a.Work()
	g := &m.Guest
	switch act := a.(type) {
	case Txn:
		m.answered(act, o, now)
	case Fence:
		m.fenced(act, o, now)
	case Arm:
		m.ordered(o, act.Timeout, now)
	case Disarm:
		m.ordered(o, o.Watchdog.Timeout, now)
	case Start, Migrate:
		if o.Why != "" {
			g.TriedBy = clip(o.Why)
		}
	case Kill:
		g.Inherited = g.Inherited && !o.OK
	}
	if Touches(a) {
		g.Touched = now
	}
}

// Touches reports that an action may have changed the guest: what was seen of it
// before its end is old.
func Touches(a Action) bool {
	switch a := a.(type) {
	case Txn:
		return a.Prove
	case Start, Kill, Shutdown, Migrate, Abort, Resume:
		return true
	}
	return false
}

// answered takes the answer of the store in. One that is refused, or has no
// answer, changes nothing: the watch tells what became of it.
func (m *Machine) answered(t Txn, o Outcome, now cluster.Instant) {
	if t.Prove && o.Proved {
		m.Guest.Inherited = false
	}
	if !o.OK {
		return
	}
	for _, p := range t.Put {
		m.Changed(Record{Put: p, Mod: o.Mod}, now)
	}
	switch {
	case t.For == WorkRenew:
		m.Lease.Mod = o.Mod
		m.Lease.Deadline = t.Sent.Add(m.Timings.Lease)
		m.Lease.HandsOn = !t.Put[0].Host.HandsOff
	case t.Silent != "":
		m.Memory.Told[t.Silent] = t.SilentMod
	case t.Unfenced != "":
		f := m.Memory.Fences[t.Unfenced]
		f.Told = true
		m.Memory.Fences[t.Unfenced] = f
	}
}

// fenced takes the word of a host's fence devices in. It counts for the record
// for which they were ordered. A failure is told once for each epoch.
func (m *Machine) fenced(a Fence, o Outcome, now cluster.Instant) {
	m.Doing.Fencing = slices.DeleteFunc(slices.Clone(m.Doing.Fencing), func(h cluster.HostID) bool { return h == a.Host })
	f := Fenced{Mod: a.Mod, Epoch: a.Epoch, At: now, Off: o.OK, Device: o.Device}
	if !o.OK {
		was := m.Memory.Fences[a.Host]
		f.Why, f.Told = clip(o.Why), was.Told && was.Epoch == a.Epoch
	}
	m.Memory.Fences[a.Host] = f
}

// ordered takes the answer of the watchdog's holder to an order in. Without one,
// or when the device has another timeout than the limit was reckoned with,
// nothing may rely on the limit.
func (m *Machine) ordered(o Outcome, timeout time.Duration, now cluster.Instant) {
	if o.OK {
		m.Watchdog = o.Watchdog
	} else {
		m.Watchdog.Working = false // its holder is away; the device, if armed, runs on
	}
	if !o.OK || o.Watchdog.Timeout != timeout {
		m.Watchdog.Limit = 0
	}
	m.Watchdog.Ordered = now
}

// busy reports that an action of a kind is under way.
func (m *Machine) busy(w Work) bool { return m.Doing.Works&w != 0 }
