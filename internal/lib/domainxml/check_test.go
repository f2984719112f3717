package domainxml

import (
	"strings"
	"testing"
)

// bad are changes of the fixture that are refused.
var bad = []struct{ name, old, new, path, value, want string }{
	{"other hypervisor", "type='kvm'", "type='xen'", "/domain/@type", "xen", "want kvm, qemu"},
	{"QEMU's own arguments", "<pm>", "<qemu:commandline/><pm>", "/domain/qemu:commandline", "", "not checked"},
	{"another namespace", "<pm>", "<y:z/><pm>", "/domain/y:z", "", "in metadata only"},
	{"the default namespace", "<devices>", "<devices xmlns='u'>", "/domain/devices", "xmlns=u", "in metadata only"},
	{"two of one", "<pm>", "<devices/><pm>", "/domain/devices[2]", "", "given twice"},
	{"two of the strings", "<oemStrings>", "<oemStrings/><oemStrings>", "/domain/sysinfo", "type=smbios", "given twice"},
	{"two of smbios", "<pm>", "<sysinfo type='smbios'/><pm>", "/domain/sysinfo[2]", "type=smbios", "given twice"},
	{"no devices", "devices>", "device>", "/domain/devices", "", "missing"},
	{"no memory", "unit='GiB'", "unit='acres'", "/domain/memory", "16", "want at least 1 MiB"},
	{"threads without end", "<iothreads>1<", "<iothreads>99999<", "/domain/iothreads", "99999", "want 0 to 1024"},
	{"no CPUs", ">8</vcpu>", ">many</vcpu>", "/domain/vcpu", "many", "want at least 1"},
	{"encrypted memory", "<pm>", "<launchSecurity type='sev'/><pm>", "/domain/launchSecurity/@type", "sev", "can not be migrated"},
	{"a container", ">hvm<", ">exe<", "/domain/os/type", "exe", "want hvm"},
	{"SMBIOS of the host", "<boot dev='hd'/>", "<smbios mode='host'/>", "/domain/os/smbios/@mode", "host", "want sysinfo"},
	{"firmware that is written to", "<boot dev='hd'/>", "<loader type='pflash' readonly='no'>/x</loader>",
		"/domain/os/loader/@readonly", "no", "want yes"},
	{"variables on one host", "<boot dev='hd'/>", "<nvram>/var/lib/libvirt/qemu/nvram/x.fd</nvram>", "/domain/os/nvram",
		"/var/lib/libvirt/qemu/nvram/x.fd", "below ImageFolder /srv/shared/mngt"},
	{"variables in a file with a way up", "<boot dev='hd'/>", "<nvram>/srv/shared/mngt/../x.fd</nvram>",
		"/domain/os/nvram", "/srv/shared/mngt/../x.fd", "below ImageFolder"},
	{"variables on a block device", "<boot dev='hd'/>", "<nvram type='block'><source dev='/dev/x'/></nvram>",
		"/domain/os/nvram/@type", "block", "want file"},
	{"a forged token", "<entry>mine<", "<entry>x,value=ours:mnvm:9.9<", "/domain/sysinfo/oemStrings/entry[1]",
		"x,value=ours:mnvm:9.9", "epoch"},
	{"a CPU that stays", "check='partial'", "migratable='off'", "/domain/cpu/@migratable", "off", "can not be migrated"},
	{"a feature that stays", "policy='disable'", "policy='require'", "/domain/cpu/feature/@name", "invtsc", "can not be migrated"},
	{"a disk that two may write", "<target dev='vdb' bus='virtio'/>", "<target dev='vdb'/><shareable/>",
		"/domain/devices/disk[2]/shareable", "", "two hosts could write"},
	{"a disk that forgets", "<target dev='vdb' bus='virtio'/>", "<target dev='vdb'/><transient/>",
		"/domain/devices/disk[2]/transient", "", "on one host"},
	{"a disk of one host", "/srv/shared/mngt/data.img", "/var/lib/data.img", "/domain/devices/disk[2]/source/@file",
		"/var/lib/data.img", "below ImageFolder"},
	{"a disk beside the folder", "/srv/shared/mngt/data.img", "/srv/shared/mngt2/data.img",
		"/domain/devices/disk[2]/source/@file", "/srv/shared/mngt2/data.img", "below ImageFolder"},
	{"the host's cache", "cache='directsync'", "cache='writeback'", "/domain/devices/disk[2]/driver/@cache",
		"writeback", "want none or directsync"},
	{"the default cache", "cache='directsync'", "", "/domain/devices/disk[2]/driver/@cache", "", "want none or directsync"},
	{"a disk passed through", "device='cdrom'", "device='lun'", "/domain/devices/disk[3]/@device", "lun", "want disk, cdrom, floppy"},
	{"nothing that is locked", "<target dev='vd", "<readonly/><target dev='vd", "/domain/devices/disk", "",
		"keeps a second guest from running"},
	{"a floppy of one host", "<disk type='file' device='cdrom'>",
		"<disk type='file' device='floppy'><source file='/f'/>", "/domain/devices/disk[3]/source/@file", "/f", "below ImageFolder"},
	{"a volume of a pool", "<disk type='file'>", "<disk type='volume'>", "/domain/devices/disk[2]/@type", "volume",
		"want file, block, network"},
	{"a block device", "<disk type='file'>\n", "<disk type='block'><source dev='/dev/sdb'/>\n",
		"/domain/devices/disk[2]/source/@dev", "/dev/sdb", "/dev/disk/by-id/"},
	{"a disk without a lock", "<disk type='file'>\n", "<disk type='network'><source protocol='nbd' name='a'/>\n",
		"/domain/devices/disk[2]/source/@name", "a", "LockManager virtlockd"},
	{"a disk of nothing", "<disk type='file'>\n      <driver name='qemu' type='raw' cache='directsync'/>\n      " +
		"<source file='/srv/shared/mngt/data.img'/>", "<disk type='network'>\n      <driver name='qemu' type='raw' " +
		"cache='directsync'/>", "/domain/devices/disk[2]/source/@protocol", "", "want nbd"},
	{"other storage", "<disk type='file'>\n", "<disk type='network'><source protocol='iscsi' name='a'/>\n",
		"/domain/devices/disk[2]/source/@protocol", "iscsi", "want nbd"},
	{"two sources", "<source file='/srv/shared/mngt/data.img'/>",
		"<source file='/srv/shared/mngt/data.img'/><source file='/x'/>", "/domain/devices/disk[2]/source", "file=/x", "given twice"},
	{"a base on one host", "<target dev='vdb' bus='virtio'/>",
		"<target dev='vdb'/><backingStore type='file'><source file='/base'/></backingStore>",
		"/domain/devices/disk[2]/backingStore/source/@file", "/base", "below ImageFolder"},
	{"an emulator by another name", "/usr/bin/qemu-system-x86_64", "/opt/vmm", "/domain/devices/emulator", "/opt/vmm", "known by it"},
	{"a PCI device", "<panic", "<hostdev mode='subsystem' type='pci'><source><address domain='0' " +
		"bus='3'/></source></hostdev><panic", "/domain/devices/hostdev/@type", "pci domain=0 bus=3", "passed through"},
	{"a mediated device", "<panic", "<hostdev mode='subsystem' type='mdev'><source><address " +
		"uuid='u'/></source></hostdev><panic", "/domain/devices/hostdev/@type", "mdev uuid=u", "passed through"},
	{"a card passed through", "<interface type='bridge'>", "<interface type='hostdev'>",
		"/domain/devices/interface/@type", "hostdev", "tied to one host"},
	{"a serial port of the host", "<panic", "<serial type='dev'/><panic", "/domain/devices/serial/@type", "dev", "tied to one host"},
	{"a keyboard of the host", "<panic", "<input type='evdev'/><panic", "/domain/devices/input/@type", "evdev", "tied to one host"},
	{"memory in a file", "<panic", "<memory model='nvdimm'/><panic", "/domain/devices/memory/@model", "nvdimm", "on one host"},
	{"a graphics card", "<panic", "<video><model type='virtio'><acceleration accel3d='yes'/></model></video><panic",
		"/domain/devices/video/model/acceleration/@accel3d", "yes", "can not be migrated"},
	{"a TPM of the host", "<panic", "<tpm><backend type='passthrough'/></tpm><panic",
		"/domain/devices/tpm/backend/@type", "passthrough", "a second host"},
	{"a folder of the host", "<panic", "<filesystem type='mount'/><panic", "/domain/devices/filesystem", "type=mount", "tied to one host"},
	{"shared memory", "<panic", "<shmem name='x'/><panic", "/domain/devices/shmem", "name=x", "tied to one host"},
	{"a device of tomorrow", "<panic", "<quantum/><panic", "/domain/devices/quantum", "", "tied to one host"},
	{"a window", "type='vnc'", "type='sdl'", "/domain/devices/graphics/@type", "sdl", "want vnc, spice"},
	{"one host's address", "type='vnc'", "type='vnc' listen='192.0.2.11'", "/domain/devices/graphics/@listen", "192.0.2.11", "all hosts have"},
	{"one host's address in an element", "autoport='yes'/>",
		"><listen type='address' address='192.0.2.11'/></graphics>", "/domain/devices/graphics/listen/@address", "192.0.2.11", "all hosts have"},
	{"another partition", "<pm>", "<resource><partition>/foo</partition></resource><pm>", "/domain/resource/partition",
		"/foo", "want /machine"},
	{"an adapter of the host", "<pm>", "<resource><fibrechannel appid='a'/></resource><pm>",
		"/domain/resource/fibrechannel", "", "not looked at"},
	{"counters of the host's kernel", "<pm>", "<perf><event name='cmt' enabled='yes'/></perf><pm>",
		"/domain/perf/event/@name", "cmt", "not looked at"},
	{"CPUs by advice", "<vcpu placement='static'", "<vcpu placement='auto'", "/domain/vcpu/@placement", "auto", "not looked at"},
	{"nodes by advice", "<pm>", "<numatune><memory mode='strict' placement='auto'/></numatune><pm>",
		"/domain/numatune/memory/@placement", "auto", "not looked at"},
	{"caches of the host", "<cputune>", "<cputune><cachetune vcpus='0'/>", "/domain/cputune/cachetune", "", "not looked at"},
	{"all of Hyper-V", "<features>", "<features><hyperv mode='passthrough'/>", "/domain/features/hyperv/@mode",
		"passthrough", "does not migrate"},
	{"a feature of Intel", "<features>", "<features><hyperv mode='custom'><evmcs state='on'/></hyperv>",
		"/domain/features/hyperv/evmcs/@state", "on", "not looked at"},
	{"a feature of the kernel", "<features>", "<features><kvm><dirty-ring state='on' size='4096'/></kvm>",
		"/domain/features/kvm/dirty-ring/@state", "on", "not looked at"},
	{"a format that stays", "type='raw' cache='directsync'", "type='vmdk' cache='directsync'",
		"/domain/devices/disk[2]/driver/@type", "vmdk", "want raw, qcow2"},
	{"a base in a format that stays", "<target dev='vdb' bus='virtio'/>",
		"<target dev='vdb'/><backingStore type='file'><format type='qcow2'/><source " +
			"file='/srv/shared/mngt/b'/><backingStore type='file'><format type='vdi'/><source " +
			"file='/srv/shared/mngt/c'/></backingStore></backingStore>",
		"/domain/devices/disk[2]/backingStore/backingStore/format/@type", "vdi", "want raw, qcow2"},
	{"data on one host", "<source file='/srv/shared/mngt/data.img'/>",
		"<source file='/srv/shared/mngt/data.img'><dataStore type='file'><format type='raw'/><source " +
			"file='/var/d'/></dataStore></source>", "/domain/devices/disk[2]/source/dataStore/source/@file", "/var/d", "below ImageFolder"},
	{"data on a device", "<source file='/srv/shared/mngt/data.img'/>",
		"<source file='/srv/shared/mngt/data.img'><dataStore type='block'><source dev='/dev/x'/></dataStore></source>",
		"/domain/devices/disk[2]/source/dataStore/@type", "block", "want file"},
	{"a disk with certificates", "<source file='/srv/shared/mngt/data.img'/>",
		"<source file='/srv/shared/mngt/data.img' tls='yes'/>", "/domain/devices/disk[2]/source/@tls", "yes", "not looked at"},
	{"reservations", "<source file='/srv/shared/mngt/data.img'/>",
		"<source file='/srv/shared/mngt/data.img'><reservations managed='yes'/></source>",
		"/domain/devices/disk[2]/source/reservations", "", "not looked at"},
	{"file descriptors", "<source file='/srv/shared/mngt/data.img'/>",
		"<source file='/srv/shared/mngt/data.img' fdgroup='a'/>", "/domain/devices/disk[2]/source/@fdgroup", "a", "not looked at"},
	{"I/O by the kernel", "io='native'", "io='io_uring'", "/domain/devices/disk[1]/driver/@io", "io_uring", "not looked at"},
	{"an ISO from a server", "<disk type='file' device='cdrom'>",
		"<disk type='network' device='cdrom'><source protocol='http' name='a'/>", "/domain/devices/disk[3]/source/@protocol", "http", "want nbd"},
	{"a bus that stays", "<target dev='vdb' bus='virtio'/>", "<target dev='vdb' bus='nvme'/>",
		"/domain/devices/disk[2]/target/@bus", "nvme", "does not migrate"},
	{"a controller that stays", "<panic", "<controller type='nvme'/><panic", "/domain/devices/controller/@type", "nvme", "does not migrate"},
	{"a whole card", "<interface type='bridge'>", "<interface type='direct'><source dev='eth0' " +
		"mode='passthrough'/></interface><interface type='bridge'>", "/domain/devices/interface[1]/source/@mode",
		"passthrough", "tied to one host"},
	{"a helper of the network", "<interface type='bridge'>",
		"<interface type='user'><backend type='passt'/></interface><interface type='bridge'>",
		"/domain/devices/interface[1]/backend/@type", "passt", "not looked at"},
	{"ports of the host", "<interface type='bridge'>",
		"<interface type='user'><portForward proto='tcp'/></interface><interface type='bridge'>",
		"/domain/devices/interface[1]/portForward", "", "not looked at"},
	{"an address of the host", "<interface type='bridge'>",
		"<interface type='ethernet'><source><ip address='192.0.2.1'/></source></interface><interface type='bridge'>",
		"/domain/devices/interface[1]/source/ip", "", "not looked at"},
	{"a switch of its own", "<source bridge='br_mgmt'/>", "<source bridge='br_mgmt'/><virtualport type='802.1Qbg'/>",
		"/domain/devices/interface/virtualport/@type", "802.1Qbg", "want openvswitch"},
	{"a VLAN of the kernel's bridge", "<source bridge='br_mgmt'/>",
		"<source bridge='br_mgmt'/><vlan><tag id='5'/></vlan>", "/domain/devices/interface/vlan", "", "openvswitch"},
	{"a promise of the network", "<source bridge='br_mgmt'/>",
		"<source bridge='br_mgmt'/><bandwidth><inbound average='1' floor='9'/></bandwidth>",
		"/domain/devices/interface/bandwidth/inbound/@floor", "9", "not looked at"},
	{"a card that stays", "<model type='virtio'/>", "<model type='usb-net'/>", "/domain/devices/interface/model/@type",
		"usb-net", "does not migrate"},
	{"the agent of the screen", "<panic", "<channel type='qemu-vdagent'/><panic", "/domain/devices/channel/@type",
		"qemu-vdagent", "does not migrate"},
	{"a server that must listen", "<panic", "<serial type='tcp'><source mode='connect' host='192.0.2.1' " +
		"service='9'/></serial><panic", "/domain/devices/serial/source/@service", "9", "reconnect"},
	{"a server that must listen, by default", "<panic",
		"<serial type='tcp'><source host='192.0.2.1' service='9'><reconnect enabled='no'/></source></serial><panic",
		"/domain/devices/serial/source/@service", "9", "reconnect"},
	{"a serial port that stays", "<panic", "<serial type='pty'><target type='usb-serial'/></serial><panic",
		"/domain/devices/serial/target/@type", "usb-serial", "does not migrate"},
	{"a port with certificates", "<panic", "<serial type='tcp'><source mode='bind' host='0.0.0.0' service='9' " +
		"tls='yes'/></serial><panic", "/domain/devices/serial/source/@tls", "yes", "not looked at"},
	{"randomness of a server", "<panic", "<rng model='virtio'><backend model='egd' type='tcp'/></rng><panic",
		"/domain/devices/rng/backend/@model", "egd", "want random, builtin"},
	{"a screen by the graphics card", "<graphics type='vnc' port='-1' autoport='yes'/>",
		"<graphics type='spice'><gl enable='yes'/></graphics>", "/domain/devices/graphics/gl/@enable", "yes", "can not be migrated"},
	{"blobs of the graphics card", "<panic", "<video><model type='virtio' blob='on'/></video><panic",
		"/domain/devices/video/model/@blob", "on", "does not migrate"},
	{"sound that stays", "model='ich9'", "model='usb'", "/domain/devices/sound/@model", "usb", "does not migrate"},
	{"sound of one host", "<panic", "<audio id='1' type='pulseaudio'/><panic", "/domain/devices/audio/@type",
		"pulseaudio", "want none, spice, file"},
	{"ciphers that stay", "<panic", "<crypto model='virtio'/><panic", "/domain/devices/crypto", "", "does not migrate"},
	{"an IOMMU that stays", "<panic", "<iommu model='amd'/><panic", "/domain/devices/iommu/@model", "amd", "does not migrate"},
	{"a password", "type='vnc'", "type='vnc' passwd='secret'", "/domain/devices/graphics/@passwd", "(not shown)",
		"the store must not hold it"},
}

func TestCheckRefuses(t *testing.T) {
	for _, c := range bad {
		text := strings.Replace(fixture(t), c.old, c.new, -1)
		if text == fixture(t) {
			t.Fatalf("%s: nothing was changed", c.name)
		}
		faults := parse(t, text).Check(rules)
		found := false
		for _, f := range faults {
			found = found || f.Path == c.path && f.Value == c.value && strings.Contains(f.Want, c.want)
		}
		if !found {
			t.Errorf("%s: got %v, want %s: value %q: ...%s", c.name, faults, c.path, c.value, c.want)
		}
	}
}

// What nobody else locks is allowed with the lock manager; what one need not lock
// may be anywhere.
func TestCheckAllows(t *testing.T) {
	for name, edit := range map[string][2]string{
		"an export":      {"<disk type='file'>\n", "<disk type='network'>\n<source protocol='nbd' name='a'/>"},
		"a block device": {"<disk type='file'>\n", "<disk type='block'>\n<source dev='/dev/disk/by-id/wwn-1'/>"},
		"an ISO":         {"<target dev='sda' bus='sata'/>", "<source file='/var/lib/debian.iso'/><target dev='sda'/>"},
		"a disk only to be read": {"bus='virtio'/>\n    </disk>\n    <disk type='file' device='cdrom'>",
			"bus='virtio'/>\n <readonly/>   </disk>\n    <disk type='file' device='cdrom'>"},
		"a base all share": {"<target dev='vdb' bus='virtio'/>",
			"<target dev='vdb'/><backingStore type='file'><source file='/srv/shared/mngt/base'/><backingStore/></backingStore>"},
		"variables all share":     {"<boot dev='hd'/>", "<nvram template='/t'>/srv/shared/mngt/x.fd</nvram>"},
		"the same, with a source": {"<boot dev='hd'/>", "<nvram type='file'><source file='/srv/shared/mngt/x.fd'/></nvram>"},
	} {
		text := strings.Replace(fixture(t), edit[0], edit[1], 1)
		if text == fixture(t) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if strings.Contains(text, "nbd") || strings.Contains(text, "by-id") {
			text = strings.Replace(text, "<source file='/srv/shared/mngt/data.img'/>", "", 1)
		}
		locked := rules
		locked.Locked = true
		if faults := parse(t, text).Check(locked); len(faults) > 0 {
			t.Errorf("%s: %v", name, faults)
		}
	}
	screen := rules
	screen.Screen = true
	if faults := parse(t, fixture(t)).Check(screen); len(faults) != 1 || faults[0].Path != "/domain/devices/graphics/@type" {
		t.Errorf("two consoles: %v", faults)
	}
}
