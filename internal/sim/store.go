package sim

import (
	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// store is the linearizable store: records with the revision of their last
// change, and the log that watches read.
type store struct {
	world *World
	rev   int64
	gen   uint64 // the restore generation, as it is written in the store

	// restores counts how often a backup was restored; base is what the store held
	// after the last one, and log what was written since.
	restores int
	base     *store
	coord    coordRow
	hosts    map[cluster.HostID]hostRow
	owner    ownerRow
	want     wantRow
	log      []batch
}

type coordRow struct {
	cluster.Coordinator
	mod int64
}

type hostRow struct {
	cluster.Host
	mod int64
	at  int64 // true time of the change
}

type ownerRow struct {
	cluster.Owner
	mod int64
}

type wantRow struct {
	cluster.Want
	mod int64
}

// batch is what one transaction changed.
type batch struct {
	rev   int64
	at    int64 // true time
	coord *cluster.Coordinator
	hosts []cluster.Host
	owner *cluster.Owner
	want  *cluster.Want
}

// commit applies a batch and tells the watchers.
func (s *store) commit(b batch) int64 {
	s.rev++
	b.rev, b.at = s.rev, s.world.now
	if b.owner != nil {
		s.world.checkOwner(s.owner, *b.owner)
	}
	s.take(b)
	s.log = append(s.log, b)
	for _, h := range s.world.hosts {
		h.agent.pump()
	}
	return b.rev
}

// take changes the records.
func (s *store) take(b batch) {
	s.rev = b.rev
	if b.coord != nil {
		s.coord = coordRow{*b.coord, b.rev}
	}
	for _, h := range b.hosts {
		s.hosts[h.Name] = hostRow{h, b.rev, b.at}
	}
	if b.owner != nil {
		s.owner = ownerRow{*b.owner, b.rev}
	}
	if b.want != nil {
		s.want = wantRow{*b.want, b.rev}
	}
}

// renew is the transaction of ha.Renew. It returns the new revision, 0 when the
// record is not the one expected.
func (s *store) renew(r ha.Renew) int64 {
	if s.hosts[r.Record.Name].mod != r.Mod {
		return 0
	}
	s.world.checkRegister(r.Record)
	return s.commit(batch{hosts: []cluster.Host{r.Record}})
}

func (s *store) elect(by cluster.HostID, e ha.Elect) int64 {
	if s.coord.mod != e.Mod {
		return 0
	}
	rev := s.commit(batch{coord: &cluster.Coordinator{Host: by}})
	s.world.record(e.Event)
	return rev
}

// write is the transaction of ha.Write: all conditions, then all changes. term
// is the term in which the write was decided, for the check of a planted bug
// that leaves the comparison out.
func (s *store) write(w ha.Write, term int64) int64 {
	if s.owner.mod != w.OwnerMod ||
		w.Term != 0 && (s.coord.mod != w.Term || s.want.mod != w.WantMod) {
		return 0
	}
	for _, h := range s.world.order {
		if mod, compared := w.HostMods[h]; compared && s.hosts[h].mod != mod {
			return 0
		}
	}
	if term != 0 && term != s.coord.mod {
		s.world.violate("old-term", "a write of term %d was applied in term %d", term, s.coord.mod)
	}
	rev := s.commit(batch{owner: w.Owner, want: w.Want, hosts: w.Expel})
	s.world.record(w.Event)
	return rev
}

// request changes the want record for an operator; lost without a quorum.
func (s *store) request(change func(*cluster.Want), ev cluster.Event) {
	if !s.world.hasQuorum() {
		return
	}
	w := s.want.Want
	change(&w)
	s.commit(batch{want: &w})
	s.world.record(ev)
}
