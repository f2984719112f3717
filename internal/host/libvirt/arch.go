package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/cluster"
)

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
		return m, fmt.Errorf("panic policy %q: want restart: a guest on %s has no device by which it tells that its kernel has panicked", spec.OnPanic, archOf(spec))
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
	ctx, cancel := context.WithTimeout(ctx, share(ctx, connectLimit))
	defer cancel()
	c, err := d.link.get(ctx)
	if err != nil {
		return err
	}
	var text string
	if err := c.call(ctx, "ask libvirtd for what a machine can have", func(l *golibvirt.Libvirt) (err error) {
		text, err = l.ConnectGetDomainCapabilities(nil, golibvirt.OptString{archOf(spec)}, golibvirt.OptString{m.kind}, golibvirt.OptString{domainType(spec)}, 0)
		return err
	}); err != nil {
		return fmt.Errorf("a machine %s for %s (%s): %w", m.kind, archOf(spec), domainType(spec), oneLine(err))
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
	return fmt.Errorf("libvirt finds no UEFI firmware for %s on this host: install it (Debian: qemu-efi-aarch64, others: edk2-aarch64)", archOf(spec))
}
