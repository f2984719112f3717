package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
)

// grace is how long Stop waits after SIGTERM before it kills, when ctx allows.
const grace = 15 * time.Second

// killWait is how long a killed process may take to end.
const killWait = 5 * time.Second

// Stop ends the child that a Keep, which is over, left running: SIGTERM, and
// SIGKILL after 15 seconds or when ctx ends. nil means that no child runs any
// more. It fails with ErrKept while a Keep runs, which would only start it again.
func Stop(ctx context.Context, dir, name string) (err error) {
	unlock, err := lock(dir, name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // no directory, so never kept
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	rec, rerr := readRecord(dir, name)
	id, ok, err := find(dir, name, rec)
	if err != nil {
		return fmt.Errorf("stop %s: %w", name, errors.Join(rerr, err))
	}
	if !ok {
		return nil
	}
	p, err := watch(id)
	if errors.Is(err, proc.ErrGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	exit, err := p.end(ctx)
	if err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	rec.ident, rec.LastExit, rec.LastExitAt = ident{}, exit, time.Now()
	if err := writeRecord(dir, name, rec); err != nil {
		return fmt.Errorf("stop %s: ended, but not recorded: %w", name, err)
	}
	return nil
}

// Restart ends the child that a Keep keeps running, as Stop does, and returns when the
// Keep has started it again.
func Restart(ctx context.Context, dir, name string) error {
	rec, rerr := readRecord(dir, name)
	id, ok, err := find(dir, name, rec)
	if err != nil {
		return fmt.Errorf("restart %s: %w", name, errors.Join(rerr, err))
	}
	if ok {
		p, err := watch(id)
		if err == nil {
			_, err = p.end(ctx)
		}
		if err != nil && !errors.Is(err, proc.ErrGone) {
			return fmt.Errorf("restart %s: %w", name, err)
		}
	}
	for {
		now, err := readRecord(dir, name)
		if err == nil && now.PID != 0 && now.ident != id {
			return nil
		}
		if !clock.Sleep(ctx, restartPoll) {
			return fmt.Errorf("restart %s: it has ended, and nobody has started it again: %w", name, errors.Join(err, context.Cause(ctx)))
		}
	}
}

// restartPoll is the time between two looks for the new child.
const restartPoll = 20 * time.Millisecond

// end stops the process and proves it.
func (p *process) end(ctx context.Context) (exit string, err error) {
	gentle, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	ended, err := p.signal(gentle, unix.SIGTERM)
	if err == nil && !ended {
		// The caller's ctx may be over, but a child half stopped is worse than to be late.
		hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
		defer cancel()
		exit = "killed by Stop"
		ended, err = p.signal(hard, unix.SIGKILL)
	} else {
		exit = "ended by Stop"
	}
	if err != nil || !ended {
		if err == nil {
			err = fmt.Errorf("process %d lives %s after SIGKILL", p.id.PID, killWait)
		}
		return "", errors.Join(err, p.release())
	}
	// When this process started it and released it, it is ours to bury.
	_, werr := unix.Wait4(p.id.PID, nil, unix.WNOHANG, nil)
	if werr != nil && !errors.Is(werr, unix.ECHILD) {
		return "", fmt.Errorf("collect process %d: %w", p.id.PID, werr)
	}
	return exit, nil
}

// signal sends a signal and waits for the end of the process.
func (p *process) signal(ctx context.Context, sig unix.Signal) (ended bool, err error) {
	if err := p.handle.Signal(sig); err != nil && !errors.Is(err, proc.ErrGone) { // the wait sees its end
		return false, err
	}
	_, ended, err = p.wait(ctx)
	return ended, err
}
