// Package clock reads the host's clock that the safety model counts in. It
// holds nothing else: wall clocks and timers belong to their users.
package clock

import (
	"fmt"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
)

// Boottime reads CLOCK_BOOTTIME: nanoseconds since the host booted, suspended
// time included, never set back.
//
// It panics when the kernel does not know the clock (Linux before 2.6.39):
// without it no deadline means anything.
func Boottime() cluster.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err))
	}
	return cluster.Instant(ts.Nano())
}
