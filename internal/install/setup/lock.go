package setup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/install"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
)

// Lock keeps a second set-up or recovery away from this node: fail.Refused says who is at it.
func Lock(path, what string) (free func() error, err error) {
	f, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(install.AtWork{What: what, PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second)})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(raw, '\n'), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() error { return errors.Join(os.Remove(path), f.Close()) }, nil
}

// lockFile opens and locks a file. One that is removed meanwhile, by who had the lock, does not count.
func lockFile(path string) (*os.File, error) {
	if err := durable.MakeDirs(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			if errors.Is(err, unix.EWOULDBLOCK) {
				err = lockedBy(f)
			} else {
				err = fmt.Errorf("lock %s: %w", path, err)
			}
			return nil, errors.Join(err, f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		there, err := os.Stat(path)
		if err == nil && os.SameFile(mine, there) {
			return f, nil
		}
		if err = errors.Join(ifOther(err, fs.ErrNotExist), f.Close()); err != nil {
			return nil, err
		}
	}
}

// ifOther is err, unless it is what is expected.
func ifOther(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// lockedBy says who has the lock.
func lockedBy(f *os.File) error {
	w, err := install.ReadAtWork(f)
	if err != nil {
		return err
	}
	refused := fail.Errorf(fail.Refused, "a set-up or a recovery of a pair is at work on this node")
	if w != nil {
		refused = fail.Errorf(fail.Refused, "a %s is at work on this node: process %d, since %s", text.Clean(w.What), w.PID,
			w.Since.Local().Format(time.DateTime))
	}
	return refused.With("wait for its end")
}
