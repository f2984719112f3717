package service

import (
	"context"
	"slices"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/clock"
)

// Times of the question who votes in the store.
const (
	membersEvery = 5 * time.Second
	membersFor   = 30 * time.Second // that an answer is good
)

// members are the hosts with a vote in the store, by the store's own word. Records of
// hosts do not tell: that of a host which is gone for good stays as it was.
type members struct {
	mu   sync.Mutex
	all  []cluster.HostID
	till time.Time // monotonic
}

// now returns them; none when they are not known.
func (m *members) now() []cluster.HostID {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Now().After(m.till) {
		return nil
	}
	return slices.Clone(m.all)
}

func (m *members) set(all []cluster.HostID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all, m.till = all, time.Now().Add(membersFor)
}

// mark says of hosts that they have a vote. One that reports nothing counts as away.
func (m *members) mark(hosts map[cluster.HostID]job.HostState) map[cluster.HostID]job.HostState {
	for _, h := range m.now() {
		x := hosts[h]
		x.Member = true
		hosts[h] = x
	}
	return hosts
}

// markIn says so of the hosts of an inventory.
func (m *members) markIn(inv *inventory.Inventory) {
	all := m.now()
	for i := range inv.Hosts {
		if h := &inv.Hosts[i]; len(all) > 0 {
			h.Member = slices.Contains(all, h.Name)
		}
	}
}

// followMembers asks the store who votes while this host leads an upgrade, until ctx
// ends.
func (s *Service) followMembers(ctx context.Context) {
	for ctx.Err() == nil {
		if _, _, leads := s.Cluster.Coordinator(); leads && s.upgrading(ctx) {
			if err := s.askMembers(ctx); err != nil && ctx.Err() == nil {
				s.Log.Debug("the members of the store are not known just now", "err", err)
			}
		}
		clock.Sleep(ctx, membersEvery)
	}
}

// upgrading reports whether an upgrade is under way. In doubt it is.
func (s *Service) upgrading(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, stateRead)
	defer cancel()
	j, _, err := engine.Current(ctx, s.Store, job.Upgrade)
	return err != nil || j.ID != "" && j.State != job.Ended
}

// askMembers asks the store who votes now.
func (s *Service) askMembers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quorumWithin)
	defer cancel()
	st, err := s.Cluster.StoreStatus(ctx)
	if err != nil {
		return err
	}
	var all []cluster.HostID
	for _, m := range st.Members {
		if !m.Learner && m.Name != "" { // one that has never started has no name, and no vote that counts
			all = append(all, cluster.HostID(m.Name))
		}
	}
	s.members.set(all)
	return nil
}
