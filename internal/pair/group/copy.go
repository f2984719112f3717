package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/durable"
)

// wroteFile is the file that says that a copy was promoted, and has not followed since. dir
// survives reboots. Of a server it holds the run that was promoted, once that is known.
func wroteFile(dir string) string { return filepath.Join(dir, "pair-wrote") }

// readWrote reports that a copy was promoted and has not followed since, and in which run.
func readWrote(dir string) (run string, yes bool, err error) {
	b, err := os.ReadFile(wroteFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return string(b), err == nil, err
}

// forgetWrote says that the copy follows, or was not promoted after all.
func forgetWrote(dir string) error {
	return removed(wroteFile(dir))
}

// there reports that a file is there.
func there(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// removed sees to it that files of one directory are not there, also after a crash.
func removed(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return durable.SyncDir(filepath.Dir(paths[0]))
}

// full says that less than a hundredth of the file system of a directory is free, "" when more is, or
// when nobody can tell.
func full(dir string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Bavail >= fs.Blocks/100 {
		return ""
	}
	return fmt.Sprintf("the file system of %s is full: %d MB of %d are free", dir, fs.Bavail*uint64(fs.Bsize)/1e6,
		fs.Blocks*uint64(fs.Bsize)/1e6)
}

// Full says that the file system has no room, "" when it has, or is not mounted.
func (m *Mount) Full() string {
	if n, _, err := m.mounted(); err != nil || n != 1 {
		return ""
	}
	return full(m.Dir)
}

// outlast does something once that may take longer than who waits for it: then it goes on, and the next one who comes
// waits for the same. Something slow that began anew each time would never be done.
type outlast struct {
	mu   sync.Mutex
	done bool
	now  *course // nil: nothing goes on
}

// course is one attempt.
type course struct {
	ended chan struct{} // closed when err is there
	err   error
}

// wait returns when do has succeeded, now or before, when it fails, or when ctx ends. An attempt may take as long as within.
func (o *outlast) wait(ctx context.Context, within time.Duration, do func(context.Context) error) error {
	o.mu.Lock()
	if o.done {
		o.mu.Unlock()
		return nil
	}
	c := o.now
	if c == nil {
		c = &course{ended: make(chan struct{})}
		o.now = c
		go func() { // ends with do
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
			defer cancel()
			c.err = do(ctx)
			o.mu.Lock()
			o.done, o.now = c.err == nil, nil
			o.mu.Unlock()
			close(c.ended)
		}()
	}
	o.mu.Unlock()
	select {
	case <-c.ended:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("it goes on: %w", ctx.Err())
	}
}
