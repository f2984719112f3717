package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/backup"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade/bundle"
)

// Put takes a bundle in. It is read once: what is written is what is checked, so
// a bundle that is at fault is refused as soon as that shows, and nothing of it
// stays. The error is a *bundle.Refusal then. Limits in o beyond those of package
// bundle count as its limits.
func (d *Cache) Put(ctx context.Context, r io.Reader, o bundle.Options) (b Bundle, m *manifest.Manifest, err error) {
	if o.MaxBytes <= 0 || o.MaxBytes > bundle.DefaultMaxBytes {
		o.MaxBytes = bundle.DefaultMaxBytes
	}
	if o.MaxFiles <= 0 || o.MaxFiles > bundle.DefaultMaxFiles {
		o.MaxFiles = bundle.DefaultMaxFiles
	}
	if err := d.ready(true); err != nil {
		return Bundle{}, nil, err
	}
	f, err := os.CreateTemp(d.Dir, putting)
	if err != nil {
		return Bundle{}, nil, fmt.Errorf("take a bundle in: %w", full(err))
	}
	named := false
	defer func() {
		if !named {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	rec, m, err := d.receive(ctx, f, r, o)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = full(cerr)
	}
	if err != nil {
		return Bundle{}, nil, fmt.Errorf("take a bundle in: %w", err)
	}
	d.hook("received")
	if b, err = d.commit(f.Name(), rec); err != nil {
		// The rename may have been done, and only making it last has failed.
		named = !there(f.Name())
		return Bundle{}, nil, fmt.Errorf("take a bundle in: %w", err)
	}
	named = true
	d.remember(b.SHA256, m)
	return b, m, nil
}

// receive writes and checks a bundle.
func (d *Cache) receive(ctx context.Context, f *os.File, r io.Reader, o bundle.Options) (record, *manifest.Manifest, error) {
	hash := sha256.New()
	count := &counter{r: r, limit: d.limit}
	in := io.TeeReader(count, io.MultiWriter(d.writer(f), hash))
	rep, err := bundle.Verify(ctx, in, o)
	if err != nil {
		return record{}, nil, full(err)
	}
	// The hash is that of all that was sent, so nothing may follow.
	n, err := io.Copy(io.Discard, in)
	if err == nil && n > 0 {
		err = &bundle.Refusal{Reason: "there is more data after the end of the bundle"}
	}
	if err == nil {
		err = errors.Join(ctx.Err(), f.Sync())
	}
	if err != nil {
		return record{}, nil, full(err)
	}
	sha := hex.EncodeToString(hash.Sum(nil))
	return record{describe(sha, count.n, rep), o.Signature}, rep.Manifest, nil
}

// Open gives a bundle's file from an offset on, for other hosts, and the size of
// all of it in bytes. The error wraps ErrHash, ErrOffset or fs.ErrNotExist when
// the caller asks for what can not be.
func (d *Cache) Open(sha string, offset int64) (io.ReadCloser, int64, error) {
	f, size, err := d.open(sha, offset)
	if err != nil {
		return nil, 0, err
	}
	return f, size, nil
}

func (d *Cache) open(sha string, offset int64) (*os.File, int64, error) {
	if err := checkHash(sha); err != nil {
		return nil, 0, err
	}
	if err := d.ready(false); err != nil {
		return nil, 0, err
	}
	rec, err := d.complete(sha)
	if err != nil {
		return nil, 0, err
	}
	if offset < 0 || offset > rec.Size {
		return nil, 0, fmt.Errorf("bundle %s: %w: %d of %d bytes", short(sha), ErrOffset, offset, rec.Size)
	}
	f, err := os.OpenFile(d.path(sha, fileSuffix), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open bundle %s: %w", short(sha), err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open bundle %s: %w", short(sha), err), f.Close())
	}
	return f, rec.Size, nil
}

// counter counts what is read and refuses what is too long. A compressed file
// may be endless and yet hold nothing.
type counter struct {
	r        io.Reader
	n, limit int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.n += int64(n); c.n > c.limit {
		return 0, &bundle.Refusal{Reason: fmt.Sprintf("its file has more than %d bytes", c.limit)}
	}
	return n, err
}

// lookEvery is how many bytes are written between two looks at the free space.
const lookEvery = 4 << 20

// writer writes a file as long as enough space stays free.
func (d *Cache) writer(f *os.File) io.Writer {
	return &writer{f: f, free: func() (int64, error) { return d.free(d.Dir) }}
}

type writer struct {
	f    *os.File
	free func() (int64, error)
	left int64 // bytes that may be written before the next look
}

func (w *writer) Write(p []byte) (int, error) {
	if w.left < int64(len(p)) {
		free, err := w.free()
		if err != nil {
			return 0, err
		}
		if w.left = min(free-backup.Reserve, max(lookEvery, int64(len(p)))); w.left < int64(len(p)) {
			w.left = 0
			return 0, shortage(w.f.Name(), free, int64(len(p))+backup.Reserve)
		}
	}
	n, err := w.f.Write(p)
	w.left -= int64(n)
	return n, full(err)
}

// room fails when the file system of the bundle cache has less free space than that.
func (d *Cache) room(need int64) error {
	free, err := d.free(d.Dir)
	if err == nil && free < need {
		err = shortage(d.Dir, free, need)
	}
	return err
}

func shortage(where string, free, need int64) error {
	return fmt.Errorf("%w for %s: %d MiB are free, %d MiB are needed", bundle.ErrNoSpace, where, max(free, 0)>>20, (need+1<<20-1)>>20)
}

func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}
