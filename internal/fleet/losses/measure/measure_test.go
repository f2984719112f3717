package measure

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/internal/fleet/losses"
	"holdfast/internal/host/ping"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/nettest"
)

// guests is a host on which all of 10.99.0.0/16 and 2001:db8:99::/64 answer.
func guests(t *testing.T) nettest.End {
	t.Helper()
	h, _ := nettest.Cable(t)
	h.IP(t, "route", "add", "local", "10.99.0.0/16", "dev", "lo")
	h.IP(t, "-6", "route", "add", "local", "2001:db8:99::/64", "dev", "lo")
	h.NFT(t, "table inet cut { set dark { type ipv4_addr; }; chain c { type filter hook input priority 0; ip daddr @dark drop; }; }")
	return h
}

func address(i int) losses.Address {
	return losses.Address{IP: netip.AddrFrom4([4]byte{10, 99, byte(i >> 8), byte(i)})}
}

func measureOn(ctx context.Context, h nettest.End, o losses.Order, tell func(losses.Progress)) (*losses.Result, error) {
	asks := 1500 * time.Millisecond
	if o.ARPRate > 0 {
		asks = 3 * time.Second // twice
	}
	return run(ctx, o, tell, sockets{
		icmp: func() (p *ping.Pinger, err error) {
			err = h.Do(func() error { p, err = ping.Open(); return err })
			return p, err
		},
		arp: func(addrs []netip.Addr) (p *ping.Pinger, none map[netip.Addr]error, err error) {
			err = h.Do(func() error { p, none, err = ping.OpenARP(addrs); return err })
			return p, none, err
		},
	}, asks)
}

// TestGapsOfKnownLength: 500 targets of which one is dark for 300 ms, one that is
// silent, one of IPv6.
func TestGapsOfKnownLength(t *testing.T) {
	t.Parallel()
	h := guests(t)
	o := losses.Order{Rate: 50, For: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 500 {
		o.Targets = append(o.Targets, address(i+1))
	}
	nobody := losses.Address{IP: netip.MustParseAddr("192.0.2.77"), Name: "nobody"}
	o.Targets = append(o.Targets, nobody, losses.Address{IP: netip.MustParseAddr("2001:db8:99::1")})
	begun, once := make(chan struct{}), sync.Once{}
	type ended struct {
		r   *losses.Result
		err error
	}
	end := make(chan ended, 1)
	go func() {
		r, err := measureOn(ctx, h, o, func(p losses.Progress) {
			if p.Asking == "" {
				once.Do(func() { close(begun) })
			}
		})
		end <- ended{r, err}
	}()
	select {
	case <-begun:
	case e := <-end:
		t.Fatalf("it ended before it began: %v", e.err)
	}
	var from, to [2]time.Time // before and after the cut, and the mending
	from[0] = time.Now()
	h.NFT(t, "add element inet cut dark { 10.99.0.7 }")
	from[1] = time.Now()
	time.Sleep(300 * time.Millisecond)
	to[0] = time.Now()
	h.NFT(t, "delete element inet cut dark { 10.99.0.7 }")
	to[1] = time.Now()
	time.Sleep(300 * time.Millisecond) // answers again
	cancel()
	e := <-end
	r := e.r
	if e.err != nil {
		t.Fatal(e.err)
	}
	if len(r.Silent) != 1 || r.Silent[0].Address != nobody || len(r.Targets) != 501 || r.Total.Losing != 1 || !r.Interrupted {
		t.Fatalf("silent %v, %d targets, total %+v; want one silent, one that loses", r.Silent, len(r.Targets), r.Total)
	}
	const interval = 20.0 // ms
	least, most := losses.MS(to[0].Sub(from[1]))-interval, losses.MS(to[1].Sub(from[0]))+interval
	x := r.Targets[6]
	// Where this machine was too busy to send, a part of the gap is unwatched.
	if x.IP != address(7).IP || len(x.Gaps) != 1 || x.LongestMS < least-x.UnwatchedMS-1 || x.LongestMS > most+1 || x.Gaps[0].Open {
		t.Errorf("%+v, want one gap of %v to %v ms", x, least, most)
	}
	if at := x.Gaps[0].At; at.Before(from[0]) || at.After(to[1]) {
		t.Errorf("the gap began at %v, want %v to %v", at, from[0], to[1])
	}
	all := losses.MS(r.Ended.Sub(r.Began.Time)) / interval // the first one goes out after 100 to 120 ms
	for _, x := range r.Targets {
		if n := float64(x.Sent) + x.UnwatchedMS/interval; n < all-12 || n > all+25 {
			t.Errorf("%v: %d packets, %v ms unwatched; want about %.0f packets", x.IP, x.Sent, x.UnwatchedMS, all)
		}
	}
	t.Logf("gap %v ms, cut for %v to %v ms; total %+v", x.LongestMS, least+interval, most-interval, r.Total)
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	h := guests(t)
	o := losses.Order{Rate: 10, For: time.Second, Targets: []losses.Address{{IP: netip.MustParseAddr("198.51.100.1")}}}
	r, err := measureOn(t.Context(), h, o, func(losses.Progress) {})
	if fail.ExitCode(err) != fail.ExitRefused || r == nil || len(r.Silent) != 1 || r.Total.Sent != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	h := guests(t)
	o := losses.Order{Rate: 100, For: time.Hour, Targets: []losses.Address{address(1)}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := measureOn(ctx, h, o, func(p losses.Progress) {
		if p.Asking == "" {
			cancel()
		}
	})
	if err != nil || !r.Interrupted || r.Total.Sent == 0 || r.Total.Lost != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if r, err := measureOn(ctx, h, o, func(losses.Progress) {}); r != nil || fail.ExitCode(err) != fail.ExitRefused {
		t.Errorf("before the start: %+v, %v", r, err)
	}
}

func TestNoSocket(t *testing.T) {
	no := errors.New("operation not permitted")
	r, err := run(t.Context(), losses.Order{}, nil, sockets{icmp: func() (*ping.Pinger, error) { return nil, no }}, 0)
	if r != nil || !errors.Is(err, no) || fail.ExitCode(err) != fail.ExitRefused {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestByARP: a guest that answers ICMP echo, one that drops it, and some that can not be
// asked otherwise. The second one is dark for 300 ms.
func TestByARP(t *testing.T) {
	t.Parallel()
	h, there := nettest.Cable(t)
	there.IP(t, "addr", "add", "192.0.2.3/24", "dev", "eth0")
	there.NFT(t, "table inet cut { chain c { type filter hook input priority 0; ip daddr 192.0.2.3 icmp type echo-request drop; }; }")
	h.IP(t, "route", "add", "198.51.100.0/24", "via", "192.0.2.2")
	answersARP := func(yes bool) {
		t.Helper()
		ignore := map[bool]string{true: "0", false: "8"}[yes] // 8: for no address
		if err := there.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/eth0/arp_ignore", []byte(ignore), 0) }); err != nil {
			t.Fatal(err)
		}
	}
	o := losses.Order{Name: "here", Rate: 20, ARPRate: 10, For: time.Hour}
	for _, a := range []string{"192.0.2.3", "192.0.2.2", "198.51.100.1", "192.0.2.77", "2001:db8::77"} {
		o.Targets = append(o.Targets, losses.Address{IP: netip.MustParseAddr(a)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun, once := make(chan struct{}), sync.Once{}
	type ended struct {
		r   *losses.Result
		err error
	}
	end := make(chan ended, 1)
	go func() {
		r, err := measureOn(ctx, h, o, func(p losses.Progress) {
			if p.Asking == "" && p.Sent > 20 {
				once.Do(func() { close(begun) })
			}
		})
		end <- ended{r, err}
	}()
	select {
	case <-begun:
	case e := <-end:
		t.Fatalf("it ended before it began: %v", e.err)
	}
	var from, to [2]time.Time // before and after the cut, and the mending
	from[0] = time.Now()
	answersARP(false)
	from[1] = time.Now()
	time.Sleep(300 * time.Millisecond)
	to[0] = time.Now()
	answersARP(true)
	to[1] = time.Now()
	time.Sleep(500 * time.Millisecond) // answers again
	cancel()
	e := <-end
	if e.err != nil {
		t.Fatal(e.err)
	}
	r := e.r
	var silent []string
	for _, s := range r.Silent {
		silent = append(silent, fmt.Sprint(s.IP, s.AskedBy))
	}
	if want := []string{"198.51.100.1 [icmp]", "192.0.2.77 [icmp arp]", "2001:db8::77 [icmp]"}; !slices.Equal(silent, want) {
		t.Errorf("silent: %v, want %v", silent, want)
	}
	if len(r.Targets) != 2 || r.Targets[0].IP != o.Targets[0].IP || r.Name != "here" || r.Total.ByARP != 1 {
		t.Fatalf("%+v, want the targets in the order of the list", r)
	}
	const interval = 100.0 // ms
	x, y := r.Targets[0], r.Targets[1]
	least, most := losses.MS(to[0].Sub(from[1]))-interval, losses.MS(to[1].Sub(from[0]))+interval
	if x.By != losses.ARP || x.Reordered != nil || len(x.Gaps) != 1 || x.LongestMS < least-x.UnwatchedMS-1 ||
		x.LongestMS > most+1 || x.Gaps[0].Open {
		t.Errorf("%+v, want one gap of %v to %v ms", x, least, most)
	}
	if y.By != losses.ICMP || y.Reordered == nil || y.Lost != 0 || y.Sent == 0 {
		t.Errorf("%+v, want nothing lost", y)
	}
	t.Logf("gap %v ms, cut for %v to %v ms; %d of %d lost", x.LongestMS, least+interval, most-interval, x.Lost, x.Sent)
}

// TestARPHasNoSocket: the right to open packet sockets is missing.
func TestARPHasNoSocket(t *testing.T) {
	t.Parallel()
	h := guests(t)
	no := errors.New("operation not permitted")
	open := sockets{
		icmp: func() (p *ping.Pinger, err error) {
			err = h.Do(func() error { p, err = ping.Open(); return err })
			return p, err
		},
		arp: func([]netip.Addr) (*ping.Pinger, map[netip.Addr]error, error) { return nil, nil, no },
	}
	o := losses.Order{Rate: 10, ARPRate: 1, For: time.Second, Targets: []losses.Address{{IP: netip.MustParseAddr("198.51.100.1")}}}
	if r, err := run(t.Context(), o, func(losses.Progress) {}, open, 300*time.Millisecond); r != nil ||
		!errors.Is(err, no) || fail.ExitCode(err) != fail.ExitRefused {
		t.Errorf("%+v, %v", r, err)
	}
}
