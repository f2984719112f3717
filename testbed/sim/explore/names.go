package explore

import (
	"time"

	"holdfast/internal/cluster"
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
	host    [members + 1]cluster.HostID
	text    [64]string
	order   []cluster.HostID
	timings cluster.Timings
	devices map[cluster.HostID]bool
	byHost  map[cluster.HostID]uint8
	byText  map[string]uint8
	owners  []cluster.OwnerState
	proofs  []cluster.ProofKind
	guests  []cluster.GuestState
	ownerNo map[cluster.OwnerState]uint8
	proofNo map[cluster.ProofKind]uint8
	guestNo map[cluster.GuestState]uint8
}

func newNames(skew bool) *names {
	n := &names{
		devices: map[cluster.HostID]bool{}, byHost: map[cluster.HostID]uint8{}, byText: map[string]uint8{"": 0},
		owners: []cluster.OwnerState{"", cluster.Assigned, cluster.Running, cluster.Migrating, cluster.Settling,
			cluster.Stopping, cluster.Released},
		proofs: []cluster.ProofKind{cluster.ProofNone, cluster.ProofFirst, cluster.ProofReleased,
			cluster.ProofNeverStarted, cluster.ProofDeadline, cluster.ProofFenced, cluster.ProofOperator, cluster.ProofRestored},
		guests: []cluster.GuestState{cluster.GuestAbsent, cluster.GuestIncoming, cluster.GuestRunning,
			cluster.GuestPaused, cluster.GuestUnknown, cluster.GuestArrived, cluster.GuestArrived},
		ownerNo: map[cluster.OwnerState]uint8{}, proofNo: map[cluster.ProofKind]uint8{}, guestNo: map[cluster.GuestState]uint8{},
		timings: cluster.Timings{
			Lease: lease * tick, Keepalive: keepalive * tick, Grace: guard * tick, Watchdog: timeout * tick,
			Election: election * tick, Heartbeat: tick / 10, Detection: detection * tick,
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

// restored is the bit of an epoch that is of the generation after a restore.
const restored uint8 = 1 << 7

func epochOf(e uint8) cluster.Epoch {
	if e == 0 {
		return cluster.Epoch{}
	}
	return cluster.Epoch{Gen: 1 + uint64(e/restored), Seq: uint64(e &^ restored)}
}

// smallEpoch is the reverse.
func smallEpoch(e cluster.Epoch) uint8 {
	if e.Gen > 1 {
		return restored | uint8(e.Seq)
	}
	return uint8(e.Seq)
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
		state: n.ownerNo[o.State], host: n.byHost[o.Host], to: n.byHost[o.To], claim: n.byText[o.Claim], epoch: smallEpoch(o.Epoch),
		proof: n.proofNo[o.Proof.Kind], proofHost: n.byHost[o.Proof.Host], proofEpoch: smallEpoch(o.Proof.Epoch), by: n.byHost[o.Proof.By],
		failures: uint8(min(o.Failures, 3)), restarts: uint8(min(o.Restarts, 3)), ready: o.Ready,
	}
}

func (n *names) hostRecord(i int, r *hostRow) cluster.Host {
	h := cluster.Host{
		Name: n.host[i+1], Identity: identity, Boot: n.text[r.boot], Machine: "machine", WatchdogTimeout: timeout * tick,
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
		boot: n.byText[r.Boot], guard: r.Guard > 0, handsOff: r.HandsOff, fit: r.Fit,
		guest: n.guestNo[r.Guest], expelled: !r.Expelled.IsZero(), fenced: n.byText[r.Fenced],
	}
}

func (n *names) want(r *wantRow) cluster.Want {
	w := cluster.Want{Run: r.run, HandsOff: r.handsOff, MoveTo: n.host[r.move]}
	if r.cancel != 0 {
		w.Cancel = int64(r.cancel - 1)
	}
	for i, mod := range r.off {
		if mod != 0 {
			w.Off = append(w.Off, cluster.Off{Host: n.host[i+1], Mod: int64(mod - 1), User: "admin"})
		}
	}
	return w
}

func (n *names) wantRow(w *cluster.Want) wantRow {
	r := wantRow{run: w.Run, handsOff: w.HandsOff, move: n.byHost[w.MoveTo]}
	if w.Cancel != 0 {
		r.cancel = uint8(w.Cancel) + 1
	}
	for _, o := range w.Off {
		r.off[n.byHost[o.Host]-1] = uint8(o.Mod) + 1
	}
	return r
}
