package protected

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/proc"
)

// fixture writes one process (or, with a parent, one thread) as process(5) shows it.
func fixture(t testing.TB, dir string, pid int, state string, started int, argv ...string) string {
	t.Helper()
	base := filepath.Join(dir, strconv.Itoa(pid))
	if err := os.MkdirAll(filepath.Join(base, "task"), 0o755); err != nil {
		t.Fatal(err)
	}
	// The name may hold spaces and parentheses.
	stat := fmt.Sprintf("%d (CPU 0/(TCG) x) %s 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 %d 22 23\n", pid, state, started)
	cmdline := ""
	for _, a := range argv {
		cmdline += a + "\x00"
	}
	for name, text := range map[string]string{"stat": stat, "cmdline": cmdline} {
		if err := os.WriteFile(filepath.Join(base, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return base
}

func qemuArgs(more ...string) []string {
	return append([]string{"/usr/bin/qemu-system-x86_64", "-name", "guest=mnvm,debug-threads=on", "-S", "-uuid", testUUID,
		"-smbios", "type=11,value=holdfast:mnvm:3.12"}, more...)
}

func table(dir string) *procTable {
	return &procTable{dir: proc.Table(dir), uuid: testUUID, name: testName, gate: libvirt.NewGate()}
}

func TestGuestsInProcessTable(t *testing.T) {
	epoch := cluster.Epoch{Gen: 3, Seq: 12}
	other := strings.Replace(testUUID, "9", "8", 1)
	for _, c := range []struct {
		name string
		make func(dir string)
		want []guestProc
	}{
		{"nothing", func(string) {}, nil},
		{"others", func(dir string) {
			fixture(t, dir, 1, "S", 1, "/sbin/init")
			fixture(t, dir, 2, "S", 1) // kernel thread
			fixture(t, dir, 30, "S", 9, "/usr/bin/qemu-system-x86_64", "-name", "guest=mnvm2", "-uuid", other)
			// a comma in its name
			fixture(t, dir, 34, "S", 9, "/usr/bin/qemu-system-x86_64", "-name", "guest=mnvm,,debug-threads=on", "-uuid", other)
			fixture(t, dir, 31, "S", 9, "grep", "-uuid", testUUID)
			fixture(t, dir, 32, "S", 9, "/usr/bin/qemu-system-x86_64", "-uuid")
			if err := os.Mkdir(filepath.Join(dir, "33"), 0o755); err != nil { // ended while it was read
				t.Fatal(err)
			}
		}, nil},
		{"running", func(dir string) { fixture(t, dir, 40, "S", 77, qemuArgs()...) }, []guestProc{{process{PID: 40, Started: 77}, epoch, false}}},
		{"waits for a migration", func(dir string) { fixture(t, dir, 40, "R", 77, qemuArgs("-incoming", "defer")...) },
			[]guestProc{{process{PID: 40, Started: 77}, epoch, true}}},
		{"stuck in the kernel", func(dir string) { fixture(t, dir, 40, "D", 77, qemuArgs()...) },
			[]guestProc{{process{PID: 40, Started: 77}, epoch, false}}},
		{"told by its name, no token", func(dir string) {
			fixture(t, dir, 40, "S", 77, "/usr/libexec/qemu-kvm", "-name", "guest=mnvm,debug-threads=on", "-smbios", "type=11,value=holdfast:mnvm:x")
		}, []guestProc{{process{PID: 40, Started: 77}, cluster.Epoch{}, false}}},
		{"UUID in capitals", func(dir string) {
			fixture(t, dir, 40, "S", 77, "qemu-kvm", "-uuid", strings.ToUpper(testUUID))
		}, []guestProc{{process{PID: 40, Started: 77}, cluster.Epoch{}, false}}},
		{"zombie", func(dir string) {
			base := fixture(t, dir, 40, "Z", 77)
			fixture(t, filepath.Join(base, "task"), 40, "Z", 77)
		}, nil},
		{"first thread ended, another one is stuck", func(dir string) {
			base := fixture(t, dir, 40, "Z", 77)
			fixture(t, filepath.Join(base, "task"), 40, "Z", 77)
			fixture(t, filepath.Join(base, "task"), 41, "D", 78, qemuArgs()...)
		}, []guestProc{{process{PID: 40, Started: 77}, epoch, false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(dir)
			got, err := table(dir).guests(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestAliveTellsAReusedPid(t *testing.T) {
	dir := t.TempDir()
	fixture(t, dir, 40, "S", 77, qemuArgs()...)
	for p, want := range map[process]bool{{PID: 40, Started: 77}: true, {PID: 40, Started: 78}: false, {PID: 41, Started: 77}: false} {
		got, err := table(dir).alive(p)
		if err != nil || got != want {
			t.Errorf("%+v: %v, %v, want %v", p, got, err, want)
		}
	}
}

func TestProcessTableErrorsAreNoProof(t *testing.T) {
	dir := t.TempDir()
	base := fixture(t, dir, 40, "S", 77, qemuArgs()...)
	if err := os.WriteFile(filepath.Join(base, "stat"), []byte("40 (qemu S"), 0o644); err != nil {
		t.Fatal(err)
	}
	if found, err := table(dir).guests(context.Background()); err == nil {
		t.Errorf("a broken stat: %v and no error", found)
	}
	if alive, err := table(dir).alive(process{PID: 40, Started: 77}); err == nil {
		t.Errorf("a broken stat: alive %v and no error", alive)
	}
	if found, err := table(filepath.Join(dir, "none")).guests(context.Background()); err == nil {
		t.Errorf("no process table: %v and no error", found)
	}
}

func TestBoundedDoesNotWaitForWhatHangs(t *testing.T) {
	g := libvirt.NewGate()
	let := make(chan struct{})
	hang := func() (int, error) { <-let; return 1, nil }
	for range 2 { // the second one does not get past the first
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if _, err := libvirt.Bounded(ctx, g, "try", hang); err == nil || ctx.Err() == nil {
			t.Errorf("returned %v before its context ended", err)
		}
		cancel()
	}
	close(let)
	if v, err := libvirt.Bounded(context.Background(), g, "try", hang); v != 1 || err != nil {
		t.Errorf("after the hang: %d, %v", v, err)
	}
}

func BenchmarkScanRealProcessTable(b *testing.B) {
	t := table("/proc")
	for b.Loop() {
		if _, err := t.guests(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAliveRealProcessTable(b *testing.B) {
	t := table("/proc")
	self, err := t.dir.Read(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if alive, err := t.alive(process(self.ID)); err != nil || !alive {
			b.Fatal(alive, err)
		}
	}
}
