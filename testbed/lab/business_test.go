package lab

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBusinessNames(t *testing.T) {
	p := plan{Dir: "/x", Subnet: 7, Hosts: MaxHosts}
	taken := map[string]bool{p.switchAddr().String(): true, p.floatingAddr().String(): true, p.guestAddr().String(): true,
		p.guestMAC(): true, p.switchMAC(): true, GuestUUID: true}
	for _, h := range p.hosts() {
		taken[p.hostAddr(h).String()], taken[p.bmcAddr(h).String()], taken[p.hostMAC(h)] = true, true, true
	}
	on := map[string]int{}
	for n := 1; n <= MaxGuests; n++ {
		g := p.business(n)
		for _, s := range []string{g.Addr.String(), g.MAC, g.UUID} {
			if taken[s] {
				t.Errorf("%s: %s is taken", g.Name, s)
			}
			taken[s] = true
		}
		if !g.Addr.Is4() || !strings.HasPrefix(g.Addr.String(), "10.98.7.") {
			t.Errorf("%s: address %s", g.Name, g.Addr)
		}
		on[p.businessHost(n)]++
		// Only then can it move to any other host.
		if xml := p.businessDomain(g); strings.Contains(xml, p.hostAddr(p.businessHost(n)).String()+"/") || strings.Contains(xml, "%!") {
			t.Errorf("domain of %s: %s", g.Name, xml)
		}
	}
	if len(on) != MaxHosts || on["h1"] != 8 || on["h9"] != 7 {
		t.Errorf("guests per host: %v", on)
	}
}

func TestLocated(t *testing.T) {
	p := plan{Subnet: 7, Hosts: 3}
	q := func(n int, host string, start uint64) qemuProcess {
		return qemuProcess{Process: Process{PID: int(start), Start: start}, host: host, line: "qemu\x00-uuid\x00" + p.business(n).UUID + "\x00"}
	}
	got := p.located(4, []qemuProcess{q(1, "h3", 30), q(1, "h1", 20), q(2, "h2", 25), q(5, "h1", 26)})
	var at []string
	for _, g := range got {
		at = append(at, fmt.Sprintf("%s@%s>%s:%d", g.Name, g.Host, g.To, g.PID))
	}
	if want := []string{"vm1@h1>h3:20", "vm2@h2>:25", "vm3@>:0", "vm4@>:0"}; !slices.Equal(at, want) {
		t.Errorf("located %v, want %v", at, want)
	}
}

// initrd packs what fill writes as the management guest's is packed.
func initrd(t testing.TB, fill func(*cpioWriter)) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	c := newCPIO(z)
	fill(c)
	if err := errors.Join(c.close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBuildBusiness(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	write := func(but string) {
		raw := initrd(t, func(c *cpioWriter) {
			c.node("dev/console", 5, 1)
			c.file("bin/qemu-ga", 0o755, []byte("large"))
			for _, name := range businessFiles()[1:] {
				if name != "bin/busybox" && strings.HasPrefix(name, "bin/") {
					c.link(name, "busybox")
				} else if name != but {
					c.file(name, 0o755, []byte("body of "+name))
				}
			}
			for _, m := range businessModules() {
				c.file("modules/"+m+".ko", 0o644, []byte("body of "+m))
			}
		})
		if err := os.WriteFile(from, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	if err := buildBusiness(from, to); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err = w.Write(image)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := readInitrd(z.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	find := func(name string) cpioEntry {
		i := slices.IndexFunc(got, func(e cpioEntry) bool { return e.name == name })
		if i < 0 {
			return cpioEntry{}
		}
		return got[i]
	}
	if e := find("init"); !e.isFile() || e.mode&0o777 != 0o755 || !bytes.HasPrefix(e.body, []byte("#!/bin/sh\n")) {
		t.Errorf("init: %o %.20q", e.mode, e.body)
	}
	if e := find("bin/sh"); !e.isLink() || string(e.body) != "busybox" {
		t.Errorf("bin/sh: %o %q", e.mode, e.body)
	}
	if e := find("modules/virtio_net.ko"); string(e.body) != "body of virtio_net" {
		t.Errorf("module: %q", e.body)
	}
	if e := find("bin/qemu-ga"); e.name != "" {
		t.Error("the guest agent is still there")
	}
	write("bin/busybox")
	if err := buildBusiness(from, to); err == nil || !strings.Contains(err.Error(), "no bin/busybox") {
		t.Errorf("an initrd without busybox: %v", err)
	}
}

func FuzzReadInitrd(f *testing.F) {
	whole := initrd(f, func(c *cpioWriter) { c.file("a/b", 0o644, []byte("hello")); c.link("l", "a/b") })
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, raw []byte) {
		if entries, err := readInitrd(raw); err == nil {
			for _, e := range entries {
				if e.name == "TRAILER!!!" {
					t.Error("the end was read as an entry")
				}
			}
		}
	})
}

func TestReadEntry(t *testing.T) {
	var b bytes.Buffer
	c := newCPIO(&b)
	c.file("abc", 0o640, []byte("hello"))
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	e, next, err := readEntry(b.Bytes(), 0)
	if err != nil || e.name != "abc" || e.mode != 0o100640 || string(e.body) != "hello" {
		t.Errorf("entry %+v, %v", e, err)
	}
	if e, _, err := readEntry(b.Bytes(), next); err != nil || e.name != "TRAILER!!!" {
		t.Errorf("end %+v, %v", e, err)
	}
	for _, n := range []int{0, 50, 112, 118} {
		if e, _, err := readEntry(b.Bytes()[:n], 0); err == nil {
			t.Errorf("%d bytes were read as %+v", n, e)
		}
	}
	huge := bytes.Replace(b.Bytes(), []byte("00000005"), []byte("7FFFFFFF"), 1)
	if e, _, err := readEntry(huge, 0); err == nil {
		t.Errorf("a body beyond the end was read: %s", e.name)
	}
}

// TestTally counts probes every 20 ms in a made-up time, of which some are lost
// and some come late.
func TestTally(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	ta := &tally{}
	answers := map[int]uint64{} // by millisecond
	for ms := 0; ms <= 4000; ms++ {
		if n, ok := answers[ms]; ok {
			ta.answer(n, at(ms))
			ta.answer(n, at(ms)) // doubled
		}
		if ms%20 != 0 {
			continue
		}
		n := ta.send(at(ms))
		if n != uint64(ms/20) {
			t.Fatalf("probe at %d ms has number %d", ms, n)
		}
		switch {
		case ms >= 1000 && ms < 1200: // lost: ten probes
		case ms >= 2000 && ms < 2300: // late, but answered
			answers[ms+400] = n
		case ms == 2500: // too late
			answers[ms+1001] = n
		default:
			answers[ms+1] = n
		}
		if len(ta.open) > 52 {
			t.Fatalf("%d probes are kept", len(ta.open))
		}
	}
	got := ta.end(at(4001))
	want := GuestPings{Sent: 151, Lost: 11, Gap: 320 * time.Millisecond, FirstLost: at(1000), LastLost: at(2500)}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}

	dead := &tally{}
	for ms := 0; ms < 3000; ms += 20 {
		if n := dead.send(at(ms)); n == 0 {
			dead.answer(n, at(1))
		}
	}
	if got := dead.end(at(3000)); got.Sent != 100 || got.Lost != 99 || got.Gap != 2999*time.Millisecond {
		t.Errorf("a guest that died at once: %+v", got)
	}
	if got := (&tally{}).end(at(0)); got != (GuestPings{}) {
		t.Errorf("no probe: %+v", got)
	}
}

// TestPowerSocket asks at the socket of a host that is off, and what is no order.
func TestPowerSocket(t *testing.T) {
	l := &Lab{p: plan{Dir: t.TempDir(), Subnet: 7, Hosts: 1}}
	if err := errors.Join((&state{Plan: l.p}).save(), os.Mkdir(l.p.path("power"), 0o755)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	listening := make(chan struct{})
	go func() {
		b := &powerButton{l: l, host: "h1", log: slog.New(slog.DiscardHandler)}
		ended <- b.serve(ctx)
	}()
	go func() {
		defer close(listening)
		if err := poll(ctx, patience, "the socket", func() (bool, error) { return listens(l.p.powerSocket("h1")), nil }); err != nil {
			t.Error(err)
		}
	}()
	<-listening
	if err := askReboot(ctx, l.p.powerSocket("h1")); err == nil || !strings.Contains(err.Error(), "refused: host h1 is off") {
		t.Errorf("reboot of a host that is off: %v", err)
	}
	conn, err := net.Dial("unix", l.p.powerSocket("h1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(conn, "dance"); err != nil {
		t.Error(err)
	}
	if answer, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(answer, "is not known") {
		t.Errorf("answer to no order: %q, %v", answer, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := askReboot(t.Context(), l.p.powerSocket("h1")); err == nil {
		t.Error("an order was taken after the end")
	}
}

// TestPowerOrder expects one order at a time.
func TestPowerOrder(t *testing.T) {
	l := &Lab{p: plan{Dir: t.TempDir(), Subnet: 7, Hosts: 1}}
	on, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := (&state{Plan: l.p, Hosts: map[string]hostState{"h1": {Init: on}}}).save(); err != nil {
		t.Fatal(err)
	}
	b := &powerButton{l: l, host: "h1"}
	// It only takes orders: to carry one out would end this test.
	order := func() error {
		ours, theirs := net.Pipe()
		wrote := make(chan error, 1)
		go func() {
			_, err := fmt.Fprintln(theirs, rebootOrder)
			wrote <- errors.Join(err, theirs.Close())
		}()
		err := b.take(ours)
		if err2 := errors.Join(ours.Close(), <-wrote); err2 != nil {
			t.Error(err2)
		}
		return err
	}
	if err := order(); err != nil {
		t.Errorf("first order: %v", err)
	}
	if err := order(); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("second order: %v", err)
	}
	b.free()
	if err := order(); err != nil {
		t.Errorf("order after the end of the first: %v", err)
	}
	if procs, err := toEnd(on); err == nil || !strings.Contains(err.Error(), "PID namespace") {
		t.Errorf("a shutdown of what is no host would end %v, %v", procs, err)
	}
	on.Start++ // another process had this pid
	if procs, err := toEnd(on); err != nil || len(procs) > 0 {
		t.Errorf("a shutdown of what is gone would end %v, %v", procs, err)
	}
}

// TestPools expects that a host's pools are defined once: what their owner makes of
// them stays.
func TestPools(t *testing.T) {
	p := plan{Dir: t.TempDir(), Subnet: 7, Hosts: 1}
	for range 2 {
		if err := errors.Join(p.preparePools(), p.writeDisk("h1", Options{Pools: true})); err != nil {
			t.Fatal(err)
		}
	}
	dir := p.disk("h1", "etc-libvirt", "storage")
	raw, err := os.ReadFile(filepath.Join(dir, "shared.xml"))
	if err != nil || !bytes.Contains(raw, []byte("<path>/srv/shared/pool</path>")) {
		t.Errorf("pool: %s, %v", raw, err)
	}
	if to, err := os.Readlink(filepath.Join(dir, "autostart", "template.xml")); err != nil || to != "/etc/libvirt/storage/template.xml" {
		t.Errorf("autostart: %q, %v", to, err)
	}
	if err := os.Remove(filepath.Join(dir, "shared.xml")); err != nil {
		t.Fatal(err)
	}
	if err := p.writeDisk("h1", Options{Pools: true}); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(dir, "shared.xml")) {
		t.Error("a pool that was removed is back")
	}
}
