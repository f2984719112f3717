package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"holdfast/internal/job/engine"
)

// hostAsk bounds one question to the store or to libvirtd.
const hostAsk = time.Minute

// hostArgs reads the arguments of a step.
func hostArgs[A any](t engine.Task) (A, error) {
	var args A
	if err := json.Unmarshal(t.Step.Args, &args); err != nil {
		return args, fmt.Errorf("read the arguments of %s: %w", t.Step.ID, err)
	}
	return args, nil
}

// hostSleep waits for d. An error is why ctx has ended.
func hostSleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// hostWaits tells what a step waits for; the log gets it when it changes.
type hostWaits struct {
	task engine.Task
	last string
}

func (w *hostWaits) say(format string, args ...any) {
	text := "waits: " + fmt.Sprintf(format, args...)
	w.task.Note(text, -1)
	if text != w.last {
		fmt.Fprintln(w.task.Log, text)
	}
	w.last = text
}

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
		err = os.Rename(temp, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, hostRemove(temp)))
	}
	return hostSyncDir(filepath.Dir(path))
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

// hostSyncDir makes the names in a directory last.
func hostSyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("make the names in %s last: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("make the names in %s last: %w", dir, err)
	}
	return nil
}

// hostRemove removes a file, which need not be there.
func hostRemove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a file: %w", err)
	}
	return nil
}
