package lab_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestGuests makes three hosts with a business guest each, moves the guests,
// reboots an emptied host from inside, and takes everything down.
func TestGuests(t *testing.T) {
	need.Drill(t, "the laboratory: business guests answer, move and survive reboots of hosts")
	needLab(t)
	ctx := t.Context()
	l := up(t, lab.Options{Guests: 3})
	subnet := int(l.GuestAddr().As4()[2])
	first, err := l.AskVMs(ctx)
	try.Must(t, err)
	boots := map[string]bool{}
	for _, a := range first {
		boots[a.Boot] = true
	}
	if len(first) != 3 || len(boots) != 3 {
		t.Fatalf("answers after up: %+v", first)
	}
	where(t, l, "h1", "h2", "h3")

	t.Run("move", func(t *testing.T) {
		pings := watch(t, l, func() {
			for name, way := range map[string][]string{"vm1": {"h2", "h1"}, "vm2": {"h3", "h2"}, "vm3": {"h1", "h3"}} {
				for _, to := range way {
					start := time.Now()
					try.Must(t, l.MoveVM(ctx, name, to))
					t.Logf("%s to %s: %v", name, to, time.Since(start))
				}
			}
		})
		same(t, l, first)
		for _, p := range pings {
			if p.Sent < 20 || p.Lost > p.Sent/2 {
				t.Errorf("pings %+v, want a short gap", p)
			}
			if (p.Lost == 0) != p.FirstLost.IsZero() {
				t.Errorf("pings %+v: first lost without a loss, or the other way round", p)
			}
		}
		where(t, l, "h1", "h2", "h3")
	})
	t.Run("reboot", func(t *testing.T) { testReboot(t, l, first) })
	t.Run("pools", func(t *testing.T) { testPools(t, l, "h3") })
	t.Run("shut down", func(t *testing.T) { testShutDown(t, l, first) })

	procs := inside(t, l)
	try.Must(t, l.Down(ctx))
	if after := traces(t, l.Dir(), subnet); len(after) > 0 {
		t.Errorf("left behind: %v", after)
	}
	spaces := map[string]bool{}
	for p := range procs {
		spaces[strings.Fields(p)[0]] = true
	}
	left := inSpaces(t, spaces)
	// PID 1 of the host that rebooted was started by a process that is gone: it is
	// the machine's own PID 1 that takes what is left of it.
	for end := hopeless(); len(left) > 0 && time.Now().Before(end); {
		left = inSpaces(t, spaces)
	}
	if len(left) > 0 {
		t.Errorf("processes left behind: %v", left)
	}
}

// watch pings all business guests while fn runs, and the time after it in which its
// probes may be answered.
func watch(t *testing.T, l *lab.Lab, fn func()) []lab.GuestPings {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	var pings []lab.GuestPings
	var err error
	// A guest that is pinged more often while it moves loses writes in the emulator.
	wg.Go(func() { pings, err = l.WatchGuests(ctx, 100*time.Millisecond) })
	fn()
	time.Sleep(lab.WatchLimit) // the probes of the last second count only when they are settled
	stop()
	wg.Wait()
	try.Must(t, err)
	for _, p := range pings {
		t.Logf("pings %+v", p)
	}
	return pings
}

// same expects that no guest was started anew since the answers.
func same(t *testing.T, l *lab.Lab, first map[string]lab.Answer) {
	t.Helper()
	now, err := l.WaitVMs(t.Context(), 10*time.Second)
	try.Must(t, err)
	for name, a := range first {
		if b := now[name]; b.Boot != a.Boot || b.Up < a.Up {
			t.Errorf("%s was started anew: %+v, before %+v", name, b, a)
		}
	}
}

// where expects the business guests on these hosts, in order.
func where(t *testing.T, l *lab.Lab, hosts ...string) {
	t.Helper()
	guests, err := l.Guests(t.Context())
	try.Must(t, err)
	var at []string
	for _, g := range guests {
		at = append(at, g.Host)
		if g.To != "" {
			t.Errorf("%s moves to %s", g.Name, g.To)
		}
	}
	if !slices.Equal(at, hosts) {
		t.Errorf("guests are on %v, want %v", at, hosts)
	}
}

func bootID(t *testing.T, l *lab.Lab, host string) string {
	t.Helper()
	id, err := l.Exec(t.Context(), host, "cat", "/proc/sys/kernel/random/boot_id")
	try.Must(t, err)
	return id
}

// testReboot empties h3 and reboots it from inside: the guests do not notice.
func testReboot(t *testing.T, l *lab.Lab, first map[string]lab.Answer) {
	ctx := t.Context()
	try.Must(t, l.MoveVM(ctx, "vm3", "h1"))
	before := bootID(t, l, "h3")
	pings := watch(t, l, func() {
		start := time.Now()
		_, err := l.Exec(ctx, "h3", l.RebootArgv("h3")...)
		try.Must(t, err)
		waitBack(t, l, "h3", "reboot")
		t.Logf("reboot took %v", time.Since(start))
	})
	if after := bootID(t, l, "h3"); after == before {
		t.Error("the boot id did not change at a reboot")
	}
	for _, p := range pings {
		if p.Lost != 0 {
			t.Errorf("pings lost while another host rebooted: %+v", p)
		}
	}
	same(t, l, first)
	where(t, l, "h1", "h2", "h1")
	if out, err := l.Exec(ctx, "h3", "virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name"); err != nil ||
		strings.TrimSpace(out) != "" {
		t.Errorf("domains of the emptied host: %q, %v", out, err)
	}
}

// waitBack waits until a host is ready again after an event of it.
func waitBack(t *testing.T, l *lab.Lab, host, since string) {
	t.Helper()
	deadline := hopeless()
	for {
		events, err := l.Events()
		try.Must(t, err)
		seen := false
		for _, e := range events {
			if e.Host != host {
				continue
			}
			if e.What == since {
				seen = true
			} else if seen && e.What == "ready" {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready after %s: %+v", host, since, events)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at a condition
	}
}

// testPools stops and starts the pools of a host that has booted twice.
func testPools(t *testing.T, l *lab.Lab, host string) {
	virsh := func(args ...string) string {
		out, err := l.Exec(t.Context(), host, append([]string{"virsh", "-q", "-c", "qemu:///system"}, args...)...)
		try.Must(t, err)
		return strings.Join(strings.Fields(out), " ")
	}
	for pool, volume := range map[string]string{lab.SharedPool: "vm1.qcow2", lab.TemplatePool: "template.img"} {
		if got := virsh("vol-list", pool); !strings.HasPrefix(got, volume+" ") {
			t.Errorf("volumes of %s: %q", pool, got)
		}
		virsh("pool-destroy", pool)
		if got := virsh("pool-list", "--name"); strings.Contains(got, pool) {
			t.Errorf("active pools after the end of %s: %q", pool, got)
		}
		virsh("pool-start", pool)
	}
	if got := virsh("pool-list", "--name"); got != lab.SharedPool+" "+lab.TemplatePool {
		t.Errorf("active pools: %q", got)
	}
}

// testShutDown shuts the guest with a disk down through its agent and starts it again.
func testShutDown(t *testing.T, l *lab.Lab, first map[string]lab.Answer) {
	ctx := t.Context()
	_, err := l.Exec(ctx, "h1", "virsh", "-q", "-c", "qemu:///system", "shutdown", "vm1", "--mode", "agent")
	try.Must(t, err)
	deadline := hopeless()
	for {
		out, err := l.Exec(ctx, "h1", "virsh", "-q", "-c", "qemu:///system", "domstate", "vm1")
		try.Must(t, err)
		if strings.TrimSpace(out) == "shut off" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("vm1 does not shut down: %q", out)
		}
	}
	where(t, l, "", "h2", "h1")
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if a, err := l.AskVM(short, "vm1"); err == nil {
		t.Errorf("vm1 answers while it is off: %+v", a)
	}
	_, err = l.Exec(ctx, "h1", "virsh", "-q", "-c", "qemu:///system", "start", "vm1")
	try.Must(t, err)
	now, err := l.WaitVMs(ctx, 30*time.Second)
	try.Must(t, err)
	if a := now["vm1"]; a.Boot == first["vm1"].Boot || a.Prev != "boot="+first["vm1"].Boot+" n=0" {
		t.Errorf("vm1 after its restart %+v, before %+v", a, first["vm1"])
	}
	// Not for a watcher of nothing.
	if _, err := l.WatchGuests(ctx, 0); err == nil {
		t.Error("an interval of nothing was accepted")
	}
	if _, err := l.AskVM(ctx, "vm4"); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a guest that does not exist was asked: %v", err)
	}
}

// TestGuestOptions runs holdfast-lab with what it refuses.
func TestGuestOptions(t *testing.T) {
	needLab(t)
	dir := filepath.Join(t.TempDir(), "lab")
	downAtEnd(t, dir)
	if out, err := labCommand(t, dir, "up", "--guests", "65"); err == nil || !strings.Contains(out, "want 0 to 64") {
		t.Errorf("65 guests: %v: %s", err, out)
	}
}
