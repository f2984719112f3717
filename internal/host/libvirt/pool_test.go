package libvirt

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/testbed/need"
)

func (f fleet) pool(name string) Pool {
	f.t.Helper()
	for _, p := range f.call("pools", fleetRequest{}).Pools {
		if p.Name == name {
			return p
		}
	}
	f.t.Fatalf("no pool %s", name)
	return Pool{}
}

// TestPoolsStopAndStart does it with pools that this machine can have; devices
// come from a made-up sysfs.
func TestPoolsStopAndStart(t *testing.T) {
	need.Drill(t, "pools of a real libvirtd start and stop, and those with disks of guests stay")
	dir := t.TempDir()
	sys := fakeSysfs(t)
	opt := FleetOptions{Shared: []string{dir}, SysDir: sys.sys, DevDir: sys.dev}
	f := newFleets(t, 1, opt)[0]
	f.setUp("define-pool", fleetRequest{XML: "<pool type='dir'><name>guests</name><target><path>" + dir + "</path></target></pool>"})
	f.setUp("define-pool", fleetRequest{XML: "<pool type='fs'><name>ocfs</name><source><device path='/dev/sdb'/><format type='ocfs2'/></source><target><path>/vms/ocfs</path></target></pool>"})
	f.setUp("define-pool", fleetRequest{XML: "<pool type='netfs'><name>nfs</name><source><host name='10.0.0.1'/><dir path='/e'/><format type='nfs'/></source><target><path>/vms/nfs</path></target></pool>"})
	f.setUp("pool-autostart", fleetRequest{Name: "guests"})
	for _, name := range []string{"guests", "guests"} { // the second time it is active already
		f.call("start-pool", fleetRequest{Name: name})
	}
	if p := f.pool("guests"); !p.Active || !p.Autostart || !p.Shared || p.Kind != "dir" || p.Target != dir || p.Paths != 0 || p.UUID == "" {
		t.Errorf("%+v", p)
	}
	if p := f.pool("nfs"); p.Active || !p.Shared || p.Kind != "netfs" || !slices.Equal(p.Devices, []string{"10.0.0.1:/e"}) {
		t.Errorf("%+v", p)
	}
	for _, kind := range []string{"file", "volume"} {
		disk := diskXML(qcow2(t, filepath.Join(dir, "file.qcow2")), "qcow2")
		if kind == "volume" {
			qcow2(t, filepath.Join(dir, "vol.qcow2"))
			f.call("stop-pool", fleetRequest{Name: "guests"})
			f.call("start-pool", fleetRequest{Name: "guests"}) // so that libvirt sees the volume
			disk = `<disk type='volume' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source pool='guests' volume='vol.qcow2'/><target dev='vda' bus='virtio'/></disk>`
		}
		s := small{name: "user-" + kind, uuid: smallUUID(1), disks: disk}
		f.setUp("create", fleetRequest{XML: s.xml()})
		if v := f.vms()[s.name]; len(v.Fixed) > 0 {
			t.Errorf("%s: %q", kind, v.Fixed)
		}
		a, err := f.try("stop-pool", fleetRequest{Name: "guests"}, 10*time.Second)
		if err == nil || !a.PoolBusy || !f.pool("guests").Active {
			t.Errorf("%s: stop of a pool in use: %v, want ErrPoolBusy", kind, err)
		}
		f.setUp("destroy", fleetRequest{UUID: s.uuid})
		f.wait("without the guest", func() bool { return len(f.vms()) == 0 })
	}
	for range 2 {
		f.call("stop-pool", fleetRequest{Name: "guests"})
	}
	if f.pool("guests").Active {
		t.Error("the pool is active after its stop")
	}
	for _, op := range []string{"stop-pool", "start-pool", "redefine"} {
		if _, err := f.try(op, fleetRequest{Name: "none"}, 5*time.Second); err == nil {
			t.Errorf("%s of a pool that is not there", op)
		}
	}
	if _, err := f.try("start-pool", fleetRequest{Name: "nfs"}, 5*time.Second); err == nil || f.pool("nfs").Active {
		t.Errorf("start of a pool whose server is not there: %v", err)
	}
	redefine(t, f)
}

// redefine makes a single-path pool one with several.
func redefine(t *testing.T, f fleet) {
	t.Helper()
	p := f.pool("ocfs")
	if p.Paths != 1 || p.Mapper != "/dev/mapper/mpatha" || !p.Shared || p.Kind != "ocfs2" || p.Why != "" {
		t.Errorf("before: %+v", p)
	}
	for changed := 1; changed >= 0; changed-- { // the second time there is nothing to do
		if a := f.must(request{Op: "fleet-redefine", Fleet: fleetRequest{Name: "ocfs"}}); a.Number != changed {
			t.Errorf("changed %d, want %d", a.Number, changed)
		}
	}
	now := f.pool("ocfs")
	if now.Paths != 2 || now.Mapper != "" || now.UUID != p.UUID || now.Target != p.Target || !slices.Equal(now.Devices, []string{"/dev/mapper/mpatha"}) {
		t.Errorf("after: %+v", now)
	}
	f.setUp("define-pool", fleetRequest{XML: "<pool type='logical'><name>vg</name><source><device path='/dev/sdd'/><name>vg</name></source><target><path>/dev/vg</path></target></pool>"})
	for _, name := range []string{"vg", "nfs"} { // without multipath, and without a device
		if _, err := f.try("redefine", fleetRequest{Name: name}, 5*time.Second); err == nil {
			t.Errorf("pool %s was redefined", name)
		}
	}
}

// sysfs is a made-up one, with the /dev that belongs to it.
type sysfs struct{ sys, dev string }

// fakeSysfs has: sdb and sdc, two iSCSI paths of the multipath device mpatha
// (dm-0) with the partition mpatha-part1 (dm-1); sdd, a Fibre Channel disk with one
// path and the logical volume vg-lv (dm-2) on it; sda, a disk of the host with the
// partition sda1; drbd0.
func fakeSysfs(t *testing.T) sysfs {
	t.Helper()
	s := sysfs{sys: t.TempDir(), dev: t.TempDir()}
	dirs := map[string]string{
		"sda":  "pci0/ata1/host0/target0:0:0/0:0:0:0/block/sda",
		"sdb":  "platform/host2/session1/target2:0:0/2:0:0:1/block/sdb",
		"sdc":  "platform/host3/session2/target3:0:0/3:0:0:1/block/sdc",
		"sdd":  "pci0/host4/rport-4:0-1/target4:0:1/4:0:1:0/block/sdd",
		"dm-0": "virtual/block/dm-0", "dm-1": "virtual/block/dm-1", "dm-2": "virtual/block/dm-2",
		"drbd0": "virtual/block/drbd0",
	}
	dirs["sda1"], dirs["sdb1"] = dirs["sda"]+"/sda1", dirs["sdb"]+"/sdb1"
	for name, dir := range dirs {
		s.write(t, "devices/"+dir+"/size", "8")
		s.link(t, filepath.Join(s.sys, "devices", dir), filepath.Join(s.sys, "class/block", name))
		if err := os.WriteFile(filepath.Join(s.dev, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.write(t, "devices/"+dirs["sda1"]+"/partition", "1\n")
	s.write(t, "devices/"+dirs["sdb1"]+"/partition", "1\n")
	for dm, d := range map[string]struct {
		name, uuid string
		on         []string
	}{
		"dm-0": {"mpatha", "mpath-3600a", []string{"sdb", "sdc"}},
		"dm-1": {"mpatha-part1", "part1-mpath-3600a", []string{"dm-0"}},
		"dm-2": {"vg-lv", "LVM-x", []string{"sdd"}},
	} {
		at := "devices/" + dirs[dm]
		s.write(t, at+"/dm/name", d.name+"\n")
		s.write(t, at+"/dm/uuid", d.uuid+"\n")
		for _, on := range d.on {
			s.write(t, at+"/slaves/"+on, "")
			s.write(t, "devices/"+dirs[on]+"/holders/"+dm, "")
		}
		s.link(t, filepath.Join(s.dev, dm), filepath.Join(s.dev, "mapper", d.name))
	}
	for n, c := range map[string]struct{ host, addr, target string }{
		"1": {"host2", "10.0.0.1", "iqn.2001-05.com.example:a"}, "2": {"host3", "fd00::1", "iqn.2001-05.com.example:a"},
	} {
		at := "devices/platform/" + c.host + "/session" + n
		s.write(t, at+"/iscsi_session/session"+n+"/targetname", c.target+"\n")
		s.link(t, filepath.Join(s.sys, at), filepath.Join(s.sys, at, "iscsi_session/session"+n, "device"))
		s.link(t, filepath.Join(s.sys, at, "iscsi_session/session"+n), filepath.Join(s.sys, "class/iscsi_session/session"+n))
		conn := at + "/connection" + n + ":0/iscsi_connection/connection" + n + ":0"
		s.write(t, conn+"/persistent_address", c.addr+"\n")
		s.write(t, conn+"/persistent_port", "3260\n")
	}
	return s
}

func (s sysfs) write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(s.sys, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s sysfs) link(t *testing.T, to, from string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(from), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
}

func (s sysfs) storage() storage {
	return storage{proc: "/proc", sys: s.sys, dev: s.dev, gate: newGate()}
}

func TestDevices(t *testing.T) {
	s := fakeSysfs(t)
	st := s.storage()
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
	s.write(t, "devices/virtual/block/dm-1/slaves/dm-1", "") // a loop
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
	st := storage{proc: proc, shared: []string{"/data/", dir + "/declared"}, gate: newGate()}
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
		if got := c.pool.holds(Disk{Kind: c.kind, Source: c.source}); got != c.want {
			t.Errorf("%s holds %s: %v", c.pool.Name, c.source, got)
		}
	}
}
