package probe

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/ping"
)

const (
	// silence is how long a guest does not answer until its other addresses are tried.
	silence = 30 * time.Second
	// lookAgain is how long what a host has told of its guests' addresses is not asked anew.
	lookAgain = 10 * time.Second
	lookSoon  = 2 * time.Second // one that has told nothing in this run
)

// figures are the sums about a guest.
type figures struct {
	sent, lost         int64
	longest, unwatched time.Duration
	first, last        time.Duration // since the run began; 0: nothing was sent, or it is not known
}

// plus adds what was counted after f.
func (f figures) plus(g figures) figures {
	if f.sent == 0 {
		f.first = g.first
	}
	if g.sent > 0 {
		f.last = g.last
	}
	f.sent, f.lost, f.longest, f.unwatched = f.sent+g.sent, f.lost+g.lost, max(f.longest, g.longest), f.unwatched+g.unwatched
	return f
}

func (g *guest) counted() figures {
	c := g.target.Counts()
	f := figures{sent: c.Sent, lost: c.Lost, longest: c.Longest, unwatched: c.Unwatched}
	if c.Sent > 0 {
		f.first, f.last = g.clock.of(c.First), g.clock.of(c.Last)
	}
	return f
}

func (r row) figures() figures {
	return figures{r.Sent, r.Lost, millis(r.Longest), millis(r.Unwatched), millis(r.First), millis(r.Last)}
}

// guest is a guest that this host pings. It counts from its first answer on: which
// of its addresses can be reached from here is not known before.
type guest struct {
	uuid   string
	clock  *clock // of the run
	began  time.Time
	start  time.Duration // began, in the time of the run
	said   []string      // addresses, by people
	before figures       // of the record that was found
	own    figures       // of earlier targets

	addr   netip.Addr   // that is pinged
	target *ping.Target // nil: none has answered yet
	since  time.Time    // when target began
	tried  map[netip.Addr]*ping.Target
}

// row is what is known of the guest now.
func (g *guest) row() row {
	f := g.before.plus(g.own)
	if g.target != nil {
		f = f.plus(g.counted())
	} else {
		f.unwatched += time.Since(g.began)
	}
	r := row{UUID: g.uuid, Sent: f.sent, Lost: f.lost, Longest: f.longest.Milliseconds(),
		Unwatched: f.unwatched.Milliseconds(), First: f.first.Milliseconds(), Last: f.last.Milliseconds()}
	if g.addr.IsValid() {
		r.Addr = g.addr.String()
	}
	return r
}

// watch begins to count at an address.
func (g *guest) watch(p *ping.Pinger, addr netip.Addr, every time.Duration, log *slog.Logger) {
	t, err := p.Add(addr, every)
	if err != nil {
		log.Debug("an address of a guest", "vm", g.uuid, "err", err)
		return
	}
	if g.target != nil {
		p.Remove(g.target)
		g.own = g.own.plus(g.counted())
	} else {
		g.own.unwatched += time.Since(g.began)
	}
	g.addr, g.target, g.since = addr, t, time.Now()
}

// silent reports whether the guest's other addresses are to be tried.
func (g *guest) silent() bool {
	if g.target == nil {
		return true
	}
	last := g.target.Counts().Answered
	if last.Before(g.since) {
		last = g.since
	}
	return time.Since(last) >= silence
}

// try asks at the addresses that are known of the guest, without counting, and
// changes to the first that answers.
func (g *guest) try(p *ping.Pinger, addrs []netip.Addr, every time.Duration, log *slog.Logger) {
	known := map[netip.Addr]bool{}
	for _, a := range addrs {
		known[a] = true
		t := g.tried[a]
		switch {
		case g.target != nil && a == g.addr:
		case t == nil:
			t, err := p.Add(a, time.Second)
			if err != nil {
				log.Debug("an address of a guest", "vm", g.uuid, "err", err)
				continue
			}
			g.tried[a] = t
		case !t.Counts().Answered.IsZero():
			g.watch(p, a, every, log)
			g.forget(p, nil)
			return
		}
	}
	g.forget(p, known)
}

// forget ends trying addresses, except some.
func (g *guest) forget(p *ping.Pinger, except map[netip.Addr]bool) {
	for a, t := range g.tried {
		if !except[a] {
			p.Remove(t)
			delete(g.tried, a)
		}
	}
}

// where are the addresses of a host's guests, as last read.
type where struct {
	addresses
	at time.Time
}

// aim finds addresses for the guests that need them.
func (w *watcher) aim(ctx context.Context) {
	var at map[string][]cluster.HostID
	w.deaf = false
	for _, g := range w.guests {
		if !g.silent() {
			g.forget(w.pinger, nil)
			continue
		}
		if at == nil {
			at = w.running()
		}
		addrs := parsed(g.said)
		for _, h := range at[g.uuid] {
			addrs = append(addrs, w.addressesOf(ctx, h, g.uuid)...)
		}
		g.try(w.pinger, addrs, w.Every, w.Log)
	}
}

// running tells where the guests are, by UUID.
func (w *watcher) running() map[string][]cluster.HostID {
	out := map[string][]cluster.HostID{}
	seen, _ := w.Seen()
	up := map[cluster.HostID]bool{}
	for _, h := range seen.up() {
		up[h] = true
	}
	for _, v := range seen.VMs {
		if v.Running && up[v.Host] {
			out[v.UUID] = append(out[v.UUID], v.Host)
		}
	}
	return out
}

// addressesOf are those that a guest's host has told of it.
func (w *watcher) addressesOf(ctx context.Context, h cluster.HostID, uuid string) []netip.Addr {
	k, ok := w.addrs[string(h)]
	again := lookAgain
	if k.Run != w.run { // it is about to tell them
		again = lookSoon
	}
	if !w.deaf && (!ok || time.Since(k.at) >= again) {
		a, _, _, _, err := ask[addresses](ctx, w.Service, addrKey(h), h)
		if err != nil {
			w.deaf = true
			w.Log.Debug("addresses of guests", "host", h, "err", err)
			a = k.addresses // as they were
		}
		k = where{a, time.Now()}
		w.addrs[string(h)] = k
	}
	if k.Run != w.run {
		return nil
	}
	return parsed(k.Guests[uuid])
}

// parsed reads some addresses of a guest.
func parsed(list []string) (out []netip.Addr) {
	for _, text := range list {
		if a, err := netip.ParseAddr(text); err == nil && len(out) < maxAddrs {
			out = append(out, a)
		}
	}
	return out
}
