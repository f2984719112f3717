package heartbeat

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"holdfast/internal/cluster"
)

const (
	// pulseLimit is the age of a pulse from which on this host is silent.
	pulseLimit = time.Second
	// remembered is how many replaced instances of a peer are known.
	remembered = 8
	// stallNum / stallDen intervals without a turn of its own are a stall.
	stallNum, stallDen = 5, 2
)

// table is all that is known of the peers, and the rules about it. It does no
// I/O and reads no clock: each method gets the present instant. It is not safe
// for concurrent use.
//
// Every method but start, stop and limit begins with enter, so whatever runs
// first after a stall of this process notices it before it looks at anything.
type table struct {
	self      cluster.HostID
	id        uint64
	instance  uint64 // of this process, never 0
	seq       uint64 // of the last datagram sent
	interval  time.Duration
	listening bool
	latest    cluster.Instant // the latest instant that was passed
	turned    cluster.Instant // of the last turn, or the end of the last stall
	pulsed    bool
	pulse     cluster.Instant // of the last pulse
	stalls    uint64
	stalled   time.Duration // length of the last stall
	second    Second
	paths     [2]trail // to the peer of second

	peers []*peer // ascending by id
	byID  map[uint64]*peer
}

// trail is what has come from one peer over one path.
type trail struct {
	instance, seq uint64          // of the last datagram that was not older than the one before
	at            cluster.Instant // when, or when listening to it began
}

// peer is what is known of another member.
type peer struct {
	name  cluster.HostID
	id    uint64
	addr  netip.AddrPort  // not valid: nothing is sent to it
	heard cluster.Instant // or when listening to it began

	instance, seq uint64 // of the last datagram taken; 0: none yet
	echoed        uint64 // highest sequence number of this process that it has echoed, or the one when it was added
	replaced      [remembered]uint64
	oldest        int // index into replaced

	told bool            // it has sent a word since listening began
	word cluster.Instant // when its last word came
	said []seen
}

// seen is a sighting by a peer, in instants of this host.
type seen struct {
	host uint64
	at   cluster.Instant
}

func newTable(self cluster.HostID, instance uint64, interval time.Duration) *table {
	return &table{self: self, id: hostKey(self), instance: instance, interval: interval, byID: map[uint64]*peer{}}
}

// start says that from now on somebody reads the socket and turns.
func (t *table) start(now cluster.Instant) {
	t.listening = true
	t.latest = max(t.latest, now)
	t.turned = t.latest
	t.forget(t.latest)
}

// stop says that nobody reads any more.
func (t *table) stop() { t.listening = false }

// limit is the time between two turns beyond which this process stood still.
func (t *table) limit() time.Duration { return t.interval * stallNum / stallDen }

// enter returns the present, which is never before what was known. If this
// process stood still it has not been listening: silence proves nothing about
// the peers, and their words are of the past.
func (t *table) enter(now cluster.Instant) cluster.Instant {
	now = max(now, t.latest)
	t.latest = now
	gap := now.Sub(t.turned)
	switch {
	case !t.listening:
		t.forget(now)
	case gap > t.limit():
		t.stalls++
		t.stalled = gap
		t.turned = now
		t.forget(now)
	}
	return now
}

func (t *table) forget(now cluster.Instant) {
	for _, p := range t.peers {
		p.heard = now
		p.told = false
	}
	for i := range t.paths {
		t.paths[i].at = now
	}
}

// setPeers replaces the peers. Those that stay keep what is known of them. At
// most maxEntries are followed, the first by name, so that all hosts leave out
// the same ones; it returns how many were left out.
func (t *table) setPeers(now cluster.Instant, addrs map[cluster.HostID]netip.AddrPort) (left int) {
	now = t.enter(now)
	names := make([]cluster.HostID, 0, len(addrs))
	for name := range addrs {
		if name != t.self {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) > maxEntries {
		left = len(names) - maxEntries
		names = names[:maxEntries]
	}
	old := t.byID
	if _, there := old[hostKey(t.second.Peer)]; !there {
		for i := range t.paths {
			t.paths[i].at = now
		}
	}
	t.byID = make(map[uint64]*peer, len(names))
	t.peers = make([]*peer, 0, len(names))
	for _, name := range names {
		id := hostKey(name)
		p := old[id]
		if p == nil {
			p = &peer{name: name, id: id, heard: now, echoed: t.seq}
		}
		a := addrs[name]
		p.addr = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		t.byID[id] = p
		t.peers = append(t.peers, p)
	}
	slices.SortFunc(t.peers, func(a, b *peer) int { return cmp.Compare(a.id, b.id) })
	return left
}

// beat notes a turn of the agent's main loop.
func (t *table) beat(now cluster.Instant) {
	t.pulse = t.enter(now)
	t.pulsed = true
}

// target is where a datagram goes, and what is different in each.
type target struct {
	addr   netip.AddrPort
	second netip.AddrPort // over the second path; not valid: there is none to it
	id     uint64
	echo   echo
}

// turn notes that this process's ticker has fired; the next time it will in
// next. It writes the next datagram into m and appends those that get it to
// targets; none when the agent's main loop has not turned lately.
func (t *table) turn(now cluster.Instant, next time.Duration, m *message, targets []target) []target {
	now = t.enter(now)
	t.turned = now
	t.interval = next
	if !t.pulsed || now.Sub(t.pulse) >= pulseLimit {
		return targets
	}
	t.seq++
	m.from, m.instance, m.seq = t.id, t.instance, t.seq
	m.sightings = m.sightings[:0]
	for _, p := range t.peers {
		// Cut to milliseconds, an age is never told too high.
		age := min(now.Sub(p.heard), maxAge).Truncate(time.Millisecond)
		m.sightings = append(m.sightings, sighting{p.id, age})
		if p.addr.IsValid() && p.addr.Port() != 0 {
			to := target{addr: p.addr, id: p.id, echo: echo{p.instance, p.seq}}
			if p.name == t.second.Peer {
				to.second = netip.AddrPortFrom(t.second.There, p.addr.Port())
			}
			targets = append(targets, to)
		}
	}
	return targets
}

// receive takes an authentic message in, or says why not.
func (t *table) receive(now cluster.Instant, m *message) Reason {
	now = t.enter(now)
	p := t.byID[m.from]
	switch {
	case m.to != t.id:
		return Misdirected
	case p == nil:
		return Stranger
	}
	if why := p.admit(m, t.fresh(p, m)); why != accepted {
		return why
	}
	p.heard, p.told, p.word = now, true, now
	p.said = p.said[:0]
	for _, s := range m.sightings {
		p.said = append(p.said, seen{s.host, now.Add(-s.age)})
	}
	return accepted
}

// came notes that an authentic message came over a path; why is what receive said of it.
// One that was known counts, as it came over the other path before, but not twice over
// the same one.
func (t *table) came(now cluster.Instant, m *message, path int, why Reason) {
	if why != accepted && why != Replayed || m.from != hostKey(t.second.Peer) {
		return
	}
	if at := &t.paths[path]; m.instance != at.instance || m.seq > at.seq {
		*at = trail{m.instance, m.seq, max(now, t.latest)}
	}
}

// silences are for how long nothing came from the peer of second over each path.
func (t *table) silences(now cluster.Instant) (first, second time.Duration, ok bool) {
	now = t.enter(now)
	_, there := t.byID[hostKey(t.second.Peer)]
	return now.Sub(t.paths[0].at), now.Sub(t.paths[1].at), there && t.listening
}

// fresh reports whether m answers a datagram of this process that none of the
// peer's before did. Then m was made after all those, whatever its instance.
func (t *table) fresh(p *peer, m *message) bool {
	return m.echo.instance == t.instance && m.echo.seq > p.echoed && m.echo.seq <= t.seq
}

// admit decides whether m is newer than what the peer has sent before.
//
// An instance that was never seen is a new process of the peer. One that was
// replaced stays out, unless it shows by a fresh echo that it lives: else one
// captured datagram of an instance that this process has never seen or has
// forgotten, sent again, would lock the living one out.
func (p *peer) admit(m *message, fresh bool) Reason {
	if m.instance == p.instance {
		if m.seq <= p.seq {
			return Replayed
		}
	} else {
		i := slices.Index(p.replaced[:], m.instance)
		if i >= 0 && !fresh {
			return Replaced
		}
		p.replace(m.instance, i)
	}
	p.seq = m.seq
	if fresh {
		p.echoed = m.echo.seq
	}
	return accepted
}

// replace makes instance the peer's present one. i is its place among the
// replaced ones, or negative.
func (p *peer) replace(instance uint64, i int) {
	switch {
	case p.instance == 0: // the first one
	case i >= 0:
		p.replaced[i] = p.instance
	default:
		p.replaced[p.oldest] = p.instance
		p.oldest = (p.oldest + 1) % remembered
	}
	p.instance = instance
}

// words is what is heard: this host's own view, dated now, and the last word of
// each peer since listening to it began. The maps are the caller's.
func (t *table) words(now cluster.Instant) map[cluster.HostID]cluster.HeartbeatReport {
	now = t.enter(now)
	out := make(map[cluster.HostID]cluster.HeartbeatReport, len(t.peers)+1)
	own := make(map[cluster.HostID]cluster.Instant, len(t.peers))
	for _, p := range t.peers {
		own[p.name] = p.heard
		if !p.told {
			continue
		}
		heard := make(map[cluster.HostID]cluster.Instant, len(p.said))
		for _, s := range p.said {
			if s.host == t.id {
				heard[t.self] = s.at
			} else if q := t.byID[s.host]; q != nil {
				heard[q.name] = s.at
			}
		}
		out[p.name] = cluster.HeartbeatReport{At: p.word, Heard: heard}
	}
	out[t.self] = cluster.HeartbeatReport{At: now, Heard: own}
	return out
}
