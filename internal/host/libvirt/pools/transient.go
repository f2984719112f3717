package pools

import (
	"context"
	"errors"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt"
)

// This file is about transient pools (virsh pool-create): libvirt knows them only
// while they are active.

// XML returns what a pool is defined as: what Create and virsh pool-create
// make it of again. It has the pool's UUID, and no passwords.
func (h *Pools) XML(ctx context.Context, name string) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, changeLimit))
	defer cancel()
	err = h.opt.Client.With(ctx, func(c *libvirt.Conn) error {
		sp, _, err := find(ctx, c, name)
		if err == nil {
			text, err = xmlOf(ctx, c, sp)
		}
		return err
	})
	return text, libvirt.Doing("read the definition of pool", name, err)
}

// Create makes a transient pool, active, of its XML. nil also when a pool of its
// name is active already.
func (h *Pools) Create(ctx context.Context, text string) error {
	var def libvirtxml.StoragePool
	if err := def.Unmarshal(text); err != nil {
		return fmt.Errorf("make a pool: read its definition: %w", err)
	}
	limit, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, changeLimit))
	defer cancel()
	err := h.opt.Client.With(limit, func(c *libvirt.Conn) error {
		_, active, err := find(limit, c, def.Name)
		if active || err != nil && !libvirt.HasCode(err, golibvirt.ErrNoStoragePool) {
			return err
		}
		return c.Call(limit, "ask libvirtd", func(l *golibvirt.Libvirt) error {
			_, err := l.StoragePoolCreateXML(text, 0)
			return err
		})
	})
	if err != nil { // the answer may have been lost
		err = h.became(ctx, def.Name, true, err)
	}
	return libvirt.Doing("make pool", def.Name, err)
}

// MultipathXML changes the XML of a pool as RedefineMultipath changes a pool. changed
// tells whether it is another one.
func (h *Pools) MultipathXML(text string) (out string, changed bool, err error) {
	var def libvirtxml.StoragePool
	if err = def.Unmarshal(text); err != nil {
		return "", false, fmt.Errorf("read the definition of a pool: %w", err)
	}
	if changed, err = h.useMultipath(&def); err != nil || !changed {
		return text, false, libvirt.Doing("use multipath for pool", def.Name, err)
	}
	if out, err = def.Marshal(); err != nil {
		return "", false, fmt.Errorf("write the definition of pool %s: %w", def.Name, err)
	}
	return out, true, nil
}

// became returns nil when a pool is as it was wanted after all, done by a call
// whose answer was lost or by somebody else at the same time, and else cause.
func (h *Pools) became(ctx context.Context, name string, want bool, cause error) error {
	var active bool
	err := h.opt.Client.Ask(ctx, "look at it again", func(l *golibvirt.Libvirt) error {
		sp, err := l.StoragePoolLookupByName(name)
		if libvirt.HasCode(err, golibvirt.ErrNoStoragePool) {
			return nil
		}
		if err != nil {
			return err
		}
		is, err := l.StoragePoolIsActive(sp)
		active = is != 0
		return err
	})
	if err == nil && active == want {
		return nil
	}
	return errors.Join(cause, err)
}
