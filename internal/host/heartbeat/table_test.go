package heartbeat

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
)

const step = 200 * time.Millisecond

var someAddr = netip.MustParseAddrPort("192.0.2.1:1000")

func addrsOf(names ...cluster.HostID) map[cluster.HostID]netip.AddrPort {
	m := map[cluster.HostID]netip.AddrPort{}
	for _, n := range names {
		m[n] = someAddr
	}
	return m
}

// started is the table of a, which has listened to its peers since now.
func started(now cluster.Instant, peers ...cluster.HostID) *table {
	t := newTable("a", 100, step)
	t.start(now)
	t.setPeers(now, addrsOf(peers...))
	return t
}

// from is a heartbeat of a host to a.
func from(host cluster.HostID, instance, seq uint64, s ...sighting) *message {
	return &message{from: hostKey(host), to: hostKey("a"), instance: instance, seq: seq, sightings: s}
}

// answer is like from, with an echo of a heartbeat of started's table.
func answer(host cluster.HostID, instance, seq, echoed uint64) *message {
	m := from(host, instance, seq)
	m.echo = echo{100, echoed}
	return m
}

func TestHeardIsNeverTooEarly(t *testing.T) {
	ms := func(n int) cluster.Instant { return cluster.Instant(0).Add(time.Duration(n) * time.Millisecond) }
	tab := started(ms(1000), "b", "c")
	w := tab.words(ms(1100))
	if got := w["a"]; got.At != ms(1100) || got.Heard["b"] != ms(1000) || got.Heard["c"] != ms(1000) || len(got.Heard) != 2 {
		t.Errorf("before any word: %+v: want both heard when listening began", got)
	}
	if len(w) != 1 {
		t.Errorf("before any word: %v", w)
	}
	b := from("b", 1, 1, sighting{hostKey("a"), 30 * time.Millisecond}, sighting{hostKey("c"), 70 * time.Millisecond},
		sighting{hostKey("x"), 0})
	if why := tab.receive(ms(1200), b); why != accepted {
		t.Fatal(why)
	}
	w = tab.words(ms(1210))
	if got := w["a"].Heard["b"]; got != ms(1200) {
		t.Errorf("b heard at %d", got)
	}
	want := map[cluster.HostID]cluster.Instant{"a": ms(1170), "c": ms(1130)}
	if got := w["b"]; got.At != ms(1200) || !maps.Equal(got.Heard, want) {
		t.Errorf("b's word is %+v, want at 1200 ms %v", got, want)
	}
	// A host that is added is heard from then on, and b's word about it is known.
	tab.setPeers(ms(1300), addrsOf("b", "x"))
	w = tab.words(ms(1310))
	if got := w["a"].Heard; !maps.Equal(got, map[cluster.HostID]cluster.Instant{"b": ms(1200), "x": ms(1300)}) {
		t.Errorf("after a change of peers: %v", got)
	}
	if got := w["b"].Heard; !maps.Equal(got, map[cluster.HostID]cluster.Instant{"a": ms(1170), "x": ms(1200)}) {
		t.Errorf("after a change of peers b's word is %v", got)
	}
	w["a"].Heard["b"] = 0
	if tab.words(ms(1310))["a"].Heard["b"] != ms(1200) {
		t.Error("the map is not a copy")
	}
}

func TestBeforeStartAndAfterStopNobodyIsSilent(t *testing.T) {
	tab := newTable("a", 100, step)
	tab.setPeers(0, addrsOf("b"))
	now := cluster.Instant(0).Add(time.Hour)
	if got := tab.words(now)["a"].Heard["b"]; got != now {
		t.Errorf("before start b was heard at %d", got)
	}
	begin := now.Add(time.Minute)
	tab.start(begin)
	later := begin.Add(step)
	if got := tab.words(later)["a"].Heard["b"]; got != begin {
		t.Errorf("after start b was heard at %d, want %d", got, begin)
	}
	tab.stop()
	if got := tab.words(later)["a"].Heard["b"]; got != later || tab.stalls != 0 {
		t.Errorf("after stop b was heard at %d, stalls %d", got, tab.stalls)
	}
}

func TestAgesAreCutAndCapped(t *testing.T) {
	tab := started(0, "b")
	var now cluster.Instant
	turnTo := func(end cluster.Instant) message {
		var m message
		for now < end {
			now = min(end, now.Add(2*step))
			tab.beat(now)
			tab.turn(now, step, &m, nil)
		}
		return m
	}
	if m := turnTo(cluster.Instant(1_999_999)); m.sightings[0].age != time.Millisecond {
		t.Errorf("1.999999 ms is told as %v", m.sightings[0].age)
	}
	m := turnTo(now.Add(2 * maxAge))
	if m.sightings[0].age != maxAge || tab.stalls != 0 {
		t.Errorf("2 h are told as %v, stalls %d", m.sightings[0].age, tab.stalls)
	}
	if err := decode(encode(nil, &m), &message{}); err != nil {
		t.Error(err)
	}
}

func TestAStuckLoopFallsSilent(t *testing.T) {
	tab := started(0, "b")
	var m message
	turn := func(at time.Duration) int { return len(tab.turn(cluster.Instant(at), step, &m, nil)) }
	if turn(0) != 0 {
		t.Error("sent before the first pulse")
	}
	tab.beat(cluster.Instant(step))
	sent, seq := 0, m.seq
	for at := step; at < 5*time.Second; at += step {
		if turn(at) > 0 {
			sent++
			if m.seq <= seq {
				t.Errorf("sequence number %d after %d", m.seq, seq)
			}
			seq = m.seq
		}
	}
	if sent != 5 {
		t.Errorf("%d heartbeats within 1 s of the pulse, want 5", sent)
	}
	tab.beat(cluster.Instant(5 * time.Second))
	if turn(5*time.Second) != 1 || m.seq != seq+1 {
		t.Error("not sent after another pulse")
	}
}

func TestTargets(t *testing.T) {
	tab := newTable("a", 100, step)
	tab.start(0)
	tab.setPeers(0, map[cluster.HostID]netip.AddrPort{
		"a": someAddr, "b": netip.MustParseAddrPort("[::ffff:192.0.2.7]:5"), "c": {}, "d": netip.MustParseAddrPort("192.0.2.8:0"),
	})
	tab.receive(0, from("b", 4, 9))
	tab.beat(0)
	var m message
	got := tab.turn(0, step, &m, nil)
	want := target{addr: netip.MustParseAddrPort("192.0.2.7:5"), id: hostKey("b"), echo: echo{4, 9}}
	if len(got) != 1 || got[0] != want {
		t.Errorf("targets %+v, want %+v", got, want)
	}
	if len(m.sightings) != 3 {
		t.Errorf("sightings %v, want of b, c and d", m.sightings)
	}
}

func TestTheSameHostsAreLeftOutEverywhere(t *testing.T) {
	tab := started(0)
	addrs := map[cluster.HostID]netip.AddrPort{"a": someAddr}
	for i := range 70 {
		addrs[cluster.HostID(fmt.Sprintf("h%02d", i))] = someAddr
	}
	if left := tab.setPeers(0, addrs); left != 6 || tab.byID[hostKey("h63")] == nil || tab.byID[hostKey("h64")] != nil {
		t.Errorf("left out %d", left)
	}
	tab.beat(0)
	var m message
	if n := len(tab.turn(0, step, &m, nil)); n != maxEntries {
		t.Errorf("%d targets", n)
	}
	if err := decode(encode(nil, &m), &message{}); err != nil {
		t.Errorf("%d sightings: %v", len(m.sightings), err)
	}
}

func TestAdmission(t *testing.T) {
	type in struct {
		m    *message
		want Reason
	}
	for name, ins := range map[string][]in{
		"replay and reorder": {
			{from("b", 1, 5), accepted}, {from("b", 1, 5), Replayed}, {from("b", 1, 4), Replayed}, {from("b", 1, 6), accepted},
		},
		"a restart is heard at once": {
			{from("b", 1, 500), accepted}, {from("b", 2, 1), accepted}, {from("b", 1, 501), Replaced}, {from("b", 2, 2), accepted},
		},
		"strangers and other receivers": {
			{from("x", 1, 1), Stranger}, {from("a", 1, 1), Stranger},
			{&message{from: hostKey("b"), to: hostKey("c"), instance: 1, seq: 1}, Misdirected},
		},
		"peers do not mix": {
			{from("b", 1, 5), accepted}, {from("c", 1, 5), accepted}, {from("c", 2, 1), accepted}, {from("b", 1, 6), accepted},
		},
		"an unknown old instance does not lock out the living one": {
			{answer("b", 2, 1, 1), accepted},
			{from("b", 1, 99), accepted}, // captured before this process began
			{answer("b", 2, 2, 1), Replaced},
			{answer("b", 2, 3, 2), accepted}, // it has heard this process since
			{from("b", 1, 100), Replaced},
		},
		"an echo counts once": {
			{answer("b", 1, 1, 5), accepted}, {answer("b", 2, 1, 6), accepted}, {answer("b", 1, 2, 6), Replaced}, {answer("b", 1, 3, 5), Replaced},
		},
		"an echo of what was never sent is none": {
			{answer("b", 1, 1, 5), accepted}, {from("b", 2, 1), accepted}, {answer("b", 1, 2, 11), Replaced},
		},
		"an echo of another process is none": {
			{from("b", 1, 1), accepted}, {from("b", 2, 1), accepted},
			{&message{from: hostKey("b"), to: hostKey("a"), instance: 1, seq: 2, echo: echo{99, 7}}, Replaced},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tab := started(0, "b", "c")
			tab.seq = 10
			for _, p := range tab.peers {
				p.echoed = 0
			}
			for i, in := range ins {
				if got := tab.receive(cluster.Instant(i), in.m); got != in.want {
					t.Errorf("message %d: %q, want %q", i, got, in.want)
				}
			}
		})
	}
}

func TestEightReplacedInstancesAreRemembered(t *testing.T) {
	tab := started(0, "b")
	for i := uint64(1); i <= 9; i++ {
		if why := tab.receive(0, from("b", i, 1)); why != accepted {
			t.Fatal(i, why)
		}
	}
	for i := uint64(1); i <= 8; i++ {
		if why := tab.receive(0, from("b", i, 1000)); why != Replaced {
			t.Errorf("instance %d: %q, want %q", i, why, Replaced)
		}
	}
	if why := tab.receive(0, from("b", 9, 2)); why != accepted {
		t.Errorf("the present instance: %q", why)
	}
}

func TestAnEchoFromBeforeAPeerWasAddedIsNotFresh(t *testing.T) {
	tab := started(0)
	tab.seq = 10
	tab.setPeers(0, addrsOf("b"))
	for i, in := range []struct {
		m    *message
		want Reason
	}{
		{from("b", 1, 1), accepted}, {from("b", 2, 1), accepted}, {answer("b", 1, 2, 10), Replaced},
	} {
		if got := tab.receive(0, in.m); got != in.want {
			t.Errorf("message %d: %q, want %q", i, got, in.want)
		}
	}
}

func TestADroppedMessageChangesNothing(t *testing.T) {
	tab := started(0, "b", "c")
	tab.receive(0, from("b", 1, 5, sighting{hostKey("c"), 0}))
	before := fmt.Sprint(tab.words(cluster.Instant(step)))
	for _, m := range []*message{from("b", 1, 5), from("x", 1, 6), {from: hostKey("b"), to: 1, instance: 1, seq: 9}} {
		if why := tab.receive(cluster.Instant(step), m); why == accepted {
			t.Errorf("%+v was taken", m)
		}
	}
	if after := fmt.Sprint(tab.words(cluster.Instant(step))); after != before {
		t.Errorf("%s, before %s", after, before)
	}
}

// TestStall says what a stall is, to the nanosecond, whatever notices it.
func TestStall(t *testing.T) {
	limit := step * 5 / 2
	entries := map[string]func(*table, cluster.Instant){
		"turn":     func(tab *table, now cluster.Instant) { tab.turn(now, step, &message{}, nil) },
		"receive":  func(tab *table, now cluster.Instant) { tab.receive(now, from("c", 1, 1)) },
		"dropped":  func(tab *table, now cluster.Instant) { tab.receive(now, from("x", 1, 1)) },
		"words":    func(tab *table, now cluster.Instant) { tab.words(now) },
		"pulse":    func(tab *table, now cluster.Instant) { tab.beat(now) },
		"setPeers": func(tab *table, now cluster.Instant) { tab.setPeers(now, addrsOf("b", "c")) },
	}
	for name, entry := range entries {
		for _, late := range []time.Duration{0, 1} {
			t.Run(fmt.Sprintf("%s, %d ns late", name, late), func(t *testing.T) {
				tab := started(0, "b", "c")
				tab.receive(1, from("b", 1, 1))
				tab.turn(2, step, &message{}, nil)
				end := cluster.Instant(2).Add(limit + late)
				entry(tab, end)
				w := tab.words(end)
				_, told := w["b"]
				if stalled := late > 0; tab.stalls != uint64(late) || told == stalled || (w["a"].Heard["b"] == end) != stalled {
					t.Errorf("stalls %d, b's word %v, b heard at %d of %d", tab.stalls, told, w["a"].Heard["b"], end)
				}
			})
		}
	}
}

// TestAClockReadBeforeAStallAndUsedAfterIt is the reader that stood still
// between its reading of the clock and the table.
func TestAClockReadBeforeAStallAndUsedAfterIt(t *testing.T) {
	tab := started(0, "b")
	end := cluster.Instant(time.Minute)
	tab.turn(end, step, &message{}, nil)
	tab.receive(1, from("b", 1, 1))
	if w := tab.words(2); w["a"].Heard["b"] != end || w["b"].At != end || w["a"].At != end {
		t.Errorf("%+v: want everything at %d", w, end)
	}
}

// TestEveryOrder tries all sequences of what may happen to a table: a little
// time passes, this process is frozen, its ticker fires, a datagram is read,
// somebody asks. It checks the answer at the end of each by the history alone.
func TestEveryOrder(t *testing.T) { everyOrder(t, 6) }

// TestEveryLongerOrder does it with 25 times as many.
func TestEveryLongerOrder(t *testing.T) {
	need.Drill(t, "P2: whatever happens to a table of heartbeats in eight steps, nobody is told to be heard who was not")
	everyOrder(t, 8)
}

func everyOrder(t *testing.T, depth int) {
	const letters = "sfTRW"
	word := make([]byte, depth)
	all := 1
	for range depth {
		all *= len(letters)
	}
	for n := range all {
		for i := range word {
			word[i] = letters[n%len(letters)]
			n /= len(letters)
		}
		if err := tryOrder(word); err != nil {
			t.Fatalf("%s: %v", word, err)
		}
	}
}

func tryOrder(word []byte) error {
	const start = cluster.Instant(time.Hour)
	age := 3 * time.Second // that b tells of c
	now, seq := start, uint64(0)
	tab := started(now, "b", "c")
	turned, thawed, heard, punctual := start, start, start, true
	for _, l := range word {
		switch l {
		case 's':
			now = now.Add(step)
		case 'f':
			now = now.Add(50 * step)
			thawed, punctual = now, false
		case 'T':
			tab.turn(now, step, &message{}, nil)
			punctual = punctual && now.Sub(turned) <= 2*step
			turned = now
		case 'R':
			seq++
			if why := tab.receive(now, from("b", 1, seq, sighting{hostKey("c"), age})); why != accepted {
				return fmt.Errorf("message %d: %s", seq, why)
			}
			heard = now
		case 'W':
			tab.words(now)
		}
		punctual = punctual && now.Sub(turned) <= 2*step
	}
	w := tab.words(now)
	own := w["a"].Heard
	said, told := w["b"]
	switch {
	case w["a"].At != now || len(own) != 2:
		return fmt.Errorf("own word %+v at %d", w["a"], now)
	case own["b"] < thawed || own["c"] < thawed || told && said.At < thawed:
		return fmt.Errorf("%+v: from before the end of a freeze at %d", w, thawed)
	case own["b"] < heard || own["b"] > now || own["c"] > now:
		return fmt.Errorf("%+v: b was heard at %d, and it is %d", own, heard, now)
	case told && said.Heard["c"] != said.At.Add(-age):
		return fmt.Errorf("b says %+v of c", said)
	case punctual && (own["b"] != heard || own["c"] != start || told != (seq > 0)):
		return fmt.Errorf("%+v: want b at %d, c at %d, without any stall", w, heard, start)
	}
	return nil
}

func TestTroubleIsLoggedNowAndThen(t *testing.T) {
	h := quieted{}
	var at []int
	for s := range 200 {
		if h.due(cluster.Instant(time.Duration(s)*time.Second), "x") {
			at = append(at, s)
		}
	}
	if want := []int{0, 60, 120, 180}; !slices.Equal(at, want) {
		t.Errorf("logged at %v s, want %v", at, want)
	}
	if !h.due(0, "y") {
		t.Error("another trouble was not logged")
	}
}
