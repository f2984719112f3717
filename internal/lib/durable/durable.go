// Package durable puts files and names of files on disk: after a crash or a power
// loss at any moment a file is the old one or the new one, and what was reported as
// done is there. It reads secrets, too: files that nobody but their owner may read. It
// knows nothing of what it writes and keeps no state.
// See docs/adr/0030.
//
// A write that fails leaves no temporary file. A process that is killed in the
// middle of one may: beside FILE there is then a .FILE.NUMBER, which nobody reads.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// syncer brings an open file or directory to disk: fsync, but for tests.
type syncer func(*os.File) error

func fsync(f *os.File) error { return f.Sync() }

// WriteFile replaces the file at path, or makes it, with exactly this mode,
// whatever the umask. Several may write one path at the same time: the last one
// stays. After an error the old content is there, or, when only the directory
// could not be put on disk, the new one. Errors name the file.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return syncer(fsync).writeFile(path, data, perm)
}

// Write is WriteFile for what is made piece by piece: fill writes it, and may change
// the owner. An error of fill is returned as it is.
func Write(path string, perm fs.FileMode, fill func(*os.File) error) error {
	return syncer(fsync).write(path, perm, fill)
}

// Temp does the first half of Write: it gives the name of a new file in the
// directory of path that is on disk, but whose name need not last. The caller
// renames or removes it.
func Temp(path string, perm fs.FileMode, fill func(*os.File) error) (string, error) {
	return syncer(fsync).temp(path, perm, fill)
}

// Rename gives a file or a directory that is on disk another name on the same file
// system, in place of a file that has it, and makes that last. When the rename was
// done and only making it last has failed, what was at the old name is at the new one.
func Rename(from, to string) error { return syncer(fsync).rename(from, to) }

// SyncDir makes the names in a directory last: that files were made, renamed or
// removed there.
func SyncDir(dir string) error { return syncer(fsync).dir(dir) }

// MakeDir makes a directory of mode 0700 with those above it that are missing, and
// makes them last. One that is there already is left as it is.
func MakeDir(dir string) error { return syncer(fsync).makeDir(dir, 0o700) }

// MakeDirs is MakeDir with exactly this mode, whatever the umask, for what it makes:
// directories into which others look.
func MakeDirs(dir string, perm fs.FileMode) error { return syncer(fsync).makeDir(dir, perm) }

func (s syncer) writeFile(path string, data []byte, perm fs.FileMode) error {
	return s.write(path, perm, func(f *os.File) error {
		if _, err := f.Write(data); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	})
}

func (s syncer) write(path string, perm fs.FileMode, fill func(*os.File) error) error {
	temp, err := s.temp(path, perm, fill)
	if err != nil {
		return err
	}
	if err := s.rename(temp, path); err != nil {
		if rerr := os.Remove(temp); !errors.Is(rerr, fs.ErrNotExist) { // else it was renamed
			err = errors.Join(err, rerr)
		}
		return err
	}
	return nil
}

func (s syncer) temp(path string, perm fs.FileMode, fill func(*os.File) error) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	if err = fill(f); err == nil {
		// The mode comes last: a change of the owner takes bits of it away.
		if err = errors.Join(f.Chmod(perm), s(f)); err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}
	if cerr := f.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("write %s: %w", path, cerr))
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func (s syncer) rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err // names both
	}
	old, now := filepath.Dir(from), filepath.Dir(to)
	err := s.dir(now)
	if old != now {
		err = errors.Join(err, s.dir(old))
	}
	return err
}

func (s syncer) dir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("put the names in %s on disk: %w", dir, err)
	}
	if err := errors.Join(s(d), d.Close()); err != nil {
		return fmt.Errorf("put the names in %s on disk: %w", dir, err)
	}
	return nil
}

func (s syncer) makeDir(dir string, perm fs.FileMode) error {
	err := os.Mkdir(dir, perm)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err := s.makeDir(filepath.Dir(dir), perm); err != nil {
			return err
		}
		err = os.Mkdir(dir, perm)
	}
	if errors.Is(err, fs.ErrExist) {
		info, serr := os.Stat(dir)
		if serr == nil && !info.IsDir() {
			serr = &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return serr
	}
	if err == nil {
		err = os.Chmod(dir, perm)
	}
	if err != nil {
		return err
	}
	return s.dir(filepath.Dir(dir))
}
