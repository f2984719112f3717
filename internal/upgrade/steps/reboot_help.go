package steps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"holdfast/internal/lib/durable"
)

// hostAsk bounds one question to the store or to libvirtd.
const hostAsk = time.Minute

// hostReplace writes a file in one step: after a crash it is the old one or the
// new one. It gets the mode and owner of like, without one mode and this process's.
func hostReplace(path string, data []byte, mode fs.FileMode, like fs.FileInfo) error {
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".holdfast")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %w", path, err) // left over by a crash
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = hostFill(f, data, mode, like)
	if err = errors.Join(err, f.Close()); err == nil {
		err = durable.Rename(temp, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, hostRemove(temp)))
	}
	return nil
}

func hostFill(f *os.File, data []byte, mode fs.FileMode, like fs.FileInfo) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	if like != nil {
		if st, ok := like.Sys().(*syscall.Stat_t); ok {
			if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
		}
		mode = like.Mode().Perm()
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return f.Sync()
}

// hostRemove removes a file, which need not be there.
func hostRemove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a file: %w", err)
	}
	return nil
}
