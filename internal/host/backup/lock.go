package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"holdfast/internal/lib/clock"
)

// lockAgain is the time between two attempts to get a lock.
const lockAgain = 100 * time.Millisecond

// Lock is held by whoever works on a backup. Programs that are begun with it hold
// it too, so that it stays until they have ended, also when this process is gone.
type Lock struct{ file *os.File }

// Acquire waits until nobody else works on the backup, or ctx ends. The backup's
// directory must be there.
func Acquire(ctx context.Context, q Request) (*Lock, error) {
	path := q.Path(".lock")
	for {
		l, err := tryLock(path)
		if err != nil {
			return nil, fmt.Errorf("backup %s: lock: %w", q.ID, err)
		}
		if l != nil {
			return l, nil
		}
		if !clock.Sleep(ctx, lockAgain) {
			return nil, fmt.Errorf("backup %s: a process that was begun earlier still works on it: %w", q.ID, context.Cause(ctx))
		}
	}
}

// Held reports whether somebody works on the backup now.
func Held(q Request) (bool, error) {
	f, err := os.Open(q.Path(".lock"))
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("backup %s: look at its lock: %w", q.ID, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	held := errors.Is(err, syscall.EWOULDBLOCK)
	if held {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("backup %s: look at its lock: %w", q.ID, err)
	}
	return held, nil
}

// tryLock gives nil when another has the lock.
func tryLock(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, f.Close()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// Whoever had it removes the file, so this one may be nobody's by now.
	now, err := os.Stat(path)
	mine, err2 := f.Stat()
	if err2 != nil || err != nil && !os.IsNotExist(err) {
		return nil, errors.Join(err, err2, f.Close())
	}
	if err != nil || !os.SameFile(now, mine) {
		return nil, f.Close()
	}
	return &Lock{file: f}, nil
}

// Release gives the lock back.
func (l *Lock) Release() error {
	// Removed first: who waits for this file finds out that it is not the one.
	if err := errors.Join(os.Remove(l.file.Name()), l.file.Close()); err != nil {
		return fmt.Errorf("give the lock of a backup back: %w", err)
	}
	return nil
}

// File is what a child process has to inherit.
func (l *Lock) File() *os.File { return l.file }
