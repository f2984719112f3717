package ping

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/network"
	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
)

var (
	hostMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	guestMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	hostIP   = netip.MustParseAddr("192.0.2.200")
)

// arpNet is a network with one guest, one, that does with the n-th question what the test
// says: it may change the reply, which comes after some times.
type arpNet struct {
	*fakeNet
	n    int
	do   func(n int, reply *network.ARP) []time.Duration
	to   []string // whom the questions went to
	asks []network.ARP
}

func (f *arpNet) Send(batch []Packet) (int, error) {
	for _, p := range batch {
		ask, ok := network.ReadARP(p.Message)
		if !ok {
			return 0, errors.New("no ARP")
		}
		f.n++
		f.to, f.asks = append(f.to, net.HardwareAddr(slices.Clone(p.Message[:network.MACSize])).String()), append(f.asks, ask)
		reply := network.ARP{Op: network.ARPReply, SenderMAC: guestMAC, Sender: ask.Target, TargetMAC: hostMAC, Target: ask.Sender}
		for _, d := range f.do(f.n, &reply) {
			frame := append(reply.Append(nil, hostMAC), make([]byte, 18)...)
			f.wg.Go(func() {
				select {
				case <-time.After(d):
					f.in <- packet{b: frame, at: time.Now()}
				case <-f.done:
				}
			})
		}
	}
	return len(batch), nil
}

// byARP runs a Pinger that asks one in virtual time.
func byARP(t *testing.T, do func(n int, reply *network.ARP) []time.Duration, test func(t *testing.T, f *arpNet, p *Pinger)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &arpNet{fakeNet: newFakeNet(nil), do: do}
		p := New(nil, nil)
		l := newCard(f, hostMAC)
		l.card.neighbours[one] = &neighbour{source: hostIP}
		p.cards = map[netip.Addr]*line{one: l}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { p.Run(ctx) })
		test(t, f, p)
		cancel()
		wg.Wait()
	})
}

// TestARPGaps: 200 ms between questions.
func TestARPGaps(t *testing.T) {
	const every = 200 * ms
	at := func(d ...time.Duration) []time.Duration { return d }
	for _, c := range []struct {
		name string
		do   func(n int, reply *network.ARP) []time.Duration
		lost int64
		gaps []time.Duration
		open bool
	}{
		{"none", func(int, *network.ARP) []time.Duration { return at(ms) }, 0, nil, false},
		{"two", func(n int, _ *network.ARP) []time.Duration {
			if n == 4 || n >= 11 && n < 14 {
				return nil
			}
			return at(ms)
		}, 4, []time.Duration{every, 3 * every}, false},
		// A reply has no number: 12 is answered by what was meant for 11, and has its own answer for nothing.
		{"later than the next question", func(n int, _ *network.ARP) []time.Duration {
			if n == 11 {
				return at(every + 50*ms)
			}
			return at(100 * ms)
		}, 1, []time.Duration{every - 50*ms}, false},
		// Doubles are no answers to what was lost before.
		{"two machines answer", func(n int, _ *network.ARP) []time.Duration {
			if n >= 11 && n < 16 {
				return nil
			}
			return at(ms, 2*ms, 3*ms)
		}, 5, []time.Duration{5 * every}, false},
		{"a question of the guest's own", func(n int, a *network.ARP) []time.Duration {
			if n == 11 {
				a.Op = network.ARPRequest
			}
			return at(ms)
		}, 1, []time.Duration{every}, false},
		{"a reply to another", func(n int, a *network.ARP) []time.Duration {
			if n == 11 {
				a.Target = two
			}
			return at(ms)
		}, 1, []time.Duration{every}, false},
		{"a reply of another", func(n int, a *network.ARP) []time.Duration {
			if n == 11 {
				a.Sender = two
			}
			return at(ms)
		}, 1, []time.Duration{every}, false},
		{"open", func(n int, _ *network.ARP) []time.Duration {
			if n > 40 {
				return nil
			}
			return at(ms)
		}, 10, []time.Duration{10*every - ms}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			byARP(t, c.do, func(t *testing.T, f *arpNet, p *Pinger) {
				x := add(t, p, one, every)
				untilSent(p, x, 50)
				p.Finish(t.Context())
				got, open, more := lengths(x)
				n := x.Counts()
				if !slices.Equal(got, c.gaps) || open != c.open || more != 0 || n.Sent != 50 || n.Lost != c.lost ||
					n.Reordered != 0 || n.Unwatched != 0 {
					t.Errorf("gaps %v, the last open %v, %+v; want %v, %v, 50 sent, %d lost", got, open, n, c.gaps, c.open, c.lost)
				}
			})
		})
	}
}

var two = netip.MustParseAddr("192.0.2.2")

// TestARPAsksOne: until a machine has answered, all are asked, then it alone, also while it is
// dark and when it is added anew.
func TestARPAsksOne(t *testing.T) {
	byARP(t, func(n int, _ *network.ARP) []time.Duration {
		if n < 3 || n > 5 && n < 20 {
			return nil
		}
		return []time.Duration{ms}
	}, func(t *testing.T, f *arpNet, p *Pinger) {
		x := add(t, p, one, 200*ms)
		if _, err := p.Add(one, 200*ms); err == nil {
			t.Error("one target is asked twice by ARP: whose is the answer?")
		}
		if _, err := p.Add(two, 200*ms); err == nil {
			t.Error("an address that can not be asked by ARP was added")
		}
		untilSent(p, x, 30)
		p.Remove(x)
		again := add(t, p, one, 200*ms)
		untilSent(p, again, 10)
		p.Finish(t.Context())
		all, alone := network.Broadcast().String(), guestMAC.String()
		if len(f.to) != 40 || f.to[0] != all || f.to[2] != all || slices.Index(f.to, alone) != 3 || slices.Contains(f.to[3:], all) {
			t.Errorf("asked: %v", f.to)
		}
		for _, a := range f.asks {
			if a.Op != network.ARPRequest || a.Sender != hostIP || a.SenderMAC.String() != hostMAC.String() || a.Target != one {
				t.Fatalf("asked: %+v", a)
			}
		}
		if c := again.Counts(); c.Sent != 10 || c.Lost != 0 {
			t.Errorf("added anew: %+v", c)
		}
	})
}

// runARP opens a Pinger of ARP on a host and runs it for the rest of the test.
func runARP(t *testing.T, on nettest.End, addrs ...netip.Addr) (p *Pinger, none map[netip.Addr]error) {
	t.Helper()
	if err := on.Do(func() (err error) { p, none, err = OpenARP(addrs); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p, none
}

// echoes lets a host answer echo requests, or not.
func echoes(t *testing.T, on nettest.End, answer bool) {
	t.Helper()
	no := "1"
	if answer {
		no = "0"
	}
	if err := on.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/icmp_echo_ignore_all", []byte(no), 0)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestRealARP: a machine that does not answer ICMP echo; the cable is cut for a while, at
// the far end and at the near one.
func TestRealARP(t *testing.T) {
	need.Drill(t, "zero loss is measured by ARP: a machine that answers no echo, and a cable that is cut for a while",
		need.Root, need.Programs("iproute2", "ip"))
	here, there := nettest.Cable(t)
	echoes(t, there, false)
	far, nobody := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.77")
	here.IP(t, "route", "add", "198.51.100.0/24", "via", "192.0.2.2")
	others := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1"),
		netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.2")}
	const every = 20 * ms
	icmp := add(t, run(t, here), far, every)
	p, none := runARP(t, here, append(others, far, nobody)...)
	for _, a := range others {
		if none[a] == nil {
			t.Errorf("%v can be asked by ARP", a)
		}
	}
	if len(none) != len(others) || len(p.lines()) != 1 {
		t.Errorf("not to be asked: %v; %d sockets, want one", none, len(p.lines()))
	}
	x, y := add(t, p, far, every), add(t, p, nobody, every)
	answers := func(n int64) func() bool {
		return func() bool { c := x.Counts(); return c.Sent-c.Lost >= n }
	}
	await(t, "answers", answers(50)) // the link may take a moment to come up
	steady := x.Counts()
	await(t, "more answers", answers(steady.Sent+50))
	if c := x.Counts(); c.Lost != steady.Lost {
		t.Errorf("losses on a cable that is whole: %+v, then %+v", steady, c)
	}
	for _, s := range []nettest.End{there, here} {
		before, cut := x.Counts(), time.Now()
		s.IP(t, "link", "set", "eth0", "down")
		await(t, "losses", func() bool { return x.Counts().Lost >= before.Lost+20 })
		s.IP(t, "link", "set", "eth0", "up")
		await(t, "answers after the cut", func() bool { return x.Counts().Answered.After(cut.Add(20 * every)) })
		c, took := x.Counts(), time.Since(cut)
		if c.Longest < 20*every || c.Longest > max(before.Longest, took+every) {
			t.Errorf("the cut took %v: %+v, then %+v", took, before, c)
		}
		t.Logf("%d of %d lost, longest %v, unwatched %v", c.Lost, c.Sent, c.Longest, c.Unwatched)
	}
	for _, n := range []*Target{icmp, y} {
		if c := n.Counts(); c.Sent < 50 || c.Lost != c.Sent || !c.Answered.IsZero() {
			t.Errorf("%v: %+v, want no answer", n.Addr(), c)
		}
	}
}

// TestARPDisturbsNobody: a machine that is known is asked alone, and the kernel's table of
// neighbours is left as it is.
func TestARPDisturbsNobody(t *testing.T) {
	need.Real(t, need.Root, need.Programs("iproute2", "ip"))
	here, there := nettest.Cable(t)
	far := netip.MustParseAddr("192.0.2.2")
	var wire *socket
	if err := there.Do(func() error {
		dev, err := net.InterfaceByName("eth0")
		if err == nil {
			wire, err = openCard(*dev)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	p, _ := runARP(t, here, far)
	first := add(t, p, far, 20*ms)
	await(t, "an answer to what all were asked", func() bool { return !first.Counts().Answered.IsZero() })
	p.Remove(first)
	x := add(t, p, far, 20*ms)
	await(t, "answers", func() bool { c := x.Counts(); return c.Sent-c.Lost >= 50 })
	p.Finish(t.Context())
	sent, heard, all := x.Counts().Sent, 0, make([]Packet, batch)
	for { // what was sent to it alone is in its socket
		n, _, err := wire.Receive(all)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		heard += n
	}
	if int64(heard) < sent {
		t.Errorf("%d of %d questions were to it alone", heard, sent)
	}
	if table := here.IP(t, "neigh", "show", "dev", "eth0", "192.0.2.2"); table != "" {
		t.Errorf("the kernel's table has %s", table)
	}
}

// TestAnnouncementIsNoAnswer: a guest tells all that it is there.
func TestAnnouncementIsNoAnswer(t *testing.T) {
	for to, want := range map[uint8]bool{unix.PACKET_HOST: true, unix.PACKET_BROADCAST: false,
		unix.PACKET_MULTICAST: false, unix.PACKET_OTHERHOST: false, unix.PACKET_OUTGOING: false} {
		if own(&unix.RawSockaddrLinklayer{Pkttype: to}) != want {
			t.Errorf("a packet of kind %d: want %v", to, want)
		}
	}
}

// TestARPWithoutTheRight: by a thread without capabilities, which ends with its goroutine.
func TestARPWithoutTheRight(t *testing.T) {
	need.Real(t, need.Root, need.Programs("iproute2", "ip"))
	here, _ := nettest.Cable(t)
	var p *Pinger
	err := errors.New("it was not called")
	done := make(chan error)
	go func() {
		done <- here.Do(func() error {
			var none [2]unix.CapUserData
			if cerr := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); cerr != nil {
				return cerr
			}
			p, _, err = OpenARP([]netip.Addr{two})
			return nil
		})
	}()
	if back := <-done; !errors.Is(err, unix.EPERM) || p != nil {
		t.Errorf("opened by a thread without capabilities: %v, %v (%v)", p, err, back)
	}
}
