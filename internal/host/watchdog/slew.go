package watchdog

import (
	"time"

	"holdfast/internal/cluster"
)

// The kernel's timers and CLOCK_BOOTTIME are slewed, instants are not (host/clock).
// The kernel lets itself be slewed by 10 % (ADJ_TICK) and 0.05 % (ADJ_FREQUENCY,
// adjtimex(2)), so a slewed clock takes 0.909 to 1.112 s for a second. Here that
// is 8/9 to 9/8.
const (
	slewedSecond = time.Second / 8 * 9
	slewNum      = 8
	slewDen      = 9
)

// sooner moves an instant from one clock of this host to another, of which at most
// one is slewed; from and to are readings of them at one moment. The result comes
// no later than the instant does.
func sooner(i, from, to cluster.Instant) cluster.Instant {
	if i <= from {
		return to.Add(-(from.Sub(i)/slewNum*slewDen + slewNum)) // rounded up
	}
	return to.Add(i.Sub(from) / slewDen * slewNum)
}

// later is sooner to the other side, for instants that have passed.
func later(i, from, to cluster.Instant) cluster.Instant {
	return to.Add(-(from.Sub(i) / slewDen * slewNum))
}

// patient shortens a wait that is measured by a slewed timer, so that it does not
// end too late by the host's clock. Whoever waits looks at the clock and waits on.
func patient(d time.Duration) time.Duration {
	const grain = 20 * time.Millisecond
	if d <= grain {
		return d
	}
	return d / slewDen * slewNum
}
