package guests

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// rich is a test guest with much that is for it alone.
const rich = `<domain type='kvm'><name>t1</name><uuid>98000000-0000-4000-8000-000000000001</uuid><genid>98000000-0000-4000-8000-0000000000aa</genid>
<title>a title</title><metadata><nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"><nova:name>t1</nova:name></nova:instance></metadata>
<memory unit='KiB'>524288</memory><vcpu>2</vcpu>
<sysinfo type='smbios'><system><entry name='uuid'>98000000-0000-4000-8000-000000000001</entry></system></sysinfo>
<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><nvram>/var/lib/libvirt/qemu/nvram/t1_VARS.fd</nvram><smbios mode='sysinfo'/><boot dev='hd'/></os>
<cpu mode='host-passthrough'/>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='network' device='disk'><source protocol='rbd' name='vms/t1'/><target dev='sda' bus='scsi'/></disk>
<disk type='file' device='cdrom'><source file='/srv/iso'/><target dev='sdb' bus='sata'/></disk>
<controller type='scsi' index='0' model='virtio-scsi'/>
<interface type='bridge'><mac address='fa:16:3e:00:00:01'/><source bridge='br-int'/><virtualport type='openvswitch'><parameters interfaceid='0a4c3f5e-0000-4000-8000-000000000001'/></virtualport><target dev='tap0a4c3f5e-00'/><model type='virtio'/></interface>
<interface type='network'><mac address='fa:16:3e:00:00:02'/><source network='default'/></interface>
<interface type='hostdev' managed='yes'><mac address='fa:16:3e:00:00:03'/><source><address type='pci' domain='0' bus='1' slot='0' function='1'/></source></interface>
<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>
<serial type='file'><source path='/var/log/t1.log'/></serial>
<channel type='unix'><source mode='bind' path='/run/t1.sock'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
<graphics type='vnc' port='5901'/></devices></domain>`

// TestLikeness: a new guest has nothing that is the test guest's alone.
func TestLikeness(t *testing.T) {
	uuid, card, err := identity()
	try.Must(t, err)
	if len(uuid) != 36 || uuid[14] != '4' || !strings.Contains("89ab", uuid[19:20]) {
		t.Errorf("UUID %s", uuid)
	}
	text, err := likeness(rich, "t1", uuid, card, "/srv/new.raw")
	try.Must(t, err)
	for _, foreign := range []string{"98000000", "nova", "a title", "VARS", "sysinfo", "rbd", "iso", "interfaceid",
		"tap0a4c", "fa:16:3e", "hostdev", "t1.log", "t1.sock", "tpm", "vnc"} {
		if strings.Contains(text, foreign) {
			t.Errorf("it has %q:\n%s", foreign, text)
		}
	}
	var def libvirtxml.Domain
	try.Must(t, def.Unmarshal(text))
	d := def.Devices
	if def.Name != "t1-holdfast-feature" || def.UUID != uuid || def.Memory.Value != 524288 || def.VCPU.Value != 2 ||
		def.CPU.Mode != "host-passthrough" || def.OS.Firmware != "efi" {
		t.Errorf("%s", text)
	}
	if len(d.Disks) != 1 || d.Disks[0].Source.File.File != "/srv/new.raw" || d.Disks[0].Target.Dev != "sda" ||
		d.Disks[0].Target.Bus != "scsi" || len(d.Controllers) != 1 {
		t.Errorf("disks: %s", text)
	}
	if len(d.Interfaces) != 2 || mac(d.Interfaces[0]) == mac(d.Interfaces[1]) || d.Interfaces[0].VirtualPort == nil ||
		d.Interfaces[1].Source.Network == nil {
		t.Errorf("network cards: %s", text)
	}
	if libvirt.OfHoldfast(rich) || !libvirt.OfHoldfast("<entry>holdfast:mnvm:1.7</entry>") ||
		!libvirt.OfHoldfast(`<holdfast:guest xmlns:holdfast="https://holdfast/guest/1"/>`) {
		t.Error("the guest that Holdfast keeps running is not told apart")
	}
}

func fileDisks(paths ...string) (out []libvirtxml.DomainDisk) {
	for _, p := range paths {
		out = append(out, libvirtxml.DomainDisk{Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: p}},
			Target: &libvirtxml.DomainDiskTarget{Dev: "vda"}})
	}
	return out
}

func TestFolder(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	disk := filepath.Join(dir, "d")
	try.Must(t, os.WriteFile(disk, nil, 0o640))
	if f, err := folderOf("", "u", nil); err != nil || f.dir != "" {
		t.Errorf("no disk: %+v, %v", f, err)
	}
	if f, err := folderOf("", "u", fileDisks(disk)); err != nil || f.dir != dir || f.like != 0o640 || f.uid != os.Getuid() {
		t.Errorf("a disk in a file: %+v, %v", f, err)
	}
	if f, err := folderOf(other, "u", fileDisks(disk)); err != nil || f.dir != other || f.like != 0o640 {
		t.Errorf("another folder: %+v, %v", f, err)
	}
	kind := func(err error) fail.Kind {
		var e *fail.Error
		if !errors.As(err, &e) {
			return ""
		}
		return e.Kind
	}
	if _, err := folderOf(filepath.Join(dir, "none"), "u", nil); kind(err) != fail.Invalid {
		t.Errorf("a folder that is not there: %v", err)
	}
	if _, err := folderOf("", "u", fileDisks(filepath.Join(dir, "none"))); kind(err) != fail.Refused {
		t.Errorf("a disk that is not there: %v", err)
	}
	try.Must(t, os.WriteFile(filepath.Join(dir, "holdfast-feature-u-image.qcow2"), nil, 0o600))
	if _, err := folderOf("", "u", fileDisks(disk)); kind(err) != fail.Refused {
		t.Errorf("a file of an earlier run: %v", err)
	}
	if err := (folder{dir: dir}).room(1 << 60); err == nil || !strings.Contains(err.Error(), "must stay free") {
		t.Errorf("room for 1 EiB: %v", err)
	}
	now := &libvirtxml.Domain{Devices: &libvirtxml.DomainDeviceList{Disks: fileDisks(disk)}}
	if got := free(now, `<domain><devices><disk><target dev='vdb'/></disk></devices></domain>`); got != "vdc" {
		t.Errorf("the next disk is %s", got)
	}
	if plugged(now, disk) == nil || plugged(now, other) != nil {
		t.Error("a disk is not found by its file")
	}
}

func TestWhere(t *testing.T) {
	for want, w := range map[string]guests.Where{
		"here, paused":                        {Place: guests.Here, State: guests.VMPaused},
		"off":                                 {Place: guests.Off},
		"not there":                           {Place: guests.Absent},
		"moved to another host":               {Place: guests.Left},
		"at a place that is not clear (torn)": {Place: guests.Unclear, Note: "torn"},
	} {
		if got := where(w); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
