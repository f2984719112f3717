package proctable

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Handle holds on to one process by pidfd. Its methods can not hit another one,
// even after the pid was used again. They may be used concurrently.
type Handle struct {
	proc  Proc
	file  *os.File
	ended chan struct{} // closed when the process has ended
	quit  chan struct{} // closed when the watching goroutine is gone
	err   error         // why it stopped watching, valid after quit
}

// Open holds on to p. It wraps ErrGone when p has ended and been collected, also
// when its pid belongs to another process by now.
func Open(p Proc) (*Handle, error) {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("process %d: %w", p.PID, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("open a pidfd of process %d: %w", p.PID, err)
	}
	h := &Handle{
		proc: p, file: os.NewFile(uintptr(fd), "pidfd"),
		ended: make(chan struct{}), quit: make(chan struct{}),
	}
	go h.watch()
	// The pid was looked up before it was opened: is it still the same process?
	now, err := Read(p.PID)
	if err == nil && !now.Same(p) {
		err = fmt.Errorf("process %d: %w", p.PID, ErrGone)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Proc returns the process as it was when it was opened.
func (h *Handle) Proc() Proc { return h.proc }

// Signal sends a signal. It wraps ErrGone when the process has ended and been
// collected.
func (h *Handle) Signal(sig unix.Signal) error {
	var result error
	err := h.control(func(fd int) { result = unix.PidfdSendSignal(fd, sig, nil, 0) })
	if err = errors.Join(err, result); errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d: %w", h.proc.PID, ErrGone)
	}
	if err != nil {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(sig), h.proc.PID, err)
	}
	return nil
}

// Ended is closed once the process has ended with all its threads, whether or
// not its exit status was collected.
func (h *Handle) Ended() <-chan struct{} { return h.ended }

// Wait returns nil once the process has ended, else the context's error, or
// os.ErrClosed after Close.
func (h *Handle) Wait(ctx context.Context) error {
	select {
	case <-h.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-h.quit:
	}
	select {
	case <-h.ended: // it ended watching because the process did
		return nil
	default:
		return fmt.Errorf("wait for process %d: %w", h.proc.PID, h.err)
	}
}

// watch runs from Open until the process ends or Close.
func (h *Handle) watch() {
	defer close(h.quit)
	raw, err := h.file.SyscallConn()
	if err != nil {
		h.err = err
		return
	}
	err = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
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
		return fmt.Errorf("collect process %d: %w", h.proc.PID, err)
	}
	return nil
}

// Close lets go of the process. A running Wait returns.
func (h *Handle) Close() error {
	err := h.file.Close()
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
