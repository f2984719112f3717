package pools

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"holdfast/testbed/virthost"
)

const testTarget = "iqn.2001-05.com.example:a"

func TestISCSISessions(t *testing.T) {
	st := storageOf(virthost.NewSysfs(t))
	got, err := st.sessions()
	want := []session{
		{target: testTarget, disks: []string{"sdb"}},
		{target: testTarget, disks: []string{"sdc"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	st.sys = t.TempDir() // without the kernel's module
	if got, err := st.sessions(); err != nil || got != nil {
		t.Errorf("without iSCSI: %+v, %v", got, err)
	}
}

// TestUsersOfAnISCSITarget: whatever is mounted from a disk of it, or lies on it.
func TestUsersOfAnISCSITarget(t *testing.T) {
	s := virthost.NewSysfs(t)
	st := storageOf(s)
	st.proc = t.TempDir()
	mounts := func(text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(st.proc, "self"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(st.proc, "self/mountinfo"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mounts("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
	if err := os.Remove(filepath.Join(s.Sys, "devices/virtual/block/dm-0/holders/dm-1")); err != nil {
		t.Fatal(err) // nothing is on the multipath device
	}
	if u, err := st.users(testTarget); err != nil || len(u) != 0 {
		t.Errorf("nobody uses it: %q, %v", u, err)
	}
	for _, m := range []string{"/dev/sdb", "/dev/sdc", "/dev/sdb1", "/dev/mapper/mpatha", "/dev/dm-0"} {
		mounts("1 0 8:1 / /vms/a rw - ocfs2 " + m + " rw\n")
		if u, err := st.users(testTarget); err != nil || !strings.Contains(strings.Join(u, ", "), "/vms/a") {
			t.Errorf("%s is mounted: %q, %v", m, u, err)
		}
		if u, err := st.users("iqn.2001-05.com.example:b"); err != nil || len(u) != 0 {
			t.Errorf("another target: %q, %v", u, err)
		}
	}
	mounts("")
	s.Write(t, "devices/virtual/block/dm-0/holders/dm-9", "") // a logical volume
	if u, err := st.users(testTarget); err != nil || !strings.Contains(strings.Join(u, ", "), "dm-9 on /dev/mapper/mpatha") {
		t.Errorf("below a logical volume: %q, %v", u, err)
	}
}
