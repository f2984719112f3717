package explore

import (
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// tick is the grain of the model's time.
const tick = 2 * time.Second

// Timings in ticks.
const (
	lease     = 3 // T
	guard     = 1 // G
	timeout   = 2 // W
	keepalive = 1
	election  = 2
	detection = 1
	patience  = 2 // after which an agent gives a request to the store up
)

// now is what every clock shows. Instants are reckoned back from it.
const now = cluster.Instant(1_000_000 * tick)

// identity is the same for all: hosts are told apart by name and boot.
const identity = "id"

// names, boots and instances are the strings of small numbers, made once.
type names struct {
	host     [members + 1]cluster.HostID
	text     [64]string
	order    []cluster.HostID
	timings  cluster.Timings
	devices  map[cluster.HostID]bool
	byHost   map[cluster.HostID]uint8
	byText   map[string]uint8
	owners   []cluster.OwnerState
	proofs   []cluster.ProofKind
	guests   []cluster.GuestState
	ownerNo  map[cluster.OwnerState]uint8
	proofNo  map[cluster.ProofKind]uint8
	guestNo  map[cluster.GuestState]uint8
	workBits []workBit
}

type workBit struct {
	bit  uint16
	work ha.Work
}

func newNames(skew bool) *names {
	n := &names{
		devices: map[cluster.HostID]bool{}, byHost: map[cluster.HostID]uint8{}, byText: map[string]uint8{"": 0},
		owners:  []cluster.OwnerState{"", cluster.Free, cluster.Assigned, cluster.Running, cluster.Migrating, cluster.Settling, cluster.Stopping, cluster.Released},
		proofs:  []cluster.ProofKind{cluster.ProofNone, cluster.ProofFirst, cluster.ProofReleased, cluster.ProofNeverStarted, cluster.ProofDeadline, cluster.ProofFenced, cluster.ProofOperator},
		guests:  []cluster.GuestState{cluster.GuestAbsent, cluster.GuestIncoming, cluster.GuestRunning, cluster.GuestPaused, cluster.GuestUnknown, cluster.GuestArrived, cluster.GuestArrived},
		ownerNo: map[cluster.OwnerState]uint8{}, proofNo: map[cluster.ProofKind]uint8{}, guestNo: map[cluster.GuestState]uint8{},
		timings: cluster.Timings{
			Lease: lease * tick, Keepalive: keepalive * tick, Grace: guard * tick, Watchdog: timeout * tick,
			Election: election * tick, Heartbeat: tick / 10, Detection: detection * tick,
		},
		workBits: []workBit{
			{busyRenew, ha.WorkRenew}, {busyWrite, ha.WorkWrite}, {busyElect, ha.WorkElect}, {busyArm, ha.WorkArm}, {busyStart, ha.WorkStart},
			{busyKill, ha.WorkKill}, {busyShutdown, ha.WorkShutdown}, {busyMigrate, ha.WorkMigrate}, {busyAbort, ha.WorkAbort}, {busyResume, ha.WorkResume},
		},
	}
	if skew {
		n.timings.Epsilon = tick
	}
	for i := 1; i < len(n.text); i++ {
		n.text[i] = string(rune('0'+i/10)) + string(rune('0'+i%10))
		n.byText[n.text[i]] = uint8(i)
	}
	for i := 1; i <= members; i++ {
		h := cluster.HostID("h" + string(rune('0'+i)))
		n.host[i], n.byHost[h], n.devices[h] = h, uint8(i), true
		n.order = append(n.order, h)
		n.workBits = append(n.workBits, workBit{busyFence << (i - 1), ha.WorkFence(h)})
	}
	n.byHost[""] = 0
	for i, s := range n.owners {
		n.ownerNo[s] = uint8(i)
	}
	for i, s := range n.proofs {
		n.proofNo[s] = uint8(i)
	}
	for i, s := range n.guests {
		n.guestNo[s] = uint8(i)
	}
	n.guestNo[cluster.GuestArrived] = standing
	return n
}

func ago(ticks uint8) cluster.Instant { return now.Add(-time.Duration(ticks) * tick) }

func in(ticks int) cluster.Instant { return now.Add(time.Duration(ticks) * tick) }

func epochOf(e uint8) cluster.Epoch {
	if e == 0 {
		return cluster.Epoch{}
	}
	return cluster.Epoch{Gen: 1, Seq: uint64(e)}
}

func (n *names) owner(r *ownerRow) cluster.Owner {
	if r.mod == 0 {
		return cluster.Owner{}
	}
	return cluster.Owner{
		Resource: cluster.MgmtVM, Epoch: epochOf(r.epoch), State: n.owners[r.state], Host: n.host[r.host], To: n.host[r.to],
		Claim: n.text[r.claim], Ready: r.ready, Failures: int(r.failures), Restarts: int(r.restarts),
		Proof: cluster.Proof{Kind: n.proofs[r.proof], Host: n.host[r.proofHost], Epoch: epochOf(r.proofEpoch), By: n.host[r.by]},
	}
}

func (n *names) ownerRow(o *cluster.Owner) ownerRow {
	return ownerRow{
		state: n.ownerNo[o.State], host: n.byHost[o.Host], to: n.byHost[o.To], claim: n.byText[o.Claim], epoch: uint8(o.Epoch.Seq),
		proof: n.proofNo[o.Proof.Kind], proofHost: n.byHost[o.Proof.Host], proofEpoch: uint8(o.Proof.Epoch.Seq), by: n.byHost[o.Proof.By],
		failures: uint8(min(o.Failures, 3)), restarts: uint8(min(o.Restarts, 3)), ready: o.Ready,
	}
}

func (n *names) hostRecord(i int, r *hostRow) cluster.Host {
	h := cluster.Host{
		Name: n.host[i+1], Identity: identity, Boot: n.text[r.boot], Gate: int(r.gate), WatchdogTimeout: timeout * tick,
		HandsOff: r.handsOff, Fit: r.fit, Guest: n.guests[r.guest], Fenced: n.text[r.fenced],
	}
	if r.guard {
		h.Guard = guard * tick
	}
	if r.expelled {
		h.Expelled = cluster.Epoch{Gen: 1, Seq: 1}
	}
	return h
}

func (n *names) hostRow(r *cluster.Host) hostRow {
	return hostRow{
		boot: n.byText[r.Boot], gate: uint8(r.Gate), guard: r.Guard > 0, handsOff: r.HandsOff, fit: r.Fit,
		guest: n.guestNo[r.Guest], expelled: !r.Expelled.IsZero(), fenced: n.byText[r.Fenced],
	}
}

func (n *names) want(r *wantRow) cluster.Want {
	w := cluster.Want{Run: r.run, HandsOff: r.handsOff, MoveTo: n.host[r.move]}
	for i, mod := range r.off {
		if mod != 0 {
			w.Off = append(w.Off, cluster.Off{Host: n.host[i+1], Mod: int64(mod - 1), User: "admin"})
		}
	}
	return w
}

func (n *names) wantRow(w *cluster.Want) wantRow {
	r := wantRow{run: w.Run, handsOff: w.HandsOff, move: n.byHost[w.MoveTo]}
	for _, o := range w.Off {
		r.off[n.byHost[o.Host]-1] = uint8(o.Mod) + 1
	}
	return r
}

// newView makes the view that is refilled for every decision.
func newView(n *names) ha.View {
	v := ha.View{
		Resource: cluster.MgmtVM, Gen: 1, Now: now, Timings: n.timings, Order: n.order, Restart: cluster.Restart{InPlace: 1},
		Hosts: map[cluster.HostID]ha.HostRec{},
		Local: ha.Local{
			Identity: identity, Fit: true,
			Fences: map[cluster.HostID]ha.Fenced{}, Busy: map[ha.Work]bool{}, Told: map[cluster.HostID]int64{},
		},
	}
	return v
}

// newWords makes the members' words, of which the contents are refilled.
func newWords(n *names) map[cluster.HostID]cluster.Word {
	words := map[cluster.HostID]cluster.Word{}
	for _, h := range n.order {
		words[h] = cluster.Word{Heard: map[cluster.HostID]cluster.Instant{}}
	}
	return words
}

// show fills the view with what host i sees.
func (m *mover) show(i int) *ha.View {
	n, v, h := m.names, &m.view, &m.w.host[i]
	a := &h.agent
	v.Self, v.Synced = n.host[i+1], a.synced
	v.Coord = ha.CoordRec{Coordinator: cluster.Coordinator{Host: n.host[a.rec.coord.host]}, Mod: int64(a.rec.coord.mod), SeenAt: ago(a.coordAge)}
	// Half a tick and less orders what happened within one tick.
	v.Owner = ha.OwnerRec{Owner: n.owner(&a.rec.owner), Mod: int64(a.rec.owner.mod), SeenAt: ago(a.ownerAge).Add(-2)}
	v.Want = ha.WantRec{Want: n.want(&a.rec.want), Mod: int64(a.rec.want.mod)}
	clear(v.Hosts)
	for j := range a.rec.host {
		if r := &a.rec.host[j]; r.mod != 0 {
			v.Hosts[n.host[j+1]] = ha.HostRec{Host: n.hostRecord(j, r), Mod: int64(r.mod), SeenAt: ago(a.hostAge[j])}
		}
	}
	v.Devices, v.Words = nil, nil
	if m.w.devices {
		v.Devices, v.Words = n.devices, m.words
		m.showWords(i)
	}
	m.showLocal(i)
	return v
}

// showWords tells what the members say that they hear. Heartbeats matter for
// fence devices alone.
func (m *mover) showWords(i int) {
	n, v, w := m.names, &m.view, &m.w
	for j := range w.host {
		word := v.Words[n.host[j+1]]
		word.At = 0
		if j == i || w.host[j].thinks() && w.host[j].reachable() && w.host[i].reachable() {
			word.At = now
		}
		for k := range w.host {
			word.Heard[n.host[k+1]] = ago(w.host[j].quiet[k])
		}
		v.Words[n.host[j+1]] = word
	}
}

func (m *mover) showLocal(i int) {
	n, h := m.names, &m.w.host[i]
	a, l := &h.agent, &m.view.Local
	l.Boot, l.Instance, l.Gate = n.text[h.boot], n.text[a.inst], int(a.inst)
	l.LeaseMod, l.Deadline, l.RenewSent, l.HandsOn = int64(a.leaseMod), 0, ago(1), a.handsOn
	if a.deadline != 0 {
		l.Deadline = in(int(a.deadline) - 1)
	}
	if a.sentNow {
		l.RenewSent = now
	}
	l.Guest = cluster.Guest{State: n.guests[a.sight.state], Epoch: epochOf(a.sight.epoch), Migrating: a.sight.moving}
	if a.sight.state == absent && a.sight.epoch != 0 {
		l.Guest = cluster.Guest{State: cluster.GuestAbsent, Moved: true}
	}
	switch a.sight.fresh {
	case 0:
		l.GuestAt, l.Touched = ago(1), now
	case 1:
		l.GuestAt, l.Touched = m.view.Owner.SeenAt, 1
	default:
		l.GuestAt, l.Touched = now, 1
	}
	l.Inherited, l.Tried, l.Started, l.Shut = a.inherited, 0, epochOf(a.started), 0
	if a.tried {
		l.Tried = int64(a.rec.owner.mod)
	}
	if a.shut != 0 {
		l.Shut = ago(a.shut - 1)
	}
	l.Dog = ha.Watchdog{Working: true, Armed: h.dog.armed, Timeout: timeout * tick, Name: "model"}
	if h.dog.armed {
		l.Dog.Limit = in(int(h.dog.limit))
	}
	clear(l.Busy)
	for _, b := range n.workBits {
		if a.busy&b.bit != 0 {
			l.Busy[b.work] = true
		}
	}
	clear(l.Told)
	clear(l.Fences)
	for j := range a.told {
		mod := int64(a.rec.host[j].mod)
		if a.told[j] {
			l.Told[n.host[j+1]] = mod
		}
		if f := a.fence[j]; f.state != 0 {
			r := ha.Fenced{Mod: mod, At: now, Off: f.state == 1, Device: "model", Told: f.told}
			if f.old {
				r.At = ago(1)
			}
			if !r.Off {
				r.Why = "not off"
			}
			l.Fences[n.host[j+1]] = r
		}
	}
}
