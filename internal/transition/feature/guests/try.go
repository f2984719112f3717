package guests

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/lib/clock"
	"holdfast/internal/transition/feature"
)

// moreMemory is by how much a resize grows the guest, in KiB.
const moreMemory = 64 << 10

// steady is how long a new guest must run.
const steady = 2 * time.Second

// Try tries one feature. nil: it was done, and read back.
func (r *run) Try(ctx context.Context, n feature.Name) error {
	switch n {
	case feature.Restart:
		return r.restart(ctx)
	case feature.Stop:
		return r.stop(ctx)
	case feature.Start:
		return r.started(ctx)
	case feature.Attach:
		return r.attach(ctx)
	case feature.Detach:
		return r.detach(ctx)
	case feature.Image:
		return r.image(ctx)
	case feature.Down:
		return r.link(ctx, "down")
	case feature.Up:
		return r.link(ctx, "up")
	case feature.Resize:
		return r.resize(ctx)
	case feature.Live:
		return r.live(ctx)
	case feature.Cold:
		return r.cold(ctx)
	case feature.New:
		return r.newGuest(ctx)
	}
	return fmt.Errorf("%s is not known", n)
}

// restart asks the guest to restart. QEMU tells that it did; the process stays.
func (r *run) restart(ctx context.Context) error {
	before, err := r.here.Processes(ctx, r.was.UUID, r.was.Name)
	if err != nil {
		return err
	}
	if err := r.here.Reboot(ctx, r.was.UUID, r.order.Wait); err != nil {
		return err
	}
	if err := r.up(ctx); err != nil {
		return err
	}
	after, err := r.here.Processes(ctx, r.was.UUID, r.was.Name)
	if err == nil && (len(before) != 1 || len(after) != 1 || before[0] != after[0]) {
		err = fmt.Errorf("its QEMU process is to stay while it restarts: it was %v, and is %v", before, after)
	}
	return err
}

// started starts the guest, which the feature before has stopped.
func (r *run) started(ctx context.Context) error {
	if err := r.off(ctx); err != nil {
		return fmt.Errorf("it must be off and is not: %w", err)
	}
	return r.start(ctx)
}

// resize gives the guest's definition more memory, and the old amount back, with a start each time.
func (r *run) resize(ctx context.Context) error {
	was, err := r.here.Memory(ctx, r.was.UUID)
	if err != nil {
		return err
	}
	r.Later("its memory is not as before", func(ctx context.Context) error { return r.memoryBack(ctx, was) })
	if err := r.off(ctx); err != nil {
		return err
	}
	if err := r.here.SetMemory(ctx, r.was.UUID, was+moreMemory); err != nil {
		return err
	}
	if err := r.startWith(ctx, was+moreMemory); err != nil {
		return err
	}
	if err := r.off(ctx); err != nil {
		return err
	}
	if err := r.redefine(ctx); err != nil {
		return err
	}
	return r.startWith(ctx, was)
}

// startWith starts the guest, and reads back how much memory it has.
func (r *run) startWith(ctx context.Context, kib uint64) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	now, err := r.here.Memory(ctx, r.was.UUID)
	if err == nil && now != kib {
		err = fmt.Errorf("it runs with %d KiB of memory: want %d", now, kib)
	}
	return err
}

// memoryBack sees that the guest has its old memory, now and from its next start on.
func (r *run) memoryBack(ctx context.Context, was uint64) error {
	if err := r.redefine(ctx); err != nil {
		return err
	}
	now, err := r.here.Memory(ctx, r.was.UUID)
	if err != nil || now == was {
		return err
	}
	if err := r.off(ctx); err != nil {
		return err
	}
	return r.startWith(ctx, was)
}

// newGuest defines a guest like the test guest, with an empty disk of its own, sees it run, and removes it.
func (r *run) newGuest(ctx context.Context) error {
	path, err := r.volume("new.raw")
	if err != nil {
		return err
	}
	uuid, card, err := identity()
	if err != nil {
		return err
	}
	def, err := likeness(r.def, r.was.Name, uuid, card, path)
	if err != nil {
		return err
	}
	name := newName(r.was.Name)
	remove := func(ctx context.Context) error { return r.remove(ctx, uuid, name) }
	r.Later("guest "+name+" is still there", remove)
	if err := r.here.Define(ctx, def); err != nil {
		return err
	}
	if err := r.here.Start(ctx, uuid, guests.StartOptions{}); err != nil {
		return err
	}
	if err := running(ctx, r.here, uuid, name); err != nil {
		return err
	}
	if !clock.Sleep(ctx, steady) {
		return ctx.Err()
	}
	if err := running(ctx, r.here, uuid, name); err != nil {
		return fmt.Errorf("%s after its start: %w", steady, err)
	}
	pids, err := r.here.Processes(ctx, uuid, name)
	if err == nil && len(pids) != 1 {
		err = fmt.Errorf("libvirtd says that it runs, and it has %d processes", len(pids))
	}
	if err != nil {
		return err
	}
	return remove(ctx)
}

// remove ends the new guest, makes libvirt forget it, and reads that back.
func (r *run) remove(ctx context.Context, uuid, name string) error {
	w, err := r.here.Whereabouts(ctx, uuid, name)
	if err != nil {
		return err
	}
	if w.Place == guests.Here {
		if _, err := r.here.Shutdown(ctx, uuid, guests.ShutdownOptions{Wait: time.Millisecond, PowerOff: true}); err != nil {
			return err
		}
	}
	if err := r.here.Erase(ctx, uuid); err != nil {
		return err
	}
	if w, err = r.here.Whereabouts(ctx, uuid, name); err == nil && w.Place != guests.Absent {
		err = fmt.Errorf("libvirtd says that it is %s after it was removed", where(w))
	}
	return err
}

// newName names the new guest after the test guest.
func newName(guest string) string { return guest + "-holdfast-feature" }

// identity draws the new guest's UUID, and the last bytes of its network cards' addresses.
func identity() (uuid string, card [5]byte, err error) {
	var b [21]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", card, err
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562, version 4
	copy(card[:], b[16:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16]), card, nil
}

// likeness makes the new guest's definition: machine, processor, memory and networks of the test guest, one disk
// over the file at path, and nothing else that the test guest has for itself alone.
func likeness(text, guest, uuid string, card [5]byte, path string) (string, error) {
	var def libvirtxml.Domain
	if err := def.Unmarshal(text); err != nil {
		return "", fmt.Errorf("read the test guest's definition: %w", err)
	}
	if def.Devices == nil {
		return "", errors.New("the test guest's definition has no devices")
	}
	def.Name, def.UUID, def.ID, def.GenID, def.Metadata = newName(guest), uuid, nil, nil, nil
	def.Title, def.Description, def.SysInfo, def.SecLabel = "", "a test of Holdfast, removed at once", nil, nil
	if def.OS != nil {
		def.OS.NVRam = nil // libvirt makes one of its own
		if def.OS.SMBios != nil {
			def.OS.SMBios = nil // of sysinfo
		}
	}
	old := def.Devices
	bus := "virtio"
	if d := mainDisk(old.Disks); d != nil && d.Target.Bus != "" {
		bus = d.Target.Bus
	}
	disk := newDisk(path, map[string]string{"virtio": "vda", "ide": "hda"}[bus], bus)
	if disk.Target.Dev == "" {
		disk.Target.Dev = "sda" // scsi, sata, usb
	}
	d := &libvirtxml.DomainDeviceList{Emulator: old.Emulator, Controllers: old.Controllers, MemBalloon: old.MemBalloon,
		Disks: []libvirtxml.DomainDisk{*disk}}
	for i, c := range old.Interfaces {
		if s := c.Source; s == nil || s.Bridge == nil && s.Network == nil && s.Direct == nil {
			continue // a device of the host, or made for the test guest alone
		}
		card[4] += byte(i)
		n := libvirtxml.DomainInterface{
			MAC:    &libvirtxml.DomainInterfaceMAC{Address: fmt.Sprintf("52:54:00:%02x:%02x:%02x", card[2], card[3], card[4])},
			Source: c.Source, Model: c.Model, VLan: c.VLan, MTU: c.MTU, ROM: c.ROM,
		}
		if v := c.VirtualPort; v != nil && v.Params != nil && v.Params.OpenVSwitch != nil {
			n.VirtualPort = &libvirtxml.DomainInterfaceVirtualPort{Params: &libvirtxml.DomainInterfaceVirtualPortParams{
				OpenVSwitch: &libvirtxml.DomainInterfaceVirtualPortParamsOpenVSwitch{},
			}}
		}
		d.Interfaces = append(d.Interfaces, n)
	}
	def.Devices = d
	out, err := def.Marshal()
	if err != nil {
		return "", fmt.Errorf("write the new guest's definition: %w", err)
	}
	return out, nil
}
