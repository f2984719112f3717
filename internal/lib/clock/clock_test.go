package clock

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
)

// host is a kernel with clocks. Each reading takes a random time.
type host struct {
	rnd   *rand.Rand
	true  int64   // ns of the oscillator
	mono  float64 // ns, slewed
	rate  float64 // of mono
	slept int64
	slow  time.Duration // how long a reading may be preempted, one in ten
}

func (h *host) pass(d int64) {
	h.true += d
	h.mono += float64(d) * h.rate
}

func (h *host) read(id int32) int64 {
	h.pass(h.rnd.Int64N(400))
	if h.slow > 0 && h.rnd.IntN(10) == 0 {
		h.pass(h.rnd.Int64N(int64(h.slow)))
	}
	defer h.pass(h.rnd.Int64N(400))
	switch id {
	case unix.CLOCK_MONOTONIC_RAW:
		return h.true
	case unix.CLOCK_MONOTONIC:
		return int64(h.mono)
	case unix.CLOCK_BOOTTIME:
		return int64(h.mono) + h.slept
	}
	panic("another clock")
}

// Whatever slews, suspends and preempts: an instant is one between the beginning
// and the end of its reading, but for what the first readings of the suspended
// time may lack, and none is before an earlier one.
func TestInstantsFollowTheOscillator(t *testing.T) {
	for seed := range uint64(200) {
		h := &host{rnd: rand.New(rand.NewPCG(seed, 1)), true: 5e9, mono: 7e9, rate: 1, slept: int64(seed) * 1e9}
		if seed%2 == 1 {
			h.slow = 3 * time.Millisecond
		}
		c := &Clock{read: h.read}
		var last cluster.Instant
		for i := range 500 {
			switch h.rnd.IntN(8) {
			case 0:
				h.rate = 0.9 + 0.2*h.rnd.Float64()
			case 1:
				h.pass(h.rnd.Int64N(1e10))
			case 2:
				h.slept += h.rnd.Int64N(1e12)
			}
			before := h.true + h.slept
			now := c.Now()
			after := h.true + h.slept
			if now < last {
				t.Fatalf("seed %d, reading %d: went back by %v", seed, i, last.Sub(now))
			}
			// tries readings in a row are preempted once in a hundred thousand times.
			if int64(now) < before-int64(tight) || int64(now) > after {
				t.Fatalf("seed %d, reading %d: %v before the beginning, %v after the end", seed, i,
					time.Duration(before-int64(now)), time.Duration(int64(now)-after))
			}
			last = now
		}
	}
}

// Two processes of one host agree, also when only one was there before a slew.
func TestClocksOfOneHostAgree(t *testing.T) {
	h := &host{rnd: rand.New(rand.NewPCG(1, 1)), true: 5e9, mono: 7e9, rate: 0.9, slept: 3e9}
	a := &Clock{read: h.read}
	a.Now()
	h.pass(1e12)
	b := &Clock{read: h.read}
	for range 100 {
		x, y, z := a.Now(), b.Now(), a.Now()
		if y < x.Add(-tight) || y > z.Add(tight) {
			t.Fatalf("%d is not between %d and %d", y, x, z)
		}
	}
}

func TestNowNeverGoesBack(t *testing.T) {
	c := New()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := c.Now()
			for range 20_000 {
				now := c.Now()
				if now < last {
					t.Errorf("went back from %d to %d", last, now)
					return
				}
				last = now
			}
		})
	}
	wg.Wait()
}

// The suspended time is the same, whenever and by whomever it is read.
func TestSuspendedTimeDoesNotJitter(t *testing.T) {
	a := New()
	a.Now()
	for range 2000 {
		b := New()
		b.Now()
		if d := time.Duration(b.slept.Load() - a.slept.Load()); d.Abs() > 2*tight {
			t.Fatalf("two clocks differ by %v", d)
		}
	}
}

// slew makes this machine's clocks run slow or fast for the rest of the test, as
// chrony does.
func slew(t *testing.T, share int64) {
	t.Helper()
	var was unix.Timex
	if _, err := unix.Adjtimex(&was); err != nil {
		t.Skipf("adjtimex: %v", err)
	}
	set := func(tick int64) error {
		_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_TICK, Tick: tick})
		return err
	}
	t.Cleanup(func() {
		if err := set(was.Tick); err != nil && !errors.Is(err, unix.EPERM) {
			t.Errorf("the machine's clock still runs wrong (adjtimex --tick %d mends it): %v", was.Tick, err)
		}
	})
	if err := set(was.Tick + was.Tick*share/100); errors.Is(err, unix.EPERM) {
		t.Skip("this machine's clock may not be slewed: root is needed")
	} else if err != nil {
		t.Fatal(err)
	}
}

func boottime() cluster.Instant { return cluster.Instant(kernel(unix.CLOCK_BOOTTIME)) }

// The real clocks under a real slew of 8 %, slow and fast: CLOCK_BOOTTIME runs
// away from instants, which go on with the oscillator.
func TestInstantsAreNotSlewed(t *testing.T) {
	need.Drill(t, "P1: instants go on with the oscillator while this machine's clock is slewed by 8 %", need.Root)
	for name, share := range map[string]int64{"slow": -8, "fast": 8} {
		t.Run(name, func(t *testing.T) {
			slew(t, share)
			const enough = 20 * time.Millisecond
			c := New()
			raw, now, boot := kernel(unix.CLOCK_MONOTONIC_RAW), c.Now(), boottime()
			var away, draw time.Duration
			for away < enough && draw < 20*time.Second { // 0.25 s when all is well
				time.Sleep(10 * time.Millisecond)
				dboot, dnow := boottime().Sub(boot), c.Now().Sub(now)
				if draw = time.Duration(kernel(unix.CLOCK_MONOTONIC_RAW) - raw); dnow > draw+tight {
					t.Fatalf("instants moved by %v, the oscillator by %v: they are slewed", dnow, draw)
				}
				away = (dboot - dnow) * time.Duration(share) / 8
				if share < 0 {
					// A pause between the two readings looks like a slow clock: read again.
					away = min(away, c.Now().Sub(now)-boottime().Sub(boot))
				}
			}
			t.Logf("CLOCK_BOOTTIME ran away by %v in %v", away, draw)
			if away < enough {
				t.Errorf("CLOCK_BOOTTIME ran away by %v only in %v: are instants slewed with it?", away, draw)
			}
		})
	}
}
