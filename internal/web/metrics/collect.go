package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
)

// mostMembers bounds the hosts with series of their own.
const mostMembers = 15

// collected is one scrape.
type collected struct {
	out chan<- prometheus.Metric
	now time.Time
}

func (c *collected) one(g *gauge, v float64, labels ...string) {
	c.out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v, labels...)
}

func (c *collected) yes(g *gauge, is bool, labels ...string) {
	v := 0.0
	if is {
		v = 1
	}
	c.one(g, v, labels...)
}

// at sends a time; one that is not set is not known.
func (c *collected) at(g *gauge, t time.Time, labels ...string) {
	if !t.IsZero() {
		c.one(g, float64(t.UnixNano())/float64(time.Second), labels...)
	}
}

// states are those of an owner record.
var states = []cluster.OwnerState{cluster.Assigned, cluster.Running, cluster.Migrating, cluster.Settling, cluster.Stopping,
	cluster.Released}

// ofStatus tells a status. Before the first record of the store nothing is known of the cluster.
func (c *collected) ofStatus(s cluster.Status) {
	c.yes(connected, s.Connected)
	if told.Unread(s) {
		return
	}
	switch {
	case s.Connected:
		c.one(statusAge, max(0, c.now.Sub(s.Time).Seconds()))
		c.yes(elected, s.Coordinator != "")
	case !s.AsOf.IsZero():
		c.one(statusAge, max(0, c.now.Sub(s.AsOf).Seconds()))
	}
	c.yes(suspended, s.Want.HandsOff)
	c.yes(wanted, s.Want.Run)
	c.ofResource(s)
	c.ofTakeover(s)
	c.ofMembers(s)
	if f := s.FenceCheck; f.Host != "" {
		c.yes(fenceOK, f.Error == "", string(f.Host))
		c.at(fenceAt, f.Time, string(f.Host))
	}
}

func (c *collected) ofResource(s cluster.Status) {
	holder := told.HostOf(s, s.Owner.Holder())
	if s.Connected {
		c.yes(up, holder.Alive && holder.Guest == cluster.GuestRunning)
	}
	if holder.Alive {
		c.yes(unhealthy, holder.Unhealthy != "")
	}
	for _, x := range states {
		c.yes(state, s.Owner.State == x, string(x))
	}
	c.at(since, s.Owner.Time)
}

func (c *collected) ofTakeover(s cluster.Status) {
	t := s.Takeover
	c.yes(possible, t.Possible)
	if t.Possible && t.Within > 0 {
		c.one(within, t.Within.Seconds())
	}
	if s.Connected && s.Owner.Holder() != "" {
		c.yes(byProof, t.ByDeadline, string(cluster.ProofDeadline))
		c.yes(byProof, t.ByFence, string(cluster.ProofFenced))
	}
}

// memberHosts are the members that have registered, by name.
func memberHosts(s cluster.Status) []cluster.HostStatus {
	hosts := told.Hosts(s)
	if len(s.Members) > 0 {
		hosts = slices.DeleteFunc(hosts, func(h cluster.HostStatus) bool { return !slices.Contains(s.Members, h.Name) })
	}
	return hosts[:min(len(hosts), mostMembers)]
}

func (c *collected) ofMembers(s cluster.Status) {
	hosts := memberHosts(s)
	votes, elsewhere := 0, false
	for _, h := range hosts {
		c.ofMember(s, h)
		elsewhere = elsewhere || h.Vote == cluster.NoMember
		if h.Alive && (h.Vote == "" || h.Vote == cluster.Votes) { // as the core counts them
			votes++
		}
	}
	n := max(len(s.Members), len(hosts))
	c.one(members, float64(n))
	if elsewhere {
		return
	}
	if need := n/2 + 1; need < n {
		c.one(quorum, float64(need))
	}
	if s.Connected {
		c.one(voting, float64(votes))
	}
}

func (c *collected) ofMember(s cluster.Status, h cluster.HostStatus) {
	name, now := string(h.Name), told.HostState(s, h)
	if now != told.Unknown {
		c.yes(hostUp, now == told.Active, name)
	}
	c.one(renewalAge, h.Silent.Seconds(), name)
	c.yes(onHost, s.Owner.Holder() == h.Name, name)
	c.yes(coordinator, h.Coordinator, name)
	c.yes(maintenance, told.InMaintenance(s, h.Name), name)
	c.yes(fenced, !h.Expelled.IsZero(), name)
	if now != told.Active && now != told.Cut {
		return
	}
	c.yes(able, h.Fit && now == told.Active && !told.InMaintenance(s, h.Name), name)
	c.yes(armed, h.Guard > 0 && !h.HandsOff, name)
	if h.Guard > 0 && !h.HandsOff {
		c.one(guard, h.Guard.Seconds(), name)
	}
	if now == told.Active && h.Vote != "" && h.Vote != cluster.NoMember {
		c.yes(vote, h.Vote == cluster.Votes, name)
	}
}

// two is a pair of labels.
type two [2]string

// ofJobs tells jobs, newest first.
func (c *collected) ofJobs(all []job.View) {
	byState, byStep, kinds := map[two]int{}, map[two]int{}, map[string]bool{}
	for _, j := range all {
		now := j.State
		if now == string(job.Ended) {
			now = j.Result
		}
		byState[two{j.Kind, now}]++
		if !kinds[j.Kind] {
			kinds[j.Kind] = true
			c.at(jobChanged, j.Changed, j.Kind)
			c.yes(jobFailed, now == string(job.Failed), j.Kind)
		}
		for _, s := range j.Steps {
			byStep[two{j.Kind, s.State}]++
		}
	}
	for l, n := range byState {
		c.one(jobs, float64(n), l[:]...)
	}
	for l, n := range byStep {
		c.one(steps, float64(n), l[:]...)
	}
}

// ofHosts tells what hosts report. s says which are members.
func (c *collected) ofHosts(all []inventory.Summary, s cluster.Status) {
	count, run, trouble := map[string]int{}, 0, 0
	first := map[string]time.Time{}
	for _, h := range all {
		run += h.Guests
		member := slices.Contains(s.Members, h.Name)
		if !member {
			count[stateOf(h)]++
		}
		for _, x := range h.Certificates {
			if now := x.At(c.now).State; now == inventory.CertSoon || now == inventory.CertExpired || x.Problem != "" {
				trouble++
			}
			if member {
				c.at(expiry, x.Ends, string(h.Name), x.Which)
			} else if at, is := first[x.Which]; !is || x.Ends.Before(at) {
				first[x.Which] = x.Ends
			}
		}
	}
	for _, state := range []string{"up", "silent", "trouble"} {
		c.one(guestHosts, float64(count[state]), state)
	}
	c.one(guests, float64(run))
	c.one(certTrouble, float64(trouble))
	for which, at := range first {
		c.at(expiryAll, at, which)
	}
}

func stateOf(h inventory.Summary) string {
	switch {
	case !h.Up:
		return "silent"
	case h.Problem != "":
		return "trouble"
	}
	return "up"
}

// ofTokens tells when the first token ends that has not ended.
func (c *collected) ofTokens(all []cluster.Token) {
	var first time.Time
	for _, t := range all {
		if t.Expires.After(c.now) && (first.IsZero() || t.Expires.Before(first)) {
			first = t.Expires
		}
	}
	c.at(tokenExpiry, first)
}
