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
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
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
	facts  func(addr string, f *install.Facts)
}

// told is what a host says of itself on which nothing is wrong.
func told(addr string, q install.Query) *install.Facts {
	f := &install.Facts{
		Name: "n" + addr[len(addr)-1:], Machine: "m-" + addr, Arch: "amd64", Root: true, Systemd: true, Memory: 4 << 10, CPUs: 2,
		Link: &install.Link{MTU: 9000, Speed: 1000}, Space: map[string]int64{"/var/lib/holdfast": 9000}, Watchdogs: []string{"/dev/watchdog0"},
		Clock: install.Clock{Synced: true}, Firewall: &install.Firewall{}, Unknown: map[string]string{},
	}
	if q.Pair != nil {
		f.Pair = &install.PairFacts{Version: "10.11.6", Used: 300, Free: 1000, Units: map[string]string{"tomcat.service": "disabled"}}
		if !q.Pair.Planned {
			f.Pair.Credentials = map[string]string{"/etc/holdfast/a": "no such file"}
		}
	}
	return f
}

// plan is what a set-up would install on the hosts that were asked.
func plan(in precheck.Input) (o install.Options, err error) {
	account := config.PairAccount{User: "u", Credential: "file:/etc/holdfast/a"}
	o.Config = config.Cluster{Type: config.PairConf, Pair: &config.Pair{
		Database: &config.PairDatabase{Admin: account, Replication: account},
		Group:    []config.PairMember{{Unit: "tomcat.service"}, {VIP: "10.0.0.9/24"}},
	}}
	all := slices.Clone(in.Nodes[:])
	for _, a := range in.Arbiters {
		if a.Node != nil {
			all = append(all, *a.Node)
		}
	}
	for i, n := range all {
		o.Config.Node = append(o.Config.Node, n.Addr+" "+n.Facts.Name)
		if i < 2 {
			o.Config.Pair.Nodes = append(o.Config.Pair.Nodes, n.Facts.Name)
		}
	}
	o.Parallel, o.Planned = 1, true
	return o, nil
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
		if r.Query.Second != "" {
			h.w.second[h.addr] = r.Query.Second
		}
		a.Facts = told(h.addr, *r.Query)
		if h.w.facts != nil {
			h.w.facts(h.addr, a.Facts)
		}
	case install.DoNow:
		a.Now = time.Now()
	case install.DoReach:
		if h.w.peers[h.addr] == nil { // the installation's tries follow
			h.w.peers[h.addr] = r.Peers
		}
		for _, p := range r.Peers {
			a.Reached = append(a.Reached, install.Reached{Host: p.Host, Rate: 7})
		}
	case install.DoPair:
		h.w.pairs[h.addr] = r.Pair
		a.Pair = &precheck.Facts{Space: &precheck.Space{Size: 60e9, Free: 60e9},
			VIP: &precheck.VIP{Dev: "eth0", Subnet: "10.0.0.0/24", Length: 24}}
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
		Plan: plan,
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
	w := &world{facts: func(_ string, f *install.Facts) {
		f.Installed, f.Unknown["installed"] = &install.Installed{Cluster: "hf-" + f.Name, Host: f.Name}, "torn"
	}}
	_, all, err := w.run(t, func(o *Options) {
		o.Arbiters, o.Dev, o.VersionFile, o.Unmanaged = quorum("127.0.0.3"), "eth0", "/v", "/p"
		o.Second = []netip.Addr{netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("10.0.1.2")}
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(all, "fail connect") || strings.Contains(all, "fail arbiter") ||
		!strings.Contains(all, "n3 (127.0.0.3) answers") || !strings.Contains(all, "hf-n2") || !strings.Contains(all, "torn") {
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
		if q == nil || q.VIP != want.VIP || !slices.Equal(q.Others, want.Others) || q.Dir != want.Dir ||
			q.VersionFile != want.VersionFile || q.Unmanaged != want.Unmanaged {
			t.Errorf("%s was asked %+v, want %+v", addr, q, want)
		}
	}
	for i, want := range []precheck.Path{{First: "127.0.0.1", Own: "10.0.1.1", Peer: "10.0.1.2"},
		{First: "127.0.0.2", Own: "10.0.1.2", Peer: "10.0.1.1"}} {
		addr := []string{"127.0.0.1", "127.0.0.2"}[i]
		if q := w.pairs[addr].Second; q == nil || *q != want || w.second[addr] != want.Own {
			t.Errorf("%s was asked %+v of the second path, and listens at %q: want %+v", addr, q, w.second[addr], want)
		}
	}
	if w.pairs["127.0.0.3"].Second != nil || w.second["127.0.0.3"] != "" {
		t.Errorf("the arbiter was asked of the second path: %+v, %q", w.pairs["127.0.0.3"].Second, w.second["127.0.0.3"])
	}
	for addr, want := range map[string]string{"127.0.0.1": "10.0.1.2 127.0.0.2+ 127.0.0.3",
		"127.0.0.2": "10.0.1.1 127.0.0.1+ 127.0.0.3", "127.0.0.3": "127.0.0.1 127.0.0.2"} {
		var got []string
		for _, p := range w.peers[addr] {
			s := p.Addr
			if p.Rate {
				s += "+"
			}
			got = append(got, s)
			if second := strings.HasPrefix(p.Addr, "10."); !second && (p.MTU != 9000 || len(p.Ports) != 3) || second &&
				!slices.Equal(p.Ports, install.SecondPorts()) {
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
		{"127.0.0.2 now", "fail installation: n2: ask for the time: it ended", errors.New("it ended")},
		{"127.0.0.2 reach", "fail connect: 127.0.0.2: it ended", errors.New("it ended")},
		{"127.0.0.1 gather", "fail connect: 127.0.0.1: sudo: a password is required | run this as root",
			errors.New("sudo: a password is required")},
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
		o.Arbiters = []precheck.Arbiter{{Kind: precheck.Fence},
			{Kind: precheck.Ping, Addrs: []string{"10.0.0.4", "10.0.0.5"}}, {Kind: precheck.DiskArbiter, Device: "/dev/sdc"}}
		o.Fencing = config.Fencing{Hosts: map[string]config.HostFencing{"n2": {Devices: []config.FenceDevice{{Type: "ipmi",
			Address: "10.1.0.2"}}}}}
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

// TestWhatTheInstallationRefusesFailsTheCheck: whatever a set-up's installation would refuse, or warn of, after the
// word was given, the check has found before, in the same words.
func TestWhatTheInstallationRefusesFailsTheCheck(t *testing.T) {
	pair := func(edit func(*install.PairFacts)) func(string, *install.Facts) {
		return func(addr string, f *install.Facts) {
			if addr == "127.0.0.2" && f.Pair != nil {
				edit(f.Pair)
			}
		}
	}
	on := func(at string, edit func(*install.Facts)) func(string, *install.Facts) {
		return func(addr string, f *install.Facts) {
			if addr == at {
				edit(f)
			}
		}
	}
	for _, c := range []struct {
		name, want string
		edit       func(string, *install.Facts)
	}{
		{"all well", "", func(string, *install.Facts) {}},
		{"the database's unit is enabled", "fail database unit: n2 (127.0.0.2): mariadb.service is enabled",
			pair(func(f *install.PairFacts) { f.Enabled = true })},
		{"the database runs", "fail database unit: n2 (127.0.0.2): mariadb.service runs", pair(func(f *install.PairFacts) { f.Running = true })},
		{"no mbstream", "fail database tools: n2 (127.0.0.2): missing: mbstream",
			pair(func(f *install.PairFacts) { f.Missing = []string{"mbstream"} })},
		{"no MariaDB", "fail database: n2 (127.0.0.2): no such program", pair(func(f *install.PairFacts) { f.Program = "no such program" })},
		{"an old MariaDB", "fail database: n2 (127.0.0.2): MariaDB \"10.3.1\"", pair(func(f *install.PairFacts) { f.Version = "10.3.1" })},
		{"no option file", "fail option file: n2 (127.0.0.2): no my.cnf", pair(func(f *install.PairFacts) { f.OptionFile = "no my.cnf" })},
		{"an option file that loses writes", "fail option file: n2 (127.0.0.2): /etc/mysql/my.cnf: writes that were " +
			"acknowledged could be lost: x", pair(func(f *install.PairFacts) { f.Lossy = []string{"x"} })},
		{"a data directory that can not be replaced", "fail data directory: n2 (127.0.0.2): a mount point",
			pair(func(f *install.PairFacts) { f.Datadir = "a mount point" })},
		{"no room for a copy", "fail data directory: n2 (127.0.0.2): 9 MiB are free", pair(func(f *install.PairFacts) { f.Free = 9 })},
		{"a service that is not there", "fail units: n2 (127.0.0.2): tomcat.service is not there",
			pair(func(f *install.PairFacts) { f.Units["tomcat.service"] = "" })},
		{"a service that a boot starts", "warn units: n2 (127.0.0.2): tomcat.service is enabled",
			pair(func(f *install.PairFacts) { f.Units["tomcat.service"] = "enabled" })},
		{"a password that others may read", "fail credentials: n2 (127.0.0.2): others may read it",
			pair(func(f *install.PairFacts) { f.Credentials = map[string]string{"/etc/holdfast/a": "others may read it"} })},
		{"tables that can lose writes", "warn tables: n1 (127.0.0.1): of engines without transactions: app.log " +
			"(MyISAM): x; and 3 more", on("127.0.0.1", func(f *install.Facts) {
			if f.Pair != nil {
				f.Pair.Weak, f.Pair.WeakMore = []string{"app.log (MyISAM): x"}, 3
			}
		})},
		{"tables that are moved aside", "", pair(func(f *install.PairFacts) { f.Weak = []string{"app.log (MyISAM): x"} })},
		{"no space", "fail space: n3 (127.0.0.3): 5 MiB free", on("127.0.0.3", func(f *install.Facts) { f.Space["/var/lib/holdfast"] = 5 })},
		{"no systemd", "fail systemd: n3 (127.0.0.3)", on("127.0.0.3", func(f *install.Facts) { f.Systemd = false })},
		{"no root", "fail rights: n2 (127.0.0.2)", on("127.0.0.2", func(f *install.Facts) { f.Root = false })},
		{"a port is taken", "fail ports: n3 (127.0.0.3): port 2379 is taken: in use",
			on("127.0.0.3", func(f *install.Facts) { f.Ports = map[int]string{2379: "in use"} })},
		{"another tool", "fail other tools: n2 (127.0.0.2): Pacemaker", on("127.0.0.2", func(f *install.Facts) { f.Other = "Pacemaker" })},
		{"another architecture", "fail architecture: it differs", on("127.0.0.2", func(f *install.Facts) { f.Arch = "arm64" })},
		{"the third host is of a cluster", "fail cluster: n3 (127.0.0.3): it belongs to a cluster of", on("127.0.0.3", func(f *install.Facts) {
			f.Installed = &install.Installed{Cluster: "hf-1", Host: "n3", Members: []string{"10.0.0.1 x"}}
		})},
		{"settings that can not be read", "fail installed: n2 (127.0.0.2): torn",
			on("127.0.0.2", func(f *install.Facts) { f.Unknown["installed"] = "torn" })},
		{"no time server", "warn time server: n2 (127.0.0.2)", on("127.0.0.2", func(f *install.Facts) { f.Clock.Synced = false })},
		{"no watchdog", "warn watchdog: n2 (127.0.0.2)", on("127.0.0.2", func(f *install.Facts) { f.Watchdogs = nil })},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{facts: c.edit}
			found, all, err := w.run(t, func(o *Options) { o.Arbiters = quorum("127.0.0.3") })
			if err != nil {
				t.Fatal(err)
			}
			in := precheck.Input{Nodes: [2]precheck.Node{{Addr: "127.0.0.1", Facts: precheck.Facts{Name: "n1"}},
				{Addr: "127.0.0.2", Facts: precheck.Facts{Name: "n2"}}}}
			in.Arbiters = []precheck.Arbiter{{Node: &precheck.Node{Addr: "127.0.0.3", Facts: precheck.Facts{Name: "n3"}}}}
			o, err := plan(in)
			if err != nil {
				t.Fatal(err)
			}
			o.Tell = func(string, string) {}
			o.Connect = func(_ context.Context, h install.Host) (install.Conn, error) { return host{w, h.Addr}, nil }
			res, err := install.Install(t.Context(), o, true)
			if err != nil || res.OK == (precheck.Worst(found) == precheck.Fail) {
				t.Errorf("the installation is refused: %v, %v; the check says %s:\n%s", !res.OK, err, precheck.Worst(found), all)
			}
			if !strings.Contains(all, c.want) || c.want == "" && strings.Contains(all, "fail ") {
				t.Errorf("want %q in\n%s", c.want, all)
			}
		})
	}
}

// TestAPlanThatIsWrong: what is wrong with the files of a set-up is an error, unless hosts have failed already.
func TestAPlanThatIsWrong(t *testing.T) {
	wrong := fail.Errorf(fail.Invalid, "Pair.Group: none")
	set := func(o *Options) {
		o.Arbiters = quorum("127.0.0.3")
		o.Plan = func(precheck.Input) (install.Options, error) { return install.Options{}, wrong }
	}
	if _, _, err := (&world{}).run(t, set); !errors.Is(err, wrong) {
		t.Errorf("%v", err)
	}
	named := &world{facts: func(_ string, f *install.Facts) { f.Name = "n.1" }}
	if _, all, err := named.run(t, set); err != nil || !strings.Contains(all, "fail host name") {
		t.Errorf("%v: %s", err, all)
	}
}
