package drbd

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"holdfast/testbed/try"
)

// TestLUNs tells local disks from those of a fabric, as sysfs has them.
func TestLUNs(t *testing.T) {
	dir := t.TempDir()
	for name, at := range map[string]string{
		"sda": "../devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda",
		"sdb": "../devices/platform/host3/session1/target3:0:0/3:0:0:1/block/sdb",
		"sdc": "../devices/pci0000:00/0000:00:02.0/host4/rport-4:0-2/target4:0:0/4:0:0:0/block/sdc",
		"sdd": "../devices/platform/host5/session2/target5:0:0/5:0:0:1/block/sdd",
		"vda": "../devices/pci0000:00/0000:00:05.0/virtio2/block/vda",
	} {
		try.Must(t, os.Symlink(at, filepath.Join(dir, name)))
	}
	arbiter := filepath.Join(t.TempDir(), "by-id")
	real := filepath.Join(filepath.Dir(arbiter), "sdd")
	try.Must(t, os.WriteFile(real, nil, 0o600))
	try.Must(t, os.Symlink(real, arbiter))
	got, err := luns(dir, []string{arbiter, "", "/no/such/file"})
	try.Must(t, err)
	if want := []string{"/dev/sdb", "/dev/sdc"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestSizeOfNoDisk: what can not be opened is told by its name.
func TestSizeOfNoDisk(t *testing.T) {
	if _, err := Size(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a disk that is not there has a size")
	}
}
