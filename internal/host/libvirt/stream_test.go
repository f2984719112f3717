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
	line := func(st, from, to string) string {
		return "   1: " + from + " " + to + " " + st + " 0000A000:00000000 01:00000012 00000002     0        0 3160199 1 0000000011e890d5 20 4 31 24 -1"
	}
	const own, console, stream, disk = "0107620A:B8DE", "0107620A:170C", "0207620A:C000", "0207620A:2A39"
	for _, c := range []struct {
		what, line          string
		connected, outgoing bool
	}{
		{"heading", heading, false, false},
		{"listening", line("0A", own, "00000000:0000"), false, false},
		{"over", line("06", own, stream), false, false},
		{"a migration", line("01", own, stream), true, true},
		{"a migration that the peer has closed", line("08", own, stream), true, true},
		{"storage", line("01", own, disk), true, false},
		{"somebody looks at the console", line("01", console, stream), true, false},
	} {
		s, connected, err := parseStream(c.line)
		if err != nil || connected != c.connected || s.outgoing() != c.outgoing {
			t.Errorf("%s: %+v, connected %v, outgoing %v, %v", c.what, s, connected, s.outgoing(), err)
		}
	}
	s, _, _ := parseStream(line("01", own, stream))
	if s.from.String() != "10.98.7.1:47326" || s.to.String() != "10.98.7.2:49152" || s.inode != 3160199 {
		t.Errorf("%+v", s)
	}
	if end, err := parseEnd("B80D01200000000067452301EFCDAB89:0050"); err != nil || end.String() != "[2001:db8::123:4567:89ab:cdef]:80" {
		t.Errorf("%v, %v", end, err)
	}
	for _, bad := range []string{"x", "1: a b 01 c d e f g h", line("01", own, "x")} {
		if _, _, err := parseStream(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
