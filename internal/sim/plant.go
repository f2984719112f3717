package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// Plant is a set of bugs put in on purpose, each breaking one rule of the safety
// model, to show that the checks find them. They change what an agent sees, what
// it does, or the simulated program around the core; the core is never changed.
type Plant struct {
	LateDeadline    bool // the deadline counts from the reply of a renewal
	PetBeyond       bool // the watchdog is petted beyond the limit
	EarlyDisarm     bool // the watchdog is disarmed at the deadline, before the guest is proved gone
	NoGrace         bool // a takeover does not wait G after the lease
	NoExpel         bool // a takeover neither expels the lost host nor compares its record
	StaleStart      bool // a start does not wait for a fresh observation
	NoTerm          bool // the coordinator's term is not compared
	LeaseAsLock     bool // the end of the lease alone is taken for a proof
	StaleRenewal    bool // a renewal counts that did not go through consensus
	FenceNoReadback bool // a fence device's word that it has accepted an order is taken for a proof
	FenceBefore     bool // the result of a fence order that was given for an older record counts
	StartInHandover bool // when a migration lost one side, nobody asks the other one
	OneProofForTwo  bool // a migration is taken over with the proof about one of its hosts
	RestoredEpoch   bool // a restore does not raise the generation
	IdleReset       bool // a host keeps its watchdog armed after the guest is proved gone
	BootUnchecked   bool // a boot id means nothing: it stays the same, and nobody compares it
	DoubleClaim     bool // a start neither looks for the claim of the agent before nor for its own call
	NoGate          bool // a migration comes in whatever the target's agent says
	GoneIsMoved     bool // the end of the source's process is taken for the end of a migration
	ResumeEarly     bool // a guest goes on at the target as soon as it has arrived
}

// Bug is one bug that can be planted.
type Bug struct {
	Name   string
	Breaks string   // the sentence of the safety model that it breaks
	Rules  []string // of the invariants, those by which it must be found
	flag   func(*Plant) *bool
	focus  func(*maker) // faults that lead to it more often than others; nil: none
}

// two are the rules that most bugs end in.
func two() []string { return []string{"two-hosts", "false-proof"} }

// bugs is the list, in the order of the safety model.
func bugs() []Bug {
	return []Bug{
		{"late-deadline", "Holder 1: a renewal sent at s and answered moves the deadline to s + T; the time of sending counts", two(),
			func(p *Plant) *bool { return &p.LateDeadline }, (*maker).focusHang},
		{"stale-renewal", "Holder 1: a renewal counts only when it went through consensus; a deposed leader may answer a keepalive", two(),
			func(p *Plant) *bool { return &p.StaleRenewal }, nil},
		{"stale-start", "Holder 2: a start follows an observation that is newer than the record and than the host's last action", []string{"stale-start"},
			func(p *Plant) *bool { return &p.StaleStart }, nil},
		{"double-claim", "Holder 2: a start whose reply is lost counts as started; an epoch allows one call", append(two(), "epoch-twice"),
			func(p *Plant) *bool { return &p.DoubleClaim }, (*maker).focusStart},
		{"pet-beyond", "Holder 3: the watchdog is petted at moments <= D + G - W only", two(),
			func(p *Plant) *bool { return &p.PetBeyond }, (*maker).focusHang},
		{"early-disarm", "Holder 5: the watchdog is disarmed only after the guest is proved gone", two(),
			func(p *Plant) *bool { return &p.EarlyDisarm }, (*maker).focusHang},
		{"idle-reset", "Holder 4: a host that holds nothing is never reset", []string{"idle-reset"},
			func(p *Plant) *bool { return &p.IdleReset }, nil},
		{"lease-as-lock", "Proofs: Deadline(e) is the expiry and G (1 + rho) + epsilon since; the lease alone is no lock", two(),
			func(p *Plant) *bool { return &p.LeaseAsLock }, nil},
		{"no-grace", "Proofs: Deadline(e) waits for G_h, in which the host resets itself", two(),
			func(p *Plant) *bool { return &p.NoGrace }, nil},
		{"no-expel", "Proofs: a renewal that the coordinator did not see makes the takeover fail", two(),
			func(p *Plant) *bool { return &p.NoExpel }, (*maker).focusNews},
		{"no-term", "Setting: the owner changes only by transactions that compare the coordinator's term", []string{"old-term"},
			func(p *Plant) *bool { return &p.NoTerm }, (*maker).focusNews},
		{"fence-no-readback", "Proofs: a fence command's success is no proof, only the state read back as off", two(),
			func(p *Plant) *bool { return &p.FenceNoReadback }, (*maker).focusFence},
		{"fence-before-decision", "Proofs: Fenced(e) is a power-off commanded and read back after the decision", two(),
			func(p *Plant) *bool { return &p.FenceBefore }, (*maker).focusFence},
		{"boot-unchecked", "Proofs: the boot id must change before a fenced host is trusted again", []string{"fenced-boot"},
			func(p *Plant) *bool { return &p.BootUnchecked }, (*maker).focusFence},
		{"restored-epoch", "Proofs: a restored store adds a restore generation to every epoch", append(two(), "old-generation"),
			func(p *Plant) *bool { return &p.RestoredEpoch }, (*maker).focusRestore},
		{"start-in-handover", "Migration: a new start needs a proof for both, or the word of the living one", two(),
			func(p *Plant) *bool { return &p.StartInHandover }, (*maker).focusMigration},
		{"one-proof-for-two", "Migration: while migrating, source and target both hold", two(),
			func(p *Plant) *bool { return &p.OneProofForTwo }, (*maker).focusMigration},
		{"no-gate", "Migration: a guest arrives only at a host that has armed and said that it is ready", append(two(), "unguarded-guest"),
			func(p *Plant) *bool { return &p.NoGate }, (*maker).focusReboot},
		{"resume-early", "Migration: the target goes on only when the source is proved to be without the guest", two(),
			func(p *Plant) *bool { return &p.ResumeEarly }, (*maker).focusMigration},
		{"gone-is-moved", "Migration: what has arrived goes on only if the guest has not gone on at the source since", []string{"stale-guest"},
			func(p *Plant) *bool { return &p.GoneIsMoved }, (*maker).focusArrival},
	}
}

// PlantNames lists the bugs that can be planted.
func PlantNames() []string {
	var names []string
	for _, b := range bugs() {
		names = append(names, b.Name)
	}
	return names
}

func (p *Plant) set(name string) error {
	for _, b := range bugs() {
		if b.Name == name {
			*b.flag(p) = true
			return nil
		}
	}
	return fmt.Errorf("plant %q: want one of %s", name, strings.Join(slices.Sorted(slices.Values(PlantNames())), ", "))
}

// see changes what an agent sees before it decides. Maps are shared with the
// agent, so that one that is to change is copied.
func (p *Plant) see(v *ha.View) {
	if p.NoGrace || p.LeaseAsLock {
		p.early(v)
	}
	if p.StaleStart {
		v.Local.GuestAt, v.Local.Touched = v.Now, 0
	}
	if p.FenceBefore && len(v.Local.Fences) > 0 {
		v.Local.Fences = maps.Clone(v.Local.Fences)
		for h, f := range v.Local.Fences {
			f.Mod = v.Hosts[h].Mod
			v.Local.Fences[h] = f
		}
	}
	if p.BootUnchecked {
		v.Hosts = maps.Clone(v.Hosts)
		for h, r := range v.Hosts {
			r.Fenced = ""
			v.Hosts[h] = r
		}
	}
	if p.GoneIsMoved && v.Local.Guest.State == cluster.GuestAbsent {
		v.Local.Guest.Moved = true
	}
	if p.DoubleClaim && v.Owner.State == cluster.Assigned {
		v.Owner.Claim, v.Local.Started = v.Local.Instance, cluster.Epoch{}
	}
}

// early makes the wait for the others' own resets too short.
func (p *Plant) early(v *ha.View) {
	v.Hosts = maps.Clone(v.Hosts)
	for n, r := range v.Hosts {
		if n != v.Self && (r.Guard > 0 || p.LeaseAsLock) {
			r.Guard = 1
			v.Hosts[n] = r
		}
	}
	if p.LeaseAsLock {
		v.Timings.Epsilon = 0
	}
}

// add puts actions in front of those that were decided.
func (p *Plant) add(v *ha.View, as []ha.Action) []ha.Action {
	l := &v.Local
	if p.EarlyDisarm && l.Deadline != 0 && v.Now >= l.Deadline && l.Dog.Armed && !l.Busy[ha.WorkArm] {
		return append([]ha.Action{ha.Disarm{}}, as...)
	}
	return as
}

// alter changes what is done; nil: nothing.
func (p *Plant) alter(a ha.Action) ha.Action {
	if _, off := a.(ha.Disarm); off && p.IdleReset {
		return nil
	}
	w, ok := a.(ha.Write)
	if !ok {
		return a
	}
	if p.NoExpel {
		w.HostMods, w.Expel = nil, nil
	}
	if p.NoTerm {
		w.Term = 0
	}
	if w.Owner != nil && w.Owner.State == cluster.Settling {
		if p.StartInHandover || p.OneProofForTwo && w.Term != 0 {
			n := *w.Owner
			n.State, n.Host = cluster.Released, n.Proof.Host
			w.Owner = &n
		}
	}
	return w
}
