package group

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// probe finds out that a file system takes no writes any more: after its journal has ended
// Linux 6.1 still shows it as writable. A small file of ours is written and synced.
type probe struct {
	mu    sync.Mutex // held while one is under way, and while the file system is unmounted
	about sync.Mutex // of what follows
	at    time.Time  // when the last one began
	fault error      // since the file system was mounted; nil: it takes writes, as far as is known
}

const (
	probeEvery = 5 * time.Second
	probeName  = ".holdfast-probe"
	probeBytes = 512
)

// probeFaults are what a write ends with on a file system that takes none any more, or whose
// device does not. Any other error says nothing of it: it has no room, for example.
var probeFaults = []error{unix.EIO, unix.EROFS, unix.EUCLEAN, unix.ENODEV, unix.ENXIO}

// look begins a probe of what device dev has mounted at dir, unless one goes on or was not long ago,
// and says what was found before. One that hangs, as where the device holds writes back, finds nothing.
func (p *probe) look(dir string, dev uint64) error {
	p.about.Lock()
	defer p.about.Unlock()
	if time.Since(p.at) >= probeEvery && p.mu.TryLock() {
		p.at = time.Now()
		go func() { // ends when the write does
			defer p.mu.Unlock()
			p.found(write(dir, dev))
		}()
	}
	return p.fault
}

func (p *probe) found(err error) {
	p.about.Lock()
	defer p.about.Unlock()
	if slices.ContainsFunc(probeFaults, func(f error) bool { return errors.Is(err, f) }) {
		p.fault = err
	}
}

// rest has no probe begin until the returned function is called. One that is under way is waited for
// until ctx ends: its file would keep the file system from being unmounted.
func (p *probe) rest(ctx context.Context) (again func()) {
	if !lock(ctx, &p.mu) {
		return func() {}
	}
	return p.mu.Unlock
}

// fresh forgets what was found: the file system was mounted anew.
func (p *probe) fresh() {
	p.about.Lock()
	defer p.about.Unlock()
	p.at, p.fault = time.Time{}, nil
}

// write writes the file of the probe in dir, if that is of the device. It takes no room but the first time.
func write(dir string, dev uint64) (err error) {
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(at)) }()
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return err
	}
	if st.Dev != dev {
		return nil // it was unmounted meanwhile
	}
	fd, err := unix.Openat(at, probeName, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(dir, probeName), err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	b := make([]byte, probeBytes)
	copy(b, time.Now().UTC().Format(time.RFC3339Nano)+"\n")
	if _, err = unix.Pwrite(fd, b, 0); err == nil {
		err = unix.Fsync(fd)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(dir, probeName), err)
	}
	return nil
}
