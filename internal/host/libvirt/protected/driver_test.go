package protected

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

func TestStartObserveKill(t *testing.T) {
	h := newHosts(t, 1)[0]
	spec := guest(t)
	if g := h.must(request{Op: "observe"}).Guest; g != (cluster.Guest{State: cluster.GuestAbsent}) {
		t.Fatalf("before the start: %+v", g)
	}
	h.must(request{Op: "check", Spec: spec})
	start := h.must(request{Op: "start", Spec: spec})
	g := h.until("running", is(cluster.GuestRunning))
	if g.Epoch != spec.Epoch || g.PID == 0 || g.Started == 0 || g.Migrating {
		t.Fatalf("after the start: %+v", g)
	}
	if _, err := h.do(request{Op: "start", Spec: spec}); err == nil || errors.Is(err, cluster.ErrNotStarted) {
		t.Errorf("a second start: %v, want an error that does not say that it does not run", err)
	}
	h.must(request{Op: "shutdown"}) // the power button, which this guest ignores
	if _, err := h.do(request{Op: "password"}); err == nil ||
		!strings.Contains(err.Error(), cluster.ErrNoAgent.Error()) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a password without an agent in the guest: %v", err)
	}

	h.must(request{Op: "close"}) // as the agent does when it is restarted
	h.must(request{Op: "new"})
	if again := h.until("running", is(cluster.GuestRunning)); again != g {
		t.Errorf("a new driver sees %+v, want %+v", again, g)
	}
	kill := h.must(request{Op: "kill"})
	if g := h.must(request{Op: "observe"}).Guest; g != (cluster.Guest{State: cluster.GuestAbsent}) {
		t.Errorf("after the kill: %+v", g)
	}
	h.must(request{Op: "kill"}) // safe to repeat
	if _, err := h.do(request{Op: "password"}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a password without a guest: %v", err)
	}
	h.must(request{Op: "shutdown"})
	for range 5 { // at once again, while libvirtd still cleans up the old one
		h.must(request{Op: "start", Spec: spec})
		h.until("running", is(cluster.GuestRunning))
		h.must(request{Op: "kill"})
	}
	t.Logf("start %v, kill with proof %v", start.Took, kill.Took)
}

func TestSecondHostIsRefusedByTheImageLock(t *testing.T) {
	hosts := newHosts(t, 2)
	for _, raw := range []bool{false, true} {
		spec := guest(t)
		if raw {
			filler(t, &spec, false)
		}
		hosts[0].must(request{Op: "start", Spec: spec})
		_, err := hosts[1].do(request{Op: "start", Spec: spec})
		if !errors.Is(err, cluster.ErrNotStarted) || !strings.Contains(err.Error(), `Failed to get "write" lock`) {
			t.Errorf("raw %v: the second host says %v", raw, err)
		}
		if g := hosts[1].must(request{Op: "observe"}).Guest; g.State != cluster.GuestAbsent {
			t.Errorf("raw %v: the second host has %+v", raw, g)
		}
		hosts[0].must(request{Op: "kill"})
		hosts[1].must(request{Op: "start", Spec: spec})
		hosts[1].must(request{Op: "kill"})
	}
}

func TestFrozenLibvirtd(t *testing.T) {
	need.Drill(t, "P2: a libvirtd that stands still hinders no observation and no kill with proof, and a start there is certain not to happen")
	h := newHosts(t, 1)[0]
	spec := guest(t)
	h.must(request{Op: "start", Spec: spec})
	g := h.until("running", is(cluster.GuestRunning))
	h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGSTOP)})

	// The first observation runs into its deadline, later ones do not even try.
	for range 3 {
		if a := h.must(request{Op: "observe", Timeout: time.Second}); a.Guest != g {
			t.Errorf("frozen libvirtd: %+v, want %+v", a.Guest, g)
		}
	}
	for _, op := range []string{"check", "shutdown", "abort", "migrate"} {
		if _, err := h.do(request{Op: op, Timeout: time.Second, Spec: spec, Text: "10.98.7.2"}); err == nil {
			t.Errorf("%s: no error although libvirtd is frozen", op)
		}
	}
	for { // what is left of earlier wakes
		if _, err := h.do(request{Op: "wake", Timeout: 50 * time.Millisecond}); err != nil {
			break
		}
	}
	woken := h.begin(request{Op: "wake", Timeout: 5 * time.Second})
	kill := h.must(request{Op: "kill", Timeout: 2 * time.Second})
	if _, err := h.end(woken); err != nil {
		t.Errorf("the end of the process woke nobody: %v", err)
	}
	if g := h.must(request{Op: "observe", Timeout: time.Second}).Guest; g != (cluster.Guest{State: cluster.GuestAbsent}) {
		t.Errorf("after the kill: %+v", g)
	}
	t.Logf("kill with proof %v", kill.Took)

	// Nothing was sent, so it is certain that nothing starts.
	if _, err := h.do(request{Op: "start", Spec: spec, Timeout: time.Second}); !errors.Is(err, cluster.ErrNotStarted) {
		t.Errorf("start with a frozen libvirtd: %v, want ErrNotStarted", err)
	}
	h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGCONT)})
	h.must(request{Op: "ready"})
	h.must(request{Op: "start", Spec: spec})
	h.must(request{Op: "kill"})
}

func TestLibvirtdDiesAndComesBack(t *testing.T) {
	need.Drill(t, "P3: libvirtd is killed and comes back, and the guest is the same for drivers old and new")
	h := newHosts(t, 1)[0]
	spec := guest(t)
	h.must(request{Op: "start", Spec: spec})
	g := h.until("running", is(cluster.GuestRunning))
	h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGKILL)})
	if a := h.must(request{Op: "observe", Timeout: time.Second}); a.Guest != g {
		t.Errorf("without libvirtd: %+v, want %+v", a.Guest, g)
	}
	// A new driver knows the process, but can not know whether it stands still.
	h.must(request{Op: "close"})
	h.must(request{Op: "new"})
	a, err := h.do(request{Op: "observe", Timeout: time.Second})
	if err == nil || a.Guest.State != cluster.GuestUnknown || a.Guest.PID != g.PID || a.Guest.Epoch != g.Epoch {
		t.Errorf("new driver without libvirtd: %+v, %v", a.Guest, err)
	}
	h.must(request{Op: "daemon", Text: "libvirtd"})
	h.must(request{Op: "ready"})
	if again := h.until("running", is(cluster.GuestRunning)); again != g {
		t.Errorf("after the restart: %+v, want %+v", again, g)
	}
	h.must(request{Op: "signal-pid", Text: strconv.Itoa(g.PID), Number: int(syscall.SIGKILL)})
	h.until("absent", is(cluster.GuestAbsent))
}

func TestMigrateThereAndBack(t *testing.T) {
	hosts := newHosts(t, 2)
	spec := guest(t)
	filler(t, &spec, false)
	hosts[0].must(request{Op: "start", Spec: spec})
	from, to := hosts[0], hosts[1]
	for _, way := range []string{"there", "back"} {
		from.until("running", is(cluster.GuestRunning))
		from.must(request{Op: "speed", Number: 12}) // some seconds, in which it is looked at
		r := request{Op: "migrate", Text: to.Addr, Timeout: 2 * time.Minute}
		moving, moved := from.begin(r), make(chan reply, 1)
		go func() {
			a, _ := from.end(moving) // its error is looked at below
			moved <- a
		}()
		seen, incoming := 0, false
		var a reply
		for done := false; !done; {
			select {
			case a = <-moved:
				done = true
			case <-time.After(20 * time.Millisecond):
				if a, err := from.do(request{Op: "observe", Timeout: 2 * time.Second}); err == nil && a.Guest.Migrating {
					seen = max(seen, a.Guest.Percent)
				}
				if a, err := to.do(request{Op: "observe", Timeout: 2 * time.Second}); err == nil && a.Guest.State == cluster.GuestIncoming {
					incoming = true
				}
			}
		}
		if err := a.err(); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		if seen < 20 || seen > 100 || !incoming {
			t.Errorf("%s: progress reached %d %%, incoming guest seen at the target: %v", way, seen, incoming)
		}
		if g := from.must(request{Op: "observe"}).Guest; g != (cluster.Guest{State: cluster.GuestAbsent, Moved: true}) {
			t.Errorf("%s: at the source: %+v", way, g)
		}
		g := to.must(request{Op: "observe"}).Guest
		if g.State != cluster.GuestArrived || g.Epoch != spec.Epoch || g.Migrating {
			t.Errorf("%s: at the target: %+v", way, g)
		}
		for range 2 { // the second time it runs already
			to.must(request{Op: "resume"})
		}
		if g := to.must(request{Op: "observe"}).Guest; g.State != cluster.GuestRunning {
			t.Errorf("%s: resumed at the target: %+v", way, g)
		}
		// A driver that was not there when it left finds it in the domain's log.
		from.must(request{Op: "close"})
		from.must(request{Op: "new"})
		if g := from.must(request{Op: "observe"}).Guest; !g.Moved {
			t.Errorf("%s: a new driver at the source sees %+v", way, g)
		}
		t.Logf("%s: %v, progress seen up to %d %%", way, a.Took, seen)
		from, to = to, from
	}
	to.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGKILL)})
	if _, err := from.do(request{Op: "migrate", Text: to.Addr}); err == nil || errors.Is(err, cluster.ErrNotProved) {
		t.Errorf("to a host without libvirtd: %v, want an error that says it stays", err)
	}
	from.until("running", is(cluster.GuestRunning))
	if _, err := to.do(request{Op: "resume"}); err == nil {
		t.Error("a host that has no guest resumed it")
	}
	if _, err := to.do(request{Op: "migrate", Text: from.Addr}); err == nil {
		t.Error("a host that has no guest migrated it")
	}
	from.must(request{Op: "kill"})
	if g := from.must(request{Op: "observe"}).Guest; g != (cluster.Guest{State: cluster.GuestAbsent}) {
		t.Errorf("killed: %+v", g)
	}
}

func TestMigrationCancelledAndAdopted(t *testing.T) {
	need.Drill(t, "P3: a migration ends when it is cancelled, at its deadline, and by a new driver after the agent was restarted")
	hosts := newHosts(t, 2)
	h, to := hosts[0], hosts[1]
	spec := guest(t)
	filler(t, &spec, true) // at this speed it never ends
	h.must(request{Op: "start", Spec: spec})
	g := h.until("running", is(cluster.GuestRunning))
	h.must(request{Op: "speed", Number: 8})
	migrating := func(g cluster.Guest) bool { return g.Migrating }
	moves := func(g cluster.Guest) bool { return g.Percent > 0 }
	still := func(g cluster.Guest) bool { return g.State == cluster.GuestRunning && !g.Migrating }

	r := request{Op: "migrate", Text: to.Addr, Timeout: time.Minute}
	moving := h.begin(r)
	h.until("moving", moves)
	h.must(request{Op: "cancel"})
	t0 := time.Now()
	if _, err := h.end(moving); err == nil || errors.Is(err, cluster.ErrNotProved) {
		t.Errorf("cancelled: %v, want an error that says it stays", err)
	}
	t.Logf("cancelled after %v", time.Since(t0))
	if now := h.until("still here", still); now.PID != g.PID {
		t.Errorf("after the cancellation: %+v, want %+v", now, g)
	}
	to.until("absent at the target", is(cluster.GuestAbsent))

	r.Timeout = 6 * time.Second // the deadline is kept
	if _, err := h.do(r); err == nil || errors.Is(err, cluster.ErrNotProved) {
		t.Errorf("deadline: %v, want an error that says it stays", err)
	}

	r.Timeout = time.Minute
	moving = h.begin(r)
	h.until("migrating", migrating)
	h.must(request{Op: "close"}) // the agent is restarted
	if _, err := h.end(moving); !errors.Is(err, cluster.ErrNotProved) {
		t.Errorf("driver closed: %v, want ErrNotProved", err)
	}
	h.must(request{Op: "new"})
	h.until("migrating", migrating)
	abort := h.must(request{Op: "abort"})
	t.Logf("aborted by a new driver in %v", abort.Took)
	if now := h.until("still here", still); now.PID != g.PID {
		t.Errorf("after the abort: %+v, want %+v", now, g)
	}
	h.must(request{Op: "abort"}) // nothing to do
	to.until("absent at the target", is(cluster.GuestAbsent))
	h.must(request{Op: "kill"})
	h.must(request{Op: "abort"})
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	need.Drill(t, "P7: each fault of a specification is named before a start, and such a start is certain not to happen")
	h := newHosts(t, 1)[0]
	good := guest(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		edit func(*cluster.GuestSpec)
		want string
	}{
		{"image missing", func(s *cluster.GuestSpec) { s.Image += ".no" }, "does not exist on this host"},
		{"image a directory", func(s *cluster.GuestSpec) { s.Image = filepath.Dir(s.Image) }, "is a directory"},
		{"image a device", func(s *cluster.GuestSpec) { s.Image = "/dev/null" }, "not a regular file"},
		{"image empty", func(s *cluster.GuestSpec) { s.Image = empty }, "is empty"},
		{"image relative", func(s *cluster.GuestSpec) { s.Image = "mnvm.img" }, "absolute path"},
		{"kernel missing", func(s *cluster.GuestSpec) { s.Boot = &cluster.DirectBoot{Kernel: "/no/kernel"} }, "kernel /no/kernel does not exist"},
		{"bridge missing", func(s *cluster.GuestSpec) { s.NICs = []cluster.NIC{{Bridge: "br9"}} }, "bridge br9 does not exist"},
		{"more memory than the host has", func(s *cluster.GuestSpec) { s.MemoryMiB = 900 << 20 },
			"the guest wants 943718400 MiB of memory, and this host has "},
		{"a domain with more than that", func(s *cluster.GuestSpec) {
			*s = cluster.GuestSpec{Name: s.Name, UUID: s.UUID,
				Domain: fmt.Sprintf("<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory "+
					"unit='TiB'>900</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>", s.Name, s.UUID)}
		}, "the guest wants 943718400 MiB"},
		{"more CPUs than a machine can have", func(s *cluster.GuestSpec) { s.CPUs = 1024 },
			"libvirtd does not take the machine that the configuration describes: unsupported configuration: Maximum " +
				"CPUs greater than specified machine type limit"},
		{"not a bridge", func(s *cluster.GuestSpec) { s.NICs = []cluster.NIC{{Bridge: "lo"}} }, "not a bridge"},
	} {
		spec := good
		c.edit(&spec)
		if _, err := h.do(request{Op: "check", Spec: spec}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if _, err := h.do(request{Op: "start", Spec: spec}); !errors.Is(err, cluster.ErrNotStarted) {
			t.Errorf("%s: start says %v, want ErrNotStarted", c.name, err)
		}
	}
	h.must(request{Op: "check", Spec: good})
	h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGKILL)})
	_, err := h.do(request{Op: "check", Spec: good, Timeout: 2 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "systemctl start libvirtd") {
		t.Errorf("without libvirtd: %v", err)
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	need.Drill(t, "P3: a libvirtd that hangs again and again leaves no goroutines in the agent")
	h := newHosts(t, 1)[0]
	h.must(request{Op: "close"})
	base := h.must(request{Op: "goroutines"}).Number
	spec := guest(t)
	for range 3 {
		h.must(request{Op: "new"})
		h.must(request{Op: "start", Spec: spec})
		h.until("running", is(cluster.GuestRunning))
		h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGSTOP)})
		for range 2 {
			h.must(request{Op: "observe", Timeout: 200 * time.Millisecond})
		}
		h.must(request{Op: "kill", Timeout: 2 * time.Second})
		h.must(request{Op: "close", Timeout: time.Second})
		h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGCONT)})
		h.must(request{Op: "ready"})
	}
	try.Until(t, fmt.Sprintf("no more than %d goroutines", base), func() bool { return h.must(request{Op: "goroutines"}).Number <= base })
}
