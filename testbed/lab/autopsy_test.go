package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatTheEmulatorHasDoneIsTold(t *testing.T) {
	for text, want := range map[string]string{
		"[   12.3] virtio_net virtio0: output.0:id 1 is not a head!\n":                                          "[   12.3] virtio_net virtio0: output.0:id 1 is not a head!",
		"up\nwatchdog: BUG: soft lockup - CPU#0 stuck for 26s! [ip:91]\n":                                       "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [ip:91]",
		"rcu: INFO: rcu_preempt self-detected stall on CPU":                                                     "rcu: INFO: rcu_preempt self-detected stall on CPU",
		"Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b":                               "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
		"sysrq: Trigger a crash\nKernel panic - not syncing: sysrq triggered crash\nRebooting in 1 seconds..\n": "",
		"the disk does not answer\ntask kworker blocked for more than 120 seconds\n":                            "",
		"": "",
	} {
		if got := EmulatorFailed([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestConsolesAreReadFromWhereTheyWere(t *testing.T) {
	l := &Lab{p: plan{Dir: t.TempDir(), Hosts: 2}}
	write := func(text string, elem ...string) {
		t.Helper()
		file := l.p.disk("h2", elem...)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("before, and after", "srv", "log", "vm3.log")
	write("booted", "var-log-libvirt", "qemu", "mnvm-serial.log")
	write("of no guest", "srv", "log", "libvirtd.log")
	all, err := l.Consoles()
	if err != nil || len(all) != 2 || all[0].Guest() != "mnvm" || all[1].Guest() != "vm3" || all[1].Host != "h2" {
		t.Fatalf("%+v, %v", all, err)
	}
	for length, want := range map[int64]string{0: "before, and after", 8: "and after", 17: "", 99: "before, and after"} {
		if got, err := all[1].Since(length); err != nil || string(got) != want {
			t.Errorf("since %d: %q, %v, want %q", length, got, err, want)
		}
	}
	if said := l.LastWords("vm3"); !strings.Contains(said, "vm3 on h2: ...before, and after") || strings.Contains(said, "booted") {
		t.Errorf("the last words of vm3: %s", said)
	}
	if said := l.LastWords(); !strings.Contains(said, "booted") {
		t.Errorf("the last words of all: %s", said)
	}
}

func TestWhatIsShownOfAProcess(t *testing.T) {
	q := qemuProcess{line: "qemu\x00-name\x00guest=vm2,debug-threads=on\x00-S\x00-uuid\x00x\x00"}
	if q.name() != "vm2" {
		t.Errorf("name %q", q.name())
	}
	text := "CPU#0\nRAX=1 RBX=2 RCX=3 RDX=4\nRSI=5 RDI=6 RBP=7 RSP=8\nR8 =9\nRIP=ffff RFL=246 [---Z-P-] CPL=0 II=0 " +
		"A20=1 SMM=0 HLT=1\nES =0 0\nCR0=8 CR2=0\n"
	want := "RAX=1 RBX=2 RCX=3 RDX=4 RSI=5 RDI=6 RBP=7 RSP=8 RIP=ffff RFL=246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1 CR0=8 CR2=0"
	if got := registers(text); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := registers("error: timed out\n"); got != "error: timed out" {
		t.Errorf("%q", got)
	}
}
