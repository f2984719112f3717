package protected

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
	"holdfast/testbed/virthost"
)

// lockedHosts starts hosts whose libvirtd locks, and a guest on an NBD export:
// there QEMU's own image locks do not reach, so what refuses is the lock manager.
func lockedHosts(t *testing.T, n int) ([]*host, cluster.GuestSpec) {
	t.Helper()
	space := filepath.Join(t.TempDir(), "locks")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	hosts := newHostsLocking(t, n, space)
	spec := guest(t)
	filler(t, &spec, false)
	spec.Image = nbdSocket(t, spec.Image, "--shared=8")
	spec.Lockspace = space
	return hosts, spec
}

func needVirtlockd(t *testing.T) {
	t.Helper()
	virthost.Need(t, need.Programs("libvirt-daemon", "virtlockd"))
}

func TestSecondHostIsRefusedByTheLockManager(t *testing.T) {
	need.Drill(t, "P1: libvirt's lock manager refuses a second host, and the end of QEMU is what lets it in")
	needVirtlockd(t)
	hosts, spec := lockedHosts(t, 2)
	unlocked := spec
	unlocked.Lockspace = ""
	for _, h := range hosts {
		h.must(request{Op: "check", Spec: spec})
	}
	for i, h := range hosts {
		other := hosts[1-i]
		h.must(request{Op: "start", Spec: spec})
		_, err := other.do(request{Op: "start", Spec: spec})
		if !errors.Is(err, cluster.ErrNotStarted) || !strings.Contains(err.Error(), "is locked") {
			t.Errorf("the second host says %v", err)
		}
		if g := other.must(request{Op: "observe"}).Guest; g.State != cluster.GuestAbsent {
			t.Errorf("the second host has %+v", g)
		}
		// The end of QEMU is what releases the lock: libvirtd need not see it.
		h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGSTOP)})
		h.must(request{Op: "kill", Timeout: 5 * time.Second})
		start := other.must(request{Op: "start", Spec: spec})
		t.Logf("started on the other host in %v while the libvirtd of the first one hangs", start.Took)
		other.must(request{Op: "kill"})
		h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGCONT)})
		h.must(request{Op: "ready"})
	}
	// Without the lease nothing refuses: so it is the lease that does.
	for _, h := range hosts {
		h.must(request{Op: "start", Spec: unlocked})
	}
	for _, h := range hosts {
		h.must(request{Op: "kill"})
	}
}

func TestLockGoesAlongWithAMigration(t *testing.T) {
	need.Drill(t, "P1: the lease of a guest goes along when it moves")
	needVirtlockd(t)
	hosts, spec := lockedHosts(t, 2)
	hosts[0].must(request{Op: "start", Spec: spec})
	from, to := hosts[0], hosts[1]
	for range 2 {
		from.until("running", is(cluster.GuestRunning))
		from.must(request{Op: "migrate", Text: to.Addr})
		to.must(request{Op: "resume"})
		to.until("running at the target", is(cluster.GuestRunning))
		if _, err := from.do(request{Op: "start", Spec: spec}); !errors.Is(err, cluster.ErrNotStarted) ||
			!strings.Contains(err.Error(), "is locked") {
			t.Errorf("the source may start it again: %v", err)
		}
		from, to = to, from
	}
	from.must(request{Op: "kill"})
}

func TestCheckSaysWhatTheLockManagerLacks(t *testing.T) {
	need.Drill(t, "P7: a lock manager that would not lock is named before a start")
	needVirtlockd(t)
	refused := func(what string, h *host, spec cluster.GuestSpec, want string) {
		t.Helper()
		if _, err := h.do(request{Op: "check", Spec: spec}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: check says %v, want %q", what, err, want)
		}
		if _, err := h.do(request{Op: "start", Spec: spec}); !errors.Is(err, cluster.ErrNotStarted) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: start says %v, want %q", what, err, want)
		}
	}
	hosts, good := lockedHosts(t, 1)
	h := hosts[0]
	spec := good
	spec.Lockspace += "/no"
	refused("no directory", h, spec, "does not exist on this host")
	spec.Lockspace = filepath.Dir(good.Lockspace)
	refused("another lockspace", h, spec,
		`write lock_manager = "lockd" into /etc/libvirt/qemu.conf (now "lockd") and file_lockspace_dir = "`+
			spec.Lockspace+`" into /etc/libvirt/qemu-lockd.conf (now "`+good.Lockspace+`")`)

	// The file says so now, the daemon does not know it: virtlockd refuses.
	if err := os.WriteFile(filepath.Join(h.Dir, "etc/qemu-lockd.conf"),
		[]byte("file_lockspace_dir = '"+spec.Lockspace+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must(request{Op: "check", Spec: spec})
	if _, err := h.do(request{Op: "start", Spec: spec}); !errors.Is(err, cluster.ErrNotStarted) ||
		!strings.Contains(err.Error(), "systemctl restart libvirtd") {
		t.Errorf("lockspace changed without a restart: %v", err)
	}
	if err := os.WriteFile(filepath.Join(h.Dir, "etc/qemu-lockd.conf"),
		[]byte("file_lockspace_dir = '"+good.Lockspace+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must(request{Op: "check", Spec: good})
	h.must(request{Op: "signal", Text: "virtlockd", Number: int(syscall.SIGKILL)})
	try.Until(t, "a check that misses virtlockd", func() bool { _, err := h.do(request{Op: "check", Spec: good}); return err != nil })
	refused("no virtlockd", h, good, "virtlockd does not answer")

	plain := newHosts(t, 1)[0]
	refused("no lock manager", plain, good, `lock_manager = "lockd" into /etc/libvirt/qemu.conf (now "")`)
	for name, text := range map[string]string{"qemu.conf": "lock_manager = \"lockd\"\n",
		"qemu-lockd.conf": "file_lockspace_dir = \"" + good.Lockspace + "\"\n"} {
		if err := os.WriteFile(filepath.Join(plain.Dir, "etc", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused("libvirtd not restarted", plain, good, "was changed after it was started")
}

func TestLockPlugin(t *testing.T) {
	dir := t.TempDir()
	daemon := func(pid int, uid int, maps string) process {
		base := fixture(t, dir, pid, "S", 9, "/usr/sbin/libvirtd")
		if err := os.WriteFile(filepath.Join(base, "maps"), []byte(maps), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(base, uid, -1); err != nil {
			t.Skipf("skipped: needs root for owners of processes: %v", err)
		}
		return process{PID: pid, Started: 9}
	}
	with := daemon(1, 0, "7f00-7f01 r-xp 0 fe:00 1 /usr/lib/x86_64-linux-gnu/libvirt/lock-driver/lockd.so\n")
	without := daemon(2, 0, "7f00-7f01 r-xp 0 fe:00 1 /usr/lib/libvirt.so\n")
	users := daemon(3, 1000, "")
	for _, c := range []struct {
		name    string
		daemons []process
		want    lockPlugin
	}{
		{"none", nil, lockPlugin{false, true}},
		{"a user's and one that has gone", []process{users, {PID: 4, Started: 9}}, lockPlugin{false, true}},
		{"with", []process{users, with}, lockPlugin{true, true}},
		{"one without", []process{with, without}, lockPlugin{true, false}},
		{"without", []process{without, with}, lockPlugin{true, false}},
	} {
		if got, err := table(dir).lockPlugin(c.daemons); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}

func TestLockspaceNames(t *testing.T) {
	for dir, ok := range map[string]bool{
		"": true, "/srv/shared/locks": true, "/a/b": true,
		"/locks": false, "/": false, "locks": false, "/srv/../locks": false, "/srv/locks/": false, "/srv/a\nb": false,
		"/srv/" + strings.Repeat("x", maxLease): false,
	} {
		if err := checkLockspace(dir); (err == nil) != ok {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

func TestLockErrorsAreExplained(t *testing.T) {
	busy := golibvirt.Error{Code: uint32(golibvirt.ErrResourceBusy), Message: "Lockspace resource 'x' is locked"}
	if err := explainLock(busy); !libvirt.Answered(err) || !errors.Is(err, cluster.ErrInUse) {
		t.Errorf("busy: %v", err)
	}
	for _, said := range []string{`Failed to get "write" lock`, `Failed to get shared "write" lock`, `Failed to get "consistent read" lock`} {
		if err := explainLock(golibvirt.Error{Code: uint32(golibvirt.ErrInternalError),
			Message: "qemu: " + said + "\nIs another process using the image [/x]?"}); !libvirt.Answered(err) || !errors.Is(err, cluster.ErrInUse) {
			t.Errorf("%s: %v", said, err)
		}
	}
	other := errors.New("out of memory")
	if err := explainLock(other); err != other {
		t.Errorf("another error became %v", err)
	}
}
