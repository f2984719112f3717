package guests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt/libvirttest"

	"holdfast/testbed/need"
)

// twoHosts are hosts with a guest on the first one that takes a second or two to
// be moved.
func twoHosts(t *testing.T, persistent bool) (from, to fleet, s small, opt Options) {
	t.Helper()
	dir := t.TempDir()
	opt = Options{Shared: []string{dir}}
	hosts := newFleets(t, 2, opt)
	s = small{name: "still", uuid: smallUUID(1), disks: diskXML(fillDisk(t, filepath.Join(dir, "d"), false), "raw")}
	if persistent {
		hosts[0].setUp("define", fleetRequest{XML: s.xml()})
		hosts[0].setUp("start", fleetRequest{UUID: s.uuid})
	} else {
		hosts[0].setUp("create", fleetRequest{XML: s.xml()})
	}
	return hosts[0], hosts[1], s, opt
}

func (f fleet) signalDaemon(sig syscall.Signal) {
	f.t.Helper()
	f.must(request{Op: "signal", Text: "libvirtd", Number: int(sig)})
}

// killMover begins a migration by a process of its own, and kills that.
func (f fleet) killMover(s small, to fleet, opt Options) {
	f.t.Helper()
	q := fleetRequest{UUID: s.uuid, Target: to.Addr, Migrate: migrateRequest{MiBps: 24}, Options: opt}
	q.Options.MigrateURI = "qemu+tcp://%s/system"
	pid := f.must(request{Op: "mover", Fleet: q}).Number
	f.wait("leaving", func() bool { return f.where(s).Place == Leaving })
	f.must(request{Op: "signal-pid", Text: strconv.Itoa(pid), Number: int(syscall.SIGKILL)})
	f.renew(opt)
}

// deafAtTheEnd lets the target's libvirtd stand still before a migration ends, and
// returns when the guest stands still at the source: all of it was sent, and the target
// has not been heard yet.
func deafAtTheEnd(from, to fleet, s small) {
	from.t.Helper()
	from.wait("on its way", func() bool { return from.where(s).Progress.Total > 0 })
	to.signalDaemon(syscall.SIGSTOP)
	from.wait("sent", func() bool { return from.vms()[s.name].State == VMPaused })
	time.Sleep(500 * time.Millisecond) // libvirtd sees it, and asks the target to take over
}

// TestFleetGuestStandsStillUntilItIsLetGo: who moves it is killed on the way, so
// nobody resumes it, until somebody does.
func TestFleetGuestStandsStillUntilItIsLetGo(t *testing.T) {
	need.Drill(t, "P1: a guest that moved stands still until its source is known to be gone")
	from, to, s, opt := twoHosts(t, true)
	from.killMover(s, to, opt)
	if a, err := from.try("follow", fleetRequest{UUID: s.uuid, Name: s.name}, 30*time.Second); err != nil || a.Place != Left {
		t.Fatalf("%s, %v", a.Place, err)
	}
	time.Sleep(300 * time.Millisecond)
	if v := to.vms()[s.name]; !v.Halted() || v.Job != "" {
		t.Errorf("nobody has let it go on: %+v", v)
	}
	if w := from.where(s); w.Place != Left || !w.Moved {
		t.Errorf("at the source: %+v", w)
	}
	to.call("resume", fleetRequest{UUID: s.uuid})
	if _, err := to.try("discard", fleetRequest{UUID: s.uuid}, 10*time.Second); err == nil {
		t.Error("a guest that runs was discarded")
	}
	if v := to.vms()[s.name]; v.State != VMRunning || !v.Persistent {
		t.Errorf("at the end: %+v", v)
	}
}

// TestFleetLostLastAnswer: the target says that it has the guest when the source does not
// hear it any more. The source goes on; what the target has stands still and is discarded.
func TestFleetLostLastAnswer(t *testing.T) {
	need.Drill(t, "P1: the last answer of a migration is lost, and the guest runs in one place")
	from, to, s, _ := twoHosts(t, true)
	r := slow(s, to)
	r.Fleet.Migrate.MiBps = 24
	going := from.begin(r)
	deafAtTheEnd(from, to, s)
	a, err := from.end(going) // when libvirtd's keepalive has given the target up
	if err == nil || a.Fleet.Place != Here {
		t.Fatalf("%s, %v", a.Fleet.Place, err)
	}
	if v := from.vms()[s.name]; v.State != VMRunning {
		t.Errorf("it does not go on at the source: %+v", v)
	}
	to.signalDaemon(syscall.SIGCONT)
	to.wait("all there, or nothing", func() bool {
		w := to.where(s)
		return w.Place == Here || w.Place == Absent
	})
	v, there := to.vms()[s.name]
	t.Logf("at the target: %t, %s %q", there, v.State, v.Busy)
	if there && !v.Halted() {
		t.Errorf("it runs twice: %+v", v)
	}
	to.call("discard", fleetRequest{UUID: s.uuid})
	to.call("discard", fleetRequest{UUID: s.uuid}) // again
	if w := to.where(s); w.Place != Absent {
		t.Errorf("discarded: %+v", w)
	}
	if v := from.vms()[s.name]; v.State != VMRunning || !v.Persistent {
		t.Errorf("at the end: %+v", v)
	}
	a.Fleet, err = from.try("migrate", fleetRequest{UUID: s.uuid, Target: to.Addr}, 30*time.Second)
	if err != nil || a.Fleet.Place != Left || to.vms()[s.name].State != VMRunning {
		t.Errorf("once more: %s, %v", a.Fleet.Place, err)
	}
}

// TestFleetSourceDaemonDiesAtTheEnd: the source's libvirtd and who made the migration die while the
// target is asked to take over. It stands still on both hosts, or on the source alone.
func TestFleetSourceDaemonDiesAtTheEnd(t *testing.T) {
	need.Drill(t, "P3: the libvirtd of the source is killed at the end of a migration, and the guest runs in one place")
	from, to, s, opt := twoHosts(t, true)
	from.killMover(s, to, opt)
	deafAtTheEnd(from, to, s)
	from.signalDaemon(syscall.SIGKILL)
	to.signalDaemon(syscall.SIGCONT)
	from.must(request{Op: "daemon", Text: "libvirtd"})
	from.must(request{Op: "ready"})
	from.wait("decided", func() bool { return from.where(s).Place != Leaving })
	to.wait("all there, or nothing", func() bool { return to.where(s).Place != Arriving })
	w, v := from.where(s), to.vms()[s.name]
	t.Logf("source %+v, target %+v", w, to.where(s))
	if w.Place != Unclear || !w.Halted {
		t.Fatalf("at the source: %+v", w)
	}
	if v.State == VMRunning {
		t.Fatal("it runs although the source may let it go on")
	}
	end, other := to, from
	if v.State == "" { // the target never heard of it
		end, other = from, to
	}
	other.call("discard", fleetRequest{UUID: s.uuid})
	end.call("resume", fleetRequest{UUID: s.uuid})
	if v := end.vms()[s.name]; v.State != VMRunning || !v.Persistent {
		t.Errorf("at the end: %+v", v)
	}
	if w := other.where(s); w.Place != Absent {
		t.Errorf("on the other host: %+v", w)
	}
}

// TestFleetDirectMoveNeedsAWay: nobody but who moves the guest would let it go on there.
func TestFleetDirectMoveNeedsAWay(t *testing.T) {
	need.Drill(t, "P1: no direct move begins where nobody could let the guest go on")
	from, to, s, _ := twoHosts(t, true)
	for _, direct := range []bool{true, false} {
		a, err := from.try("migrate", fleetRequest{UUID: s.uuid, Target: to.Addr + ":1", Migrate: migrateRequest{Direct: direct}}, 30*time.Second)
		if err == nil || a.Place != Here || strings.Contains(err.Error(), errNoWay.Error()) != direct {
			t.Errorf("direct %t: %s, %v", direct, a.Place, err)
		}
	}
	if v := from.vms()[s.name]; v.State != VMRunning {
		t.Errorf("at the end: %+v", v)
	}
}

// TestGoOnTriesANewConnection: the one to the target may have broken in a long migration without anybody
// seeing it. The guest stands still meanwhile.
func TestGoOnTriesANewConnection(t *testing.T) {
	f, err := New(Options{MigrateURI: "qemu+tcp://%s/system"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	again := make(chan time.Time, 1)
	go func() {
		defer close(again)
		old, err := ln.Accept()
		if err != nil {
			return
		}
		libvirtd, err := libvirttest.New().Dial() // it knows no resume, and says nothing
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(libvirtd, old) }() // both end with the test
		go func() { _, _ = io.Copy(old, libvirtd) }()
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		again <- time.Now()
		_ = nc.Close() // what matters is that it was called
	}()
	defer func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}()
	m := move{Fleet: f, target: fmt.Sprint(ln.Addr()), halted: true}
	if m.meet(t.Context()); m.there == nil {
		t.Fatal("no first connection")
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it works all the same
	if err := m.goOn(ctx); !errors.Is(err, ErrStill) {
		t.Errorf("got %v", err)
	}
	m.part()
	if at, called := <-again; !called || at.Sub(began) > goOnLimit/2 {
		t.Errorf("called anew: %t, after %s", called, at.Sub(began))
	}
}
