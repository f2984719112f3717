package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/lib/durable"
)

// Beginnings of names in a bundle cache that a random number follows.
const (
	putting   = ".put-"
	going     = ".gone-"
	unpackDir = ".holdfast-unpack-" // as package bundle names it; a hash and - follow
)

// partFor is how long what was fetched in part is kept for a fetch to go on.
const partFor = 7 * 24 * time.Hour

// Remove removes a bundle: its file, what was unpacked, and what was fetched of
// it. That nothing is there is fine. While the bundle is fetched or unpacked the
// error wraps ErrBusy. Who reads the file reads on.
func (d *Cache) Remove(sha string) error {
	if err := checkHash(sha); err != nil {
		return err
	}
	release, wait := d.tryHold(sha)
	if wait != nil {
		return fmt.Errorf("remove bundle %s: %w", short(sha), ErrBusy)
	}
	defer release()
	if err := d.ready(false); err != nil {
		return absentIsNil(err)
	}
	// The file goes after what was made of it, and its note last: whatever is cut off
	// here is either a bundle that can be removed again, or swept.
	if err := d.discard(sha, "", fileSuffix, noteSuffix, partSuffix); err != nil {
		return fmt.Errorf("remove bundle %s: %w", short(sha), err)
	}
	return nil
}

// restFor is how long a bundle that no run names is left alone after it has come: whoever
// brought it may be about to use it.
const restFor = time.Hour

// Tidy removes what no run needs any more: all that is unpacked, and the bundles. The
// file of the bundle with the hash keep stays; unpacked it stays only if staged. Bundles
// that came within the last hour stay, and those that are fetched or unpacked now.
func (d *Cache) Tidy(keep string, staged bool) error {
	if err := checkHash(keep); err != nil {
		return fmt.Errorf("tidy the bundles: %w", err)
	}
	if err := d.ready(false); err != nil {
		return absentIsNil(err)
	}
	entries, err := os.ReadDir(d.Dir)
	if err != nil {
		return fmt.Errorf("tidy the bundles: %w", err)
	}
	var errs []error
	for _, e := range entries {
		sha := strings.TrimSuffix(strings.TrimSuffix(e.Name(), fileSuffix), partSuffix)
		if checkHash(sha) != nil || sha == keep && staged {
			continue
		}
		release, wait := d.tryHold(sha)
		if wait != nil {
			continue
		}
		if err := d.drop(sha, sha == keep); err != nil {
			errs = append(errs, fmt.Errorf("remove bundle %s: %w", short(sha), err))
		}
		release()
	}
	return errors.Join(errs...)
}

// drop removes a bundle that nobody needs, or what is unpacked of one whose file is to
// stay.
func (d *Cache) drop(sha string, file bool) error {
	if file {
		return d.discard(sha, "")
	}
	for _, s := range []string{fileSuffix, partSuffix} {
		if info, err := os.Lstat(d.path(sha, s)); err == nil && time.Since(info.ModTime()) < restFor {
			return nil
		}
	}
	return d.discard(sha, "", fileSuffix, noteSuffix, partSuffix)
}

// discard removes what there is of a bundle with these suffixes, in this order.
// Each is renamed away before any is removed, so nothing is seen in part.
func (d *Cache) discard(sha string, suffixes ...string) error {
	gone, err := d.away(sha, suffixes)
	d.forget(sha)
	for _, path := range gone {
		d.hook("away")
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// away renames what there is to names that nobody looks for. It needs no space,
// so it works on a full disk as well.
func (d *Cache) away(sha string, suffixes []string) (gone []string, err error) {
	d.disk.Lock()
	defer d.disk.Unlock()
	for _, s := range suffixes {
		if !there(d.path(sha, s)) {
			continue
		}
		path := filepath.Join(d.Dir, going+strconv.FormatUint(rand.Uint64(), 10))
		if err := os.Rename(d.path(sha, s), path); err != nil {
			return gone, err
		}
		gone = append(gone, path)
		d.hook("moved" + s)
	}
	if len(gone) == 0 {
		return nil, nil
	}
	return gone, durable.SyncDir(d.Dir)
}

// ready makes the directory if that is wanted, and sweeps it once. Without the
// directory the error wraps fs.ErrNotExist.
func (d *Cache) ready(create bool) error {
	if !filepath.IsAbs(d.Dir) {
		return fmt.Errorf("bundle cache %q: want an absolute path", d.Dir)
	}
	d.disk.Lock()
	defer d.disk.Unlock()
	if create {
		if err := durable.MakeDir(d.Dir); err != nil {
			return fmt.Errorf("make the bundle cache: %w", full(err))
		}
	}
	entries, err := os.Open(d.Dir)
	if err != nil {
		return fmt.Errorf("open the bundle cache: %w", err)
	}
	defer entries.Close() // it was only read
	if d.swept {
		return nil
	}
	list, err := entries.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("look into the bundle cache: %w", err)
	}
	for _, e := range list {
		d.sweep(e)
	}
	d.swept = true
	return nil
}

// sweep removes an entry that an earlier process has left. One that stays is
// only told: it is in nobody's way.
func (d *Cache) sweep(e fs.DirEntry) {
	if !d.leftover(e) {
		return
	}
	d.log.Info("bundle cache: what an earlier process left is removed", "name", e.Name())
	if err := os.RemoveAll(filepath.Join(d.Dir, e.Name())); err != nil {
		d.log.Warn("bundle cache: what an earlier process left stays", "name", e.Name(), "err", err)
	}
}

// leftover reports whether an entry is of something that was cut off and that
// nobody goes on with.
func (d *Cache) leftover(e fs.DirEntry) bool {
	name := e.Name()
	if sha, ok := strings.CutSuffix(name, noteSuffix); ok && checkHash(sha) == nil {
		return !there(d.path(sha, fileSuffix))
	}
	if sha, ok := strings.CutSuffix(name, partSuffix); ok && checkHash(sha) == nil {
		_, have := d.complete(sha)
		info, err := e.Info()
		return have == nil || err == nil && time.Since(info.ModTime()) > partFor
	}
	begin, number := name, ""
	if i := strings.LastIndexAny(name, "-."); i >= 0 {
		begin, number = name[:i+1], name[i+1:]
	}
	if number == "" || strings.Trim(number, "0123456789") != "" {
		return false
	}
	switch {
	case begin == putting:
		return e.Type().IsRegular()
	case begin == going:
		return true
	case strings.HasPrefix(begin, unpackDir):
		return e.IsDir() && checkHash(strings.TrimSuffix(strings.TrimPrefix(begin, unpackDir), "-")) == nil
	case strings.HasPrefix(begin, "."):
		sha, ok := strings.CutSuffix(begin[1:], noteSuffix+".")
		return ok && checkHash(sha) == nil && e.Type().IsRegular()
	}
	return false
}
