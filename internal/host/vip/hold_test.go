package vip

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
	"holdfast/testbed/try"
)

// sysctl sets a value of this thread's network namespace.
func sysctl(name, value string) error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) }

// TestConflict: while a holds the address, b takes it too.
func TestConflict(t *testing.T) {
	need.Real(t, need.Root, need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a, b := n.Host(nodeA), n.Host(nodeB)
	for _, text := range both {
		t.Run(text, func(t *testing.T) {
			v := vipOf(t, text)
			on(t, a, v.Add)
			events, stop := hold(t, a, v)
			next(t, events, Announced)
			on(t, b, func(ctx context.Context) error { // a probe is no claim
				mac, err := v.Probe(ctx)
				if !bytes.Equal(mac, macOf(t, a)) {
					t.Errorf("probe: %s, %v", mac, err)
				}
				return err
			})
			for len(events) > 0 {
				t.Errorf("before there was another holder: %+v", <-events)
			}
			on(t, b, v.Add)
			if e := next(t, events, Conflict); !bytes.Equal(e.MAC, macOf(t, b)) {
				t.Errorf("the conflict is with %s: want %s", e.MAC, macOf(t, b))
			}
			stop()
			on(t, a, v.Remove)
			on(t, b, v.Remove)
		})
	}
}

// TestLostFrames: nothing that a sends arrives at first; the client follows when it does, though
// nobody adds the address again.
func TestLostFrames(t *testing.T) {
	need.Drill(t, "clients follow an address whose first announcements were lost", need.Root,
		need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a, b := n.Host(nodeA), n.Host(nodeB)
	v := vipOf(t, both[0])
	addr := v.a.Prefix.Addr()
	on(t, a, v.Add)
	reach(t, n, addr, macOf(t, a))
	on(t, a, v.Remove)
	b.IP(t, "link", "set", "eth0", "down")
	if err := b.Do(func() error { return v.Add(try.Context(t)) }); !errors.Is(err, ErrNoLink) {
		t.Errorf("add on an interface that is down: %v", err)
	}
	on(t, b, func(context.Context) error { return held(v, false) })
	b.IP(t, "link", "set", "eth0", "up")
	try.Until(t, "a carrier", func() bool { return strings.Contains(b.IP(t, "link", "show", "eth0"), "state UP") })
	n.CutFrom(t, nodeB)
	on(t, b, v.Add)
	if !knows(t, n, addr, macOf(t, a)) {
		t.Fatal("the client heard what was cut")
	}
	n.Heal(t, nodeB)
	hold(t, b, v)
	try.Until(t, "the client's entry to follow", func() bool { return knows(t, n, addr, macOf(t, b)) })
}

// TestLinkDown: the cable of the holder is pulled and put in again, then its interface goes
// down. An address of IPv6 goes with that, and one of IPv4 does not.
func TestLinkDown(t *testing.T) {
	need.Drill(t, "a cable that is pulled and an interface that goes down are told, and the address is announced "+
		"again after them", need.Root, need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a := n.Host(nodeA)
	for _, text := range both {
		t.Run(text, func(t *testing.T) {
			v := vipOf(t, text)
			on(t, a, v.Add)
			events, stop := hold(t, a, v)
			next(t, events, Announced)
			n.Isolate(t, nodeA)
			if e := next(t, events, Unannounced); !errors.Is(e.Err, ErrNoLink) || !strings.Contains(e.Err.Error(), "eth0") {
				t.Errorf("without a cable: %v", e.Err)
			}
			if _, err := probeOn(a, v); !errors.Is(err, ErrNoLink) {
				t.Errorf("a probe without a cable says %v", err)
			}
			n.Heal(t, nodeA)
			next(t, events, Announced)
			a.IP(t, "link", "set", "eth0", "down")
			if v.a.Prefix.Addr().Is6() {
				next(t, events, Gone)
			} else {
				next(t, events, Unannounced)
			}
			if _, err := probeOn(a, v); err == nil {
				t.Error("a probe on an interface that is down finds nobody")
			}
			stop()
			on(t, a, v.Remove)
			a.IP(t, "link", "set", "eth0", "up")
			a.IP(t, "addr", "replace", own6(nodeA)+"/64", "dev", "eth0", "nodad")
			try.Until(t, "a carrier", func() bool { return strings.Contains(a.IP(t, "link", "show", "eth0"), "state UP") })
		})
	}
}

func probeOn(h nettest.End, v *VIP) (mac net.HardwareAddr, err error) {
	err = h.Do(func() error { mac, err = v.Probe(context.Background()); return err })
	return mac, err
}

// TestInterfaceVanishes: it goes while the address is held, and comes again under its name.
func TestInterfaceVanishes(t *testing.T) {
	need.Drill(t, "an interface that vanishes with an address and comes again", need.Root,
		need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a := n.Host(nodeA)
	eth1 := func() {
		a.IP(t, "link", "add", "eth1", "type", "veth", "peer", "name", "far1")
		a.IP(t, "link", "set", "eth1", "up")
		a.IP(t, "link", "set", "far1", "up")
		a.IP(t, "addr", "add", "10.78.0.1/24", "dev", "eth1")
		a.IP(t, "addr", "add", "fd00:78::1/64", "dev", "eth1", "nodad")
	}
	for _, text := range []string{"10.78.0.50/24", "fd00:78::50/64"} {
		t.Run(text, func(t *testing.T) {
			v := vipOf(t, text)
			eth1()
			on(t, a, v.Add)
			events, stop := hold(t, a, v)
			next(t, events, Announced)
			a.IP(t, "link", "del", "eth1")
			next(t, events, Gone)
			if _, err := probeOn(a, v); err == nil || !strings.Contains(err.Error(), "no interface of this host") {
				t.Errorf("probe without an interface: %v", err)
			}
			on(t, a, v.Remove)
			eth1()
			on(t, a, v.Add)
			next(t, events, Announced)
			stop()
			on(t, a, v.Remove)
			a.IP(t, "link", "del", "eth1")
		})
	}
}

// TestConnectionsEnd: who is connected over the address is cut off with it, on both ends; other
// connections go on. Servers of programs that listen on IPv6 for both versions are among them.
func TestConnectionsEnd(t *testing.T) {
	need.Drill(t, "P1: who is connected over an address is cut off with it, and nobody else", need.Root,
		need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a := n.Host(nodeA)
	for _, c := range []struct{ vip, own, listen string }{
		{both[0], "10.77.0.2", "0.0.0.0:0"},
		{both[0], "10.77.0.2", "[::]:0"},
		{both[1], own6(nodeA), "[::]:0"},
	} {
		t.Run(c.vip+" at "+c.listen, func(t *testing.T) {
			v := vipOf(t, c.vip)
			on(t, a, v.Add)
			network := "tcp"
			if c.listen[0] == '0' {
				network = "tcp4"
			}
			var l net.Listener
			on(t, a, func(ctx context.Context) (err error) {
				l, err = (&net.ListenConfig{}).Listen(ctx, network, c.listen)
				return err
			})
			defer l.Close()
			port := uint16(l.Addr().(*net.TCPAddr).Port)
			pair := func(addr netip.Addr) (near, far net.Conn) {
				far, err := n.Dial(try.Context(t), client, netip.AddrPortFrom(addr, port).String())
				try.Must(t, err)
				t.Cleanup(func() { far.Close() })
				near, err = l.Accept()
				try.Must(t, err)
				t.Cleanup(func() { near.Close() })
				return near, far
			}
			near, far := pair(v.a.Prefix.Addr())
			ownNear, ownFar := pair(netip.MustParseAddr(c.own))
			on(t, a, v.Remove)
			deadline := time.Now().Add(time.Minute)
			for end, want := range map[net.Conn]error{near: unix.ECONNABORTED, far: unix.ECONNRESET} {
				try.Must(t, end.SetReadDeadline(deadline))
				if n, err := end.Read(make([]byte, 1)); !errors.Is(err, want) {
					t.Errorf("read: %d bytes, %v: want %v", n, err, want)
				}
			}
			try.Must(t, ownFar.SetDeadline(deadline))
			_, err := io.WriteString(ownFar, "x")
			try.Must(t, err)
			try.Must(t, ownNear.SetDeadline(deadline))
			_, err = io.ReadFull(ownNear, make([]byte, 1))
			try.Must(t, err)
		})
	}
}

// TestLeftBehind: a process that has ended has left the address on another interface than the
// one that it belongs to now.
func TestLeftBehind(t *testing.T) {
	need.Drill(t, "P3: an address that a killed process left on another interface is found and goes", need.Root,
		need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := hosts(t)
	a := n.Host(nodeA)
	for _, text := range both {
		v := vipOf(t, text)
		on(t, a, func(context.Context) error {
			lo, err := net.InterfaceByName("lo")
			if err != nil {
				return err
			}
			return change(unix.RTM_NEWADDR, unix.NLM_F_CREATE, *lo, v.a.Prefix.Addr())
		})
		on(t, a, func(context.Context) error { return held(v, true) })
		on(t, a, v.Add)
		if got := a.IP(t, "addr", "show", "dev", "lo"); strings.Contains(got, v.a.Prefix.Addr().String()) {
			t.Errorf("it is still on lo: %s", got)
		}
		on(t, a, vipOf(t, text+" dev eth7").Remove) // whatever its settings say now
		on(t, a, func(context.Context) error { return held(v, false) })
	}
}

// TestWhatIsTold: a state once, a machine's claim every 10 s, and nothing is lost for want of room.
func TestWhatIsTold(t *testing.T) {
	full, events := make(chan Event), make(chan Event, 10)
	h := holder{events: full, heard: map[string]time.Time{}}
	one, two := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	gone := Event{Kind: Gone}
	h.tell(gone)
	h.conflict(one)
	h.events = events
	h.tell(gone)
	h.tell(gone)
	h.tell(Event{Kind: Announced})
	h.tell(gone)
	for range 2 {
		h.conflict(one)
		h.conflict(two)
	}
	h.heard[one.String()] = time.Now().Add(-quiet)
	h.conflict(one)
	var got []string
	for len(events) > 0 {
		e := <-events
		got = append(got, string(e.Kind)+e.MAC.String())
	}
	want := []string{"gone", "announced", "gone", "conflict" + one.String(), "conflict" + two.String(), "conflict" + one.String()}
	if !slices.Equal(got, want) {
		t.Errorf("told were %v: want %v", got, want)
	}
}
