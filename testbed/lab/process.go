package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
)

// Process identifies a process so that a reused pid is never taken for it.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // proc(5) stat field 22, clock ticks since boot
}

// identify records a process that is known to exist.
func identify(pid int) (Process, error) {
	st, err := proc.Here.Read(pid)
	return Process{PID: pid, Start: st.Started}, err
}

// alive reports whether the process still exists. A zombie counts as gone, but
// only when no thread is left: a PID 1 of a namespace ends its last thread
// after all other processes of the namespace are gone. A zombie that is our own
// child is reaped on the way.
func (p Process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	st, err := proc.Here.Read(p.PID)
	if err != nil || st.Started != p.Start {
		return false
	}
	if st.State != 'Z' || st.Threads > 1 {
		return true
	}
	var ws unix.WaitStatus
	for {
		// Any error but EINTR means that somebody else is its parent and will reap it.
		if _, err := unix.Wait4(p.PID, &ws, unix.WNOHANG, nil); !errors.Is(err, unix.EINTR) {
			return false
		}
	}
}

// signal sends sig. A process that is gone is no error.
func (p Process) signal(sig unix.Signal) error {
	if !p.alive() {
		return nil
	}
	err := proc.Here.Signal(proc.ID{PID: p.PID, Started: p.Start}, sig)
	if errors.Is(err, proc.ErrGone) {
		return nil
	}
	return err
}

// waitGone waits until the process does not exist any more.
func (p Process) waitGone(ctx context.Context, limit time.Duration) error {
	return poll(ctx, limit, fmt.Sprintf("process %d to end", p.PID), func() (bool, error) {
		return !p.alive(), nil
	})
}

// patience is how long the laboratory waits for something of its own that takes moments. What has not come
// by then never comes: a machine that does other things is slower, but not that slow.
const patience = 3 * time.Minute

// poll calls done every 10 ms until it says true or fails, ctx ends or limit
// has passed. what completes "waited for".
func poll(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	for began := time.Now(); ; {
		ok, err := done()
		if err != nil {
			return fmt.Errorf("waited for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		if took := time.Since(began); took > limit {
			return fmt.Errorf("waited %s for %s: %w", took.Round(time.Second), what, context.DeadlineExceeded)
		}
		if !clock.Sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("waited for %s: %w", what, ctx.Err())
		}
	}
}

// gateFD is where a detached process finds its gate (the first extra file).
const gateFD = 3

// detached is a process that was started and waits at its gate.
type detached struct {
	Process
	gate *os.File
}

// abandon ends a process that still waits at its gate; for one that does not it
// does nothing.
func (d *detached) abandon() error {
	if err := d.gate.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close the gate of process %d: %w", d.PID, err)
	}
	return nil
}

// open lets the process go on.
func (d *detached) open() error {
	_, err := d.gate.Write([]byte{1})
	if err = errors.Join(err, d.gate.Close()); err != nil {
		return fmt.Errorf("let process %d go: %w", d.PID, err)
	}
	return nil
}

// hold changes the state by start, which starts a process up to its gate, or returns nil
// where there is nothing to start. A process that could not be recorded is abandoned.
func (l *Lab) hold(ctx context.Context, start func(*state) (*detached, error)) (*detached, error) {
	var d *detached
	err := l.change(ctx, func(s *state) (err error) {
		d, err = start(s)
		return err
	})
	if err != nil && d != nil {
		err = errors.Join(err, d.abandon())
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// release opens the gate of what hold has started, if anything.
func release(d *detached, err error) (*detached, error) {
	if err != nil || d == nil {
		return nil, err
	}
	return d, d.open()
}

// startDetached starts argv in a session of its own with clone flags, output to
// the file logPath. The process outlives this one; it must call passGate first.
func startDetached(argv []string, flags uintptr, logPath string) (*detached, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	defer r.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: flags}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	id, err := identify(cmd.Process.Pid)
	// Not waited for by os/exec: alive reaps it. The gate ends it if it is not recorded.
	if err = errors.Join(err, cmd.Process.Release()); err != nil {
		w.Close()
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	return &detached{Process: id, gate: w}, nil
}

// outside serves every host of the laboratory in a process that lives outside of them,
// until SIGTERM or Down.
func outside(ctx context.Context, dir string, serve func(ctx context.Context, l *Lab, host string) error) error {
	if err := passGate(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	l, err := Open(dir)
	if err != nil {
		return err
	}
	return forAll(l.p.hosts(), func(h string) error { return serve(ctx, l, h) })
}

// passGate waits until the starter has recorded this process. An error means
// that the starter is gone and this process must end.
func passGate() error {
	f := os.NewFile(gateFD, "gate")
	if f == nil {
		return errors.New("no gate: this command is for the laboratory itself")
	}
	defer f.Close()
	if n, err := f.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("wait at the gate: %w", err)
	}
	return nil
}
