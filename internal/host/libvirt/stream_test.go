package libvirt

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// TestTargetIsLostAtTheEndOfAMigration: QEMU sends the last part with the guest stopped and
// its main lock held. When nobody takes that part, it answers no question and takes no
// request to abort.
func TestTargetIsLostAtTheEndOfAMigration(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(to *host, incoming cluster.Guest)
		abort func(t *testing.T, from *host, moving <-chan reply, r request)
	}{
		{
			"its QEMU stands still, the call is cancelled",
			func(to *host, g cluster.Guest) {
				to.must(request{Op: "signal-pid", Text: strconv.Itoa(g.PID), Number: int(syscall.SIGSTOP)})
			},
			func(t *testing.T, from *host, moving <-chan reply, r request) {
				from.must(request{Op: "cancel"})
				if _, err := from.end(r, moving); err == nil {
					t.Error("no error")
				}
			},
		},
		{
			"its network is gone, a new agent aborts",
			func(to *host, _ cluster.Guest) { to.ip("link", "set", "eth0", "down") },
			func(_ *testing.T, from *host, moving <-chan reply, r request) {
				from.must(request{Op: "close"})
				_, _ = from.end(r, moving) // its error is TestMigrationCancelledAndAdopted's
				from.must(request{Op: "new"})
				from.must(request{Op: "abort", Timeout: 15 * time.Second})
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			hosts := newHosts(t, 2)
			from, to := hosts[0], hosts[1]
			run(t, "nsenter", "-t", from.pid(), "-n", "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "16mbit", "burst", "32k", "latency", "400ms")
			spec := guest(t)
			filler(t, &spec, false)
			from.must(request{Op: "start", Spec: spec})
			was := from.until("running", is(cluster.GuestRunning))
			time.Sleep(2 * time.Second) // it fills its memory
			from.must(request{Op: "speed", Number: 1})
			r := request{Op: "migrate", Text: to.addr, Timeout: time.Minute}
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
			began := time.Now()
			for err := from.answers(time.Second); err != nil; err = from.answers(time.Second) {
				if time.Since(began) > time.Minute {
					t.Fatalf("its QEMU still hangs: %v", err)
				}
			}
			t.Logf("QEMU answers %v after the abort", time.Since(began).Round(time.Millisecond))
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

func TestParseStream(t *testing.T) {
	const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
	line := func(st, queued, timer, retries, to string) string {
		return "   1: 0107620A:B8DE " + to + " " + st + " " + queued + ":00000000 " + timer + ":00000012 " + retries + "     0        0 3160199 1 0000000011e890d5 20 4 31 24 -1"
	}
	const high, low = "0207620A:C000", "0207620A:2A39"
	for _, c := range []struct {
		what, line  string
		established bool
		stuck       bool
	}{
		{"heading", heading, false, false},
		{"listening", line("0A", "00000000", "00", "00000000", high), false, false},
		{"idle", line("01", "00000000", "00", "00000000", high), true, false},
		{"on its way", line("01", "0000A000", "01", "00000000", high), true, false},
		{"sent again", line("01", "0000A000", "01", "00000002", high), true, true},
		{"the window is closed", line("01", "0000A000", "04", "00000000", high), true, true},
		{"kept alive", line("01", "00000000", "02", "00000003", high), true, false},
		{"storage", line("01", "0000A000", "01", "00000002", low), true, false},
	} {
		s, established, err := parseStream(c.line)
		if err != nil || established != c.established || s.stuck() != c.stuck {
			t.Errorf("%s: %+v, established %v, stuck %v, %v", c.what, s, established, s.stuck(), err)
		}
	}
	s, _, _ := parseStream(line("01", "0000A000", "01", "00000002", high))
	if s.from.String() != "10.98.7.1:47326" || s.to.String() != "10.98.7.2:49152" || s.inode != 3160199 || s.waiting != 0xa000 {
		t.Errorf("%+v", s)
	}
	if end, err := parseEnd("B80D01200000000067452301EFCDAB89:0050"); err != nil || end.String() != "[2001:db8::123:4567:89ab:cdef]:80" {
		t.Errorf("%v, %v", end, err)
	}
	for _, bad := range []string{"x", "1: a b 01 c d e f g h", line("01", "x", "01", "0", high)} {
		if _, _, err := parseStream(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
