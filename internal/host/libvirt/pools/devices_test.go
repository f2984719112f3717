package pools

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/internal/host/libvirt"
	"holdfast/testbed/virthost"
)

func storageOf(s virthost.Sysfs) storage {
	return storage{proc: "/proc", sys: s.Sys, dev: s.Dev, gate: libvirt.NewGate()}
}

func TestDevices(t *testing.T) {
	s := virthost.NewSysfs(t)
	st := storageOf(s)
	st.shared = []string{"/dev/sda1"}
	for path, want := range map[string]device{
		"/dev/sda":                 {},
		"/dev/sda1":                {Shared: true}, // said to be
		"/dev/sdb":                 {Shared: true, Paths: 1, Mapper: "/dev/mapper/mpatha"},
		"/dev/sdb1":                {Shared: true, Paths: 1, Mapper: "/dev/mapper/mpatha"},
		"/dev/sdd":                 {Shared: true, Paths: 1},
		"/dev/mapper/mpatha":       {Shared: true, Paths: 2},
		"/dev/mapper/mpatha-part1": {Shared: true, Paths: 2},
		"/dev/mapper/vg-lv":        {Shared: true, Paths: 1},
		"/dev/drbd0":               {Shared: true},
	} {
		if got, err := st.device(path); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", path, got, err, want)
		}
	}
	for path, want := range map[string]string{
		"/dev/sdb": "/dev/mapper/mpatha", "/dev/sdb1": "/dev/mapper/mpatha-part1",
		"/dev/mapper/mpatha": "/dev/mapper/mpatha", "/dev/mapper/mpatha-part1": "/dev/mapper/mpatha-part1",
	} {
		if got, err := st.multipath(path); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"/dev/sda", "/dev/sdd", "/dev/none", "sdb", "/dev/mapper/vg-lv"} {
		if got, err := st.multipath(path); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
	s.Write(t, "devices/virtual/block/dm-1/slaves/dm-1", "") // a loop
	if _, err := st.device("/dev/mapper/mpatha-part1"); err == nil {
		t.Error("a device on top of itself")
	}
}

func TestFilesOfSharedFileSystems(t *testing.T) {
	proc, dir := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "self"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := `1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:1 / /vms rw shared:1 - nfs4 server:/e rw
3 2 8:2 / /vms/a\040b rw - xfs /dev/sdb rw
4 1 0:2 / /vms rw - ocfs2 /dev/mapper/mpatha rw
5 1 0:3 / /gl rw - fuse.glusterfs s:/v rw
`
	if err := os.WriteFile(filepath.Join(proc, "self/mountinfo"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link") // from the host's disk to what is shared
	if err := os.Mkdir(filepath.Join(dir, "declared"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "declared"), link); err != nil {
		t.Fatal(err)
	}
	st := storage{proc: proc, shared: []string{"/data/", dir + "/declared"}, gate: libvirt.NewGate()}
	mounts, err := st.mounts()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		fs     string
		shared bool
	}{
		"/vms/x":           {"ocfs2", true}, // the later mount covers the earlier one
		"/vms/a b/x":       {"xfs", false},
		"/vmsx":            {"ext4", false},
		"/gl/x":            {"fuse.glusterfs", true},
		"/data/x":          {"ext4", true},
		"/datax":           {"ext4", false},
		"/etc/../data/x":   {"ext4", true},
		dir + "/declared":  {"ext4", true},
		dir + "/something": {"ext4", false},
		link:               {"ext4", true},
	} {
		if fstype, shared, err := st.file(t.Context(), mounts, path); err != nil || fstype != want.fs || shared != want.shared {
			t.Errorf("%s: %s %v, %v; want %+v", path, fstype, shared, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(proc, "self/mountinfo"), []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := st.mounts(); err == nil {
		t.Error("a mount table of another form was read")
	}
}

func TestPoolHoldsDisks(t *testing.T) {
	iscsi := Pool{Name: "i", Kind: "iscsi", Target: "/dev/disk/by-path", Devices: []string{"iqn.2001-05.com.example:a"}}
	vg := Pool{Name: "vg", Kind: "logical", Target: "/dev/vg", Devices: []string{"/dev/sdd"}}
	dir := Pool{Name: "d", Kind: "dir", Target: "/vms/d"}
	rbd := Pool{Name: "r", Kind: "rbd"}
	for _, c := range []struct {
		pool   Pool
		kind   string
		source string
		want   bool
	}{
		{iscsi, "block", "/dev/disk/by-path/ip-10.0.0.1:3260-iscsi-iqn.2001-05.com.example:a-lun-1", true},
		{iscsi, "block", "/dev/disk/by-path/ip-10.0.0.1:3260-iscsi-iqn.2001-05.com.example:ab-lun-1", false},
		{iscsi, "block", "/dev/disk/by-path/other", false},
		{iscsi, "volume", "i/unit:0:0:1", true},
		{vg, "block", "/dev/vg/lv", true},
		{vg, "block", "/dev/vg2/lv", false},
		{vg, "block", "/dev/sdd", true},
		{dir, "file", "/vms/d/a", true},
		{dir, "file", "/vms/dd/a", false},
		{dir, "volume", "d/a", true},
		{dir, "volume", "dd/a", false},
		{rbd, "network", "rbd:r/a", false},
		{rbd, "file", "/a", false},
	} {
		if got := c.pool.Holds(c.kind, c.source); got != c.want {
			t.Errorf("%s holds %s: %v", c.pool.Name, c.source, got)
		}
	}
}
