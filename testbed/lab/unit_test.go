package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/config"
	"holdfast/testbed/need"
)

func TestParseAnswer(t *testing.T) {
	got, err := ParseAnswer("boot=ab-cd n=17 up=4.45 host=mn iid=i-1 prev=[boot=xy n=3]\n")
	want := Answer{Boot: "ab-cd", N: 17, Up: 4450 * time.Millisecond, Host: "mn", Instance: "i-1", Prev: "boot=xy n=3"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "boot=a n=1", "n=1 prev=[]", "boot=a n=x prev=[]", "boot=a up=soon prev=[]"} {
		if a, err := ParseAnswer(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, a)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add("boot=ab-cd n=17 up=4.45 host=mn iid= prev=[]")
	f.Fuzz(func(t *testing.T, line string) {
		if a, err := ParseAnswer(line); err == nil && a.Boot == "" {
			t.Errorf("%q: no boot id and no error", line)
		}
	})
}

func TestCheckDir(t *testing.T) {
	for _, bad := range []string{"/", "/run/x", "/srv/lab", "/dev", "/proc/x", "/tmp/a,b"} {
		if dir, err := checkDir(bad); err == nil {
			t.Errorf("folder %s was accepted as %s", bad, dir)
		}
	}
	if dir, err := checkDir("/runner/../tmp/x/"); err != nil || dir != "/tmp/x" {
		t.Errorf("got %s, %v", dir, err)
	}
}

func TestOptions(t *testing.T) {
	o, err := Options{Agents: true, Exe: "holdfast"}.complete()
	if err != nil || o.Hosts != 3 || !o.Watchdogs || o.Dir != DefaultDir {
		t.Errorf("defaults: %+v, %v", o, err)
	}
	if o, err := (Options{Guests: 2}).complete(); err != nil || !o.Pools {
		t.Errorf("with guests: %+v, %v", o, err)
	}
	for _, bad := range []Options{{Hosts: 10}, {Hosts: -1}, {Subnet: 251}, {Agents: true, Hosts: 4},
		{Agents: true, Hosts: 4, Members: 5}, {Agents: true, Hosts: 4, Members: 2}, {Hosts: 4, Members: 3},
		{Guests: -1}, {Guests: 65}, {Dir: "/run/x"}, {Dir: "/opt/x", OwnSystem: true},
		{Dir: "/var/lib", OwnSystem: true}, {Profile: "slow"}, {Disk: "tape"}, {Work: "none"},
		{Daemons: []Daemon{{Name: "a/b", Argv: []string{"x"}}}}, {Daemons: []Daemon{{Name: "a"}}},
		{Daemons: []Daemon{{Name: "libvirtd", Argv: []string{"x"}}}}} {
		if o, err := bad.complete(); err == nil {
			t.Errorf("%+v was accepted as %+v", bad, o)
		}
	}
}

func TestBMCModes(t *testing.T) {
	for mode, want := range map[string]time.Duration{"ok": 0, "dead": 0, "lie": 0, "refuse": 0, "slow:1.5s": 1500 * time.Millisecond} {
		d, err := delayOf(mode)
		if err := errors.Join(err, checkBMCMode(mode)); err != nil || d != want {
			t.Errorf("mode %s: %v, %v", mode, d, err)
		}
	}
	for _, bad := range []string{"", "off", "slow", "slow:", "slow:0s", "slow:x", "slow:11m"} {
		if err := checkBMCMode(bad); err == nil {
			t.Errorf("mode %q was accepted", bad)
		}
	}
	if got, err := wireGUID("1abc0000-0000-4000-8000-000007000002"); err != nil || got != "0200000700000080004000000000bc1a" {
		t.Errorf("GUID %s, %v", got, err)
	}
	if got, err := wireGUID("1abc"); err == nil {
		t.Errorf("a short UUID became %s", got)
	}
}

// TestAgentSettings lets the agents' own parser judge what is written for them.
func TestAgentSettings(t *testing.T) {
	p := plan{Dir: t.TempDir(), Subnet: 7, Hosts: 3}
	if err := os.MkdirAll(p.path("pki"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time keeps what is there
		if err := p.prepareAgents(Options{BMCs: true, Profile: config.ProfileFast, Disk: DiskNBD, Locks: true,
			Timings:     config.Timings{Detection: config.Duration(900 * time.Millisecond)},
			HealthCheck: &config.HealthCheck{Type: "http", Port: 80, Path: "/status"}, Restart: config.Restart{Limit: 5}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"agent.json", "cluster.json", "pki/ca.pem", "pki/h2.pem", "pki/h2.key"} {
		if _, err := os.Stat(p.disk("h2", "srv", name)); err != nil {
			t.Error(err)
		}
	}
	if n := p.node("h2", Options{Work: WorkAddress}); n.Driver != "process" ||
		!slices.Contains(n.Process.Command, "10.98.7.9") || check(n, p.cluster(Options{})) != nil {
		t.Errorf("settings of h2 for an address: %+v", n)
	}
	four, some := plan{Dir: t.TempDir(), Subnet: 7, Hosts: 4}, Options{Members: 3}
	if n := four.node("h4", some); !n.GuestsOnly || n.Store.Member != nil || len(n.Store.Endpoints) != 3 ||
		check(n, four.cluster(some)) != nil {
		t.Errorf("settings of h4, which is no member: %+v", n)
	}
	if cl := four.cluster(some); len(cl.Node) != 3 {
		t.Errorf("hosts of the configuration: %v", cl.Node)
	}
	n := p.node("h2", Options{})
	if n.Store.Member.Initial["h3"] != "https://10.98.7.13:2380" || n.Watchdog.Device != "unix:/srv/watchdog/h2.sock" ||
		len(n.Store.Endpoints) != 3 {
		t.Errorf("settings of h2: %+v", n)
	}
	if n.Machine != "/srv/host/machine-uuid" {
		t.Errorf("settings of h2: hardware UUID in %s", n.Machine)
	}
	cl, _, err := config.Load(p.disk("h1", "srv", "cluster.json"), config.Options{AllowUndersized: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []config.FenceDevice{{Type: "ipmi", Address: "10.98.7.103", User: "admin", Credential: "file:/srv/host/bmc.password"}}
	if got := cl.Fencing.Hosts["h3"].Devices; len(cl.Fencing.Hosts) != 3 || !slices.Equal(got, want) {
		t.Errorf("fence devices of h3: %+v, want %+v", got, want)
	}
	if cl.ImageURL != "nbd://10.98.7.1:10809/mnvm" {
		t.Errorf("image %q", cl.ImageURL)
	}
	if v := cl.TimingConf.Values(); cl.TimingConf.Profile != config.ProfileFast || v.Detection != 900*time.Millisecond {
		t.Errorf("profile %q, timings %+v", cl.TimingConf.Profile, v)
	}
	if cl.LockManager == nil || *cl.LockManager != (config.LockManager{Type: "virtlockd", Lockspace: "/srv/shared/locks"}) {
		t.Errorf("lock manager %+v", cl.LockManager)
	}
	if cl.HealthCheck == nil || cl.HealthCheck.Path != "/status" || cl.Restart.Limit != 5 {
		t.Errorf("health check %+v, restart %+v", cl.HealthCheck, cl.Restart)
	}
}

func TestARP(t *testing.T) {
	p := plan{Subnet: 7, Hosts: 3}
	mac, err := net.ParseMAC(p.hostMAC("h2"))
	if err != nil {
		t.Fatal(err)
	}
	b := arpQuestion(mac, p.floatingAddr(), p.floatingAddr())
	want := []byte{0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0x98, 7, 0x12, 10, 98, 7, 9, 0, 0, 0, 0, 0, 0, 10, 98, 7, 9}
	if !bytes.Equal(b, want) {
		t.Errorf("question %x, want %x", b, want)
	}
	if mac, ok := parseARP(b, p.floatingAddr()); ok {
		t.Errorf("a question was read as the answer of %s", mac)
	}
	b[7] = arpReply
	if mac, ok := parseARP(b, p.floatingAddr()); !ok || mac != p.hostMAC("h2") {
		t.Errorf("answer of %q, %t", mac, ok)
	}
	if mac, ok := parseARP(b[:arpLen-1], p.floatingAddr()); ok {
		t.Errorf("a short answer was read as one of %s", mac)
	}
	if mac, ok := parseARP(b, p.guestAddr()); ok {
		t.Errorf("an answer about another address was read as one of %s", mac)
	}
}

// hasBusybox is the need of the program that guests have.
func hasBusybox() error {
	_, err := os.Stat(busyboxPath)
	return err
}

func TestCPIO(t *testing.T) {
	var b bytes.Buffer
	c := newCPIO(&b)
	c.file("a/b/c.txt", 0o644, []byte("hello"))
	c.link("a/l", "b/c.txt")
	c.node("dev/console", 5, 1)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 {
		t.Errorf("length %d is not padded", b.Len())
	}
	if n := strings.Count(b.String(), "070701"); n != 7 {
		t.Errorf("%d headers, want those of a, a/b, c.txt, l, dev, console and the trailer", n)
	}
	t.Run("read", func(t *testing.T) { readBack(t, &b) })
}

// readBack has busybox unpack an archive, which makes a device node.
func readBack(t *testing.T, archive io.Reader) {
	need.Real(t, need.Root, hasBusybox)
	cmd := exec.CommandContext(t.Context(), busyboxPath, "cpio", "-id")
	cmd.Dir, cmd.Stdin = t.TempDir(), archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	if raw, err := os.ReadFile(filepath.Join(cmd.Dir, "a/l")); err != nil || string(raw) != "hello" {
		t.Errorf("read back %q, %v", raw, err)
	}
}

func TestNetconf(t *testing.T) {
	need.Real(t, hasBusybox)
	v1 := `version: 1
config:
  - type: physical
    name: eth7
    mtu: 1400
    subnets:
      - type: static
        address: 10.0.2.15
        netmask: 255.255.254.0
        gateway: 10.0.2.2
      - type: static6
        address: fd00::15/64
  - type: nameserver
    address:
      - 10.0.2.3
`
	v2 := `version: 2
ethernets:
  id0:
    match:
      macaddress: "00:00:00:00:00:00"
    set-name: ens1
    mtu: 1400
    addresses:
      - 10.0.2.15/24
      - "fd00::15/64"
    routes:
      - to: default
        via: 10.0.2.2
      - to: 10.9.0.0/16
        via: 10.0.2.9
    nameservers:
      addresses: [10.0.2.3, 10.0.2.4]
  eth5:
    addresses: [192.0.2.5/24]
    gateway4: 192.0.2.1
`
	// The style of Holdfast's own seeds.
	own := `version: 2
ethernets:
  eth0:
    match:
      macaddress: "00:00:00:00:00:00"
    set-name: "eth0"
    dhcp4: false
    addresses:
      - "10.98.1.10/24"
    routes:
      - to: "0.0.0.0/0"
        via: "10.98.1.1"
    nameservers:
      addresses:
        - "10.98.1.1"
        - "fd00::53"
`
	for _, test := range []struct {
		name, text, dns string
		want            []string
	}{
		{"version 1", v1, "nameserver 10.0.2.3\n", []string{
			"ip link set dev eth7 mtu 1400", "ip link set dev eth7 up", "ip addr add 10.0.2.15/23 dev eth7",
			"ip addr add fd00::15/64 dev eth7", "ip route add default via 10.0.2.2 dev eth7"}},
		{"version 2", v2, "nameserver 10.0.2.3\nnameserver 10.0.2.4\n", []string{
			"ip link set dev lo down; ip link set dev lo name ens1",
			"ip link set dev ens1 mtu 1400", "ip link set dev ens1 up", "ip addr add 10.0.2.15/24 dev ens1",
			"ip addr add fd00::15/64 dev ens1", "ip route add default via 10.0.2.2 dev ens1", "ip route add 10.9.0.0/16 via 10.0.2.9 dev ens1",
			"ip link set dev eth5 up", "ip addr add 192.0.2.5/24 dev eth5", "ip route add default via 192.0.2.1 dev eth5"}},
		{"own style", own, "nameserver 10.98.1.1\nnameserver fd00::53\n", []string{
			"ip link set dev lo down; ip link set dev lo name eth0", "ip link set dev eth0 up",
			"ip addr add 10.98.1.10/24 dev eth0", "ip route add default via 10.98.1.1 dev eth0"}},
	} {
		t.Run(test.name, func(t *testing.T) { netconf(t, test.text, test.dns, test.want) })
	}
}

// netconf runs the guest's script with a program "ip" that does nothing and
// without the machine's name servers in reach.
func netconf(t *testing.T, text, dns string, want []string) {
	dir := t.TempDir()
	script, err := recipe.ReadFile("guest/netconf.awk")
	if err != nil {
		t.Fatal(err)
	}
	resolv := filepath.Join(dir, "resolv.conf")
	moved := strings.ReplaceAll(string(script), "/etc/resolv.conf", resolv)
	for name, body := range map[string]string{"netconf": moved, "ip": "#!/bin/sh\n", "in": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), busyboxPath, "awk", "-f", filepath.Join(dir, "netconf"), filepath.Join(dir, "in"))
	cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("netconf: %v: %s", err, out)
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		got = append(got, strings.TrimSpace(strings.TrimPrefix(line, "network: ")))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("commands\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if raw, err := os.ReadFile(resolv); err != nil || string(raw) != dns {
		t.Errorf("name servers %q, %v; want %q", raw, err, dns)
	}
}

func TestPingRecord(t *testing.T) {
	start := time.Now()
	p := &pinger{}
	// 20 probes; 5..7 have no answer, 10 has a late one, and 19 is not over yet.
	for i := range 20 {
		sent := start.Add(time.Duration(i) * PingInterval)
		q := probe{sent: sent, answered: sent.Add(time.Millisecond)}
		switch {
		case i >= 5 && i <= 7:
			q.answered = time.Time{}
		case i == 10:
			q.answered = sent.Add(PingLimit + time.Millisecond)
		}
		p.probes = append(p.probes, q)
	}
	got := p.record(start.Add(18*PingInterval + PingLimit))
	at := func(i int) time.Time { return start.Add(time.Duration(i) * PingInterval) }
	want := Pings{Sent: 19, Lost: 4, Longest: 80 * time.Millisecond, Outages: []Outage{{at(5), at(8), 3}, {at(10), at(11), 1}}}
	// From the answer to 4, at 81 ms, to that to 8, at 161 ms.
	if got.Longest = got.Longest.Round(time.Millisecond); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	// An outage that lasts counts up to now.
	p.probes = p.probes[:8]
	if got := p.record(start.Add(time.Second)); got.Longest.Round(time.Millisecond) != 919*time.Millisecond || !got.Outages[0].End.IsZero() {
		t.Errorf("got %+v, want a gap of 919 ms that lasts", got)
	}
}

func TestEcho(t *testing.T) {
	b := echoRequest(7, 70000)
	if checksum(b) != 0 {
		t.Errorf("checksum over the request is %#x, want 0", checksum(b))
	}
	if _, ok := parseEcho(b, 7); ok {
		t.Error("a request was taken for an answer")
	}
	b[0] = icmpEchoReply
	if n, ok := parseEcho(b, 7); !ok || n != 70000 {
		t.Errorf("got %d, %v", n, ok)
	}
	if _, ok := parseEcho(b, 8); ok {
		t.Error("another prober's answer was taken")
	}
	if _, ok := parseEcho(b[:12], 7); ok {
		t.Error("a short answer was taken")
	}
}

// TestPingLoopback runs the prober against this machine itself.
func TestPingLoopback(t *testing.T) {
	need.Real(t, need.Root) // for a raw socket
	conn, err := net.ListenIP("ip4:icmp", &net.IPAddr{IP: net.IPv4zero})
	if err != nil {
		t.Fatal(err)
	}
	p := newPinger(conn, netip.MustParseAddr("127.0.0.1"))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	r, err := p.run(ctx)
	if err != nil || r.Sent == 0 || r.Lost > 1 {
		t.Errorf("record %+v, %v", r, err)
	}
}

// looks plays what an observer sees: for each process the CPU time that its
// guest took in each look, -1 where the process is not there.
func looks(procs []qemuProcess, cpu [][]int) Observation {
	o := &observer{ran: map[Process]time.Duration{}}
	start := time.Now()
	sum := make([]time.Duration, len(procs))
	for i := range cpu[0] {
		o.looks++
		for j, q := range procs {
			if cpu[j][i] < 0 {
				continue
			}
			sum[j] += time.Duration(cpu[j][i]) * time.Millisecond
			o.saw(q, sum[j], start.Add(time.Duration(i)*ObserveInterval))
		}
	}
	return o.result()
}

func TestObserver(t *testing.T) {
	a := qemuProcess{Process: Process{1, 1}, host: "h1"}
	b := qemuProcess{Process: Process{2, 2}, host: "h2"}
	in := qemuProcess{Process: Process{3, 3}, host: "h3", incoming: true}
	for _, test := range []struct {
		name     string
		procs    []qemuProcess
		cpu      [][]int
		max      int
		overlaps int
	}{
		{"one after the other", []qemuProcess{a, b}, [][]int{{9, 9, 9, -1, -1}, {-1, -1, -1, 9, 9}}, 1, 0},
		{"doubled", []qemuProcess{a, b}, [][]int{{9, 9, 9, 9, -1}, {-1, 9, 9, 9, 9}}, 2, 1},
		{"doubled, one stands still", []qemuProcess{a, b}, [][]int{{9, 0, 0, 0, 0}, {-1, -1, 9, 9, 9}}, 2, 1},
		{"migration", []qemuProcess{a, in}, [][]int{{9, 9, 9, 0, 0, -1}, {-1, 0, 0, 9, 9, 9}}, 1, 0},
		{"migration within one look", []qemuProcess{a, in}, [][]int{{9, 9, 9, 9, -1}, {-1, 0, 0, 9, 9}}, 1, 0},
		{"migration, the source runs on", []qemuProcess{a, in}, [][]int{{9, 9, 9, 9, 9, -1}, {-1, 0, 9, 9, 9, 9}}, 2, 1},
		{"migration fails", []qemuProcess{a, in}, [][]int{{9, 9, 9, 9, 9}, {-1, 0, 0, 1, -1}}, 1, 0},
		{"nothing", []qemuProcess{in}, [][]int{{-1, 0, 0, 0}}, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := looks(test.procs, test.cpu)
			if got.Max != test.max || len(got.Overlap) != test.overlaps {
				t.Errorf("max %d, overlaps %v; want %d and %d", got.Max, got.Overlap, test.max, test.overlaps)
			}
		})
	}
}

// TestFreezer stops and kills a process by each version of control groups that
// this machine has.
func TestFreezer(t *testing.T) {
	need.Real(t, need.Root)
	v2, v1, err := freezerRoots()
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{v2, v1} {
		if root == "" {
			continue
		}
		t.Run(root, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "sleep", "60")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			p, err := identify(cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(root, "hf-test-"+strconv.Itoa(os.Getpid()))
			if err := makeCgroup(path, p.PID); err != nil {
				t.Fatal(err)
			}
			for _, freeze := range []bool{true, false, true} {
				if err := setFrozen(t.Context(), path, freeze); err != nil {
					t.Error(err)
				}
			}
			// killGroup reaps the process, so Wait finds none.
			if err := errors.Join(killGroup(t.Context(), p, path), removeCgroup(t.Context(), path)); err != nil {
				t.Error(err)
			}
			if err := cmd.Wait(); err == nil || p.alive() || exists(path) {
				t.Errorf("killed while frozen: wait %v, alive %v, group there %v", err, p.alive(), exists(path))
			}
		})
	}
}

// TestSpaces: what is known of a process is kept while it is there, and no longer.
func TestSpaces(t *testing.T) {
	here, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	const none = 1 << 30 // above the largest number of a process
	s := spaces{none: "pid:[1]", none + 1: "pid:[2]"}.next([]int{none, os.Getpid(), none + 2})
	if want := (spaces{none: "pid:[1]", os.Getpid(): here}); !maps.Equal(s, want) {
		t.Errorf("%v, want %v", s, want)
	}
}
