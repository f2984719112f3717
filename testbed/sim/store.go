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
	rev  int64
	at   int64 // true time
	puts []ha.Put
}

// commit applies a batch and tells the watchers.
func (s *store) commit(puts []ha.Put) int64 {
	s.rev++
	b := batch{s.rev, s.world.now, puts}
	for _, p := range puts {
		if p.Kind == ha.KindOwner {
			s.world.checkOwner(s.owner, *p.Owner)
		}
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
	for _, p := range b.puts {
		switch p.Kind {
		case ha.KindCoordinator:
			s.coord = coordRow{p.Coord, b.rev}
		case ha.KindHost:
			s.hosts[p.Name] = hostRow{*p.Host, b.rev, b.at}
		case ha.KindOwner:
			s.owner = ownerRow{*p.Owner, b.rev}
		case ha.KindWant:
			s.want = wantRow{*p.Want, b.rev}
		}
	}
}

// records lists what the store holds.
func (s *store) records() []ha.Record {
	all := []ha.Record{
		{Put: ha.Put{Key: ha.Key{Kind: ha.KindCoordinator}, Coord: s.coord.Coordinator}, Mod: s.coord.mod},
		{Put: ha.Put{Key: ha.Key{Kind: ha.KindOwner}, Owner: &s.owner.Owner}, Mod: s.owner.mod},
		{Put: ha.Put{Key: ha.Key{Kind: ha.KindWant}, Want: &s.want.Want}, Mod: s.want.mod},
	}
	for name, r := range s.hosts {
		all = append(all, ha.Record{Put: ha.Put{Key: ha.Key{Kind: ha.KindHost, Name: name}, Host: &r.Host}, Mod: r.mod})
	}
	return all
}

// mod is the revision of a record's last change; 0: it does not exist.
func (s *store) mod(k ha.Key) int64 {
	switch k.Kind {
	case ha.KindCoordinator:
		return s.coord.mod
	case ha.KindHost:
		return s.hosts[k.Name].mod
	case ha.KindOwner:
		return s.owner.mod
	}
	return s.want.mod
}

// txn is a transaction: all conditions, then all changes. It returns the new
// revision, 0 when a record is not the one expected, tooLarge when it is refused.
func (s *store) txn(t ha.Txn) int64 {
	if textOf(t) > maxTxn {
		return tooLarge
	}
	for _, c := range t.If {
		if s.mod(c.Key) != c.Mod {
			return 0
		}
	}
	if t.Term != 0 && t.Term != s.coord.mod {
		s.world.violate("old-term", "a transaction of term %d was done in term %d", t.Term, s.coord.mod)
	}
	if t.For == ha.WorkRenew {
		s.world.checkRegister(*t.Put[0].Host)
	}
	rev := s.rev
	if len(t.Put) > 0 {
		rev = s.commit(t.Put)
	}
	s.world.record(t.Event)
	return rev
}

// request changes the want record for an operator; lost without a quorum.
func (s *store) request(change func(*cluster.Want), ev cluster.Event) {
	if !s.world.hasQuorum() {
		return
	}
	w := s.want.Want
	change(&w)
	s.commit([]ha.Put{{Key: ha.Key{Kind: ha.KindWant}, Want: &w}})
	s.world.record(ev)
}
