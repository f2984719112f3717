package guests

import (
	"context"
	"errors"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/host/libvirt"
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
