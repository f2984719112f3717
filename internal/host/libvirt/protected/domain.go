package protected

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/lib/domainxml"
	"holdfast/internal/lib/durable"
)

func token(r cluster.ResourceID, e cluster.Epoch) string {
	return libvirt.TokenPrefix + string(r) + ":" + e.String()
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
	if _, err := libvirt.ParseUUID(spec.UUID); err != nil {
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
	b, err := xml.Marshal(guest{NS: libvirt.MetadataURI, Resource: string(spec.Resource), Epoch: spec.Epoch.String()})
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

// machine is what differs between architectures in the domain that is built.
type machine struct {
	kind     string // machine type
	uefi     bool   // it boots by UEFI, and has no other firmware
	cpu      string // mode of its CPU with KVM
	emulated string // model of its CPU without
	apic     bool
	video    string // model of its graphics card, if it has a console
	panic    string // model of the device by which a kernel tells that it has panicked; "": libvirt has none for it
}

// machines are by libvirt's name of the architecture. The types are not pinned:
// libvirt replaces an alias by the newest version at the start, and a migration keeps
// that one. On aarch64 libvirt has no host-model.
var machines = map[string]machine{
	"x86_64":  {kind: "pc", cpu: "host-model", emulated: "qemu64", apic: true, panic: "isa", video: "vga"},
	"aarch64": {kind: "virt", uefi: true, cpu: "host-passthrough", emulated: "cortex-a57", video: "virtio"},
}

// archOf returns the architecture of the guest's machine: that of this host unless
// the spec has one.
func archOf(spec cluster.GuestSpec) string {
	if spec.Arch != "" {
		return spec.Arch
	}
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

func machineOf(spec cluster.GuestSpec) (machine, error) {
	m, ok := machines[archOf(spec)]
	switch {
	case !ok:
		return m, fmt.Errorf("architecture %q: want x86_64 or aarch64", archOf(spec))
	case m.panic == "" && (spec.OnPanic == panicCoredump || spec.OnPanic == panicPreserve):
		return m, fmt.Errorf("panic policy %q: want restart: a guest on %s has no device by which it tells that its "+
			"kernel has panicked", spec.OnPanic, archOf(spec))
	}
	return m, nil
}

func domainType(spec cluster.GuestSpec) string {
	if spec.Emulate {
		return "qemu"
	}
	return "kvm"
}

func (m machine) processor(spec cluster.GuestSpec) *libvirtxml.DomainCPU {
	if !spec.Emulate {
		return &libvirtxml.DomainCPU{Mode: m.cpu}
	}
	return &libvirtxml.DomainCPU{
		Mode: "custom", Match: "exact", Check: "none",
		Model: &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: m.emulated},
	}
}

// firmware adds UEFI. Its variables lie beside the image, so that all hosts have
// them; with an image that is no file, every host has its own, and the guest's boot
// loader must be where the firmware finds it without: \EFI\BOOT. Secure Boot is off,
// as images that somebody built seldom are signed.
func (m machine) firmware(os *libvirtxml.DomainOS, spec cluster.GuestSpec) {
	if !m.uefi {
		return
	}
	os.Firmware = "efi"
	os.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{Features: []libvirtxml.DomainOSFirmwareFeature{
		{Enabled: "no", Name: "enrolled-keys"}, {Enabled: "no", Name: "secure-boot"},
	}}
	if filepath.IsAbs(spec.Image) {
		os.NVRam = &libvirtxml.DomainNVRam{NVRam: filepath.Join(filepath.Dir(spec.Image), spec.Name+"_VARS.fd")}
	}
}

// checkMachine makes sure that libvirt on this host can build a machine that needs UEFI.
func (d *Driver) checkMachine(ctx context.Context, spec cluster.GuestSpec) error {
	m, err := machineOf(spec)
	if err != nil || !m.uefi {
		return nil // checkSpec tells the error
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, libvirt.ConnectLimit))
	defer cancel()
	c, err := d.link.Get(ctx)
	if err != nil {
		return err
	}
	var text string
	if err := c.Call(ctx, "ask libvirtd for what a machine can have", func(l *golibvirt.Libvirt) (err error) {
		text, err = l.ConnectGetDomainCapabilities(nil, golibvirt.OptString{archOf(spec)}, golibvirt.OptString{m.kind},
			golibvirt.OptString{domainType(spec)}, 0)
		return err
	}); err != nil {
		return fmt.Errorf("a machine %s for %s (%s): %w", m.kind, archOf(spec), domainType(spec), libvirt.OneLine(err))
	}
	var has libvirtxml.DomainCaps
	if err := xml.Unmarshal([]byte(text), &has); err != nil {
		return fmt.Errorf("read what a machine can have: %w", err)
	}
	if has.OS != nil {
		for _, e := range has.OS.Enums {
			if e.Name == "firmware" && slices.Contains(e.Values, "efi") {
				return nil
			}
		}
	}
	return fmt.Errorf("libvirt finds no UEFI firmware for %s on this host: install it (Debian: qemu-efi-aarch64, "+
		"others: edk2-aarch64)", archOf(spec))
}

// vncPassword is the longest password that VNC has, bytes: it is a DES key.
const vncPassword = 8

// readVNC reads the password of the guest's VNC console, "" without one.
func readVNC(spec cluster.GuestSpec) (string, error) {
	if spec.VNC == nil {
		return "", nil
	}
	p, err := durable.ReadSecret(spec.VNC.PasswordFile)
	switch {
	case err != nil:
		return "", fmt.Errorf("VNC.Credential: %w", err)
	case len(p) > vncPassword:
		return "", fmt.Errorf("VNC.Credential: %s has %d bytes: want at most %d, VNC compares no more",
			spec.VNC.PasswordFile, len(p), vncPassword)
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r > '~' }):
		return "", errors.New("VNC.Credential: " + spec.VNC.PasswordFile + " has other than printable ASCII characters")
	}
	return p, nil
}

// screen is the VNC console at the host's address; nil without one. Its port is
// the first free one from 5900.
func screen(spec cluster.GuestSpec, password string) *libvirtxml.DomainGraphic {
	if spec.VNC == nil {
		return nil
	}
	return &libvirtxml.DomainGraphic{VNC: &libvirtxml.DomainGraphicVNC{
		Port: -1, AutoPort: "yes", Passwd: password,
		Listeners: []libvirtxml.DomainGraphicListener{{Address: &libvirtxml.DomainGraphicListenerAddress{Address: spec.VNC.Listen}}},
	}}
}

// addScreen gives the domain that is built what people look at and type on.
func addScreen(d *libvirtxml.DomainDeviceList, spec cluster.GuestSpec, m machine, password string) {
	g := screen(spec, password)
	if g == nil {
		return
	}
	d.Graphics = []libvirtxml.DomainGraphic{*g}
	d.Videos = []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: m.video}}}
	d.Inputs = []libvirtxml.DomainInput{{Type: "tablet", Bus: "usb"}, {Type: "keyboard", Bus: "usb"}}
}

// screenXML is the console's element for the operator's own domain, "" without one.
func screenXML(spec cluster.GuestSpec, password string) (string, error) {
	g := screen(spec, password)
	if g == nil {
		return "", nil
	}
	b, err := xml.Marshal(g)
	if err != nil {
		return "", fmt.Errorf("write the VNC console's XML: %w", err)
	}
	return string(b), nil
}

// listenAt is a migration's parameter with the domain as it is to be at the target,
// when it has a console at this host's address, which the target does not have.
func listenAt(l *golibvirt.Libvirt, dom golibvirt.Domain, target string) ([]golibvirt.TypedParam, error) {
	if _, err := netip.ParseAddr(target); err != nil {
		return nil, nil
	}
	text, err := l.DomainGetXMLDesc(dom, golibvirt.DomainXMLSecure|golibvirt.DomainXMLMigratable)
	if err != nil {
		return nil, err
	}
	def, err := domainxml.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the domain as libvirt has it: %w", err)
	}
	moved, changed, err := def.Listen(target)
	if err != nil || !changed {
		return nil, err
	}
	return []golibvirt.TypedParam{migration.Param(golibvirt.MigrateParamDestXML, moved)}, nil
}
