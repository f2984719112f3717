package protected

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/clock"
)

// This file is about a guest whose image is in a Ceph pool (GuestSpec.RBD).
//
// RBD's own lock does not keep a second guest away: two that run on one image take it
// from each other, and both write. So before a start everybody else who has the image
// open is locked out of the cluster, and that is read back; else there is no start. It
// is a second line: nothing of the safety argument rests on it. A guest that was locked
// out is stopped by QEMU at its next write and can never go on: Observe tells it.

// RBD is the port to a cluster, for one image.
type RBD interface {
	// Check tells whether the image can be used from this host, and others be locked out.
	Check(ctx context.Context) error
	// Key is the secret of the image's user.
	Key() ([]byte, error)
	// Evict locks out whoever has the image open, for good, and returns them. nil: none
	// of them can write any more.
	Evict(ctx context.Context) ([]string, error)
	// Open tells who has the image open on this host, and who elsewhere.
	Open(ctx context.Context) (here, elsewhere []string, err error)
}

const (
	// leaveLimit is how long the source of a migration may have the image open after
	// the guest runs at the target: a client that ended without a word is forgotten
	// after half a minute.
	leaveLimit = 45 * time.Second
	leaveAgain = 2 * time.Second
	// shutLimit bounds the question whether the guest was locked out.
	shutLimit = 20 * time.Second
)

// pool is the image that the guest has, as far as it is known.
type pool struct {
	mu     sync.Mutex
	of     cluster.RBD
	rbd    RBD     // nil: none is known
	asking bool    // whether the guest was locked out
	shut   process // a process of the guest that was
}

// image returns the client for an image, which stays the same as long as the image does.
func (d *Driver) image(r *cluster.RBD) (RBD, error) {
	if d.opt.RBD == nil {
		return nil, errors.New("this driver knows no images in Ceph pools")
	}
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	if d.pool.rbd == nil || !reflect.DeepEqual(d.pool.of, *r) {
		d.pool.of, d.pool.rbd = *r, d.opt.RBD(*r)
	}
	return d.pool.rbd, nil
}

// checkPool makes sure that the image can be used from this host, and that libvirtd has
// the key.
func (d *Driver) checkPool(ctx context.Context, spec cluster.GuestSpec) error {
	if spec.RBD == nil {
		return nil
	}
	img, err := d.image(spec.RBD)
	if err != nil {
		return err
	}
	return errors.Join(d.giveKey(ctx, spec, img), img.Check(ctx))
}

// takePool is the last thing before a start: libvirtd has the key, and everybody else
// is locked out of the image. On this host nothing of the guest runs.
func (d *Driver) takePool(ctx context.Context, spec cluster.GuestSpec) error {
	if spec.RBD == nil {
		return nil
	}
	img, err := d.image(spec.RBD)
	if err == nil {
		err = d.giveKey(ctx, spec, img)
	}
	if err != nil {
		return err
	}
	gone, err := img.Evict(ctx)
	if len(gone) > 0 {
		d.log.Warn("locked out of the image, before the guest starts", "image", spec.Image, "clients", strings.Join(gone, " "))
	}
	return err
}

// secretUUID is the UUID of the guest's key in libvirtd, the same on all hosts.
func secretUUID(guest string) golibvirt.UUID {
	var u golibvirt.UUID
	h := sha256.Sum256([]byte("holdfast rbd key " + strings.ToLower(guest)))
	copy(u[:], h[:])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return u
}

func uuidText(u golibvirt.UUID) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// giveKey makes sure that libvirtd has the key of the image's user, by reading it back.
// It keeps it in its memory only: after its restart it is given again. Whoever could ask
// it for the key is root.
func (d *Driver) giveKey(ctx context.Context, spec cluster.GuestSpec, img RBD) error {
	key, err := img.Key()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, libvirt.ConnectLimit))
	defer cancel()
	c, err := d.link.Get(ctx)
	if err != nil {
		return err
	}
	u := secretUUID(spec.UUID)
	return c.Call(ctx, "give libvirtd the key of the Ceph user", func(l *golibvirt.Libvirt) error {
		has := func() ([]byte, error) { return l.SecretGetValue(golibvirt.Secret{UUID: u}, 0) }
		if now, err := has(); err == nil && bytes.Equal(now, key) {
			return nil
		}
		def := libvirtxml.Secret{
			Ephemeral: "yes", Private: "no", UUID: uuidText(u), Description: "of the image of " + spec.Name,
			Usage: &libvirtxml.SecretUsage{Type: "ceph", Name: "holdfast " + strings.ToLower(spec.UUID)},
		}
		text, err := def.Marshal()
		if err != nil {
			return err
		}
		s, err := l.SecretDefineXML(text, 0)
		if err == nil {
			err = l.SecretSetValue(s, key, 0)
		}
		if err != nil {
			return err
		}
		now, err := has()
		if err == nil && !bytes.Equal(now, key) {
			err = errors.New("it reads back as another one")
		}
		return err
	})
}

// rbdSource is the disk of an image in a pool.
func rbdSource(spec cluster.GuestSpec) *libvirtxml.DomainDiskSourceNetwork {
	r := spec.RBD
	src := &libvirtxml.DomainDiskSourceNetwork{
		Protocol: "rbd", Name: r.Pool + "/" + r.Image,
		Auth: &libvirtxml.DomainDiskAuth{
			Username: r.User, Secret: &libvirtxml.DomainDiskSecret{Type: "ceph", UUID: uuidText(secretUUID(spec.UUID))},
		},
	}
	for _, m := range r.Mons {
		host, port, err := net.SplitHostPort(m)
		if err != nil {
			host, port = m, ""
		}
		src.Hosts = append(src.Hosts, libvirtxml.DomainDiskSourceHost{Name: host, Port: port})
	}
	return src
}

// lockedOut tells whether a guest that stands still by an I/O error was locked out: its
// process has the image no longer open. The answer comes later; an image that nobody has
// told of yet is not asked for.
func (d *Driver) lockedOut(p process) bool {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	img := d.pool.rbd
	if img == nil || d.pool.shut == p || d.pool.asking {
		return d.pool.shut == p
	}
	d.pool.asking = d.own(func() {
		ctx, cancel := context.WithTimeout(d.life, shutLimit)
		defer cancel()
		here, _, err := img.Open(ctx)
		d.pool.mu.Lock()
		d.pool.asking = false
		if err == nil && len(here) == 0 {
			d.pool.shut = p
		}
		d.pool.mu.Unlock()
		if err != nil && d.life.Err() == nil {
			d.log.Warn("it is not known whether the guest was locked out of its image", "err", err)
		}
		d.poke()
	})
	return false
}

// awaitLeft sees that the source of a migration has left the image, and tells if not.
func (d *Driver) awaitLeft() {
	d.pool.mu.Lock()
	img := d.pool.rbd
	d.pool.mu.Unlock()
	if img == nil {
		return
	}
	d.own(func() {
		ctx, cancel := context.WithTimeout(d.life, leaveLimit)
		defer cancel()
		for {
			_, elsewhere, err := img.Open(ctx)
			if err == nil && len(elsewhere) == 0 {
				d.log.Info("after the migration the image is open on this host only")
				return
			}
			if !clock.Sleep(ctx, leaveAgain) {
				if d.life.Err() == nil {
					d.log.Warn("after the migration the image is still open elsewhere", "clients", strings.Join(elsewhere, " "), "err", err)
				}
				return
			}
		}
	})
}
