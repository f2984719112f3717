package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
	"holdfast/internal/pair"
)

// Mount is a member that is a file system on a block device.
type Mount struct {
	Name     string
	Restarts int
	Device   string // path of the block device
	Dir      string // where it is mounted
	Type     string // of the file system, such as ext4
	// Thaw lets writes end that the device holds back. It is called when all who had the file
	// system open were killed and nobody can open it: nobody is told how the writes ended.
	Thaw func(ctx context.Context) error
	// Frozen reports that the device holds writes back. nil, as Thaw and Hold: it never does.
	Frozen func(ctx context.Context) (bool, error)
	// Hold has later writes wait again. It is called after a hard stop.
	Hold func(ctx context.Context) error

	mu sync.Mutex // a look opens the device for itself, which would keep a mount from it
}

// Spec is what the core knows of it.
func (m *Mount) Spec() pair.Member { return pair.Member{Name: m.Name, Restarts: m.Restarts} }

// State looks at the mounts of this host and at the device.
func (m *Mount) State(ctx context.Context) pair.State {
	if !m.mu.TryLock() {
		return pair.StateUnknown // it is being mounted
	}
	state, err := left(ctx, func() (pair.State, error) { // a device whose path is lost can hang as it is opened
		defer m.mu.Unlock()
		return m.look(), nil
	})
	if err != nil {
		return pair.StateUnknown
	}
	return state
}

func (m *Mount) look() pair.State {
	n, writable, err := m.mounted()
	switch {
	case err != nil:
		return pair.StateUnknown
	case n == 1 && writable:
		return pair.Up // no write is tried: it would wait while the device holds writes back, and the agent would not end before it
	case n > 0:
		return pair.Failed
	}
	held, err := m.held()
	switch {
	case err != nil:
		return pair.StateUnknown
	case held:
		return pair.Failed // mounted where this process does not see it, or on its way out
	}
	return pair.Down
}

// number is that of the device; ok is false when there is none.
func (m *Mount) number() (dev uint64, ok bool, err error) {
	var st unix.Stat_t
	err = unix.Stat(m.Device, &st)
	if errors.Is(err, unix.ENOENT) {
		return 0, false, nil
	}
	return st.Rdev, err == nil, err
}

// mounted counts the mounts of the device, and whatever is on the directory.
func (m *Mount) mounted() (n int, writable bool, err error) {
	dev, there, err := m.number()
	if err != nil {
		return 0, false, err
	}
	all, err := mountinfo.GetMounts(nil)
	for _, i := range all {
		ours := there && i.Major == int(unix.Major(dev)) && i.Minor == int(unix.Minor(dev))
		if on := i.Mountpoint == m.Dir; ours || on {
			n++
			writable = ours && on && rw(i.Options) && rw(i.VFSOptions)
		}
	}
	return n, writable, err
}

// rw reports that options of a mount or of a file system let it be written: a file system
// that has met an error may have become read-only.
func rw(options string) bool { return slices.Contains(strings.Split(options, ","), "rw") }

// held reports that a file system or somebody else has the device for himself. A device that
// can not be opened, as a DRBD secondary, is nobody's.
func (m *Mount) held() (bool, error) {
	fd, err := unix.Open(m.Device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return true, nil
	case errors.Is(err, unix.EMEDIUMTYPE), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("open %s: %w", m.Device, err)
	}
	return false, unix.Close(fd)
}

// Start mounts it.
func (m *Mount) Start(ctx context.Context) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n, writable, err := m.mounted()
	if err != nil || n == 1 && writable {
		return err
	}
	if n > 0 {
		return fmt.Errorf("mount %s: something else is on it, or on %s", m.Device, m.Dir)
	}
	return leave(ctx, func() error { return unix.Mount(m.Device, m.Dir, m.Type, 0, "") })
}

// lock waits for a look that has the device open.
func (m *Mount) lock(ctx context.Context) error {
	for !m.mu.TryLock() {
		if !clock.Sleep(ctx, lookAgain) {
			return fmt.Errorf("%s: an earlier check of it still hangs: %w", m.Device, ctx.Err())
		}
	}
	return nil
}

// Stop unmounts it, and proves that nobody has it. Hard: whoever uses it is killed.
func (m *Mount) Stop(ctx context.Context, hard bool) error {
	flags := 0
	if hard {
		flags = unix.MNT_DETACH // nobody finds it any more
	}
	for {
		n, _, err := m.mounted()
		if err != nil {
			return err
		}
		if n > 0 {
			if err := leave(ctx, func() error { return unix.Unmount(m.Dir, flags) }); err != nil {
				return fmt.Errorf("unmount %s: %w", m.Dir, err)
			}
			continue // there may be more of them
		}
		if err := m.lock(ctx); err != nil {
			return err
		}
		held, err := left(ctx, func() (bool, error) {
			defer m.mu.Unlock()
			return m.held()
		})
		switch {
		case err != nil:
			return err
		case !held && hard && m.Hold != nil:
			return m.Hold(ctx)
		case !held:
			return nil
		}
		if hard {
			if err := m.free(ctx); err != nil {
				return err
			}
		}
		if !clock.Sleep(ctx, lookAgain) {
			return fmt.Errorf("unmount %s: %s is still in use: %w", m.Dir, m.Device, ctx.Err())
		}
	}
}

// free kills all who use the file system, and lets their writes end when there is nobody
// else. A process to which SIGKILL was sent does not run again, so it tells nobody.
func (m *Mount) free(ctx context.Context) error {
	users, err := m.users()
	if err != nil {
		return err
	}
	for _, id := range users {
		if err := proc.Here.Signal(id, unix.SIGKILL); err != nil && !errors.Is(err, proc.ErrGone) {
			return err
		}
	}
	again, err := m.users()
	if err != nil || m.Thaw == nil {
		return err
	}
	for _, id := range again {
		if !slices.Contains(users, id) {
			return nil // it began in between
		}
	}
	return m.Thaw(ctx)
}

// users are the processes that have a file of the device open, mapped, or as their directory.
func (m *Mount) users() (ids []proc.ID, err error) {
	dev, there, err := m.number()
	if err != nil || !there {
		return nil, err
	}
	pids, err := proc.Here.PIDs()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		p, err := proc.Here.Read(pid)
		if errors.Is(err, proc.ErrGone) || err == nil && (p.Kernel || pid == os.Getpid()) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// Each thread may have files of its own, and goes on when the first one has ended.
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		if err != nil {
			return nil, err
		}
		for _, task := range tasks {
			uses, err := usesDevice(task, dev)
			if err != nil {
				return nil, err
			}
			if uses {
				ids = append(ids, p.ID)
				break
			}
		}
	}
	return ids, nil
}

// usesDevice looks at one thread, through the links of proc, which lead to files that have
// no path any more, too. One that ends meanwhile uses nothing.
func usesDevice(task string, dev uint64) (bool, error) {
	maps, err := os.ReadFile(filepath.Join(task, "maps"))
	if err != nil && !over(err) {
		return false, err
	}
	if maps := string(maps); strings.Contains(maps, fmt.Sprintf(" %02x:%02x ", unix.Major(dev), unix.Minor(dev))) {
		return true, nil
	}
	links := []string{"cwd", "root", "exe"}
	entries, err := os.ReadDir(filepath.Join(task, "fd"))
	if err != nil && !over(err) {
		return false, err
	}
	for _, e := range entries {
		links = append(links, filepath.Join("fd", e.Name()))
	}
	for _, l := range links {
		var st unix.Stat_t
		err := unix.Stat(filepath.Join(task, l), &st)
		switch {
		case err != nil && !over(err):
			return false, err
		case err == nil && (st.Dev == dev || st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == dev):
			return true, nil
		}
	}
	return false, nil
}

// over tells the errors of looking at what has ended.
func over(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// left makes a call of the kernel that can hang, and leaves it behind when ctx ends.
func left[T any](ctx context.Context, call func() (T, error)) (found T, err error) {
	type result struct {
		found T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		found, err := call()
		done <- result{found, err}
	}()
	select {
	case r := <-done:
		return r.found, r.err
	case <-ctx.Done():
		return found, ctx.Err()
	}
}

// leave is left for a call that finds nothing.
func leave(ctx context.Context, call func() error) error {
	_, err := left(ctx, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// OnMount is a member that may have files on a mount below it: while the device holds writes
// back, its processes do not end by SIGKILL either.
type OnMount struct {
	Member
	Mount *Mount
}

// hungAfter is how long a hard stop may take before it is asked whether writes are held back.
const hungAfter = 2 * time.Second

// StartWithin is the member's.
func (a *OnMount) StartWithin() time.Duration { return startWithin(a.Member) }

// Stop is the member's. A hard one that hangs because writes are held back gives the whole
// mount up: all that use it are killed, then their writes end, and nobody is told.
func (a *OnMount) Stop(ctx context.Context, hard bool) error {
	if !hard {
		return a.Member.Stop(ctx, false)
	}
	first, cancel := context.WithTimeout(ctx, hungAfter)
	defer cancel()
	if err := a.Member.Stop(first, true); err == nil {
		return nil
	}
	if a.Mount.Frozen == nil { // nothing is held back
		return a.Member.Stop(ctx, true)
	}
	frozen, err := a.Mount.Frozen(ctx)
	if err == nil && frozen {
		err = a.Mount.Stop(ctx, true)
	}
	if err != nil {
		return err
	}
	return a.Member.Stop(ctx, true)
}
