package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// Takeover says whether the loss of the holder would be answered automatically,
// and within which time from its last renewal.
func Takeover(v View) cluster.Takeover {
	holders := v.Owner.Holders()
	if v.Want.HandsOff {
		return cluster.Takeover{Why: "hands off: all decisions are frozen until `holdfast start`"}
	}
	if _, found := v.candidate(nil); len(holders) == 0 && !found {
		return cluster.Takeover{Why: "nobody holds the guest, and no host is able to run it: " + v.unable(nil)}
	}
	if len(holders) == 0 {
		return cluster.Takeover{Possible: true, Why: "nobody holds the guest"}
	}
	var within time.Duration
	for _, h := range holders {
		r := v.Hosts[h]
		if r.Guard == 0 {
			return cluster.Takeover{Why: fmt.Sprintf("host %s has no working watchdog: if it is lost silently, nothing proves that the guest has stopped", h)}
		}
		if r.HandsOff {
			return cluster.Takeover{Why: fmt.Sprintf("host %s has not armed its watchdog again after hands off", h)}
		}
		within = max(within, v.wait(r.Guard))
	}
	if _, found := v.candidate(holders); !found {
		return cluster.Takeover{Within: within, Why: "no other host is able to run it: " + v.unable(holders)}
	}
	return cluster.Takeover{Possible: true, Within: within, Why: fmt.Sprintf("lease %s + reset %s + drift and margin %s", v.Timings.Lease, v.Hosts[holders[0]].Guard, (within - v.Timings.Lease - v.Hosts[holders[0]].Guard).Round(10*time.Millisecond))}
}

// unable says of every member but those in not why it can not run the guest.
func (v *View) unable(not []cluster.HostID) string {
	var why []string
	for _, h := range v.Order {
		if slices.Contains(not, h) {
			continue
		}
		if w := v.able(h); w != "" {
			why = append(why, string(h)+" "+w)
		}
	}
	return strings.Join(why, "; ")
}

// Waiting says in one sentence what must happen next, "" when the cluster is as
// it should be.
func Waiting(v View) string {
	o := v.Owner
	switch {
	case !v.Synced:
		return "the store has no quorum, or this host does not reach it"
	case v.Want.HandsOff:
		return "hands off, until `holdfast start`"
	case v.Coord.Mod == 0 || !v.alive(v.Coord.Host):
		return "the election of a coordinator"
	case o.Mod == 0 && !v.Want.Run:
		return ""
	case o.Mod == 0 && v.seenSomewhere() != "":
		return fmt.Sprintf("host %s runs a guest that no record explains: stop it, or the cluster will not start one", v.seenSomewhere())
	case o.Mod == 0 || o.State == cluster.Free || o.State == cluster.Released:
		return v.waitingForStart()
	case o.State == cluster.Running && v.alive(o.Host):
		return ""
	}
	for _, h := range o.Holders() {
		if !v.alive(h) {
			return v.waitingForProof(h)
		}
	}
	switch o.State {
	case cluster.Assigned:
		return fmt.Sprintf("host %s starts it", o.Host)
	case cluster.Stopping:
		return fmt.Sprintf("the guest on %s shuts down", o.Host)
	case cluster.Migrating:
		return fmt.Sprintf("the migration from %s to %s", o.Host, o.To)
	case cluster.Settling:
		return fmt.Sprintf("the word of %s whether it has the guest", o.Host)
	}
	return ""
}

func (v *View) waitingForStart() string {
	if !v.Want.Run {
		return ""
	}
	if _, found := v.candidate(nil); !found {
		return "a host that is able to run it: " + v.unable(nil)
	}
	if o := v.Owner; o.Failures > 0 {
		return fmt.Sprintf("the next try in %s, after %d that failed: %s", (backoff(o.Failures) - v.Now.Sub(o.SeenAt)).Round(time.Second/10), o.Failures, o.Reason)
	}
	return "the coordinator gives it to a host"
}

func (v *View) waitingForProof(h cluster.HostID) string {
	r := v.Hosts[h]
	switch {
	case r.Guard == 0:
		return fmt.Sprintf("host %s is silent and has no working watchdog: bring it back, or have it proved off", h)
	case r.HandsOff:
		return fmt.Sprintf("host %s is silent and had its hands off: bring it back, or have it proved off", h)
	}
	return fmt.Sprintf("the deadline of silent host %s, in %s", h, max(0, v.wait(r.Guard)-v.silent(h)).Round(time.Second/10))
}
