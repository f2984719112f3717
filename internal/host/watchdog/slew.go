package watchdog

import "time"

// The kernel's timers are slewed, instants are not (host/clock).
// The kernel lets itself be slewed by 10 % (ADJ_TICK) and 0.05 % (ADJ_FREQUENCY,
// adjtimex(2)), so a slewed clock takes 0.909 to 1.112 s for a second. Here that
// is 8/9 to 9/8.
const (
	slewedSecond = time.Second / 8 * 9
	slewNum      = 8
	slewDen      = 9
)

// patient shortens a wait that is measured by a slewed timer, so that it does not
// end too late by the host's clock. Whoever waits looks at the clock and waits on.
func patient(d time.Duration) time.Duration {
	const grain = 20 * time.Millisecond
	if d <= grain {
		return d
	}
	return d / slewDen * slewNum
}
