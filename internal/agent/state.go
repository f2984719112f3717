package agent

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha"
	"holdfast/internal/store"
)

// state is owned by the loop.
type state struct {
	core     *ha.Machine
	cfg      config.Cluster // as last read from the store
	cfgMod   int64
	percent  int // of a migration, as its source says
	pctMod   int64
	seq      uint64
	storeErr error           // of the last thing tried, nil when it went well
	dogWhy   string          // why the watchdog does not work, "" when it does
	secure   bool            // guests' memory may travel by TLS to this host and from it
	trouble  string          // of this host, as Parts.Trouble told it last
	gen      uint64          // the store's restore generation; 0: none is written, which means 1
	panicked cluster.Instant // since when the guest is seen as panicked; 0: it is not
	devices  string          // what is wrong with the fence devices that this host looks after, "" for nothing
	ill      verdict         // of the health check
	storage  string          // why the shared storage does not work here, "" when it does
	hangs    bool            // it does not answer at all
	listed   bool            // all records have been read once
	seen     uint64          // the highest one that this host has seen
	watches  bool            // it decides nothing, see Watch
	lookedAt cluster.Instant // when all records were read last
	peers    map[cluster.HostID]netip.AddrPort
	rhythm   *Rhythm
}

// apply takes one record of the store in. It is given every change, in order,
// by the watch, and this agent's own writes as soon as they are answered: an
// older revision than the one held is ignored.
func (s *state) apply(kv store.KV, deleted bool, seen cluster.Instant) error {
	if k, ok := s.coreKey(kv.Key); ok {
		return s.applyCore(k, kv, deleted, seen)
	}
	// A record that can not be read leaves the one before in force, with its
	// revision: no write that rests on it can succeed.
	switch kv.Key {
	case progressKey(s.core.Resource):
		r, err := decode[int](kv, deleted)
		if kv.ModRev <= s.pctMod || err != nil {
			return err
		}
		s.percent, s.pctMod = r, kv.ModRev
	case keyConfig:
		r, err := decode[config.Cluster](kv, deleted)
		if kv.ModRev <= s.cfgMod || err != nil {
			return err
		}
		s.cfg, s.cfgMod = r, kv.ModRev
		s.configure()
	case keyGeneration:
		r, err := decode[uint64](kv, deleted)
		if err != nil {
			return err
		}
		s.gen = r
	case keyBeat:
		r, err := decode[[]byte](kv, deleted)
		if err != nil || s.rhythm == nil {
			return err
		}
		s.rhythm.key.Store(&r)
	}
	return nil
}

// coreKey tells which of the core's records a key is, if it is one.
func (s *state) coreKey(key string) (ha.Key, bool) {
	if h, ok := hostOf(key); ok {
		return ha.Key{Kind: ha.KindHost, Name: h}, true
	}
	switch key {
	case keyCoord:
		return ha.Key{Kind: ha.KindCoordinator}, true
	case ownerKey(s.core.Resource):
		return ha.Key{Kind: ha.KindOwner}, true
	case wantKey(s.core.Resource):
		return ha.Key{Kind: ha.KindWant}, true
	}
	return ha.Key{}, false
}

// applyCore hands a record to the core.
func (s *state) applyCore(k ha.Key, kv store.KV, deleted bool, seen cluster.Instant) error {
	r := ha.Record{Put: ha.Put{Key: k}, Mod: kv.ModRev, Deleted: deleted}
	var err error
	switch k.Kind {
	case ha.KindCoordinator:
		r.Coord, err = decode[cluster.Coordinator](kv, deleted)
	case ha.KindHost:
		r.Host, err = decodeTo[cluster.Host](kv, deleted)
	case ha.KindOwner:
		r.Owner, err = decodeTo[cluster.Owner](kv, deleted)
	case ha.KindWant:
		r.Want, err = decodeTo[cluster.Want](kv, deleted)
	}
	if err != nil {
		return err
	}
	s.core.Changed(r, seen)
	return nil
}

// configure takes the cluster's configuration over.
func (s *state) configure() {
	devices := map[cluster.HostID]bool{}
	for h, f := range s.cfg.Fencing.Hosts {
		devices[cluster.HostID(h)] = len(f.Devices) > 0
	}
	var order []cluster.HostID
	for _, n := range s.cfg.Nodes() {
		order = append(order, n.Host)
	}
	s.core.Configure(s.cfg.Timings(), s.cfg.Restart.Policy(), order, devices)
}

// snapshot is the core's state for those who explain it. It shares its maps: the
// loop alone looks at both.
// What an agent knows that only watches is of its last look.
func (s *state) snapshot(now cluster.Instant) ha.Machine {
	if s.watches {
		now = s.lookedAt
	}
	m := *s.core
	m.Now = now
	return m
}

// decode reads a record; a deleted one is the zero value.
func decode[T any](kv store.KV, deleted bool) (T, error) {
	var r T
	if deleted {
		return r, nil
	}
	b, err := unseal(kv.Value)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("record %s: %w", kv.Key, err)
	}
	return r, nil
}

// decodeTo is decode for a record that is handed on.
func decodeTo[T any](kv store.KV, deleted bool) (*T, error) {
	r, err := decode[T](kv, deleted)
	return &r, err
}
