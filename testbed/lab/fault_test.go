package lab_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// inHost runs fn on a thread in the host's network namespace. Sockets that fn
// opens stay there.
func inHost(t *testing.T, l *lab.Lab, host string, fn func() error) {
	t.Helper()
	pid := hostStatus(t, l, host).PID
	done := make(chan error)
	go func() {
		// Locked for good: the thread ends with its goroutine.
		runtime.LockOSThread()
		ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Setns(ns, unix.CLONE_NEWNET), unix.Close(ns))
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	try.Must(t, <-done)
}

func at(l *lab.Lab, host string, port uint16) string {
	return netip.AddrPortFrom(l.Addr(host), port).String()
}

// listenOn opens a TCP port on a host; connections wait in the kernel's queue.
func listenOn(t *testing.T, l *lab.Lab, host string, port uint16) {
	t.Helper()
	inHost(t, l, host, func() error {
		s, err := net.Listen("tcp", at(l, host, port))
		if err == nil {
			t.Cleanup(func() { s.Close() })
		}
		return err
	})
}

// connects tries to connect from one host to another.
func connects(t *testing.T, l *lab.Lab, from, to string, port uint16) bool {
	t.Helper()
	ok := false
	inHost(t, l, from, func() error {
		conn, err := net.DialTimeout("tcp", at(l, to, port), 300*time.Millisecond)
		if err != nil {
			return nil // what the caller asks
		}
		ok = true
		return conn.Close()
	})
	return ok
}

func testCutStore(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	ports := []uint16{2379, 2380, lab.APIPort}
	for _, h := range []string{"h1", "h3"} {
		for _, port := range ports {
			listenOn(t, l, h, port)
		}
	}
	check := func(when string, storeOpen bool) {
		t.Helper()
		for _, port := range ports {
			for _, way := range [][2]string{{"h1", "h3"}, {"h3", "h1"}, {"h2", "h1"}, {"h2", "h3"}} {
				want := storeOpen || port == lab.APIPort || way == [2]string{"h2", "h3"}
				if got := connects(t, l, way[0], way[1], port); got != want {
					t.Errorf("%s: %s reaches port %d of %s: %v, want %v", when, way[0], port, way[1], got, want)
				}
			}
		}
	}
	check("before", true)
	try.Must(t, l.CutStore(ctx, "h1"))
	try.Must(t, l.CutStore(ctx, "h1")) // again
	check("cut", false)
	try.Must(t, l.Heal(ctx, "h2"))
	check("another host healed", false)
	try.Must(t, l.Heal(ctx, "h1"))
	check("healed", true)
	if err := l.CutStore(ctx, "h9"); err == nil {
		t.Error("an unknown host was cut")
	}
}

// datagrams listens on a host's UDP port for agents' heartbeats and returns
// what tells whether a datagram from another host comes through.
func datagrams(t *testing.T, l *lab.Lab, to string) func(from string) bool {
	t.Helper()
	var s net.PacketConn
	port := at(l, to, lab.APIPort)
	inHost(t, l, to, func() (err error) {
		s, err = net.ListenPacket("udp", port)
		return err
	})
	t.Cleanup(func() { s.Close() })
	return func(from string) bool {
		t.Helper()
		inHost(t, l, from, func() error {
			c, err := net.Dial("udp", port)
			if err != nil {
				return err
			}
			_, err = c.Write([]byte("beat"))
			return errors.Join(err, c.Close())
		})
		try.Must(t, s.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		_, _, err := s.ReadFrom(make([]byte, 16))
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		return err == nil
	}
}

// testCutBeats cuts one direction: datagrams are lost there and pass the other way.
func testCutBeats(t *testing.T, l *lab.Lab) {
	to1, to3 := datagrams(t, l, "h1"), datagrams(t, l, "h3")
	if !to1("h3") || !to3("h1") {
		t.Error("datagrams do not pass")
	}
	try.Must(t, l.Cut(t.Context(), "h1", "h3"))
	if to3("h1") || !to1("h3") {
		t.Error("cut from h1 to h3: want datagrams from h3 to h1 only")
	}
	try.Must(t, l.Heal(t.Context(), "h1"))
	if !to3("h1") {
		t.Error("datagrams do not pass after heal")
	}
}

// sees tries to read the shared folder from a host.
func sees(t *testing.T, l *lab.Lab, host string) bool {
	t.Helper()
	return seesWithin(t, l, host, 20*time.Second)
}

// hangs reports whether a host does not see the shared folder just now.
func hangs(t *testing.T, l *lab.Lab, host string) bool {
	t.Helper()
	return !seesWithin(t, l, host, 400*time.Millisecond)
}

func seesWithin(t *testing.T, l *lab.Lab, host string, limit time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	out, err := l.Exec(ctx, host, "ls", lab.SharedDir)
	if err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return err == nil && strings.Contains(out, lab.ImageName)
}

func testHangStorage(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	try.Must(t, l.HangStorage(ctx, "h3"))
	try.Must(t, l.HangStorage(ctx, "h3")) // again
	if !hostStatus(t, l, "h3").Hung {
		t.Error("the status does not show the hang")
	}
	if !hangs(t, l, "h3") || !sees(t, l, "h1") {
		t.Error("want the shared folder to hang on h3 only")
	}
	try.Must(t, l.UnhangStorage(ctx, "h3"))
	if !sees(t, l, "h3") {
		t.Error("the shared folder still hangs")
	}
	try.Must(t, l.UnhangStorage(ctx, "h3")) // again
	// A process that hangs goes with the power.
	try.Must(t, l.HangStorage(ctx, "h3"))
	cmd, err := l.Command(ctx, "h3", "stat", "-f", lab.SharedDir)
	try.Must(t, err)
	try.Must(t, cmd.Start())
	try.Must(t, l.Crash(ctx, "h3"))
	if err := cmd.Wait(); err == nil {
		t.Error("an access to the hung folder was answered")
	}
	try.Must(t, l.On(ctx, "h3"))
	if !sees(t, l, "h3") {
		t.Error("the shared folder hangs after a loss of power")
	}
}

// wallClock is the time that PID 1 of a host writes into its log when it starts
// a daemon again, and the true one.
func wallClock(t *testing.T, l *lab.Lab, host string) (said, now time.Time) {
	t.Helper()
	log := filepath.Join(l.Dir(), "hosts", host, "init.log")
	before, err := os.ReadFile(log)
	try.Must(t, err)
	pid := daemonPID(t, l, host, "virtlogd", 0)
	try.Must(t, l.Kill(t.Context(), host, "virtlogd"))
	daemonPID(t, l, host, "virtlogd", pid)
	now = time.Now()
	after, err := os.ReadFile(log)
	try.Must(t, err)
	first, _, _ := strings.Cut(strings.TrimPrefix(string(after[len(before):]), "time="), " ")
	said, err = time.Parse(time.RFC3339, first)
	try.Must(t, err)
	return said, now
}

func testStepClock(t *testing.T, l *lab.Lab) {
	for _, step := range []struct{ by, sum time.Duration }{{time.Hour, time.Hour}, {-25 * time.Hour, -24 * time.Hour}, {24 * time.Hour, 0}} {
		try.Must(t, l.StepClock(t.Context(), "h3", step.by))
		for host, want := range map[string]time.Duration{"h3": step.sum, "h1": 0} {
			said, now := wallClock(t, l, host)
			if off := said.Sub(now); (off - want).Abs() > 10*time.Second {
				t.Errorf("clock of %s after a step of %v: off by %v, want %v", host, step.by, off, want)
			}
		}
	}
	for _, bad := range []time.Duration{time.Millisecond, 50 * 365 * 24 * time.Hour} {
		if err := l.StepClock(t.Context(), "h3", bad); err == nil {
			t.Errorf("a step of %v was accepted", bad)
		}
	}
}

// TestNetworkDisk starts the guest on two hosts at once, which nothing refuses,
// and lets the disk hang under it.
func TestNetworkDisk(t *testing.T) {
	need.Drill(t, "the laboratory: a disk without locks shows two guests that write, and the observer sees them")
	ctx := t.Context()
	l := up(t, lab.Options{Hosts: 2, Disk: lab.DiskNBD})
	first, err := l.StartGuest(ctx, "h1")
	try.Must(t, err)
	try.Must(t, l.HangDisk(ctx, "h1"))
	a := stopped(t, l)
	if !sees(t, l, "h1") {
		t.Error("the shared folder hangs with the disk")
	}
	try.Must(t, l.UnhangDisk(ctx, "h1"))
	if after := waitCounter(t, l, a.N+5); after.Boot != first.Boot {
		t.Errorf("guest after its disk hung: %+v, before %+v", after, first)
	}

	watch, stop := context.WithCancel(ctx)
	defer stop()
	seen := make(chan lab.Observation, 1)
	failed := make(chan error, 1)
	go func() {
		o, err := l.Observe(watch, lab.GuestUUID)
		seen <- o
		failed <- err
	}()
	_, err = l.StartGuest(ctx, "h2")
	try.Must(t, err)
	// The first guest may be the one that answered: the second still boots.
	deadline := hopeless()
	for hostStatus(t, l, "h1").Guests != 1 || hostStatus(t, l, "h2").Guests != 1 {
		if time.Now().After(deadline) {
			t.Fatal("the guest does not run on both hosts")
		}
		time.Sleep(10 * time.Millisecond) // between two looks at a condition
	}
	// Both write to the same place.
	wrote := map[string]bool{}
	for len(wrote) < 2 {
		wrote[diskBoot(t, l)] = true
		if time.Now().After(deadline) {
			t.Fatalf("guests that wrote to the disk: %v, want two", wrote)
		}
	}
	if !wrote[first.Boot] {
		t.Errorf("guests that wrote to the disk: %v, want the first one, %s, among them", wrote, first.Boot)
	}
	stop()
	try.Must(t, <-failed)
	o := <-seen
	t.Logf("seen %+v", o)
	if o.Max != 2 || len(o.Overlap) != 1 {
		t.Errorf("observer saw %+v, want two at once", o)
	}
}

var bootLine = regexp.MustCompile(`boot=[0-9a-f-]{36}`)

// diskBoot is the boot id of the guest that wrote last to the served disk.
func diskBoot(t *testing.T, l *lab.Lab) string {
	t.Helper()
	var out []byte
	// A process is born in the namespace of the thread that starts it.
	try.Must(t, l.InSwitch(func() (err error) {
		out, err = exec.CommandContext(t.Context(), "qemu-io", "-r", "-f", "raw", "-c", "read -v 0 64", l.DiskURL()).Output()
		return err
	}))
	// Lines such as "00000000:  62 6f 6f 74 ...  boot...", 16 bytes each.
	var text []byte
	for line := range strings.Lines(string(out)) {
		if _, rest, ok := strings.Cut(line, ":  "); ok {
			raw, err := hex.DecodeString(strings.Join(strings.Fields(rest)[:16], ""))
			try.Must(t, err)
			text = append(text, raw...)
		}
	}
	id, _ := strings.CutPrefix(bootLine.FindString(string(text)), "boot=")
	if id == "" {
		t.Fatalf("no boot id on the disk: %s", out)
	}
	return id
}

// stopped waits until the guest's counter stands still for a second.
func stopped(t *testing.T, l *lab.Lab) lab.Answer {
	t.Helper()
	deadline := hopeless()
	var last lab.Answer
	for since := time.Now(); ; {
		a, err := l.Ask(t.Context())
		if err == nil && a.N != last.N {
			last, since = a, time.Now()
		}
		if err == nil && time.Since(since) > time.Second {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("the guest's counter does not stop: %+v, %v", a, err)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at a condition
	}
}
