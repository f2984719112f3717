package guests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
)

// Definition returns a guest's definition as it begins at its next start, with the
// secrets in it.
func (f *Fleet) Definition(ctx context.Context, uuid string) (text string, err error) {
	dom, err := f.find(ctx, uuid)
	if err == nil {
		err = f.client.Ask(ctx, "read its definition", func(l *golibvirt.Libvirt) error {
			text, err = l.DomainGetXMLDesc(dom, golibvirt.DomainXMLInactive|golibvirt.DomainXMLSecure)
			return err
		})
	}
	return text, libvirt.Doing("read the definition of", uuid, err)
}

// Undefine makes libvirt forget a guest that is off. Its disks and the variables of UEFI
// stay. nil also when libvirt does not know it; that is read back.
func (f *Fleet) Undefine(ctx context.Context, uuid string) error {
	return f.undefine(ctx, uuid, golibvirt.DomainUndefineKeepNvram|golibvirt.DomainUndefineKeepTpm)
}

// Erase is Undefine for a guest that was made by the caller: the variables of UEFI go, too.
func (f *Fleet) Erase(ctx context.Context, uuid string) error {
	return f.undefine(ctx, uuid, golibvirt.DomainUndefineNvram)
}

func (f *Fleet) undefine(ctx context.Context, uuid string, flags golibvirt.DomainUndefineFlagsValues) error {
	dom, err := f.find(ctx, uuid)
	if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
		return nil
	}
	if err != nil {
		return libvirt.Doing("undefine", uuid, err)
	}
	state, err := f.state(ctx, dom)
	if err == nil && state != VMOff {
		err = ErrRunning // libvirt would only make it transient
	}
	if err == nil {
		err = f.client.Ask(ctx, "undefine it", func(l *golibvirt.Libvirt) error {
			err := l.DomainUndefineFlags(dom, flags)
			if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
				return nil
			}
			return err
		})
	}
	if err == nil {
		if _, err = f.lookup(ctx, uuid); err == nil {
			err = errors.New("libvirt still knows the guest")
		} else if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
			err = nil
		}
	}
	return libvirt.Doing("undefine", dom.Name, err)
}

// Processes returns the QEMU processes of a guest, by the process table: what counts
// when libvirtd says that it is off.
func (f *Fleet) Processes(ctx context.Context, uuid, name string) (pids []int, err error) {
	found, err := libvirt.Processes(ctx, libvirt.NewGate(), proc.Table(f.opt.ProcDir), uuid, name)
	if err != nil {
		return nil, fmt.Errorf("look for the processes of %s: %w", name, err)
	}
	for _, p := range found {
		pids = append(pids, p.PID)
	}
	return pids, nil
}

// changeLimit bounds a change of a guest that QEMU carries out.
const changeLimit = time.Minute

// OwnAddress is the address from which this process reaches the libvirtd of Options.URI.
func (f *Fleet) OwnAddress(ctx context.Context) (addr string, err error) {
	err = f.client.With(ctx, func(c *libvirt.Conn) error {
		addr, _, err = net.SplitHostPort(c.LocalAddr().String())
		return err
	})
	return addr, err
}

// Present returns the definition of a guest as it is now, with what was plugged in since its start.
func (f *Fleet) Present(ctx context.Context, uuid string) (text string, err error) {
	dom, err := f.find(ctx, uuid)
	if err == nil {
		err = f.client.Ask(ctx, "read it", func(l *golibvirt.Libvirt) error {
			text, err = l.DomainGetXMLDesc(dom, golibvirt.DomainXMLSecure)
			return err
		})
	}
	return text, libvirt.Doing("read the present definition of", uuid, err)
}

// Define gives libvirt the definition of a guest, in place of the one that it has by the same UUID.
func (f *Fleet) Define(ctx context.Context, text string) error {
	return libvirt.Doing("define", "a guest", f.client.Ask(ctx, "ask libvirtd", func(l *golibvirt.Libvirt) error {
		_, err := l.DomainDefineXMLFlags(text, 0)
		return err
	}))
}

// Memory is how much memory a guest has, in KiB: of a running one that which it was started with.
func (f *Fleet) Memory(ctx context.Context, uuid string) (kib uint64, err error) {
	dom, err := f.find(ctx, uuid)
	if err == nil {
		err = f.client.Ask(ctx, "ask libvirtd", func(l *golibvirt.Libvirt) error {
			_, kib, _, _, _, err = l.DomainGetInfo(dom)
			return err
		})
	}
	return kib, libvirt.Doing("ask for the memory of", cmp.Or(dom.Name, uuid), err)
}

// SetMemory changes the definition of a guest that is off: the memory that it has from its next start on, in KiB.
func (f *Fleet) SetMemory(ctx context.Context, uuid string, kib uint64) error {
	dom, err := f.find(ctx, uuid)
	if err == nil {
		err = f.client.Ask(ctx, "ask libvirtd", func(l *golibvirt.Libvirt) error {
			if err := l.DomainSetMemoryFlags(dom, kib, uint32(golibvirt.DomainMemConfig|golibvirt.DomainMemMaximum)); err != nil {
				return err
			}
			return l.DomainSetMemoryFlags(dom, kib, uint32(golibvirt.DomainMemConfig))
		})
	}
	return libvirt.Doing("set the memory of", cmp.Or(dom.Name, uuid), err)
}

// Change is what becomes of a device of a running guest.
type Change string

// Changes. Removed is only asked for: the guest gives a device back when its system agrees.
const (
	Added   Change = "plug in"
	Removed Change = "unplug"
	Updated Change = "update"
)

// ChangeDevice plugs a device, which is XML, into a guest, changes it or asks for it to be given back.
// The definition of its next start stays.
func (f *Fleet) ChangeDevice(ctx context.Context, uuid string, change Change, device string) error {
	dom, err := f.find(ctx, uuid)
	if err == nil {
		err = f.client.Within(ctx, changeLimit, "ask libvirtd", func(l *golibvirt.Libvirt) error {
			switch change {
			case Added:
				return l.DomainAttachDeviceFlags(dom, device, uint32(golibvirt.DomainDeviceModifyLive))
			case Removed:
				return l.DomainDetachDeviceFlags(dom, device, uint32(golibvirt.DomainDeviceModifyLive))
			}
			return l.DomainUpdateDeviceFlags(dom, device, golibvirt.DomainDeviceModifyLive)
		})
	}
	return libvirt.Doing(string(change)+" a device of", cmp.Or(dom.Name, uuid), err)
}

// DiskSize is the size of a disk as a guest sees it, in bytes: of a running one QEMU tells it. The disk is named
// by its target, vda.
func (f *Fleet) DiskSize(ctx context.Context, uuid, target string) (size uint64, err error) {
	dom, err := f.find(ctx, uuid)
	if err == nil {
		err = f.client.Ask(ctx, "ask libvirtd", func(l *golibvirt.Libvirt) error {
			_, size, _, err = l.DomainGetBlockInfo(dom, target, 0)
			return err
		})
	}
	return size, libvirt.Doing("ask for the size of disk "+target+" of", cmp.Or(dom.Name, uuid), err)
}

// CopyDisk copies a disk of a running guest into a new file of format qcow2. The guest goes on with its own disk;
// the copy is what the disk was at the end. After an error nothing is under way, unless the error says so; the file may be there.
func (f *Fleet) CopyDisk(ctx context.Context, uuid, target, path string) error {
	dom, err := f.find(ctx, uuid)
	if err == nil {
		err = f.copyDisk(ctx, dom, target, path)
	}
	return libvirt.Doing("copy disk "+target+" of", cmp.Or(dom.Name, uuid), err)
}

func (f *Fleet) copyDisk(ctx context.Context, dom golibvirt.Domain, target, path string) error {
	to, err := copyXML(path)
	if err != nil {
		return err
	}
	err = f.client.Within(ctx, changeLimit, "begin", func(l *golibvirt.Libvirt) error {
		return l.DomainBlockCopy(dom, target, to, nil, golibvirt.DomainBlockCopyTransientJob)
	})
	if err != nil && libvirt.Answered(err) {
		return err
	}
	for err == nil { // until all is copied, and what is written goes to both
		var found int32
		var done, all uint64
		err = f.client.Ask(ctx, "ask how far it is", func(l *golibvirt.Libvirt) (err error) {
			found, _, _, done, all, err = l.DomainGetBlockJobInfo(dom, target, 0)
			return err
		})
		if err == nil && found == 0 {
			return errors.New("it ended before all was copied: see the guest's log in " + f.log(dom.Name))
		}
		if err == nil && all > 0 && done == all {
			break
		}
		if err == nil && !clock.Sleep(ctx, shutdownPoll) {
			err = ctx.Err()
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeLimit)
	defer cancel()
	return errors.Join(err, f.endCopy(last, dom, target))
}

// endCopy ends a copy and reads back that there is none.
func (f *Fleet) endCopy(ctx context.Context, dom golibvirt.Domain, target string) error {
	for {
		var found int32
		err := f.client.Ask(ctx, "end it", func(l *golibvirt.Libvirt) (err error) {
			if found, _, _, _, _, err = l.DomainGetBlockJobInfo(dom, target, 0); err == nil && found != 0 {
				err = l.DomainBlockJobAbort(dom, target, golibvirt.DomainBlockJobAbortAsync)
			}
			return err
		})
		if err == nil && found == 0 || libvirt.HasCode(err, golibvirt.ErrNoDomain) {
			return nil
		}
		if !clock.Sleep(ctx, shutdownPoll) {
			return fmt.Errorf("the copy is still under way: %w", errors.Join(err, ctx.Err()))
		}
	}
}

// copyXML is the disk that a copy goes to.
func copyXML(path string) (string, error) {
	d := libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "qcow2"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
	}
	return d.Marshal()
}
