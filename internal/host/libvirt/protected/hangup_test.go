package protected

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
	"holdfast/testbed/virthost"
)

// TestTargetIsLostAtTheEndOfAMigration: QEMU sends the last part with the guest stopped and
// its main lock held. When nobody takes that part, it answers no question and takes no
// request to abort.
func TestTargetIsLostAtTheEndOfAMigration(t *testing.T) {
	need.Drill(t, "P1: the target is lost at the end of a migration, and the guest runs in one place")
	for _, c := range []struct {
		name  string
		fault func(to *host, incoming cluster.Guest)
		abort func(t *testing.T, from *host, moving virthost.Pending, r request)
	}{
		{
			"its QEMU stands still, the call is cancelled",
			func(to *host, g cluster.Guest) {
				to.must(request{Op: "signal-pid", Text: strconv.Itoa(g.PID), Number: int(syscall.SIGSTOP)})
			},
			func(t *testing.T, from *host, moving virthost.Pending, r request) {
				from.must(request{Op: "cancel"})
				if _, err := from.end(moving); err == nil {
					t.Error("no error")
				}
			},
		},
		{
			"its network is gone, a new agent aborts",
			func(to *host, _ cluster.Guest) { to.IP("link", "set", "eth0", "down") },
			func(_ *testing.T, from *host, moving virthost.Pending, r request) {
				from.must(request{Op: "close"})
				_, _ = from.end(moving) // its error is TestMigrationCancelledAndAdopted's
				from.must(request{Op: "new"})
				from.must(request{Op: "abort", Timeout: 15 * time.Second})
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			hosts := newHosts(t, 2)
			from, to := hosts[0], hosts[1]
			virthost.Run(t, "nsenter", "-t", from.PID(), "-n", "tc", "qdisc", "add", "dev", "eth0", "root", "tbf",
				"rate", "16mbit", "burst", "32k", "latency", "400ms")
			spec := guest(t)
			filler(t, &spec, false)
			from.must(request{Op: "start", Spec: spec})
			was := from.until("running", is(cluster.GuestRunning))
			time.Sleep(2 * time.Second) // it fills its memory
			from.must(request{Op: "speed", Number: 1})
			r := request{Op: "migrate", Text: to.Addr, Timeout: time.Minute}
			moving := from.begin(r)
			from.until("on its way", func(g cluster.Guest) bool { return g.Percent > 0 })
			incoming := to.until("incoming", is(cluster.GuestIncoming))
			from.must(request{Op: "downtime", Number: 600_000}) // all that is left is the last part now
			time.Sleep(time.Second)
			c.fault(to, incoming)
			if err := from.answers(2 * time.Second); err == nil {
				t.Fatal("QEMU answers: this is not the fault that is meant")
			}
			c.abort(t, from, moving, r)
			try.Until(t, "an answer of QEMU after the abort", func() bool { return from.answers(time.Second) == nil })
			if now := from.until("here again", is(cluster.GuestRunning)); now.PID != was.PID {
				t.Errorf("after the abort: %+v, want %+v", now, was)
			}
			from.must(request{Op: "kill"})
		})
	}
}

// answers asks QEMU by libvirtd, and fails unless the guest runs.
func (h *host) answers(within time.Duration) error {
	_, err := h.do(request{Op: "answers", Timeout: within})
	return err
}
