package guests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt/guests"
)

// repeat is how often a guest is asked again to give a device back.
const repeat = 5 * time.Second

// imageLimit bounds the copy of a disk.
const imageLimit = 30 * time.Minute

// plugged finds the disk over a file among those that a guest has now; nil: there is none.
func plugged(def *libvirtxml.Domain, path string) *libvirtxml.DomainDisk {
	for i, d := range def.Devices.Disks {
		if d.Source != nil && d.Source.File != nil && d.Source.File.File == path {
			return &def.Devices.Disks[i]
		}
	}
	return nil
}

// attach plugs an empty disk in, and reads back from libvirt that it is there and from QEMU how large it is.
func (r *run) attach(ctx context.Context) error {
	path, err := r.volume("volume.raw")
	if err != nil {
		return err
	}
	now, err := r.present(ctx)
	if err != nil {
		return err
	}
	disk := newDisk(path, free(now, r.def), busOf(now))
	text, err := disk.Marshal()
	if err != nil {
		return fmt.Errorf("write the disk: %w", err)
	}
	r.Later("disk "+disk.Target.Dev+" over "+path+" is still plugged in", r.unplug)
	if err := r.here.ChangeDevice(ctx, r.was.UUID, guests.Added, text); err != nil {
		return err
	}
	if now, err = r.present(ctx); err != nil {
		return err
	}
	if plugged(now, path) == nil {
		return errors.New("libvirtd took it, and does not tell of it")
	}
	size, err := r.here.DiskSize(ctx, r.was.UUID, disk.Target.Dev)
	if err == nil && size != volumeSize {
		err = fmt.Errorf("QEMU says that it has %d bytes: want %d", size, volumeSize)
	}
	return err
}

// detach asks for the disk back until the guest has given it back.
func (r *run) detach(ctx context.Context) error {
	now, err := r.present(ctx)
	if err == nil && plugged(now, r.folder.file("volume.raw")) == nil {
		err = errors.New("it is not plugged in")
	}
	if err != nil {
		return err
	}
	return r.giveBack(ctx)
}

// giveBack asks for the disk over the volume until it is gone. nil as well when it is not there.
func (r *run) giveBack(ctx context.Context) error {
	var asked time.Time
	var refused error
	err := r.await(ctx, "the guest has not given it back", func() (bool, error) {
		now, err := r.present(ctx)
		if err != nil {
			return false, err
		}
		disk := plugged(now, r.folder.file("volume.raw"))
		if disk == nil {
			return true, nil
		}
		if time.Since(asked) >= repeat {
			text, err := disk.Marshal()
			if err != nil {
				return false, fmt.Errorf("write the disk: %w", err)
			}
			asked, refused = time.Now(), r.here.ChangeDevice(ctx, r.was.UUID, guests.Removed, text)
		}
		return false, refused
	})
	return err
}

// unplug takes the disk away: a guest that does not give it back is stopped and started again.
func (r *run) unplug(ctx context.Context) error {
	w, err := r.here.Whereabouts(ctx, r.was.UUID, r.was.Name)
	if err != nil || w.Place == guests.Off {
		return err // what is plugged in is gone when a guest is off
	}
	if r.giveBack(ctx) == nil {
		return nil
	}
	if err := r.again(ctx); err != nil {
		return err
	}
	now, err := r.present(ctx)
	if err == nil && plugged(now, r.folder.file("volume.raw")) != nil {
		err = errors.New("it is there after a stop and a start, too")
	}
	return err
}

func newDisk(path, dev, bus string) *libvirtxml.DomainDisk {
	return &libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw", Cache: "none"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: dev, Bus: bus},
	}
}

// busOf is the bus of a disk that is plugged in: that of the main disk where disks can be plugged in, else virtio.
func busOf(def *libvirtxml.Domain) string {
	if d := mainDisk(def.Devices.Disks); d != nil && d.Target.Bus == "scsi" {
		return "scsi"
	}
	return "virtio"
}

// free is a name of a disk that the guest does not use, now or from its next start on.
func free(now *libvirtxml.Domain, next string) string {
	letters := "vd"
	if busOf(now) == "scsi" {
		letters = "sd"
	}
	var def libvirtxml.Domain
	all := now.Devices.Disks
	if def.Unmarshal(next) == nil && def.Devices != nil { // it was read before
		all = append(all[:len(all):len(all)], def.Devices.Disks...)
	}
	used := map[string]bool{}
	for _, d := range all {
		if d.Target != nil {
			used[d.Target.Dev] = true
		}
	}
	for c := 'a'; c <= 'z'; c++ {
		if name := letters + string(c); !used[name] {
			return name
		}
	}
	return letters + "aa"
}

// image copies the main disk of the running guest into a file, and has qemu-img read that.
func (r *run) image(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, imageLimit)
	defer cancel()
	size, err := r.here.DiskSize(ctx, r.was.UUID, r.disk)
	if err != nil {
		return err
	}
	if err := r.folder.room(size); err != nil {
		return err
	}
	path := r.folder.file("image.qcow2")
	r.removeLater(path)
	if err := r.here.CopyDisk(ctx, r.was.UUID, r.disk, path); err != nil {
		return err
	}
	now, err := r.present(ctx)
	if err == nil && plugged(now, path) != nil {
		err = errors.New("the guest uses the copy")
	}
	if err != nil {
		return err
	}
	return readImage(ctx, path, size)
}

// readImage has qemu-img check a copy, and compares its size.
func readImage(ctx context.Context, path string, size uint64) error {
	at := "driver=qcow2,file.driver=file,file.filename=" + strings.ReplaceAll(path, ",", ",,")
	if _, err := exec.CommandContext(ctx, "qemu-img", "check", "--output=json", "--image-opts", at).Output(); err != nil {
		return fmt.Errorf("qemu-img check %s: %w%s", path, err, stderr(err))
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "info", "--output=json", "--image-opts", at).Output()
	if err != nil {
		return fmt.Errorf("qemu-img info %s: %w%s", path, err, stderr(err))
	}
	var info struct {
		Size uint64 `json:"virtual-size"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return fmt.Errorf("read what qemu-img info tells: %w", err)
	}
	if info.Size != size {
		return fmt.Errorf("the image has %d bytes, and the disk %d", info.Size, size)
	}
	return nil
}

// stderr is what a program said of its failure.
func stderr(err error) string {
	var e *exec.ExitError
	if !errors.As(err, &e) || len(e.Stderr) == 0 {
		return ""
	}
	return ": " + strings.TrimSpace(string(e.Stderr))
}

// link sets the link of the first network card, and reads it back.
func (r *run) link(ctx context.Context, state string) error {
	card, err := r.card(ctx)
	if err != nil {
		return err
	}
	was := card
	if state == "down" {
		r.Later("the link of card "+mac(was)+" is not as before", func(ctx context.Context) error { return r.linkBack(ctx, was) })
	}
	card.Link = &libvirtxml.DomainInterfaceLink{State: state}
	if err := r.update(ctx, card); err != nil {
		return err
	}
	now, err := r.card(ctx)
	if err == nil && (mac(now) != mac(was) || linkOf(now) != state) {
		err = fmt.Errorf("libvirtd says that the link of %s is %s", mac(now), linkOf(now))
	}
	return err
}

// linkBack gives a card the link that it had.
func (r *run) linkBack(ctx context.Context, was libvirtxml.DomainInterface) error {
	w, err := r.here.Whereabouts(ctx, r.was.UUID, r.was.Name)
	if err != nil || w.Place == guests.Off {
		return err // its next start is by its definition
	}
	now, err := r.card(ctx)
	if err != nil || linkOf(now) == linkOf(was) {
		return err
	}
	if err := r.update(ctx, was); err != nil {
		return err
	}
	if now, err = r.card(ctx); err == nil && linkOf(now) != linkOf(was) {
		err = fmt.Errorf("libvirtd says that it is %s", linkOf(now))
	}
	return err
}

func (r *run) update(ctx context.Context, card libvirtxml.DomainInterface) error {
	text, err := card.Marshal()
	if err != nil {
		return fmt.Errorf("write the network card: %w", err)
	}
	return r.here.ChangeDevice(ctx, r.was.UUID, guests.Updated, text)
}

// card is the first network card as it is now.
func (r *run) card(ctx context.Context) (libvirtxml.DomainInterface, error) {
	now, err := r.present(ctx)
	if err != nil {
		return libvirtxml.DomainInterface{}, err
	}
	if len(now.Devices.Interfaces) == 0 {
		return libvirtxml.DomainInterface{}, errors.New("it has no network card now")
	}
	return now.Devices.Interfaces[0], nil
}

func linkOf(card libvirtxml.DomainInterface) string {
	if card.Link != nil && card.Link.State != "" {
		return card.Link.State
	}
	return "up"
}

func mac(card libvirtxml.DomainInterface) string {
	if card.MAC == nil {
		return ""
	}
	return card.MAC.Address
}
