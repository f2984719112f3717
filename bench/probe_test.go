//go:build bench

package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/fleet/losses"
	"holdfast/testbed/nettest"
)

// probeHost is a host on which all of 10.98.0.0/16 answer, this program, and where
// files of the test are.
func probeHost(t *testing.T) (h nettest.End, exe, dir string) {
	t.Helper()
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	h, _ = nettest.Cable(t)
	dir = t.TempDir()
	exe = filepath.Join(dir, "holdfast")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", exe, "holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return h, exe, dir
}

func probeAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 98, byte(i >> 8), byte(i)}) }

// probeList writes the addresses 1 to n.
func probeList(t *testing.T, dir string, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, probeAddress(i+1))
	}
	file := filepath.Join(dir, fmt.Sprint(n, ".txt"))
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// onHost runs a command on a host, and returns what it wrote and used.
func onHost(t *testing.T, h nettest.End, argv ...string) (out []byte, state *os.ProcessState, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var said, warned bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &warned
	began := time.Now()
	if err := h.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 1 { // 1: some are lost
		t.Fatalf("%v: %v\n%s", argv, err, warned.String())
	}
	return said.Bytes(), cmd.ProcessState, time.Since(began)
}

// coreTime is the time on processors, in seconds. What the kernel does with a packet of the
// loopback device, its echo and the answer's way back is the sender's, too.
func coreTime(s *os.ProcessState) (user, system float64) {
	return s.UserTime().Seconds(), s.SystemTime().Seconds()
}

// TestProbeManyTargets: 10,000 targets at 10 packets a second each, with fping beside
// it as fast as it goes.
func TestProbeManyTargets(t *testing.T) {
	h, exe, dir := probeHost(t)
	h.IP(t, "route", "add", "local", "10.98.0.0/16", "dev", "lo")
	const seconds = 30
	for _, n := range []int{1000, 10_000} {
		out, state, took := onHost(t, h, exe, "probe", "--targets", probeList(t, dir, n), "--rate", "10", "--for",
			fmt.Sprint(seconds, "s"), "-o", "json")
		r, err := losses.Read(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		user, system := coreTime(state)
		result(t, "probe of %d targets at 10/s for %d s: %d packets (%.0f/s), %d lost, %.2f %% unwatched, %d silent; "+
			"%.2f + %.2f s of a core (user + system, with the loopback's echoes) in %.1f s, %.0f %% of a core; %.0f MB resident at most",
			n, seconds, r.Total.Sent, float64(r.Total.Sent)/seconds, r.Total.Lost, 100*r.Unwatched(), r.Total.Silent,
			user, system, took.Seconds(), 100*(user+system)/took.Seconds(), float64(state.SysUsage().(*syscall.Rusage).Maxrss)/1000)
		if r.Total.Lost > 0 {
			t.Errorf("%d lost on the loopback device", r.Total.Lost)
		}
	}
	if _, err := exec.LookPath("fping"); err != nil {
		result(t, "fping is not installed")
		return
	}
	list := probeList(t, dir, 10_000)
	out, _, _ := onHost(t, h, "bash", "-c", "fping -q -r 0 -i 0 -p 100 -c 20 -f "+list+" 2>&1 | tail -n 1")
	result(t, "fping -i 0 -p 100, 10,000 targets: %s", strings.TrimSpace(string(out)))
	// It tells answers apart by 65,536 sequence numbers alone, and keeps each for 10 s: six rounds of these targets.
	const rounds = 20
	out, state, took := onHost(t, h, "bash", "-c", fmt.Sprintf("fping -q -r 0 -i 0 -p 1700 -c %d -f %s 2>&1 | awk '{ "+
		"split($5, x, \"/\"); sent += x[1]; got += x[2] } END { print sent, got }'", rounds, list))
	user, system := coreTime(state)
	var sent, got float64
	if _, err := fmt.Sscan(string(out), &sent, &got); err != nil || sent == 0 {
		t.Fatalf("%q: %v", out, err)
	}
	result(t, "fping -i 0 -p 1700, 10,000 targets, %d rounds: %.0f sent, %.0f answered in %.1f s (%.0f/s), %.2f + "+
		"%.2f s of a core", rounds, sent, got, took.Seconds(), sent/took.Seconds(), user, system)
}

// darkness is a time in which a guest of a card answers nothing.
type darkness struct{ from, to time.Time }

// card answers for 10.98.0.0/16, on a card whose packets this process reads.
type card struct {
	f    *os.File
	mu   sync.Mutex
	dark map[netip.Addr]darkness
}

func newCard(t *testing.T, h nettest.End) *card {
	t.Helper()
	fd := -1
	if err := h.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		req, err := unix.NewIfreq("guests")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}); err != nil {
		t.Fatalf("no card: %v", err)
	}
	c := &card{f: os.NewFile(uintptr(fd), "guests"), dark: map[netip.Addr]darkness{}}
	var reads sync.WaitGroup
	reads.Go(c.answer)
	t.Cleanup(func() {
		c.f.Close() // ends answer; nothing is written to it any more
		reads.Wait()
	})
	h.IP(t, "link", "set", "guests", "up", "txqueuelen", "10000")
	h.IP(t, "route", "add", "10.98.0.0/16", "dev", "guests")
	return c
}

// answer answers echo requests of IPv4, except in windows.
func (c *card) answer() {
	b := make([]byte, 2000)
	for {
		n, err := c.f.Read(b)
		if err != nil {
			return
		}
		now := time.Now()
		if n < 28 || b[0]>>4 != 4 || b[9] != 1 || b[20] != 8 {
			continue
		}
		to := netip.AddrFrom4([4]byte(b[16:20]))
		c.mu.Lock()
		w := c.dark[to]
		c.mu.Unlock()
		if !now.Before(w.from) && now.Before(w.to) {
			continue
		}
		var src [4]byte
		copy(src[:], b[12:16])
		copy(b[12:16], b[16:20])
		copy(b[16:20], src[:])
		b[20] = 0
		sum := uint32(binary.BigEndian.Uint16(b[22:])) + 0x800
		binary.BigEndian.PutUint16(b[22:], uint16(sum+sum>>16))
		_, _ = c.f.Write(b[:n]) // what does not fit is lost, as on a card
	}
}

// TestProbeGaps compares gaps with those that a card makes, at two rates. Each of some
// targets is dark once every two seconds and a bit, at any moment between two packets.
func TestProbeGaps(t *testing.T) {
	h, exe, dir := probeHost(t)
	c := newCard(t, h)
	const each, seconds = 4, 60
	gaps := []time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, time.Second}
	for _, rate := range []int{10, 1000} {
		made := map[netip.Addr][]darkness{}
		list := probeList(t, dir, each*len(gaps))
		ctx, cancel := context.WithCancel(t.Context())
		var darkens sync.WaitGroup
		darkens.Go(func() {
			wait := func(d time.Duration) bool {
				select {
				case <-time.After(d):
					return true
				case <-ctx.Done():
					return false
				}
			}
			for wait(7 * time.Second); ctx.Err() == nil; wait(3 * time.Second) { // after all were asked
				c.mu.Lock()
				for i := range each * len(gaps) {
					a, from := probeAddress(i+1), time.Now().Add(rand.N(time.Second))
					w := darkness{from, from.Add(gaps[i/each])}
					c.dark[a] = w
					made[a] = append(made[a], w)
				}
				c.mu.Unlock()
			}
		})
		out, _, _ := onHost(t, h, exe, "probe", "--targets", list, "--rate", fmt.Sprint(rate), "--for", fmt.Sprint(seconds, "s"), "-o", "json")
		cancel()
		darkens.Wait()
		r, err := losses.Read(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		for k, long := range gaps {
			var off []float64
			windows, seen, sum, unwatched := 0, 0, 0.0, 0.0
			for i := range each {
				x := r.Targets[k*each+i]
				unwatched += x.UnwatchedMS
				for _, w := range made[x.IP] {
					if w.to.After(r.Ended.Add(-1500 * time.Millisecond)) {
						continue
					}
					windows++
					at := slices.IndexFunc(x.Gaps, func(g losses.Gap) bool {
						return g.At.After(w.from.Add(-300*time.Millisecond)) && g.At.Before(w.to.Add(300*time.Millisecond))
					})
					if at >= 0 {
						seen++
						sum += x.Gaps[at].MS
						off = append(off, x.Gaps[at].MS-losses.MS(long))
					}
				}
			}
			mean, least, most := 0.0, 0.0, 0.0
			if len(off) > 0 {
				mean, least, most = sum/float64(len(off)), slices.Min(off), slices.Max(off)
			}
			result(t, "gaps of %v at %d/s: %d of %d seen, on average %.2f ms (of all: %.2f ms), off by %.2f to %.2f "+
				"ms; %.1f ms unwatched", long, rate, seen, windows, mean, sum/float64(max(1, windows)), least, most, unwatched)
		}
		others := int64(0)
		for _, x := range r.Targets {
			others += max(0, int64(len(x.Gaps))-int64(len(made[x.IP])))
		}
		if others > 0 {
			t.Errorf("at %d/s: %d gaps that nobody made", rate, others)
		}
	}
}
