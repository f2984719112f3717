package survey

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/fail"
	"holdfast/internal/install"
	"holdfast/internal/pair/precheck"
)

// world is the hosts of a test. The first node is 127.0.0.1, its peer 127.0.0.2.
type world struct {
	mu     sync.Mutex
	asks   []string // "ADDRESS REQUEST"
	vips   int      // nodes that are asking for the virtual address just now
	closed int
	fails  map[string]error // by "ADDRESS REQUEST"
	pairs  map[string]*precheck.Query
	peers  map[string][]install.Peer
	second map[string]string // addresses at which hosts listen, too
}

// host is one of them.
type host struct {
	w    *world
	addr string
}

func (h host) Close() error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.closed++
	return nil
}

func (h host) Ask(_ context.Context, r install.Request) (a install.Answer, err error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.asks = append(h.w.asks, h.addr+" "+r.Do)
	if err := h.w.fails[h.addr+" "+r.Do]; err != nil {
		return a, err
	}
	switch r.Do {
	case install.DoGather:
		h.w.second[h.addr] = r.Query.Second
		a.Facts = &install.Facts{
			Name: "n" + h.addr[len(h.addr)-1:], Machine: "m-" + h.addr, Root: true, Link: &install.Link{MTU: 9000, Speed: 1000},
			Installed: &install.Installed{Cluster: "hf-1"}, Unknown: map[string]string{"installed": "torn"},
		}
	case install.DoNow:
		a.Now = time.Now()
	case install.DoReach:
		h.w.peers[h.addr] = r.Peers
		for _, p := range r.Peers {
			a.Reached = append(a.Reached, install.Reached{Host: p.Host, Rate: 7})
		}
	case install.DoPair:
		h.w.pairs[h.addr] = r.Pair
		a.Pair = &precheck.Facts{}
		if r.Pair.VIP != "" {
			h.w.vips++
			h.w.mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			h.w.mu.Lock()
			if h.w.vips--; h.w.vips > 0 {
				err = errors.New("two hosts ask for the virtual address at once")
			}
		}
	}
	return a, err
}

// run asks all hosts of the world.
func (w *world) run(t *testing.T, change func(*Options)) (found []precheck.Finding, all string, err error) {
	t.Helper()
	w.pairs, w.peers, w.second = map[string]*precheck.Query{}, map[string][]install.Peer{}, map[string]string{}
	o := Options{
		VIP: netip.MustParsePrefix("10.0.0.9/24"), Peer: netip.MustParseAddr("127.0.0.2"), Hosts: 1, VMs: 1,
		Here: func() (install.Conn, error) { return host{w, "127.0.0.1"}, w.fails["here"] },
		Connect: func(_ context.Context, addr string, arbiter bool) (install.Conn, error) {
			if arbiter != (addr == "127.0.0.3") {
				return nil, errors.New("another login")
			}
			return host{w, addr}, w.fails["connect "+addr]
		},
		Tell: func(string, string) {},
	}
	change(&o)
	found, err = Run(t.Context(), o)
	for _, f := range found {
		all += f.Result + " " + f.Check + ": " + f.Finding + " | " + f.Remedy + "\n"
	}
	return found, all, err
}

func quorum(addr string) []precheck.Arbiter {
	return []precheck.Arbiter{{Kind: precheck.Quorum, Addrs: []string{addr}}}
}

func TestAllHostsAreAsked(t *testing.T) {
	w := &world{}
	_, all, err := w.run(t, func(o *Options) {
		o.Arbiters, o.Dev, o.VersionFile, o.Unmanaged = quorum("127.0.0.3"), "eth0", "/v", "/p"
		o.Second = []netip.Addr{netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("10.0.1.2")}
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(all, "fail connect") || strings.Contains(all, "fail arbiter") || !strings.Contains(all, "n3 (127.0.0.3) answers") || !strings.Contains(all, "hf-1") || !strings.Contains(all, "torn") {
		t.Errorf("findings:\n%s", all)
	}
	if w.closed != 3 {
		t.Errorf("%d connections were closed", w.closed)
	}
	for addr, want := range map[string]precheck.Query{
		"127.0.0.1": {VIP: "10.0.0.9/24 dev eth0", Others: []string{"127.0.0.2"}, Dir: "/vms", VersionFile: "/v", Unmanaged: "/p"},
		"127.0.0.2": {VIP: "10.0.0.9/24 dev eth0", Others: []string{"127.0.0.1"}, Dir: "/vms", VersionFile: "/v", Unmanaged: "/p"},
		"127.0.0.3": {},
	} {
		q := w.pairs[addr]
		if q == nil || q.VIP != want.VIP || !slices.Equal(q.Others, want.Others) || q.Dir != want.Dir || q.VersionFile != want.VersionFile || q.Unmanaged != want.Unmanaged {
			t.Errorf("%s was asked %+v, want %+v", addr, q, want)
		}
	}
	for i, want := range []precheck.Path{{First: "127.0.0.1", Own: "10.0.1.1", Peer: "10.0.1.2"}, {First: "127.0.0.2", Own: "10.0.1.2", Peer: "10.0.1.1"}} {
		addr := []string{"127.0.0.1", "127.0.0.2"}[i]
		if q := w.pairs[addr].Second; q == nil || *q != want || w.second[addr] != want.Own {
			t.Errorf("%s was asked %+v of the second path, and listens at %q: want %+v", addr, q, w.second[addr], want)
		}
	}
	if w.pairs["127.0.0.3"].Second != nil || w.second["127.0.0.3"] != "" {
		t.Errorf("the arbiter was asked of the second path: %+v, %q", w.pairs["127.0.0.3"].Second, w.second["127.0.0.3"])
	}
	for addr, want := range map[string]string{"127.0.0.1": "10.0.1.2 127.0.0.2+ 127.0.0.3", "127.0.0.2": "10.0.1.1 127.0.0.1+ 127.0.0.3", "127.0.0.3": "127.0.0.1 127.0.0.2"} {
		var got []string
		for _, p := range w.peers[addr] {
			s := p.Addr
			if p.Rate {
				s += "+"
			}
			got = append(got, s)
			if second := strings.HasPrefix(p.Addr, "10."); !second && (p.MTU != 9000 || len(p.Ports) != 3) || second && !slices.Equal(p.Ports, install.SecondPorts()) {
				t.Errorf("%s tries %+v", addr, p)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s tries %q, want %q (+: the speed, too)", addr, s, want)
		}
	}
}

func TestHostsThatCanNotBeAsked(t *testing.T) {
	for _, c := range []struct {
		what, want string
		err        error
	}{
		{"here", "fail connect: 127.0.0.1: sudo: no | run this as root", errors.New("sudo: no")},
		{"connect 127.0.0.2", "fail connect: 127.0.0.2: no route | see that the host is up and that sshd answers", errors.New("no route")},
		{"connect 127.0.0.3", "fail arbiter: 127.0.0.3: no route", errors.New("no route")},
		{"127.0.0.2 gather", "fail busy: 127.0.0.2: " + install.Busy + " (pid 7)", errors.New(install.Busy + " (pid 7)")},
		{"127.0.0.2 now", "fail connect: 127.0.0.2: ask for the time: it ended", errors.New("it ended")},
		{"127.0.0.2 reach", "fail connect: 127.0.0.2: it ended", errors.New("it ended")},
		{"127.0.0.1 gather", "fail connect: 127.0.0.1: sudo: a password is required | run this as root", errors.New("sudo: a password is required")},
		{"127.0.0.2 pair", "fail connect: 127.0.0.2: it ended | see that the host is up", errors.New("it ended")},
	} {
		w := &world{fails: map[string]error{c.what: c.err}}
		found, all, err := w.run(t, func(o *Options) { o.Arbiters = quorum("127.0.0.3") })
		if err != nil || !strings.Contains(all, c.want) || precheck.Worst(found) != precheck.Fail {
			t.Errorf("%s: %v, want %q in\n%s", c.what, err, c.want, all)
		}
	}
}

// TestANodeIsNoArbiter: by none of its addresses; nobody logs in to itself.
func TestANodeIsNoArbiter(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "127.0.0.2", "10.0.0.9"} {
		w := &world{}
		_, all, err := w.run(t, func(o *Options) { o.Arbiters = quorum(addr) })
		if err != nil || !strings.Contains(all, "fail arbiter: the arbiter ") || len(w.pairs) != 2 {
			t.Errorf("%s: %v, %d hosts were asked\n%s", addr, err, len(w.pairs), all)
		}
	}
}

// TestEachNodeAsksTheOthersController: which belongs to the other's hardware.
func TestEachNodeAsksTheOthersController(t *testing.T) {
	w := &world{}
	_, all, err := w.run(t, func(o *Options) {
		o.Arbiters = []precheck.Arbiter{{Kind: precheck.Fence}, {Kind: precheck.Ping, Addrs: []string{"10.0.0.4", "10.0.0.5"}}, {Kind: precheck.DiskArbiter, Device: "/dev/sdc"}}
		o.Fencing = config.Fencing{Hosts: map[string]config.HostFencing{"n2": {Devices: []config.FenceDevice{{Type: "ipmi", Address: "10.1.0.2"}}}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	q := w.pairs["127.0.0.1"]
	if len(q.BMCs) != 1 || q.BMCs[0].Address != "10.1.0.2" || q.Machine != "m-127.0.0.2" || len(w.pairs["127.0.0.2"].BMCs) != 0 {
		t.Errorf("asked %+v and %+v", q, w.pairs["127.0.0.2"])
	}
	if !slices.Equal(q.Pings, []string{"10.0.0.4", "10.0.0.5"}) || q.Device != "/dev/sdc" {
		t.Errorf("asked %+v", q)
	}
	if !strings.Contains(all, "no management controller is named for n1") || strings.Contains(all, "named for n2") {
		t.Errorf("findings:\n%s", all)
	}
}

func TestThePeerIsAnotherNode(t *testing.T) {
	w := &world{}
	var f *fail.Error
	_, _, err := w.run(t, func(o *Options) { o.Peer = netip.MustParseAddr("127.0.0.1") })
	if !errors.As(err, &f) || f.Kind != fail.Invalid || len(w.asks) > 0 {
		t.Errorf("%v, asked %q", err, w.asks)
	}
}
