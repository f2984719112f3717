package guests

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/testbed/need"
	"holdfast/testbed/virthost"
)

// TestFleetListsOddGuests defines and starts what an upgrade meets in the field.
func TestFleetListsOddGuests(t *testing.T) {
	need.Drill(t, "guests of all kinds are listed with what keeps them where they are")
	shared, local := t.TempDir(), t.TempDir()
	protected := smallUUID(99)
	f := newFleets(t, 1, Options{Shared: []string{shared}, Protected: []string{protected}})[0]
	image := func(n int) string { return qcow2(t, filepath.Join(shared, fmt.Sprint(n, ".qcow2"))) }
	backed := filepath.Join(shared, "backed.qcow2")
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", qcow2(t, filepath.Join(local, "base.qcow2")), backed)
	running := []small{
		{name: "plain", uuid: smallUUID(1), disks: diskXML(image(1), "qcow2"),
			extra: `<metadata><libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0"><libosinfo:os id="http://centos.org/centos/6.5"/></libosinfo:libosinfo></metadata>`},
		{name: "paused", uuid: smallUUID(2), disks: diskXML(image(2), "qcow2")},
		{name: "copied", uuid: smallUUID(3), disks: diskXML(image(3), "qcow2")},
		{name: "backedup", uuid: smallUUID(4), disks: diskXML(image(4), "qcow2")},
		{name: "backingfile", uuid: smallUUID(5), disks: diskXML(backed, "qcow2")},
		{name: "saved", uuid: smallUUID(6), disks: diskXML(image(6), "qcow2")},
	}
	off := []small{
		{name: "hostdev", uuid: smallUUID(11), devices: `<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='0' slot='0x1f' function='2'/></source></hostdev>
			<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>`},
		{name: "localdisk", uuid: smallUUID(12), disks: diskXML(qcow2(t, filepath.Join(local, "l.qcow2")), "qcow2")},
		{name: "hostcpu", uuid: smallUUID(13), disks: diskXML(image(13), "qcow2"), cpu: `<cpu mode='host-passthrough'/>`},
		{name: "snapshot", uuid: smallUUID(14), disks: diskXML(image(14), "qcow2")},
		{name: "network", uuid: smallUUID(15),
			disks: `<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='rbd' name='vms/a'><host name='10.0.0.1' port='6789'/></source><target dev='vda' bus='virtio'/></disk>`},
		{name: "volume", uuid: smallUUID(16),
			disks: `<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='local' volume='v'/><target dev='vda' bus='virtio'/></disk>`},
		{name: "cdrom", uuid: smallUUID(17), disks: `<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>`},
		{name: "mnvm-like", uuid: protected, disks: diskXML(image(99), "qcow2")},
	}
	f.setUp("define-pool", fleetRequest{XML: "<pool type='dir'><name>local</name><target><path>" + local + "</path></target></pool>"})
	for _, s := range append(running, off...) {
		f.setUp("define", fleetRequest{XML: s.xml()})
	}
	for _, s := range running {
		f.setUp("start", fleetRequest{UUID: s.uuid})
	}
	transient := small{name: "transient", uuid: smallUUID(7), disks: diskXML(obeys(t, filepath.Join(shared, "t.img")), "raw")}
	f.setUp("create", fleetRequest{XML: transient.xml()})
	f.call("autostart", fleetRequest{UUID: smallUUID(1), Number: 1})
	f.setUp("suspend", fleetRequest{UUID: smallUUID(2)})
	f.setUp("copy", fleetRequest{UUID: smallUUID(3), XML: "<disk type='file'><source file='" +
		filepath.Join(local, "copy.qcow2") + "'/><driver type='qcow2'/></disk>"})
	f.setUp("backup", fleetRequest{UUID: smallUUID(4),
		XML: "<domainbackup mode='pull'><server transport='unix' socket='" + filepath.Join(local, "b.sock") + "'/></domainbackup>"})
	f.setUp("save", fleetRequest{UUID: smallUUID(6)})
	f.setUp("snapshot", fleetRequest{UUID: smallUUID(14), XML: "<domainsnapshot><name>s1</name></domainsnapshot>"})

	r := f.must(request{Op: "list"})
	got := map[string]VM{}
	for _, v := range r.Fleet.VMs {
		got[v.Name] = v
	}
	t.Logf("%d guests, %d with a process, listed in %v", len(got), len(running), r.Took)
	if len(got) != len(running)+len(off)+1 {
		t.Errorf("%d guests: %v", len(got), r.Fleet.VMs)
	}
	for _, c := range []struct {
		name   string
		state  VMState
		busy   string
		fixed  []string
		bound  []string
		verify func(VM) bool
	}{
		{"plain", VMRunning, "", nil, nil, func(v VM) bool {
			return v.Persistent && v.Autostart && v.MemoryMiB == 64 && v.VCPUs == 1 && v.System == "centos6.5" &&
				!v.Agent && v.CPUMode == "custom" &&
				v.CPUModel == "qemu64" && len(v.Disks) == 1 && v.Disks[0].Shared && v.Disks[0].Kind == "file" &&
				v.Disks[0].Target == "vda" && v.UUID == smallUUID(1)
		}},
		{"transient", VMRunning, "", nil, nil, func(v VM) bool { return !v.Persistent && !v.Autostart }},
		{"paused", VMPaused, "paused", nil, nil, nil},
		{"copied", VMRunning, "block job (copy of vda)", nil, nil, nil},
		{"backedup", VMRunning, "backup", nil, nil, func(v VM) bool { return v.Job == "backup" }},
		{"backingfile", VMRunning, "", []string{"backing file"}, []string{"base.qcow2 is on this host only"},
			func(v VM) bool { return !v.Disks[0].Shared }},
		{"saved", VMOff, "", nil, []string{"saved on this host"}, func(v VM) bool { return v.Saved }},
		{"hostdev", VMOff, "", []string{"PCI 0000:00:1f.2", "USB 0x1234:0xbeef"}, []string{"PCI", "USB"},
			func(v VM) bool { return len(v.HostDevs) == 2 }},
		{"localdisk", VMOff, "", []string{"l.qcow2 is on this host only"}, []string{"l.qcow2"},
			func(v VM) bool { return v.Disks[0].FS != "" && !v.Disks[0].Shared }},
		{"hostcpu", VMOff, "", nil, nil, func(v VM) bool { return v.HostCPU }},
		{"snapshot", VMOff, "", []string{"snapshots"}, []string{"snapshots"}, func(v VM) bool { return v.Snapshots }},
		{"network", VMOff, "", nil, nil, func(v VM) bool {
			return v.Disks[0].FS == "rbd" && v.Disks[0].Shared && v.Disks[0].Source == "rbd:vms/a"
		}},
		{"volume", VMOff, "", []string{"pool of kind dir"}, []string{"volume local/v"}, nil},
		{"cdrom", VMOff, "", nil, nil, func(v VM) bool { return v.Disks[0].ReadOnly && v.Disks[0].Source == "" }},
		{"mnvm-like", VMOff, "", nil, nil, func(v VM) bool { return v.Protected }},
	} {
		v := got[c.name]
		if v.State != c.state || v.Busy != c.busy || c.verify != nil && !c.verify(v) {
			t.Errorf("%s: %+v", c.name, v)
		}
		wantText(t, c.name+" fixed", v.Fixed, c.fixed)
		wantText(t, c.name+" bound", v.Bound, c.bound)
	}
	for _, op := range []string{"migrate", "shutdown", "start", "cold", "autostart", "abort", "resume"} {
		if a, err := f.try(op, fleetRequest{UUID: protected, Target: "10.98.7.9"}, 15*time.Second); err == nil || !a.Protected {
			t.Errorf("%s of the protected guest: %v, want errProtected", op, err)
		}
	}
	for _, s := range []string{"saved", "snapshot", "localdisk"} {
		if a, err := f.try("cold", fleetRequest{UUID: got[s].UUID, Target: "10.98.7.9"}, 5*time.Second); !a.Bound {
			t.Errorf("cold move of %s: %v, want errBound", s, err)
		}
	}
}

// TestFleetListSurvivesAHungQEMU: one guest's QEMU stands still.
func TestFleetListSurvivesAHungQEMU(t *testing.T) {
	need.Drill(t, "a QEMU that stands still hides no other guest")
	dir := t.TempDir()
	f := newFleets(t, 1, Options{Shared: []string{dir}})[0]
	for n := range 6 {
		s := small{name: fmt.Sprint("g", n), uuid: smallUUID(n), disks: diskXML(qcow2(t, filepath.Join(dir, fmt.Sprint(n))), "qcow2")}
		f.setUp("create", fleetRequest{XML: s.xml()})
	}
	hung := small{uuid: smallUUID(3)}
	f.signalQEMU(hung, syscall.SIGSTOP)
	r := f.must(request{Op: "list", Timeout: 15 * time.Second})
	t.Logf("listed in %v", r.Took)
	if len(r.Fleet.VMs) != 6 { // it answered while that QEMU hung, which goes on below
		t.Errorf("%d guests", len(r.Fleet.VMs))
	}
	for _, v := range r.Fleet.VMs {
		if strings.Contains(v.Busy, "hang") != (v.UUID == hung.uuid) || v.State != VMRunning || len(v.Disks) != 1 {
			t.Errorf("%+v", v)
		}
	}
	f.signalQEMU(hung, syscall.SIGCONT)
	f.wait("all answer", func() bool { return f.vms()["g3"].Busy == "" })
}

func TestFleetMeasuresDirtyRates(t *testing.T) {
	need.Drill(t, "dirty rates of real guests are measured")
	dir := t.TempDir()
	f := newFleets(t, 1, Options{Shared: []string{dir}})[0]
	busy := small{name: "busy", uuid: smallUUID(1), disks: diskXML(fillDisk(t, filepath.Join(dir, "busy"), true), "raw")}
	idle := small{name: "idle", uuid: smallUUID(2), disks: diskXML(obeys(t, filepath.Join(dir, "idle")), "raw")}
	for _, s := range []small{busy, idle} {
		f.setUp("create", fleetRequest{XML: s.xml()})
	}
	f.wait("the busy guest writes", func() bool {
		rates := f.call("dirty", fleetRequest{}).Rates
		_, measured := rates[idle.uuid]
		return measured && rates[busy.uuid] > rates[idle.uuid] && rates[busy.uuid] >= 1
	})
	if v := f.vms()["busy"]; v.Dirty < 1 {
		t.Errorf("listed: %+v", v)
	}
}

func TestFleetTellsOfTheHost(t *testing.T) {
	need.Drill(t, "what a host is and has, as libvirtd tells it")
	f := newFleets(t, 1, Options{ReserveMiB: 100})[0]
	var n Node
	f.wait("libvirtd has looked at its QEMU, which takes long beside others", func() bool {
		a, err := f.try("node", fleetRequest{}, 30*time.Second)
		n = a.Node
		return err == nil
	})
	if n.MemoryMiB <= 0 || n.GuestMiB != n.MemoryMiB-100 || n.FreeMiB <= 0 || n.CPUs < 1 || n.Arch != "x86_64" || n.CPUModel == "" ||
		n.Hostname == "" || strings.Count(n.Libvirt, ".") != 2 || strings.Count(n.Hypervisor, ".") != 2 {
		t.Errorf("%+v", n)
	}
	t.Logf("%+v", n)
}
