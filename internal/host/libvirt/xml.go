package libvirt

import (
	"encoding/xml"
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"holdfast/internal/cluster"
)

// metadataURI names the namespace of our element in the domain's metadata.
const metadataURI = "https://holdfast/guest/1"

// tokenPrefix begins the SMBIOS OEM string (type 11) that carries resource and
// epoch. An OEM string was chosen because libvirt writes it to QEMU's command
// line, so it is read from the process table when libvirtd is dead; because it is
// part of the domain's definition, so it goes along with a live migration;
// because it does not taint the domain, as arguments passed through to QEMU do;
// and because the guest can read it itself (dmidecode -t 11).
const tokenPrefix = "holdfast:"

func token(r cluster.ResourceID, e cluster.Epoch) string {
	return tokenPrefix + string(r) + ":" + e.String()
}

// diskFormats are the formats of a guest's image that are supported.
const (
	formatRaw   = "raw"
	formatQcow2 = "qcow2"
)

// domainXML builds the definition of the guest's transient domain, or completes
// that of its operator. format is that of the image.
func domainXML(spec cluster.GuestSpec, format string) (string, error) {
	password, err := readVNC(spec)
	if err != nil {
		return "", err
	}
	return domainWith(spec, format, password)
}

func domainWith(spec cluster.GuestSpec, format, password string) (string, error) {
	if err := checkSpec(spec); err != nil {
		return "", err
	}
	if spec.Domain != "" {
		return ownXML(spec, password)
	}
	meta, err := metadata(spec)
	if err != nil {
		return "", err
	}
	onCrash, err := onCrash(spec.OnPanic)
	if err != nil {
		return "", err
	}
	m, err := machineOf(spec)
	if err != nil {
		return "", err
	}
	devs, err := devices(spec, format, m)
	if err != nil {
		return "", err
	}
	addScreen(devs, spec, m, password)
	dom := libvirtxml.Domain{
		Type:       domainType(spec),
		Name:       spec.Name,
		UUID:       spec.UUID,
		Metadata:   &libvirtxml.DomainMetadata{XML: meta},
		Memory:     &libvirtxml.DomainMemory{Value: uint(spec.MemoryMiB), Unit: "MiB"},
		VCPU:       &libvirtxml.DomainVCPU{Value: uint(spec.CPUs)},
		OS:         operatingSystem(spec, m),
		Features:   &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		CPU:        m.processor(spec),
		Clock:      &libvirtxml.DomainClock{Offset: "utc"},
		OnPoweroff: "destroy",
		OnReboot:   "restart",
		OnCrash:    onCrash,
		Devices:    devs,
		SysInfo: []libvirtxml.DomainSysInfo{{SMBIOS: &libvirtxml.DomainSysInfoSMBIOS{
			OEMStrings: &libvirtxml.DomainSysInfoOEMStrings{Entry: []string{token(spec.Resource, spec.Epoch)}},
		}}},
	}
	if m.apic {
		dom.Features.APIC = &libvirtxml.DomainFeatureAPIC{}
	}
	out, err := dom.Marshal()
	if err != nil {
		return "", fmt.Errorf("write the domain's XML: %w", err)
	}
	return out, nil
}

func checkSpec(spec cluster.GuestSpec) error {
	if _, err := parseUUID(spec.UUID); err != nil {
		return err
	}
	switch {
	case !validName(spec.Name):
		return fmt.Errorf("domain name %q: want letters, digits and . _ + - only", spec.Name)
	case !validName(string(spec.Resource)):
		return fmt.Errorf("resource %q: want letters, digits and . _ + - only", spec.Resource)
	case spec.Domain != "": // checked by itself
	case spec.MemoryMiB <= 0:
		return fmt.Errorf("memory of %d MiB: want more than 0", spec.MemoryMiB)
	case spec.CPUs <= 0:
		return fmt.Errorf("%d CPUs: want at least 1", spec.CPUs)
	}
	if _, err := onCrash(spec.OnPanic); err != nil {
		return err
	}
	if spec.Domain == "" {
		if _, err := machineOf(spec); err != nil {
			return err
		}
	}
	return checkLockspace(spec.Lockspace)
}

// validName keeps out what has a meaning on QEMU's command line or in a path.
func validName(s string) bool {
	if s == "" || strings.HasPrefix(s, ".") || strings.HasPrefix(s, "-") {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+-", r))
	}) < 0
}

// metadata is for people and tools (virsh metadata); the driver itself reads the
// token of the command line only, so that there are no two truths.
func metadata(spec cluster.GuestSpec) (string, error) {
	type guest struct {
		XMLName  xml.Name `xml:"holdfast:guest"`
		NS       string   `xml:"xmlns:holdfast,attr"`
		Resource string   `xml:"resource,attr"`
		Epoch    string   `xml:"epoch,attr"`
	}
	b, err := xml.Marshal(guest{NS: metadataURI, Resource: string(spec.Resource), Epoch: spec.Epoch.String()})
	if err != nil {
		return "", fmt.Errorf("write the domain's metadata: %w", err)
	}
	return string(b), nil
}

func operatingSystem(spec cluster.GuestSpec, m machine) *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{
		Type:   &libvirtxml.DomainOSType{Arch: archOf(spec), Machine: m.kind, Type: "hvm"},
		SMBios: &libvirtxml.DomainSMBios{Mode: "sysinfo"}, // without it libvirt leaves the OEM strings out
	}
	if b := spec.Boot; b != nil {
		os.Kernel, os.Initrd, os.Cmdline = b.Kernel, b.Initrd, b.Cmdline
	} else {
		os.BootDevices = []libvirtxml.DomainBootDevice{{Dev: "hd"}}
	}
	m.firmware(os, spec)
	return os
}

func devices(spec cluster.GuestSpec, format string, m machine) (*libvirtxml.DomainDeviceList, error) {
	image, err := imageDisk(spec, format)
	if err != nil {
		return nil, err
	}
	d := &libvirtxml.DomainDeviceList{
		Disks:  []libvirtxml.DomainDisk{image},
		Leases: leases(spec),
		Serials: []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
			Log:    &libvirtxml.DomainChardevLog{File: serialLog(spec.Name), Append: "on"},
		}},
		Channels: []libvirtxml.DomainChannel{{
			Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
			Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"}},
		}},
		MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
		RNGs: []libvirtxml.DomainRNG{{
			Model:   "virtio",
			Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
		}},
	}
	if m.panic != "" {
		d.Panics = []libvirtxml.DomainPanic{{Model: m.panic}}
	}
	if spec.Seed != "" {
		seed := fileDisk(spec.Seed, formatRaw, "vdb")
		seed.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
		d.Disks = append(d.Disks, seed)
	}
	for _, n := range spec.NICs {
		d.Interfaces = append(d.Interfaces, libvirtxml.DomainInterface{
			MAC:    &libvirtxml.DomainInterfaceMAC{Address: n.MAC},
			Source: &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: n.Bridge}},
			Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
		})
	}
	return d, nil
}

// fileDisk is a virtio disk over a file. The page cache is bypassed, so that
// nothing of it is left behind on a host that the guest moved away from. Image
// locking is QEMU's default (on): the second line that refuses a double start.
func fileDisk(path, format, dev string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: format, Cache: "none"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: dev, Bus: "virtio"},
	}
}

// serialLog is the file with the guest's serial console, in the directory that
// libvirt keeps QEMU's own logs in; virtlogd rotates it.
func serialLog(name string) string { return "/var/log/libvirt/qemu/" + name + "-serial.log" }
