package guests

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/libvirt/pools"
	"holdfast/testbed/need"
	"holdfast/testbed/virthost"
)

func (f fleet) pool(name string) pools.Pool {
	f.t.Helper()
	for _, p := range f.call("pools", fleetRequest{}).Pools {
		if p.Name == name {
			return p
		}
	}
	f.t.Fatalf("no pool %s", name)
	return pools.Pool{}
}

// TestPoolsStopAndStart does it with pools that this machine can have; devices
// come from a made-up sysfs.
func TestPoolsStopAndStart(t *testing.T) {
	need.Drill(t, "pools of a real libvirtd start and stop, and those with disks of guests stay")
	dir := t.TempDir()
	sys := virthost.NewSysfs(t)
	opt := Options{Shared: []string{dir}, SysDir: sys.Sys, DevDir: sys.Dev}
	f := newFleets(t, 1, opt)[0]
	f.setUp("define-pool", fleetRequest{XML: "<pool type='dir'><name>guests</name><target><path>" + dir + "</path></target></pool>"})
	f.setUp("define-pool", fleetRequest{XML: "<pool type='fs'><name>ocfs</name><source><device " +
		"path='/dev/sdb'/><format type='ocfs2'/></source><target><path>/vms/ocfs</path></target></pool>"})
	f.setUp("define-pool", fleetRequest{XML: "<pool type='netfs'><name>nfs</name><source><host name='10.0.0.1'/><dir " +
		"path='/e'/><format type='nfs'/></source><target><path>/vms/nfs</path></target></pool>"})
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
			t.Errorf("%s: stop of a pool in use: %v, want pools.ErrBusy", kind, err)
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
		if a := f.must(request{Op: "redefine", Fleet: fleetRequest{Name: "ocfs"}}); a.Number != changed {
			t.Errorf("changed %d, want %d", a.Number, changed)
		}
	}
	now := f.pool("ocfs")
	if now.Paths != 2 || now.Mapper != "" || now.UUID != p.UUID || now.Target != p.Target ||
		!slices.Equal(now.Devices, []string{"/dev/mapper/mpatha"}) {
		t.Errorf("after: %+v", now)
	}
	f.setUp("define-pool", fleetRequest{XML: "<pool type='logical'><name>vg</name><source><device " +
		"path='/dev/sdd'/><name>vg</name></source><target><path>/dev/vg</path></target></pool>"})
	for _, name := range []string{"vg", "nfs"} { // without multipath, and without a device
		if _, err := f.try("redefine", fleetRequest{Name: name}, 5*time.Second); err == nil {
			t.Errorf("pool %s was redefined", name)
		}
	}
}

// TestTransientPoolsAreMadeAnew: libvirt forgets one that is stopped, and has it
// again, the same, by the XML that was read before.
func TestTransientPoolsAreMadeAnew(t *testing.T) {
	need.Drill(t, "transient pools, which libvirt forgets when they stop, are made anew")
	dir := t.TempDir()
	sys := virthost.NewSysfs(t)
	f := newFleets(t, 1, Options{Shared: []string{dir}, SysDir: sys.Sys, DevDir: sys.Dev})[0]
	f.setUp("define-pool", fleetRequest{XML: "<pool type='dir'><name>kept</name><target><path>" + t.TempDir() + "</path></target></pool>"})
	f.setUp("create-pool", fleetRequest{XML: "<pool type='dir'><name>passing</name><target><path>" + dir + "</path></target></pool>"})
	before := f.pool("passing")
	if !before.Transient || !before.Active || f.pool("kept").Transient {
		t.Fatalf("%+v, %+v", before, f.pool("kept"))
	}
	text := f.must(request{Op: "pool-xml", Fleet: fleetRequest{Name: "passing"}}).Fleet.XML
	f.call("stop-pool", fleetRequest{Name: "passing"})
	for _, p := range f.call("pools", fleetRequest{}).Pools {
		if p.Name == "passing" {
			t.Errorf("libvirt has not forgotten it: %+v", p)
		}
	}
	if _, err := f.try("pool-xml", fleetRequest{Name: "passing"}, 5*time.Second); err == nil {
		t.Error("the XML of a pool that is gone")
	}
	for range 2 { // the second time it is there
		f.call("create-pool", fleetRequest{XML: text})
	}
	if now := f.pool("passing"); !now.Transient || !now.Active || now.UUID != before.UUID || now.Target != dir {
		t.Errorf("%+v, want %+v", now, before)
	}
	for _, bad := range []string{"no XML", "<pool type='dir'><name>lost</name><target><path>/none/at/all</path></target></pool>"} {
		if _, err := f.try("create-pool", fleetRequest{XML: bad}, 5*time.Second); err == nil {
			t.Errorf("made of %s", bad)
		}
	}
	single := "<pool type='fs'><name>ocfs</name><source><device path='/dev/sdb'/><format " +
		"type='ocfs2'/></source><target><path>/vms/ocfs</path></target></pool>"
	if a := f.must(request{Op: "multipath-xml", Fleet: fleetRequest{XML: single}}); !strings.Contains(a.Fleet.XML,
		"/dev/mapper/mpatha") || strings.Contains(a.Fleet.XML, "/dev/sdb") {
		t.Errorf("multipath: %s", a.Fleet.XML)
	}
	if _, err := f.try("multipath-xml", fleetRequest{XML: text}, 5*time.Second); err == nil {
		t.Error("a directory got a multipath device")
	}
}
