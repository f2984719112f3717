// Package clock reads the host's clock that the safety model counts in (Clock), and waits for a
// time that a context may cut short (Sleep). Wall clocks belong to their users.
package clock

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
)

const (
	// tight is the longest that the two readings around a third may be apart for
	// it to be trusted; in practice they are less than 1 us apart. A process that
	// is preempted between them reads again, at most tries times in all.
	tight = 10 * time.Microsecond
	tries = 8
)

// Clock gives instants: nanoseconds since the host booted, by its oscillator,
// with the time that it was suspended. That is CLOCK_MONOTONIC_RAW plus
// CLOCK_BOOTTIME less CLOCK_MONOTONIC. NTP daemons slew the latter two, by up to
// 10 % (adjtimex(2), ADJ_TICK; chrony's default maxslewrate is 8.3 %), but both
// alike, and the first never.
//
// Instants never go back. Two clocks of one host, also of two processes, differ
// by no more than 10 us once each has been read. A Clock may be used concurrently.
type Clock struct {
	read  func(id int32) int64 // ns
	slept atomic.Int64         // ns suspended, as far as is known: never too much
}

// New returns a clock of this host.
//
// Its readings panic when the kernel does not know the clocks (Linux before
// 2.6.39): without them no deadline means anything.
func New() *Clock { return &Clock{read: kernel} }

// Now reads the clock.
func (c *Clock) Now() cluster.Instant {
	// Raw first: when the host is suspended in between, the sum is an instant
	// after that, not one that is long past.
	raw := c.read(unix.CLOCK_MONOTONIC_RAW)
	return cluster.Instant(raw + c.suspended())
}

// suspended is how long the host has been suspended since it booted. The kernel
// keeps that as one number, which only a suspension changes, but tells the two
// clocks that differ by it one after the other. With CLOCK_MONOTONIC read last
// the difference is too small by what passed in between, never too large. So the
// largest seen is the nearest, and keeping it keeps instants from going back.
func (c *Clock) suspended() int64 {
	var best int64
	for range tries {
		first := c.read(unix.CLOCK_MONOTONIC)
		boot := c.read(unix.CLOCK_BOOTTIME)
		last := c.read(unix.CLOCK_MONOTONIC)
		best = max(best, boot-last)
		if last-first <= int64(tight) {
			break
		}
	}
	for {
		known := c.slept.Load()
		if best <= known {
			return known
		}
		if c.slept.CompareAndSwap(known, best) {
			return best
		}
	}
}

// kernel reads one of the kernel's clocks.
func kernel(id int32) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(fmt.Sprintf("read clock %d: %v", id, err))
	}
	return ts.Nano()
}
