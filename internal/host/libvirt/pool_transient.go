package libvirt

import (
	"context"
	"errors"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"
)

// This file is about transient pools (virsh pool-create): libvirt knows them only
// while they are active.

// PoolXML returns what a pool is defined as: what CreatePool and virsh pool-create
// make it of again. It has the pool's UUID, and no passwords.
func (f *Fleet) PoolXML(ctx context.Context, name string) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, share(ctx, poolLimit))
	defer cancel()
	err = f.with(ctx, func(c *conn) error {
		sp, _, err := findPool(ctx, c, name)
		if err == nil {
			text, err = poolText(ctx, c, sp)
		}
		return err
	})
	return text, doing("read the definition of pool", name, err)
}

// CreatePool makes a transient pool, active, of its XML. nil also when a pool of its
// name is active already.
func (f *Fleet) CreatePool(ctx context.Context, text string) error {
	var def libvirtxml.StoragePool
	if err := def.Unmarshal(text); err != nil {
		return fmt.Errorf("make a pool: read its definition: %w", err)
	}
	limit, cancel := context.WithTimeout(ctx, share(ctx, poolLimit))
	defer cancel()
	err := f.with(limit, func(c *conn) error {
		_, active, err := findPool(limit, c, def.Name)
		if active || err != nil && !hasCode(err, golibvirt.ErrNoStoragePool) {
			return err
		}
		return c.call(limit, "ask libvirtd", func(l *golibvirt.Libvirt) error {
			_, err := l.StoragePoolCreateXML(text, 0)
			return err
		})
	})
	if err != nil { // the answer may have been lost
		err = f.poolBecame(ctx, def.Name, true, err)
	}
	return doing("make pool", def.Name, err)
}

// MultipathXML changes the XML of a pool as RedefineMultipath changes a pool. changed
// tells whether it is another one.
func (f *Fleet) MultipathXML(text string) (out string, changed bool, err error) {
	var def libvirtxml.StoragePool
	if err = def.Unmarshal(text); err != nil {
		return "", false, fmt.Errorf("read the definition of a pool: %w", err)
	}
	if changed, err = f.useMultipath(&def); err != nil || !changed {
		return text, false, doing("use multipath for pool", def.Name, err)
	}
	if out, err = def.Marshal(); err != nil {
		return "", false, fmt.Errorf("write the definition of pool %s: %w", def.Name, err)
	}
	return out, true, nil
}

// poolBecame returns nil when a pool is as it was wanted after all, done by a call
// whose answer was lost or by somebody else at the same time, and else cause.
func (f *Fleet) poolBecame(ctx context.Context, name string, want bool, cause error) error {
	var active bool
	err := f.ask(ctx, "look at it again", func(l *golibvirt.Libvirt) error {
		sp, err := l.StoragePoolLookupByName(name)
		if hasCode(err, golibvirt.ErrNoStoragePool) {
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
