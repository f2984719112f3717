package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
)

// settle bounds how long a process may be in the middle of exec, where it shows
// neither arguments nor environment. Exec of a local file takes microseconds; a
// process that shows nothing for longer has blanked its own arguments.
const settle = 50 * time.Millisecond

// guest is one process of the guest.
type guest struct {
	proc  proc.Proc
	epoch cluster.Epoch
}

// oldest returns the process that started first.
func oldest(found []guest) guest {
	first := found[0]
	for _, g := range found[1:] {
		if g.proc.Started < first.proc.Started {
			first = g
		}
	}
	return first
}

// find returns all processes of the guest on this host. Reading /proc may hang
// on a process that is stuck in the kernel, so that it runs beside; then it
// returns when ctx ends.
func (d *Driver) find(ctx context.Context) ([]guest, error) {
	type result struct {
		found []guest
		err   error
	}
	done := make(chan result, 1)
	go func() {
		found, err := d.scan(ctx)
		done <- result{found, err}
	}()
	select {
	case r := <-done:
		return r.found, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("read the process table: %w", ctx.Err())
	}
}

func (d *Driver) scan(ctx context.Context) (found []guest, err error) {
	// While the lock is held by us nobody is between fork and exec of a guest.
	unlock, err := d.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	pids, err := proc.Here.PIDs()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		g, ok, err := d.match(ctx, pid)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, g)
		}
	}
	return found, nil
}

// match tells whether the process belongs to the guest.
func (d *Driver) match(ctx context.Context, pid int) (guest, bool, error) {
	if pid == os.Getpid() || !proc.Here.Owned(pid) {
		return guest{}, false, nil
	}
	for end := time.Now().Add(settle); ; {
		img, err := proc.Here.ReadImage(pid)
		if err == nil && !img.Empty() {
			return d.identify(pid, img)
		}
		p, statErr := proc.Here.Read(pid)
		switch err = errors.Join(err, statErr); {
		case errors.Is(err, proc.ErrGone):
			return guest{}, false, nil
		case err != nil:
			return guest{}, false, err
		case p.Dead() || p.Kernel || time.Now().After(end):
			return guest{}, false, nil
		}
		if !clock.Sleep(ctx, time.Millisecond) {
			return guest{}, false, fmt.Errorf("wait for the exec of process %d: %w", pid, ctx.Err())
		}
	}
}

func (d *Driver) identify(pid int, img proc.Image) (guest, bool, error) {
	epoch, ok := d.identity(img)
	if !ok {
		return guest{}, false, nil
	}
	p, err := proc.Here.Read(pid)
	if errors.Is(err, proc.ErrGone) || err == nil && p.Dead() {
		return guest{}, false, nil
	}
	if err != nil {
		return guest{}, false, err
	}
	e, err := cluster.ParseEpoch(epoch)
	if err != nil {
		return guest{}, false, fmt.Errorf("process %d of the guest: %w", pid, err)
	}
	return guest{proc: p, epoch: e}, true, nil
}

// identity returns the epoch of an image that is the guest's on this host, by
// its arguments or, for a process that the guest has started, its environment.
func (d *Driver) identity(img proc.Image) (epoch string, ok bool) {
	host, _ := img.Flag("--host")
	uuid, _ := img.Flag("--uuid")
	if epoch, ok := img.Flag("--epoch"); ok && host == string(d.opt.Host) && uuid == d.opt.UUID {
		return epoch, true
	}
	host, _ = img.Getenv(EnvHost)
	uuid, _ = img.Getenv(EnvGuest)
	if host != string(d.opt.Host) || uuid != d.opt.UUID {
		return "", false
	}
	return img.Getenv(EnvEpoch)
}

// lock takes the start lock. It is busy for the few milliseconds of a start.
func (d *Driver) lock(ctx context.Context, how int) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(d.opt.Dir, "guest.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the start lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			// Closing frees the lock, unless a new process still holds the file.
			return f.Close, nil
		}
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			clock.Sleep(ctx, time.Millisecond)
			err = ctx.Err()
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("take the start lock: %w", err), f.Close())
		}
	}
}

func (d *Driver) watchPID(pid int) error {
	p, err := proc.Here.Read(pid)
	if err != nil {
		return err
	}
	return d.watch(p)
}

// watch wakes the agent when the process ends, and collects it if it is ours.
func (d *Driver) watch(p proc.Proc) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.watched[p.ID] != nil {
		return nil
	}
	h, err := proc.Here.Open(p.ID)
	if errors.Is(err, proc.ErrGone) {
		d.signal()
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch the guest: %w", err)
	}
	d.watched[p.ID] = h
	d.wg.Go(func() { d.await(p.ID, h) })
	return nil
}

// await runs until the process ends or Close.
func (d *Driver) await(id proc.ID, h *proc.Handle) {
	if err := h.Wait(context.Background()); err != nil {
		return // Close has let go of it
	}
	err := h.Reap()
	d.mu.Lock()
	if !d.closed { // else Close has closed the handle
		delete(d.watched, id)
		err = errors.Join(err, h.Close())
	}
	d.mu.Unlock()
	if err != nil {
		d.opt.Log.Warn("guest has ended but was not collected", "pid", id.PID, "error", err)
	}
	d.signal()
}
