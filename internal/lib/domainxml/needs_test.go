package domainxml

import (
	"slices"
	"strings"
	"testing"
)

// needed are elements, put into a domain, and what they make it need.
var needed = []struct {
	top, device string
	want        Need
}{
	{top: `<sysinfo type="fwcfg"><entry name="opt/a" file="/etc/a"/></sysinfo>`,
		want: Need{Kind: File, Value: "/etc/a", What: "/domain/sysinfo/entry/@file"}},
	{top: `<os><acpi><table type="slic">/etc/slic</table></acpi></os>`,
		want: Need{Kind: File, Value: "/etc/slic", What: "/domain/os/acpi/table"}},
	{top: `<os><kernel>/k</kernel></os>`, want: Need{Kind: File, Value: "/k", What: "/domain/os/kernel"}},
	{top: `<os><dtb>/d</dtb></os>`, want: Need{Kind: File, Value: "/d", What: "/domain/os/dtb"}},
	{top: `<os><nvram template="/t">/v</nvram></os>`, want: Need{Kind: Variables, Value: "/t", What: "/domain/os/nvram/@template"}},
	{top: `<os><nvram template="/t"><source file="/v"/></nvram></os>`,
		want: Need{Kind: Variables, Value: "/t", What: "/domain/os/nvram/@template"}},
	{top: `<os><type arch="x86_64">hvm</type><loader type="pflash">/l</loader><nvram>/v</nvram></os>`,
		want: Need{Kind: Firmware, Value: "/l", At: "x86_64", What: "/domain/os/loader"}},
	{top: `<seclabel model="selinux"/>`, want: Need{Kind: Security, Value: "selinux", What: "/domain/seclabel/@model"}},
	{top: `<vcpu cpuset="0-3,^2">2</vcpu>`, want: Need{Kind: CPUs, Value: "0-3,^2", What: "/domain/vcpu/@cpuset"}},
	{top: `<cputune><emulatorpin cpuset="64"/></cputune>`, want: Need{Kind: CPUs, Value: "64", What: "/domain/cputune/emulatorpin/@cpuset"}},
	{top: `<cputune><vcpupin vcpu="0" cpuset="2"/><vcpupin vcpu="1" cpuset="3"/></cputune>`,
		want: Need{Kind: CPUs, Value: "3", What: "/domain/cputune/vcpupin[2]/@cpuset"}},
	{top: `<cputune><shares>7</shares></cputune>`, want: Need{Kind: Cgroup, Value: "cpu", What: "/domain/cputune/shares"}},
	{top: `<memtune><hard_limit>7</hard_limit></memtune>`, want: Need{Kind: Cgroup, Value: "memory", What: "/domain/memtune/hard_limit"}},
	{top: `<blkiotune><device><path>/dev/sda</path></device></blkiotune>`,
		want: Need{Kind: Device, Value: "/dev/sda", What: "/domain/blkiotune/device/path"}},
	{top: `<numatune><memory mode="strict" nodeset="1"/></numatune>`,
		want: Need{Kind: Nodes, Value: "1", What: "/domain/numatune/memory/@nodeset"}},
	{top: `<numatune><memnode cellid="0" nodeset="5"/></numatune>`,
		want: Need{Kind: Nodes, Value: "5", What: "/domain/numatune/memnode/@nodeset"}},
	{top: `<memoryBacking><hugepages/></memoryBacking>`,
		want: Need{Kind: Hugepages, Value: "0", MiB: 2048, What: "/domain/memoryBacking/hugepages"}},
	{top: `<memoryBacking><hugepages><page size="1" unit="GiB"/></hugepages></memoryBacking>`,
		want: Need{Kind: Hugepages, Value: "1048576", MiB: 2048, What: "/domain/memoryBacking/hugepages/page/@size"}},
	{top: `<memoryBacking><hugepages><page size="2048" nodeset="0"/></hugepages></memoryBacking>`,
		want: Need{Kind: Hugepages, Value: "2048", What: "/domain/memoryBacking/hugepages/page/@size"}},

	{device: `<emulator>/usr/bin/qemu</emulator>`, want: Need{Kind: Program, Value: "/usr/bin/qemu", What: "/emulator"}},
	{device: `<interface type="network"><source network="n"/><rom file="/r"/></interface>`,
		want: Need{Kind: File, Value: "/r", What: "/interface/rom/@file"}},
	{device: `<interface type="network"><source network="n"/></interface>`,
		want: Need{Kind: Network, Value: "n", What: "/interface/source/@network"}},
	{device: `<interface type="bridge"><source bridge="b"/></interface>`,
		want: Need{Kind: Bridge, Value: "b", What: "/interface/source/@bridge"}},
	{device: `<interface type="bridge"><source bridge="b"/><virtualport type="openvswitch"/></interface>`,
		want: Need{Kind: Interface, Value: "b", What: "/interface/source/@bridge"}},
	{device: `<interface type="direct"><source dev="eth1"/></interface>`,
		want: Need{Kind: Interface, Value: "eth1", What: "/interface/source/@dev"}},
	{device: `<interface type="bridge"><filterref filter="f"/></interface>`,
		want: Need{Kind: Filter, Value: "f", What: "/interface/filterref/@filter"}},
	{device: `<interface type="bridge"><target dev="mine"/></interface>`,
		want: Need{Kind: Tap, Value: "mine", What: "/interface/target/@dev"}},
	{device: `<interface type="ethernet"><target dev="mine" managed="no"/></interface>`,
		want: Need{Kind: Interface, Value: "mine", What: "/interface/target/@dev"}},
	{device: `<interface type="bridge"><driver name="vhost"/></interface>`,
		want: Need{Kind: Device, Value: "/dev/vhost-net", What: "/interface/driver"}},
	{device: `<interface type="ethernet"><script path="/s"/></interface>`,
		want: Need{Kind: Program, Value: "/s", What: "/interface/script/@path"}},
	{device: `<interface type="bridge"><bandwidth/></interface>`, want: Need{Kind: Program, Value: "tc", What: "/interface/bandwidth"}},
	{device: `<disk type="file"><source file="/f"/></disk>`, want: Need{Kind: Disk, Value: "/f", Write: true, What: "/disk/source/@file"}},
	{device: `<disk type="file" device="cdrom"><source file="/f"/></disk>`, want: Need{Kind: Disk, Value: "/f", What: "/disk/source/@file"}},
	{device: `<disk type="file"><source file="/f"><dataStore type="file"><source file="/d"/></dataStore></source></disk>`,
		want: Need{Kind: Disk, Value: "/d", Write: true, What: "/disk/source/dataStore/source/@file"}},
	{device: `<disk type="file"><source file="/f"/><backingStore/></disk>`,
		want: Need{Kind: Disk, Value: "/f", Write: true, Chain: true, What: "/disk/source/@file"}},
	{device: `<disk type="file"><backingStore><source file="/a"/><backingStore><source file="/b"/></backingStore></backingStore></disk>`,
		want: Need{Kind: Disk, Value: "/b", What: "/disk/backingStore/backingStore/source/@file"}},
	{device: `<disk type="network"><source protocol="nbd" name="a b"><host name="::1" port="7"/></source></disk>`,
		want: Need{Kind: Export, Value: "nbd://[::1]:7/a%20b", Write: true, What: "/disk/source"}},
	{device: `<disk type="network"><source protocol="nbd" name="a"><host transport="unix" socket="/s"/></source></disk>`,
		want: Need{Kind: Export, Value: "nbd+unix:///a?socket=%2Fs", Write: true, What: "/disk/source"}},
	{device: `<disk type="network"><source protocol="nbd" name="a" tls="yes" tlsHostname="s b"><host name="h"/></source></disk>`,
		want: Need{Kind: Export, Value: "nbds://h/a?tls-hostname=s+b", At: "yes", Write: true, What: "/disk/source"}},
	{device: `<disk type="network"><source protocol="nbd" name="a" tls="no"><host name="h"/></source></disk>`,
		want: Need{Kind: Export, Value: "nbd://h/a", At: "no", Write: true, What: "/disk/source"}},
	{device: `<disk type="network"><source protocol="nbd" name="a" tls="yes"><host transport="unix" socket="/s"/></source></disk>`,
		want: Need{Kind: Export, Value: "nbds+unix:///a?socket=%2Fs", At: "yes", Write: true, What: "/disk/source"}},
	{device: `<disk type="file"><source file="/f"><encryption format="luks"><secret type="passphrase" uuid="u"/></encryption></source></disk>`, want: Need{Kind: Secret, Value: "u", Write: true, What: "/disk/source/encryption/secret/@uuid"}},
	{device: `<disk type="file"><encryption format="luks"><secret type="passphrase" usage="x"/></encryption></disk>`,
		want: Need{Kind: Usage, Value: "x", Write: true, What: "/disk/encryption/secret/@usage"}},
	{device: `<serial type="unix"><source mode="bind" path="/run/a"/></serial>`,
		want: Need{Kind: Socket, Value: "/run/a", What: "/serial/source/@path"}},
	{device: `<console type="unix"><source mode="connect" path="/run/a"/></console>`,
		want: Need{Kind: Listener, Value: "/run/a", What: "/console/source/@path"}},
	{device: `<console type="unix"><source path="/run/a"/></console>`,
		want: Need{Kind: Listener, Value: "/run/a", What: "/console/source/@path"}},
	{device: `<channel type="file"><source path="/var/a"/></channel>`, want: Need{Kind: Made, Value: "/var/a", What: "/channel/source/@path"}},
	{device: `<serial type="pty"><log file="/var/a"/></serial>`, want: Need{Kind: Made, Value: "/var/a", What: "/serial/log/@file"}},
	{device: `<serial type="tcp"><source mode="bind" host="127.0.0.1" service="4555"/></serial>`,
		want: Need{Kind: Port, Value: "4555", At: "127.0.0.1", What: "/serial/source/@service"}},
	{device: `<serial type="udp"><source mode="connect" host="h" service="1"/><source mode="bind" host="127.0.0.1" service="4555"/></serial>`, want: Need{Kind: UDPPort, Value: "4555", At: "127.0.0.1", What: "/serial/source[2]/@service"}},
	{device: `<graphics type="vnc" port="5900" listen="127.0.0.1"/>`,
		want: Need{Kind: Port, Value: "5900", At: "127.0.0.1", What: "/graphics/@port"}},
	{device: `<graphics type="spice" tlsPort="5901" autoport="no"><listen type="address" address="0.0.0.0"/></graphics>`,
		want: Need{Kind: Port, Value: "5901", At: "0.0.0.0", What: "/graphics/@tlsPort"}},
	{device: `<graphics type="vnc" autoport="yes" websocket="5700"/>`, want: Need{Kind: Port, Value: "5700", What: "/graphics/@websocket"}},
	{device: `<graphics type="vnc"><listen type="socket" socket="/run/a"/></graphics>`,
		want: Need{Kind: Socket, Value: "/run/a", What: "/graphics/listen/@socket"}},
	{device: `<graphics type="vnc"><listen type="network" network="n"/></graphics>`,
		want: Need{Kind: Network, Value: "n", What: "/graphics/listen/@network"}},
	{device: `<graphics type="vnc" keymap="de"/>`, want: Need{Kind: Keymap, Value: "de", What: "/graphics/@keymap"}},
	{device: `<vsock><cid auto="no" address="3"/></vsock>`, want: Need{Kind: CID, Value: "3", What: "/vsock/cid/@address"}},
	{device: `<vsock><cid auto="yes"/></vsock>`, want: Need{Kind: Device, Value: "/dev/vhost-vsock", What: "/vsock"}},
	{device: `<rng model="virtio"><backend model="random">/dev/hwrng</backend></rng>`,
		want: Need{Kind: Device, Value: "/dev/hwrng", What: "/rng/backend"}},
	{device: `<memory model="dimm"><source><nodemask>1-3</nodemask></source></memory>`,
		want: Need{Kind: Nodes, Value: "1-3", What: "/memory/source/nodemask"}},
	{device: `<memory model="dimm"><source><pagesize unit="KiB">2048</pagesize></source><target><size unit="GiB">1</size></target></memory>`, want: Need{Kind: Hugepages, Value: "2048", MiB: 1024, What: "/memory/source/pagesize"}},
}

func needing(top, device string) string {
	return `<domain type="qemu"><memory unit="GiB">2</memory>` + top + "<devices>" + device + "</devices></domain>"
}

func TestNeeds(t *testing.T) {
	for _, c := range needed {
		if c.device != "" {
			c.want.What = "/domain/devices" + c.want.What
		}
		if got := parse(t, needing(c.top, c.device)).Needs(); !slices.Contains(got, c.want) {
			t.Errorf("%s%s: %+v, want %+v", c.top, c.device, got, c.want)
		}
	}
	if got := parse(t, `<domain type="kvm"/>`).Needs(); !slices.Equal(got, []Need{{Kind: Device, Value: "/dev/kvm", What: "/domain"}}) {
		t.Errorf("KVM: %+v", got)
	}
}

// What libvirt chooses itself, forgets, or does without is not needed.
func TestNeedsNothing(t *testing.T) {
	for _, device := range []string{
		`<graphics type="vnc" port="-1"/>`,
		`<graphics type="vnc" port="5900" autoport="yes"/>`,
		`<interface type="bridge"><target dev="vnet3"/></interface>`,
		`<disk type="file"><source file="/f"/><alias name="ua-holdfast-seed"/></disk>`,
		`<disk type="file" device="cdrom"><source file="/f" startupPolicy="optional"/></disk>`,
		`<serial type="pty" tty="/dev/pts/3"><source path="/dev/pts/3"/></serial>`,
	} {
		if got := parse(t, needing(`<seclabel type="none" model="none"/>`, device)).Needs(); len(got) > 0 {
			t.Errorf("%s: %+v", device, got)
		}
	}
}

// No need is lost when Holdfast's own is put in.
func TestNeedsOfWhatIsCompleted(t *testing.T) {
	d := parse(t, fixture(t))
	text, err := d.Complete(ours())
	if err != nil {
		t.Fatal(err)
	}
	got := parse(t, text).Needs()
	for _, n := range d.Needs() {
		if !slices.ContainsFunc(got, func(g Need) bool { g.What = n.What; return g == n }) { // a disk more is there
			t.Errorf("%+v is gone", n)
		}
	}
}

func TestVariables(t *testing.T) {
	for text, want := range map[string]string{"": "", "<nvram>/v</nvram>": "/v",
		"<nvram type='file'><source file='/w'/></nvram>": "/w", "<nvram template='/t'/>": ""} {
		if got := parse(t, "<domain><os>"+text+"</os></domain>").Variables(); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string][]int{"0": {0}, "0-3,^2,8": {0, 1, 3, 8}, " 1 , 2": {1, 2}, "2,1": {1, 2}} {
		if got, err := Numbers(text, 16); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "a", "3-1", "-1", "1,,2", "16", "0-99999999999"} {
		if got, err := Numbers(text, 16); err == nil || !strings.Contains(err.Error(), "want numbers below 16") {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
