package guests

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
	"holdfast/testbed/virthost"
)

// TestFleetCopiesADisk compares the copy with the disk, and breaks a copy off.
func TestFleetCopiesADisk(t *testing.T) {
	need.Drill(t, "a disk is copied while its guest runs, and a copy that breaks off leaves it as it is")
	dir := t.TempDir()
	f := newFleets(t, 1, Options{Shared: []string{dir}})[0]
	disk, to := obeys(t, filepath.Join(dir, "d")), filepath.Join(dir, "copy")
	s := small{name: "copied", uuid: smallUUID(1), disks: diskXML(disk, "raw")}
	f.setUp("define", fleetRequest{XML: s.xml()})
	f.call("start", fleetRequest{UUID: s.uuid})
	f.call("copy", fleetRequest{UUID: s.uuid, Name: to})
	virthost.Run(t, "qemu-img", "compare", "-U", "-f", "raw", "-F", "qcow2", disk, to)
	if v := f.vms()["copied"]; v.Busy != "" || v.Disks[0].Source != disk || v.State != VMRunning {
		t.Errorf("after a copy: %+v", v)
	}
	if _, err := f.try("copy", fleetRequest{UUID: s.uuid, Name: filepath.Join(dir, "none/copy")}, 10*time.Second); err == nil {
		t.Error("a copy into a folder that is not there succeeded")
	}
	f.must(request{Op: "tmpfs", Text: "/run/small", Number: 1})
	if _, err := f.try("copy", fleetRequest{UUID: s.uuid, Name: "/run/small/copy"}, 10*time.Second); err == nil {
		t.Error("a copy that has no room succeeded")
	}
	if v := f.vms()["copied"]; v.Busy != "" || v.Disks[0].Source != disk || v.State != VMRunning {
		t.Errorf("after copies that failed: %+v", v)
	}
}

// TestFleetListsAGuestWhoseDiskGoes: what was asked about a disk that went meanwhile is asked anew, without it.
func TestFleetListsAGuestWhoseDiskGoes(t *testing.T) {
	need.Drill(t, "a disk that goes while guests are listed hides no guest")
	dir := t.TempDir()
	f := newFleets(t, 1, Options{Shared: []string{dir}})[0]
	s := small{name: "changes", uuid: smallUUID(1), disks: diskXML(qcow2(t, filepath.Join(dir, "d")), "qcow2"),
		devices: `<controller type='scsi' model='virtio-scsi'/>`}
	f.setUp("define", fleetRequest{XML: s.xml()})
	f.setUp("start", fleetRequest{UUID: s.uuid})
	disk := strings.Replace(diskXML(qcow2(t, filepath.Join(dir, "e")), "qcow2"), "dev='vda' bus='virtio'", "dev='sda' bus='scsi'", 1)
	plugged := f.Begin(virthost.Request{Op: "set up", Text: "plug"}, virthost.Setup{UUID: s.uuid, Number: 50, XML: disk})
	seen := map[int]int{} // lists by the disks that they have
	for len(plugged) == 0 {
		v := f.vms()[s.name]
		seen[len(v.Disks)]++
		if v.State != VMRunning || strings.Contains(v.Busy, "does not tell") {
			t.Errorf("listed: %+v", v)
		}
	}
	if a := f.End(plugged, nil); a.Err != "" {
		t.Fatal(a.Err)
	}
	if seen[1] == 0 || seen[2] == 0 {
		t.Errorf("not seen with and without the disk: %v", seen)
	}
}

// TestFleetRestarts has guests that obey, that do not, and that end instead.
func TestFleetRestarts(t *testing.T) {
	need.Drill(t, "guests that obey, that do not and that end instead: a restart tells which")
	dir := t.TempDir()
	f := newFleets(t, 1, Options{Shared: []string{dir}})[0]
	good := small{name: "good", uuid: smallUUID(1), disks: diskXML(obeys(t, filepath.Join(dir, "g")), "raw")}
	deaf := small{name: "deaf", uuid: smallUUID(2), disks: diskXML(qcow2(t, filepath.Join(dir, "d")), "qcow2")}
	ends := small{name: "ends", uuid: smallUUID(3), disks: diskXML(obeys(t, filepath.Join(dir, "e")), "raw")}
	for _, s := range []small{good, deaf, ends} {
		f.setUp("define", fleetRequest{XML: strings.Replace(s.xml(), "<on_reboot>restart",
			"<on_reboot>"+map[bool]string{true: "destroy", false: "restart"}[s == ends], 1)})
		f.call("start", fleetRequest{UUID: s.uuid})
	}
	f.call("reboot", fleetRequest{UUID: good.uuid, Shutdown: ShutdownOptions{Wait: 15 * time.Second}})
	if w := f.where(good); w.Place != Here || w.State != VMRunning {
		t.Errorf("after a restart: %+v", w)
	}
	if a, err := f.try("reboot", fleetRequest{UUID: deaf.uuid, Shutdown: ShutdownOptions{Wait: time.Second}}, 15*time.Second); !a.Running {
		t.Errorf("a guest that does not obey: %v", err)
	}
	if _, err := f.try("reboot", fleetRequest{UUID: ends.uuid, Shutdown: ShutdownOptions{Wait: 15 * time.Second}},
		20*time.Second); err == nil || !strings.Contains(err.Error(), "ended instead") {
		t.Errorf("a guest that ends instead: %v", err)
	}
}

// TestFleetOfAnotherHost: one host asks the libvirtd of another over TLS, and has it send a guest.
func TestFleetOfAnotherHost(t *testing.T) {
	need.Drill(t, "one host asks the libvirtd of another over TLS, and has it send a guest")
	ca, dir := virthost.Authority(t, "memory"), t.TempDir()
	opt := Options{Shared: []string{dir}, MigrateURI: virthost.TLSURI}
	hosts := withFleets(t, virthost.NewTLS(t, 2, virthost.Authority(t, "libvirtd"), func(int) pki.CA { return ca }, nil), opt)
	here, there := hosts[0], hosts[1]
	here.IP("link", "set", "lo", "up") // by which it reaches itself
	s := small{name: "comes", uuid: smallUUID(1), disks: diskXML(obeys(t, filepath.Join(dir, "c")), "raw")}
	there.setUp("define", fleetRequest{XML: s.xml()})
	there.setUp("start", fleetRequest{UUID: s.uuid})
	opt.URI = strings.Replace(virthost.TLSURI, "%s", there.Addr, 1)
	here.renew(opt)
	if a := here.must(request{Op: "own"}); a.Text != here.Addr {
		t.Errorf("the other host sees %q: want %s", a.Text, here.Addr)
	}
	if w := here.where(s); w.Place != Here || w.State != VMRunning {
		t.Errorf("on the other host: %+v", w)
	}
	if v := here.vms()[s.name]; v.State != VMRunning || !v.Persistent {
		t.Errorf("listed: %+v", v)
	}
	if a := here.call("migrate", fleetRequest{UUID: s.uuid, Target: here.Addr}); a.Place != Left {
		t.Errorf("sent: %+v", a)
	}
	if w := here.where(s); w.Place != Absent { // its log, which says more, is not here
		t.Errorf("on the other host afterwards: %+v", w)
	}
	opt.URI = ""
	here.renew(opt)
	if w := here.where(s); w.Place != Here || w.State != VMRunning {
		t.Errorf("here: %+v", w)
	}
}
