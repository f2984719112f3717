package sim

import (
	"time"

	"holdfast/internal/cluster"
)

// ears is what an agent's socket for heartbeats has taken in. Datagrams that are
// under way wait in mail until somebody looks, so that a datagram costs no event.
type ears struct {
	heard map[cluster.HostID]cluster.Instant         // the last time of each peer, or when listening began
	words map[cluster.HostID]cluster.HeartbeatReport // the newest of each member
	mail  []datagram                                 // in the order of arrival
	last  []int64                                    // by host: when the newest datagram taken in was sent
	tick  cluster.Instant                            // of the own ticker
}

// datagram is one heartbeat.
type datagram struct {
	from *host
	sent int64 // true times
	at   int64
	ages []time.Duration // by host: how long ago the sender had heard it
}

// listen begins anew: nothing was heard before now.
func (a *agent) listen() {
	e, now := &a.ears, a.host.clock()
	*e = ears{
		heard: map[cluster.HostID]cluster.Instant{}, words: map[cluster.HostID]cluster.HeartbeatReport{},
		last: make([]int64, len(a.host.world.hosts)), tick: now,
	}
	a.forget(now)
	a.core.Heard(e.words)
	a.beat()
}

// forget is the rule for a process that stood still: it has not been listening.
func (a *agent) forget(now cluster.Instant) {
	e, h := &a.ears, a.host
	for _, p := range h.world.hosts {
		if p != h {
			e.heard[p.name] = now
		}
	}
	clear(e.words)
	e.mail = e.mail[:0]
}

// hear takes in what has come until now.
func (a *agent) hear(now cluster.Instant) {
	e, h := &a.ears, a.host
	if now.Sub(e.tick) > h.world.timings.Heartbeat*5/2 {
		a.forget(now)
		e.tick = now
	}
	n := 0
	for n < len(e.mail) && e.mail[n].at <= h.world.now {
		a.receive(e.mail[n])
		n++
	}
	if n > 0 {
		e.mail = e.mail[:copy(e.mail, e.mail[n:])]
	}
	e.words[h.name] = cluster.HeartbeatReport{At: now, Heard: e.heard}
}

// receive takes one datagram in; one that was overtaken is dropped. Ages count
// from the moment of its receipt, so what it says is never too early.
func (a *agent) receive(d datagram) {
	e, h := &a.ears, a.host
	if d.sent <= e.last[d.from.index] {
		return
	}
	e.last[d.from.index] = d.sent
	at := h.clockAt(d.at)
	e.heard[d.from.name] = at
	heard := e.words[d.from.name].Heard
	if heard == nil {
		heard = make(map[cluster.HostID]cluster.Instant, len(d.ages))
	}
	for i, p := range h.world.hosts {
		if p != d.from {
			heard[p.name] = at.Add(-d.ages[i])
		}
	}
	e.words[d.from.name] = cluster.HeartbeatReport{At: at, Heard: heard}
}

// beat sends a heartbeat to every peer, and begins again. It is the own ticker,
// too.
func (a *agent) beat() {
	h := a.host
	w, now := h.world, h.clock()
	a.hear(now)
	a.ears.tick = now
	ages := make([]time.Duration, len(w.hosts))
	for i, p := range w.hosts {
		if p != h {
			ages[i] = now.Sub(a.ears.heard[p.name])
		}
	}
	for _, p := range w.hosts {
		if p != h && h.beatReaches(p) && !(h.net.lossy > 0 && w.rolls(h.net.lossy)) {
			p.agent.post(datagram{h, w.now, w.now + int64(w.travel(max(h.net.beats, p.net.beats))), ages})
		}
	}
	a.afterHere(w.timings.Heartbeat, a.beat)
}

// post puts a datagram into the mail, in the order of arrival.
func (a *agent) post(d datagram) {
	if !a.up {
		return
	}
	m := append(a.ears.mail, d)
	for i := len(m) - 1; i > 0 && m[i].at < m[i-1].at; i-- {
		m[i], m[i-1] = m[i-1], m[i]
	}
	a.ears.mail = m
}

// beatReaches reports whether a heartbeat of h comes to p.
func (h *host) beatReaches(p *host) bool {
	return h.reaches(p) && !h.net.noBeatsOut && !p.net.noBeatsIn && !h.net.mute[p]
}

// rolls is true in that many of a hundred cases; with fixed delays, always.
func (w *World) rolls(percent int) bool { return w.rng == nil || w.rng.IntN(100) < percent }
