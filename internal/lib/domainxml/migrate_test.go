package domainxml

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/testbed/need"
)

// blockers are values that table refuses, and how QEMU gets them from libvirt.
var blockers = []struct{ at, value, args string }{
	{character + "/@type", "qemu-vdagent", "-chardev qemu-vdagent,id=a"},
	{"devices/serial/target/@type", "usb-serial", "-device qemu-xhci -chardev null,id=a -device usb-serial,chardev=a"},
	{"devices/interface/model/@type", "usb-net", "-device qemu-xhci -device usb-net"},
	{"devices/sound/@model", "usb", "-device qemu-xhci -device usb-audio"},
	{"devices/iommu/@model", "amd", "-device amd-iommu"},
	{"devices/crypto", "*", "-object cryptodev-backend-builtin,id=a -device virtio-crypto-pci,cryptodev=a"},
	{"devices/disk/target/@bus", "nvme", "-drive if=none,id=a,driver=null-co -device nvme,drive=a,serial=a"},
	{"devices/disk/driver/@type", "vdi", "-drive if=none,format=vdi,file=IMAGE"},
	{"devices/disk/driver/@type", "vmdk", "-drive if=none,format=vmdk,file=IMAGE"},
	{"devices/disk/driver/@type", "vpc", "-drive if=none,format=vpc,file=IMAGE"},
	{"devices/disk/driver/@type", "qcow", "-drive if=none,format=qcow,file=IMAGE"},
	{"devices/disk/driver/@type", "parallels", "-drive if=none,format=parallels,file=IMAGE"},
}

// TestQEMUDoesNotMigrate: what the table refuses since QEMU does not migrate it, QEMU does refuse to have
// where it must be able to.
func TestQEMUDoesNotMigrate(t *testing.T) {
	need.Real(t, need.Programs("qemu-system-x86", "qemu-system-x86_64"), need.Programs("qemu-utils", "qemu-img"))
	for _, b := range blockers {
		i := slices.IndexFunc(table, func(r rule) bool { return r.at == b.at })
		if i < 0 || !table[i].refused(place{attr: "x", value: b.value}) {
			t.Errorf("%s: %s is not refused", b.at, b.value)
		}
		image := filepath.Join(t.TempDir(), "i")
		if _, after, ok := strings.Cut(b.args, "format="); ok {
			format, _, _ := strings.Cut(after, ",")
			if out, err := exec.Command("qemu-img", "create", "-q", "-f", format, image, "4M").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		args := "-M q35,accel=tcg -nodefaults -display none -S -only-migratable " + strings.ReplaceAll(b.args, "IMAGE", image)
		out, err := exec.Command("qemu-system-x86_64", append(strings.Fields(args), "-device", "there-is-none")...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "igrat") {
			t.Errorf("%s: QEMU says %v, %s", b.args, err, out)
		}
	}
}
