package explore

import (
	"fmt"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// Plant is a set of bugs put in on purpose, each breaking one sentence of the
// safety model, to show that the rules find them.
type Plant struct {
	LateDeadline    bool // the deadline counts from the reply of a renewal
	PetBeyond       bool // the watchdog is petted beyond the limit
	EarlyDisarm     bool // the watchdog is disarmed at the deadline, before the guest is proved gone
	NoGrace         bool // a takeover does not wait G after the lease
	NoExpel         bool // a takeover neither expels the lost host nor compares its record
	StaleStart      bool // a start does not wait for a fresh observation
	NoTerm          bool // the coordinator's term is not compared
	FenceNoReadback bool // a fence device's word counts, not the state read back
	OneProofForTwo  bool // a migration that lost one side is taken over with the proof of that side
	StartInHandover bool // a ready target starts the guest itself
	LeaseAsLock     bool // no stop and no reset at the deadline: the end of the lease is enough for others
	BootUnchecked   bool // a host takes a record of an earlier boot for its own
	NoInherit       bool // a new agent trusts an empty process table, while a start of the one before may still come
	OpenUnseen      bool // a look shows "absent" while the hypervisor may still carry out a start
	ResumeEarly     bool // a guest goes on at the target as soon as it has arrived
	GoneIsMoved     bool // the end of the source's process is taken for the end of a migration
	NoClaim         bool // an epoch does not remember which agent has called the hypervisor
}

// plants names the bugs.
func (p *Plant) plants() []plantName {
	return []plantName{
		{"late-deadline", &p.LateDeadline}, {"pet-beyond", &p.PetBeyond}, {"early-disarm", &p.EarlyDisarm}, {"no-grace", &p.NoGrace},
		{"no-expel", &p.NoExpel}, {"stale-start", &p.StaleStart}, {"no-term", &p.NoTerm}, {"fence-no-readback", &p.FenceNoReadback},
		{"one-proof-for-two", &p.OneProofForTwo}, {"start-in-handover", &p.StartInHandover}, {"lease-as-lock", &p.LeaseAsLock},
		{"boot-unchecked", &p.BootUnchecked}, {"no-inherit", &p.NoInherit}, {"double-claim", &p.NoClaim}, {"open-unseen", &p.OpenUnseen},
		{"resume-early", &p.ResumeEarly}, {"gone-is-moved", &p.GoneIsMoved},
	}
}

type plantName struct {
	name string
	flag *bool
}

// PlantNames lists the bugs that can be planted.
func PlantNames() []string {
	var p Plant
	var out []string
	for _, n := range p.plants() {
		out = append(out, n.name)
	}
	return out
}

// plantOf gives the plant of a name; "" is none.
func plantOf(name string) (Plant, error) {
	var p Plant
	if name == "" {
		return p, nil
	}
	for _, n := range p.plants() {
		if n.name == name {
			*n.flag = true
			return p, nil
		}
	}
	return p, fmt.Errorf("plant %q: want one of %s", name, strings.Join(PlantNames(), ", "))
}

// see changes what an agent sees before it decides. The view is scratch: its maps
// are filled anew for each decision.
func (p *Plant) see(v *ha.View) {
	if p.NoGrace || p.LeaseAsLock {
		v.Timings.Epsilon -= guard * tick
	}
	if p.StaleStart {
		v.Local.GuestAt, v.Local.Touched = now, 1
	}
	if r, ok := v.Hosts[v.Self]; ok && p.BootUnchecked {
		r.Boot = v.Local.Boot
		if r.Fenced != "" {
			r.Fenced = "0"
		}
		v.Hosts[v.Self] = r
	}
	if p.GoneIsMoved && v.Local.Guest.State == cluster.GuestAbsent {
		v.Local.Guest.Moved = true
	}
	if p.NoClaim && v.Owner.Claim != "" {
		v.Owner.Claim = v.Local.Instance
	}
}

// restore takes back what see changed of the view that is not filled anew.
func (p *Plant) restore(v *ha.View) {
	if p.NoGrace || p.LeaseAsLock {
		v.Timings.Epsilon += guard * tick
	}
}

// add changes which actions are done.
func (p *Plant) add(v *ha.View, as []ha.Action) []ha.Action {
	l := &v.Local
	late := l.Deadline != 0 && v.Now >= l.Deadline
	switch {
	case p.EarlyDisarm && late && l.Dog.Armed && !l.Busy[ha.WorkArm]:
		return append([]ha.Action{ha.Disarm{}}, as...)
	case p.StartInHandover && v.Owner.State == cluster.Migrating && v.Owner.To == v.Self && v.Owner.Ready && l.Guest.State == cluster.GuestAbsent && !l.Busy[ha.WorkStart]:
		return append(as, ha.Start{Epoch: v.Owner.Epoch})
	case p.LeaseAsLock:
		return without(as, late)
	}
	return as
}

// without leaves out the kill at the deadline.
func without(as []ha.Action, late bool) []ha.Action {
	var out []ha.Action
	for _, a := range as {
		_, kill := a.(ha.Kill)
		if !(kill && late) {
			out = append(out, a)
		}
	}
	return out
}

// petsBeyond reports that the watchdog's holder does not obey the limit.
func (p *Plant) petsBeyond() bool { return p.PetBeyond || p.LeaseAsLock }

// alter changes what is done.
func (p *Plant) alter(a ha.Action) ha.Action {
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
	if o := w.Owner; p.OneProofForTwo && o != nil && o.State == cluster.Settling && w.Term != 0 {
		n := *o
		n.State, n.Epoch = cluster.Assigned, n.Epoch.Next()
		w.Owner = &n
	}
	return w
}
