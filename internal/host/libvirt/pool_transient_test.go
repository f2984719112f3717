package libvirt

import (
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
)

// TestTransientPoolsAreMadeAnew: libvirt forgets one that is stopped, and has it
// again, the same, by the XML that was read before.
func TestTransientPoolsAreMadeAnew(t *testing.T) {
	need.Drill(t, "transient pools, which libvirt forgets when they stop, are made anew")
	dir := t.TempDir()
	sys := fakeSysfs(t)
	f := newFleets(t, 1, FleetOptions{Shared: []string{dir}, SysDir: sys.sys, DevDir: sys.dev})[0]
	f.setUp("define-pool", fleetRequest{XML: "<pool type='dir'><name>kept</name><target><path>" + t.TempDir() + "</path></target></pool>"})
	f.setUp("create-pool", fleetRequest{XML: "<pool type='dir'><name>passing</name><target><path>" + dir + "</path></target></pool>"})
	before := f.pool("passing")
	if !before.Transient || !before.Active || f.pool("kept").Transient {
		t.Fatalf("%+v, %+v", before, f.pool("kept"))
	}
	text := f.must(request{Op: "fleet-pool-xml", Fleet: fleetRequest{Name: "passing"}}).Fleet.XML
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
	single := "<pool type='fs'><name>ocfs</name><source><device path='/dev/sdb'/><format type='ocfs2'/></source><target><path>/vms/ocfs</path></target></pool>"
	if a := f.must(request{Op: "fleet-multipath-xml", Fleet: fleetRequest{XML: single}}); !strings.Contains(a.Fleet.XML, "/dev/mapper/mpatha") || strings.Contains(a.Fleet.XML, "/dev/sdb") {
		t.Errorf("multipath: %s", a.Fleet.XML)
	}
	if _, err := f.try("multipath-xml", fleetRequest{XML: text}, 5*time.Second); err == nil {
		t.Error("a directory got a multipath device")
	}
}
