package vip

import (
	"bytes"
	"context"
	"errors"
	"holdfast/internal/lib/network"
	"holdfast/testbed/need"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/testbed/nettest"
	"holdfast/testbed/try"
)

// The hosts of a network: a client and the two nodes.
const (
	client = iota
	nodeA
	nodeB
)

// both are the virtual addresses of the tests, one of each version.
var both = []string{"10.77.0.50/24", "fd00:77::50/64"}

// hosts makes a client and two nodes on one switch, with addresses of both versions.
func hosts(t *testing.T) *nettest.Net {
	t.Helper()
	n := nettest.New(t, 3)
	for i := range 3 {
		n.Host(i).IP(t, "addr", "add", own6(i)+"/64", "dev", "eth0", "nodad")
		try.Until(t, "a carrier", func() bool { return strings.Contains(n.Host(i).IP(t, "link", "show", "eth0"), "state UP") })
	}
	return n
}

func own6(host int) string { return "fd00:77::" + string(rune('1'+host)) }

// vipOf makes a VIP.
func vipOf(t *testing.T, text string, others ...netip.Addr) *VIP {
	t.Helper()
	a, err := network.ParseVIP(text)
	try.Must(t, err)
	return New(a, others, slog.New(slog.DiscardHandler))
}

// on calls fn on a host.
func on(t *testing.T, h nettest.End, fn func(ctx context.Context) error) {
	t.Helper()
	try.Must(t, h.Do(func() error { return fn(try.Context(t)) }))
}

// hold holds an address on a host until the end of the test, or until stop.
func hold(t *testing.T, h nettest.End, v *VIP) (events chan Event, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events = make(chan Event, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Do(func() error { v.Hold(ctx, events); return nil }); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return events, stop
}

// next waits for an event of a kind.
func next(t *testing.T, events chan Event, kind Kind) Event {
	t.Helper()
	var found *Event
	try.Until(t, string(kind), func() bool {
		select {
		case e := <-events:
			if e.Kind == kind {
				found = &e
			}
		default:
		}
		return found != nil
	})
	return *found
}

// macOf is a host's MAC.
func macOf(t *testing.T, h nettest.End) (mac net.HardwareAddr) {
	t.Helper()
	try.Must(t, h.Do(func() error {
		dev, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = dev.HardwareAddr
		}
		return err
	}))
	return mac
}

// reach has the client send something to an address, and waits until it has learned where it is.
func reach(t *testing.T, n *nettest.Net, addr netip.Addr, mac net.HardwareAddr) {
	t.Helper()
	try.Until(t, "the client to find "+addr.String(), func() bool {
		conn, err := n.Dial(try.Context(t), client, netip.AddrPortFrom(addr, 9).String()) // nobody listens: a reset is an answer
		if err == nil {
			conn.Close()
		}
		return knows(t, n, addr, mac)
	})
}

// knows reports whether the client's table of neighbours has a MAC for an address.
func knows(t *testing.T, n *nettest.Net, addr netip.Addr, mac net.HardwareAddr) bool {
	t.Helper()
	return strings.Contains(n.Host(client).IP(t, "neigh", "show", "to", addr.String(), "dev", "eth0"), mac.String())
}

// TestMove: a client finds the address on a; it goes to b, and the client's table follows
// without a frame of its own, although its entry is good for an hour.
func TestMove(t *testing.T) {
	need.Real(t, need.Root, need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a, b, c := n.Host(nodeA), n.Host(nodeB), n.Host(client)
	for _, ip := range []string{"ipv4", "ipv6"} {
		on(t, c, func(context.Context) error { return sysctl("net/"+ip+"/neigh/eth0/base_reachable_time_ms", "3600000") })
	}
	for _, text := range both {
		t.Run(text, func(t *testing.T) {
			v := vipOf(t, text)
			addr := v.a.Prefix.Addr()
			for _, turn := range []struct{ to, from nettest.End }{{a, b}, {b, a}, {a, b}} {
				on(t, turn.from, v.Remove)
				on(t, turn.to, func(ctx context.Context) error {
					if mac, err := v.Probe(ctx); mac != nil || err != nil {
						t.Errorf("probe: %s has it, %v", mac, err)
					}
					if err := v.Add(ctx); err != nil {
						return err
					}
					if mac, err := v.Probe(ctx); mac != nil || err != nil {
						t.Errorf("the holder's own probe: %s has it, %v", mac, err)
					}
					return v.Add(ctx) // once more: it is there
				})
				if mac := macOf(t, turn.to); turn.to == a && !knows(t, n, addr, macOf(t, b)) {
					reach(t, n, addr, mac) // the first turn: a client that knows nothing learns nothing unasked
				} else {
					try.Until(t, "the client's entry to follow", func() bool { return knows(t, n, addr, mac) })
				}
				on(t, turn.from, func(ctx context.Context) error {
					mac, err := v.Probe(ctx)
					if !bytes.Equal(mac, macOf(t, turn.to)) {
						t.Errorf("probe: %s has it, %v: want %s", mac, err, macOf(t, turn.to))
					}
					return err
				})
			}
			on(t, a, v.Remove)
			on(t, a, v.Remove) // nothing is there
			on(t, b, func(ctx context.Context) error {
				if mac, err := v.Probe(ctx); mac != nil || err != nil {
					t.Errorf("after it was removed: %s has it, %v", mac, err)
				}
				return nil
			})
		})
	}
}

// TestSourceStays: the host goes on to send from its own addresses; two virtual addresses on
// different interfaces do not disturb one another.
func TestSourceStays(t *testing.T) {
	need.Drill(t, "a host that holds virtual addresses goes on to send from its own", need.Root,
		need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a := n.Host(nodeA)
	a.IP(t, "link", "add", "eth1", "type", "veth", "peer", "name", "far1")
	for _, l := range []string{"eth1", "far1"} {
		a.IP(t, "link", "set", l, "up")
	}
	a.IP(t, "addr", "add", "10.78.0.9/24", "dev", "eth1")
	a.IP(t, "route", "add", "default", "via", "10.77.0.1")
	a.IP(t, "-6", "route", "add", "default", "via", own6(client))
	routes := func() (all string) {
		for _, to := range []string{"10.77.0.1", "10.77.0.200", "10.78.0.7", "192.0.2.1", own6(client), "fd00:77::5f", "2001:db8::1"} {
			all += a.IP(t, "route", "get", to)
		}
		return strings.ReplaceAll(all, "cache", "")
	}
	before := routes()
	vips := []*VIP{vipOf(t, both[0]), vipOf(t, both[1]), vipOf(t, "10.78.0.50/24")}
	for _, v := range vips {
		on(t, a, v.Add)
	}
	if after := routes(); after != before {
		t.Errorf("routes and sources were\n%s and are\n%s", before, after)
	}
	if got := a.IP(t, "addr", "show", "dev", "eth1"); !strings.Contains(got, "10.78.0.50/32") || strings.Contains(got, "10.77.0.50") {
		t.Errorf("eth1 has %s", got)
	}
	reach(t, n, vips[0].a.Prefix.Addr(), macOf(t, a))
	a.IP(t, "addr", "del", "10.77.0.2/24", "dev", "eth0") // it is not secondary to the host's own
	on(t, a, func(context.Context) error { return held(vips[0], true) })
	on(t, a, vips[0].Remove)
	on(t, a, func(context.Context) error {
		return errors.Join(held(vips[0], false), held(vips[1], true), held(vips[2], true))
	})
}

func held(v *VIP, want bool) error {
	got, err := v.Held()
	if err == nil && got != want {
		err = errors.New(v.a.String() + ": the host has it, or has not, against expectation")
	}
	return err
}

// TestByHand: an address that somebody has put there is neither taken over nor removed.
func TestByHand(t *testing.T) {
	need.Drill(t, "an address that somebody put there by hand is neither taken over nor removed", need.Root,
		need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a := n.Host(nodeA)
	for text, other := range map[string]string{both[0]: "10.77.0.50/16", both[1]: "fd00:77::50/48"} {
		v := vipOf(t, text)
		args := []string{"addr", "add", other, "dev", "eth0"}
		if v.a.Prefix.Addr().Is6() {
			args = append(args, "nodad")
		}
		a.IP(t, args...)
		for what, fn := range map[string]func(context.Context) error{"add": v.Add, "remove": v.Remove} {
			err := a.Do(func() error { return fn(try.Context(t)) })
			if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "ip addr del "+other+" dev eth0") {
				t.Errorf("%s: got %v: want it named", what, err)
			}
		}
		if got := a.IP(t, "addr", "show", "dev", "eth0"); !strings.Contains(got, other) {
			t.Errorf("it was removed: %s", got)
		}
		a.IP(t, "addr", "del", other, "dev", "eth0")
		on(t, a, v.Add)
		on(t, a, v.Remove)
	}
	// Somebody adds the address once more while it is held: ours goes, theirs is told.
	v := vipOf(t, both[0])
	on(t, a, v.Add)
	a.IP(t, "addr", "add", "10.77.0.50/24", "dev", "eth0")
	if err := a.Do(func() error { return v.Remove(try.Context(t)) }); !errors.Is(err, ErrForeign) {
		t.Errorf("remove: %v", err)
	}
	if got := a.IP(t, "addr", "show", "dev", "eth0"); strings.Contains(got, "10.77.0.50/32") || !strings.Contains(got, "10.77.0.50/24") {
		t.Errorf("after remove: %s", got)
	}
}

// TestOthersAddress: the peer's address and the host's own are refused before anything is done.
func TestOthersAddress(t *testing.T) {
	need.Drill(t, "P7: the other node's address and the host's own are refused as virtual ones before anything is done",
		need.Root, need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a := n.Host(nodeA)
	peer := vipOf(t, "10.77.0.3/24", n.Addr(nodeB))
	own := vipOf(t, "10.77.0.2/24")
	for v, says := range map[*VIP]string{peer: "the other node's own address",
		own: "something else has set the address on this host, as 10.77.0.2/24 on eth0"} {
		for what, fn := range map[string]func() error{
			"interface": func() error { _, err := v.Interface(); return err },
			"probe":     func() error { _, err := v.Probe(try.Context(t)); return err },
			"add":       func() error { return v.Add(try.Context(t)) },
		} {
			if err := a.Do(fn); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: got %v: want %q", what, err, says)
			}
		}
	}
}

// TestBothAsk: a node that asks finds another that asks at the same time, so not both find the
// address free.
func TestBothAsk(t *testing.T) {
	need.Drill(t, "P1: of two nodes that ask for an address at once, not both find it free", need.Root,
		need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a, b := n.Host(nodeA), n.Host(nodeB)
	for _, text := range both {
		v := vipOf(t, text)
		stop, done := make(chan struct{}), make(chan error)
		go func() {
			done <- a.Do(func() error {
				dev, err := v.linked()
				if err != nil {
					return err
				}
				w, err := listen(context.Background(), dev, v.a.Prefix.Addr())
				if err != nil {
					return err
				}
				defer w.close()
				for err == nil {
					select {
					case <-stop:
						return nil
					case <-time.After(10 * time.Millisecond):
						err = w.send(probe(dev.HardwareAddr, w.addr))
					}
				}
				return err
			})
		}()
		mac, err := probeOn(b, v)
		close(stop)
		if err := errors.Join(err, <-done); err != nil || !bytes.Equal(mac, macOf(t, a)) {
			t.Errorf("%s: found %s, %v: want %s", text, mac, err, macOf(t, a))
		}
	}
}

// TestOwnMACs: what another interface of this host says is no conflict.
func TestOwnMACs(t *testing.T) {
	need.Drill(t, "what another interface of the host says of an address is no conflict", need.Root,
		need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a, b := n.Host(nodeA), n.Host(nodeB)
	own, other := net.HardwareAddr{2, 0, 0, 0, 0, 0x11}, net.HardwareAddr{2, 0, 0, 0, 0, 0x22}
	a.IP(t, "link", "add", "eth1", "address", own.String(), "type", "veth", "peer", "name", "far1")
	for _, text := range both {
		v := vipOf(t, text)
		on(t, a, v.Add)
		events, stop := hold(t, a, v)
		next(t, events, Announced)
		on(t, b, func(ctx context.Context) error {
			dev, err := v.linked()
			if err != nil {
				return err
			}
			w, err := listen(ctx, dev, v.a.Prefix.Addr())
			if err != nil {
				return err
			}
			defer w.close()
			for _, mac := range []net.HardwareAddr{own, other} {
				for _, f := range announcements(mac, w.addr) {
					err = errors.Join(err, w.send(f))
				}
			}
			return err
		})
		if e := next(t, events, Conflict); !bytes.Equal(e.MAC, other) {
			t.Errorf("%s: the conflict is with %s: want %s", text, e.MAC, other)
		}
		stop()
		on(t, a, v.Remove)
	}
}

// TestProbeEnds: a probe ends with its context, and does not say then that nobody has it.
func TestProbeEnds(t *testing.T) {
	need.Drill(t, "P2: a probe that is broken off does not say that nobody has the address", need.Root,
		need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	a := hosts(t).Host(nodeA)
	v := vipOf(t, both[0])
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := a.Do(func() error { _, err := v.Probe(ctx); return err }); !errors.Is(err, context.Canceled) {
		t.Errorf("probe: %v", err)
	}
	if err := a.Do(func() error { return v.Add(ctx) }); !errors.Is(err, context.Canceled) {
		t.Errorf("add: %v", err)
	}
	on(t, a, func(context.Context) error { return held(v, false) })
}
