package protected

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/virthost"
)

// This file tests what a guest that stands still at a migration's target does to
// a start on another host: nothing. libvirt lets QEMU there open the images late
// (the capability late-block-activate), that is when it is resumed.

// locked reports whether the guest's process holds a lock on the image that keeps
// another process from writing. QEMU marks what it does itself from byte 100 of the
// file on, write at 101, and what it suffers from others from byte 200 on.
func (h *host) locked(pid int, image string) bool {
	h.t.Helper()
	base := filepath.Join("/proc", h.PID(), "root/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(base, "fd"))
	if err != nil {
		h.t.Fatal(err)
	}
	opened, write := false, false
	for _, fd := range fds {
		if to, err := os.Readlink(filepath.Join(base, "fd", fd.Name())); err != nil || to != image {
			continue
		}
		b, err := os.ReadFile(filepath.Join(base, "fdinfo", fd.Name()))
		if err != nil {
			h.t.Fatal(err)
		}
		opened = true
		for l := range strings.Lines(string(b)) {
			f := strings.Fields(l)
			if len(f) > 8 && f[0] == "lock:" && (f[8] == "101" || f[8] == "201") {
				write = true
			}
		}
	}
	if !opened {
		h.t.Fatalf("process %d has not opened %s", pid, image)
	}
	return write
}

// onTheWay begins a migration of a guest from the first host to the second one.
func onTheWay(t *testing.T, hosts []*host, qcow2, forever bool) (spec cluster.GuestSpec, going virthost.Pending) {
	t.Helper()
	spec = guest(t)
	filler(t, &spec, forever)
	if qcow2 {
		raw := spec.Image
		spec.Image += ".qcow2"
		virthost.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, spec.Image)
	}
	hosts[0].must(request{Op: "start", Spec: spec})
	hosts[0].until("running", is(cluster.GuestRunning))
	hosts[0].must(request{Op: "speed", Number: 24})
	going = hosts[0].begin(request{Op: "migrate", Text: hosts[1].Addr, Timeout: time.Minute})
	hosts[0].until("moving", func(g cluster.Guest) bool { return g.Percent > 0 })
	return spec, going
}

// startsOn starts the guest on a third host while something of it stands still
// at a target, which it must not hinder, and lets the target try to go on.
func startsOn(t *testing.T, h, target *host, spec cluster.GuestSpec) {
	t.Helper()
	if g := target.must(request{Op: "observe"}).Guest; target.locked(g.PID, spec.Image) {
		t.Errorf("the target holds a lock while it stands still, %s", g.State)
	}
	h.must(request{Op: "start", Spec: spec})
	h.until("running", is(cluster.GuestRunning))
	// It may be gone by itself, when its source is. While the memory comes in, the
	// call waits for the end of that.
	if _, err := target.do(request{Op: "resume", Timeout: 2 * time.Second}); err == nil {
		t.Error("it was let go on at the target while it runs elsewhere")
	}
	if g, err := target.do(request{Op: "observe"}); err == nil && g.Guest.State == cluster.GuestRunning {
		t.Errorf("it runs twice: %+v", g.Guest)
	}
}

func TestArrivalDoesNotBlockAStart(t *testing.T) {
	need.Drill(t, "P1: a guest that arrived and was never resumed keeps no start on a third host out, and can not go on beside it")
	for _, qcow2 := range []bool{false, true} {
		t.Run("on its way, qcow2 "+strconv.FormatBool(qcow2), func(t *testing.T) {
			hosts := newHosts(t, 3)
			spec, _ := onTheWay(t, hosts, qcow2, true)
			hosts[1].until("incoming", is(cluster.GuestIncoming))
			hosts[0].PowerOff()
			startsOn(t, hosts[2], hosts[1], spec)
			hosts[1].must(request{Op: "kill"})
			hosts[2].must(request{Op: "kill"})
		})
		t.Run("arrived, qcow2 "+strconv.FormatBool(qcow2), func(t *testing.T) {
			hosts := newHosts(t, 3)
			target, third := hosts[1], hosts[2]
			spec, going := onTheWay(t, hosts, qcow2, false)
			if _, err := hosts[0].end(going); err != nil {
				t.Fatal(err)
			}
			target.until("arrived", is(cluster.GuestArrived))
			startsOn(t, third, target, spec)
			if g := target.must(request{Op: "observe"}).Guest; g.State != cluster.GuestArrived {
				t.Errorf("at the target after the refusal: %+v", g)
			}
			third.must(request{Op: "kill"})

			// Only one that was let go on holds the lock; killed, it holds nothing.
			target.must(request{Op: "resume"})
			if _, err := third.do(request{Op: "start", Spec: spec}); !errors.Is(err, cluster.ErrNotStarted) ||
				!strings.Contains(err.Error(), `Failed to get "write" lock`) {
				t.Errorf("a start while it runs at the target: %v", err)
			}
			target.must(request{Op: "kill"})
			third.must(request{Op: "start", Spec: spec})
			third.must(request{Op: "kill"})
		})
	}
}

// TestNobodyHoldsTheImageAtTheEnd: all is sent and the target's last answer is lost. The
// image is locked by nobody then, so what keeps a start on a third host out is the
// record alone. Once it runs there, the lock keeps out both who stand still, and
// libvirt, which lets the source go on when it has given the target up.
func TestNobodyHoldsTheImageAtTheEnd(t *testing.T) {
	need.Drill(t, "P1: a migration whose last answer is lost leaves two that stand still, and neither goes on once the guest runs elsewhere")
	hosts := newHosts(t, 3)
	source, target, third := hosts[0], hosts[1], hosts[2]
	spec, going := onTheWay(t, hosts, true, false)
	target.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGSTOP)})
	source.until("sent", is(cluster.GuestPaused))
	time.Sleep(500 * time.Millisecond) // libvirtd sees it, and asks the target to take over
	source.IP("link", "set", "eth0", "down")
	target.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGCONT)})
	target.until("arrived", is(cluster.GuestArrived))
	if g := source.must(request{Op: "observe"}).Guest; g.State != cluster.GuestPaused || source.locked(g.PID, spec.Image) {
		t.Errorf("the source holds a lock although all is sent: %+v", g)
	}
	startsOn(t, third, target, spec)
	_, err := source.end(going)
	if err == nil {
		t.Error("the source says that it has moved")
	}
	t.Logf("the source says %v", err)
	for seen := 0; seen < 20; time.Sleep(50 * time.Millisecond) {
		a, err := source.do(request{Op: "observe", Timeout: 2 * time.Second})
		switch {
		case err != nil: // its connection to libvirtd is made anew
		case a.Guest.State == cluster.GuestRunning:
			t.Fatalf("the source went on while it runs elsewhere: %+v", a.Guest)
		default:
			seen++
		}
	}
	for _, h := range hosts {
		h.must(request{Op: "kill"})
	}
}

// TestArrivalHoldsNoLease: the same with libvirt's lock manager, on a disk that QEMU
// can not lock.
func TestArrivalHoldsNoLease(t *testing.T) {
	need.Drill(t, "P1: the same with libvirt's lock manager, on a disk that QEMU can not lock")
	needVirtlockd(t)
	hosts, spec := lockedHosts(t, 3)
	target, third := hosts[1], hosts[2]
	hosts[0].must(request{Op: "start", Spec: spec})
	hosts[0].until("running", is(cluster.GuestRunning))
	hosts[0].must(request{Op: "migrate", Text: target.Addr})
	target.until("arrived", is(cluster.GuestArrived))
	third.must(request{Op: "start", Spec: spec})
	if _, err := target.do(request{Op: "resume"}); err == nil || !strings.Contains(err.Error(), "is locked") {
		t.Errorf("resumed at the target while it runs elsewhere: %v", err)
	}
	if g := target.must(request{Op: "observe"}).Guest; g.State != cluster.GuestArrived {
		t.Errorf("at the target after the refusal: %+v", g)
	}
	for _, h := range hosts {
		h.must(request{Op: "kill"})
	}
}
