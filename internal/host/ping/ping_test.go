package ping

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeNet is a network whose machines do what the test says.
type fakeNet struct {
	// send is called for every packet with the answer to it; it may change it.
	// It returns when the copies of it arrive, and Send's error.
	send func(to netip.Addr, answer *[]byte) (after []time.Duration, err error)
	in   chan packet
	done chan struct{}
	once sync.Once
	wg   sync.WaitGroup
}

type packet struct {
	from netip.Addr
	b    []byte
	at   time.Time
}

// dropMark at the end of an answer says that others were dropped before it.
const dropMark = 0xdd

func newFakeNet(send func(netip.Addr, *[]byte) ([]time.Duration, error)) *fakeNet {
	return &fakeNet{send: send, in: make(chan packet, 1000), done: make(chan struct{})}
}

func (f *fakeNet) Send(batch []Packet) (int, error) {
	for i, p := range batch {
		b := append([]byte{}, p.Message...)
		b[0] = answer4
		if !p.Addr.Is4() {
			b[0] = answer6
		}
		after, err := f.send(p.Addr, &b)
		for _, d := range after {
			f.wg.Go(func() {
				select {
				case <-time.After(d):
					f.in <- packet{from: p.Addr, b: b, at: time.Now()}
				case <-f.done:
				}
			})
		}
		if err != nil {
			return i, err
		}
	}
	return len(batch), nil
}

func (f *fakeNet) Receive(batch []Packet) (int, time.Time, error) {
	select {
	case p := <-f.in:
		batch[0] = Packet{Addr: p.from, Message: p.b, At: p.at}
		if len(p.b) == size+1 && p.b[size] == dropMark {
			batch[0].Message, batch[0].Dropped = p.b[:size], true
		}
		if len(f.in) > 0 {
			return 1, p.at, nil
		}
		return 1, time.Now(), nil
	case <-time.After(Look):
		return 0, time.Now(), nil
	case <-f.done:
		return 0, time.Time{}, net.ErrClosed
	}
}

func (f *fakeNet) Close() error {
	f.once.Do(func() { close(f.done) })
	f.wg.Wait()
	return nil
}

var (
	one = netip.MustParseAddr("192.0.2.1")
	six = netip.MustParseAddr("2001:db8::6")
)

const ms = time.Millisecond

// in runs a Pinger over a network in virtual time.
func in(t *testing.T, send func(n int, to netip.Addr, answer *[]byte) ([]time.Duration, error), test func(t *testing.T, p *Pinger)) {
	t.Helper()
	over(t, func(w Wire) *Pinger { return New(w, w) }, send, test)
}

// over does the same with a Pinger of the test's own.
func over(t *testing.T, open func(Wire) *Pinger, send func(n int, to netip.Addr, answer *[]byte) ([]time.Duration,
	error), test func(t *testing.T, p *Pinger)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := map[netip.Addr]int{} // of the sender alone
		wire := newFakeNet(func(to netip.Addr, a *[]byte) ([]time.Duration, error) {
			n[to]++
			return send(n[to], to, a)
		})
		p := open(wire)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { p.Run(ctx) })
		test(t, p)
		cancel()
		wg.Wait()
	})
}

func add(t *testing.T, p *Pinger, a netip.Addr, every time.Duration) *Target {
	t.Helper()
	x, err := p.Add(a, every)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func want(t *testing.T, what string, c Counts, sent, lost int64, longest, unwatched time.Duration) {
	t.Helper()
	if c.Sent != sent || c.Lost != lost || c.Longest != longest || c.Unwatched != unwatched {
		t.Errorf("%s: %+v, want sent %d, lost %d, longest %v, unwatched %v", what, c, sent, lost, longest, unwatched)
	}
}

// TestFates: each packet's answer is as told, at 200 ms between packets. What is
// under way is not counted, so after 10.0 s and a bit the last five are missing
// when nothing is answered.
func TestFates(t *testing.T) {
	always := func(after ...time.Duration) func(int, *[]byte) ([]time.Duration, error) {
		return func(int, *[]byte) ([]time.Duration, error) { return after, nil }
	}
	for _, c := range []struct {
		name          string
		do            func(n int, answer *[]byte) ([]time.Duration, error)
		sent, lost    int64
		longest, away time.Duration
	}{
		{"answered", always(3 * ms), 50, 0, 0, 0},
		{"in time", always(Within - ms), 45, 0, 0, 0},
		{"late", always(Within + ms), 45, 45, 9 * time.Second, 0},
		{"silent", always(), 45, 45, 9 * time.Second, 0},
		{"doubled", always(ms, 2*ms, 900*ms), 50, 0, 0, 0},
		{"unreachable", func(int, *[]byte) ([]time.Duration, error) { return nil, errors.New("no route") }, 50, 50, 10 * time.Second, 0},
		{"busy", func(int, *[]byte) ([]time.Duration, error) { return nil, ErrBusy }, 0, 0, 0, 10 * time.Second},
		{"gap", func(n int, _ *[]byte) ([]time.Duration, error) {
			if n == 4 || n >= 11 && n < 20 {
				return nil, nil
			}
			return []time.Duration{ms}, nil
		}, 50, 10, 1800 * ms, 0},
		{"out of order", func(n int, _ *[]byte) ([]time.Duration, error) {
			if n%2 == 0 && n < 40 {
				return []time.Duration{900 * ms}, nil
			}
			return []time.Duration{ms}, nil
		}, 50, 0, 0, 0},
		{"another's identifier", func(_ int, a *[]byte) ([]time.Duration,
			error) {
			(*a)[4] ^= 1
			return []time.Duration{ms}, nil
		}, 45, 45, 9 * time.Second, 0},
		{"another's token", func(_ int, a *[]byte) ([]time.Duration, error) {
			(*a)[9] ^= 1
			return []time.Duration{ms},
				nil
		}, 45, 45, 9 * time.Second, 0},
		{"another sequence", func(_ int, a *[]byte) ([]time.Duration, error) {
			(*a)[7] ^= 1
			return []time.Duration{ms},
				nil
		}, 45, 45, 9 * time.Second, 0},
		{"from the future", func(_ int, a *[]byte) ([]time.Duration, error) {
			(*a)[6], (*a)[18] = 0x7f, 0x7f
			return []time.Duration{ms}, nil
		}, 45, 45, 9 * time.Second, 0},
		{"short", func(_ int, a *[]byte) ([]time.Duration, error) {
			*a = (*a)[:size-1]
			return []time.Duration{ms}, nil
		}, 45, 45, 9 * time.Second, 0},
		{"a request", func(_ int, a *[]byte) ([]time.Duration, error) {
			(*a)[0] = request4
			return []time.Duration{ms}, nil
		}, 45, 45, 9 * time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(n int, _ netip.Addr, a *[]byte) ([]time.Duration, error) { return c.do(n, a) }, func(t *testing.T, p *Pinger) {
				x := add(t, p, one, 200*ms)
				p.mu.Lock()
				first := time.Until(x.next)
				p.mu.Unlock()
				time.Sleep(first + 49*200*ms + 100*ms) // 50 packets
				want(t, "figures", x.Counts(), c.sent, c.lost, c.longest, c.away)
			})
		})
	}
}

// TestAnswerOfAnotherAddress: a machine that answers for another is not counted.
func TestAnswerOfAnotherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wire *fakeNet
		wire = newFakeNet(func(_ netip.Addr, a *[]byte) ([]time.Duration, error) {
			wire.in <- packet{from: netip.MustParseAddr("192.0.2.9"), b: *a, at: time.Now()}
			return nil, nil
		})
		p := New(wire, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { p.Run(ctx) })
		x := add(t, p, one, 0)
		time.Sleep(10*time.Second + ms)
		if c := x.Counts(); c.Lost != c.Sent || c.Sent < 8 {
			t.Errorf("%+v", c)
		}
		cancel()
		wg.Wait()
	})
}

// TestStallIsNoLoss: the sender hangs for 5 s. What was answered meanwhile is not
// lost, and what was not sent is unwatched.
func TestStallIsNoLoss(t *testing.T) {
	in(t, func(n int, to netip.Addr, _ *[]byte) ([]time.Duration, error) {
		if to == six && n == 10 {
			time.Sleep(5 * time.Second)
		}
		return []time.Duration{Within + 500*ms}, nil // late, unless the sender hangs
	}, func(t *testing.T, p *Pinger) {
		x, y := add(t, p, one, 200*ms), add(t, p, six, 200*ms)
		time.Sleep(15 * time.Second)
		for _, c := range []Counts{x.Counts(), y.Counts()} {
			if c.Unwatched < 4800*ms || c.Unwatched > 5*time.Second {
				t.Errorf("unwatched %v, want about 5 s", c.Unwatched)
			}
			if got := c.Sent - c.Lost; got < 4 || got > 6 { // those under way when it began to hang
				t.Errorf("%d answers counted, want those that came while the sender hung: %+v", got, c)
			}
		}
	})
}

// TestManyTargets: each has its own interval and figures, also when targets come and go.
func TestManyTargets(t *testing.T) {
	dead := map[netip.Addr]bool{}
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	for i := range 500 {
		dead[addr(i)] = i%5 == 0
	}
	in(t, func(_ int, to netip.Addr, _ *[]byte) ([]time.Duration, error) {
		if dead[to] {
			return nil, nil
		}
		return []time.Duration{2 * ms}, nil
	}, func(t *testing.T, p *Pinger) {
		var all []*Target
		for i := range 500 {
			all = append(all, add(t, p, addr(i), time.Duration(1+i%3)*time.Second))
		}
		twin := add(t, p, addr(1), 0)
		time.Sleep(30 * time.Second)
		for _, x := range all[:100] {
			p.Remove(x)
			p.Remove(x) // twice is once
		}
		then := all[7].Counts()
		time.Sleep(30*time.Second + 100*ms)
		if got := all[7].Counts(); got != then {
			t.Errorf("a removed target is counted: %+v, then %+v", then, got)
		}
		if got := twin.Counts(); got.Sent < 59 || got.Sent > 61 || got.Lost != 0 {
			t.Errorf("the second target of an address: %+v", got)
		}
		for i, x := range all[100:] {
			c, n := x.Counts(), int64(60/(1+(100+i)%3))
			if dead[x.Addr()] {
				if c.Lost != c.Sent || c.Sent < n-2 || c.Sent > n || !c.Answered.IsZero() {
					t.Errorf("dead target %d: %+v, want about %d", 100+i, c, n)
				}
			} else if c.Lost != 0 || c.Sent < n-1 || c.Sent > n+1 || c.Longest != 0 || c.Answered != c.Last {
				t.Errorf("target %d: %+v, want %d", 100+i, c, n)
			}
		}
	})
}

func TestRefusedTargets(t *testing.T) {
	p := New(newFakeNet(nil), nil)
	defer p.Close()
	for _, a := range []netip.Addr{{}, six, netip.MustParseAddr("224.0.0.1"), netip.IPv4Unspecified(), netip.MustParseAddr("fe80::1%eth0")} {
		if _, err := p.Add(a, 0); err == nil {
			t.Errorf("%v: accepted", a)
		}
	}
	x := add(t, p, netip.MustParseAddr("::ffff:192.0.2.1"), 1)
	if x.Addr() != one || x.every != Shortest {
		t.Errorf("target %v every %v", x.Addr(), x.every)
	}
}

// FuzzAnswer: nothing that comes from the network makes it panic.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := New(newFakeNet(nil), nil)
		defer p.Close()
		x := add(t, p, one, 0)
		p.take(&p.v4, []Packet{{Addr: one, Message: b, At: time.Now()}, {Addr: six, Message: b, At: time.Now()}}, time.Now())
		if c := x.Counts(); c.Sent != 0 {
			t.Errorf("counted: %+v", c)
		}
		if len(b) < 2 || len(b)%2 != 0 {
			return
		}
		b[0], b[1] = 0, 0
		sum := checksum(b)
		b[0], b[1] = byte(sum>>8), byte(sum)
		if checksum(b) != 0 {
			t.Errorf("checksum of %x", b)
		}
	})
}
