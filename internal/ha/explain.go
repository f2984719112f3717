package ha

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// Takeover says whether the loss of the holder would be answered automatically,
// and within which time from its last renewal.
func (m *Machine) Takeover() cluster.Takeover {
	holder := m.Owner.Holder()
	if m.Want.HandsOff {
		return cluster.Takeover{Why: "hands off: all decisions are frozen until `holdfast start`"}
	}
	if holder == "" && !m.starts("") {
		return cluster.Takeover{Why: "no host holds it, and no host is able to run it: " + m.unable("")}
	}
	if holder == "" {
		return cluster.Takeover{Possible: true, Why: "no host holds it"}
	}
	within, why := m.bound(holder)
	if within == 0 {
		return cluster.Takeover{Why: why}
	}
	var missing []string
	if lost := m.quorumWithout(holder); lost != "" {
		missing = append(missing, lost)
	}
	if !m.starts(holder) {
		missing = append(missing, "no other host is able to run it: "+m.unable(holder))
	}
	r := m.Hosts[holder]
	t := cluster.Takeover{Possible: len(missing) == 0, Within: within, Why: why,
		ByDeadline: r.Guard != 0 && !r.HandsOff, ByFence: m.Devices[holder]}
	if !t.Possible {
		t.Why = strings.Join(missing, "; ")
	}
	return t
}

// quorumWithout says why the store would have no quorum without a host's member; "" when it would. A cluster of two has an
// arbiter that goes on with one of them.
func (m *Machine) quorumWithout(lost cluster.HostID) string {
	need := len(m.Order)/2 + 1
	if need > len(m.Order)-1 {
		return ""
	}
	votes := 0
	var why []string
	for _, h := range m.Order {
		switch r, known := m.Hosts[h]; {
		case r.Vote == cluster.NoMember: // the store is elsewhere
			return ""
		case h == lost:
		case !known:
			why = append(why, string(h)+" has never registered")
		case !m.alive(h):
			why = append(why, string(h)+" is silent")
		case r.Vote != "" && r.Vote != cluster.Votes:
			why = append(why, string(h)+": "+r.Vote)
		default:
			votes++
		}
	}
	if votes >= need {
		return ""
	}
	return fmt.Sprintf("without host %s the store would have no quorum, and nothing could be decided: %d of its %d "+
		"members would vote, %d must; %s",
		lost, votes, len(m.Order), need, strings.Join(why, "; "))
}

// bound is the time from a holder's last renewal within which its loss is proved,
// and why; 0 when nothing would prove it.
func (m *Machine) bound(h cluster.HostID) (time.Duration, string) {
	r, t := m.Hosts[h], m.Timings
	device := m.Devices[h]
	switch {
	case device && (r.Guard == 0 || r.HandsOff):
		return t.Lease, fmt.Sprintf("the fence device of host %s alone: asked after %s without heartbeats, or %s "+
			"without a renewal", h, t.Detection, t.Lease)
	case r.Guard == 0:
		return 0, fmt.Sprintf("host %s has no working watchdog and no fence device: if it is lost silently, nothing "+
			"proves that all has stopped there", h)
	case r.HandsOff:
		return 0, fmt.Sprintf("host %s has not armed its watchdog again after hands off", h)
	}
	w := m.wait(r.Guard)
	why := fmt.Sprintf("lease %s + reset %s + drift and margin %s", t.Lease, r.Guard, (w - t.Lease - r.Guard).Round(10*time.Millisecond))
	if device {
		why += fmt.Sprintf("; its fence device is asked after %s without heartbeats", t.Detection)
	}
	return w, why
}

// starts reports that a start would work on a member other than one, as far as its host can tell. Where the last
// one failed another is tried, and is no promise.
func (m *Machine) starts(not cluster.HostID) bool {
	return slices.ContainsFunc(m.Order, func(h cluster.HostID) bool { return h != not && m.doubt(h) == "" })
}

// doubt says why a start on h would not work, or may not; "" when nothing speaks against it.
func (m *Machine) doubt(h cluster.HostID) string {
	if w := m.able(h); w != "" {
		return w
	}
	if r := m.Hosts[h]; r.Retry {
		return cmp.Or(r.Why, "is not able to run it")
	}
	return ""
}

// unable says of every member but one why it can not run the guest, or may not be able to.
func (m *Machine) unable(not cluster.HostID) string {
	var why []string
	for _, h := range m.Order {
		if w := m.doubt(h); h != not && w != "" {
			why = append(why, string(h)+": "+w)
		}
	}
	return strings.Join(why, "; ")
}

// Waiting says in one sentence what must happen next, "" when the cluster is as
// it should be.
func (m *Machine) Waiting() string {
	o := m.Owner
	switch {
	case !m.Synced:
		return "the store has no quorum, or this host does not reach it"
	case m.Want.HandsOff:
		return "hands off, until `holdfast start`"
	case m.Coord.Mod == 0 || !m.alive(m.Coord.Host):
		return "the election of a coordinator"
	case m.restored() && m.unsettled() != "":
		return fmt.Sprintf("the store was restored: host %s to report that it runs nothing, or an operator to "+
			"confirm that it is off (`holdfast confirm-off %s`)", m.unsettled(), m.unsettled())
	case o.Mod == 0 && !m.Want.Run:
		return ""
	case o.Mod == 0 && m.seenSomewhere() != "":
		return fmt.Sprintf("host %s runs something that no record explains: stop it, or the cluster will start nothing", m.seenSomewhere())
	case o.Mod == 0 || o.State == cluster.Released:
		return m.waitingForStart()
	case o.State == cluster.Running && m.alive(o.Host):
		return m.waitingForGuest(o.Host)
	}
	if h := o.Holder(); !m.alive(h) {
		return m.waitingForProof(h)
	}
	switch o.State {
	case cluster.Assigned:
		return fmt.Sprintf("host %s to start it", o.Host)
	case cluster.Stopping:
		return fmt.Sprintf("the shutdown on %s", o.Host)
	case cluster.Migrating:
		if m.cancelled() {
			return fmt.Sprintf("the end of the move from %s to %s, which is being cancelled", o.Host, o.To)
		}
		return fmt.Sprintf("the move from %s to %s", o.Host, o.To)
	case cluster.Settling:
		return fmt.Sprintf("%s to report whether it has arrived there", o.Host)
	}
	return ""
}

// waitingForGuest says what is the matter with a guest whose holder lives.
func (m *Machine) waitingForGuest(h cluster.HostID) string {
	switch r := m.Hosts[h]; {
	case r.Guest == cluster.GuestPaused && r.Unhealthy != "":
		return fmt.Sprintf("what runs on %s: %s; it is resumed every %s, and moved after %s if another host is "+
			"able to run it", h, r.Unhealthy, stillAgain, stillWait)
	case r.Guest == cluster.GuestPaused:
		return fmt.Sprintf("what runs on %s to go on: it is paused, and not by the cluster", h)
	case r.Guest == cluster.GuestUnknown && !r.Fit:
		return fmt.Sprintf("host %s to see what runs there: %s; mend that on it, or wait: after %s its watchdog resets it", h, r.Why, blindWait)
	case slices.Contains(m.Want.Maintenance, h):
		if _, found := m.candidate(h); !found {
			return fmt.Sprintf("a host to which it can move, as %s is in maintenance: %s", h, m.unable(h))
		}
	}
	return ""
}

func (m *Machine) waitingForStart() string {
	if !m.Want.Run {
		return ""
	}
	if _, found := m.candidate(""); !found {
		return "a host that is able to run it: " + m.unable("")
	}
	if m.gaveUp() {
		return fmt.Sprintf("`holdfast start`: it was restarted %d times, and the configuration allows no more: %s",
			max(m.Owner.Failures, m.Owner.Restarts), m.Owner.Reason)
	}
	if o := m.Owner; o.Failures > 0 {
		return fmt.Sprintf("the next try, %s after the last of %d that failed: %s", backoff(o.Failures), o.Failures, o.Reason)
	}
	return "the coordinator to give it to a host"
}

func (m *Machine) waitingForProof(h cluster.HostID) string {
	r := m.Hosts[h]
	device := ""
	if f := m.Memory.Fences[h]; f.Why != "" {
		device = "; its fence device did not confirm it off: " + f.Why
	} else if m.Devices[h] {
		device = "; its fence device is asked"
	}
	switch {
	case r.Guard == 0:
		return fmt.Sprintf("host %s is silent and has no working watchdog%s: bring it back, or see that it is off "+
			"and say `holdfast confirm-off %s`", h, device, h)
	case r.HandsOff:
		return fmt.Sprintf("host %s is silent, and its watchdog was disarmed (hands off)%s: bring it back, or see "+
			"that it is off and say `holdfast confirm-off %s`", h, device, h)
	}
	return fmt.Sprintf("the deadline of silent host %s, in %s%s", h, max(0, m.wait(r.Guard)-m.silent(h)).Round(time.Second/10), device)
}
