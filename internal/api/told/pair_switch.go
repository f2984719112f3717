package told

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// Switchover is a switch of a pair that is done, by what both nodes tell. Durations in ns; all 0: not known.
type Switchover struct {
	From     cluster.HostID `json:"from"`
	To       cluster.HostID `json:"to"`
	Total    time.Duration  `json:"total"` // from the order to the last service
	Stopped  time.Duration  `json:"stopped"`
	Handed   time.Duration  `json:"handed"`
	Taken    time.Duration  `json:"taken"`
	Promoted time.Duration  `json:"promoted"`
	Started  time.Duration  `json:"started"`
}

// Text says how long each part has taken.
func (s Switchover) Text() string {
	if s.Total == 0 {
		return fmt.Sprintf("%s serves in place of %s; how long it took is not known, as an agent was restarted "+
			"meanwhile", Clean(s.To), Clean(s.From))
	}
	sec := func(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }
	return fmt.Sprintf("%s serves in place of %s after %s s: services stopped %s, all data handed over %s, taken %s, "+
		"promoted %s, services started %s",
		Clean(s.To), Clean(s.From), sec(s.Total), sec(s.Stopped), sec(s.Handed), sec(s.Taken), sec(s.Promoted), sec(s.Started))
}

// Switched takes the times of the last switch from one node to another; false: both do not tell them.
func Switched(p cluster.PairStatus, from, to cluster.HostID) (Switchover, bool) {
	s := Switchover{From: from, To: to}
	var left, came cluster.PairTimes
	for _, n := range p.Nodes {
		switch n.Host {
		case from:
			left = n.Times
		case to:
			came = n.Times
		}
	}
	if came.Active.IsZero() || left.Handed.IsZero() || came.Taken.Before(left.Asked) {
		return s, false
	}
	after := func(a, b time.Time) time.Duration { return max(0, b.Sub(a)) }
	s.Total = after(left.Asked, came.Active)
	s.Stopped, s.Handed, s.Taken = after(left.Asked, left.Stopped), after(left.Stopped, left.Handed), after(left.Handed, came.Taken)
	s.Promoted, s.Started = after(came.Taken, came.Promoted), after(came.Promoted, came.Active)
	return s, true
}

// MaySwitch refuses a switch of a pair that is stopped, or in one.
func MaySwitch(p cluster.PairStatus) error {
	switch {
	case !p.Want.Run:
		return fail.Errorf(fail.Refused, "the services are stopped").With("start them: holdfast pair start")
	case p.Owner.State == cluster.Migrating || p.Owner.State == cluster.Settling || p.Want.MoveTo != "" && p.Want.MoveTo != p.Owner.Host:
		on := Or(p.Owner.To, Or(p.Want.MoveTo, string(p.Owner.Host)))
		_, why := p.Health()
		return fail.Errorf(fail.Refused, "a switch to %s is under way: %s", on,
			Or(strings.Join(why, "; "), "it has not served yet")).With("mend what is wrong there; see: holdfast pair status")
	}
	return nil
}

// SwitchWaits says which switch there would be to a node, "" for the one that does not serve, and what it waits for; "" for
// nothing. from "": nobody serves. to "": the other node has not reported. lasts: waiting does not end that.
func SwitchWaits(p cluster.PairStatus, node string) (from, to cluster.HostID, why string, lasts bool) {
	act := p.Active()
	if act == nil {
		_, all := p.Health()
		return "", "", "the services do not run: " + strings.Join(all, "; "), false
	}
	from = act.Host
	for _, n := range p.Nodes {
		if node == "" && n.Host == act.Host || node != "" && string(n.Host) != node {
			continue
		}
		to = n.Host
		switch {
		case n.Host == act.Host:
		case n.Off:
			return from, to, fmt.Sprintf("%s was shown off by its fence device: switch it on when it is in order", n.Host), true
		case !n.Alive:
			return from, to, fmt.Sprintf("%s is silent", n.Host), false
		case !slices.Contains(p.InSync, n.Host):
			return from, to, fmt.Sprintf("%s does not have everything yet", n.Host) + causes(n, *act), n.Lasting || act.Lasting
		case !n.Fit:
			return from, to, fmt.Sprintf("%s: %s", n.Host, n.Why) + causes(n, *act), n.Lasting
		case n.LagKnown && n.Lag > 0:
			return from, to, fmt.Sprintf("%s has everything, and is %s behind in applying it", n.Host, n.Lag), false
		}
		return from, to, "", false
	}
	return from, "", "the other node to report", false
}

// causes are what is known of why a standby is not ready: of its copy, and of the active node, which proves that it has everything.
func causes(n, act cluster.PairNode) string {
	var all []string
	switch {
	case n.Role == "unknown":
		all = append(all, "its database does not answer")
	case n.Role == "off":
		all = append(all, "its copy does not run")
	}
	if n.LagKnown && n.Lag > 0 {
		all = append(all, fmt.Sprintf("it is %s behind", n.Lag))
	}
	if n.Problem != "" {
		all = append(all, n.Problem)
	}
	if act.Problem != "" {
		all = append(all, fmt.Sprintf("%s: %s", act.Host, act.Problem))
	}
	if len(all) == 0 {
		return ""
	}
	return ": " + strings.Join(all, "; ")
}

// LostBySwitch names the tables whose rows are gone when a database ends, as it does on the node that gives up; "": there are none.
func LostBySwitch(p cluster.PairStatus) string {
	var names, more []string
	for _, n := range p.Nodes {
		for _, w := range n.Weak {
			if name, _, _ := strings.Cut(w, ": "); strings.HasSuffix(name, " (MEMORY)") {
				names = append(names, Clean(name))
			} else if name, others := strings.CutSuffix(w, " of such engines"); others { // so many are not named
				more = append(more, "perhaps "+Clean(name)+" of engines without transactions")
			}
		}
	}
	slices.Sort(names)
	slices.Sort(more)
	return strings.Join(append(slices.Compact(names), slices.Compact(more)...), ", ")
}

// LastSwitch is the switch by which the node that has the group was given it; false: it was given it otherwise, or not all is known.
func LastSwitch(p cluster.PairStatus) (s Switchover, at time.Time, known bool) {
	master, slave := PairSides(p)
	proof := p.Owner.Proof
	left := slave.Times
	if proof.Kind != cluster.ProofReleased || proof.Host != slave.Host || !left.Taken.Before(left.Asked) {
		return s, at, false
	}
	s, known = Switched(p, slave.Host, master.Host)
	return s, master.Times.Active, known
}
