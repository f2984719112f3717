package explore

import (
	"math/bits"

	"holdfast/internal/ha"
)

// members is the number of hosts of the model.
const members = 3

// Owner states, in the order of ownerStates.
const (
	noRecord uint8 = iota
	assigned
	running
	migrating
	settling
	stopping
	released
)

// Proof kinds, in the order of proofKinds.
const (
	proofNone uint8 = iota
	proofFirst
	proofReleased
	proofNeverStarted
	proofDeadline
	proofFenced
	proofOperator
	proofRestored
)

// States of a guest's process, in the order of guestStates.
const (
	absent uint8 = iota
	incoming
	up
	paused
	unknown
	standing // a migration has brought it, it waits to be resumed
	outdated // the same, and the guest has gone on at the source since
)

// How far a host is cut off.
const (
	whole    uint8 = iota
	isolated       // from the store and from the other hosts
	storeCut       // from the store alone, both ways
	deaf           // requests get to the store, nothing comes back
)

// Stages of a message to the store.
const (
	noMessage uint8 = iota
	proving         // a write that first proves the guest gone
	toStore
	taken   // the reply "done" is on its way
	refused // the reply "not done" is on its way
)

// Kinds of messages.
const (
	kindRenew uint8 = iota + 1
	kindWrite
	kindElect
	kindReport
	kindCount
)

// workOf is the work that a kind of message is.
func workOf(kind uint8) ha.Work {
	return [kindCount]ha.Work{kindRenew: ha.WorkRenew, kindWrite: ha.WorkWrite, kindElect: ha.WorkElect, kindReport: ha.WorkReport}[kind]
}

// Stages of a migration.
const (
	noMove   uint8 = iota
	asked          // the source's hypervisor has been called
	carrying       // the target's process waits for the data
	switched       // the source stands still, the last data are on their way
	arrived        // the guest is at the target, the source does not know yet
	moveLost       // nobody will ever tell the source
)

// Work that is under way on a host: the core's bits, but for fencing, which has
// one for each host from busyFence on.
const (
	busyRenew    = uint16(ha.WorkRenew)
	busyWrite    = uint16(ha.WorkWrite)
	busyReport   = uint16(ha.WorkReport)
	busyElect    = uint16(ha.WorkElect)
	busyArm      = uint16(ha.WorkArm)
	busyStart    = uint16(ha.WorkStart)
	busyKill     = uint16(ha.WorkKill)
	busyShutdown = uint16(ha.WorkShutdown)
	busyMigrate  = uint16(ha.WorkMigrate)
	busyAbort    = uint16(ha.WorkAbort)
	busyResume   = uint16(ha.WorkResume)
	busyFence    = uint16(ha.WorkFence)
)

// Records, as bits and as indexes into what a message compares.
const (
	recCoord = iota
	recOwner
	recWant
	recHost  // and the two after it, one for each host
	recCount = recHost + members
)

// maxMessages bounds the messages that are on their way at once. One more is
// lost, which a network may do at any time.
const maxMessages = 8

// Hosts are numbered 1 to 3 in records, 0 is none; indexes count from 0.
// All times are whole ticks relative to now, revisions and epochs small numbers
// that the canonical form renames. Every field is one byte or an array of bytes,
// but for the two masks, so that a world is copied and encoded without a walk.

type coordRow struct{ host, mod uint8 }

type ownerRow struct {
	state, host, to, claim           uint8
	epoch                            uint8
	proof, proofHost, proofEpoch, by uint8
	failures, restarts               uint8
	ready                            bool
	mod                              uint8
}

type hostRow struct {
	boot                 uint8
	guard, handsOff, fit bool
	guest                uint8
	expelled             bool
	fenced               uint8
	mod                  uint8
}

type wantRow struct {
	run, handsOff bool
	move          uint8
	cancel        uint8          // 1 + the revision of the owner record, 0: nothing is cancelled
	off           [members]uint8 // 1 + the revision of which an operator said it, 0: not said
	mod           uint8
}

// backup is what a restore brings back: no hosts are in it. There is one while
// its wish has a revision.
type backup struct {
	coord uint8
	owner ownerRow
	want  wantRow
}

type records struct {
	coord coordRow
	owner ownerRow
	want  wantRow
	host  [members]hostRow
}

// process is a guest's process. One that is absent has an epoch when a migration
// took all of it away.
type process struct{ state, epoch uint8 }

// sight is an observation of the guest. fresh: 0 not newer than the last action
// on the guest, 1 newer, 2 also newer than the owner record.
type sight struct {
	process
	moving bool
	fresh  uint8
}

// fence is how the last order to a host's fence device ended, as long as the
// host's record is the one for which it was given.
type fence struct {
	state uint8 // 0 none, 1 off, 2 not off
	old   bool  // a tick or more ago
	told  bool
}

type dog struct {
	armed bool
	limit int8  // until the last pet
	fuse  uint8 // until it fires, unless it is petted
}

type agent struct {
	busy, held  uint16
	up, stopped bool // stopped: the process stands still
	inst        uint8
	synced      bool
	gen         uint8 // restores of the store that it knows
	lag         bool  // its watch tells nothing
	rec         records
	coordAge    uint8
	ownerAge    uint8
	hostAge     [members]uint8

	leaseMod   uint8
	deadline   uint8 // 0 unknown, 1 passed, n: in n-1 ticks
	sentNow    bool  // a renewal has been sent in this tick
	handsOn    bool
	sight      sight
	look       sight // an observation that is under way while the host is slow to look
	blind      uint8 // 0 it sees the guest, n: it has not for n-1 ticks
	inherited  bool
	touchedNow bool  // the last action on the guest ended in this tick, and it has not been looked at since
	tried      bool  // for the owner record in rec
	started    uint8 // epoch, if it is that of the owner record in rec
	shut       uint8 // 0 no, n: n-1 ticks ago
	told       [members]bool
	fence      [members]fence
	fenceMod   [members]uint8 // of the order that is under way

	disarm   bool // the order to the watchdog that is under way
	armLimit int8
	wait     [kindCount - 1]uint8 // age of the live message of each kind, from kindRenew on
	proves   bool                 // the write that is under way first proves the guest gone
	proved   bool                 // it has done so
	_        bool                 // so that its size is even, without padding
}

type host struct {
	agent         agent
	power, frozen bool
	cut           uint8
	slow          bool // it is slow to look at the guest
	boot          uint8
	idle          uint8 // for how many ticks it has held nothing and could have said so, at most 2
	dog           dog
	proc          process
	starting      uint8 // epoch of a start that the hypervisor has begun
	startHeld     bool
	quiet         [members]uint8 // since it has heard each host
}

// message is a transaction on its way.
type message struct {
	kind, from, stage uint8
	held, live        bool // live: its agent waits for the reply
	prove             bool // before it is sent the guest is proved gone
	proved            bool // that has been done
	age               uint8
	compares, puts    uint8 // bits of records
	mod               [recCount]uint8
	coord             uint8
	owner             ownerRow
	want              wantRow
	host              [members]hostRow
	rev               [recCount]uint8
	term              uint8
	silent, silentMod uint8
	unfenced          uint8
}

type migration struct {
	stage, from, to uint8
	live, held      bool
}

// world is one state of the whole model: a plain value.
type world struct {
	host    [members]host
	store   records
	message [maxMessages]message
	move    migration
	devices bool  // each host has a fence device
	stalled bool  // the store takes nothing
	gen     uint8 // restores of the store
	backup  backup
	called  uint8 // the owner record's epoch, if a hypervisor has been called for it

	// What may still be spent.
	faults, delays, orders, skews uint8
}

// thinks reports that the agent of a host decides and acts.
func (h *host) thinks() bool { return h.power && !h.frozen && h.agent.up && !h.agent.stopped }

// has reports that a process is on a host, or will be, that may run. What a
// migration has brought stands still.
func (h *host) has() bool {
	switch h.proc.state {
	case up, paused, unknown:
		return h.power
	}
	return h.power && h.starting != 0
}

// reachable reports that other hosts can reach this one.
func (h *host) reachable() bool { return h.power && h.cut != isolated }

// holds reports that the guest runs, or would run, or may soon run on a host.
func (h *host) holds() bool {
	resumed := (h.proc.state == standing || h.proc.state == outdated) && h.agent.busy&busyResume != 0
	return h.power && (h.proc.state == up || h.starting != 0 || resumed)
}

// quorum reports whether the store can commit: a member lives on each host.
func (w *world) quorum() bool {
	n := 0
	for i := range w.host {
		if h := &w.host[i]; h.power && !h.frozen && h.cut != isolated {
			n++
		}
	}
	return !w.stalled && 2*n > members
}

// rank renames a revision: the number of smaller ones that are used, from 1 on.
type rank uint64

func (r *rank) use(v uint8) { *r |= 1 << (v & 63) }

func (r rank) of(v uint8) uint8 {
	if v == 0 {
		return 0
	}
	return 1 + uint8(bits.OnesCount64(uint64(r)&(1<<(v&63)-1)&^1))
}
