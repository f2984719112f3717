package heartbeat

import (
	"net/netip"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// TestASilentPathIsTold: what comes over either path is a word; each path is silent for
// itself, and a datagram that comes twice over one of them is no sign of it.
func TestASilentPathIsTold(t *testing.T) {
	at := func(n int) cluster.Instant { return cluster.Instant(0).Add(time.Duration(n) * step) }
	tab := newTable("a", 100, step)
	tab.second = Second{Peer: "b", There: netip.MustParseAddr("198.51.100.2")}
	tab.start(at(1))
	tab.setPeers(at(1), addrsOf("b", "c"))
	var m message
	come := func(now, path int, seq uint64, want Reason) {
		t.Helper()
		tab.beat(at(now))
		for _, to := range tab.turn(at(now), step, &m, nil) {
			if over := to.second.IsValid(); over != (to.id == hostKey("b")) || over && to.second.String() != "198.51.100.2:1000" {
				t.Errorf("%+v", to)
			}
		}
		in := from("b", 7, seq)
		why := tab.receive(at(now), in)
		if tab.came(at(now), in, path, why); why != want {
			t.Errorf("datagram %d at %d over path %d: %q, want %q", seq, now, path, why, want)
		}
	}
	silent := func(now int, first, second time.Duration) {
		t.Helper()
		if a, b, ok := tab.silences(at(now)); !ok || a != first*step || b != second*step {
			t.Errorf("at %d: %s, %s, %v, want %d and %d steps", now, a, b, ok, first, second)
		}
	}
	silent(2, 1, 1)
	come(2, 0, 1, accepted)
	come(2, 1, 1, Replayed) // the other path's copy
	come(3, 1, 2, accepted) // the faster path may change
	come(3, 0, 2, Replayed)
	silent(3, 0, 0)
	come(4, 1, 3, accepted) // the first path is cut
	come(5, 1, 4, accepted)
	silent(5, 2, 0)
	if heard := tab.words(at(5))["a"].Heard["b"]; heard != at(5) {
		t.Errorf("b was heard at %d: either path brings a word", heard)
	}
	come(6, 0, 2, Replayed) // sent again by somebody else
	silent(6, 3, 1)
	come(7, 0, 5, accepted) // it is back, and the second one is cut
	come(8, 0, 6, accepted)
	silent(8, 0, 3)
	other := from("c", 7, 1)
	tab.came(at(8), other, 1, tab.receive(at(8), other))
	silent(8, 0, 3)
	come(20, 0, 6, Replayed) // this process stood still: nothing is known of before
	silent(20, 0, 0)
	tab.stop()
	if _, _, ok := tab.silences(at(21)); ok {
		t.Error("nobody listens, and a path is silent")
	}
}

// TestTwoPaths: two processes hear each other over both paths, and over the second alone.
func TestTwoPaths(t *testing.T) {
	if testing.Short() && !try.Race {
		t.Skip("-short: it waits for silence")
	}
	t.Parallel()
	second := [2]string{"127.0.0.2", "127.0.0.4"}
	var nodes [2]*node
	for i, name := range []cluster.HostID{"h1", "h2"} {
		nodes[i] = launch(t, name, func(o *Options) {
			o.Second = Second{Peer: []cluster.HostID{"h2", "h1"}[i], Own: netip.MustParseAddr(second[i]), There: netip.MustParseAddr(second[1-i])}
		})
	}
	h1, h2 := nodes[0], nodes[1]
	meet := func(first netip.Addr) {
		h1.SetPeers(map[cluster.HostID]netip.AddrPort{"h2": netip.AddrPortFrom(first, uint16(h2.Port()))})
		h2.SetPeers(map[cluster.HostID]netip.AddrPort{"h1": h1.addr()})
	}
	const short, long = time.Second, 2 * time.Second
	over := func(first, second func(time.Duration) bool) func() bool {
		return func() bool {
			a, b, ok := h2.Silences()
			return ok && first(a) && second(b)
		}
	}
	heard, silent := func(d time.Duration) bool { return d < short }, func(d time.Duration) bool { return d > long }
	meet(h2.addr().Addr())
	more(t, h1, 3)
	try.Until(t, "h2 hears h1 over both paths", over(heard, heard))
	meet(netip.MustParseAddr("127.0.0.9")) // the first path leads nowhere
	try.Until(t, "h2 hears h1 over the second path only", over(silent, heard))
	if s := silence(h2, "h2", "h1"); s < 0 || s > short {
		t.Errorf("h2 has not heard h1 for %s", s)
	}
	more(t, h2, 3)
	meet(h2.addr().Addr())
	try.Until(t, "h2 hears h1 over both paths again", over(heard, heard))
	if s := h2.Stats(); s.SendErrors+s.ReadErrors > 0 {
		t.Errorf("%+v", s)
	}
}
