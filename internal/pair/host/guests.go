package host

import (
	"context"
	"fmt"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/loop"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/lib/network"
)

// votersOnly is the group of hosts (inventory.Host.Group) that a pair's group can not come to.
const votersOnly = "voters"

// Guests are what this host runs of the pair, for jobs that empty hosts: the group, which the
// cluster moves by a planned switch. What is not known is an error: the host may not be taken for empty.
func (p *Part) Guests(ctx context.Context) ([]guests.VM, error) {
	if p.driver == nil {
		return nil, nil
	}
	g, err := p.driver.Observe(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the pair's group: %w", err)
	}
	if g.State == cluster.GuestAbsent {
		return nil, nil
	}
	return []guests.VM{{Name: cluster.GroupName, UUID: loop.GuestUUID(p.Node.Cluster), State: guests.VMRunning, Protected: true}}, nil
}

// Addresses are the virtual ones of the group.
func (p *Part) Addresses() (out []string) {
	for _, m := range p.cfg.Group {
		if m.VIP == "" {
			continue
		}
		if a, err := network.ParseVIP(m.VIP); err == nil { // the configuration's check has read it
			out = append(out, a.Prefix.Addr().String())
		}
	}
	return out
}

// HostGroup is the group of hosts among which this one's guests move.
func (p *Part) HostGroup() string {
	if p.driver == nil {
		return votersOnly
	}
	return ""
}
