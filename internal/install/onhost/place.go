package onhost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/internal/install"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/pki"
)

// placer puts files into a host and can take all of them back, also after a
// crash: dir holds what was there before, and the record of it is on disk before
// the first file is replaced.
type placer struct {
	root string // before all paths; / but for tests
	dir  string
	gid  int // of files that name no group; 0 but for tests
}

// record is what undo goes by.
type record struct {
	Files []old    `json:"files"`
	Dirs  []string `json:"dirs"` // that were made, outer ones first
}

// old is a path before it was replaced.
type old struct {
	Path  string      `json:"path"`
	Saved string      `json:"saved,omitempty"` // name in dir; "": there was nothing
	Mode  fs.FileMode `json:"mode,omitempty"`
	Group int         `json:"group,omitempty"`
	Link  string      `json:"link,omitempty"`
}

func (p placer) at(path string) string { return filepath.Join(p.root, path) }
func (p placer) recordFile() string    { return filepath.Join(p.dir, "record.json") }

// recover undoes what a placer that died has left, and tells the paths.
func (p placer) recover() ([]string, error) {
	r, err := p.read()
	if err != nil || r == nil {
		return nil, err
	}
	var paths []string
	for _, o := range r.Files {
		paths = append(paths, o.Path)
	}
	return paths, p.undo()
}

func (p placer) read() (*record, error) {
	raw, err := os.ReadFile(p.recordFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var r record
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of a placement: %w", err)
	}
	return &r, nil
}

// place puts those files there that differ, and tells their paths. After an
// error nothing is left of it.
func (p placer) place(files []install.File) (changed []string, err error) {
	if r, err := p.read(); err != nil || r != nil {
		return nil, errors.Join(err, errors.New("an earlier placement is not confirmed yet"))
	}
	var differ []install.File
	for _, f := range files {
		same, err := p.same(f)
		if err != nil {
			return nil, err
		}
		if !same {
			differ = append(differ, f)
			changed = append(changed, f.Path)
		}
	}
	if len(differ) == 0 {
		return nil, nil
	}
	if err := p.save(differ); err != nil {
		return nil, errors.Join(err, p.undo())
	}
	for _, f := range differ {
		if err := p.put(f); err != nil {
			return nil, errors.Join(fmt.Errorf("place %s: %w", f.Path, err), p.undo())
		}
	}
	return changed, nil
}

// content opens what a file is to hold.
func content(f install.File) (io.ReadCloser, error) {
	if !f.Self {
		return io.NopCloser(bytes.NewReader(f.Data)), nil
	}
	return os.Open("/proc/self/exe")
}

// same reports whether a path is as it is to be.
func (p placer) same(f install.File) (bool, error) {
	path := p.at(f.Path)
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", f.Path, err)
	}
	if f.Once {
		return true, nil
	}
	if f.Link != "" {
		if st.Mode().Type() != fs.ModeSymlink {
			return false, fmt.Errorf("%s is there and is no link: who put it there? Remove it, or the package that it belongs to", f.Path)
		}
		to, err := os.Readlink(path)
		return to == f.Link, err
	}
	if to, err := os.Readlink(path); err == nil && pki.IsLink(to) {
		return false, nil // the agent has renewed it
	}
	if !st.Mode().IsRegular() {
		return false, fmt.Errorf("%s is there and is no file (%s): remove it", f.Path, st.Mode().Type())
	}
	gid, err := p.group(f.Group)
	if err != nil || st.Mode().Perm() != f.Mode || int(st.Sys().(*syscall.Stat_t).Gid) != gid {
		return false, err
	}
	want, err := content(f)
	if err != nil {
		return false, err
	}
	defer want.Close()
	have, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer have.Close()
	return equal(want, have)
}

// equal compares two streams.
func equal(x, y io.Reader) (bool, error) {
	a, b := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, errX := io.ReadFull(x, a)
		m, errY := io.ReadFull(y, b)
		if !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		endX, endY := errors.Is(errX, io.EOF) || errors.Is(errX, io.ErrUnexpectedEOF),
			errors.Is(errY, io.EOF) || errors.Is(errY, io.ErrUnexpectedEOF)
		switch {
		case errX != nil && !endX:
			return false, errX
		case errY != nil && !endY:
			return false, errY
		case endX || endY:
			return endX && endY, nil
		}
	}
}

// group is the id of the first group that the host has; 0: root.
func (p placer) group(names []string) (int, error) {
	for _, name := range names {
		g, err := user.LookupGroup(name)
		if errors.As(err, new(user.UnknownGroupError)) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("look up group %s: %w", name, err)
		}
		return strconv.Atoi(g.Gid)
	}
	if len(names) > 0 {
		return 0, fmt.Errorf("this host has none of the groups %q: is QEMU installed?", names)
	}
	return p.gid, nil
}

// save keeps what is there, and writes the record of it.
func (p placer) save(files []install.File) error {
	var r record
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("keep what is there: %w", err)
	}
	for i, f := range files {
		o := old{Path: f.Path}
		st, err := os.Lstat(p.at(f.Path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.Dirs = append(r.Dirs, p.missing(filepath.Dir(f.Path))...)
		case err != nil:
			return fmt.Errorf("keep what is there: %w", err)
		case st.Mode().Type() == fs.ModeSymlink:
			if o.Link, err = os.Readlink(p.at(f.Path)); err != nil {
				return fmt.Errorf("keep what is there: %w", err)
			}
		default:
			o.Saved, o.Mode, o.Group = strconv.Itoa(i), st.Mode().Perm(), int(st.Sys().(*syscall.Stat_t).Gid)
			if err := copyFile(p.at(f.Path), filepath.Join(p.dir, o.Saved), 0o600, p.gid); err != nil {
				return fmt.Errorf("keep what is there: %w", err)
			}
		}
		r.Files = append(r.Files, o)
	}
	slices.Sort(r.Dirs) // outer ones first
	r.Dirs = slices.Compact(r.Dirs)
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("keep what is there: %w", err)
	}
	return durable.WriteFile(p.recordFile(), raw, 0o600)
}

// missing are the folders that do not exist yet, up from dir.
func (p placer) missing(dir string) (out []string) {
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(p.at(dir)); err == nil {
			break
		}
		out = append(out, dir)
	}
	return out
}

// privateDirs hold keys.
var privateDirs = map[string]fs.FileMode{install.KeyDir: 0o700, install.ConfDir: 0o755}

func (p placer) put(f install.File) error {
	path := p.at(f.Path)
	missing := p.missing(filepath.Dir(f.Path))
	for _, dir := range slices.Backward(missing) {
		mode, ok := privateDirs[dir]
		if !ok {
			mode = 0o755
		}
		if err := durable.MakeDirs(p.at(dir), mode); err != nil {
			return err
		}
	}
	if f.Link != "" {
		return relink(f.Link, path)
	}
	gid, err := p.group(f.Group)
	if err != nil {
		return err
	}
	src, err := content(f)
	if err != nil {
		return err
	}
	defer src.Close()
	return durable.Write(path, f.Mode, func(w *os.File) error {
		if _, err := io.Copy(w, src); err != nil {
			return err
		}
		return own(w, f.Mode, gid)
	})
}

func own(w *os.File, mode fs.FileMode, gid int) error {
	return errors.Join(w.Chown(-1, gid), w.Chmod(mode)) // also against the umask
}

// relink makes a symbolic link, in place of another one.
func relink(to, path string) error {
	tmp := path + ".holdfast-new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(to, tmp); err != nil {
		return err
	}
	return durable.Rename(tmp, path)
}

func copyFile(from, to string, mode fs.FileMode, gid int) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	return durable.Write(to, mode, func(w *os.File) error {
		if _, err := io.Copy(w, src); err != nil {
			return err
		}
		return own(w, mode, gid)
	})
}

// undo puts everything back that was placed and not confirmed.
func (p placer) undo() error {
	r, err := p.read()
	if err != nil {
		return err
	}
	if r == nil {
		return os.RemoveAll(p.dir)
	}
	var errs []error
	for _, o := range slices.Backward(r.Files) {
		errs = append(errs, p.back(o))
	}
	for _, dir := range slices.Backward(r.Dirs) {
		if err := os.Remove(p.at(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take back what was placed: %w", err) // the record stays
	}
	return p.keep()
}

func (p placer) back(o old) error {
	path := p.at(o.Path)
	switch {
	case o.Link != "":
		return relink(o.Link, path)
	case o.Saved != "":
		return copyFile(filepath.Join(p.dir, o.Saved), path, o.Mode, o.Group)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) {
		return nil // it was not made yet
	}
	return durable.SyncDir(filepath.Dir(path))
}

// keep makes what was placed stay. The record goes first.
func (p placer) keep() error {
	if err := os.Remove(p.recordFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("confirm what was placed: %w", err)
	}
	if _, err := os.Lstat(p.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := durable.SyncDir(p.dir); err != nil {
		return fmt.Errorf("confirm what was placed: %w", err)
	}
	return os.RemoveAll(p.dir)
}
