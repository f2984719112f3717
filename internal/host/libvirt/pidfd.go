package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// awaitEnd wakes the driver's user when the process has ended. It returns then,
// or when the driver is closed.
func (d *Driver) awaitEnd(p proc) {
	defer d.poke()
	fd, err := unix.PidfdOpen(p.pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		if !errors.Is(err, unix.ESRCH) {
			d.log.Warn("the end of the guest's process is noticed by polling only", "pid", p.pid, "err", err)
		}
		return
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if !d.addWait(f) {
		return
	}
	defer d.dropWait(f)
	if alive, err := d.procs.alive(p); err != nil || !alive {
		return // the pid may be another process's by now
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return // closed by Close
	}
	// Its only error is that Close closed the file: then nobody waits for a wake.
	_ = raw.Read(func(fd uintptr) bool { return ended(int(fd), 0) })
}

func (d *Driver) addWait(f *os.File) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		d.waits[f] = struct{}{}
	}
	return !d.ended
}

func (d *Driver) dropWait(f *os.File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.waits, f)
}

// ended reports whether the process behind a pidfd has ended, all its threads
// included. It waits for that at most timeout, in whole milliseconds.
func ended(fd int, timeout time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(timeout/time.Millisecond))
	return err == nil && n > 0
}

// end kills one process and waits until it is gone, all its threads included.
func (t *procTable) end(ctx context.Context, p proc) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.pid, err)
	}
	defer unix.Close(fd)
	// The pidfd may be that of a later process with the same pid: the start time,
	// read after it was opened, tells.
	alive, err := t.alive(p)
	if err != nil || !alive {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	return t.awaitGone(ctx, p, fd)
}

// awaitGone waits until the process is gone. The pidfd tells at once; where it
// can not, the process table is read every 10 ms.
func (t *procTable) awaitGone(ctx context.Context, p proc, fd int) error {
	for {
		ended(fd, 10*time.Millisecond)
		alive, err := t.alive(p)
		if err != nil {
			return err
		}
		if !alive {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("process %d (started at tick %d) is still there after SIGKILL: %w", p.pid, p.started, err)
		}
	}
}
