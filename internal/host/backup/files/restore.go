package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/durable"
)

// Verify reads the whole archive and compares it with the receipt, and each file
// in it with the list.
func (Provider) Verify(ctx context.Context, rec backup.Receipt) error {
	var d data
	if err := backup.CheckReceipt(rec, name, &d); err != nil {
		return err
	}
	return read(ctx, rec, d, nil)
}

// Restore puts every path back as it was. It verifies the archive, unpacks all of
// it beside the paths, and then replaces one path after the other. What was there
// is kept beside the path until Delete.
func (Provider) Restore(ctx context.Context, rec backup.Receipt) error {
	var d data
	return backup.Restore(ctx, rec, name, &d, func(*backup.Lock) error {
		if err := read(ctx, rec, d, nil); err != nil {
			return err
		}
		return restore(ctx, rec, d)
	})
}

func restore(ctx context.Context, rec backup.Receipt, d data) error {
	u, err := prepare(rec.ID, d)
	if err == nil {
		err = read(ctx, rec, d, u)
	}
	if err == nil {
		err = u.finish()
	}
	if err == nil {
		err = syncAll(u.places)
	}
	if err != nil {
		for _, p := range u.places {
			err = errors.Join(err, backup.Discard(p.Stage()))
		}
		return err
	}
	for _, p := range u.places {
		if err := p.Swap(); err != nil {
			return err
		}
	}
	for _, path := range d.Absent {
		if err := (backup.Place{Path: path, ID: rec.ID}).Vacate(); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes sure that every path can be replaced, before anything is unpacked.
func prepare(id string, d data) (*unpacker, error) {
	u := newUnpacker()
	need := map[uint64]int64{} // bytes by mount
	for i, path := range d.Paths {
		p := backup.Place{Path: path, ID: id}
		above := filepath.Dir(path)
		if err := durable.MakeDirs(above, 0o755); err != nil {
			return u, err
		}
		if err := p.Recover(); err != nil {
			return u, err
		}
		if there, err := backup.Exists(path); err != nil {
			return u, err
		} else if there {
			if at, err := backup.IsMountPoint(path); err != nil || at {
				return u, errors.Join(fmt.Errorf("%s is a mount point now and can not be replaced", path), err)
			}
		}
		mount, err := backup.MountID(above)
		if err != nil {
			return u, err
		}
		u.places = append(u.places, p)
		if i < len(d.Bytes) {
			need[mount] += d.Bytes[i]
		}
		if err := backup.NeedSpace(above, need[mount]); err != nil {
			return u, err
		}
	}
	for _, path := range d.Absent {
		if err := (backup.Place{Path: path, ID: id}).Recover(); err != nil && !errors.Is(err, os.ErrNotExist) {
			return u, err
		}
	}
	return u, nil
}

// syncAll puts what was unpacked on disk, one file system after the other: that is
// a great deal faster than one file after the other.
func syncAll(places []backup.Place) error {
	done := map[uint64]bool{}
	for _, p := range places {
		dir := filepath.Dir(p.Path)
		mount, err := backup.MountID(dir)
		if err != nil {
			return err
		}
		if done[mount] {
			continue
		}
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil {
			return fmt.Errorf("put %s on disk: %w", p.Stage(), err)
		}
		done[mount] = true
	}
	return nil
}
