package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/durable"
)

// Place is a path whose content is replaced as a whole, a file or a directory.
// Beside it, while that goes on, are files whose names begin with a dot and the
// path's own name.
type Place struct {
	Path string // absolute; may not be there
	ID   string // of the backup
	at   func(point string) error
}

func (p Place) beside(suffix string) string {
	return filepath.Join(filepath.Dir(p.Path), "."+filepath.Base(p.Path)+"."+p.ID+suffix)
}

// Stage is where the new content is made.
func (p Place) Stage() string { return p.beside(".new") }

// Before is where the old content is kept until Forget.
func (p Place) Before() string { return p.beside(".before") }

// old is the old content for a moment, where the file system can not exchange.
func (p Place) old() string { return p.beside(".old") }

// note tells which inode the new content has, so that after a crash it can be
// told apart from the old.
func (p Place) note() string { return p.beside(".ino") }

// Swap puts the new content in the place of the old one. At each moment, and after
// a crash at any moment, the path has one of them; only where the file system can
// not exchange two names there is a moment with none, which Recover ends. The
// stage must be on disk.
func (p Place) Swap() error {
	if err := p.swap(); err != nil {
		return fmt.Errorf("replace %s: %w", p.Path, err)
	}
	return nil
}

func (p Place) swap() error {
	ino, err := inode(p.Stage())
	if err != nil {
		return err
	}
	if err := p.do("note", func() error { return durable.WriteFile(p.note(), []byte(strconv.FormatUint(ino, 10)), 0o600) }); err != nil {
		return err
	}
	if err := p.do("exchange", p.exchange); err != nil {
		return err
	}
	return p.tidy()
}

// Vacate leaves nothing at the path, and keeps what was there.
func (p Place) Vacate() error {
	there, err := Exists(p.Path)
	if err == nil && there {
		err = p.do("vacate", func() error { return os.Rename(p.Path, p.old()) })
	}
	if err == nil {
		err = p.tidy()
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", p.Path, err)
	}
	return nil
}

// Recover ends what a Swap has left unfinished, and removes a stage that was never
// used.
func (p Place) Recover() error {
	if err := p.recover(); err != nil {
		return fmt.Errorf("restore %s: end an earlier attempt: %w", p.Path, err)
	}
	return nil
}

func (p Place) recover() error {
	b, err := os.ReadFile(p.note())
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(p.Stage()); err != nil {
			return err
		}
		return p.tidy() // of Vacate
	}
	if err != nil {
		return err
	}
	want, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return fmt.Errorf("%s: %w", p.note(), err)
	}
	staged, err := inode(p.Stage())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there, err := Exists(p.Path)
	switch {
	case err != nil:
		return err
	case staged == want && !there:
		err = os.Rename(p.Stage(), p.Path) // between the two renames
	case staged == want:
		err = os.RemoveAll(p.Stage()) // before the exchange
	}
	if err != nil {
		return err
	}
	return p.tidy()
}

// exchange is the one step, or two renames.
func (p Place) exchange() error {
	there, err := Exists(p.Path)
	if err != nil {
		return err
	}
	if there {
		err = unix.Renameat2(unix.AT_FDCWD, p.Stage(), unix.AT_FDCWD, p.Path, unix.RENAME_EXCHANGE)
		if err == nil || !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		if err := p.do("rename", func() error { return os.Rename(p.Path, p.old()) }); err != nil {
			return err
		}
	}
	return p.do("rename", func() error { return os.Rename(p.Stage(), p.Path) })
}

// tidy puts the old content where Before says, if that place is free: the first
// old content is the one to be kept.
func (p Place) tidy() error {
	for _, from := range []string{p.Stage(), p.old()} {
		there, err := Exists(from)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		kept, err := Exists(p.Before())
		if err != nil {
			return err
		}
		if err := p.do("keep", func() error {
			if kept {
				return os.RemoveAll(from)
			}
			return os.Rename(from, p.Before())
		}); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(filepath.Dir(p.Path)); err != nil {
		return err
	}
	return p.do("end", func() error { return Discard(p.note()) })
}

// Forget removes what is kept of the old content, and all that is beside the path.
func (p Place) Forget() error {
	if err := p.Recover(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := Discard(p.Before()); err != nil {
		return fmt.Errorf("remove what was kept of %s: %w", p.Path, err)
	}
	return nil
}

// do takes a step. Tests end here instead, before or after it.
func (p Place) do(point string, step func() error) error {
	if p.at == nil {
		return step()
	}
	if err := p.at("before " + point); err != nil {
		return err
	}
	if err := step(); err != nil {
		return err
	}
	return p.at("after " + point)
}

func inode(path string) (uint64, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}
