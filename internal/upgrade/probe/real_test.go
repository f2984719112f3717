package probe

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"holdfast/internal/host/ping"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/testbed/nettest"
)

// TestRealPackets: a host and a guest are network namespaces, joined by a cable
// that is cut. The agent starts anew in the middle.
func TestRealPackets(t *testing.T) {
	host, _ := nettest.Cable(t)
	mem := storetest.NewMem()
	client := mem.NewClient("h1")
	term, _, err := client.Txn(t.Context(), nil, []store.Op{{Key: coordKey, Value: []byte("h1")}})
	if err != nil {
		t.Fatal(err)
	}
	const every = 20 * time.Millisecond
	// during runs the agent while the test does something.
	during := func(do func()) {
		s := New(Parts{
			Store: client, Host: "h1", Every: every, Log: slog.New(slog.DiscardHandler),
			Coordinator: func() (int64, string, bool) { return term, coordKey, true },
			Seen: func() (Seen, bool) {
				return Seen{[]Host{{"h1", true}}, []VM{{Name: "vm", UUID: "u1", Host: "h1", Running: true}}}, true
			},
			Addresses: func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr("192.0.2.99"), netip.MustParseAddr("2001:db8::2")}, nil
			},
			Active: func() (string, bool) { return "up1", true },
			Open: func() (p *ping.Pinger, err error) {
				err = host.Do(func() error { p, err = ping.Open(); return err })
				return p, err
			},
		})
		s.saves = time.Millisecond // at every step
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.Run(ctx) })
		do()
		cancel()
		wg.Wait()
	}
	// await polls the sums until they are as asked for.
	await := func(what string, ok func(Guest) bool) (last Guest) {
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			s, err := Sum(t.Context(), client, "up1")
			if err != nil && !errors.Is(err, ErrNone) {
				t.Error(err)
			}
			if len(s.Guests) == 1 {
				if last = s.Guests[0]; ok(last) {
					return last
				}
			}
		}
		t.Errorf("not in 30 s: %s; last %+v", what, last)
		return last
	}
	some := func(Guest) bool { return true }
	during(func() { await("packets", func(g Guest) bool { return g.Sent >= 50 }) })
	first := await("sums", some)
	if first.Addr != "2001:db8::2" || first.Lost != 0 {
		t.Fatalf("%+v", first)
	}
	var cut time.Duration
	during(func() {
		up := await("packets after the restart", func(g Guest) bool { return g.Sent >= first.Sent+50 })
		began := time.Now()
		host.IP(t, "link", "set", "eth0", "down")
		await("losses", func(g Guest) bool { return g.Lost >= up.Lost+15 })
		host.IP(t, "link", "set", "eth0", "up")
		host.IP(t, "addr", "replace", "2001:db8::1/64", "dev", "eth0", "nodad")
		cut = time.Since(began)
		dark := await("sums", some)
		await("answers", func(g Guest) bool { return g.Sent-g.Lost >= dark.Sent-dark.Lost+50 })
	})
	second := await("sums", some)
	t.Logf("cut for %v: %+v", cut, second)
	if second.Lost < 15 || second.LongestMS < 300 || time.Duration(second.LongestMS)*time.Millisecond > cut+2*time.Second ||
		second.Sent < first.Sent+100 || !second.First.Equal(first.First) {
		t.Errorf("%+v, then %+v", first, second)
	}
	if second.Unwatched < first.Unwatched || second.Unwatched > first.Unwatched+5*time.Second {
		t.Errorf("unwatched %v, then %v", first.Unwatched, second.Unwatched)
	}
}
