package domainxml

import (
	"slices"
	"strings"
)

// Kind says what the value of a place is to a host that starts the domain.
type Kind string

// What a host must have.
const (
	File      Kind = "file"           // that QEMU reads
	Disk      Kind = "disk"           // a file or a block device, by its path
	Program   Kind = "program"        // its path, or a name that is looked for in PATH
	Made      Kind = "made file"      // QEMU or libvirt makes it: its directory must be there
	Variables Kind = "template"       // of the variables of UEFI: needed until those are there, Need.At
	Device    Kind = "device"         // a device's node
	Bridge    Kind = "bridge"         // of the kernel
	Interface Kind = "interface"      // of the kernel, of any kind
	Network   Kind = "network"        // of libvirt, active
	Filter    Kind = "network filter" // of libvirt
	Secret    Kind = "secret"         // of libvirt, by its UUID
	Usage     Kind = "secret's usage" // of libvirt, by its usage
	CPUs      Kind = "CPUs"           // numbers of the host's
	Nodes     Kind = "NUMA nodes"     // numbers of the host's
	Hugepages Kind = "huge pages"     // their size in KiB, 0: the default; Need.MiB of them
	Cgroup    Kind = "controller"     // of control groups
	Security  Kind = "security model" // of libvirt
	Keymap    Kind = "keymap"         // of QEMU
	Export    Kind = "export"         // of an NBD server, as a URI
	Listener  Kind = "listener"       // a Unix socket on which somebody listens
)

// What only one on a host can have.
const (
	Port    Kind = "TCP port"    // Need.At is the address, "" that of libvirt's configuration
	UDPPort Kind = "UDP port"    // the same
	Socket  Kind = "Unix socket" // QEMU listens on it; its directory must be there
	CID     Kind = "vsock CID"
	Tap     Kind = "tap device" // its name
)

// Unique reports whether only one on a host can have it.
func (k Kind) Unique() bool { return slices.Contains([]Kind{Port, UDPPort, Socket, CID, Tap}, k) }

// rule says what a place means to a host (kind), or which values it can not have (only,
// never). name is the need's value when it is not that of the place.
type rule struct {
	at   string
	kind Kind
	name string

	only  string // words, "-" for a missing one
	never string // words, "*" for any
	why   string
}

// character are the devices with another end on the host.
const character = "devices/serial|parallel|console|channel|redirdev"

// notLooked ends the reasons for which something can not be allowed.
const notLooked = ", which is not looked at on each host: remove it"

// table is of all places of a domain that mean something to a host. What is in libvirt's schema and
// not here is in testdata/harmless.txt, with the reason.
var table = []rule{
	{at: ".[type=kvm]", kind: Device, name: "/dev/kvm"},
	{at: "os/loader|kernel|initrd|dtb", kind: File},
	{at: "os/acpi/table", kind: File},
	{at: "os/nvram/@template", kind: Variables},
	{at: "sysinfo[type=fwcfg]/entry/@file", kind: File},
	{at: "launchSecurity/@type", never: "*", why: "encrypted memory can not be migrated: remove it"},
	{at: "resource/partition", only: "- /machine", why: "whether a host has another one is not looked at"},
	{at: "resource/fibrechannel", never: "*", why: "it is set on a host's own adapter" + notLooked},
	{at: "seclabel/@model", kind: Security},
	{at: "perf/event[enabled=yes]/@name", never: "*", why: "it depends on a host's kernel" + notLooked},

	// Processors and memory.
	{at: "cpu/@migratable", never: "off", why: "such a CPU can not be migrated"},
	{at: "features/hyperv/@mode", never: "passthrough", why: "QEMU does not migrate a guest with it: name the features"},
	{at: "features/hyperv/evmcs/@state", never: "on", why: "Intel's processors have it only" + notLooked},
	{at: "features/kvm/dirty-ring/@state", never: "on", why: "it depends on a host's kernel" + notLooked},
	{at: "vcpu/@cpuset", kind: CPUs},
	{at: "vcpu[placement=auto]", kind: Program, name: "numad"},
	{at: "cputune/vcpupin|emulatorpin|iothreadpin/@cpuset", kind: CPUs},
	{at: "cputune/shares|period|quota|global_period|global_quota|emulator_period|emulator_quota|iothread_period|iothread_quota", kind: Cgroup, name: "cpu"},
	{at: "cputune/cachetune|memorytune", never: "*", why: "it divides the caches of a host's processors" + notLooked},
	{at: "memtune/*", kind: Cgroup, name: "memory"},
	{at: "blkiotune", kind: Cgroup, name: "io"},
	{at: "blkiotune/device/path", kind: Device},
	{at: "numatune/memory|memnode/@nodeset", kind: Nodes},
	{at: "numatune/memory[placement=auto]", kind: Program, name: "numad"},
	{at: "memoryBacking/hugepages[page.size=]", kind: Hugepages},
	{at: "memoryBacking/hugepages/page/@size", kind: Hugepages},
	{at: "devices/memory/source/nodemask", kind: Nodes},
	{at: "devices/memory/source/pagesize", kind: Hugepages},
	{at: "devices/memory/@model", only: "dimm virtio-mem", why: "its content lies on one host"},

	{at: "devices/emulator", kind: Program},
	{at: "devices/*/rom/@file", kind: File},

	// Disks. What Check wants of those that are written to is in disk.
	{at: "devices/disk/source[startupPolicy=|mandatory|requisite]/@file|@dev", kind: Disk},
	{at: "devices/disk/source/dataStore/source/@file|@dev", kind: Disk},
	{at: "devices/disk/backingStore+/source/@file|@dev", kind: Disk},
	{at: "devices/disk/backingStore+/source/dataStore/source/@file|@dev", kind: Disk},
	{at: "devices/disk[type=network]/source[protocol=nbd]", kind: Export},
	{at: "devices/disk/driver/@type", only: "- raw qcow2", why: whyFormat},
	{at: "devices/disk/source/dataStore/format/@type", only: "- raw", why: whyFormat},
	{at: "devices/disk/backingStore+/format/@type", only: "- raw qcow2", why: whyFormat},
	{at: "devices/disk/source/@tls", never: "yes", why: "it needs certificates" + notLooked},
	{at: "devices/disk/source/@fdgroup", never: "*", why: "nobody hands libvirt the file descriptors"},
	{at: "devices/disk/source/reservations", never: "*", why: "it needs a helper on the host" + notLooked},
	{at: "devices/disk/driver/@io", never: "io_uring", why: "it depends on a host's kernel: want native or threads"},
	{at: "devices/disk/@rawio", never: "yes", why: whyHost},
	{at: "devices/disk/target/@bus", never: "nvme", why: "QEMU does not migrate such a device"},
	{at: "devices/disk/auth|encryption/secret/@uuid", kind: Secret},
	{at: "devices/disk/auth|encryption/secret/@usage", kind: Usage},
	{at: "devices/disk/source/auth|encryption/secret/@uuid", kind: Secret},
	{at: "devices/disk/source/auth|encryption/secret/@usage", kind: Usage},
	{at: "devices/disk/backingStore+/source/auth|encryption/secret/@uuid", kind: Secret},
	{at: "devices/disk/backingStore+/source/auth|encryption/secret/@usage", kind: Usage},
	{at: "devices/disk/source/seclabel/@model", kind: Security},
	{at: "devices/disk/backingStore+/source/seclabel/@model", kind: Security},
	{at: "devices/controller/@type", never: "nvme", why: "QEMU does not migrate such a device"},

	// Network cards.
	{at: "devices/interface/@type", only: "bridge network direct ethernet user", why: whyHost},
	{at: "devices/interface[type=bridge][virtualport.type=]/source/@bridge", kind: Bridge},
	{at: "devices/interface[type=bridge][virtualport.type=openvswitch]/source/@bridge", kind: Interface},
	{at: "devices/interface[type=network]/source/@network", kind: Network},
	{at: "devices/interface[type=direct]/source/@dev", kind: Interface},
	{at: "devices/interface/source/@mode", never: "passthrough", why: "it takes the whole card of the host: want bridge"},
	{at: "devices/interface/target[managed=no]/@dev", kind: Interface},
	{at: "devices/interface/target[managed=yes|]/@dev", kind: Tap},
	{at: "devices/interface/filterref/@filter", kind: Filter},
	{at: "devices/interface/script|downscript/@path", kind: Program},
	{at: "devices/interface/backend/@tap|@vhost", kind: Device},
	{at: "devices/interface/backend/@type", never: "passt", why: "it is a program of its own on the host" + notLooked},
	{at: "devices/interface/portForward", never: "*", why: "it takes ports of the host" + notLooked},
	{at: "devices/interface/source/ip|route", never: "*", why: "it is an address or a route of the host" + notLooked},
	{at: "devices/interface/virtualport/@type", only: "- openvswitch", why: "it needs a daemon or a switch" + notLooked},
	{at: "devices/interface[type=bridge|direct][virtualport.type=]/vlan", never: "*", why: "want a virtualport of type openvswitch: a bridge of the kernel does not take it"},
	{at: "devices/interface/bandwidth", kind: Program, name: "tc"},
	{at: "devices/interface/bandwidth/inbound/@floor", never: "*", why: "it depends on a network of the host" + notLooked},
	{at: "devices/interface/driver[name=vhost]", kind: Device, name: "/dev/vhost-net"},
	{at: "devices/interface/model/@type", never: "usb-net", why: "QEMU does not migrate such a device"},

	// What has another end on the host.
	{at: character + "/@type", never: "qemu-vdagent", why: "QEMU does not migrate a guest with it: remove it, or use spicevmc"},
	{at: character + "/@type", only: "pty unix tcp udp file null vc spicevmc spiceport", why: whyHost},
	{at: character + "[type=file]/source/@path", kind: Made},
	{at: character + "[type=unix]/source[mode=bind]/@path", kind: Socket},
	{at: character + "[type=unix]/source[mode=connect|]/@path", kind: Listener},
	{at: character + "[type=tcp]/source[mode=bind]/@service", kind: Port},
	{at: character + "[type=tcp]/source[mode=connect|][reconnect.enabled=no|]/@service", never: "*", why: whyConnect},
	{at: character + "[type=udp]/source[mode=bind]/@service", kind: UDPPort},
	{at: character + "/source/@tls", never: "yes", why: "it needs certificates" + notLooked},
	{at: character + "/source/seclabel/@model", kind: Security},
	{at: character + "/log/@file", kind: Made},
	{at: "devices/rng/backend/@model", only: "random builtin", why: "who serves it on a host is not looked at"},
	{at: "devices/rng/backend[model=random]", kind: Device},
	{at: "devices/vsock", kind: Device, name: "/dev/vhost-vsock"},
	{at: "devices/vsock/cid[auto=no|]/@address", kind: CID},

	// Screen, sound, input.
	{at: "devices/graphics/@type", only: "vnc spice", why: whyHost},
	{at: "devices/graphics[autoport=no|]/@port|@tlsPort", kind: Port},
	{at: "devices/graphics/@websocket", kind: Port},
	{at: "devices/graphics/@socket", kind: Socket},
	{at: "devices/graphics/listen/@socket", kind: Socket},
	{at: "devices/graphics/listen/@network", kind: Network},
	{at: "devices/graphics/@keymap", kind: Keymap},
	{at: "devices/graphics/gl/@enable", never: "yes", why: "a guest that draws by the host's graphics card can not be migrated"},
	{at: "devices/video/model/acceleration/@accel3d", never: "yes", why: "a guest that draws by the host's graphics card can not be migrated"},
	{at: "devices/video/model/@blob", never: "on", why: "QEMU does not migrate such a device"},
	{at: "devices/video/driver/@name", never: "vhostuser", why: whyHost},
	{at: "devices/sound/@model", never: "usb virtio", why: "QEMU does not migrate such a device"},
	{at: "devices/audio/@type", only: "- none spice file", why: "it plays on one host"},
	{at: "devices/input/@type", only: "mouse tablet keyboard", why: whyHost},
	{at: "devices/crypto", never: "*", why: "QEMU does not migrate such a device: remove it"},
	{at: "devices/iommu/@model", never: "amd", why: "QEMU does not migrate such a device"},
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
	words := strings.Fields(r.only)
	switch {
	case r.never == "*":
		return p.attr == "" || p.value != ""
	case r.never != "":
		return slices.Contains(strings.Fields(r.never), p.value)
	case r.only != "" && p.value == "":
		return !slices.Contains(words, "-")
	case r.only != "":
		return !slices.Contains(words, p.value)
	}
	return false
}

// want says what is allowed in place of what was refused.
func (r rule) want() string {
	words := slices.DeleteFunc(strings.Fields(r.only), func(w string) bool { return w == "-" })
	if len(words) == 0 {
		return r.why
	}
	return "want " + strings.Join(words, ", ") + ": " + r.why
}
