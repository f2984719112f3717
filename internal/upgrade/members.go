package upgrade

import (
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

// Members of Holdfast's own store are rebooted one after the other, however many
// hosts may be out of service. Without a majority of them the management VM is
// stopped, and a run in which two are away has nothing left for a fault.

// reboots reports whether a chain takes its host away for a while.
func (c *Chain) reboots() bool {
	return slices.ContainsFunc(c.Steps, func(s Step) bool { return s.Kind == KindReboot })
}

// awayIn finds the chains in which hosts are away.
func (p *Planner) awayIn(s *Stage, first int) {
	if s.Kind != Turn {
		return
	}
	for i := range s.Chains {
		if c := &s.Chains[i]; c.reboots() {
			p.reboots[c.Host] = append(p.reboots[c.Host], first+i)
		}
	}
}

// membersNow are the members of the store as they are now: one that was lost for good may
// have been replaced since the plan was made. Where nobody knows them, they are those of
// the plan.
func (r *run) membersNow() []cluster.HostID {
	var now []cluster.HostID
	for h, s := range r.hosts {
		if s.Member {
			now = append(now, h)
		}
	}
	if len(now) == 0 {
		return r.plan.Members
	}
	slices.Sort(now)
	return now
}

// leaving reports whether a member is between the begin of its turn and its end.
func (r *run) leaving(h cluster.HostID) bool {
	return r.leaves[h] || slices.ContainsFunc(r.reboots[h], func(place int) bool {
		l := r.at(place)
		return l.begun && !l.over
	})
}

// memberAway says why a member may not be taken away now; nothing when it may or when
// the host is none.
func (r *run) memberAway(h cluster.HostID) (why reason.Reason) {
	if len(r.reboots[h]) == 0 || !slices.Contains(r.members, h) {
		return reason.Reason{}
	}
	lost := 0 // members that the run does not wait for
	for _, m := range r.members {
		switch {
		case m == h:
		case r.leaving(m):
			return reason.MemberLeaves.With(m)
		case r.up(m):
		case r.known[m] && !r.dropped(m):
			r.soon = true
			return reason.MemberAway.With(m)
		default:
			lost++
			why = reason.NoMajority.With(m)
		}
	}
	if n := len(r.members); lost == 0 || n-lost-1 > n/2 {
		return reason.Reason{}
	}
	r.soon = true
	return why
}

// memberFindings look for members that are missing from the beginning.
func (b *builder) memberFindings() {
	for i := range b.inv.Hosts {
		h := &b.inv.Hosts[i]
		if !h.Member || !h.Down {
			continue
		}
		for _, s := range b.plan.Stages {
			if s.Kind == Turn && slices.ContainsFunc(s.Chains,
				func(c Chain) bool { return c.Host != h.Name && b.hosts[c.Host].Member && c.reboots() }) {
				b.find(Finding{
					Rule: "member-down", Level: Warn, Host: h.Name,
					Text: "The host is a member of Holdfast's store and is down. Other members are not rebooted " +
						"while that would leave the store without a majority.",
					Remedy: "repair the host, or put another member in its place",
				})
				break
			}
		}
	}
}
