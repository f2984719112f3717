package heartbeat

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/try"
)

func TestSevenHearOneAnother(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 7, nil)
	try.Until(t, "everybody has a word of everybody about everybody", func() bool {
		for _, n := range m.nodes {
			words := n.Words()
			if len(words) != 7 {
				return false
			}
			for _, w := range words {
				if len(w.Heard) != 6 {
					return false
				}
			}
		}
		return true
	})
	n := m.nodes[3]
	<-n.Wake() // words came
	words := n.Words()
	for from, w := range words {
		for about, at := range w.Heard {
			if at > w.At || w.At > words[n.id].At {
				t.Errorf("%s heard %s at %d, said so at %d, now is %d", from, about, at, w.At, words[n.id].At)
			}
		}
	}
	if s := n.Stats(); s.SendErrors+s.ReadErrors > 0 || len(s.Dropped) > 0 {
		t.Errorf("%+v", s)
	}
}

func TestAOneWayCutIsSeen(t *testing.T) {
	if testing.Short() && !try.Race {
		t.Skip("-short: it waits for silence")
	}
	t.Parallel()
	m := newMesh(t, 3, unhurried)
	try.Until(t, "all hear all", m.whole)
	m.relay("h1", "h2").set(drop)
	h1, h2, h3 := m.nodes[0], m.nodes[1], m.nodes[2]
	const cut = 1500 * time.Millisecond
	for _, n := range m.nodes {
		try.Until(t, string(n.id)+" knows that h2 alone does not hear h1", func() bool {
			fine := func(by, about cluster.HostID) bool {
				s := silence(n, by, about)
				return n == h2 && by == "h1" || s >= 0 && s < cut // h1's words do not reach h2 either
			}
			return silence(n, "h2", "h1") > cut && fine("h1", "h2") && fine("h3", "h1") && fine("h3", "h2") && fine("h2", "h3") && fine("h1", "h3")
		})
	}
	if h1.Words()["h2"].At == 0 || h3.Words()["h2"].At == 0 {
		t.Error("h2 is not heard")
	}
	m.relay("h1", "h2").set(nil)
	try.Until(t, "h2 hears h1 again", func() bool { s := silence(h2, "h2", "h1"); return s >= 0 && s < cut })
}

func TestAStuckMainLoopIsNotHeard(t *testing.T) {
	if testing.Short() && !try.Race {
		t.Skip("-short: it waits for silence")
	}
	t.Parallel()
	m := newMesh(t, 2, unhurried)
	try.Until(t, "both hear", m.whole)
	h1, h2 := m.nodes[0], m.nodes[1]
	h2.mute.Store(true)
	try.Until(t, "h2 is silent", func() bool { return silence(h1, "h1", "h2") > 1500*time.Millisecond })
	sent := h2.Stats().Sent
	more(t, h2, 5) // its reader and sender run on
	if got := h2.Stats().Sent; got != sent {
		t.Errorf("a member with a stuck main loop sent %d heartbeats", got-sent)
	}
	h2.mute.Store(false)
	more(t, h1, 3)
}

func TestARestartedPeerIsHeardAndItsPastIsNot(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2, nil)
	h1, old := m.nodes[0], m.nodes[1]
	more(t, h1, 5)
	old.end()
	captured := m.relay("h2", "h1").recorded()
	h2 := launch(t, "h2", nil)
	a := h2.addr()
	m.relay("h1", "h2").target.Store(&a)
	h2.SetPeers(m.peersOf("h2"))
	// What the old process sent last may still come; more than that is of the new one.
	more(t, h1, uint64(len(captured))+5)
	before := h1.Stats().Dropped[Replaced]
	for _, b := range captured {
		m.relay("h2", "h1").inject(t, b)
	}
	try.Until(t, "every replay is dropped", func() bool { return h1.Stats().Dropped[Replaced] == before+uint64(len(captured)) })
	more(t, h1, 5)
	more(t, h2, 5)
}

// TestANewProcessIsFedWithThePast: h1's process is new and knows no instances;
// the past is sent to it while the present comes.
func TestANewProcessIsFedWithThePast(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2, nil)
	more(t, m.nodes[0], 5)
	m.nodes[1].end()
	captured := m.relay("h2", "h1").recorded()
	m.nodes[0].end()
	h1, h2 := launch(t, "h1", nil), launch(t, "h2", nil)
	a1, a2 := h1.addr(), h2.addr()
	m.relay("h2", "h1").target.Store(&a1)
	m.relay("h1", "h2").target.Store(&a2)
	h1.SetPeers(m.peersOf("h1"))
	h2.SetPeers(m.peersOf("h2"))
	more(t, h1, 5)
	m.relay("h2", "h1").inject(t, captured[0])
	m.relay("h2", "h1").inject(t, captured[1])
	more(t, h1, 10) // two at most are of the past
	m.relay("h2", "h1").inject(t, captured[2])
	try.Until(t, "the past is out", func() bool { return h1.Stats().Dropped[Replaced] > 0 })
	more(t, h1, 5)
}

func TestABadNetwork(t *testing.T) {
	if testing.Short() && !try.Race {
		t.Skip("-short: it waits for silence")
	}
	t.Parallel()
	m := newMesh(t, 3, nil)
	for ends, r := range m.relays {
		rnd := rand.New(rand.NewPCG(uint64(ends[0][1]), uint64(ends[1][1])))
		var late []byte
		r.set(func(b []byte) [][]byte { // called with the relay's lock held
			switch k := rnd.IntN(10); {
			case k < 2:
				return nil
			case k < 4:
				return [][]byte{b, b}
			case k < 6 && late == nil:
				late = b
				return nil
			case k < 8 && late != nil:
				out := [][]byte{b, late}
				late = nil
				return out
			}
			return [][]byte{b}
		})
	}
	try.Until(t, "all hear all", m.whole)
	for _, n := range m.nodes {
		try.Until(t, "doubles and late ones are dropped", func() bool { return n.Stats().Dropped[Replayed] >= 5 })
		more(t, n, 10)
		s := n.Stats()
		delete(s.Dropped, Stranger) // a port that another test has had
		if s.Dropped[Replayed] == 0 || len(s.Dropped) != 1 {
			t.Errorf("%s: %+v", n.id, s)
		}
	}
}

// TestDamageIsFound turns every bit of a datagram in its turn.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2, nil)
	h1 := m.nodes[0]
	r := m.relay("h2", "h1")
	r.set(drop)
	try.Until(t, "a heartbeat is caught", func() bool { return len(r.recorded()) > 0 })
	before := h1.Stats().Accepted
	whole := r.recorded()[0]
	for bit := range 8 * len(whole) {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		r.inject(t, b)
		try.Until(t, "it is dropped", func() bool { return dropped(h1) == uint64(bit)+1 })
	}
	s := h1.Stats()
	if s.Accepted != before || s.Dropped[Forged] == 0 || s.Dropped[Malformed] == 0 || s.Dropped[BadVersion] != 8 || s.Dropped[Foreign] != 128 {
		t.Errorf("%+v", s)
	}
	r.inject(t, whole)
	try.Until(t, "the whole one is taken", func() bool { return h1.Stats().Accepted > before })
}

func dropped(n *node) uint64 {
	sum := uint64(0)
	for _, c := range n.Stats().Dropped {
		sum += c
	}
	return sum
}

func TestWhoIsNotHeard(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Options)
		want   Reason
	}{
		"another key":     {func(o *Options) { o.Key = func() []byte { return bytes.Repeat([]byte{1}, keySize) } }, Forged},
		"another cluster": {func(o *Options) { o.Cluster = "other" }, Foreign},
		"a stranger":      {func(o *Options) { o.Self = "h9" }, Stranger},
	} {
		t.Run(name, func(t *testing.T) {
			h1, h2 := launch(t, "h1", nil), launch(t, "h2", tt.change)
			h1.SetPeers(map[cluster.HostID]netip.AddrPort{"h2": h2.addr()})
			h2.SetPeers(map[cluster.HostID]netip.AddrPort{"h1": h1.addr()})
			try.Until(t, "it is dropped", func() bool { return h1.Stats().Dropped[tt.want] >= 3 })
			if s := h1.Stats(); s.Accepted != 0 || len(s.Dropped) != 1 || len(h1.Words()) != 1 {
				t.Errorf("%+v, words %v", s, h1.Words())
			}
		})
	}
}

func TestTheKeyComesLate(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var key []byte
	late := func(o *Options) {
		o.Key = func() []byte { mu.Lock(); defer mu.Unlock(); return key }
	}
	h1, h2 := launch(t, "h1", nil), launch(t, "h2", late)
	h1.SetPeers(map[cluster.HostID]netip.AddrPort{"h2": h2.addr()})
	h2.SetPeers(map[cluster.HostID]netip.AddrPort{"h1": h1.addr()})
	set := func(k []byte) { mu.Lock(); defer mu.Unlock(); key = k }
	for _, k := range [][]byte{nil, {1, 2, 3}} {
		set(k)
		before := h2.Stats().Dropped[NoKey]
		try.Until(t, "it accepts nothing", func() bool { return h2.Stats().Dropped[NoKey] >= before+3 })
		if s := h2.Stats(); s.Sent != 0 || s.Accepted != 0 {
			t.Errorf("with the key %v: %+v", k, s)
		}
	}
	set(testKey)
	more(t, h1, 3)
	more(t, h2, 3)
}

// TestAfterAFreezeNothingOfThePastIsTold jumps a member's clock, as a thaw does.
func TestAfterAFreezeNothingOfThePastIsTold(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 3, nil)
	try.Until(t, "all hear all", m.whole)
	h1 := m.nodes[0]
	for range 10 {
		// Words of before wait in its socket too.
		h1.skew.Add(int64(10 * time.Second))
		thaw := clock.New().Now().Add(time.Duration(h1.skew.Load()))
		words := h1.Words()
		if words["h1"].At < thaw || len(words["h1"].Heard) != 2 {
			t.Fatalf("own word %+v", words["h1"])
		}
		for about, at := range words["h1"].Heard {
			if at < thaw-cluster.Instant(5*time.Second) {
				t.Errorf("after a freeze of 10 s %s was heard %v ago", about, words["h1"].At.Sub(at))
			}
		}
		for from, w := range words {
			if w.At < thaw-cluster.Instant(5*time.Second) {
				t.Errorf("after a freeze of 10 s there is a word of %s, %v old", from, words["h1"].At.Sub(w.At))
			}
		}
		try.Until(t, "all hear all again", m.whole)
	}
	if s := h1.Stats(); s.Stalls < 10 || s.LastStalled == 0 {
		t.Errorf("%+v: want 10 stalls", s)
	}
}

func TestAPeerMoves(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2, nil)
	h1, h2 := m.nodes[0], m.nodes[1]
	try.Until(t, "both hear", m.whole)
	other := newRelay(t, h2.addr())
	before := h1.Words()["h1"].Heard["h2"]
	m.relay("h1", "h2").set(drop)
	h1.SetPeers(map[cluster.HostID]netip.AddrPort{"h2": other.addr})
	if after := h1.Words()["h1"].Heard["h2"]; after < before {
		t.Errorf("h2 was heard at %d, and after the move at %d", before, after)
	}
	more(t, h2, 5)
	h1.SetPeers(nil)
	if w := h1.Words(); len(w) != 1 || len(w["h1"].Heard) != 0 {
		t.Errorf("without peers: %v", w)
	}
	try.Until(t, "h2 is a stranger", func() bool { return h1.Stats().Dropped[Stranger] > 0 })
}

// TestASendErrorEndsNothing: one address that an IPv4 socket can not reach, and
// one port that refuses.
func TestASendErrorEndsNothing(t *testing.T) {
	t.Parallel()
	h1, h2 := launch(t, "h1", nil), launch(t, "h2", nil)
	closed, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	refuses := closed.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	h1.SetPeers(map[cluster.HostID]netip.AddrPort{
		"h2": h2.addr(), "h3": netip.MustParseAddrPort("[2001:db8::1]:7"), "h4": refuses, "h5": netip.MustParseAddrPort("255.255.255.255:9"),
	})
	h2.SetPeers(map[cluster.HostID]netip.AddrPort{"h1": h1.addr()})
	try.Until(t, "errors are counted", func() bool { return h1.Stats().SendErrors >= 6 })
	more(t, h1, 5)
	more(t, h2, 5)
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	v6 := func(o *Options) { o.Listen = "[::1]:0" }
	if l, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 on loopback: %v", err)
	} else if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	h1, h2 := launch(t, "h1", v6), launch(t, "h2", v6)
	at := func(n *node) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr("::1"), uint16(n.Port()))
	}
	h1.SetPeers(map[cluster.HostID]netip.AddrPort{"h2": at(h2)})
	h2.SetPeers(map[cluster.HostID]netip.AddrPort{"h1": at(h1)})
	more(t, h1, 3)
	more(t, h2, 3)
}

func TestTheSocketIsTuned(t *testing.T) {
	t.Parallel()
	for address, tosOption := range map[string][2]int{
		"127.0.0.1:0": {unix.IPPROTO_IP, unix.IP_TOS}, "[::1]:0": {unix.IPPROTO_IPV6, unix.IPV6_TCLASS},
	} {
		var lines bytes.Buffer
		conn, err := listen(address, slog.New(slog.NewTextHandler(&lines, nil)), false)
		if err != nil {
			t.Logf("no %s here: %v", address, err)
			continue
		}
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		get := func(level, option int) (value int) {
			if e := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, option) }); e != nil || err != nil {
				t.Fatal(e, err)
			}
			return value
		}
		if got := get(tosOption[0], tosOption[1]); got != tos {
			t.Errorf("%s: type of service %#x", address, got)
		}
		if got := get(unix.SOL_SOCKET, unix.SO_PRIORITY); got != priority {
			t.Errorf("%s: priority %d", address, got)
		}
		if got := get(unix.SOL_SOCKET, unix.SO_RCVBUF); got < 100*1024 {
			t.Errorf("%s: receive buffer of %d bytes", address, got)
		}
		if lines.Len() > 0 {
			t.Errorf("%s: logged %s", address, lines.String())
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := Options{
		Self: "h1", Listen: "127.0.0.1:0", Key: func() []byte { return nil },
		Interval: func() time.Duration { return 0 }, Clock: clock.New().Now, Log: slog.New(slog.DiscardHandler),
	}
	taken, err := Open(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"no name":      func(o *Options) { o.Self = "" },
		"no key":       func(o *Options) { o.Key = nil },
		"no clock":     func(o *Options) { o.Clock = nil },
		"a host name":  func(o *Options) { o.Listen = "localhost:0" },
		"no address":   func(o *Options) { o.Listen = ":0" },
		"a port taken": func(o *Options) { o.Listen = taken.conns[0].LocalAddr().String() },
	} {
		o := good
		change(&o)
		if b, err := Open(o); err == nil {
			t.Errorf("%s: opened on port %d", name, b.Port())
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := taken.Close(); err != nil {
		t.Error(err)
	}
	if err := taken.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := taken.Run(t.Context()); err == nil {
		t.Error("ran after Close")
	}
}

func TestRunLeavesNothingBehind(t *testing.T) {
	m := newMesh(t, 3, nil)
	try.Until(t, "all hear all", m.whole)
	for _, n := range m.nodes {
		n.end()
		if err := n.Run(context.Background()); err == nil {
			t.Error("ran a second time")
		}
		if l, err := net.ListenPacket("udp4", n.addr().String()); err != nil {
			t.Errorf("the port is still taken: %v", err)
		} else if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	buf := make([]byte, 1<<20)
	all := string(buf[:runtime.Stack(buf, true)])
	for _, f := range []string{".(*Beats).read", ".(*Beats).send", ".(*Beats).Run"} {
		if strings.Contains(all, f) {
			t.Errorf("a goroutine is left in %s:\n%s", f, all)
		}
	}
}
