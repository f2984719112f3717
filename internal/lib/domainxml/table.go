package domainxml

import (
	"slices"
	"strings"
)

// Kind says what the value of a place is to a host that starts the domain.
type Kind string

// What a host must have.
const (
	File      Kind = "file"       // that QEMU reads
	Disk      Kind = "disk"       // a file or a block device, by its path
	Program   Kind = "program"    // its path, or a name that is looked for in PATH
	Made      Kind = "made"       // QEMU or libvirt makes it: its directory must be there
	Variables Kind = "template"   // of the variables of UEFI: needed until those are there, see Domain.Variables
	Firmware  Kind = "firmware"   // whose template libvirt must know, the same; Need.At is the machine's architecture
	Device    Kind = "device"     // a device's node
	Bridge    Kind = "bridge"     // of the kernel
	Interface Kind = "interface"  // of the kernel, of any kind
	Network   Kind = "network"    // of libvirt, active
	Filter    Kind = "filter"     // of libvirt
	Secret    Kind = "secret"     // of libvirt, by its UUID
	Usage     Kind = "usage"      // of libvirt, by its usage
	CPUs      Kind = "CPUs"       // numbers of the host's
	Nodes     Kind = "nodes"      // numbers of the host's
	Hugepages Kind = "hugepages"  // their size in KiB, 0: the default; Need.MiB of them
	Cgroup    Kind = "controller" // of control groups
	Security  Kind = "security"   // of libvirt
	Keymap    Kind = "keymap"     // of QEMU
	Export    Kind = "export"     // of an NBD server, as a URI; Need.At is its attribute tls, yes, no or none
	Listener  Kind = "listener"   // a Unix socket on which somebody listens
)

// What only one on a host can have.
const (
	Port    Kind = "tcp"    // Need.At is the address, "" that of libvirt's configuration
	UDPPort Kind = "udp"    // the same
	Socket  Kind = "socket" // QEMU listens on it; its directory must be there
	CID     Kind = "cid"
	Tap     Kind = "tap" // its name
)

// Unique reports whether only one on a host can have it.
func (k Kind) Unique() bool { return slices.Contains([]Kind{Port, UDPPort, Socket, CID, Tap}, k) }

// rule says what a place means to a host (kind), or which values it can not have (only,
// never). name is the need's value when it is not that of the place.
type rule struct {
	at   string
	kind Kind
	name string

	only  []string // values, "-" for a missing one
	never []string // values, "*" for any
	why   string
}

// character are the devices with another end on the host.
const character = "devices/serial|parallel|console|channel|redirdev"

// table is of all places of a domain that mean something to a host. What is in libvirt's schema and
// not here is in testdata/harmless.txt, with the reason.
var table = []rule{
	{at: ".[type=kvm]", kind: Device, name: "/dev/kvm"},
	{at: "os/loader|kernel|initrd|dtb", kind: File},
	{at: "os/acpi/table", kind: File},
	{at: "os/nvram/@template", kind: Variables},
	{at: "os[nvram.template=]/loader[type=pflash][stateless=no|]", kind: Firmware},
	{at: "sysinfo[type=fwcfg]/entry/@file", kind: File},
	{at: "launchSecurity/@type", never: []string{"*"}, why: "encrypted memory can not be migrated: remove it"},
	{at: "resource/partition", only: []string{"-", "/machine"}, why: notLooked},
	{at: "resource/fibrechannel", never: []string{"*"}, why: notLooked},
	{at: "seclabel/@model", kind: Security},
	{at: "perf/event[enabled=yes]/@name", never: []string{"*"}, why: notLooked},

	// Processors and memory.
	{at: "cpu/@migratable", never: []string{"off"}, why: "such a CPU can not be migrated"},
	{at: "features/hyperv/@mode", never: []string{"passthrough"}, why: notMigrated},
	{at: "features/hyperv/evmcs/@state", never: []string{"on"}, why: notLooked},
	{at: "features/kvm/dirty-ring/@state", never: []string{"on"}, why: notLooked},
	{at: "vcpu/@cpuset", kind: CPUs},
	{at: "vcpu/@placement", never: []string{"auto"}, why: notLooked}, // libvirtd asks numad at a start
	{at: "cputune/vcpupin|emulatorpin|iothreadpin/@cpuset", kind: CPUs},
	{at: "cputune/shares|period|quota|global_period|global_quota|emulator_period|emulator_quota|iothread_period|iothread_quota",
		kind: Cgroup, name: "cpu"},
	{at: "cputune/cachetune|memorytune", never: []string{"*"}, why: notLooked},
	{at: "memtune/*", kind: Cgroup, name: "memory"},
	{at: "blkiotune", kind: Cgroup, name: "io"},
	{at: "blkiotune/device/path", kind: Device},
	{at: "numatune/memory|memnode/@nodeset", kind: Nodes},
	{at: "numatune/memory/@placement", never: []string{"auto"}, why: notLooked},
	{at: "memoryBacking/hugepages[page.size=]", kind: Hugepages},
	{at: "memoryBacking/hugepages/page/@size", kind: Hugepages},
	{at: "devices/memory/source/nodemask", kind: Nodes},
	{at: "devices/memory/source/pagesize", kind: Hugepages},
	{at: "devices/memory/@model", only: []string{"dimm", "virtio-mem"}, why: "its content lies on one host"},

	{at: "devices/emulator", kind: Program},
	{at: "devices/*/rom/@file", kind: File},

	// Disks. What Check wants of those that are written to is in disk.
	{at: "devices/disk/source[startupPolicy=|mandatory|requisite]/@file|@dev", kind: Disk},
	{at: "devices/disk/source/dataStore/source/@file|@dev", kind: Disk},
	{at: "devices/disk/backingStore+/source/@file|@dev", kind: Disk},
	{at: "devices/disk/backingStore+/source/dataStore/source/@file|@dev", kind: Disk},
	{at: "devices/disk[type=network]/source[protocol=nbd]", kind: Export},
	{at: "devices/disk/driver/@type", only: []string{"-", "raw", "qcow2"}, why: whyFormat},
	{at: "devices/disk/source/dataStore/format/@type", only: []string{"-", "raw"}, why: whyFormat},
	{at: "devices/disk/backingStore+/format/@type", only: []string{"-", "raw", "qcow2"}, why: whyFormat},
	{at: "devices/disk[type=file|block|]/source/@tls", never: []string{"yes"}, why: notLooked},
	{at: "devices/disk/source/@fdgroup", never: []string{"*"}, why: notLooked},
	{at: "devices/disk/source/reservations", never: []string{"*"}, why: notLooked},
	{at: "devices/disk/driver/@io", never: []string{"io_uring"}, why: notLooked},
	{at: "devices/disk/@rawio", never: []string{"yes"}, why: whyHost},
	{at: "devices/disk/target/@bus", never: []string{"nvme"}, why: notMigrated},
	{at: "devices/disk/auth|encryption/secret/@uuid", kind: Secret},
	{at: "devices/disk/auth|encryption/secret/@usage", kind: Usage},
	{at: "devices/disk/source/auth|encryption/secret/@uuid", kind: Secret},
	{at: "devices/disk/source/auth|encryption/secret/@usage", kind: Usage},
	{at: "devices/disk/backingStore+/source/auth|encryption/secret/@uuid", kind: Secret},
	{at: "devices/disk/backingStore+/source/auth|encryption/secret/@usage", kind: Usage},
	{at: "devices/disk/source/seclabel/@model", kind: Security},
	{at: "devices/disk/backingStore+/source/seclabel/@model", kind: Security},
	{at: "devices/controller/@type", never: []string{"nvme"}, why: notMigrated},

	// Network cards.
	{at: "devices/interface/@type", only: []string{"bridge", "network", "direct", "ethernet", "user"}, why: whyHost},
	{at: "devices/interface[type=bridge][virtualport.type=]/source/@bridge", kind: Bridge},
	{at: "devices/interface[type=bridge][virtualport.type=openvswitch]/source/@bridge", kind: Interface},
	{at: "devices/interface[type=network]/source/@network", kind: Network},
	{at: "devices/interface[type=direct]/source/@dev", kind: Interface},
	{at: "devices/interface/source/@mode", never: []string{"passthrough"}, why: whyHost},
	{at: "devices/interface/target[managed=no]/@dev", kind: Interface},
	{at: "devices/interface/target[managed=yes|]/@dev", kind: Tap},
	{at: "devices/interface/filterref/@filter", kind: Filter},
	{at: "devices/interface/script|downscript/@path", kind: Program},
	{at: "devices/interface/backend/@tap|@vhost", kind: Device},
	{at: "devices/interface/backend/@type", never: []string{"passt"}, why: notLooked},
	{at: "devices/interface/portForward", never: []string{"*"}, why: notLooked},
	{at: "devices/interface/source/ip|route", never: []string{"*"}, why: notLooked},
	{at: "devices/interface/virtualport/@type", only: []string{"-", "openvswitch"}, why: notLooked},
	{at: "devices/interface[type=bridge|direct][virtualport.type=]/vlan", never: []string{"*"},
		why: "want a virtualport of type openvswitch: a bridge of the kernel does not take it"},
	{at: "devices/interface/bandwidth", kind: Program, name: "tc"},
	{at: "devices/interface/bandwidth/inbound/@floor", never: []string{"*"}, why: notLooked},
	{at: "devices/interface/driver[name=vhost]", kind: Device, name: "/dev/vhost-net"},
	{at: "devices/interface/model/@type", never: []string{"usb-net"}, why: notMigrated},

	// What has another end on the host.
	{at: character + "/@type", never: []string{"qemu-vdagent"}, why: notMigrated},
	{at: character + "/@type", only: []string{"pty", "unix", "tcp", "udp", "file", "null", "vc", "spicevmc", "spiceport"}, why: whyHost},
	{at: character + "[type=file]/source/@path", kind: Made},
	{at: character + "[type=unix]/source[mode=bind]/@path", kind: Socket},
	{at: character + "[type=unix]/source[mode=connect|]/@path", kind: Listener},
	{at: character + "[type=tcp]/source[mode=bind]/@service", kind: Port},
	{at: character + "[type=tcp]/source[mode=connect|][reconnect.enabled=no|]/@service", never: []string{"*"}, why: whyConnect},
	{at: character + "[type=udp]/source[mode=bind]/@service", kind: UDPPort},
	{at: "devices/serial/target/@type", never: []string{"usb-serial"}, why: notMigrated},
	{at: character + "/source/@tls", never: []string{"yes"}, why: notLooked},
	{at: character + "/source/seclabel/@model", kind: Security},
	{at: character + "/log/@file", kind: Made},
	{at: "devices/rng/backend/@model", only: []string{"random", "builtin"}, why: notLooked},
	{at: "devices/rng/backend[model=random]", kind: Device},
	{at: "devices/vsock", kind: Device, name: "/dev/vhost-vsock"},
	{at: "devices/vsock/cid[auto=no|]/@address", kind: CID},

	// Screen, sound, input.
	{at: "devices/graphics/@type", only: []string{"vnc", "spice"}, why: whyHost},
	{at: "devices/graphics[autoport=no|]/@port|@tlsPort", kind: Port},
	{at: "devices/graphics/@websocket", kind: Port},
	{at: "devices/graphics/@socket", kind: Socket},
	{at: "devices/graphics/listen/@socket", kind: Socket},
	{at: "devices/graphics/listen/@network", kind: Network},
	{at: "devices/graphics/@keymap", kind: Keymap},
	{at: "devices/graphics/gl/@enable", never: []string{"yes"}, why: "a guest that draws by the host's graphics card can not be migrated"},
	{at: "devices/video/model/acceleration/@accel3d", never: []string{"yes"},
		why: "a guest that draws by the host's graphics card can not be migrated"},
	{at: "devices/video/model/@blob", never: []string{"on"}, why: notMigrated},
	{at: "devices/video/driver/@name", never: []string{"vhostuser"}, why: whyHost},
	{at: "devices/sound/@model", never: []string{"usb", "virtio"}, why: notMigrated},
	{at: "devices/audio/@type", only: []string{"-", "none", "spice", "file"}, why: whyHost},
	{at: "devices/input/@type", only: []string{"mouse", "tablet", "keyboard"}, why: whyHost},
	{at: "devices/crypto", never: []string{"*"}, why: notMigrated},
	{at: "devices/iommu/@model", never: []string{"amd"}, why: notMigrated},
}

// patterns are those of table, in its order.
var patterns = func() (out []pattern) {
	for _, r := range table {
		out = append(out, parsePattern(r.at))
	}
	return out
}()

// refused says whether a rule refuses a place. An element counts when it is there, an attribute
// of never when it is.
func (r rule) refused(p place) bool {
	value := p.value
	if value == "" {
		value = "-"
	}
	return slices.Contains(r.never, value) || slices.Contains(r.never, "*") && (p.attr == "" || p.value != "") ||
		len(r.only) > 0 && !slices.Contains(r.only, value)
}

// want says what is allowed in place of what was refused.
func (r rule) want() string {
	if len(r.only) == 0 {
		return r.why
	}
	return "want " + strings.TrimPrefix(strings.Join(r.only, ", "), "-, ") + ": " + r.why
}
