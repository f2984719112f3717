package sim

import "time"

// link is the network between a host and the store, and to the other hosts.
type link struct {
	noRequest bool           // nothing gets from the host to the store
	noReply   bool           // nothing gets from the store to the host
	request   time.Duration  // added to a request's delay, at most
	reply     time.Duration  // added to a reply's delay, at most
	watch     time.Duration  // added to a watch's delay, at most
	dog       time.Duration  // added to the delay of a word to the watchdog's holder, at most
	peers     map[*host]bool // hosts that can not be reached (both ways)

	// Heartbeats alone, as a firewall or a bad switch does it.
	noBeatsOut bool
	noBeatsIn  bool
	mute       map[*host]bool // hosts that this one's heartbeats do not reach
	beats      time.Duration  // added to a heartbeat's delay, at most
	lossy      int            // per cent of this host's heartbeats that are lost
}

func newLink() link { return link{peers: map[*host]bool{}, mute: map[*host]bool{}} }

const (
	netFixed = time.Millisecond
	netMost  = 8 * time.Millisecond // of a random delay on a good network
)

// travel is the delay of a message: with fixed delays slow counts in full.
func (w *World) travel(slow time.Duration) time.Duration { return w.delay(netFixed, netMost, slow) }

func (w *World) delay(least, most, slow time.Duration) time.Duration {
	if w.rng == nil {
		return least + slow
	}
	return w.between(least, most+slow)
}

func (l *link) clean() bool {
	return !l.noRequest && !l.noReply && l.request == 0 && l.reply == 0 && l.watch == 0 && l.dog == 0 && len(l.peers) == 0 && l.hears()
}

// hears reports that heartbeats get through as they should.
func (l *link) hears() bool {
	return !l.noBeatsOut && !l.noBeatsIn && len(l.mute) == 0 && l.beats == 0 && l.lossy == 0
}

// reaches reports whether two hosts can talk.
func (h *host) reaches(o *host) bool {
	return !h.isolated && !o.isolated && !h.net.peers[o] && !o.net.peers[h]
}

func (h *host) canAsk() bool  { return !h.isolated && !h.net.noRequest && h.world.hasQuorum() }
func (h *host) canHear() bool { return !h.isolated && !h.net.noReply }

// call sends a request to the store. serve runs there, at most once, and may run
// long after the caller gave up: that is what an unknown outcome means. done
// runs in the agent, exactly once, with known false when no reply came in time.
func (a *agent) call(within time.Duration, serve func() int64, done func(rev int64, known bool)) {
	w, h := a.host.world, a.host
	over := false
	finish := func(rev int64, known bool) {
		if !over {
			over = true
			done(rev, known)
		}
	}
	life, of := a.life, a.connected()
	w.after(within, func() { a.inLife(life, func() { finish(0, false) }) })
	h.deliver(h.life, w.now+int64(holdAtMost), func() {
		if of != w.store.restores {
			return // it was meant for the store that was there before
		}
		rev := serve()
		if !h.canHear() {
			return // the reply is lost
		}
		w.after(w.travel(h.net.reply), func() {
			if h.canHear() {
				a.inLife(life, func() { finish(rev, true) })
			}
		})
	})
}

// deliver brings a request to the store. When the way is cut it is lost, or (in
// a random run) held back by the network and delivered once the way is open
// again, until the moment until. What a host that lost its power had not yet got
// through is lost with it.
func (h *host) deliver(life int, until int64, serve func()) {
	w := h.world
	w.after(w.travel(h.net.request), func() {
		switch {
		case h.canAsk():
			serve()
		case h.life == life && w.now < until && w.chance(0.8):
			w.after(100*time.Millisecond, func() { h.deliver(life, until, serve) })
		}
	})
}

// pump sends the agent what it has not yet been sent of the store's log. The
// order is kept; a cut breaks the watch, and it goes on where it was.
func (a *agent) pump() {
	w, h := a.host.world, a.host
	if !a.up || !a.core.Synced || !h.canHear() || a.store != w.store.restores {
		return
	}
	for ; a.sent < len(w.store.log); a.sent++ {
		b, next, life, gen := w.store.log[a.sent], a.sent+1, a.life, a.watch
		at := max(a.lastWatch, w.now+int64(w.travel(h.net.watch)))
		a.lastWatch = at
		w.queue.push(at, func() {
			if !h.canHear() {
				a.broken(gen)
				return
			}
			a.inLife(life, func() {
				if gen == a.watch {
					a.got = next
					a.apply(b)
					a.decide()
				}
			})
		})
	}
}

// broken ends the watch connection gen; what was under way is sent again.
func (a *agent) broken(gen int) {
	if gen == a.watch {
		a.watch++
		a.sent, a.lastWatch = a.got, 0
	}
}

// linkChanged lets broken watches begin again.
func (w *World) linkChanged() {
	for _, h := range w.hosts {
		if a := h.agent; a != nil && a.up {
			if !h.canHear() {
				a.broken(a.watch)
			}
			a.pump()
		}
	}
}
