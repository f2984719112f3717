package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/action"
	"holdfast/internal/host/backup"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/catalogue"
	"holdfast/internal/upgrade/path"
)

// maxManifest bounds the manifest of an unpacked bundle, in bytes; those that are
// made for other layouts may be longer than one in a bundle.
const maxManifest = 64 << 20

// lockFor is how long another unpack in the bundle cache's directory is waited for.
const lockFor = 5 * time.Second

// errNotWhole is of an unpacked bundle of which something is missing.
var errNotWhole = errors.New("the unpacked bundle is not whole")

// Staged is an unpacked bundle. It is shared: nobody changes what it points to.
type Staged struct {
	Dir      string // absolute
	Manifest *manifest.Manifest
	Bundle   action.Bundle
}

func staged(dir string, m *manifest.Manifest) Staged {
	files := map[string]action.File{}
	for _, f := range m.Files() {
		mode, _ := manifest.ParseMode(f.Mode) // the manifest was checked
		files[f.Path] = action.File{Size: f.Size, SHA256: f.SHA256, Mode: mode}
	}
	return Staged{dir, m, action.Bundle{Dir: dir, Files: files}}
}

// Unpack unpacks a bundle whose file is here, once its hash was compared; one
// that is unpacked and whole is left as it is. Before, minSpace bytes must be
// free, 0 for what the manifest asks for, else the error wraps bundle.ErrNoSpace.
// A file with another hash is removed, to be fetched anew, and the error wraps
// ErrDamaged.
func (d *Cache) Unpack(ctx context.Context, sha string, minSpace int64) (Staged, error) {
	return d.unpack(ctx, sha, minSpace, func(int64, int64) {})
}

// unpack tells how many bytes were read of all that are to be read.
func (d *Cache) unpack(ctx context.Context, sha string, minSpace int64, note func(done, total int64)) (Staged, error) {
	if err := checkHash(sha); err != nil {
		return Staged{}, err
	}
	release, err := d.hold(ctx, sha)
	if err != nil {
		return Staged{}, err
	}
	defer release()
	if err := d.ready(false); err != nil {
		return Staged{}, err
	}
	s, err := d.look(sha)
	if errors.Is(err, errNotWhole) {
		d.log.Warn("bundle cache: a bundle is unpacked anew", "sha256", sha, "err", err)
		if err = d.discard(sha, ""); err == nil {
			err = fs.ErrNotExist
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		s, err = d.unpackNew(ctx, sha, minSpace, note)
	}
	if err != nil {
		return Staged{}, fmt.Errorf("unpack bundle %s: %w", short(sha), err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.manifests[sha], d.staged[sha] = s.Manifest, s
	return s, nil
}

// unpackNew unpacks what is not unpacked.
func (d *Cache) unpackNew(ctx context.Context, sha string, minSpace int64, note func(done, total int64)) (Staged, error) {
	f, size, err := d.open(sha, 0)
	if err != nil {
		return Staged{}, err
	}
	defer f.Close() // it is only read
	if minSpace <= 0 {
		m, err := d.Manifest(ctx, sha)
		if err != nil {
			return Staged{}, err
		}
		minSpace = m.MinSpace()
	}
	if err := d.room(minSpace); err != nil {
		return Staged{}, err
	}
	// Package bundle unpacks one bundle at a time in a directory.
	select {
	case d.unpacking <- struct{}{}:
		defer func() { <-d.unpacking }()
	case <-ctx.Done():
		return Staged{}, context.Cause(ctx)
	}
	in := &meter{r: backup.Reader(ctx, f), total: 2 * size, note: note}
	hash := sha256.New()
	if _, err := io.Copy(hash, in); err != nil {
		return Staged{}, err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sha {
		err := fmt.Errorf("%w: its hash is %s", ErrDamaged, got)
		return Staged{}, errors.Join(err, d.discard(sha, fileSuffix, noteSuffix))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Staged{}, err
	}
	rep, err := d.into(ctx, in, d.path(sha, ""))
	if err != nil {
		return Staged{}, full(err)
	}
	return staged(d.path(sha, ""), rep.Manifest), nil
}

// into unpacks. The lock of package bundle may be held for a moment by a program
// that this process has just begun, or by a process that ends.
func (d *Cache) into(ctx context.Context, r io.Reader, dir string) (*bundle.Report, error) {
	for end := time.Now().Add(lockFor); ; {
		rep, err := bundle.Unpack(ctx, r, dir, bundle.Options{AllowUnsigned: true})
		if !errors.Is(err, bundle.ErrBusy) || time.Now().After(end) {
			return rep, err // nothing was read when it was busy
		}
		if !clock.Sleep(ctx, lockFor/100) {
			return nil, context.Cause(ctx)
		}
	}
}

// meter tells how much was read.
type meter struct {
	r           io.Reader
	done, total int64
	note        func(done, total int64)
}

func (t *meter) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.done += int64(n)
	t.note(t.done, t.total)
	return n, err
}

// Find gives a bundle that is unpacked, else an error that wraps fs.ErrNotExist.
// The first time all its files are looked for; that their content is right is
// checked by who uses them.
func (d *Cache) Find(sha string) (Staged, error) {
	if err := checkHash(sha); err != nil {
		return Staged{}, err
	}
	d.mu.Lock()
	s, known := d.staged[sha]
	d.mu.Unlock()
	if known && there(s.Dir) {
		return s, nil
	}
	s, err := d.look(sha)
	if errors.Is(err, errNotWhole) {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	if err != nil {
		return Staged{}, fmt.Errorf("find bundle %s: %w", short(sha), err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if there(s.Dir) { // else it was removed meanwhile
		d.staged[sha] = s
	}
	return s, nil
}

// look reads the manifest of an unpacked bundle and looks whether each file is
// there with its size.
func (d *Cache) look(sha string) (Staged, error) {
	dir := d.path(sha, "")
	info, err := os.Lstat(dir)
	if err != nil {
		return Staged{}, err
	}
	if !info.IsDir() {
		return Staged{}, fmt.Errorf("%w: %s is no directory", errNotWhole, dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Staged{}, err
	}
	defer root.Close() // it is only read
	m, err := readManifest(root)
	if err != nil {
		return Staged{}, err
	}
	for _, f := range m.Files() {
		info, err := root.Lstat(f.Path)
		switch {
		case err != nil:
			return Staged{}, absent(f.Path, err)
		case !info.Mode().IsRegular() || info.Size() != f.Size:
			return Staged{}, fmt.Errorf("%w: %s is not a file of %d bytes", errNotWhole, f.Path, f.Size)
		}
	}
	return staged(dir, m), nil
}

// absent tells a file that can not be reached, for what is in its way, from one
// that this host can not read now.
func absent(name string, err error) error {
	var sys unix.Errno
	if errors.As(err, &sys) && sys != unix.ENOENT && sys != unix.ENOTDIR && sys != unix.ELOOP {
		return err
	}
	return fmt.Errorf("%w: %s: %w", errNotWhole, name, err)
}

func readManifest(root *os.Root) (*manifest.Manifest, error) {
	f, err := root.Open(manifest.FileManifest)
	if err != nil {
		return nil, absent(manifest.FileManifest, err)
	}
	defer f.Close() // it is only read
	text, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, err
	}
	m := &manifest.Manifest{}
	read := strictyaml.Decode(text, m)
	faults := read.Faults
	if len(faults) == 0 {
		faults = read.Locate(m.Check())
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("%w: %s", errNotWhole, faults[0].In(manifest.FileManifest))
	}
	return m, nil
}

// Manifest gives the manifest of a bundle whose file is here, or that is
// unpacked. It is shared: nobody changes it.
func (d *Cache) Manifest(ctx context.Context, sha string) (*manifest.Manifest, error) {
	if err := checkHash(sha); err != nil {
		return nil, err
	}
	d.mu.Lock()
	m, known := d.manifests[sha]
	d.mu.Unlock()
	if known && there(d.path(sha, fileSuffix), d.path(sha, "")) {
		return m, nil
	}
	if s, err := d.Find(sha); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return s.Manifest, err
	}
	f, _, err := d.open(sha, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it is only read
	rep, err := bundle.Head(ctx, f, bundle.Options{AllowUnsigned: true})
	if err != nil {
		return nil, fmt.Errorf("read the manifest of bundle %s: %w", short(sha), err)
	}
	d.remember(sha, rep.Manifest)
	return rep.Manifest, nil
}

// Catalogue gives the catalogue of versions that a bundle has, nil when it has none.
func (d *Cache) Catalogue(ctx context.Context, sha string) (*path.Catalogue, error) {
	m, err := d.Manifest(ctx, sha)
	if err != nil || m.Path == nil {
		return nil, err
	}
	f, _, err := d.Open(sha, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it is only read
	rep, err := bundle.Head(ctx, f, bundle.Options{AllowUnsigned: true})
	if err != nil {
		return nil, fmt.Errorf("read the catalogue of bundle %s: %w", short(sha), err)
	}
	return catalogue.Parse(m.Path.Catalogue, rep.Catalogue)
}
