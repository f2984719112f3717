package guests

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/testbed/need"
	"holdfast/testbed/virthost"
)

// TestFleetMigratesThereAndBack moves a persistent and a transient guest at the
// same time, and both back.
func TestFleetMigratesThereAndBack(t *testing.T) {
	need.Drill(t, "P4: a persistent and a transient guest move at the same time, and both back")
	dir := t.TempDir()
	hosts := newFleets(t, 2, Options{Shared: []string{dir}})
	from, to := hosts[0], hosts[1]
	keeps := small{name: "keeps", uuid: smallUUID(1), disks: diskXML(obeys(t, filepath.Join(dir, "k")), "raw")}
	floats := small{name: "floats", uuid: smallUUID(2), disks: diskXML(fillDisk(t, filepath.Join(dir, "f"), false), "raw")}
	from.setUp("define", fleetRequest{XML: keeps.xml()})
	from.setUp("start", fleetRequest{UUID: keeps.uuid})
	from.setUp("create", fleetRequest{XML: floats.xml()})
	from.call("autostart", fleetRequest{UUID: keeps.uuid, Number: 1})
	for _, way := range []string{"there", "back"} {
		var going []virthost.Pending
		r := request{Op: "migrate", Timeout: 2 * time.Minute, Fleet: fleetRequest{Target: to.Addr}}
		r.Fleet.Migrate = migrateRequest{Data: to.Addr, MiBps: 64, AutoConverge: true}
		for _, s := range []small{keeps, floats} {
			r.Fleet.UUID = s.uuid
			going = append(going, from.begin(r))
		}
		for i, s := range []small{keeps, floats} {
			a, err := from.end(going[i])
			if err != nil || a.Fleet.Place != Left {
				t.Fatalf("%s: %s is %s: %v", way, s.name, a.Fleet.Place, err)
			}
			if w := from.where(s); w.Place != Left || !w.Moved || !a.Fleet.There {
				t.Errorf("%s: %s at the source: %+v; there was told: %v", way, s.name, w, a.Fleet.There)
			}
			if w := to.where(s); w.Place != Here || w.State != VMRunning {
				t.Errorf("%s: %s at the target: %+v", way, s.name, w)
			}
			t.Logf("%s: %s in %v", way, s.name, a.Took)
		}
		if left := from.vms(); len(left) != 0 {
			t.Errorf("%s: left at the source: %+v", way, left)
		}
		now := to.vms()
		if !now["keeps"].Persistent || now["floats"].Persistent {
			t.Errorf("%s: persistent or not: %+v", way, now)
		}
		if now["keeps"].Autostart {
			t.Errorf("%s: this libvirt carries autostart along: VM.Autostart says that it does not", way)
		}
		from, to = to, from
	}
	if _, err := to.try("migrate", fleetRequest{UUID: keeps.uuid, Target: from.Addr}, 15*time.Second); err == nil {
		t.Error("a guest that is not there was migrated")
	}
}

// slow is a migration that takes long enough to be looked at.
func slow(s small, to fleet) request {
	q := fleetRequest{UUID: s.uuid, Name: s.name, Target: to.Addr, Migrate: migrateRequest{MiBps: 8}}
	return request{Op: "migrate", Fleet: q, Timeout: time.Minute}
}

func TestFleetMigrationThatStays(t *testing.T) {
	need.Drill(t, "P1: a migration that fails in any way leaves the guest running at the source, and only there")
	dir, local := t.TempDir(), t.TempDir()
	opt := Options{Shared: []string{dir}}
	hosts := newFleets(t, 2, opt)
	h, to := hosts[0], hosts[1]
	s := small{name: "busy", uuid: smallUUID(1), disks: diskXML(fillDisk(t, filepath.Join(dir, "b"), true), "raw")}
	h.setUp("define", fleetRequest{XML: s.xml()})
	h.setUp("start", fleetRequest{UUID: s.uuid})
	stays := func(what string, a fleetReply, err error, want string) {
		t.Helper()
		if err == nil || a.Place != Here || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want here and %q", what, a.Place, err, want)
		}
		if w := h.where(s); w.Place != Here || w.State != VMRunning {
			t.Errorf("%s: at the source: %+v", what, w)
		}
		to.wait(what+": nothing at the target", func() bool { return to.where(s).Place == Absent })
	}
	leaving := func() bool {
		w := h.where(s)
		return w.Place == Leaving && w.Progress.Total > 0
	}

	r := slow(s, to)
	r.Fleet.Migrate.Unready = true
	a, err := h.do(r)
	stays("what comes before fails", a.Fleet, err, "not ready")
	if a.Fleet.Progress.Elapsed > 0 || a.Fleet.There {
		t.Errorf("libvirtd was asked although what comes before failed: %+v", a.Fleet)
	}
	r.Fleet.Migrate.Unready = false
	going := h.begin(r)
	h.wait("leaving", leaving)
	if w := to.where(s); w.Place != Arriving {
		t.Errorf("at the target meanwhile: %+v", w)
	}
	if v := h.vms()["busy"]; v.Job != "migration" || v.Busy != "migration" {
		t.Errorf("listed meanwhile: %+v", v)
	}
	h.must(request{Op: "cancel"})
	t0 := time.Now()
	a, err = h.end(going)
	t.Logf("cancelled in %v", time.Since(t0))
	stays("cancelled", a.Fleet, err, "context canceled")

	r.Fleet.Migrate.Timeout = 3 * time.Second
	a, err = h.do(r)
	stays("timeout", a.Fleet, err, "deadline exceeded")
	if a.Fleet.Progress.Elapsed <= 0 {
		t.Errorf("no progress was told: %+v", a.Fleet.Progress)
	}
	r.Fleet.Migrate.Timeout = 0
	r.Fleet.Migrate.MiBps = 2 // of the time a sixth is for the abort, which takes a while on a busy machine
	a, err = h.do(request{Op: r.Op, Fleet: r.Fleet, Timeout: 15 * time.Second})
	stays("deadline", a.Fleet, err, "deadline exceeded")

	going = h.begin(r)
	h.wait("leaving", leaving)
	h.call("abort", fleetRequest{UUID: s.uuid})
	a, err = h.end(going)
	stays("aborted by another", a.Fleet, err, "")
	h.call("abort", fleetRequest{UUID: s.uuid}) // nothing to do

	// Another guest has the name at the target.
	to.setUp("define", fleetRequest{XML: small{name: s.name, uuid: smallUUID(9)}.xml()})
	a, err = h.do(request{Op: r.Op, Fleet: r.Fleet, Timeout: 15 * time.Second})
	stays("refused", a.Fleet, err, "already")

	// libvirt itself refuses what is listed as fixed, so nothing is promised in vain.
	lone := small{name: "lone", uuid: smallUUID(2), disks: diskXML(qcow2(t, filepath.Join(local, "l")), "qcow2")}
	h.setUp("create", fleetRequest{XML: lone.xml()})
	if a, err := h.try("migrate", fleetRequest{UUID: lone.uuid, Target: to.Addr}, 15*time.Second); err == nil || a.Place != Here {
		t.Errorf("local disk: %s, %v", a.Place, err)
	}

	kept := small{name: "kept", uuid: smallUUID(3), disks: diskXML(qcow2(t, filepath.Join(dir, "s")), "qcow2")}
	h.setUp("define", fleetRequest{XML: kept.xml()})
	h.setUp("snapshot", fleetRequest{UUID: kept.uuid, XML: "<domainsnapshot><name>s1</name></domainsnapshot>"})
	h.call("start", fleetRequest{UUID: kept.uuid})
	if a, err := h.try("migrate", fleetRequest{UUID: kept.uuid, Target: to.Addr}, 15*time.Second); err == nil ||
		a.Place != Here || !strings.Contains(err.Error(), "snapshots") {
		t.Errorf("snapshots: %s, %v", a.Place, err)
	}

	to.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGKILL)})
	b, err := h.try("migrate", r.Fleet, 15*time.Second)
	if err == nil || b.Place != Here {
		t.Errorf("target without libvirtd: %s, %v", b.Place, err)
	}
}

// TestFleetProcessDiesInAMigration: who began it is killed, and a new Fleet says
// what has become of the guest.
func TestFleetProcessDiesInAMigration(t *testing.T) {
	need.Drill(t, "P3: who asked for a migration is killed in it, and a new one finds where the guest is")
	dir := t.TempDir()
	opt := Options{Shared: []string{dir}}
	hosts := newFleets(t, 2, opt)
	h, to := hosts[0], hosts[1]
	s := small{name: "busy", uuid: smallUUID(1), disks: diskXML(fillDisk(t, filepath.Join(dir, "b"), true), "raw")}
	h.setUp("define", fleetRequest{XML: s.xml()})
	h.setUp("start", fleetRequest{UUID: s.uuid})
	leaving := func() bool { return h.where(s).Place == Leaving }
	begin := func() {
		q := slow(s, to).Fleet
		q.Options = opt
		q.Options.MigrateURI = "qemu+tcp://%s/system"
		pid := h.must(request{Op: "mover", Fleet: q}).Number
		h.wait("leaving", leaving)
		h.must(request{Op: "signal-pid", Text: strconv.Itoa(pid), Number: int(syscall.SIGKILL)})
		h.renew(opt)
		if !leaving() {
			t.Fatalf("the migration did not go on: %+v", h.where(s))
		}
	}

	begin()
	if a, err := h.try("follow", fleetRequest{UUID: s.uuid, Name: s.name}, time.Second); err == nil || a.Place != Leaving {
		t.Errorf("followed for a second: %s, %v", a.Place, err)
	}
	h.call("abort", fleetRequest{UUID: s.uuid})
	if w := h.where(s); w.Place != Here || w.State != VMRunning {
		t.Errorf("aborted: %+v", w)
	}

	// libvirtd dies, too, and finds the migration when it comes back.
	begin()
	h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGKILL)})
	if a, err := h.try("where", fleetRequest{UUID: s.uuid, Name: s.name}, 2*time.Second); err == nil || a.Where.Place != Unclear {
		t.Errorf("without libvirtd: %+v, %v", a.Where, err)
	}
	h.must(request{Op: "daemon", Text: "libvirtd"})
	h.must(request{Op: "ready"})
	h.wait("here", func() bool { w := h.where(s); return w.Place == Here && w.State == VMRunning })
	to.wait("nothing at the target", func() bool { return to.where(s).Place == Absent })

	begin()
	h.setUp("suspend", fleetRequest{UUID: s.uuid}) // it changes nothing any more, so the migration ends
	if a, err := h.try("follow", fleetRequest{UUID: s.uuid, Name: s.name}, 30*time.Second); err != nil || a.Place != Left {
		t.Fatalf("followed to its end: %s, %+v, %v", a.Place, a.Progress, err)
	}
	if v := to.vms()["busy"]; !v.Persistent || !v.Halted() {
		t.Errorf("nobody has resumed it at the target: %+v", v)
	}
	to.call("resume", fleetRequest{UUID: s.uuid})

	// One that stands still from the beginning arrives so, and goes on when it is told to.
	to.setUp("suspend", fleetRequest{UUID: s.uuid})
	to.call("migrate", fleetRequest{UUID: s.uuid, Target: h.Addr})
	if w := h.where(s); w.Place != Here || w.State != VMPaused {
		t.Errorf("back and paused: %+v", w)
	}
	for range 2 { // the second time it runs already
		h.call("resume", fleetRequest{UUID: s.uuid})
	}
	if w := h.where(s); w.Place != Here || w.State != VMRunning {
		t.Errorf("resumed: %+v", w)
	}
}

// TestFleetShutsDownAndMovesCold runs the policies for guests that can not move live.
func TestFleetShutsDownAndMovesCold(t *testing.T) {
	need.Drill(t, "a guest that is off moves with its definition, and never has two")
	dir := t.TempDir()
	hosts := newFleets(t, 2, Options{Shared: []string{dir}})
	h, to := hosts[0], hosts[1]
	good := small{name: "good", uuid: smallUUID(1), disks: diskXML(obeys(t, filepath.Join(dir, "g")), "raw")}
	deaf := small{name: "deaf", uuid: smallUUID(2), disks: diskXML(qcow2(t, filepath.Join(dir, "d")), "qcow2")}
	h.setUp("create", fleetRequest{XML: good.xml()})
	h.setUp("define", fleetRequest{XML: deaf.xml()})
	h.call("start", fleetRequest{UUID: deaf.uuid})
	h.call("start", fleetRequest{UUID: deaf.uuid}) // again

	// A transient guest is not lost when it is shut down.
	stop := fleetRequest{UUID: good.uuid, Shutdown: ShutdownOptions{Wait: 12 * time.Second}}
	if a := h.call("shutdown", stop); !a.Clean {
		t.Error("the guest that obeys was not shut down cleanly")
	}
	if v := h.vms()["good"]; v.State != VMOff || !v.Persistent || v.Autostart {
		t.Errorf("after the shutdown: %+v", v)
	}
	if a := h.call("shutdown", stop); !a.Clean { // is off
		t.Error("a guest that is off was not cleanly off")
	}
	h.call("start", fleetRequest{UUID: good.uuid, Start: StartOptions{Transient: true}})
	h.call("start", fleetRequest{UUID: good.uuid, Start: StartOptions{Transient: true}})
	if v := h.vms()["good"]; v.State != VMRunning || v.Persistent {
		t.Errorf("after the start: %+v", v)
	}

	stop = fleetRequest{UUID: deaf.uuid, Target: to.Addr, Shutdown: ShutdownOptions{Wait: time.Second}}
	for _, op := range []string{"shutdown", "cold"} {
		if a, err := h.try(op, stop, 10*time.Second); err == nil || !a.Running {
			t.Errorf("%s of a guest that does not obey: %v, want ErrRunning", op, err)
		}
		if w := h.where(deaf); w.Place != Here {
			t.Errorf("after %s: %+v", op, w)
		}
	}
	h.setUp("suspend", fleetRequest{UUID: deaf.uuid})
	if a, err := h.try("shutdown", stop, 10*time.Second); err == nil || !a.Running {
		t.Errorf("shutdown of a guest that stands still: %v, want ErrRunning", err)
	}
	h.call("resume", fleetRequest{UUID: deaf.uuid})
	stop.Shutdown.PowerOff = true
	to.setUp("define", fleetRequest{XML: deaf.xml()}) // as a move leaves it that was cut off at its end
	for _, c := range []struct {
		s small
		q fleetRequest
	}{
		{deaf, stop},
		{good, fleetRequest{UUID: good.uuid, Target: to.Addr, Shutdown: ShutdownOptions{Wait: 12 * time.Second}}},
	} {
		h.call("cold", c.q)
		if w := h.where(c.s); w.Place != Absent {
			t.Errorf("%s at the source: %+v", c.s.name, w)
		}
		if w := to.where(c.s); w.Place != Off {
			t.Errorf("%s at the target: %+v", c.s.name, w)
		}
		to.call("start", fleetRequest{UUID: c.s.uuid, Start: StartOptions{Transient: c.s.name == "good"}})
	}
	now := to.vms()
	if g, d := now["good"], now["deaf"]; g.State != VMRunning || g.Persistent || d.State != VMRunning || !d.Persistent {
		t.Errorf("at the target: %+v", now)
	}
	if _, err := h.try("cold", stop, 10*time.Second); err == nil {
		t.Error("a guest that is not here was moved")
	}
	// The other guest of that name keeps it: it is off, and stays here.
	h.setUp("define", fleetRequest{XML: small{name: "deaf", uuid: smallUUID(3)}.xml()})
	if _, err := h.try("cold", fleetRequest{UUID: smallUUID(3), Target: to.Addr}, 10*time.Second); err == nil {
		t.Error("a guest was moved onto another one of its name")
	}
	if w := h.where(small{name: "deaf", uuid: smallUUID(3)}); w.Place != Off {
		t.Errorf("after a refused move: %+v", w)
	}
}

// TestFleetCloseEndsCalls: Close lets calls under way return.
func TestFleetCloseEndsCalls(t *testing.T) {
	need.Drill(t, "P3: closing the driver of the fleet ends its calls")
	h := newFleets(t, 1, Options{})[0]
	h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGSTOP)})
	for _, op := range []string{"list", "pools", "node"} {
		if _, err := h.try(op, fleetRequest{}, 500*time.Millisecond); err == nil {
			t.Errorf("%s with a frozen libvirtd", op)
		}
	}
	going := h.begin(request{Op: "list", Timeout: time.Minute})
	h.call("close", fleetRequest{})
	if _, err := h.end(going); err == nil { // it came although libvirtd stands still, and a minute before its own end
		t.Error("a listing after Close")
	}
	h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGCONT)})
}

// TestJustLeft: what libvirt 9.0 says (virdomainobjlist.c) where a guest comes back at once, and others.
func TestJustLeft(t *testing.T) {
	for what, c := range map[string]struct {
		code golibvirt.ErrorNumber
		said string
		want bool
	}{
		"it is still there":   {golibvirt.ErrOperationInvalid, "Requested operation is not valid: domain 'mnvm' is already active", true},
		"it is being removed": {golibvirt.ErrOperationFailed, "operation failed: domain 'mnvm' is already being removed", true},
		"it does not run":     {golibvirt.ErrOperationInvalid, "Requested operation is not valid: domain is not running", false},
		"another one of its id": {golibvirt.ErrOperationFailed,
			"operation failed: domain 'other' already exists with uuid 98000000-0000-4000-8000-00000000c0de", false},
		"the target is gone": {golibvirt.ErrSystemError, "unable to connect to server at '10.98.7.1:16514': Connection refused", false},
	} {
		if got := justLeft(fmt.Errorf("migrate: %w", golibvirt.Error{Code: uint32(c.code), Message: c.said})); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}
