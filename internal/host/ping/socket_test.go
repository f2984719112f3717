package ping

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
	"holdfast/testbed/try"
)

// run opens a Pinger on a host and runs it for the rest of the test.
func run(t *testing.T, on nettest.End) *Pinger {
	t.Helper()
	var p *Pinger
	err := on.Do(func() (err error) { p, err = Open(); return err })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

// await polls until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	try.Until(t, what, ok)
}

// TestRealLoss: the cable is cut for a while, at the far end and at the near one.
func TestRealLoss(t *testing.T) {
	need.Real(t, need.Root, need.Programs("iproute2", "ip"))
	here, there := nettest.Cable(t)
	p := run(t, here)
	const every = 20 * ms
	var live []*Target
	for _, a := range []string{"192.0.2.2", "2001:db8::2"} {
		live = append(live, add(t, p, netip.MustParseAddr(a), every))
	}
	nobody := add(t, p, netip.MustParseAddr("192.0.2.77"), every)
	nowhere := []*Target{add(t, p, netip.MustParseAddr("198.51.100.1"), every), add(t, p, netip.MustParseAddr("2001:db8:1::1"), every)}
	answered := func(n int64) func() bool {
		return func() bool {
			for _, x := range live {
				if c := x.Counts(); c.Sent-c.Lost < n {
					return false
				}
			}
			return true
		}
	}
	await(t, "answers", answered(50)) // the link may take a moment to come up
	steady := []Counts{live[0].Counts(), live[1].Counts()}
	await(t, "more answers", answered(max(steady[0].Sent, steady[1].Sent)+50))
	for i, x := range live {
		if c := x.Counts(); c.Lost != steady[i].Lost || c.First != steady[i].First {
			t.Errorf("%v: losses on a cable that is whole: %+v, then %+v", x.Addr(), steady[i], c)
		}
	}
	for _, s := range []nettest.End{there, here} {
		before := []Counts{live[0].Counts(), live[1].Counts()}
		cut := time.Now()
		s.IP(t, "link", "set", "eth0", "down")
		await(t, "losses", func() bool {
			return live[0].Counts().Lost >= before[0].Lost+20 && live[1].Counts().Lost >= before[1].Lost+20
		})
		s.IP(t, "link", "set", "eth0", "up")
		if s == here { // an end that is down loses its addresses of IPv6
			s.IP(t, "addr", "replace", "2001:db8::1/64", "dev", "eth0", "nodad")
		} else {
			s.IP(t, "addr", "replace", "2001:db8::2/64", "dev", "eth0", "nodad")
		}
		for i := range live {
			x := live[i]
			await(t, "answers after the cut", func() bool { c := x.Counts(); return c.Answered.After(cut.Add(20 * every)) })
			c, took := x.Counts(), time.Since(cut)
			if c.Lost < before[i].Lost+20 || c.Longest < 20*every || c.Longest > max(before[i].Longest, took+every) {
				t.Errorf("%v: the cut took %v: %+v, then %+v", x.Addr(), took, before[i], c)
			}
			t.Logf("%v: %d of %d lost, longest %v, unwatched %v", x.Addr(), c.Lost, c.Sent, c.Longest, c.Unwatched)
		}
	}
	for _, x := range append(nowhere, nobody) {
		if c := x.Counts(); c.Sent < 50 || c.Lost != c.Sent || !c.Answered.IsZero() {
			t.Errorf("%v, which nobody has: %+v", x.Addr(), c)
		}
	}
}

// TestDeadTargetsDoNotHinder: the packets to many targets that nobody has wait in
// the kernel; live ones are asked all the same.
func TestDeadTargetsDoNotHinder(t *testing.T) {
	need.Drill(t, "zero loss is measured: many targets that nobody has hinder no live one", need.Root, need.Programs("iproute2", "ip"))
	here, _ := nettest.Cable(t)
	p := run(t, here)
	const every = 50 * ms
	for i := range 199 {
		add(t, p, netip.AddrFrom4([4]byte{192, 0, 2, byte(20 + i)}), every)
	}
	alive := add(t, p, netip.MustParseAddr("192.0.2.2"), every)
	await(t, "60 packets", func() bool { return alive.Counts().Sent >= 60 })
	if c := alive.Counts(); c.Lost != 0 || c.Unwatched > time.Second {
		t.Errorf("the live one among dead ones: %+v", c)
	}
}

// TestFullBufferIsNoLoss: the same with a socket whose buffer is small. What it
// does not take is not lost.
func TestFullBufferIsNoLoss(t *testing.T) {
	need.Drill(t, "zero loss is measured: what a full socket does not take is not lost", need.Root, need.Programs("iproute2", "ip"))
	here, _ := nettest.Cable(t)
	p := run(t, here)
	var refused error
	if err := p.v4.wire.(*socket).raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 20<<10)
	}); err != nil || refused != nil {
		t.Fatal(err, refused)
	}
	const every = 20 * ms
	alive := add(t, p, netip.MustParseAddr("192.0.2.2"), every)
	await(t, "answers", func() bool { return !alive.Counts().Answered.IsZero() })
	before := alive.Counts()
	for i := range 100 {
		add(t, p, netip.AddrFrom4([4]byte{192, 0, 2, byte(20 + i)}), every)
	}
	await(t, "a full buffer", func() bool { return alive.Counts().Unwatched >= time.Second })
	if c := alive.Counts(); c.Lost != before.Lost {
		t.Errorf("lost though not sent: %+v, then %+v", before, c)
	}
}

// TestFullReceiverIsNoLoss: a socket with room for three answers is asked for many at
// once. What it has no room for is not lost.
func TestFullReceiverIsNoLoss(t *testing.T) {
	need.Drill(t, "zero loss is measured: an answer for which there was no room is not lost", need.Root, need.Programs("iproute2", "ip"))
	here, _ := nettest.Cable(t)
	here.IP(t, "route", "add", "local", "10.99.0.0/16", "dev", "lo")
	p := run(t, here)
	var refused error
	if err := p.v4.wire.(*socket).raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
	}); err != nil || refused != nil {
		t.Fatal(err, refused)
	}
	var all []*Target
	for i := range 500 {
		all = append(all, add(t, p, netip.AddrFrom4([4]byte{10, 99, byte(i >> 8), byte(i)}), 50*ms))
	}
	sums := func() (c Counts) {
		for _, x := range all {
			n := x.Counts()
			c.Sent, c.Lost, c.Unwatched = c.Sent+n.Sent, c.Lost+n.Lost, c.Unwatched+n.Unwatched
		}
		return c
	}
	await(t, "answers, and some for which there was no room",
		func() bool { c := sums(); return c.Sent > 2000 && c.Unwatched >= 10*time.Second })
	p.Finish(t.Context())
	if c := sums(); c.Lost != 0 {
		t.Errorf("lost though answered: %+v", c)
	}
}
