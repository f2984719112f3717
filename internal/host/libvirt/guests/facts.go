package guests

import (
	"fmt"
	"regexp"
	"strconv"

	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt/pools"
)

// describe fills in what the definition of a guest tells.
func (v *VM) describe(def *libvirtxml.Domain, look *pools.Look) {
	if m := def.Memory; m != nil {
		v.MemoryMiB = int64((toBytes(uint64(m.Value), m.Unit) + 1<<20 - 1) >> 20)
	}
	if def.VCPU != nil {
		v.VCPUs = int(def.VCPU.Value)
		if def.VCPU.Current > 0 {
			v.VCPUs = int(def.VCPU.Current)
		}
	}
	if def.Metadata != nil {
		v.System = systemOf(def.Metadata.XML)
	}
	if c := def.CPU; c != nil {
		v.CPUMode = c.Mode
		v.HostCPU = c.Mode == "host-passthrough" || c.Mode == "maximum"
		if c.Model != nil {
			v.CPUModel = c.Model.Value
		}
	}
	if def.Devices != nil {
		v.Agent = agentConnected(def.Devices.Channels)
		for _, d := range def.Devices.Disks {
			v.addDisk(d, look)
		}
		v.addHostDevices(def.Devices)
		v.addOtherDevices(def.Devices)
	}
	v.addLocalState(def)
}

// toBytes turns an amount with libvirt's unit into bytes; without unit it is KiB.
func toBytes(n uint64, unit string) uint64 {
	switch unit {
	case "b", "bytes":
		return n
	case "KB":
		return n * 1000
	case "M", "MiB":
		return n << 20
	case "MB":
		return n * 1000 * 1000
	case "G", "GiB":
		return n << 30
	case "GB":
		return n * 1000 * 1000 * 1000
	case "T", "TiB":
		return n << 40
	}
	return n << 10
}

// osID finds the system by libosinfo's note in the metadata, such as
// http://centos.org/centos/6.5.
var osID = regexp.MustCompile(`<libosinfo:os\s+id=["']https?://[^/"']+/([^/"']+)/([^/"']+)["']`)

// systemOf gives NAMEVERSION, as centos6.5, "" when it is not noted.
func systemOf(metadata string) string {
	m := osID.FindStringSubmatch(metadata)
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}

func agentConnected(channels []libvirtxml.DomainChannel) bool {
	for _, c := range channels {
		if c.Target != nil && c.Target.VirtIO != nil && c.Target.VirtIO.Name == "org.qemu.guest_agent.0" {
			return c.Target.VirtIO.State == "connected"
		}
	}
	return false
}

func (v *VM) fix(format string, args ...any) { v.Fixed = append(v.Fixed, fmt.Sprintf(format, args...)) }

// bind notes what keeps the guest here even when it is off.
func (v *VM) bind(format string, args ...any) {
	v.fix(format, args...)
	v.Bound = append(v.Bound, v.Fixed[len(v.Fixed)-1])
}

func (v *VM) addDisk(d libvirtxml.DomainDisk, look *pools.Look) {
	disk := Disk{Device: d.Device, ReadOnly: d.ReadOnly != nil || d.Device == "cdrom"}
	if disk.Device == "" {
		disk.Device = "disk"
	}
	if d.Target != nil {
		disk.Target = d.Target.Dev
	}
	at := look.At(d.Source)
	disk.Kind, disk.Source, disk.FS, disk.Shared = at.Kind, at.Name, at.FS, at.Shared
	if at.Why != "" {
		v.bind("disk %s: %s", disk.Target, at.Why)
	}
	for b := d.BackingStore; b != nil && b.Format != nil; b = b.BackingStore { // an empty element ends the chain
		if under := look.At(b.Source); under.Why != "" {
			disk.Shared = false
			v.bind("disk %s: backing file: %s", disk.Target, under.Why)
		}
	}
	if d.Transient != nil {
		v.fix("disk %s: what is written to it is dropped at the end (transient)", disk.Target)
	}
	v.Disks = append(v.Disks, disk)
}

// addHostDevices notes devices of the host. One that is the stand-in of a
// virtual card (teaming) is taken away by libvirt for the time of a migration.
func (v *VM) addHostDevices(d *libvirtxml.DomainDeviceList) {
	for _, h := range d.Hostdevs {
		name, stays := hostDevice(h)
		v.HostDevs = append(v.HostDevs, name)
		if stays {
			v.bind("host device: %s", name)
		}
	}
	for _, n := range d.Interfaces {
		switch {
		case n.Source == nil:
		case n.Source.Hostdev != nil:
			name := "network card passed through"
			if n.MAC != nil {
				name += " (" + n.MAC.Address + ")"
			}
			v.HostDevs = append(v.HostDevs, name)
			if n.Teaming == nil || n.Teaming.Type != "transient" {
				v.bind("host device: %s", name)
			}
		case n.Source.VDPA != nil:
			v.bind("network card by vDPA device %s", n.Source.VDPA.Device)
		}
	}
}

func hostDevice(h libvirtxml.DomainHostdev) (name string, stays bool) {
	switch {
	case h.SubsysPCI != nil:
		t := h.SubsysPCI.Teaming
		name = "PCI"
		if s := h.SubsysPCI.Source; s != nil {
			name += " " + pciAddress(s.Address)
		}
		return name, t == nil || t.Type != "transient"
	case h.SubsysUSB != nil:
		name = "USB"
		if s := h.SubsysUSB.Source; s != nil && s.Vendor != nil && s.Product != nil {
			name += " " + s.Vendor.ID + ":" + s.Product.ID
		}
	case h.SubsysMDev != nil:
		name = "mediated device"
		if s := h.SubsysMDev.Source; s != nil && s.Address != nil {
			name += " " + s.Address.UUID
		}
	case h.SubsysSCSI != nil:
		name = "SCSI device"
		if s := h.SubsysSCSI.Source; s != nil && s.ISCSI != nil {
			return name + " " + s.ISCSI.Name, false // QEMU speaks iSCSI itself
		}
	case h.SubsysSCSIHost != nil:
		name = "SCSI host"
	default:
		name = "device of the host"
	}
	return name, true
}

func pciAddress(a *libvirtxml.DomainAddressPCI) string {
	if a == nil {
		return ""
	}
	n := func(u *uint) uint {
		if u == nil {
			return 0
		}
		return *u
	}
	return fmt.Sprintf("%04x:%02x:%02x.%x", n(a.Domain), n(a.Bus), n(a.Slot), n(a.Function))
}

// addOtherDevices notes what libvirt or QEMU do not migrate, by the refusals in
// libvirt's qemuMigrationSrcIsAllowed.
func (v *VM) addOtherDevices(d *libvirtxml.DomainDeviceList) {
	for _, f := range d.Filesystems {
		name := ""
		if f.Target != nil {
			name = " " + f.Target.Dir
		}
		v.bind("directory of this host in the guest%s (filesystem)", name)
	}
	for _, s := range d.Shmems {
		if s.Role != "master" {
			v.fix("shared memory %s (shmem)", s.Name)
		}
	}
	for _, s := range d.Smartcards {
		if s.Host != nil || len(s.HostCerts) > 0 {
			v.bind("smart card of this host")
		}
	}
	for _, m := range d.Memorydevs {
		if (m.Model == "nvdimm" || m.Model == "virtio-pmem") && m.Source != nil {
			v.bind("memory device in %s", m.Source.Path)
		}
	}
	for _, s := range d.Serials {
		if s.Source != nil && s.Source.Dev != nil {
			v.bind("serial line of this host (%s)", s.Source.Dev.Path)
		}
	}
}

// addLocalState notes what libvirt keeps on this host for the guest.
func (v *VM) addLocalState(def *libvirtxml.Domain) {
	if v.Snapshots {
		v.bind("libvirt does not migrate a guest with snapshots or checkpoints: delete them, or their metadata")
	}
	if def.LaunchSecurity != nil {
		v.fix("its memory is encrypted (launchSecurity)")
	}
	if needsTSC(def) {
		v.fix("CPU feature invtsc without a TSC frequency")
	}
	only := func(why string) { v.Bound = append(v.Bound, why) } // a live migration takes it along
	if v.Saved {
		only("its memory is saved on this host: start it first, or drop what was saved")
	}
	if o := def.OS; o != nil && o.NVRam != nil && (o.NVRam.NVRam != "" || o.NVRam.Source != nil && o.NVRam.Source.File != nil) {
		only("the variables of its firmware are in a file of this host (nvram)")
	}
	if def.Devices == nil {
		return
	}
	for _, t := range def.Devices.TPMs {
		switch {
		case t.Backend == nil:
		case t.Backend.Passthrough != nil:
			v.bind("TPM of this host")
		case t.Backend.Emulator != nil:
			only("the state of its TPM is on this host")
		}
	}
}

func needsTSC(def *libvirtxml.Domain) bool {
	if def.CPU == nil {
		return false
	}
	if def.Clock != nil {
		for _, t := range def.Clock.Timer {
			if t.Name == "tsc" && t.Frequency > 0 {
				return false
			}
		}
	}
	for _, f := range def.CPU.Features {
		if f.Name == "invtsc" && f.Policy != "disable" && f.Policy != "forbid" {
			return true
		}
	}
	return false
}

// version writes libvirt's numbers: major * 1,000,000 + minor * 1,000 + release.
func version(n uint64) string {
	return strconv.FormatUint(n/1_000_000, 10) + "." + strconv.FormatUint(n/1000%1000, 10) + "." + strconv.FormatUint(n%1000, 10)
}
