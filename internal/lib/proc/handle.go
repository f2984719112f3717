package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Handle holds on to one process by pidfd. Its methods can not hit another one,
// even after the pid was used again. They may be used concurrently.
type Handle struct {
	id    ID
	file  *os.File
	begin sync.Once     // of watching
	ended chan struct{} // closed when the process has ended
	quit  chan struct{} // closed when the watching goroutine is gone
	err   error         // why it stopped watching, valid after quit
}

// Open holds on to a process. It wraps ErrGone when that has ended and been
// collected, also when its pid belongs to another process by now.
func (t Table) Open(id ID) (*Handle, error) {
	fd, err := t.open(id)
	if err != nil {
		return nil, err
	}
	// Not by a flag of the system call, which kernels before 5.10 do not know.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("open a pidfd of process %d: %w", id.PID, err), unix.Close(fd))
	}
	return &Handle{
		id: id, file: os.NewFile(uintptr(fd), "pidfd"),
		ended: make(chan struct{}), quit: make(chan struct{}),
	}, nil
}

// open returns a pidfd. It wraps ErrGone as Open does.
func (t Table) open(id ID) (fd int, err error) {
	fd, err = unix.PidfdOpen(id.PID, 0)
	if err != nil {
		// Older kernels say EINVAL of a number that lives on as that of a group or a
		// session only: the process table tells.
		if _, rerr := t.Read(id.PID); errors.Is(err, unix.ESRCH) || errors.Is(rerr, ErrGone) {
			return -1, fmt.Errorf("process %d: %w", id.PID, ErrGone)
		}
		return -1, fmt.Errorf("open a pidfd of process %d: %w", id.PID, err)
	}
	// The pidfd may be that of a later process with the same pid: the start time,
	// read after it was opened, tells. Only now can the pid not be given to another
	// one any more.
	now, err := t.Read(id.PID)
	if err == nil && now.ID != id {
		err = fmt.Errorf("process %d: %w", id.PID, ErrGone)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// Signal sends a signal to that very process and to none that has got its pid
// since. It wraps ErrGone when the process has ended and been collected.
func (t Table) Signal(id ID, sig unix.Signal) error {
	fd, err := t.open(id)
	if err != nil {
		return err
	}
	return errors.Join(send(fd, id.PID, sig), unix.Close(fd))
}

// Kill kills a process and waits until it is gone, all its threads included; nil
// proves that. One that is gone already is no error.
func (t Table) Kill(ctx context.Context, id ID) error {
	fd, err := t.open(id)
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := send(fd, id.PID, unix.SIGKILL); err != nil && !errors.Is(err, ErrGone) {
		return err
	}
	for {
		// The pidfd tells at once; where it can not, the process table is read every 10 ms.
		ended(fd, 10*time.Millisecond)
		alive, err := t.Alive(id)
		if err != nil || !alive {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("process %d (started at tick %d) is still there after SIGKILL: %w", id.PID, id.Started, err)
		}
	}
}

// send sends a signal to the process behind a pidfd.
func send(fd, pid int, sig unix.Signal) error {
	err := unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(sig), pid, err)
	}
	return nil
}

// ended reports whether the process behind a pidfd has ended, all its threads
// included. It waits for that at most timeout, in whole milliseconds.
func ended(fd int, timeout time.Duration) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(timeout/time.Millisecond))
	return err == nil && n > 0
}

// ID names the process.
func (h *Handle) ID() ID { return h.id }

// Signal sends a signal. It wraps ErrGone when the process has ended and been
// collected.
func (h *Handle) Signal(sig unix.Signal) error {
	var result error
	err := h.control(func(fd int) { result = send(fd, h.id.PID, sig) })
	return errors.Join(err, result)
}

// Ended is closed once the process has ended with all its threads, whether or
// not its exit status was collected.
func (h *Handle) Ended() <-chan struct{} {
	h.begin.Do(func() { go h.watch() })
	return h.ended
}

// Wait returns nil once the process has ended, else the context's error, or
// os.ErrClosed after Close.
func (h *Handle) Wait(ctx context.Context) error {
	select {
	case <-h.Ended():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-h.quit:
	}
	select {
	case <-h.ended: // it ended watching because the process did
		return nil
	default:
		return fmt.Errorf("wait for process %d: %w", h.id.PID, h.err)
	}
}

// watch runs from the first question for the end until that, or Close.
func (h *Handle) watch() {
	defer close(h.quit)
	raw, err := h.file.SyscallConn()
	if err != nil {
		h.err = err
		return
	}
	err = raw.Read(func(fd uintptr) bool { return ended(int(fd), 0) })
	if err != nil {
		h.err = err
		return
	}
	close(h.ended)
}

// Reap collects the exit status if the process has ended and is a child of this
// one, so that no zombie stays. In all other cases it does nothing.
func (h *Handle) Reap() error {
	var result error
	err := h.control(func(fd int) {
		result = unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG, nil)
	})
	if err = errors.Join(err, result); err != nil && !errors.Is(err, unix.ECHILD) {
		return fmt.Errorf("collect process %d: %w", h.id.PID, err)
	}
	return nil
}

// Close lets go of the process. A running Wait returns.
func (h *Handle) Close() error {
	err := h.file.Close()
	h.begin.Do(func() { // nobody has asked, so nobody watches
		h.err = os.ErrClosed
		close(h.quit)
	})
	<-h.quit
	return err
}

func (h *Handle) control(f func(fd int)) error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}
