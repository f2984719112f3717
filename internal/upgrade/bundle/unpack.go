package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/strictyaml"
)

// partial is how the directory of an unpack that is not done begins; the
// target's name and a random number follow.
const partial = ".holdfast-unpack-"

// ErrNoSpace is wrapped when there is not enough free space.
var ErrNoSpace = errors.New("not enough free space")

// ErrBusy is wrapped when another unpack works in the same directory.
var ErrBusy = errors.New("another unpack is under way")

// Unpack checks a package as Verify does and leaves its files in the new
// directory dir, with a manifest in every layout. dir appears when everything
// was checked and is on disk, and never in part; its parent must exist. What an
// unpack into dir left behind that was cut off is removed first.
func Unpack(ctx context.Context, r io.Reader, dir string, o Options) (rep *Report, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	parent, err := lockParent(dir)
	if err != nil {
		return nil, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	defer parent.Close() // and the lock with it
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("unpack into %s: want a directory that is not there yet: %w", dir, errors.Join(err, os.ErrExist))
	}
	if err := removePartial(dir); err != nil {
		return nil, fmt.Errorf("remove what an earlier unpack left: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), partial+filepath.Base(dir)+"-")
	if err != nil {
		return nil, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if rep, err = unpackInto(ctx, r, tmp, &o); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	if err := parent.Sync(); err != nil {
		return nil, fmt.Errorf("unpack into %s: %w", dir, errors.Join(err, os.RemoveAll(dir)))
	}
	return rep, nil
}

// lockParent keeps other unpacks out of the directory that dir will be in. The
// kernel gives the lock up when the process ends.
func lockParent(dir string) (*os.File, error) {
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(parent.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrBusy
	}
	if err != nil {
		return nil, errors.Join(err, parent.Close())
	}
	return parent, nil
}

// removePartial removes what unpacks into dir have left.
func removePartial(dir string) error {
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), partial+filepath.Base(dir)+"-")
		if ok && strings.Trim(number, "0123456789") == "" && e.IsDir() {
			err = errors.Join(err, os.RemoveAll(filepath.Join(filepath.Dir(dir), e.Name())))
		}
	}
	return err
}

// unpackInto fills a directory and makes it last.
func unpackInto(ctx context.Context, r io.Reader, dir string, o *Options) (rep *Report, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	defer root.Close()
	free := o.free
	if free == nil {
		free = freeSpace
	}
	u := &unpacker{root: root, dirs: map[string]bool{".": true}, free: func() (int64, error) { return free(dir) }}
	if rep, err = read(ctx, r, o, u); err != nil {
		return nil, err
	}
	if rep.Layout != Native {
		if err := u.complete(rep.Manifest); err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
	}
	if err := u.sync(); err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	return rep, nil
}

func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// unpacker is a sink that writes files below a root.
type unpacker struct {
	root *os.Root
	dirs map[string]bool // that were made
	free func() (int64, error)
}

// begin checks the space and writes what comes before the files. Without a
// manifest the size is not known: each file asks then.
func (u *unpacker) begin(h head) error {
	m := h.m
	if m == nil {
		m = &manifest.Manifest{}
	}
	need := m.MinSpace()
	var sum int64
	for _, f := range m.Files() {
		sum += f.Size
	}
	if err := u.space(max(need, 2*sum)); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{manifest.FileManifest, h.manifest}, {manifest.FileSignature, h.signature}} {
		if len(f.data) == 0 {
			continue
		}
		if err := u.write(f.name, 0o644, strings.NewReader(string(f.data))); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) space(need int64) error {
	have, err := u.free()
	if err == nil && have < need {
		err = fmt.Errorf("%w: %d MiB, want %d MiB", ErrNoSpace, have>>20, need>>20)
	}
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

func (u *unpacker) file(f manifest.File, r io.Reader) error {
	mode, ok := manifest.ParseMode(f.Mode)
	if !ok {
		return fmt.Errorf("unpack %s: mode %q", f.Path, f.Mode)
	}
	if err := u.space(2 * f.Size); err != nil {
		return err
	}
	return u.write(f.Path, os.FileMode(mode), r)
}

// write makes a new file with its directories, and brings it to disk.
func (u *unpacker) write(name string, mode os.FileMode, r io.Reader) error {
	if dir := path.Dir(name); !u.dirs[dir] {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		for d := dir; !u.dirs[d]; d = path.Dir(d) {
			u.dirs[d] = true
		}
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

// complete gives a package of another layout its manifest, and makes programs
// of the files that the manifest runs.
func (u *unpacker) complete(m *manifest.Manifest) error {
	text, err := strictyaml.Encode(m)
	if err != nil {
		return err
	}
	for _, f := range m.Files() {
		if mode, ok := manifest.ParseMode(f.Mode); ok {
			if err := u.root.Chmod(f.Path, os.FileMode(mode)); err != nil {
				return err
			}
		}
	}
	return u.write(manifest.FileManifest, 0o644, strings.NewReader(string(text)))
}

// sync brings the directories to disk, the deepest first, with modes that do not
// depend on the umask.
func (u *unpacker) sync() error {
	var dirs []string
	for d := range u.dirs {
		dirs = append(dirs, d)
	}
	slices.SortFunc(dirs, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, d := range dirs {
		f, err := u.root.Open(d)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Chmod(0o755), f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
