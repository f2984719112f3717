package virthost

import (
	"context"
	"errors"
	"fmt"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/host/libvirt"
)

// Setup is what a preparation is about; each uses a part.
type Setup struct {
	XML    string
	UUID   string // of a guest
	Name   string // of a pool
	Number uint64
}

// SetUp does with libvirt what operators and backup programs do.
func (h *Host) SetUp(what string, s Setup) {
	h.t.Helper()
	if err := h.TrySetUp(what, s); err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

// TrySetUp is SetUp, for what may fail.
func (h *Host) TrySetUp(what string, s Setup) error {
	h.t.Helper()
	if a := h.End(h.Begin(Request{Op: "set up", Text: what}, s), nil); a.Err != "" {
		return errors.New(a.Err)
	}
	return nil
}

// setUp does with libvirt what operators and backup programs do.
func setUp(ctx context.Context, what string, q Setup) error {
	return Libvirtd(ctx, what, func(l *golibvirt.Libvirt) error {
		switch what {
		case "define": // @@ is Number quotes
			q.XML = strings.ReplaceAll(q.XML, "@@", strings.Repeat(`"`, int(q.Number)))
			_, err := l.DomainDefineXMLFlags(q.XML, 0)
			return err
		case "create":
			_, err := l.DomainCreateXML(q.XML, 0)
			return err
		case "define-pool":
			_, err := l.StoragePoolDefineXML(q.XML, 0)
			return err
		case "create-pool":
			_, err := l.StoragePoolCreateXML(q.XML, 0)
			return err
		case "pool-autostart":
			sp, err := l.StoragePoolLookupByName(q.Name)
			if err != nil {
				return err
			}
			return l.StoragePoolSetAutostart(sp, 1)
		}
		u, err := libvirt.ParseUUID(q.UUID)
		if err != nil {
			return err
		}
		dom, err := l.DomainLookupByUUID(u)
		if err != nil {
			return err
		}
		switch what {
		case "start":
			return l.DomainCreate(dom)
		case "suspend":
			return l.DomainSuspend(dom)
		case "destroy":
			return l.DomainDestroy(dom)
		case "undefine":
			return l.DomainUndefine(dom)
		case "save":
			return l.DomainManagedSave(dom, 0)
		case "snapshot":
			_, err := l.DomainSnapshotCreateXML(dom, q.XML, 0)
			return err
		case "copy":
			return l.DomainBlockCopy(dom, "vda", q.XML, nil, golibvirt.DomainBlockCopyTransientJob)
		case "backup":
			return l.DomainBackupBegin(dom, q.XML, nil, 0)
		case "plug": // in and out again, Number times
			for range q.Number {
				if err := l.DomainAttachDeviceFlags(dom, q.XML, uint32(golibvirt.DomainDeviceModifyLive)); err != nil {
					return err
				}
				if err := l.DomainDetachDeviceFlags(dom, q.XML, uint32(golibvirt.DomainDeviceModifyLive)); err != nil {
					return err
				}
			}
			return nil
		}
		return fmt.Errorf("unknown preparation %q", what)
	})
}
