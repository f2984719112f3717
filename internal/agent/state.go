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
	view     ha.View
	cfg      config.Cluster // as last read from the store
	cfgMod   int64
	percent  int // of a migration, as its source says
	pctMod   int64
	seq      uint64
	storeErr error           // of the last thing tried, nil when it went well
	dogAt    cluster.Instant // when the last order to the watchdog ended
	dogWhy   string          // why the watchdog does not work, "" when it does
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
	v := &s.view
	if h, ok := hostOf(kv.Key); ok {
		return s.applyHost(h, kv, deleted, seen)
	}
	// A record that can not be read leaves the one before in force, with its
	// revision: no write that rests on it can succeed.
	switch kv.Key {
	case keyCoord:
		r, err := decode[ha.CoordRec](kv, deleted)
		if kv.ModRev <= v.Coord.Mod || err != nil {
			return err
		}
		r.Mod, r.SeenAt = present(kv, deleted), seen
		v.Coord = r
	case ownerKey(v.Resource):
		r, err := decode[ha.OwnerRec](kv, deleted)
		if kv.ModRev <= v.Owner.Mod || err != nil {
			return err
		}
		r.Mod, r.SeenAt = present(kv, deleted), seen
		v.Owner, v.Local.Shut = r, 0
	case wantKey(v.Resource):
		r, err := decode[ha.WantRec](kv, deleted)
		if kv.ModRev <= v.Want.Mod || err != nil {
			return err
		}
		r.Mod = present(kv, deleted)
		v.Want = r
	case progressKey(v.Resource):
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

func (s *state) applyHost(h cluster.HostID, kv store.KV, deleted bool, seen cluster.Instant) error {
	v := &s.view
	if kv.ModRev <= v.Hosts[h].Mod {
		return nil
	}
	if deleted {
		delete(v.Hosts, h)
		return nil
	}
	r, err := decode[ha.HostRec](kv, false)
	r.Mod, r.SeenAt = kv.ModRev, seen
	if err == nil {
		v.Hosts[h] = r
	}
	return err
}

// configure takes the cluster's configuration over.
func (s *state) configure() {
	v := &s.view
	v.Timings, v.Restart = s.cfg.Timings(), s.cfg.Restart.Policy()
	v.Devices = map[cluster.HostID]bool{}
	for h, f := range s.cfg.Fencing.Hosts {
		v.Devices[cluster.HostID(h)] = len(f.Devices) > 0
	}
	v.Order = nil
	for _, n := range s.cfg.Nodes() {
		v.Order = append(v.Order, n.Host)
	}
}

// snapshot is the view for one decision. It shares its maps with the state: the
// loop alone looks at both.
// What an agent knows that only watches is of its last look.
func (s *state) snapshot(now cluster.Instant) ha.View {
	if s.watches {
		now = s.lookedAt
	}
	v := s.view
	v.Now = now
	return v
}

func present(kv store.KV, deleted bool) int64 {
	if deleted {
		return 0
	}
	return kv.ModRev
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
