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
	var how []string
	for _, h := range holders {
		bound, why := v.bound(h)
		if bound == 0 {
			return cluster.Takeover{Why: why}
		}
		within, how = max(within, bound), append(how, why)
	}
	why := strings.Join(slices.Compact(how), "; ")
	if _, found := v.candidate(holders); !found {
		return cluster.Takeover{Within: within, Why: "no other host is able to run it: " + v.unable(holders)}
	}
	return cluster.Takeover{Possible: true, Within: within, Why: why}
}

// bound is the time from a holder's last renewal within which its loss is proved,
// and why; 0 when nothing would prove it.
func (v *View) bound(h cluster.HostID) (time.Duration, string) {
	r, t := v.Hosts[h], v.Timings
	device := v.Devices[h]
	switch {
	case device && (r.Guard == 0 || r.HandsOff):
		return t.Lease, fmt.Sprintf("the fence device of host %s alone: asked after %s without heartbeats, or %s without a renewal", h, t.Detection, t.Lease)
	case r.Guard == 0:
		return 0, fmt.Sprintf("host %s has no working watchdog and no fence device: if it is lost silently, nothing proves that the guest has stopped", h)
	case r.HandsOff:
		return 0, fmt.Sprintf("host %s has not armed its watchdog again after hands off", h)
	}
	w := v.wait(r.Guard)
	why := fmt.Sprintf("lease %s + reset %s + drift and margin %s", t.Lease, r.Guard, (w - t.Lease - r.Guard).Round(10*time.Millisecond))
	if device {
		why += fmt.Sprintf("; its fence device is asked after %s without heartbeats", t.Detection)
	}
	return w, why
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
	case v.restored() && v.unsettled() != "":
		return fmt.Sprintf("the store was restored: the word of host %s that it has nothing of the guest, or an operator's that it is off (`holdfast confirm-off %s`)", v.unsettled(), v.unsettled())
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
	if v.gaveUp() {
		return fmt.Sprintf("`holdfast start`: it was restarted %d times, and the configuration allows no more: %s", max(v.Owner.Failures, v.Owner.Restarts), v.Owner.Reason)
	}
	if o := v.Owner; o.Failures > 0 {
		return fmt.Sprintf("the next try in %s, after %d that failed: %s", (backoff(o.Failures) - v.Now.Sub(o.SeenAt)).Round(time.Second/10), o.Failures, o.Reason)
	}
	return "the coordinator gives it to a host"
}

func (v *View) waitingForProof(h cluster.HostID) string {
	r := v.Hosts[h]
	device := ""
	if f := v.Local.Fences[h]; f.Why != "" {
		device = "; its fence device did not confirm it off: " + f.Why
	} else if v.Devices[h] {
		device = "; its fence device is asked"
	}
	switch {
	case r.Guard == 0:
		return fmt.Sprintf("host %s is silent and has no working watchdog%s: bring it back, or see that it is off and say `holdfast confirm-off %s`", h, device, h)
	case r.HandsOff:
		return fmt.Sprintf("host %s is silent and had its hands off%s: bring it back, or see that it is off and say `holdfast confirm-off %s`", h, device, h)
	}
	return fmt.Sprintf("the deadline of silent host %s, in %s%s", h, max(0, v.wait(r.Guard)-v.silent(h)).Round(time.Second/10), device)
}
