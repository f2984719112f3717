package sim

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/ha"
)

// Plant is a set of bugs put in on purpose, each breaking one rule of the safety
// model, to show that the checks find them.
type Plant struct {
	LateDeadline bool // the deadline counts from the reply of a renewal
	PetBeyond    bool // the watchdog is petted beyond the limit
	EarlyDisarm  bool // the watchdog is disarmed at the deadline, before the guest is proved gone
	NoGrace      bool // a takeover does not wait G after the lease
	NoExpel      bool // a takeover neither expels the lost host nor compares its record
	StaleStart   bool // a start does not wait for a fresh observation
	NoTerm       bool // the coordinator's term is not compared
}

// plants names the bugs for scenarios.
func (p *Plant) plants() map[string]*bool {
	return map[string]*bool{
		"late-deadline": &p.LateDeadline, "pet-beyond": &p.PetBeyond, "early-disarm": &p.EarlyDisarm,
		"no-grace": &p.NoGrace, "no-expel": &p.NoExpel, "stale-start": &p.StaleStart, "no-term": &p.NoTerm,
	}
}

// PlantNames lists the bugs that can be planted.
func PlantNames() []string {
	return []string{"late-deadline", "pet-beyond", "early-disarm", "no-grace", "no-expel", "stale-start", "no-term"}
}

func (p *Plant) set(name string) error {
	flag, ok := p.plants()[name]
	if !ok {
		return fmt.Errorf("plant %q: want one of %s", name, strings.Join(slices.Sorted(slices.Values(PlantNames())), ", "))
	}
	*flag = true
	return nil
}

// see changes what an agent sees before it decides. Maps are shared with the
// agent, so that one that is to change is copied.
func (p Plant) see(v *ha.View) {
	if p.NoGrace {
		hosts := make(map[hostID]ha.HostRec, len(v.Hosts))
		for n, r := range v.Hosts {
			if n != v.Self && r.Guard > 0 {
				r.Guard = 1
			}
			hosts[n] = r
		}
		v.Hosts = hosts
	}
	if p.StaleStart {
		v.Local.GuestAt, v.Local.Touched = v.Now, 0
	}
}

// add puts actions in front of those that were decided.
func (p Plant) add(v *ha.View, as []ha.Action) []ha.Action {
	l := &v.Local
	if p.EarlyDisarm && l.Deadline != 0 && v.Now >= l.Deadline && l.Dog.Armed && !l.Busy[ha.WorkArm] {
		return append([]ha.Action{ha.Disarm{}}, as...)
	}
	return as
}

// alter changes what is done.
func (p Plant) alter(a ha.Action) ha.Action {
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
	return w
}
