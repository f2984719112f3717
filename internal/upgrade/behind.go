package upgrade

import (
	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/inventory"
)

// commitArgs says at a commit of p which hosts have the new version, and which have not: those
// that were dropped, lost, or left half-way, and those that no run has looked at.
func (b *builder) commitArgs(p *Plan) CommitArgs {
	out := CommitArgs{From: b.plan.From, To: b.plan.To, Behind: map[cluster.HostID]BehindHost{}}
	for _, h := range b.part {
		out.Done = append(out.Done, h.Name)
	}
	behind := func(h cluster.HostID) {
		s := b.plan.Begin.Hosts[h]
		x := &inventory.Host{Name: h}
		if b.hosts[h] != nil {
			x = b.hosts[h]
		}
		out.Behind[h] = BehindHost{Version: b.versionOf(x), Halfway: s == HostRollup || s == HostRolldown}
	}
	known := map[cluster.HostID]bool{}
	for _, h := range out.Done {
		known[h] = true
	}
	for _, l := range b.plan.Left {
		known[l.Name] = true
		if c := l.WhyCode; !c.Is(reason.HasVersion) && !c.Is(reason.NoModule) {
			behind(l.Name)
		}
	}
	for h := range b.hosts { // it has come since
		if !known[h] {
			behind(h)
		}
	}
	return out
}

// from is the version from which a plan leads: that of its hosts, if they have one.
func (b *builder) from() string {
	out := ""
	for i, h := range b.part {
		if v := b.versionOf(h); i == 0 {
			out = v
		} else if v != out {
			return b.plan.From
		}
	}
	if out == "" {
		return b.plan.From
	}
	return out
}
