package protected

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
)

// openStart lets a start hang in libvirtd, until virtlogd goes on, and gives it up.
func openStart(t *testing.T, h *host, spec cluster.GuestSpec, restart bool) {
	t.Helper()
	h.must(request{Op: "signal", Text: "virtlogd", Number: int(syscall.SIGSTOP)}) // a start waits for it
	giveUp(t, h, spec, restart)
}

func giveUp(t *testing.T, h *host, spec cluster.GuestSpec, restart bool) {
	t.Helper()
	_, err := h.do(request{Op: "start", Spec: spec, Timeout: time.Second})
	if err == nil || errors.Is(err, cluster.ErrNotStarted) {
		t.Fatalf("start: %v, want an error that leaves it open", err)
	}
	if restart {
		h.must(request{Op: "close"})
		h.must(request{Op: "new"})
	}
	if a, err := h.do(request{Op: "observe", Timeout: time.Second}); err == nil || a.Guest.State != cluster.GuestUnknown {
		t.Errorf("open start: %+v, %v, want unknown", a.Guest, err)
	}
	if _, err := h.do(request{Op: "start", Spec: spec, Timeout: time.Second}); err == nil || errors.Is(err, cluster.ErrNotStarted) {
		t.Errorf("start during an open one: %v, want an error that leaves it open", err)
	}
}

// settled checks that nothing is left of an open start, and that the guest can be
// started again.
func settled(t *testing.T, h *host, spec cluster.GuestSpec) {
	t.Helper()
	if g := h.must(request{Op: "observe"}).Guest; g.State != cluster.GuestAbsent {
		t.Errorf("settled: %+v", g)
	}
	notes, err := filepath.Glob(filepath.Join(h.Dir, "libvirt-start-*"))
	if err != nil || len(notes) > 0 {
		t.Errorf("notes left: %v, %v", notes, err)
	}
	h.must(request{Op: "start", Spec: spec})
	h.until("running", is(cluster.GuestRunning))
	h.must(request{Op: "kill"})
}

func eachDriver(t *testing.T, f func(t *testing.T, restart bool)) {
	for _, restart := range []bool{false, true} {
		t.Run("agent restarted "+strconv.FormatBool(restart), func(t *testing.T) { f(t, restart) })
	}
}

// TestLateStart: libvirtd takes the call, hangs, and carries it out after
// the caller has given up.
func TestLateStart(t *testing.T) {
	need.Drill(t, "P1: a start that libvirtd carries out after the caller gave up is seen and can be killed")
	eachDriver(t, func(t *testing.T, restart bool) {
		h := newHosts(t, 1)[0]
		spec := guest(t)
		openStart(t, h, spec, restart)
		h.must(request{Op: "signal", Text: "virtlogd", Number: int(syscall.SIGCONT)})
		h.until("running", is(cluster.GuestRunning))
		h.must(request{Op: "kill"})
		settled(t, h, spec)
	})
}

// TestKillDuringAnOpenStart: the guest may be called gone only when libvirtd can not
// start it any more, and that may take no time: the host is reset otherwise.
func TestKillDuringAnOpenStart(t *testing.T) {
	need.Drill(t, "P2: a guest is called gone only when libvirtd can not start it any more")
	eachDriver(t, func(t *testing.T, restart bool) {
		h := newHosts(t, 1)[0]
		spec := guest(t)
		openStart(t, h, spec, restart)
		kill := h.must(request{Op: "kill", Timeout: 5 * time.Second})
		t.Logf("kill with proof %v", kill.Took)
		h.must(request{Op: "signal", Text: "virtlogd", Number: int(syscall.SIGCONT)})
		h.must(request{Op: "daemon", Text: "libvirtd"})
		h.must(request{Op: "ready"})
		settled(t, h, spec)
	})
}

// TestKillWithAFrozenLibvirtd: the call lies in the socket of a libvirtd that stands
// still, which would read it when it goes on.
func TestKillWithAFrozenLibvirtd(t *testing.T) {
	need.Drill(t, "P2: a call that lies in the socket of a libvirtd that stands still starts nothing after the kill")
	h := newHosts(t, 1)[0]
	spec := guest(t)
	openStart(t, h, spec, false)
	h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGSTOP)})
	h.must(request{Op: "kill", Timeout: 5 * time.Second})
	h.must(request{Op: "signal", Text: "virtlogd", Number: int(syscall.SIGCONT)})
	h.must(request{Op: "daemon", Text: "libvirtd"})
	h.must(request{Op: "ready"})
	settled(t, h, spec)
}

// TestSlowProbing: libvirtd knows no domain as long as it finds out what the emulator
// can do, and starts the guest then, although who called is gone.
func TestSlowProbing(t *testing.T) {
	need.Drill(t, "P1: a start that waits for libvirtd to look at its QEMU is seen when it comes")
	h := newHosts(t, 1)[0]
	spec := guest(t)
	h.must(request{Op: "slow-emulator", Number: 5})
	giveUp(t, h, spec, true)
	for {
		a, err := h.do(request{Op: "observe", Timeout: 2 * time.Second})
		if a.Guest.State == cluster.GuestRunning {
			break
		}
		if err == nil && a.Guest.State == cluster.GuestAbsent {
			time.Sleep(8 * time.Second)
			t.Fatalf("said to be absent, and later %+v", h.must(request{Op: "observe"}).Guest)
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.must(request{Op: "kill"})
	settled(t, h, spec)
}

// TestOpenStartIsSettled: an agent died during a start that came to nothing. The
// next one finds out by itself.
func TestOpenStartIsSettled(t *testing.T) {
	need.Drill(t, "P3: an agent that dies in a start leaves what the next one settles by itself")
	h := newHosts(t, 1)[0]
	h.must(request{Op: "close"})
	h.must(request{Op: "note"})
	h.must(request{Op: "new"})
	if a, err := h.do(request{Op: "observe", Timeout: time.Second}); err == nil || a.Guest.State != cluster.GuestUnknown {
		t.Errorf("open start: %+v, %v, want unknown", a.Guest, err)
	}
	time.Sleep(orphanLimit)
	h.until("absent", is(cluster.GuestAbsent))
	h.must(request{Op: "daemon", Text: "libvirtd"}) // what systemd does
	h.must(request{Op: "ready"})
	settled(t, h, guest(t))
}

func TestLibvirtdDiesDuringStart(t *testing.T) {
	need.Drill(t, "P3: libvirtd is killed in a start, and it is known what became of the guest")
	h := newHosts(t, 1)[0]
	openStart(t, h, guest(t), false)
	h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGKILL)})
	h.must(request{Op: "kill"}) // the call died with libvirtd
	if g := h.must(request{Op: "observe"}).Guest; g.State != cluster.GuestAbsent {
		t.Errorf("after the kill: %+v", g)
	}
}

// TestStartAfterItsDeadline: the time was over when libvirtd was to be asked, and no
// timer has said so.
func TestStartAfterItsDeadline(t *testing.T) {
	need.Drill(t, "P2: a start whose time is over is certain not to happen")
	h := newHosts(t, 1)[0]
	spec := guest(t)
	if _, err := h.do(request{Op: "start-late", Spec: spec}); !errors.Is(err, cluster.ErrNotStarted) {
		t.Errorf("a start after its deadline: %v, want ErrNotStarted", err)
	}
	settled(t, h, spec)
}

// lateContext is one whose deadline has passed since a file exists, without a timer
// that says so: as in a process that was stopped for a while.
type lateContext struct {
	context.Context
	file string
}

func (c lateContext) Deadline() (time.Time, bool) {
	if _, err := os.Stat(c.file); err == nil {
		return time.Now().Add(-time.Second), true
	}
	return c.Context.Deadline()
}

// slowEmulator puts a program in QEMU's place that takes its time when it is asked what
// QEMU can do, and becomes QEMU then.
func slowEmulator(dir string, seconds int) error {
	path, err := exec.LookPath("qemu-system-x86_64")
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return err
	}
	// QEMU looks for its files beside the directory that it is in.
	bin := filepath.Join(dir, "slow/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	for _, d := range []string{"share", "lib", "libexec"} {
		if err := os.Symlink(filepath.Join("/usr", d), filepath.Join(dir, "slow", d)); err != nil {
			return err
		}
	}
	real, wrapper := filepath.Join(bin, "qemu-system-x86_64"), filepath.Join(dir, "slow/wrapper")
	text := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *\"-machine none\"*) sleep %d;; esac\nexec %s \"$@\"\n", seconds, real)
	if err := errors.Join(os.WriteFile(real, nil, 0o755), os.WriteFile(wrapper, []byte(text), 0o755)); err != nil {
		return err
	}
	if err := unix.Mount(path, real, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount(wrapper, path, "", unix.MS_BIND, "")
}

// TestForked: a copy of libvirtd that has not become QEMU yet is told from libvirtd.
func TestForked(t *testing.T) {
	for _, c := range []struct {
		name string
		argv []string
		more bool
		want bool
	}{
		{"a copy", []string{"/usr/sbin/libvirtd", "--listen"}, false, true},
		{"a daemon", []string{"/usr/sbin/libvirtd", "--listen"}, true, false},
		{"another program", []string{"/usr/sbin/virtlogd"}, false, false},
	} {
		dir := t.TempDir()
		base := fixture(t, dir, 40, "S", 77, c.argv...)
		fixture(t, filepath.Join(base, "task"), 40, "S", 77, c.argv...)
		if c.more {
			fixture(t, filepath.Join(base, "task"), 41, "S", 78, c.argv...)
		}
		if got, err := table(dir).forked(); err != nil || got != c.want {
			t.Errorf("%s: %t, %v, want %t", c.name, got, err, c.want)
		}
	}
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		fixture(t, dir, 40, "S", 77, "libvirtd")
		users := fixture(t, dir, 41, "S", 78, "libvirtd")
		if err := os.Chown(users, 1000, -1); err != nil {
			t.Fatal(err)
		}
		if got, err := table(dir).ofRoot([]process{{PID: 40, Started: 77}, {PID: 41, Started: 78},
			{PID: 42, Started: 79}}); err != nil || fmt.Sprint(got) != "[{40 77}]" {
			t.Errorf("of root: %v, %v", got, err)
		}
	}
}
