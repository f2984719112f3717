//go:build bench

package bench

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

const memoryRounds = 10 // of each way, in turn

// memoryMoves are the figures of moves in one way.
type memoryMoves struct {
	total series // of the command, s
	down  series // that libvirt tells, from the stop at the source to the go at the target, ms
	gap   series // longest time between two answers to pings of 20 ms, ms
}

// TestMemoryByTLS moves the same guest of 128 MiB there and back by plain virsh migrate,
// in turn with its memory in clear and by TLS, and compares the time of the command, the
// downtime that libvirt tells and the longest gap between two answers of the guest.
func TestMemoryByTLS(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	l, err := lab.Up(t.Context(), programs(lab.Options{Dir: labDir(t), Hosts: 2, Guests: 1}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	if _, err := l.WaitVMs(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	var plain, tls, none memoryMoves
	moveMemory(t, l, &none) // not counted: what is read for the first time comes from the disk
	moveMemory(t, l, &none, "--tls")
	for i := range 2 * memoryRounds {
		// ABBA: what grows with time burdens both alike.
		if i%4 == 0 || i%4 == 3 {
			moveMemory(t, l, &plain)
		} else {
			moveMemory(t, l, &tls, "--tls")
		}
	}
	result(t, "guest of 128 MiB moved by virsh migrate, memory in clear and by TLS, %d rounds each in turn, median "+
		"(min-max): command, s: clear %s, TLS %s, ratio of medians %.2f; downtime as libvirt tells, ms: %s, %s; "+
		"longest gap between answers to pings of 20 ms, ms: %s, %s; load %s",
		memoryRounds, plain.total, tls.total, tls.total.median()/plain.total.median(), plain.down, tls.down, plain.gap, tls.gap, loadNow())
}

// moveMemory moves the only guest to the other host.
func moveMemory(t *testing.T, l *lab.Lab, to *memoryMoves, flags ...string) {
	t.Helper()
	g := guests(t, l)[0]
	target := "h1"
	if g.Host == target {
		target = "h2"
	}
	addr := l.Addr(target).String()
	watch, stop := context.WithCancel(t.Context())
	defer stop()
	gaps := make(chan time.Duration, 1)
	go func() {
		p, err := l.WatchGuests(watch, 20*time.Millisecond)
		if err != nil || len(p) != 1 {
			t.Errorf("pings: %+v, %v", p, err)
			gaps <- 0
			return
		}
		gaps <- p[0].Gap
	}()
	clock.Sleep(t.Context(), time.Second)
	// --unsafe as in lab.MoveVM.
	argv := append([]string{"virsh", "-q", "migrate", "--live", "--p2p", "--persistent", "--undefinesource", "--unsafe"}, flags...)
	began := time.Now()
	must(t, l, g.Host, append(argv, g.Name, "qemu+tcp://"+addr+"/system", "tcp://"+addr)...)
	took := time.Since(began)
	clock.Sleep(t.Context(), 2*time.Second)
	stop()
	gap := <-gaps
	out, err := l.Exec(t.Context(), target, "virsh", "-q", "domjobinfo", "--completed", "--rawstats", g.Name)
	if err != nil {
		t.Fatal(err)
	}
	down := -1.0
	for line := range strings.Lines(out) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "downtime" {
			if down, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	if down < 0 {
		t.Fatalf("libvirt tells no downtime:\n%s", out)
	}
	t.Logf("%v to %s: %.2f s, downtime %.0f ms, gap %d ms; load %s", flags, target, took.Seconds(), down, gap.Milliseconds(), loadNow())
	to.total, to.down, to.gap = append(to.total, took.Seconds()), append(to.down, down), append(to.gap, float64(gap.Milliseconds()))
}
