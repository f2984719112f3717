package loop

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha"
	"holdfast/internal/ha/records"
	"holdfast/internal/store"
)

// state is owned by the loop.
type state struct {
	core        *ha.Machine
	cfg         config.Cluster // as last read from the store
	cfgMod      int64
	booted      bootRecord
	bootMod     int64
	pending     []string // fields of cfg that the running guest does not have yet
	percent     int      // of a migration, as its source says
	pctMod      int64
	seq         uint64
	storeErr    error           // of the last thing tried, nil when it went well
	unable      error           // why the guest could not be started here at the last check, nil when it could
	failed      failures        // starts on this host
	failedOn    failedOn        // and on all
	dogWhy      string          // why the watchdog does not work, "" when it does
	secure      bool            // guests' memory may travel by TLS to this host and from it
	trouble     string          // of this host, as Parts.Trouble told it last
	gen         uint64          // the store's restore generation; 0: none is written, which means 1
	panicked    cluster.Instant // since when the guest is seen as panicked; 0: it is not
	ill         verdict         // of the health check
	storage     string          // why the shared storage does not work here, "" when it does
	hangs       bool            // it does not answer at all
	listed      bool            // all records have been read once
	left        bool            // this host's identity is one of a member that was replaced
	outside     string          // why this host is no member any more, "" when it is one
	toldOutside string          // outside, as it was logged last
	compared    bool            // the file on this host has been compared with the configuration in force
	seen        uint64          // the highest one that this host has seen
	older       uint64          // one below it whose store was read and not followed; 0: none
	crowded     string          // what the store's members say of their room, see Crowded
	watches     bool            // it decides nothing, see Watch
	lookedAt    cluster.Instant // when all records were read last, or the watch told of a change
	renewed     map[cluster.HostID]renewal
	lateSince   cluster.Instant // what the watch tells before lateUntil was written after that
	lateUntil   cluster.Instant
	peers       map[cluster.HostID]netip.AddrPort
	rhythm      *Rhythm

	looked cluster.FenceCheck // at the fence devices that this host looks after
}

// renewal is the last one of a host, as this agent learnt of it. The host's record may have been changed since by another one.
type renewal struct {
	boot  string
	seq   uint64
	at    cluster.Instant // when it was seen
	after cluster.Instant // it was written after that; 0: at any time, its host may have died long ago
}

// renewals takes those in that were seen at a moment. A record that is read from a list, or told by a watch that had stood still,
// was written some time after all were known before.
func (s *state) renewals(seen, after cluster.Instant) {
	for h, r := range s.core.Hosts {
		if last := s.renewed[h]; r.SeenAt == seen && (last.boot != r.Boot || last.seq != r.Seq) {
			s.renewed[h] = renewal{r.Boot, r.Seq, seen, after}
		}
	}
}

// renewal is the last one of a host. This agent's own are not told by the watch.
func (s *state) renewal(h cluster.HostID) renewal {
	r := s.core.Hosts[h]
	if last := s.renewed[h]; last.boot == r.Boot && last.seq == r.Seq {
		return last
	}
	return renewal{r.Boot, r.Seq, r.SeenAt, r.SeenAt}
}

// heard is a snapshot for those who promise something of other hosts: a renewal counts from the moment at which it was certainly
// not written yet. A deadline must not be told by it, as that counts from when it was seen.
func (s *state) heard(m ha.Machine) ha.Machine {
	m.Hosts = maps.Clone(m.Hosts)
	for h, r := range m.Hosts {
		switch last := s.renewal(h); {
		case last.after == 0:
			r.SeenAt = m.Now.Add(-m.Timings.Lease)
		case s.watches: // its looks may be farther apart than a lease is long
			r.SeenAt = last.at
		default:
			r.SeenAt = last.after
		}
		m.Hosts[h] = r
	}
	return m
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
	case records.ProgressKey(s.core.Resource):
		r, err := records.Decode[int](kv, deleted)
		if kv.ModRev <= s.pctMod || err != nil {
			return err
		}
		s.percent, s.pctMod = r, kv.ModRev
	case records.KeyConfig:
		r, err := records.Decode[config.Cluster](kv, deleted)
		if kv.ModRev <= s.cfgMod || err != nil {
			return err
		}
		s.cfg, s.cfgMod = r, kv.ModRev
		s.configure()
		s.belong()
		s.findPending()
	case records.BootedKey(s.core.Resource):
		r, err := records.Decode[bootRecord](kv, deleted)
		if kv.ModRev <= s.bootMod || err != nil {
			return err
		}
		s.booted, s.bootMod = r, kv.ModRev
		s.findPending()
	case records.LeftKey(s.core.ThisHost.Identity):
		s.left = !deleted
		s.belong()
	case records.KeyGeneration:
		r, err := records.Decode[uint64](kv, deleted)
		if err != nil {
			return err
		}
		s.gen = r
	case records.KeyBeat:
		r, err := records.Decode[[]byte](kv, deleted)
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
	case records.KeyCoord:
		return ha.Key{Kind: ha.KindCoordinator}, true
	case records.OwnerKey(s.core.Resource):
		return ha.Key{Kind: ha.KindOwner}, true
	case records.WantKey(s.core.Resource):
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
		r.Coord, err = records.Decode[cluster.Coordinator](kv, deleted)
	case ha.KindHost:
		r.Host, err = records.DecodeTo[cluster.Host](kv, deleted)
	case ha.KindOwner:
		r.Owner, err = records.DecodeTo[cluster.Owner](kv, deleted)
	case ha.KindWant:
		r.Want, err = records.DecodeTo[cluster.Want](kv, deleted)
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

// belong finds out whether this host is still a member: another one may have taken its
// place while it was away, under its own name, too. What is in force is in the store.
func (s *state) belong() {
	if s.watches || s.cfgMod == 0 {
		return
	}
	s.outside = ""
	addr, there := s.cfg.Member(s.core.Self)
	switch {
	case !there:
		s.outside = fmt.Sprintf("%s is no member of this cluster any more: another host has taken its place (Node "+
			"has %s). It holds nothing and starts nothing", s.core.Self, strings.Join(s.cfg.Node, ", "))
	case s.left:
		s.outside = fmt.Sprintf("this machine is no member of this cluster any more: another one, at %s, is %s now. "+
			"It holds nothing and starts nothing", addr, s.core.Self)
	}
	s.core.Leave(s.outside != "")
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

// key is where a record of the core is.
func (a *Agent) key(k ha.Key) string {
	switch k.Kind {
	case ha.KindCoordinator:
		return records.KeyCoord
	case ha.KindHost:
		return records.HostKey(k.Name)
	case ha.KindOwner:
		return records.OwnerKey(a.s.core.Resource)
	}
	return records.WantKey(a.s.core.Resource)
}

// value is what a record of the core holds, with the writer's wall clock, which the core takes over with the record.
func (a *Agent) value(p ha.Put) any {
	switch p.Kind {
	case ha.KindCoordinator:
		return p.Coord
	case ha.KindHost:
		return p.Host
	case ha.KindOwner:
		p.Owner.Time = time.Now().UTC()
		return *p.Owner
	}
	return p.Want
}

// hostOf returns the host that a key under state/hosts/ is about.
func hostOf(key string) (cluster.HostID, bool) {
	h, ok := strings.CutPrefix(key, records.KeyHosts)
	return cluster.HostID(h), ok
}

// stamp completes an event.
func stamp(e cluster.Event, now time.Time) cluster.Event {
	e.Time = now.UTC()
	return e
}
