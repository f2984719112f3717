package protected

import (
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/testbed/need"
)

// panicker makes the guest's image a raw one with a boot sector that waits for
// about half a second, so that the start has long been answered, and then says "panicked" to the
// pvpanic device, as a kernel does.
func panicker(t *testing.T, spec *cluster.GuestSpec) {
	t.Helper()
	code := []byte{
		0x66, 0xa1, 0x6c, 0x04, 0, 0, // mov eax,[0x46c] (ds is 0): the BIOS's ticks
		0x66, 0x83, 0xc0, 10, // add eax,10
		0xfb,                         // sti
		0x66, 0x39, 0x06, 0x6c, 0x04, // cmp [0x46c],eax
		0x72, 0xf9, // jb back to cmp
		0xba, 0x05, 0x05, // mov dx,0x505
		0xb0, 0x01, // mov al,1: panicked
		0xee,             // out dx,al
		0xf4, 0xeb, 0xfd, // hlt; jmp hlt
	}
	disk := make([]byte, 1<<20)
	copy(disk, code)
	binary.LittleEndian.PutUint16(disk[510:], 0xaa55)
	spec.Image = filepath.Join(t.TempDir(), "panic.img")
	if err := os.WriteFile(spec.Image, disk, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPanicPolicies(t *testing.T) {
	need.Drill(t, "what becomes of a guest that panics: reset, dump, or left as it is")
	h := newHosts(t, 1)[0]
	spec := guest(t)
	panicker(t, &spec)
	dumps := filepath.Join(h.Dir, "lib/qemu/dump")
	count := func() int {
		found, err := filepath.Glob(filepath.Join(dumps, "*"+testName+"*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	for _, c := range []struct {
		policy string
		end    cluster.GuestState
		dumps  int
	}{{"", cluster.GuestAbsent, 0}, {panicDestroy, cluster.GuestAbsent, 0}, {panicPreserve, cluster.GuestPaused, 0},
		{panicCoredump, cluster.GuestAbsent, 1}} {
		spec.OnPanic = c.policy
		h.must(request{Op: "start", Spec: spec}) // so it ran, and what ends it is its panic
		if end := h.until(string(c.end), is(c.end)); c.end == cluster.GuestPaused && (end.PID == 0 || end.Epoch != spec.Epoch || end.Migrating) {
			t.Errorf("%q: %+v", c.policy, end)
		}
		if n := count(); n != c.dumps {
			t.Errorf("%q: %d core dumps, want %d", c.policy, n, c.dumps)
		}
		h.must(request{Op: "kill"})
		if g := h.must(request{Op: "observe"}).Guest; g.State != cluster.GuestAbsent {
			t.Errorf("%q: after the kill %+v", c.policy, g)
		}
	}
	// A restarted agent sees a preserved guest as what it is.
	spec.OnPanic = panicPreserve
	h.must(request{Op: "start", Spec: spec})
	// The reason is read after the state, so a look between them sees the one without the other.
	preserved := func(g cluster.Guest) bool { return g.State == cluster.GuestPaused && g.Panicked }
	g := h.until("preserved", preserved)
	h.must(request{Op: "close"})
	h.must(request{Op: "new"})
	if again := h.until("preserved", preserved); again != g {
		t.Errorf("a new driver sees %+v, want %+v", again, g)
	}
	h.must(request{Op: "kill"})
}

func TestNoRoomForADump(t *testing.T) {
	need.Drill(t, "a guest that panics with no room for its dump is ended, and not left standing")
	h := newHosts(t, 1)[0]
	spec := guest(t)
	panicker(t, &spec)
	spec.OnPanic = panicCoredump
	h.must(request{Op: "tmpfs", Text: "/var/lib/libvirt/qemu/dump", Number: 4})
	h.must(request{Op: "start", Spec: spec})
	h.until("absent", is(cluster.GuestAbsent)) // and not left standing, as libvirt would
}

func TestPanicPolicyByRoom(t *testing.T) {
	dir := t.TempDir()
	var said strings.Builder
	d := &Driver{opt: Options{ConfDir: dir, DumpDir: filepath.Join(dir, "not", "there")}, files: libvirt.NewGate(),
		log: slog.New(slog.NewTextHandler(&said, nil))}
	for _, c := range []struct {
		policy string
		mib    int
		want   string
	}{
		{"", 1 << 40, ""}, {panicDestroy, 1 << 40, panicDestroy}, {panicPreserve, 1 << 40, panicPreserve},
		{panicCoredump, 1, panicCoredump}, {panicCoredump, 1 << 40, panicDestroy},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if got := d.panicPolicy(ctx, cluster.GuestSpec{OnPanic: c.policy, MemoryMiB: c.mib}); got != c.want {
			t.Errorf("%q with %d MiB: %q, want %q", c.policy, c.mib, got, c.want)
		}
		cancel()
	}
	if n := strings.Count(said.String(), "will leave no core dump"); n != 1 {
		t.Errorf("told %d times: %s", n, said.String())
	}
}

func TestPanicIsToldOnce(t *testing.T) {
	var said strings.Builder
	p := process{PID: 40, Started: 77}
	d := &Driver{known: &seen{guestProc: guestProc{process: p}}, log: slog.New(slog.NewTextHandler(&said, nil))}
	for range 3 {
		d.remember(p, view{state: cluster.GuestRunning})
		d.remember(p, view{state: cluster.GuestPaused})
	}
	if said.String() != "" {
		t.Errorf("no panic, but told: %s", said.String())
	}
	for range 3 {
		d.remember(p, view{state: cluster.GuestPaused, panicked: true})
	}
	if n := strings.Count(said.String(), "kernel has panicked"); n != 1 {
		t.Errorf("told %d times: %s", n, said.String())
	}
}
