package ping

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// untilSent waits until n packets to x were sent, and a half interval.
func untilSent(p *Pinger, x *Target, n int) {
	p.mu.Lock()
	first := time.Until(x.next)
	p.mu.Unlock()
	time.Sleep(first + time.Duration(n-1)*x.every + x.every/2)
}

func lengths(x *Target) (out []time.Duration, open bool, more int64) {
	gaps, more := x.Gaps()
	for _, g := range gaps {
		out, open = append(out, g.Length), g.Open
	}
	return out, open, more
}

// TestGaps: 200 ms between packets, which are answered after 1 ms or as told.
func TestGaps(t *testing.T) {
	const every = 200 * ms
	none := []time.Duration{}
	for _, c := range []struct {
		name      string
		do        func(n int) ([]time.Duration, error)
		want      []time.Duration
		open      bool
		reordered int64
	}{
		{"none", func(int) ([]time.Duration, error) { return []time.Duration{ms}, nil }, nil, false, 0},
		{"two", func(n int) ([]time.Duration, error) {
			if n == 4 || n >= 11 && n < 20 {
				return none, nil
			}
			return []time.Duration{ms}, nil
		}, []time.Duration{every, 9 * every}, false, 0},
		{"of the first", func(n int) ([]time.Duration, error) {
			if n < 3 {
				return none, nil
			}
			return []time.Duration{0}, nil
		}, []time.Duration{2 * every}, false, 0},
		{"no way", func(n int) ([]time.Duration, error) {
			if n >= 11 && n < 13 {
				return nil, errors.New("no route")
			}
			return []time.Duration{ms}, nil
		}, []time.Duration{2 * every}, false, 0},
		{"open", func(n int) ([]time.Duration, error) {
			if n >= 31 {
				return none, nil
			}
			return []time.Duration{0}, nil
		}, []time.Duration{15 * every}, true, 0}, // of the last five it is not known yet
		// 11 to 15 are lost, 16 to 18 are answered late, when the target is back.
		{"back later", func(n int) ([]time.Duration, error) {
			switch {
			case n >= 11 && n < 16:
				return none, nil
			case n >= 16 && n < 19:
				return []time.Duration{every*time.Duration(19-n) - time.Duration(66-n)*ms}, nil
			}
			return []time.Duration{0}, nil
		}, []time.Duration{8*every - 50*ms}, false, 0},
		{"answers out of order after it", func(n int) ([]time.Duration, error) {
			switch {
			case n == 11:
				return none, nil
			case n == 12:
				return []time.Duration{700 * ms}, nil
			}
			return []time.Duration{0}, nil
		}, []time.Duration{2 * every}, false, 1},
		{"out of order", func(n int) ([]time.Duration, error) {
			if n%2 == 0 && n < 40 {
				return []time.Duration{900 * ms}, nil
			}
			return []time.Duration{ms}, nil
		}, nil, false, 19},
		{"not sent in it", func(n int) ([]time.Duration, error) {
			switch {
			case n >= 11 && n < 13:
				return none, nil
			case n >= 13 && n < 20:
				return nil, ErrBusy
			}
			return []time.Duration{ms}, nil
		}, []time.Duration{2 * every}, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(n int, _ netip.Addr, _ *[]byte) ([]time.Duration, error) { return c.do(n) }, func(t *testing.T, p *Pinger) {
				x := add(t, p, one, every)
				untilSent(p, x, 50)
				got, open, more := lengths(x)
				if !slices.Equal(got, c.want) || open != c.open || more != 0 {
					t.Errorf("gaps %v, the last open %v, %d left out; want %v, %v", got, open, more, c.want, c.open)
				}
				if n := x.Counts().Reordered; n != c.reordered {
					t.Errorf("%d out of order, want %d", n, c.reordered)
				}
			})
		})
	}
}

// TestGapBegins: at the first packet that was lost.
func TestGapBegins(t *testing.T) {
	in(t, func(n int, _ netip.Addr, _ *[]byte) ([]time.Duration, error) {
		if n >= 11 && n < 14 {
			return nil, nil
		}
		return []time.Duration{30 * ms}, nil
	}, func(t *testing.T, p *Pinger) {
		x := add(t, p, one, 200*ms)
		untilSent(p, x, 20)
		gaps, _ := x.Gaps()
		if want := x.Counts().First.Add(10 * 200 * ms); len(gaps) != 1 || !gaps[0].At.Equal(want) {
			t.Errorf("%v, want one that begins %v", gaps, want)
		}
	})
}

// TestStallInGap: what was not watched in a gap is not in its length.
func TestStallInGap(t *testing.T) {
	in(t, func(n int, to netip.Addr, _ *[]byte) ([]time.Duration, error) {
		if to == six {
			if n == 10 {
				time.Sleep(4 * time.Second)
			}
			return []time.Duration{ms}, nil
		}
		if n >= 9 && n < 13 {
			return nil, nil
		}
		return []time.Duration{ms}, nil
	}, func(t *testing.T, p *Pinger) {
		x := add(t, p, one, 200*ms)
		add(t, p, six, 200*ms)
		time.Sleep(15 * time.Second)
		got, _, _ := lengths(x)
		if len(got) != 1 || got[0] < 600*ms || got[0] > time.Second { // four packets were lost
			t.Errorf("gaps %v, want one of about 800 ms", got)
		}
		if c := x.Counts(); c.Lost != 4 || c.Unwatched < 3800*ms || c.Unwatched > 4*time.Second {
			t.Errorf("%+v, want 4 lost, and about 4 s unwatched", c)
		}
		when, more := x.Unwatched()
		if gaps, _ := x.Gaps(); len(when) != 1 || more != 0 || when[0].Length != x.Counts().Unwatched || !when[0].At.After(gaps[0].At) {
			t.Errorf("unwatched %v, and %d more; want it once, in the gap %v", when, more, gaps)
		}
	})
}

// TestLongestGapsAreKept when there are too many.
func TestLongestGapsAreKept(t *testing.T) {
	in(t, func(n int, _ netip.Addr, _ *[]byte) ([]time.Duration, error) {
		if n%4 == 0 || n > 500 && n%4 != 1 {
			return nil, nil
		}
		return []time.Duration{0}, nil
	}, func(t *testing.T, p *Pinger) {
		x := add(t, p, one, 10*ms)
		untilSent(p, x, 641) // 125 gaps of 1, and 35 of 3 packets
		p.Finish(t.Context())
		got, _, more := lengths(x)
		long := 0
		for _, d := range got {
			if d == 30*ms {
				long++
			}
		}
		if len(got) != MaxGaps || more != 60 || long != 35 {
			t.Errorf("%d gaps, of these %d long ones, %d left out; want %d, 35, 60: %v", len(got), long, more, MaxGaps, got)
		}
	})
}

// TestThousandASecond: the shortest interval.
func TestThousandASecond(t *testing.T) {
	in(t, func(n int, to netip.Addr, _ *[]byte) ([]time.Duration, error) {
		if to == six || n > 1000 && n <= 1020 {
			return nil, nil
		}
		return []time.Duration{100 * time.Microsecond}, nil
	}, func(t *testing.T, p *Pinger) {
		x, dead := add(t, p, one, time.Millisecond), add(t, p, six, time.Millisecond)
		untilSent(p, x, 5000)
		want(t, "figures", x.Counts(), 5000, 20, 20*ms, 0)
		if got, _, _ := lengths(x); len(got) != 1 || got[0] != 20*ms {
			t.Errorf("gaps %v, want one of 20 ms", got)
		}
		if c := dead.Counts(); c.Sent < 3900 || c.Sent > 4100 || c.Lost != c.Sent || len(dead.pending.ring) > 2048 {
			t.Errorf("dead: %+v, room for %d under way", c, len(dead.pending.ring))
		}
	})
}

// TestFinish: what was sent is judged, and nothing more is sent.
func TestFinish(t *testing.T) {
	sent := 0
	in(t, func(n int, _ netip.Addr, _ *[]byte) ([]time.Duration, error) {
		sent = n
		if n > 40 {
			return nil, nil
		}
		return []time.Duration{Within - ms}, nil
	}, func(t *testing.T, p *Pinger) {
		x := add(t, p, one, 200*ms)
		untilSent(p, x, 50)
		began := time.Now()
		p.Finish(t.Context())
		if took := time.Since(began); took > Within+2*lag {
			t.Errorf("it took %v", took)
		}
		want(t, "figures", x.Counts(), 50, 10, 2*time.Second, 0)
		time.Sleep(10 * time.Second)
		if c := x.Counts(); sent != 50 || c.Sent != 50 || c.Unwatched != 0 {
			t.Errorf("%d sent, %+v", sent, c)
		}
		p.Finish(t.Context()) // twice is once
	})
}

// TestDroppedAnswersAreNoLoss: this host had no room for the answers to 11 to 13.
func TestDroppedAnswersAreNoLoss(t *testing.T) {
	over(t, func(w Wire) *Pinger { return New(w, nil) }, func(n int, _ netip.Addr, a *[]byte) ([]time.Duration, error) {
		switch {
		case n >= 11 && n < 14 || n == 30:
			return nil, nil
		case n == 14:
			*a = append(*a, dropMark)
		}
		return []time.Duration{ms}, nil
	}, func(t *testing.T, p *Pinger) {
		x := add(t, p, one, 200*ms)
		untilSent(p, x, 50)
		want(t, "figures", x.Counts(), 47, 1, 200*ms, 600*ms)
	})
}

// TestLateReceiverIsNoLoss: what waits in the socket was answered in time.
func TestLateReceiverIsNoLoss(t *testing.T) {
	p := New(newFakeNet(nil), nil)
	defer p.Close()
	x := add(t, p, one, 200*ms)
	now := p.since(time.Now())
	x.seq = 1
	*x.pending.push() = echo{sent: now, due: now + Within}
	p.v4.seen = now
	x.settle(now + 10*time.Second)
	if c := x.Counts(); c.Sent != 0 {
		t.Errorf("judged before what came was read: %+v", c)
	}
	b := make([]byte, size)
	request(b, one, p.id, 1, x.token)
	b[0] = answer4
	p.take(&p.v4, []Packet{{Addr: one, Message: b, At: p.began.Add(now + Within - ms)}}, p.began.Add(now+5*time.Second))
	want(t, "figures", x.Counts(), 1, 0, 0, 0)
}

// echoWire answers everything at once, and makes no garbage.
type echoWire struct {
	Wire
	got []Packet
}

func (w *echoWire) Send(batch []Packet) (int, error) {
	w.got = w.got[:0]
	for _, p := range batch {
		p.Message[0], p.At = answer4, time.Now()
		w.got = append(w.got, p)
	}
	return len(batch), nil
}

// TestNoGarbage: a packet and its answer allocate nothing. Time passes between rounds only: what a process that did not run
// has missed is noted, and a note has to be kept somewhere.
func TestNoGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &echoWire{got: make([]Packet, 0, batch)}
		p := New(w, nil)
		for i := range 1000 {
			add(t, p, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Shortest)
		}
		time.Sleep(tick)
		packets := 0
		round := func() {
			for time.Sleep(Shortest); p.fill(); {
				packets += len(p.v4.out)
				p.flush(&p.v4)
				p.take(&p.v4, w.got, time.Now())
			}
		}
		round() // the first packet of each makes room for those under way
		round()
		if n := testing.AllocsPerRun(100, round); n != 0 {
			t.Errorf("%v allocations for a packet to each", n)
		}
		if packets < 100*1000 {
			t.Errorf("only %d packets were sent", packets)
		}
	})
}
