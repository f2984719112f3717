package guests

import (
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt/migration"
	"holdfast/testbed/virthost"
)

// TestFacts reads definitions of guests that this machine can not have.
func TestFacts(t *testing.T) {
	s := virthost.NewSysfs(t)
	f, err := New(Options{SysDir: s.Sys, DevDir: s.Dev, Socket: "/no/socket", Shared: []string{"/shared"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it has opened nothing
	disk := func(source string) string {
		return "<disk " + source + "<target dev='vda' bus='virtio'/></disk>"
	}
	for _, c := range []struct {
		name, xml string // within devices
		outside   string
		fixed     []string
		bound     []string
	}{
		{name: "nothing"},
		{name: "file", xml: disk("type='file'><source file='/shared/a'/>")},
		{name: "local iso", xml: disk("type='file' device='cdrom'><source file='/iso/a.iso'/>"),
			fixed: []string{"/iso/a.iso is on this host only"}, bound: []string{"iso"}},
		{name: "multipath", xml: disk("type='block'><source dev='/dev/mapper/mpatha'/>")},
		{name: "local device", xml: disk("type='block'><source dev='/dev/sda'/>"),
			fixed: []string{"/dev/sda is a device of this host only"}, bound: []string{"sda"}},
		{name: "no device", xml: disk("type='block'><source dev='/dev/sdx'/>"),
			fixed: []string{"not known whether other hosts"}, bound: []string{"sdx"}},
		{name: "nbd here", xml: disk("type='network'><source protocol='nbd' name='x'><host name='127.0.0.1' " +
			"port='1'/></source>"), fixed: []string{"served by this host"}, bound: []string{"nbd:x"}},
		{name: "iscsi", xml: disk("type='network'><source protocol='iscsi' name='iqn.a:b/1'><host name='10.0.0.1' port='3260'/></source>")},
		{name: "nvme", xml: disk("type='nvme'><source type='pci' managed='yes' namespace='1'><address domain='0' " +
			"bus='1' slot='0' function='0'/></source>"), fixed: []string{"NVMe"}, bound: []string{"NVMe"}},
		{name: "dir", xml: disk("type='dir'><source dir='/d'/>"), fixed: []string{"directory /d"}, bound: []string{"/d"}},
		{name: "volume without libvirtd", xml: disk("type='volume'><source pool='p' volume='v'/>"),
			fixed: []string{"volume p/v"}, bound: []string{"p/v"}},
		{name: "transient disk", xml: disk("type='file'><source file='/shared/a'/><transient/>"), fixed: []string{"transient"}},
		{name: "mdev", xml: `<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='4b20d080-1b54-4048-85b3-a6a62d165c01'/></source></hostdev>`,
			fixed: []string{"mediated device 4b20d080"}, bound: []string{"mediated"}},
		{name: "card", xml: `<interface type='hostdev'><mac address='52:54:00:00:00:01'/><source><address type='pci' domain='0' bus='0' slot='7' function='0'/></source></interface>`,
			fixed: []string{"52:54:00:00:00:01"}, bound: []string{"network card"}},
		{name: "card with a stand-in",
			xml: `<interface type='hostdev'><mac address='52:54:00:00:00:01'/><source><address type='pci' domain='0' bus='0' slot='7' function='0'/></source><teaming type='transient' persistent='ua-b'/></interface>`},
		{name: "9p", xml: `<filesystem type='mount'><source dir='/srv'/><target dir='srv'/></filesystem>`,
			fixed: []string{"srv (filesystem)"}, bound: []string{"srv"}},
		{name: "shmem", xml: `<shmem name='s'><model type='ivshmem-plain'/></shmem>`, fixed: []string{"shmem"}},
		{name: "tpm of the host", xml: `<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>`,
			fixed: []string{"TPM of this host"}, bound: []string{"TPM"}},
		{name: "tpm", xml: `<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>`, bound: []string{"state of its TPM"}},
		{name: "serial", xml: `<serial type='dev'><source path='/dev/ttyS0'/><target port='0'/></serial>`,
			fixed: []string{"/dev/ttyS0"}, bound: []string{"ttyS0"}},
		{name: "pmem", xml: `<memory model='nvdimm'><source><path>/pm</path></source><target><size unit='MiB'>1</size><node>0</node></target></memory>`, fixed: []string{"/pm"}, bound: []string{"/pm"}},
		{name: "nvram", outside: "<os><type>hvm</type><nvram>/var/lib/n</nvram></os>", bound: []string{"nvram"}},
		{name: "sev", outside: "<launchSecurity type='sev'><policy>0x1</policy></launchSecurity>", fixed: []string{"encrypted"}},
		{name: "tsc", outside: "<cpu mode='host-model'><feature policy='require' name='invtsc'/></cpu>", fixed: []string{"invtsc"}},
		{name: "tsc with frequency", outside: "<cpu><feature policy='require' name='invtsc'/></cpu><clock " +
			"offset='utc'><timer name='tsc' frequency='2000000000'/></clock>"},
	} {
		var def libvirtxml.Domain
		if err := def.Unmarshal("<domain type='kvm'><name>x</name>" + c.outside + "<devices>" + c.xml + "</devices></domain>"); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var v VM
		v.describe(&def, f.pools.Look(t.Context()))
		wantText(t, c.name+" fixed", v.Fixed, c.fixed)
		wantText(t, c.name+" bound", v.Bound, c.bound)
	}
}

func TestFactsInFigures(t *testing.T) {
	var def libvirtxml.Domain
	if err := def.Unmarshal(`<domain type='kvm'><name>x</name><memory unit='GiB'>3</memory><vcpu current='2'>8</vcpu><cpu mode='host-passthrough'/>
		<devices><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel></devices></domain>`); err != nil {
		t.Fatal(err)
	}
	var v VM
	v.describe(&def, nil)
	if v.MemoryMiB != 3072 || v.VCPUs != 2 || !v.HostCPU || !v.Agent || v.CPUMode != "host-passthrough" {
		t.Errorf("%+v", v)
	}
	for unit, want := range map[string]uint64{"": 2048, "KiB": 2048, "k": 2048, "b": 2, "KB": 2000, "MB": 2e6,
		"MiB": 2 << 20, "GB": 2e9, "TiB": 2 << 40} {
		if got := toBytes(2, unit); got != want {
			t.Errorf("2 %s are %d, want %d", unit, got, want)
		}
	}
	for text, want := range map[string]string{
		`<libosinfo:os id="http://centos.org/centos/6.5"/>`:  "centos6.5",
		`<libosinfo:os id='http://microsoft.com/win/2k19'/>`: "win2k19", `<other/>`: "",
	} {
		if got := systemOf(text); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got := version(10_002_003); got != "10.2.3" {
		t.Errorf("version %s", got)
	}
}

// TestPlaces has the states that a libvirtd leaves behind and no test can bring about.
func TestPlaces(t *testing.T) {
	out := migration.Operation{Active: true, Kind: golibvirt.DomainJobOperationStrMigrationOut}
	for _, c := range []struct {
		state  golibvirt.DomainState
		reason golibvirt.DomainPausedReason
		op     migration.Operation
		want   Place
	}{
		{golibvirt.DomainRunning, 0, migration.Operation{}, Here},
		{golibvirt.DomainRunning, 0, out, Leaving},
		{golibvirt.DomainPaused, golibvirt.DomainPausedMigration, out, Leaving}, // its last step
		{golibvirt.DomainPaused, golibvirt.DomainPausedMigration, migration.Operation{Active: true, Incoming: true}, Arriving},
		{golibvirt.DomainPaused, golibvirt.DomainPausedMigration, migration.Operation{}, Unclear},
		{golibvirt.DomainPaused, golibvirt.DomainPausedPostcopyFailed, migration.Operation{}, Unclear},
		{golibvirt.DomainPaused, golibvirt.DomainPausedUser, migration.Operation{}, Here},
		{golibvirt.DomainPaused, golibvirt.DomainPausedIoerror, migration.Operation{}, Here},
		{golibvirt.DomainCrashed, 0, migration.Operation{}, Here},
		{golibvirt.DomainShutoff, 0, migration.Operation{}, Off},
	} {
		w := placeOf(c.state, c.reason, c.op, true)
		if w.Place != c.want || c.want == Unclear && w.Note == "" || w.Moved != (c.want == Off) {
			t.Errorf("state %d, reason %d, %+v: %+v, want %s", c.state, c.reason, c.op, w, c.want)
		}
	}
}

func TestAProtectedGuestHasAUUID(t *testing.T) {
	if _, err := New(Options{Protected: []string{"x"}}); err == nil {
		t.Error("another word was taken")
	}
}
