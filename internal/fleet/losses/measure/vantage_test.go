package measure

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/testbed/need"

	"holdfast/internal/fleet/losses"
	"holdfast/testbed/nettest"
	"holdfast/testbed/try"
)

// TestTwoVantagePoints: a guest that drops ICMP echo, measured from two hosts by ARP. First it
// is dark, then the way from one host is cut.
func TestTwoVantagePoints(t *testing.T) {
	need.Drill(t, "lost packets: a guest that drops ICMP echo is measured by ARP, from two hosts")
	t.Parallel()
	const guest = 2
	n := nettest.New(t, 3)
	set := func(file, value string) {
		t.Helper()
		if err := n.Host(guest).Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/"+file, []byte(value), 0) }); err != nil {
			t.Fatal(err)
		}
	}
	set("icmp_echo_ignore_all", "1")
	var mu sync.Mutex
	var seen [2]losses.Progress
	var results [2]*losses.Result
	var errs [2]error
	now := func() [2]losses.Progress { mu.Lock(); defer mu.Unlock(); return seen }
	ctx, cancel := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	defer runs.Wait()
	defer cancel()
	for i, name := range []string{"rack1", "rack2"} {
		o := losses.Order{Name: name, Rate: 10, ARPRate: 10, For: time.Hour, Targets: []losses.Address{{IP: n.Addr(guest)}}}
		runs.Go(func() {
			results[i], errs[i] = measureOn(ctx, n.Host(i), o, func(p losses.Progress) {
				if p.Asking == "" {
					mu.Lock()
					seen[i] = p
					mu.Unlock()
				}
			})
		})
	}
	// more waits until some more packets were lost, or answered, from each of these hosts.
	more := func(what string, hosts []int, of func(losses.Progress) int64) {
		t.Helper()
		before := now()
		try.Until(t, what, func() bool {
			p := now()
			return !slices.ContainsFunc(hosts, func(i int) bool { return of(p[i]) < of(before[i])+8 })
		})
	}
	lost := func(p losses.Progress) int64 { return p.Lost }
	answered := func(p losses.Progress) int64 { return p.Sent - p.Lost }
	both := []int{0, 1}

	more("answers", both, answered)
	set("conf/eth0/arp_ignore", "8") // answer for no address
	more("a dark guest", both, lost)
	set("conf/eth0/arp_ignore", "0")
	more("answers after it", both, answered)
	n.CutTo(t, 0)
	more("a path that is cut", both[:1], lost)
	n.Heal(t, 0)
	more("answers after it", both, answered)
	cancel()
	runs.Wait()
	for _, err := range errs {
		try.Must(t, err)
	}
	j, err := losses.Join(results[:])
	try.Must(t, err)
	x := j.Targets[0]
	var dark, path []losses.Span
	for _, s := range x.Spans {
		switch s.Kind {
		case losses.Dark:
			dark = append(dark, s)
		case losses.Path:
			path = append(path, s)
		}
	}
	if len(dark) != 1 || len(path) != 1 || !slices.Equal(dark[0].From, []string{"rack1", "rack2"}) ||
		!slices.Equal(path[0].From, []string{"rack1"}) || !path[0].At.After(dark[0].At.Time) {
		t.Fatalf("%+v of %+v, want that it was dark, and then the path from rack1", x.Spans, x.Views)
	}
	if x.IP != netip.MustParseAddr("10.77.0.3") || x.Views[0].By != losses.ARP || x.Views[0].Lost <= x.Views[1].Lost ||
		j.Total.Dark != 1 || j.Total.Path != 1 {
		t.Errorf("%+v, %+v", x.Views, j.Total)
	}
	t.Logf("%+v; lost %d and %d", x.Spans, x.Views[0].Lost, x.Views[1].Lost)
}
