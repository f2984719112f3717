package protected

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// A guest for arm64 hosts, emulated here: libvirt takes what is built, QEMU runs
// it, its firmware finds the disks, and it is proved gone as any other.
func TestArm64Guest(t *testing.T) {
	need.Drill(t, "hosts of arm64: a guest of theirs is built, runs on real QEMU, and is proved gone as any other")
	needArm64(t)
	h := newHosts(t, 1)[0]
	spec := guest(t)
	spec.Arch, spec.MemoryMiB = "aarch64", 256
	h.must(request{Op: "check", Spec: spec})
	h.must(request{Op: "start", Spec: spec})
	g := h.until("running", is(cluster.GuestRunning))
	if g.Epoch != spec.Epoch {
		t.Errorf("it carries epoch %v, want %v", g.Epoch, spec.Epoch)
	}
	disks := h.must(request{Op: "monitor", Text: "info block"}).Text
	for _, want := range []string{spec.Image, spec.Seed, "AAVMF_CODE", filepath.Join(filepath.Dir(spec.Image), "mnvm_VARS.fd")} {
		if !strings.Contains(disks, want) {
			t.Errorf("it has no %s:\n%s", want, disks)
		}
	}
	console := filepath.Join(h.Dir, "log/qemu", testName+"-serial.log")
	var said []byte
	try.Until(t, "the firmware to look for a system", func() bool {
		var err error
		if said, err = os.ReadFile(console); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(said), "BdsDxe: ")
	})
	h.must(request{Op: "tmpfs", Text: "/usr/share/qemu/firmware", Number: 1}) // over the descriptions of firmware
	if _, err := h.do(request{Op: "check", Spec: spec}); err == nil || !strings.Contains(err.Error(), "no UEFI firmware for aarch64") {
		t.Errorf("without the firmware: %v", err)
	}
	h.must(request{Op: "kill"})
	if g := h.must(request{Op: "observe"}).Guest; g.State != cluster.GuestAbsent {
		t.Errorf("after the kill: %+v", g)
	}
	if info, err := os.Stat(filepath.Join(filepath.Dir(spec.Image), "mnvm_VARS.fd")); err != nil || info.Size() == 0 {
		t.Errorf("the firmware's variables: %v, %v", info, err)
	}
}
